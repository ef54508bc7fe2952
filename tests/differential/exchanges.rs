//! What is exchanged with every program.

use crate::support::{PATIENCE, wait_until};
use crate::talk::{HOST, Talk};

/// One or several requests, and what, in lower case, a line of the answers contains where a program
/// can do it.
pub(crate) struct Exchange {
    pub(crate) name: &'static str,
    pub(crate) shows: &'static str,
    pub(crate) hold: fn(&mut Talk),
}

const fn exchange(name: &'static str, shows: &'static str, hold: fn(&mut Talk)) -> Exchange {
    Exchange { name, shows, hold }
}

pub(crate) const ALL: &[Exchange] = &[
    exchange("keep_alive", "status 200 ", keep_alive),
    exchange("asked_to_close", "status 200 ", asked_to_close),
    exchange("old_client", "status 200 ", old_client),
    exchange("pipelined", "status 200 ", pipelined),
    exchange("parallel", "status 200 ", parallel),
    exchange("head", "status 200 ", head),
    exchange("missing", "status 404 ", missing),
    exchange("echo", "| get /echo", echo),
    exchange("gzip", "content-encoding: gzip", gzip),
    exchange("range", "status 206 ", range),
    exchange("streamed", "| chunk 19", streamed),
    exchange("upload", "| 100000 ", upload),
    exchange("chunked_upload", "| 5 ", chunked_upload),
    exchange("continue", "status 100 ", expecting_continue),
    exchange("trailers", "trailer x-sum: ", trailers),
    exchange("early_hints", "status 103 ", early_hints),
    exchange("events", "| id: 2", events),
    exchange("websocket", "status 101 ", websocket),
    exchange("abort", "| left 1", abort),
];

fn keep_alive(talk: &mut Talk) {
    for _ in 0..3 {
        talk.get("/page");
    }
    talk.after();
}

fn asked_to_close(talk: &mut Talk) {
    talk.send(format!("GET /page HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"));
    talk.response("GET");
    talk.rest();
}

fn old_client(talk: &mut Talk) {
    for path in ["/page", "/chunks"] {
        talk.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
        talk.response("GET");
        talk.rest();
        talk.reconnect();
    }
    talk.send(format!("GET /page HTTP/1.0\r\n{HOST}Connection: keep-alive\r\n\r\n"));
    talk.response("GET");
    talk.after();
}

fn pipelined(talk: &mut Talk) {
    talk.send(format!(
        "GET /page HTTP/1.1\r\n{HOST}\r\nHEAD /page HTTP/1.1\r\n{HOST}\r\n\
         GET /missing HTTP/1.1\r\n{HOST}\r\n"
    ));
    for method in ["GET", "HEAD", "GET"] {
        talk.response(method);
    }
    talk.after();
}

fn parallel(talk: &mut Talk) {
    let mut others: Vec<Talk> = (0..8).map(|_| talk.another()).collect();
    for other in &mut others {
        other.send(format!("GET /page HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"));
    }
    for other in &mut others {
        other.response("GET");
        other.rest();
        talk.lines.append(&mut other.lines);
    }
}

fn head(talk: &mut Talk) {
    for path in ["/page", "/chunks", "/missing"] {
        talk.request("HEAD", path, "");
    }
    talk.after();
}

fn missing(talk: &mut Talk) {
    talk.get("/missing");
    talk.after();
}

fn echo(talk: &mut Talk) {
    let fields = "X-Custom: kept\r\nCookie: a=b; c=d\r\nAccept: text/html,*/*;q=0.8\r\n\
                  Accept-Encoding: gzip, br\r\nUser-Agent: differential\r\n";
    talk.request("GET", "/echo", fields);
}

fn gzip(talk: &mut Talk) {
    talk.request("GET", "/gzip", "Accept-Encoding: gzip\r\n");
    talk.after();
}

fn range(talk: &mut Talk) {
    for field in ["Range: bytes=2-9", "Range: bytes=99999999-", "If-None-Match: *"] {
        talk.request("GET", "/file", &format!("{field}\r\n"));
    }
    talk.after();
}

fn streamed(talk: &mut Talk) {
    talk.get("/chunks");
    talk.after();
}

fn upload(talk: &mut Talk) {
    talk.send(format!("POST /upload HTTP/1.1\r\n{HOST}Content-Length: 100000\r\n\r\n"));
    talk.send(vec![b'u'; 100_000]);
    talk.response("POST");
    talk.after();
}

fn chunked_upload(talk: &mut Talk) {
    let head = format!("POST /upload HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
    talk.send(format!("{head}2;name=value\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 5\r\n\r\n"));
    talk.response("POST");
    talk.after();
}

fn expecting_continue(talk: &mut Talk) {
    let expecting = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    talk.send(format!("POST /upload HTTP/1.1\r\n{HOST}{expecting}\r\n"));
    if talk.next("POST") == Some(100) {
        talk.send("hello");
        talk.response("POST");
        talk.after();
    }
}

fn trailers(talk: &mut Talk) {
    talk.request("GET", "/trailers", "TE: trailers\r\nConnection: TE\r\n");
    talk.after();
}

fn early_hints(talk: &mut Talk) {
    talk.get("/hints");
    talk.after();
}

fn events(talk: &mut Talk) {
    talk.request("GET", "/events", "Accept: text/event-stream\r\n");
    talk.after();
}

fn websocket(talk: &mut Talk) {
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    talk.send(format!("GET /ws HTTP/1.1\r\n{HOST}{handshake}\r\n"));
    if talk.only_head("GET") == Some(101) {
        // A text and a close frame, masked with zeros (RFC 6455 §5.2); they come back unmasked.
        talk.send(b"\x81\x85\0\0\0\0hello");
        talk.bytes(7);
        talk.send(b"\x88\x82\0\0\0\0\x03\xe8");
        talk.bytes(4);
        talk.rest();
    }
}

/// The app learns that its client has left.
fn abort(talk: &mut Talk) {
    talk.send(format!("GET /endless HTTP/1.1\r\n{HOST}\r\n"));
    if talk.only_head("GET") != Some(200) {
        return;
    }
    talk.reconnect();
    let left = wait_until(PATIENCE, "an app that saw its client leave", || {
        let mut asking = talk.another();
        asking.get("/seen");
        asking.lines.into_iter().find(|line| line.starts_with("| left 1"))
    });
    talk.lines.push(left);
}
