//! Where values come from, which source wins, and what they mean there.

use std::fs;
use std::net::Ipv6Addr;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use tenfold::config::{self, Admin, Mode, Route, TrustedProxy};

use crate::Host;

#[test]
fn flags_win_over_set_variables_web_concurrency_file_and_default() {
    let host = Host::new();
    let count = |host: &Host, line: &str| format!("{:?}", host.config(line).workers.count);
    assert_eq!(count(&host, "tenfold -- node x"), "ByCommand");
    let host = host.file("workers.count = 2");
    assert_eq!(count(&host, "tenfold -- node x"), "Fixed(2)");
    let host = host.variable("WEB_CONCURRENCY", "3");
    assert_eq!(count(&host, "tenfold -- node x"), "Fixed(3)");
    let host = host.variable("TENFOLD_WORKERS_COUNT", "4");
    assert_eq!(count(&host, "tenfold -- node x"), "Fixed(4)");
    assert_eq!(count(&host, "tenfold --set workers.count=5 -- node x"), "Fixed(5)");
    assert_eq!(count(&host, "tenfold --set workers.count=5 -n auto -- node x"), "Auto");
}

#[test]
fn the_file_is_the_flag_then_the_variable_then_the_one_here() {
    let host = Host::new().file("name = 'here'");
    for name in ["flag", "variable"] {
        let text = format!("name = '{name}'");
        fs::write(host.path().join(format!("{name}.toml")), text).expect("it is ours");
    }
    assert_eq!(host.config("tenfold -- node x").name.as_str(), "here");
    let host = host.variable("TENFOLD_CONFIG", "variable.toml");
    assert_eq!(host.config("tenfold -- node x").name.as_str(), "variable");
    assert_eq!(host.config("tenfold -c flag.toml -- node x").name.as_str(), "flag");
}

#[test]
fn listen_is_a_string_a_list_or_a_table() {
    let listed = |text: &str| {
        let listen = Host::new().file(text).config("tenfold -- node x").listen;
        let on = |listen: &tenfold::config::Listen| {
            let on = listen.on.as_ref().map_or("app".to_owned(), ToString::to_string);
            format!("{:?} {on} {:?}", listen.app, listen.options.protocol)
        };
        listen.listed.iter().map(on).collect::<Vec<_>>()
    };
    assert_eq!(listed(""), Vec::<String>::new());
    assert_eq!(listed("listen = ':80'"), ["None :80 Tcp"]);
    assert_eq!(listed("listen = [':80', ':81']"), ["None :80 Tcp", "None :81 Tcp"]);
    assert_eq!(listed("[listen]\non = ':80'\nprotocol = 'http'"), ["None :80 Http"]);
    assert_eq!(
        listed("[[listen]]\napp = 3000\non = ':80'\n[[listen]]\napp = '/a'\nprotocol = 'http'"),
        ["Some(Port(3000)) :80 Tcp", "Some(Path(\"/a\")) app Http"]
    );
}

#[test]
fn repeated_listen_flags_replace_those_of_the_file() {
    let host = Host::new().file("listen = [':1', ':2', ':3']\n[workers]\ncount = 2");
    let listed = host.config("tenfold -l :80 -l unix:a.sock -- node x").listen.listed;
    let on: Vec<_> = listed.iter().filter_map(|listen| listen.on.as_ref()).collect();
    assert_eq!(on[0].to_string(), ":80");
    assert_eq!(on[1].to_string(), format!("unix:{}/a.sock", host.path().display()));
    assert_eq!(on.len(), 2);
}

#[test]
fn variables_take_lists_in_toml() {
    let host = Host::new()
        .variable("TENFOLD_LISTEN", "[\":80\", { app = 50051, mode = \"connection\" }]")
        .variable("TENFOLD_COMMAND", "[\"node\", \"x y.js\"]");
    let config = host.config("tenfold");
    assert_eq!(config.listen.listed.len(), 2);
    assert_eq!(config.command.words, ["node", "x y.js"]);
}

