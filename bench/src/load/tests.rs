//! What a server sees of the generator.

use std::convert::Infallible;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers one request on each connection, in the order in which they come, and keeps the paths.
async fn serve(listener: &TcpListener, seen: &RefCell<Vec<String>>) -> Infallible {
    loop {
        let (mut connection, _) = listener.accept().await.expect("somebody connects");
        let mut head = [0; 1024];
        let count = connection.read(&mut head).await.expect("a request is sent");
        let head = String::from_utf8_lossy(&head[..count]);
        seen.borrow_mut().push(head.split(' ').nth(1).expect("a path").to_owned());
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        connection.write_all(answer).await.expect("the answer is read");
    }
}

#[tokio::test]
async fn what_was_drawn_is_sent_in_the_order_in_which_it_is_due_whichever_stream_it_is_of() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let one = Stream {
        target: listener.local_addr().expect("it is bound"),
        rate: 1000.0,
        from: Duration::ZERO,
        until: Duration::from_millis(100),
        work: Work::Burned(Duration::from_millis(20)),
        travel: Travel::Close,
        clients: 4,
        net: 1,
        timeout: Duration::from_secs(60),
        seed: 1,
    };
    let two = Stream { net: 2, seed: 2, ..one.clone() };
    let mut drawn: Vec<(Duration, String)> = Vec::new();
    for stream in [&one, &two] {
        let path = |arrival: Arrival| (arrival.due, stream.work.path(arrival.service));
        drawn.extend(arrivals(stream).into_iter().map(path));
    }
    assert!(drawn.len() > 100, "two streams of about a hundred: {}", drawn.len());
    drawn.sort();
    let seen = RefCell::default();
    let records = tokio::select! {
        records = run(vec![one, two]) => records.expect("there is a timer"),
        never = serve(&listener, &seen) => match never {},
    };
    let expected: Vec<String> = drawn.into_iter().map(|(_, path)| path).collect();
    assert_eq!(seen.into_inner(), expected);
    let mut outcomes = records.iter().flatten().map(|record| record.outcome);
    assert!(outcomes.all(|outcome| outcome == Outcome::Answered(200)), "{records:?}");
}

#[test]
fn work_that_is_drawn_has_its_mean_and_asks_for_what_was_drawn() {
    let mut random = SplitMix64::new(5);
    let work = Work::Served(Duration::from_millis(20));
    let sum: Duration = (0..100_000).map(|_| work.draw(&mut random)).sum();
    assert!((sum.as_secs_f64() / 100_000.0 - 0.02).abs() < 0.0002, "{sum:?}");
    let service = Duration::from_micros(1234);
    assert_eq!(work.path(service), "/work?serial=1&wait_us=1234");
    assert_eq!(Work::Burned(service).path(service), "/work?serial=1&cpu_us=1234");
    assert_eq!(Work::Path("/probe".to_owned()).path(service), "/probe");
}
