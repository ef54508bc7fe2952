//! One wrong value for every key, and how it is told, literally.

use std::collections::BTreeSet;
use std::fs;

use tenfold::config::KEYS;

use crate::Host;

#[test]
fn every_key_has_a_bound_or_a_set_of_words() {
    for (assignment, message) in [
        (
            "name=a/b",
            "name: \"a/b\" is not 1 to 64 of A-Z a-z 0-9 . _ - with a letter, digit or _ first",
        ),
        ("command=node", "command: \"node\" is one string; write [\"node\"]"),
        ("directory=/nowhere", "directory: \"/nowhere\" is not a directory"),
        ("mode=udp", "mode: \"udp\" is not \"auto\", \"request\" or \"connection\""),
        ("admin=9900", "admin: \"9900\" is not an address; write \":9900\""),
        (
            "admin=unix:/run/x.sock",
            "admin: \"unix:/run/x.sock\" is not HOST:PORT, \"auto\" or \"off\"",
        ),
        (
            "trusted_proxies=public",
            "trusted_proxies: \"public\" is not \"private\", an address or a network: \
             \"10.0.0.0/8\"",
        ),
        ("trusted_proxies=10.0.0.0/33", "trusted_proxies: \"10.0.0.0/33\" has a prefix above 32"),
        ("sticky=yes", "sticky: \"yes\" is not \"auto\", \"on\" or \"off\""),
        ("unlimited=poll", "unlimited: \"poll\" does not begin with /"),
        ("unlimited=/a*b", "unlimited: \"/a*b\" is not a plain path without ?, # and *"),
        ("poison=yes", "poison: \"yes\" is not \"report\", \"block\" or \"off\""),
        ("retries=off", "retries: \"off\" is not true or false"),
        (
            "dialect=udp",
            "dialect: \"udp\" is not \"auto\", \"node\", \"native\", \"fd\" or \"port\"",
        ),
        ("logs=wrap", "logs: \"wrap\" is not \"auto\", \"tag\" or \"inherit\""),
        ("log=xml", "log: \"xml\" is not \"auto\", \"text\" or \"json\""),
        (
            "log_level=all",
            "log_level: \"all\" is not \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        ),
        ("env.TENFOLD_SLOT=1", "env.TENFOLD_SLOT: is set by tenfold itself"),
        ("env=1", "env: a table has no short form; write --set env.NAME=VALUE"),
        ("listen.on=80", "listen: \"80\" is not an address; write \":80\""),
        ("listen.backlog=0", "listen.backlog: 0 is below 1"),
        ("listen.backlog=65536", "listen.backlog: 65536 is above 65535"),
        ("listen.defer_accept=500ms", "listen.defer_accept: 500ms is below 1s"),
        ("listen.defer_accept=61s", "listen.defer_accept: 61s is above 1m"),
        ("listen.defer_accept=1500ms", "listen.defer_accept: \"1500ms\" is not whole seconds"),
        ("listen.protocol=h2", "listen.protocol: \"h2\" is not \"tcp\" or \"http\""),
        ("listen.max_connections=0", "listen.max_connections: 0 is below 1"),
        ("listen.proxy_protocol=v2", "listen.proxy_protocol: \"v2\" is not \"on\" or \"off\""),
        ("workers.count=0", "workers.count: 0 is below 1"),
        ("workers.count=-3", "workers.count: -3 is below 1"),
        ("workers.count=257", "workers.count: 257 is above 256"),
        ("workers.count=max", "workers.count: \"max\" is not a whole number or \"auto\""),
        ("workers.count=1.5", "workers.count: \"1.5\" is not a whole number or \"auto\""),
        ("workers.max_connections=0", "workers.max_connections: 0 is below 1"),
        ("workers.limit=100001", "workers.limit: 100001 is above 100000"),
        ("workers.user=no-such-user", "workers.user: \"no-such-user\" is not a user of this host"),
        ("workers.group=no-such", "workers.group: \"no-such\" is not a group of this host"),
        ("workers.group=0", "workers.group: needs workers.user"),
        ("workers.spare=-1", "workers.spare: -1 is below 0"),
        ("workers.spare=256", "workers.spare: 256 is above 255"),
        ("workers.spare=some", "workers.spare: \"some\" is not a whole number or \"auto\""),
        ("workers.inspect=1", "workers.inspect: \"1\" is not true or false"),
        ("workers.preload=yes", "workers.preload: \"yes\" is not true or false"),
        ("workers.wait_ready=1", "workers.wait_ready: \"1\" is not true or false"),
        (
            "workers.ready_path=ready",
            "workers.ready_path: \"ready\" is not a path that begins with / and has no spaces",
        ),
        (
            "workers.start_timeout=60",
            "workers.start_timeout: \"60\" has no unit; write \"60s\" or \"60ms\"",
        ),
        ("workers.start_timeout=99ms", "workers.start_timeout: 99ms is below 100ms"),
        ("workers.give_up=25h", "workers.give_up: 25h is above 1day"),
        ("workers.nice=20", "workers.nice: 20 is above 19"),
        ("workers.oom_score_adj=-1001", "workers.oom_score_adj: -1001 is below -1000"),
        ("workers.stall=1s", "workers.stall: 1s is below 1s 500ms"),
        ("workers.hang=1s", "workers.hang: 1s is below workers.stall, 2s"),
        ("workers.warmup=home", "workers.warmup: \"home\" does not begin with /"),
        ("workers.ramp=500ms", "workers.ramp: 500ms is below 1s"),
        ("workers.max_requests=0", "workers.max_requests: 0 is below 1"),
        ("workers.max_age=500ms", "workers.max_age: 500ms is below 1s"),
        ("memory.soft=1KiB", "memory.soft: 1KiB is below 1MiB"),
        ("workers.eject_after=0", "workers.eject_after: 0 is below 1"),
        ("workers.eject_time=301s", "workers.eject_time: 301s is above 5m"),
        ("queue.max=-1", "queue.max: -1 is below 0"),
        ("queue.timeout=0s", "queue.timeout: 0s is below 1ms"),
        (
            "queue.timeout=soon",
            "queue.timeout: \"soon\" is not a duration such as \"10s\", \"500ms\", \"5m\"",
        ),
        ("restart.base=0ms", "restart.base: 0ms is below 1ms"),
        ("restart.base=31s", "restart.cap: 30s is below restart.base, 31s"),
        ("restart.cap=99ms", "restart.cap: 99ms is below restart.base, 100ms"),
        ("restart.burst=0", "restart.burst: 0 is below 1"),
        ("restart.healthy=2h", "restart.healthy: 2h is above 1h"),
        ("reload.soak=2h", "reload.soak: 2h is above 1h"),
        ("reload.probe=ok", "reload.probe: \"ok\" does not begin with /"),
        ("reload.surge=-1", "reload.surge: -1 is below 0"),
        ("reload.surge=0%", "reload.surge: \"0%\" is not between 1% and 100%"),
        ("shutdown.total=0s", "shutdown.total: 0s is below 100ms"),
        ("shutdown.delay=25s", "shutdown.delay: 25s is not below shutdown.total, 25s"),
        ("shutdown.idle=2h", "shutdown.idle: 2h is above 1h"),
        ("shutdown.interactive_grace=2h", "shutdown.interactive_grace: 2h is above 1h"),
        ("timeouts.header_read=10ms", "timeouts.header_read: 10ms is below 100ms"),
        ("timeouts.body_idle=2h", "timeouts.body_idle: 2h is above 1h"),
        ("timeouts.connect=1ms", "timeouts.connect: 1ms is below 10ms"),
        ("timeouts.response_head=25h", "timeouts.response_head: 25h is above 1day"),
        ("timeouts.response_idle=0s", "timeouts.response_idle: 0s is below 100ms"),
        ("timeouts.keep_alive=500ms", "timeouts.keep_alive: 500ms is below 1s"),
        (
            "limits.head_bytes=32",
            "limits.head_bytes: \"32\" has no unit; write \"32KiB\" or \"32B\"",
        ),
        ("limits.head_bytes=1000B", "limits.head_bytes: 1000B is below 1KiB"),
        ("limits.head_fields=1001", "limits.head_fields: 1001 is above 1000"),
        ("limits.body_bytes=1MB", "limits.body_bytes: \"1MB\" has no binary unit; write \"1MiB\""),
        ("limits.request_buffer=17MiB", "limits.request_buffer: 17MiB is above 16MiB"),
        ("limits.response_buffer=1B", "limits.response_buffer: 1B is below 4KiB"),
        (
            "limits.response_buffer_total=512KiB",
            "limits.response_buffer_total: 512KiB is below limits.response_buffer, 1MiB",
        ),
        ("shed.page=no.html", "shed.page: \"no.html\" is not a file"),
        ("shed.status=199", "shed.status: 199 is below 200"),
        ("shed.retry_after_min=1500ms", "shed.retry_after_min: \"1500ms\" is not whole seconds"),
        (
            "shed.retry_after_min=11s",
            "shed.retry_after_max: 10s is below shed.retry_after_min, 11s",
        ),
        ("shed.retry_after_max=2h", "shed.retry_after_max: 2h is above 1h"),
        ("headers.server_timing=1", "headers.server_timing: \"1\" is not true or false"),
        ("headers.request_id=1", "headers.request_id: \"1\" is not true or false"),
        ("headers.forwarded=1", "headers.forwarded: \"1\" is not true or false"),
        ("headers.via=1", "headers.via: \"1\" is not true or false"),
        ("headers.proxy_status=1", "headers.proxy_status: \"1\" is not true or false"),
        ("health.public=healthz", "health.public: \"healthz\" does not begin with /"),
        ("health.ready_min=0", "health.ready_min: 0 is below 1"),
        ("metrics.app=/m?x", "metrics.app: \"/m?x\" is not a plain path without ?, # and *"),
        ("workers.cuont=1", "workers.cuont: unknown key; did you mean workers.count?"),
        ("zebra=1", "zebra: unknown key"),
        ("workers.count", "\"workers.count\" is not KEY=VALUE"),
    ] {
        let words = if assignment.starts_with("command=") { "" } else { " -- node x" };
        let error = Host::new().error(&format!("tenfold --set {assignment}{words}"));
        assert_eq!(error, format!("{message} (from --set)"), "{assignment}");
    }
}

#[test]
fn every_key_is_covered_by_the_table_of_wrong_values() {
    let source = include_str!("messages.rs");
    let missing: BTreeSet<_> = KEYS
        .iter()
        .map(|key| key.name)
        .filter(|name| !source.contains(&format!("\"{name}=")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn an_error_in_the_file_shows_its_line() {
    let host = Host::new().file("# shop\n[workers]\ncount = 0\n");
    assert_eq!(
        host.error("tenfold -- node x.js"),
        "workers.count: 0 is below 1\n  --> tenfold.toml:3:9\n   |\n 3 | count = 0\n   |         ^"
    );
}

#[test]
fn all_errors_of_a_file_are_shown_at_once() {
    let text = "zebra = 1\nlisten = [':80', ':80', 3000]\n\
                [workers]\ncuont = 2\npreload = 'no'\n[queue]\ntimeout = 5\n\
                [env]\nT = ['s3cret']\n";
    let error = Host::new().file(text).error("tenfold");
    for expected in [
        "zebra: unknown key\n  --> tenfold.toml:1:1\n",
        "workers.cuont: unknown key; did you mean workers.count?\n  --> tenfold.toml:4:1\n",
        "listen: \":80\" is listed twice\n  --> tenfold.toml:2:18\n",
        "listen: 3000 is not an address; write \":3000\"\n  --> tenfold.toml:2:25\n",
        "workers.preload: \"no\" is not true or false\n  --> tenfold.toml:5:11\n",
        "queue.timeout: 5 has no unit; write \"5s\" or \"5ms\"\n  --> tenfold.toml:7:11\n",
        "env.T: its value is not a string, a whole number, true or false\n  --> tenfold.toml:9:1",
        "command: nothing to run; write tenfold -- node server.js",
    ] {
        assert!(error.contains(expected), "{expected}\nis not in\n{error}");
    }
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn a_file_that_is_no_toml_shows_where() {
    let error = Host::new().file("[workers\ncount = 1").error("tenfold");
    assert!(error.contains("\n  --> tenfold.toml:1:9\n   |\n 1 | [workers\n"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let host = Host::new();
    assert_eq!(
        host.error("tenfold -c no.toml -- node x"),
        "no.toml: cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(host.error("tenfold -c bin -- node x"), "bin: is not a file");
    fs::write(host.path().join("bad.toml"), b"a\xff").expect("the directory is ours");
    assert_eq!(host.error("tenfold -c bad.toml -- node x"), "bad.toml: byte 1 is not UTF-8");
}

#[test]
fn errors_name_the_flag_or_the_variable() {
    let host = Host::new();
    assert_eq!(
        host.error("tenfold -n 0 -- node x"),
        "workers.count: 0 is below 1 (from --workers)"
    );
    assert_eq!(
        host.variable("WEB_CONCURRENCY", "many").error("tenfold -- node x"),
        "workers.count: \"many\" is not a whole number or \"auto\" (from WEB_CONCURRENCY)"
    );
    assert_eq!(
        Host::new().variable("TENFOLD_QUEUE_TIMEOUT", "5").error("tenfold -- node x"),
        "queue.timeout: \"5\" has no unit; write \"5s\" or \"5ms\" (from TENFOLD_QUEUE_TIMEOUT)"
    );
}

#[test]
fn listen_tables_name_what_is_wrong_in_them() {
    for (text, message) in [
        ("[{ mode = 'auto' }]", "listen: a table needs app, on or both"),
        ("[{ app = 0 }]", "listen.app: 0 is below 1"),
        ("[{ app = '3000' }]", "listen.app: \"3000\" is not a port or an absolute path"),
        (
            "[{ on = ':80', bakclog = 1 }]",
            "listen.bakclog: unknown key; did you mean listen.backlog?",
        ),
        (
            "{ app = 3000 }",
            "listen.app: belongs to one listener; write listen = [{ app = 3000, on = \":80\" }]",
        ),
        ("[true]", "listen: true is not a string"),
    ] {
        let error = Host::new().file(&format!("listen = {text}")).error("tenfold -- node x");
        assert!(error.starts_with(&format!("{message}\n  --> tenfold.toml:1:")), "{error}");
    }
}
