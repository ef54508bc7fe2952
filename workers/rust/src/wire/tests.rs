//! Lines and descriptors in every cut that a stream socket can give them.

use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;

use super::*;

fn conn(seq: u64) -> String {
    format!("{{\"type\":\"conn\",\"seq\":{seq},\"listener\":\"main\"}}\n")
}

/// A descriptor, and the end that reads EOF once the descriptor is closed.
fn descriptor() -> (OwnedFd, UnixStream) {
    let (kept, given) = UnixStream::pair().expect("a socket pair");
    kept.set_nonblocking(true).expect("a flag");
    (given.into(), kept)
}

fn is_closed(mut watch: &UnixStream) -> bool {
    matches!(watch.read(&mut [0]), Ok(0))
}

fn feed(reader: &mut LineReader, chunk: &str, passed: Vec<OwnedFd>) -> Vec<Delivery> {
    let mut messages = VecDeque::new();
    reader.feed(chunk.as_bytes(), passed, &mut messages);
    messages.into()
}

fn seqs(messages: &[Delivery]) -> Vec<(u64, bool)> {
    let conns = messages.iter().filter_map(|delivery| match &delivery.message {
        Incoming::Conn(conn) => Some((conn.seq, delivery.socket.is_some())),
        Incoming::Drain | Incoming::Pressure { .. } | Incoming::Unknown => None,
    });
    conns.collect()
}

#[test]
fn a_descriptor_belongs_to_the_last_line_that_begins_in_the_read() {
    let mut reader = LineReader::default();
    let (fd, _watch) = descriptor();
    let text = "{\"type\":\"drain\"}\n".to_owned() + &conn(1);
    assert_eq!(seqs(&feed(&mut reader, &text, vec![fd])), [(1, true)]);
}

#[test]
fn a_line_in_two_reads_keeps_its_descriptor_and_the_next_its_own() {
    let mut reader = LineReader::default();
    let (first, second) = (conn(1), conn(2));
    let (head, tail) = first.split_at(10);
    assert!(feed(&mut reader, head, vec![descriptor().0]).is_empty());
    let rest = format!("{tail}{second}");
    let messages = feed(&mut reader, &rest, vec![descriptor().0]);
    assert_eq!(seqs(&messages), [(1, true), (2, true)]);
}

#[test]
fn a_lost_descriptor_does_not_shift_the_later_ones() {
    let mut reader = LineReader::default();
    let (first, second) = (conn(1), conn(2));
    let (head, tail) = first.split_at(10);
    assert!(feed(&mut reader, head, vec![]).is_empty());
    let messages = feed(&mut reader, &format!("{tail}{second}"), vec![descriptor().0]);
    assert_eq!(seqs(&messages), [(1, false), (2, true)]);
}

#[test]
fn descriptors_without_an_owner_are_closed() {
    let bad = ["{\"type\":\"drain\"}\n", "{\"type\":\"news\"}\n", "]\n", "\n", "\u{0}\n"];
    for line in bad {
        let mut reader = LineReader::default();
        let (fd, watch) = descriptor();
        let messages = feed(&mut reader, line, vec![fd]);
        assert!(messages.iter().all(|delivery| delivery.socket.is_none()), "{line:?}");
        assert!(is_closed(&watch), "{line:?}");
    }
}

#[test]
fn two_descriptors_with_one_message_are_both_closed() {
    let mut reader = LineReader::default();
    let ((one, watch_one), (two, watch_two)) = (descriptor(), descriptor());
    assert_eq!(seqs(&feed(&mut reader, &conn(1), vec![one, two])), [(1, false)]);
    assert!(is_closed(&watch_one) && is_closed(&watch_two));
}

#[test]
fn an_over_long_line_is_skipped_and_its_descriptor_closed() {
    let mut reader = LineReader::default();
    let (fd, watch) = descriptor();
    assert!(feed(&mut reader, "x", vec![fd]).is_empty());
    for _ in 0..3 {
        assert!(feed(&mut reader, &"x".repeat(LINE_MAX / 2), vec![]).is_empty());
    }
    assert!(is_closed(&watch));
    assert!(reader.line.capacity() <= LINE_MAX);
    let rest = "x\n".to_owned() + &conn(3);
    assert_eq!(seqs(&feed(&mut reader, &rest, vec![descriptor().0])), [(3, true)]);
}

#[test]
fn a_line_of_exactly_the_bound_is_read() {
    let mut reader = LineReader::default();
    let mut line = conn(1).trim_end().to_owned();
    line += &" ".repeat(LINE_MAX - line.len());
    assert_eq!(seqs(&feed(&mut reader, &(line + "\n"), vec![])), [(1, false)]);
}

#[test]
fn unknown_fields_and_wrong_values_are_no_error() {
    let mut reader = LineReader::default();
    let text = "{\"type\":\"conn\",\"seq\":1,\"listener\":\"a\",\"x\":[{}]}\n\
                {\"type\":\"conn\",\"seq\":-1,\"listener\":\"a\"}\n\
                {\"type\":\"pressure\",\"level\":900}\n\
                {\"seq\":2}\n\"ready\"\n[]\n{\"type\":\"pressure\",\"level\":3}\n";
    let messages = feed(&mut reader, text, vec![]);
    let found: Vec<_> = messages.iter().map(|delivery| &delivery.message).collect();
    let expected = [
        &Incoming::Conn(Conn { seq: 1, listener: "a".into(), peer: None }),
        &Incoming::Pressure { level: 3 },
    ];
    assert_eq!(found, expected);
}

#[test]
fn random_bytes_and_cuts_never_panic_and_leave_nothing_open() {
    let mut noise = [0_u8; 4096];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut noise)).expect("noise");
    let mut reader = LineReader::default();
    let mut watches = Vec::new();
    let mut messages = VecDeque::new();
    for chunk in noise.chunks(61) {
        let (fd, watch) = descriptor();
        watches.push(watch);
        reader.feed(chunk, vec![fd], &mut messages);
    }
    reader.feed(b"\n", vec![], &mut messages);
    messages.clear();
    assert!(watches.iter().all(is_closed), "noise: {noise:?}");
}

#[test]
fn messages_are_written_as_documented() {
    let mut outbox = Vec::new();
    Outgoing::Ready { sdk: "rust/0.1.0" }.write_to(&mut outbox);
    Outgoing::Ack { seq: 7, accepted: true }.write_to(&mut outbox);
    let load = Load { seen: 7, open: 3, active: 2, lag_ms: 4 };
    Outgoing::Load(load).write_to(&mut outbox);
    let expected = "{\"type\":\"ready\",\"sdk\":\"rust/0.1.0\"}\n\
                    {\"type\":\"ack\",\"seq\":7,\"accepted\":true}\n\
                    {\"type\":\"load\",\"seen\":7,\"open\":3,\"active\":2,\"lag_ms\":4}\n";
    assert_eq!(String::from_utf8(outbox).expect("text"), expected);
}
