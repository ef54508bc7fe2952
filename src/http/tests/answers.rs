//! The answers that the master writes itself.

use super::answer::{Answer, Page, content_type};
use super::*;

fn written(answer: &Answer<'_>, asked: Asked) -> String {
    let mut out = Vec::new();
    answer.write(asked, &mut out);
    String::from_utf8(out).expect("our answers are UTF-8")
}

#[test]
fn a_shed_request_is_told_when_to_come_back_and_keeps_its_connection() {
    let answer = Answer {
        request_id: Some("id-1"),
        retry_after: Some(7),
        connection: Persistence::KeepAlive,
        ..Answer::new(503, "queue_full")
    };
    let body = "503 Service Unavailable (queue_full)\nrequest id-1\n";
    assert_eq!(
        written(&answer, Asked::default()),
        format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nCache-Control: no-store\r\nRetry-After: 7\r\n\
             X-Request-Id: id-1\r\n\r\n{body}",
            body.len()
        )
    );
}

#[test]
fn head_gets_the_same_head_and_no_body() {
    let answer = Answer { request_id: Some("id-1"), ..Answer::new(504, "response_head_timeout") };
    let get = written(&answer, Asked::default());
    let head = written(&answer, Asked { method: Method::Head, ..Asked::default() });
    let (expected, body) = get.split_at(get.find("\r\n\r\n").expect("a head ends") + 4);
    assert_eq!(head, expected);
    assert!(!body.is_empty());
}

#[test]
fn an_old_client_is_told_that_its_connection_is_kept() {
    let asked = Asked { version: Version::Http10, ..Asked::default() };
    let kept = Answer { connection: Persistence::KeepAlive, ..Answer::new(503, "queue_full") };
    assert!(written(&kept, asked).contains("\r\nConnection: keep-alive\r\n"));
    assert!(written(&Answer::new(503, "queue_full"), asked).contains("\r\nConnection: close\r\n"));
}

#[test]
fn a_page_has_its_own_status_type_and_body() {
    let page = Page {
        status: Some(200),
        content_type: content_type("shell.HTML").to_owned(),
        body: b"<p>soon".to_vec(),
    };
    let answer = Answer { page: Some(&page), ..Answer::new(503, "queue_full") };
    let text = written(&answer, Asked::default());
    assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"));
    assert!(text.contains("\r\nContent-Length: 7\r\n") && text.ends_with("\r\n\r\n<p>soon"));
    assert_eq!(content_type("shell"), "application/octet-stream");
}

#[test]
fn every_answer_is_a_response_that_our_own_reader_takes() {
    for status in 200..600 {
        let answer = Answer { request_id: Some("id-1"), ..Answer::new(status, "some_reason") };
        let text = written(&answer, Asked::default());
        let read = response_head(text.as_bytes(), Asked::default(), &HeadLimits::default());
        let Ok(Parsed::Complete { head, length }) = read else {
            panic!("{status}: {read:?}");
        };
        assert_eq!(head.status(), status);
        // A status that cannot have a body is not one that we answer with.
        if !matches!(status, 204 | 304) {
            let body = (text.len() - length) as u64;
            assert_eq!(head.body(), ResponseBody::Length(body), "{status}");
        }
    }
}

#[test]
fn a_refused_method_names_those_that_are_not() {
    let text = written(&Answer::from(Refusal::Trace), Asked::default());
    assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    assert!(text.contains("\r\nAllow: GET, HEAD, "));
}
