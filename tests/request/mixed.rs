//! One app with several listeners: each is dispatched as its protocol needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

use super::support::pool::request_pool;
use super::support::{PATIENCE, free_port, http, node};

const CHANNELS: usize = 8;

#[derive(Debug, Deserialize)]
struct Answer {
    slot: u16,
    server: String,
    echo: Option<String>,
}

#[test]
fn pages_grpc_and_metrics_of_one_app_all_work() {
    let (builder, pages) = request_pool("grpc.js", 2);
    let (grpc, metrics) = (free_port(), free_port());
    let ports = [("APP_PORT_2", grpc), ("APP_PORT_3", metrics)];
    let tenfold =
        ports.iter().fold(builder, |it, (name, port)| it.env(name, port.to_string())).start();
    let status = tenfold.wait_status(PATIENCE, "all of it", |status| {
        status.ready() == 2 && status.listeners.len() == 3
    });
    let modes: BTreeMap<u16, &str> = status
        .listeners
        .iter()
        .map(|it| {
            let port = it.address.rsplit(':').next().and_then(|port| port.parse().ok());
            (port.expect("an address ends with its port"), it.mode.as_str())
        })
        .collect();
    let expected = [(pages, "request"), (grpc, "connection"), (metrics, "request")];
    assert_eq!(modes, BTreeMap::from(expected));
    for (port, server) in [(pages, "pages"), (metrics, "metrics")] {
        let answer: Answer = http::get(port, "/").expect("an answer").json().expect("it is JSON");
        assert_eq!(answer.server, server);
    }
    let output = Command::new(node::node(22))
        .current_dir(node::fixtures())
        .args(["apps/grpc-client.js", &grpc.to_string(), &CHANNELS.to_string()])
        .output()
        .expect("node starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let answers: Vec<Answer> = text.lines().map(parse).collect();
    assert_eq!(answers.len(), 2 * CHANNELS, "{text}");
    for (call, answer) in answers.iter().enumerate() {
        let sent = if call % 2 == 0 { "first" } else { "second" };
        assert_eq!((answer.server.as_str(), answer.echo.as_deref()), ("grpc", Some(sent)));
    }
    let slots: BTreeSet<u16> = answers.iter().map(|it| it.slot).collect();
    assert_eq!(slots.len(), 2, "channels are spread: {answers:?}");
}
