//! Makes names that are read from a file what those in the code are: they last as long as the
//! program does.
//!
//! A file of results holds a few dozen of them, thousands of times; each is kept once.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde::{Deserialize, Deserializer};

/// Of a scenario, a peer, a metric or a unit.
pub(crate) type Name = &'static str;

static KNOWN: Mutex<BTreeSet<Name>> = Mutex::new(BTreeSet::new());

/// For serde, which by itself would borrow from the text that is read.
///
/// # Errors
/// It is no string.
pub(crate) fn name<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
    let text = String::deserialize(from)?;
    let mut known = KNOWN.lock().expect("no thread panics with it");
    if let Some(name) = known.get(text.as_str()) {
        return Ok(name);
    }
    let name: Name = text.leak();
    known.insert(name);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_read_twice_is_kept_once() {
        let read = || name(serde_json::json!("wait, p99")).expect("it is a string");
        assert!(std::ptr::eq(read(), read()));
        assert_eq!(read(), "wait, p99");
    }
}
