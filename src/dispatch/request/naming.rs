//! Names a request to people, in log lines.

use crate::http::RequestHead;

/// How many requests one line names.
pub(in crate::dispatch) const NAMED_MAX: usize = 5;

/// A name longer than this fills the line.
const CHARS_MAX: usize = 100;

/// `GET /p/1`: without the query, which may hold secrets, and with nothing that a terminal acts on.
pub(in crate::dispatch) fn name_of(head: &RequestHead) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let whole = format!("{} {}", text(head.method()), text(head.path()));
    whole.chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect()
}
