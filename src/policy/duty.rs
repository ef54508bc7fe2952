//! What a worker is kept for: to serve, or to stand by for one that cannot.

/// What a worker is kept for. Wherever there is an order, those that serve come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// It gets its share of the work.
    #[default]
    Serve,
    /// It is ready and gets nothing, until one that serves cannot any more.
    Spare,
}
