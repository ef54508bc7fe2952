//! Translates heads between HTTP/2 and the HTTP/1.1 that the front reads and writes.
//!
//! Nothing is judged here: a request that is not in order becomes a head that is not in order in
//! the same way, and the front's one reader refuses it.

use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::http::{Fields, ResponseHead};

/// Whether a request's body follows its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFollows {
    /// As it is: its length is in the head.
    Plain,
    /// In chunks.
    Chunks,
    No,
}

/// Appends a request's head as HTTP/1.1.
pub(super) fn request_head(parts: &http::request::Parts, body: BodyFollows, out: &mut Vec<u8>) {
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    let target = match parts.uri.path_and_query() {
        Some(path) if parts.method != http::Method::CONNECT => path.as_str(),
        Some(_) | None => authority.unwrap_or_default(),
    };
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let is_same = |host: &HeaderValue| Some(host.as_bytes()) == authority.map(str::as_bytes);
    if let Some(authority) = authority {
        push(out, b"host", authority.as_bytes());
    }
    for (name, value) in &parts.headers {
        // `:authority` is the same thing (RFC 9113 §8.3.1); two that differ are two hosts.
        let is_told = *name == COOKIE || (*name == HOST && is_same(value));
        if !is_told {
            push(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    let crumbs: Vec<&[u8]> =
        parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if !crumbs.is_empty() {
        // RFC 9113 §8.2.3.
        push(out, b"cookie", &crumbs.join(&b"; "[..]));
    }
    match body {
        BodyFollows::Chunks => push(out, b"transfer-encoding", b"chunked"),
        BodyFollows::Plain | BodyFollows::No => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// How the body of a request goes on that has ended, or not, with its head.
pub(super) fn body_follows(headers: &HeaderMap, has_ended: bool) -> BodyFollows {
    match (headers.contains_key(CONTENT_LENGTH), has_ended) {
        (_, true) => BodyFollows::No,
        (true, false) => BodyFollows::Plain,
        (false, false) => BodyFollows::Chunks,
    }
}

/// A response's head for HTTP/2: without what is about an HTTP/1 connection.
pub(super) fn response_head(head: &ResponseHead) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status()).ok()?;
    *response.headers_mut() = headers(head.fields());
    Some(response)
}

/// Fields as HTTP/2 has them: in lower case, without those about an HTTP/1 connection.
pub(super) fn headers(fields: &Fields) -> HeaderMap {
    const OF_CONNECTIONS: [&str; 5] =
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    let mut headers = HeaderMap::new();
    for field in fields.iter() {
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value))
        else {
            // No field that the front lets pass is like that.
            continue;
        };
        if !OF_CONNECTIONS.contains(&name.as_str()) {
            headers.append(name, value);
        }
    }
    headers
}

/// Appends fields that follow a body, and the empty line after them.
pub(super) fn trailers(trailers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in trailers {
        push(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, fields: &[(&str, &str)], body: BodyFollows) -> String {
        let mut builder = http::Request::builder().uri(uri);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let (parts, ()) = builder.body(()).expect("a request").into_parts();
        let mut out = Vec::new();
        request_head(&parts, body, &mut out);
        String::from_utf8(out).expect("it is text")
    }

    #[test]
    fn authority_is_the_host() {
        let plain = head("http://a.example/x?y=1", &[("accept", "*/*")], BodyFollows::No);
        assert_eq!(plain, "GET /x?y=1 HTTP/1.1\r\nhost: a.example\r\naccept: */*\r\n\r\n");
        let twice = head("http://a.example/", &[("host", "a.example")], BodyFollows::No);
        assert_eq!(twice, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
        let differing = head("http://a.example/", &[("host", "b")], BodyFollows::No);
        assert_eq!(differing.matches("host: ").count(), 2, "refused by the front");
    }

    #[test]
    fn cookies_are_one_field_again() {
        let crumbs = [("cookie", "a=1"), ("cookie", "b=2")];
        let joined = head("http://a/", &crumbs, BodyFollows::No);
        assert!(joined.contains("cookie: a=1; b=2\r\n"), "{joined}");
    }

    #[test]
    fn body_without_a_length_goes_in_chunks() {
        let mut headers = HeaderMap::new();
        assert_eq!(body_follows(&headers, true), BodyFollows::No);
        assert_eq!(body_follows(&headers, false), BodyFollows::Chunks);
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        assert_eq!(body_follows(&headers, false), BodyFollows::Plain);
        let chunked = head("http://a/", &[], BodyFollows::Chunks);
        assert!(chunked.ends_with("transfer-encoding: chunked\r\n\r\n"), "{chunked}");
    }
}
