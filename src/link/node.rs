//! Speaks Node's cluster wire, so that an unmodified app takes us for its cluster primary.
//!
//! Pure: lines in, [`Said`] out; messages are built as bytes. The wire is described in
//! docs/PROTOCOL.md, part two. Everything a worker sends is untrusted: what does not parse as one
//! of our messages is an application message.

use std::borrow::Cow;
use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use super::orders::HeapOrder;
use super::said::{Bypass, Family, ListenRequest, Place, Said, ServerKey, ServerKind};

/// What `process.send('ready')` puts on the wire: PM2's `wait_ready` convention.
const READY_LINE: &[u8] = b"\"ready\"";

/// The fields of Node's messages and of ours to and from the preload that matter to a master.
#[derive(Debug, Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    cmd: Cow<'a, str>,
    #[serde(borrow, default)]
    act: Option<Cow<'a, str>>,
    #[serde(default)]
    seq: Option<u64>,
    #[serde(default)]
    ack: Option<u64>,
    #[serde(default)]
    accepted: Option<bool>,
    #[serde(default)]
    key: Option<Value>,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    port: Option<i64>,
    #[serde(default, rename = "addressType")]
    address_type: Option<Value>,
    #[serde(default)]
    fd: Option<i64>,
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    backlog: Option<Value>,
    #[serde(default)]
    data: Option<Value>,
    #[serde(default)]
    pid: Option<i32>,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    why: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    bytes: Option<u64>,
}

/// Whose connection is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Client,
    /// One end of a pair: we speak for many clients on it.
    Ours,
}

/// What a worker's load page said when it was last read: its own counts, our connections to it
/// included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) seen: u64,
    pub(crate) open: u64,
}

/// The worker's side of one conversation; remembers what the preload said of the next server.
#[derive(Debug, Default)]
pub(crate) struct NodeSession {
    next_kind: Option<ServerKind>,
    next_seq: u64,
}

