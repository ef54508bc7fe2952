//! The clients that people use and measure with work as they do with any server: kept connections,
//! uploads, pipelines.

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::pool::request_pool;
use support::{Tenfold, node, python};

/// Two workers of the app that has every kind of exchange.
#[track_caller]
fn start() -> (Tenfold, u16) {
    let (builder, port) = request_pool("exchange.js", 2);
    let tenfold = builder.start();
    tenfold.wait_ready(2);
    (tenfold, port)
}

/// Runs a client to its end, which must be a good one; what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().expect("ci installs every client");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// What every request of `count` by a client has become: answered, and counted as that.
#[track_caller]
fn check_counted(tenfold: &Tenfold, count: u64) {
    let requests = tenfold.status().expect("it runs").total("requests");
    assert!(requests >= count, "{requests} of {count} requests");
}

#[test]
fn curl_keeps_its_connection_and_waits_for_100() {
    let (_tenfold, port) = start();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let told = "\\n%{http_code} %{num_connects}\\n";
    let quiet = ["-sS", "-o", "/dev/null", "-w", told];
    let kept = run(Command::new("curl").args(quiet).args([url("/"), url("/chunks"), url("/")]));
    let transfers: Vec<&str> = kept.lines().filter(|line| line.starts_with("200 ")).collect();
    assert_eq!(transfers, ["200 1", "200 0", "200 0"], "{kept}");

    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), vec![b'c'; 3 << 20]).expect("it is ours");
    let from_file = |prefix: &str, path: &Path| format!("{prefix}{}", path.display());
    let whole = from_file("@", file.path());
    let sized = ["-sS", "-v", "-H", "Expect: 100-continue", "--data-binary", &whole];
    let sized = run(Command::new("sh")
        .args(["-c", "exec curl \"$@\" 2>&1", "sh"])
        .args(sized)
        .arg(url("/echo")));
    assert!(sized.contains("< HTTP/1.1 100 Continue"), "{sized}");
    assert!(sized.contains("\"length\":3145728"), "{sized}");
    let chunked = ["-sS", "-X", "POST", "-H", "Transfer-Encoding: chunked", "-T"];
    let chunked = run(Command::new("curl").args(chunked).arg(file.path()).arg(url("/echo")));
    assert!(chunked.contains("\"length\":3145728"), "{chunked}");
}

#[test]
fn ab_keeps_its_connections_in_http_1_0() {
    const REQUESTS: u64 = 500;
    let (tenfold, port) = start();
    let url = format!("http://127.0.0.1:{port}/bytes?count=1000");
    let count = REQUESTS.to_string();
    let report = run(Command::new("ab").args(["-q", "-k", "-c", "16", "-n", &count, &url]));
    let value = |name: &str| {
        let line = report.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).map(str::to_owned)
    };
    assert_eq!(value("Complete requests:").as_deref(), Some("500"), "{report}");
    assert_eq!(value("Failed requests:").as_deref(), Some("0"), "{report}");
    assert_eq!(value("Non-2xx responses:"), None, "{report}");
    assert_eq!(value("Keep-Alive requests:").as_deref(), Some("500"), "{report}");
    check_counted(&tenfold, REQUESTS);
}

/// Ends with a line of its own: requests, then errors of all kinds.
const WRK_DONE: &str = "
done = function(summary, latency, requests)
  local e = summary.errors
  print('done ' .. summary.requests .. ' ' ..
    e.connect + e.read + e.write + e.status + e.timeout)
end
";

/// Eight requests in one write, again and again.
const WRK_PIPELINE: &str = "
init = function(args)
  local requests = {}
  for i = 1, 8 do requests[i] = wrk.format('GET', '/bytes?count=' .. i) end
  pipeline = table.concat(requests)
end
request = function() return pipeline end
";

#[track_caller]
fn check_wrk(script: &str) {
    let (tenfold, port) = start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{script}{WRK_DONE}")).expect("it is ours");
    let url = format!("http://127.0.0.1:{port}/");
    let report = run(Command::new("wrk")
        .args(["-t", "1", "-c", "16", "-d", "1", "--timeout", "30", "-s"])
        .arg(file.path())
        .arg(url));
    let done = report.lines().find_map(|line| line.strip_prefix("done "));
    let (requests, errors) = done.and_then(|line| line.split_once(' ')).expect("two numbers");
    assert_eq!(errors, "0", "{report}");
    let requests: u64 = requests.parse().expect("a number");
    assert!(requests > 16, "{report}");
    check_counted(&tenfold, requests);
}

#[test]
fn wrk_meets_no_error() {
    check_wrk("");
}

#[test]
fn wrk_meets_no_error_with_pipelines() {
    check_wrk(WRK_PIPELINE);
}

#[track_caller]
fn check_python(kind: &str) {
    let (_tenfold, port) = start();
    let printed = run(Command::new("python3")
        .env("PATH", python::search_path())
        .arg(python::fixtures().join("client.py"))
        .args([kind, &port.to_string()]));
    assert_eq!(printed, "ok\n");
}

#[test]
fn python_requests_works() {
    check_python("requests");
}

#[test]
fn python_httpx_works() {
    check_python("httpx");
}

#[test]
fn undici_works_with_pools_and_pipelines() {
    let (_tenfold, port) = start();
    let printed = run(Command::new(node::node(22))
        .current_dir(node::fixtures())
        .args(["apps/undici-client.js", &port.to_string()]));
    assert_eq!(printed, "ok\n");
}
