//! What a person sees of a worker that misbehaves: its threads and its JavaScript.

use std::thread;

use nix::sys::signal::Signal;

use crate::support::http::{self, Connection};
use crate::support::pool::{demo_pool, request_pool};
use crate::support::{Builder, PATIENCE, Tenfold, free_port, processes, wait_until};

const INSPECT: [&str; 2] = ["--set", "workers.inspect=true"];

/// A worker in a loop of this many milliseconds; its client.
#[track_caller]
fn block(port: u16, ms: u32) -> Connection {
    let mut blocked = Connection::open(port).expect("it accepts");
    let request = format!("GET /block?ms={ms} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    blocked.send(request.as_bytes()).expect("it reads");
    blocked
}

#[track_caller]
fn stack(tenfold: &Tenfold) -> String {
    let shown = tenfold.cli(["stack", "0"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    shown.stdout
}

/// Waits until the stack has this in it; returns the whole.
#[track_caller]
fn stack_when(tenfold: &Tenfold, part: &str) -> String {
    wait_until(PATIENCE, part, || {
        let shown = stack(tenfold);
        shown.contains(part).then_some(shown)
    })
}

/// How the line of the main thread begins, up to what it does.
fn main_thread(tenfold: &Tenfold, doing: &str) -> String {
    let pid = tenfold.status().expect("the master runs").pid_of(0);
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it lives");
    format!("    {pid} {}: {doing}", name.trim_end())
}

/// An app from text on this major, one worker.
fn written(major: u32, app: &str, options: &[&str]) -> (Builder, u16) {
    let port = free_port();
    let builder = Tenfold::builder().node(major).env("APP_PORT", port.to_string());
    let work = builder.dir().join("work");
    std::fs::write(work.join("server.js"), app).expect("the directory is ours");
    let command = ["node"].iter().chain(options).chain(&["server.js"]).copied();
    (builder.cwd(work).args(["--workers", "1"]).args(INSPECT).app(command), port)
}

/// `/loop` comes back when there is a file `stop`.
const LOOP: &str = "
function innermost() {
  for (;;) if (require('fs').existsSync('stop')) return;
}
require('http').createServer((request, response) => {
  if (request.url === '/loop') innermost();
  response.end('ok');
}).listen(process.env.APP_PORT);
";

#[track_caller]
fn check_stack_of_loop(major: u32) {
    let (builder, port) = written(major, LOOP, &[]);
    let stop = builder.dir().join("work/stop");
    let tenfold = builder.args(["--set", "workers.hang=off"]).start();
    let pid = tenfold.wait_ready(1).pid_of(0);
    stack_when(&tenfold, "JavaScript none: it waits for events\n");
    let mut looping = Connection::open(port).expect("it accepts");
    looping.send(b"GET /loop HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let shown = stack_when(&tenfold, "    at innermost (");
    assert!(shown.starts_with(&format!("slot 0, worker 1, process {pid}, ")), "{shown}");
    assert!(shown.contains("work/server.js:3:"), "{shown}");
    assert!(shown.contains("(node:events:"), "who has called it is there, too: {shown}");
    let json = tenfold.cli(["stack", "0", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(json["pid"], pid, "{json}");
    assert!(json["javascript"]["doing"].is_string(), "{json}");
    // Nothing of that has harmed the request, or the worker.
    std::fs::write(&stop, "").expect("the directory is ours");
    assert_eq!(looping.receive().expect("it is answered").status, 200);
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
    assert_eq!(tenfold.status().expect("the master runs").pid_of(0), pid);
    assert!(!tenfold.output().contains("preload failed"), "{}", tenfold.output());
}

#[test]
fn stack_shows_the_javascript_of_a_worker_that_is_in_a_loop() {
    thread::scope(|scope| {
        for major in [18, 20, 22, 24, 26] {
            scope.spawn(move || check_stack_of_loop(major));
        }
    });
}

#[test]
fn stack_without_inspect_shows_the_threads_and_says_how_to_get_more() {
    let (builder, port) = request_pool("block.js", 1);
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    stack_when(&tenfold, &main_thread(&tenfold, "asleep"));
    let blocked = block(port, 600_000);
    let shown = stack_when(&tenfold, &main_thread(&tenfold, "busy in its own code"));
    assert!(shown.contains("JavaScript unknown: set workers.inspect = true"), "{shown}");
    assert!(shown.lines().count() > 6, "Node has threads besides:\n{shown}");
    let refused = tenfold.cli(["stack", "1"]);
    assert!(refused.stderr.contains("there is no slot 1, only 0 to 0"), "{refused:?}");
    drop(blocked);
}

#[test]
fn stack_of_what_is_not_node_or_cannot_answer_says_so() {
    let (builder, _) = demo_pool(1);
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    let shown = stack(&tenfold);
    assert!(shown.contains("JavaScript unknown: the worker is not Node"), "{shown}");
    let (builder, _) = request_pool("block.js", 1);
    let tenfold = builder.args(INSPECT).start();
    let pid = tenfold.wait_ready(1).pid_of(0);
    processes::signal(pid, Signal::SIGSTOP);
    stack_when(&tenfold, "JavaScript unknown: the process is stopped by a signal");
    processes::signal(pid, Signal::SIGCONT);
    stack_when(&tenfold, "JavaScript none: it waits for events");
}

/// What keeps the main thread without a line of JavaScript that could be stopped, until the file
/// `go` has a reader.
const NATIVE: &str = "
require('http').createServer((request, response) => {
  if (request.url === '/native') require('fs').writeFileSync('go', '');
  response.end('ok');
}).listen(process.env.APP_PORT);
";

#[test]
fn native_code_that_does_not_come_back_is_told_and_not_stopped_later() {
    let (builder, port) = written(22, NATIVE, &[]);
    let fifo = builder.dir().join("work/go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("the directory is ours");
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    let mut blocked = Connection::open(port).expect("it accepts");
    blocked.send(b"GET /native HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    stack_when(&tenfold, "JavaScript none: native code");
    let reader = std::fs::File::open(&fifo).expect("somebody writes");
    assert_eq!(blocked.receive().expect("it is answered").status, 200);
    drop(reader);
    for _ in 0..3 {
        assert_eq!(http::get(port, "/").expect("it serves").status, 200);
    }
    stack_when(&tenfold, "JavaScript none: it waits for events");
}

/// Tells of every thread that it sees.
const WATCHFUL: &str = "
process.on('worker', (thread) => console.log('saw thread', thread.threadId));
const server = require('http').createServer((request, response) => {
  if (request.url === '/end') server.close();
  if (request.url === '/thread') new (require('worker_threads').Worker)('', { eval: true });
  response.end(JSON.stringify([Object.hasOwn(process, 'emit'), process.getActiveResourcesInfo()]));
}).listen(process.env.APP_PORT);
";

#[test]
fn the_thread_that_tells_is_not_seen_by_the_app_and_keeps_no_process_alive() {
    let (builder, port) = written(22, WATCHFUL, &[]);
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    let told = http::get(port, "/thread").expect("it serves").text();
    assert!(told.starts_with("[false,") && !told.contains("MessagePort"), "{told}");
    tenfold.wait_for_line(PATIENCE, |line| line.contains("saw thread"));
    let seen = tenfold.output();
    assert_eq!(seen.matches("saw thread").count(), 1, "{seen}");
    stack_when(&tenfold, "JavaScript none: it waits for events");
    let events = tenfold.events();
    assert_eq!(http::get(port, "/end").expect("it serves").status, 200);
    events.wait("worker_exited", |event| event["exit"] == "exit 0");
}

#[test]
fn a_process_that_may_not_have_threads_serves_and_says_why_nobody_knows() {
    let plain = "require('http').createServer((_, response) => response.end('ok'))
        .listen(process.env.APP_PORT);";
    let (builder, port) = written(24, plain, &["--permission", "--allow-fs-read=*"]);
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    let shown = stack(&tenfold);
    assert!(shown.contains("JavaScript unknown: the thread that would tell: "), "{shown}");
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
    assert!(!tenfold.output().contains("preload failed"), "{}", tenfold.output());
}

#[test]
fn the_evidence_on_a_worker_that_hangs_has_its_javascript() {
    let (builder, port) = request_pool("block.js", 2);
    let times = ["--set", "workers.stall=2s", "--set", "workers.hang=8s"];
    let tenfold = builder.args(INSPECT).args(times).start();
    tenfold.wait_ready(2);
    let events = tenfold.events();
    let blocked = block(port, 600_000);
    let line = tenfold.wait_for_line(PATIENCE, |line| line.contains("no sign of life"));
    assert!(line.contains("\"stack\":\"") && line.contains("apps/block.js:"), "{line}");
    tenfold.wait_for_line(PATIENCE, |line| line.contains("worker hangs; killing it"));
    // Its client has been let go by then.
    let event = events.wait("worker_hung", |_| true);
    let told = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
    assert!(told("main_thread").contains("busy in its own code"), "{event}");
    assert!(told("oldest").starts_with("1 requests: "), "{event}");
    assert!(told("oldest").ends_with(" GET /block"), "{event}");
    assert!(told("stack").contains("apps/block.js:"), "{event}");
    drop(blocked);
}
