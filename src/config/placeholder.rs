//! The words `{port}`, `{socket}` and `{slot}` in a command: which are there, and what goes in.
//!
//! Pure. `${port}` is a shell's own variable and is left alone, as is every other word in braces.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Which private listener a command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// Neither `{port}` nor `{socket}` is in it.
    None,
    /// `{port}`: a number on loopback.
    Port,
    /// `{socket}`: a path.
    Socket,
}

/// What stands in the place of each word; one without a value stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    /// For `{port}`.
    pub(crate) port: Option<OsString>,
    /// For `{socket}`.
    pub(crate) socket: Option<OsString>,
    /// For `{slot}`.
    pub(crate) slot: Option<OsString>,
}

/// Which listener these texts ask for; the error says that they ask for two.
pub(super) fn find<'a>(texts: impl Iterator<Item = &'a OsStr>) -> Result<Placeholder, String> {
    let (mut port, mut socket) = (false, false);
    for text in texts {
        port |= contains(text, b"{port}");
        socket |= contains(text, b"{socket}");
    }
    match (port, socket) {
        (true, true) => Err("has {port} and {socket}; a worker listens on one of them".to_owned()),
        (true, false) => Ok(Placeholder::Port),
        (false, true) => Ok(Placeholder::Socket),
        (false, false) => Ok(Placeholder::None),
    }
}

/// `text` with every known word replaced, once: what is put in is not looked at again.
#[must_use]
pub(crate) fn fill(text: &OsStr, values: &Values) -> OsString {
    let words: [(&[u8], &Option<OsString>); 3] =
        [(b"{port}", &values.port), (b"{socket}", &values.socket), (b"{slot}", &values.slot)];
    let bytes = text.as_bytes();
    let mut filled = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let found = words.iter().find(|(word, _)| is_at(bytes, at, word));
        match found {
            Some((word, Some(value))) => {
                filled.extend_from_slice(value.as_bytes());
                at += word.len();
            }
            Some((_, None)) | None => {
                filled.push(bytes[at]);
                at += 1;
            }
        }
    }
    OsString::from_vec(filled)
}

fn contains(text: &OsStr, word: &[u8]) -> bool {
    let bytes = text.as_bytes();
    (0..bytes.len()).any(|at| is_at(bytes, at, word))
}

fn is_at(bytes: &[u8], at: usize, word: &[u8]) -> bool {
    bytes[at..].starts_with(word) && !bytes[..at].ends_with(b"$")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Result<Placeholder, String> {
        find(line.split(' ').map(OsStr::new))
    }

    #[test]
    fn words_are_found_wherever_they_stand() {
        assert_eq!(found("serve --bind 127.0.0.1:{port}"), Ok(Placeholder::Port));
        assert_eq!(found("serve unix:{socket}"), Ok(Placeholder::Socket));
        for line in ["serve", "sh -c ${port}", "{Port} {ports} { port } {slot}", "{por", ""] {
            assert_eq!(found(line), Ok(Placeholder::None), "{line}");
        }
        let error = found("serve {port} {socket}").expect_err("two listeners");
        assert_eq!(error, "has {port} and {socket}; a worker listens on one of them");
    }

    #[test]
    fn values_go_in_and_are_not_looked_at_again() {
        let values = Values {
            port: Some("4711".into()),
            socket: Some("/run/{slot}.sock".into()),
            slot: Some("3".into()),
        };
        for (text, filled) in [
            ("{port}", "4711"),
            (":{port}:{port}{slot}", ":4711:47113"),
            ("unix:{socket}", "unix:/run/{slot}.sock"),
            ("${port} {{port}} {nothing} {", "${port} {4711} {nothing} {"),
            ("", ""),
        ] {
            assert_eq!(fill(OsStr::new(text), &values), filled, "{text}");
        }
        assert_eq!(fill(OsStr::new("{port}"), &Values::default()), "{port}");
        let not_utf8 = OsStr::from_bytes(b"\xff{slot}\xff");
        assert_eq!(fill(not_utf8, &values).as_bytes(), b"\xff3\xff");
    }
}
