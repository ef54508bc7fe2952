//! Counts by a code out of a list that is fixed when the master starts.
//!
//! The owner of the codes (dispatch) gives the list; so every series is there, at 0, before it
//! first counts, and none can be added by what clients send.

use super::cell::Cell;

/// One code and the kind of thing that it names: `shed`, `queue_full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// A word for all alike; empty where there is one kind only.
    pub kind: &'static str,
    /// The word itself, unique in its list.
    pub code: &'static str,
}

/// Written by one thread.
#[derive(Debug, Default)]
pub(super) struct Codes(Vec<(Code, Cell)>);

impl Codes {
    pub(super) fn new(codes: &[Code]) -> Self {
        Self(codes.iter().map(|code| (*code, Cell::default())).collect())
    }

    /// Counts one; a code that is not in the list is a mistake of ours, and counts nowhere.
    pub(super) fn count(&self, code: &'static str) {
        // Some fifty at most, the usual ones first: a scan costs less than hashing.
        let found = self.0.iter().find(|(known, _)| known.code == code);
        debug_assert!(found.is_some(), "{code} is in the list given to `requests`");
        if let Some((_, cell)) = found {
            cell.add(1);
        }
    }

    pub(super) fn read(&self) -> impl Iterator<Item = (Code, u64)> {
        self.0.iter().map(|(code, cell)| (*code, cell.read()))
    }
}
