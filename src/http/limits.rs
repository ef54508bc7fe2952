//! How much a head may hold; each bound has its own refusal.

/// The bounds of one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// All of the head, first line and closing empty line included. Values above 16 MiB act as
    /// 16 MiB. Beyond it: 431.
    pub bytes: usize,
    /// Field lines. Beyond it: 431.
    pub fields: usize,
    /// The target of a request. Beyond it: 414.
    pub target: usize,
}

/// Far above any head, and far below what the 32-bit places of [`Fields`](super::Fields) can name.
const BYTES_MAX: usize = 16 << 20;

impl HeadLimits {
    pub(super) fn head_bytes(&self) -> usize {
        self.bytes.min(BYTES_MAX)
    }
}

impl Default for HeadLimits {
    /// 32 KiB holds four cookies of the largest size that browsers keep, twice; 100 fields is what
    /// hyper and Go's proxies take; 8 KiB is the longest target that nginx takes.
    fn default() -> Self {
        Self { bytes: 32 * 1024, fields: 100, target: 8 * 1024 }
    }
}