impl NodeSession {
    /// What one line means. An application's own messages are [`Said::App`].
    pub(crate) fn read(&mut self, line: &[u8]) -> Said {
        // Bun marks its internal lines with one leading byte 0x02.
        let line = line.strip_prefix(b"\x02").unwrap_or(line);
        if line == READY_LINE {
            return Said::AppReady;
        }
        // Only internal messages concern us; a prefix test spares parsing the app's own.
        if !line.starts_with(b"{\"cmd\":\"NODE_") {
            return Said::App;
        }
        let Ok(wire) = serde_json::from_slice::<Wire<'_>>(line) else {
            return Said::App;
        };
        match wire.cmd.as_ref() {
            "NODE_HANDLE_ACK" => Said::HandleTaken,
            "NODE_HANDLE_NACK" => Said::HandleLost,
            "NODE_CLUSTER" => self.read_cluster(wire),
            "NODE_TENFOLD" => self.read_preload(wire),
            _ => Said::App,
        }
    }

    fn read_cluster(&mut self, wire: Wire<'_>) -> Said {
        if let (Some(seq), Some(accepted)) = (wire.ack, wire.accepted) {
            return Said::Answered { seq, accepted };
        }
        match (wire.act.as_deref(), wire.seq) {
            (Some("online"), _) => Said::Online,
            (Some("queryServer"), Some(seq)) => match self.listen_request(seq, wire) {
                Some(request) => Said::Asks(request),
                None => Said::App,
            },
            (Some("listening"), _) => match place_of(&wire) {
                Some(place) => Said::Listening(place),
                None => Said::App,
            },
            (Some("close"), _) => match wire.key.as_ref().and_then(Value::as_u64) {
                Some(key) => Said::Closed(ServerKey(key)),
                None => Said::App,
            },
            (Some("exitedAfterDisconnect"), Some(seq)) => Said::Leaving { seq },
            _ => Said::App,
        }
    }

    fn read_preload(&mut self, wire: Wire<'_>) -> Said {
        match wire.act.as_deref() {
            Some("attach") => Said::Attached { pid: wire.pid, runtime: wire.node },
            Some("server") => {
                self.next_kind = wire.kind.as_deref().map(ServerKind::named);
                Said::App
            }
            Some("bypass") => Said::Bypasses(Bypass {
                why: wire.why.clone().unwrap_or_default(),
                place: bypassed_place(&wire),
            }),
            Some("fault") => Said::Faulted(wire.error.unwrap_or_default()),
            Some("room") => Said::Room,
            Some("heap") => Said::WroteHeap(match wire.error {
                Some(why) => Err(why),
                None => Ok(wire.bytes.unwrap_or(0)),
            }),
            _ => Said::App,
        }
    }

    fn listen_request(&mut self, seq: u64, wire: Wire<'_>) -> Option<ListenRequest> {
        let place = place_of(&wire)?;
        Some(ListenRequest {
            seq,
            place,
            index: wire.index.unwrap_or(0),
            backlog: wire.backlog.as_ref().and_then(Value::as_u64).map(|n| n.min(65_535) as u32),
            data: wire.data.unwrap_or(Value::Null),
            kind: self.next_kind.take(),
        })
    }

    fn next(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// The answer to a `queryServer` that asks for connections handed over one by one.
    pub(crate) fn grant_listen(
        &mut self,
        ask: u64,
        key: ServerKey,
        sockname: Option<SocketAddr>,
        data: &Value,
    ) -> Vec<u8> {
        let mut reply = json!({
            "cmd": "NODE_CLUSTER", "errno": null, "key": key.0, "ack": ask, "data": data,
            "seq": self.next(),
        });
        if let Some(address) = sockname {
            reply["sockname"] = json!({
                "address": address.ip().to_string(),
                "family": if address.is_ipv6() { "IPv6" } else { "IPv4" },
                "port": address.port(),
            });
        }
        line(&reply)
    }

    /// The answer to a UDP `queryServer`; the bound socket travels with it.
    pub(crate) fn grant_datagram(&mut self, ask: u64, key: ServerKey, data: &Value) -> Vec<u8> {
        let seq = self.next();
        line(&json!({
            "cmd": "NODE_HANDLE", "type": "dgram.Native",
            "msg": {"cmd": "NODE_CLUSTER", "errno": null, "ack": ask, "key": key.0, "data": data,
                    "seq": seq},
        }))
    }

    /// The answer to a `queryServer` that cannot be met; `errno` is positive, as in errno.h.
    pub(crate) fn refuse_listen(&mut self, ask: u64, errno: i32, data: &Value) -> Vec<u8> {
        line(&json!({
            "cmd": "NODE_CLUSTER", "errno": -errno.abs(), "key": format!("refused:{ask}"),
            "ack": ask, "data": data, "seq": self.next(),
        }))
    }

    /// The message that carries one connection; `seq` comes back in the worker's answer. Of a
    /// private one the preload is told: there, and only there, requests name their peers.
    pub(crate) fn connection(seq: u64, key: ServerKey, whose: Whose) -> Vec<u8> {
        let private = match whose {
            Whose::Client => "",
            Whose::Ours => ",\"private\":true",
        };
        // Written by hand: sent once per connection, and building JSON costs more than sendmsg.
        format!(
            "{{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{{\"cmd\":\"NODE_CLUSTER\",\
             \"act\":\"newconn\",\"key\":{},\"seq\":{seq}{private}}}}}\n",
            key.0
        )
        .into_bytes()
    }

    pub(crate) fn confirm_leaving(&mut self, ask: u64) -> Vec<u8> {
        line(&json!({"cmd": "NODE_CLUSTER", "ack": ask, "seq": self.next()}))
    }

    /// Phase two of a drain: the worker closes its servers and, once idle, exits.
    pub(crate) fn disconnect(&mut self) -> Vec<u8> {
        line(&json!({"cmd": "NODE_CLUSTER", "act": "disconnect", "seq": self.next()}))
    }

    /// Phase one of a drain, for the preload: responses say `Connection: close`.
    pub(crate) fn drain() -> Vec<u8> {
        b"{\"cmd\":\"NODE_TENFOLD\",\"act\":\"drain\"}\n".to_vec()
    }

    /// Asks the preload to write its heap; it says `heap` when it has.
    pub(crate) fn write_heap(order: &HeapOrder) -> Vec<u8> {
        let HeapOrder { worker: _, path, begin_by, file_per_byte } = order;
        let before = begin_by.as_secs_f64() * 1e3;
        line(&json!({
            "cmd": "NODE_TENFOLD", "act": "heap", "path": path, "before": before,
            "room": file_per_byte,
        }))
    }

    /// Asks the preload to say `room` as soon as a connection has closed since it wrote `read`.
    pub(crate) fn watch(read: Told) -> Vec<u8> {
        let Told { seen, open } = read;
        line(&json!({"cmd": "NODE_TENFOLD", "act": "watch", "below": open, "seen": seen}))
    }
}

