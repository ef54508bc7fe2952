//! Reads what a worker says in the words of sd_notify(3).
//!
//! Pure, and bounded by the datagram it reads. Everything is untrusted: what is not understood is
//! left out, as sd_notify demands of managers.

use std::time::Duration;

/// The longest status that is kept, in characters: one line of a terminal, some times over.
const STATUS_MAX: usize = 256;

/// One assignment, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// `READY=1`: it serves.
    Ready,
    /// `STOPPING=1`: it is on its way out.
    Stopping,
    /// `STATUS=…`: a line for people.
    Status(String),
    /// `WATCHDOG=1`: it is alive.
    Watchdog,
    /// `EXTEND_TIMEOUT_USEC=…`: its start takes this much longer from now.
    Extend(Duration),
    /// `BARRIER=1`: it waits until everything before this was read.
    Barrier,
}

/// The notices of one message, in order.
pub(crate) fn read(message: &[u8]) -> Vec<Notice> {
    message.split(|&byte| byte == b'\n').filter_map(assignment).collect()
}

fn assignment(line: &[u8]) -> Option<Notice> {
    let at = line.iter().position(|&byte| byte == b'=')?;
    match (&line[..at], &line[at + 1..]) {
        (b"READY", b"1") => Some(Notice::Ready),
        (b"STOPPING", b"1") => Some(Notice::Stopping),
        (b"WATCHDOG", b"1") => Some(Notice::Watchdog),
        (b"BARRIER", b"1") => Some(Notice::Barrier),
        (b"STATUS", text) => Some(Notice::Status(status(text))),
        (b"EXTEND_TIMEOUT_USEC", number) => {
            let microseconds = std::str::from_utf8(number).ok()?.parse().ok()?;
            Some(Notice::Extend(Duration::from_micros(microseconds)))
        }
        _ => None,
    }
}

/// It goes to terminals, so nothing in it may move their cursor.
fn status(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn assignments_are_read_in_order() {
        assert_eq!(
            read(b"READY=1\nSTATUS=42 routes\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=1500000\nBARRIER=1"),
            [
                Notice::Ready,
                Notice::Status("42 routes".to_owned()),
                Notice::Watchdog,
                Notice::Extend(Duration::from_millis(1500)),
                Notice::Barrier,
            ]
        );
        assert_eq!(read(b"STOPPING=1\n"), [Notice::Stopping]);
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        for text in [
            "",
            "\n\n",
            "READY",
            "READY=0",
            "READY=10",
            " READY=1",
            "ready=1",
            "MAINPID=1",
            "WATCHDOG=trigger",
            "EXTEND_TIMEOUT_USEC=-1",
            "EXTEND_TIMEOUT_USEC=1s",
            "EXTEND_TIMEOUT_USEC=99999999999999999999",
        ] {
            assert_eq!(read(text.as_bytes()), [], "{text:?}");
        }
    }

    #[test]
    fn a_status_is_one_bounded_line_of_text() {
        let long = [b"STATUS=\x1b[2J\xff".as_slice(), &[b'x'; 4000]].concat();
        let [Notice::Status(status)] = &read(&long)[..] else { panic!("a status") };
        assert_eq!(status.chars().count(), STATUS_MAX);
        assert!(status.starts_with(" [2J") && !status.contains(char::is_control));
    }

    proptest! {
        #[test]
        fn any_bytes_give_at_most_one_notice_per_line(
            bytes in proptest::collection::vec(any::<u8>(), 0..4096),
        ) {
            let lines = bytes.split(|&byte| byte == b'\n').count();
            prop_assert!(read(&bytes).len() <= lines);
        }
    }
}