#[test]
fn relative_paths_of_a_file_start_at_the_file() {
    let host = Host::new();
    fs::create_dir_all(host.path().join("etc/app")).expect("the directory is ours");
    let text = "directory = 'app'\nlisten = 'unix:run.sock'";
    fs::write(host.path().join("etc/shop.toml"), text).expect("the directory is ours");
    let config = host.config("tenfold -c etc/shop.toml -- node x");
    assert_eq!(config.directory, host.path().join("etc/app"));
    let on = config.listen.listed[0].on.as_ref().expect("it is given").to_string();
    assert_eq!(on, format!("unix:{}/etc/run.sock", host.path().display()));
    assert_eq!(config.name.as_str(), "app");
}

#[test]
fn shutdown_delay_follows_kubernetes() {
    let delay = |host: Host, line: &str| host.config(line).shutdown.delay;
    let line = "tenfold -- node x";
    assert_eq!(delay(Host::new(), line), Duration::ZERO);
    let kubernetes = || Host::new().variable("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    assert_eq!(delay(kubernetes(), line), Duration::from_secs(5));
    let short = "tenfold --set shutdown.total=4s -- node x";
    assert_eq!(delay(kubernetes(), short), Duration::from_secs(2));
}

#[test]
fn flags_of_request_mode_reach_their_keys() {
    let config = Host::new().config("tenfold -m request --limit 20 --admin [::1]:9901 -- node x");
    assert_eq!(config.listen.options.mode, Mode::Request);
    assert_eq!(config.workers.limit.resolve().get(), 20);
    let host = config::Host::Ip(Ipv6Addr::LOCALHOST.into());
    assert_eq!(config.admin, Admin::At { host, port: 9901 });
}

#[test]
fn queue_bounds_follow_the_mode_unless_they_are_given() {
    let queue = |line: &str| Host::new().config(line).queue;
    let number = |number| NonZeroU16::new(number).expect("it is not 0");
    let limit = NonZeroU32::new(100).expect("it is not 0");
    let auto = queue("tenfold -- node x");
    let connections = auto.of_connections(1024);
    assert_eq!((connections.max, connections.timeout), (384, Duration::from_secs(10)));
    assert_eq!(auto.of_connections(1 << 20).max, 16_384);
    let requests = auto.of_requests(number(4), limit);
    assert_eq!((requests.max, requests.timeout), (400, Duration::from_secs(1)));
    assert_eq!(auto.of_requests(number(16), limit).max, 1000);
    let given = queue("tenfold --queue 2000 --queue-timeout 30s -- node x");
    let requests = given.of_requests(number(4), limit);
    assert_eq!(requests, given.of_connections(1024));
    assert_eq!((requests.max, requests.timeout), (2000, Duration::from_secs(30)));
}

#[test]
fn routes_networks_and_sizes_are_read() {
    let host = Host::new().file(
        "unlimited = ['/socket.io/*', '/poll']\n\
         trusted_proxies = ['private', '192.0.2.7', '2001:db8::/32']\n\
         [limits]\nbody_bytes = '10 MiB'\n[health]\npublic = ['/healthz']\n",
    );
    let request = host.config("tenfold -- node x").request;
    let routes = [Route::Below("/socket.io/".into()), Route::Exactly("/poll".into())];
    assert_eq!(request.unlimited.0, routes);
    let network = |address: &str, prefix| TrustedProxy::Network {
        address: address.parse().expect("an address"),
        prefix,
    };
    assert_eq!(
        request.trusted_proxies.0,
        [TrustedProxy::Private, network("192.0.2.7", 32), network("2001:db8::", 32)]
    );
    assert_eq!(request.limits.body_bytes, Some(10 << 20));
    assert_eq!(request.public_health, ["/healthz"]);
}

#[test]
fn half_of_the_workers_must_have_been_ready() {
    let number = |number| NonZeroU16::new(number).expect("it is not 0");
    let min = |set: &str, count| {
        let line = format!("tenfold --set health.ready_min={set} -- node x");
        Host::new().config(&line).ready_min.resolve(number(count)).get()
    };
    for (set, count, expected) in
        [("auto", 1, 1), ("auto", 2, 1), ("auto", 3, 2), ("auto", 10, 5), ("3", 10, 3), ("3", 2, 2)]
    {
        assert_eq!(min(set, count), expected, "{set} of {count}");
    }
}

#[test]
fn unknown_variables_are_warnings() {
    let host = Host::new().variable("TENFOLD_ZEBRA", "1");
    let parsed = host.parse("tenfold -- node x").expect("a valid configuration");
    assert_eq!(parsed.warnings, ["TENFOLD_ZEBRA is unknown and ignored"]);
}
