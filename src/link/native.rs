//! Speaks the native control protocol, version 1 (docs/PROTOCOL.md, part one).

use serde::Deserialize;
use serde_json::json;

use super::said::Said;
use crate::policy::Load;

/// The fields of a native message; unknown fields are ignored, as the protocol demands.
#[derive(Debug, Deserialize)]
struct Wire {
    r#type: String,
    #[serde(default)]
    seq: Option<u64>,
    #[serde(default)]
    accepted: Option<bool>,
    #[serde(default)]
    seen: Option<u64>,
    #[serde(default)]
    open: Option<u32>,
    #[serde(default)]
    active: Option<u32>,
}

/// What one line means; a line that is no message of ours is ignored.
pub(crate) fn read(line: &[u8]) -> Said {
    let Ok(wire) = serde_json::from_slice::<Wire>(line) else {
        return Said::App;
    };
    match (wire.r#type.as_str(), wire.seq, wire.seen, wire.open) {
        ("ready", ..) => Said::Ready,
        ("ack", Some(seq), ..) => Said::Answered { seq, accepted: wire.accepted.unwrap_or(true) },
        ("load", _, Some(seen), Some(open)) => {
            Said::Load(Load { seen, open, active: wire.active.unwrap_or(open) })
        }
        _ => Said::App,
    }
}

/// The message that carries one connection.
pub(crate) fn connection(seq: u64, listener: &str, peer: Option<&str>) -> Vec<u8> {
    let mut message = json!({"type": "conn", "seq": seq, "listener": listener});
    if let Some(peer) = peer {
        message["peer"] = peer.into();
    }
    let mut bytes = message.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// Tells the worker to finish what it has and leave.
pub(crate) fn drain() -> Vec<u8> {
    b"{\"type\":\"drain\"}\n".to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood_and_unknown_fields_ignored() {
        assert_eq!(read(br#"{"type":"ready","sdk":"rust/0.1.0"}"#), Said::Ready);
        assert_eq!(
            read(br#"{"type":"ack","seq":7,"accepted":true,"x":[1]}"#),
            Said::Answered { seq: 7, accepted: true }
        );
        assert_eq!(
            read(br#"{"type":"load","seen":7,"open":3,"active":2,"lag_ms":4}"#),
            Said::Load(Load { seen: 7, open: 3, active: 2 })
        );
    }

    #[test]
    fn nonsense_is_ignored() {
        for line in ["", "{}", "[]", r#"{"type":3}"#, r#"{"type":"load","seen":-1,"open":2}"#] {
            assert_eq!(read(line.as_bytes()), Said::App, "{line}");
        }
    }

    #[test]
    fn a_connection_message_is_one_line() {
        let bytes = connection(7, "main", Some("203.0.113.9:51034"));
        let value: serde_json::Value = serde_json::from_slice(&bytes).expect("valid JSON");
        assert_eq!(
            value,
            json!({"type":"conn","seq":7,"listener":"main","peer":"203.0.113.9:51034"})
        );
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