fn line(message: &Value) -> Vec<u8> {
    let mut bytes = message.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// Where a server wants to listen, from Node's `address`, `port`, `addressType` and `fd`.
fn place_of(wire: &Wire<'_>) -> Option<Place> {
    if let Some(fd) = wire.fd.filter(|fd| *fd >= 0) {
        return Some(Place::Descriptor(i32::try_from(fd).ok()?));
    }
    let family = match wire.address_type.as_ref() {
        Some(Value::String(name)) if name == "udp4" => return datagram(wire, Family::V4),
        Some(Value::String(name)) if name == "udp6" => return datagram(wire, Family::V6),
        Some(value) => match value.as_i64() {
            Some(4) => Family::V4,
            Some(6) => Family::V6,
            _ => Family::Path,
        },
        None => Family::Path,
    };
    match (family, wire.port) {
        (Family::Path, _) | (_, Some(-1)) => Some(Place::Path(wire.address.clone()?.into())),
        (family, port) => Some(Place::Tcp {
            address: wire.address.clone(),
            port: u16::try_from(port.unwrap_or(0)).ok()?,
            family,
        }),
    }
}

/// The preload tells of a bypass as the app asked: without a family, and without a port where none
/// was named (a descriptor, a fork).
fn bypassed_place(wire: &Wire<'_>) -> Option<Place> {
    let address = wire.address.clone();
    match wire.port {
        None => None,
        Some(-1) => Some(Place::Path(address?.into())),
        Some(port) => {
            let port = u16::try_from(port).ok()?;
            Some(Place::Tcp { address, port, family: Family::V6 })
        }
    }
}

fn datagram(wire: &Wire<'_>, family: Family) -> Option<Place> {
    Some(Place::Udp {
        address: wire.address.clone(),
        port: u16::try_from(wire.port.unwrap_or(0)).ok()?,
        family,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::WorkerId;

    fn read(text: impl AsRef<str>) -> Said {
        NodeSession::default().read(text.as_ref().as_bytes())
    }

    #[test]
    fn a_listen_request_names_its_place() {
        let Said::Asks(request) = read(
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"#.to_owned()
                + r#""address":"127.0.0.1","port":3456,"addressType":4,"flags":0,"#
                + r#""backlog":false,"seq":1}"#,
        ) else {
            panic!("not a listen request")
        };
        let tcp = Place::Tcp { address: Some("127.0.0.1".into()), port: 3456, family: Family::V4 };
        assert_eq!((request.seq, request.place, request.backlog), (1, tcp, None));
    }

    #[test]
    fn unix_udp_and_inherited_places_are_told_apart() {
        let place = |fields: &str| match read(format!(
            r#"{{"cmd":"NODE_CLUSTER","act":"queryServer",{fields},"seq":1}}"#
        )) {
            Said::Asks(request) => request.place,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            place(r#""address":"/a/b.sock","port":-1,"addressType":-1"#),
            Place::Path("/a/b.sock".into())
        );
        let udp = Place::Udp { address: None, port: 53, family: Family::V6 };
        assert_eq!(place(r#""address":null,"port":53,"addressType":"udp6","fd":-1"#), udp);
        assert_eq!(
            place(r#""address":null,"port":0,"addressType":4,"fd":3"#),
            Place::Descriptor(3)
        );
    }

    #[test]
    fn the_preload_tells_the_kind_of_the_next_server_only() {
        let mut session = NodeSession::default();
        let ask = br#"{"cmd":"NODE_CLUSTER","act":"queryServer","port":1,"addressType":4,"seq":1}"#;
        session.read(br#"{"cmd":"NODE_TENFOLD","act":"server","kind":"http"}"#);
        let kinds = [session.read(ask), session.read(ask)].map(|said| match said {
            Said::Asks(request) => request.kind,
            other => panic!("{other:?}"),
        });
        assert_eq!(kinds, [Some(ServerKind::Http), None]);
    }

    #[test]
    fn a_bypass_names_its_place_as_far_as_it_has_one() {
        let place = |fields: &str| match read(format!(
            r#"{{"cmd":"NODE_TENFOLD","act":"bypass","why":"exclusive"{fields}}}"#
        )) {
            Said::Bypasses(bypass) => bypass.place,
            other => panic!("{other:?}"),
        };
        let tcp = Place::Tcp { address: None, port: 3000, family: Family::V6 };
        assert_eq!(place(r#","port":3000"#), Some(tcp));
        assert_eq!(place(r#","address":"/a/b","port":-1"#), Some(Place::Path("/a/b".into())));
        assert_eq!(place(""), None);
    }

    #[test]
    fn answers_to_connections_are_read() {
        let said = read(r#"{"cmd":"NODE_CLUSTER","ack":7,"accepted":false,"seq":5}"#);
        assert_eq!(said, Said::Answered { seq: 7, accepted: false });
        assert_eq!(read("{\"cmd\":\"NODE_HANDLE_ACK\"}"), Said::HandleTaken);
        assert_eq!(read("\u{2}{\"cmd\":\"NODE_HANDLE_NACK\"}"), Said::HandleLost);
    }

    #[test]
    fn a_heap_is_asked_for_and_its_end_is_read() {
        let order = HeapOrder {
            worker: WorkerId(1),
            path: "/a \"b\"/c".to_owned(),
            begin_by: Duration::from_micros(1_500),
            file_per_byte: Some(2),
        };
        let asked: Value = serde_json::from_slice(&NodeSession::write_heap(&order)).expect("JSON");
        assert_eq!((&asked["path"], &asked["before"]), (&json!("/a \"b\"/c"), &json!(1.5)));
        assert_eq!(asked["room"], json!(2));
        let ended = read(r#"{"cmd":"NODE_TENFOLD","act":"heap","bytes":77}"#);
        assert_eq!(ended, Said::WroteHeap(Ok(77)));
        let ended = read(r#"{"cmd":"NODE_TENFOLD","act":"heap","error":"ENOSPC"}"#);
        assert_eq!(ended, Said::WroteHeap(Err("ENOSPC".to_owned())));
    }

    #[test]
    fn whatever_else_comes_is_the_applications() {
        for text in [
            "",
            "null",
            "{}",
            "{\"cmd\":\"NODE_",
            r#"{"cmd":5}"#,
            r#"{"cmd":"NODE_CLUSTER"}"#,
            r#"{"cmd":"NODE_CLUSTER","act":"close","key":"abc"}"#,
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","port":70000,"addressType":4,"seq":1}"#,
            r#"{"cmd":"NODE_OTHER"}"#,
            r#""not ready""#,
            "[1,2]",
        ] {
            assert_eq!(read(text), Said::App, "{text}");
        }
        assert_eq!(read("\"ready\""), Said::AppReady);
    }

    #[test]
    fn a_connection_message_is_one_json_line() {
        let msg = |whose| {
            let bytes = NodeSession::connection(9, ServerKey(2), whose);
            assert_eq!(bytes.last(), Some(&b'\n'));
            let value: Value = serde_json::from_slice(&bytes).expect("valid JSON");
            value["msg"].clone()
        };
        let mut expected = json!({"cmd":"NODE_CLUSTER","act":"newconn","key":2,"seq":9});
        assert_eq!(msg(Whose::Client), expected);
        expected["private"] = json!(true);
        assert_eq!(msg(Whose::Ours), expected);
    }
}
