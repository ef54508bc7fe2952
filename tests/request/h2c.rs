//! HTTP/2 from clients that know beforehand: the same requests, limits and answers as HTTP/1.1.

use std::future::poll_fn;
use std::process::Command;
use std::time::Instant;

use ::http::{Request, StatusCode};
use bytes::Bytes;
use h2::client::SendRequest;
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::support::http;
use super::support::pool::request_pool;
use super::support::{PATIENCE, Tenfold};
use super::{Echo, connect, echo, exchange, exchange_with, send, wait_idle};

/// Runs curl; what it prints, and after it the version and status of the response.
#[track_caller]
fn curl(port: u16, path: &str, flags: &[&str]) -> (String, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "30"])
        .args(["--write-out", "\n%{http_version} %{http_code}"])
        .args(flags)
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .output()
        .expect("curl is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path} {flags:?}: {error}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, told) = text.rsplit_once('\n').expect("curl tells");
    (body.to_owned(), told.to_owned())
}

#[test]
fn exchanges_are_those_of_http1() {
    let (_tenfold, port) = exchange();
    for path in ["/bytes?count=300000", "/chunks?count=5", "/status?code=404", "/until-close"] {
        let plain = connect(port).get(path).expect("an answer");
        let (body, told) = curl(port, path, &[]);
        assert_eq!(told, format!("2 {}", plain.status), "{path}");
        assert_eq!(body.len(), plain.body.len(), "{path}");
    }
    let (body, told) = curl(port, "/trailers", &["--include"]);
    assert_eq!(told, "2 200");
    assert!(body.contains("body") && body.contains("x-sum: 42"), "{body}");
    let (body, told) = curl(port, "/hints", &["--include"]);
    assert_eq!(told, "2 200");
    assert!(body.starts_with("HTTP/2 103"), "{body}");
    let (body, told) = curl(port, "/echo?a=b", &["--data", "hello", "--header", "X-Mine: 1"]);
    let seen: Echo = serde_json::from_str(&body).expect("it is an echo");
    assert_eq!(told, "2 200");
    assert_eq!((seen.method.as_str(), seen.url.as_str()), ("POST", "/echo?a=b"));
    assert_eq!((seen.body.as_str(), seen.version.as_str()), ("hello", "1.1"));
    assert_eq!(seen.headers["x-mine"], "1");
    assert_eq!(seen.headers["host"], format!("127.0.0.1:{port}"));
    assert!(seen.remote.contains("127.0.0.1 "), "{}", seen.remote);
    let same = echo(port, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    let names = |echo: &Echo| -> Vec<String> {
        let own = |name: &&String| {
            !["accept", "user-agent", "x-mine", "content-type"].contains(&name.as_str())
        };
        echo.headers.keys().filter(own).cloned().collect()
    };
    assert_eq!(names(&seen), names(&same), "nothing of the version shows");
    let (_, told) = curl(port, "/bytes?count=10", &["--head"]);
    assert_eq!(told, "2 200");
}

#[test]
fn what_is_refused_over_http1_is_refused() {
    let (_tenfold, port) = exchange();
    let (body, told) = curl(port, &format!("/{}", "a".repeat(9000)), &[]);
    assert_eq!((told.as_str(), body.contains("target_too_long")), ("2 414", true), "{body}");
    let (body, told) = curl(port, "/", &["--request", "TRACE"]);
    assert_eq!((told.as_str(), body.contains("trace_refused")), ("2 405", true), "{body}");
    // The preface later in a connection is a malformed request.
    let late = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(send(port, late).status, 200);
    assert_eq!(send(port, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").status, 505);
}

#[test]
fn h2load_gets_every_answer() {
    let (builder, port) = request_pool("exchange.js", 2);
    let tenfold = builder.args(["--queue", "1000", "--queue-timeout", "30s"]).start();
    tenfold.wait_ready(2);
    let output = Command::new("h2load")
        .args(["-n", "2000", "-c", "10", "-m", "20"])
        .arg(format!("http://127.0.0.1:{port}/"))
        .output()
        .expect("h2load is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("2000 succeeded, 0 failed"), "{text}");
    assert!(text.contains("status codes: 2000 2xx"), "{text}");
    wait_idle(&tenfold);
}

/// Does what `work` says with a client of its own runtime.
fn with_client<T>(port: u16, work: impl AsyncFnOnce(SendRequest<Bytes>) -> T) -> T {
    with_client_of(port, &h2::client::Builder::new(), work)
}

/// The same with settings.
fn with_client_of<T>(
    port: u16,
    settings: &h2::client::Builder,
    work: impl AsyncFnOnce(SendRequest<Bytes>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime has all it needs");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it accepts");
        let (client, connection) =
            settings.handshake::<_, Bytes>(socket).await.expect("it speaks HTTP/2");
        let mut driver = JoinSet::new();
        driver.spawn_local(async move {
            // How it ends is what the test looks at, on its streams.
            let _ = connection.await;
        });
        work(client).await
    })
}

fn get(path: &str) -> Request<()> {
    Request::builder().uri(format!("http://a{path}")).body(()).expect("it is a request")
}

async fn open(
    client: &SendRequest<Bytes>,
    path: &str,
) -> Result<h2::client::ResponseFuture, h2::Error> {
    let mut ready = client.clone().ready().await?;
    Ok(ready.send_request(get(path), true)?.0)
}

#[test]
fn streams_wait_in_the_queue_and_are_shed_one_by_one() {
    let flags = ["--limit", "1", "--queue", "2", "--queue-timeout", "30s"];
    let (tenfold, port) = exchange_with(|it| it.args(flags));
    let statuses = with_client(port, async |client| {
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(open(&client, "/slow?ms=300").await.expect("it takes the stream"));
        }
        let mut statuses = Vec::new();
        for answer in answers {
            statuses.push(answer.await.expect("each is answered").status());
        }
        statuses
    });
    let served = statuses.iter().filter(|status| **status == StatusCode::OK).count();
    assert_eq!(served, 3, "one at work, two that waited: {statuses:?}");
    assert!(
        statuses.iter().all(|it| [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(it))
    );
    wait_idle(&tenfold);
}

#[test]
fn streams_above_the_bound_of_clients_are_refused_and_may_be_asked_again() {
    // So few descriptors that the streams of one connection are the bound, and it is one of them.
    let (_tenfold, port) = exchange_with(|it| {
        it.through(["prlimit", "--nofile=400:400"]).args(["--limit", "200", "--queue", "200"])
    });
    with_client(port, async |client| {
        let mut answers = Vec::new();
        for _ in 0..100 {
            answers.push(open(&client, "/hang").await.expect("it may try"));
        }
        let refused = answers.pop().expect("a hundred").await.expect_err("there is no room");
        assert_eq!(refused.reason(), Some(h2::Reason::REFUSED_STREAM));
        drop(answers);
        // Their places are free once the resets have arrived.
        let deadline = Instant::now() + PATIENCE;
        loop {
            match open(&client, "/").await.expect("it may try").await {
                Ok(answer) => return assert_eq!(answer.status(), StatusCode::OK),
                Err(_) => assert!(Instant::now() < deadline, "still no room"),
            }
        }
    });
}

#[test]
fn stop_sends_goaway_and_finishes_what_is_under_way() {
    let (mut tenfold, port) = exchange();
    let status = with_client(port, async |client| {
        let answer = open(&client, "/slow?ms=1500").await.expect("it takes the stream");
        wait_at_work(&tenfold).await;
        tenfold.signal(Signal::SIGTERM);
        let status = answer.await.expect("it is finished").status();
        // The connection ends by itself, and takes nothing more.
        while open(&client, "/").await.is_ok() {}
        status
    });
    assert_eq!(status, StatusCode::OK);
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
}

/// Waits without keeping the client's own work from going on.
async fn wait_at_work(tenfold: &Tenfold) {
    let deadline = Instant::now() + PATIENCE;
    while tenfold.status().expect("it runs").workers[0].in_flight != 1 {
        assert!(Instant::now() < deadline, "nothing is at work");
        tokio::task::yield_now().await;
    }
}

#[test]
fn client_that_resets_without_end_is_sent_away_and_harms_nobody() {
    let (tenfold, port) = exchange();
    let opened = with_client(port, async |client| {
        for opened in 0..20_000 {
            match open(&client, "/hang").await {
                // Dropped: the stream is reset.
                Ok(answer) => drop(answer),
                Err(_) => return opened,
            }
            tokio::task::yield_now().await;
        }
        panic!("nobody stopped it");
    });
    assert!(opened < 20_000, "{opened}");
    wait_idle(&tenfold);
    assert_eq!(connect(port).get("/").expect("an answer").status, 200);
}

#[test]
fn client_that_never_opens_its_window_loses_the_stream_and_not_the_connection() {
    let flags = ["--admin", "127.0.0.1:0", "--set", "timeouts.response_idle=300ms"];
    let (tenfold, port) = exchange_with(|it| it.args(flags));
    let admin = tenfold.wait_ready(1).admin_port();
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(0);
    with_client_of(port, &settings, async |client| {
        // One that fits where it waits for the client, and one that does not.
        for path in ["/bytes?count=10", "/bytes?count=300000"] {
            let answer = open(&client, path).await.expect("it takes the stream");
            let mut answer = answer.await.expect("a head needs no window");
            assert_eq!(answer.status(), StatusCode::OK);
            let end = answer.body_mut().data().await.expect("no orderly end");
            let reason = end.map_err(|error| error.reason());
            assert_eq!(reason, Err(Some(h2::Reason::CANCEL)), "{path}");
        }
        let empty = open(&client, "/status?code=204").await.expect("it takes the stream");
        assert_eq!(empty.await.expect("it needs no window").status(), StatusCode::NO_CONTENT);
    });
    wait_idle(&tenfold);
    let page = http::get(admin, "/metrics").expect("it answers").text();
    let ended = |code: &str| {
        let name = format!("tenfold_request_failures_total{{{code}}} ");
        page.lines().find_map(|line| line.strip_prefix(&name)).map(str::to_owned)
    };
    // What fits is sent as far as the front can tell, as into the socket of an HTTP/1 client.
    assert_eq!(ended("kind=\"timeout\",reason=\"client_slow\"").as_deref(), Some("1"), "{page}");
    assert_eq!(ended("kind=\"abort\",reason=\"client_gone\"").as_deref(), Some("0"), "{page}");
}

#[test]
fn idle_connection_is_kept_for_as_long_as_the_app_says() {
    let (_tenfold, port) = exchange_with(|it| it.args(["--set", "timeouts.keep_alive=1s"]));
    with_client(port, async |client| {
        let patient = open(&client, "/patient?seconds=600").await.expect("it takes the stream");
        assert_eq!(patient.await.expect("it answers").status(), StatusCode::OK);
        // This one began to be idle later, and nothing was said to keep it.
        let mut brief = connect(port);
        assert_eq!(brief.get("/patient?seconds=1").expect("an answer").status, 200);
        assert_eq!(brief.receive_rest().expect("an orderly end"), b"");
        // One that was asked to leave may still be served once.
        for _ in 0..10 {
            let again = open(&client, "/").await.expect("it is still open");
            assert_eq!(again.await.expect("it answers").status(), StatusCode::OK);
        }
    });
}

#[test]
fn large_bodies_pass_both_ways_as_the_windows_allow() {
    let (_tenfold, port) = exchange();
    let length = 1 << 20;
    let seen: Echo = with_client(port, async |client| {
        let mut ready = client.ready().await.expect("it lives");
        let request = Request::post("http://a/echo").body(()).expect("it is a request");
        let (answer, mut body) = ready.send_request(request, false).expect("it takes the stream");
        let mut rest = Bytes::from(vec![b'x'; length]);
        while !rest.is_empty() {
            body.reserve_capacity(rest.len());
            let room = poll_fn(|context| body.poll_capacity(context)).await;
            let room = room.expect("the stream lives").expect("it takes more");
            let piece = rest.split_to(room.min(rest.len()));
            body.send_data(piece, rest.is_empty()).expect("it takes it");
        }
        let mut text = Vec::new();
        let mut answer = answer.await.expect("it answers").into_body();
        while let Some(piece) = answer.data().await {
            let piece = piece.expect("it comes whole");
            text.extend_from_slice(&piece);
            answer.flow_control().release_capacity(piece.len()).expect("it was received");
        }
        serde_json::from_slice(&text).expect("it is an echo")
    });
    assert_eq!(seen.length, length);
}
