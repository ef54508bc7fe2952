//! One row per abuse: what is sent, and the status and reason code that answer it.

use super::*;

/// The name of the row, the bytes, the status, the reason code.
type Row = (&'static str, &'static str, u16, &'static str);

/// With a head around it, each as the only thing wrong.
const FIELDS: &[Row] = &[
    (
        "length_then_encoding",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        400,
        "length_and_encoding",
    ),
    (
        "encoding_then_length",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        400,
        "length_and_encoding",
    ),
    (
        "length_0_and_encoding",
        "Content-Length: 0\r\ntransfer-encoding: chunked",
        400,
        "length_and_encoding",
    ),
    ("length_twice", "Content-Length: 5\r\nContent-Length: 6", 400, "length_repeated"),
    ("length_twice_equal", "Content-Length: 5\r\nContent-Length: 5", 400, "length_repeated"),
    ("length_list", "Content-Length: 5,5", 400, "length_invalid"),
    ("length_plus", "Content-Length: +5", 400, "length_invalid"),
    ("length_minus", "Content-Length: -5", 400, "length_invalid"),
    ("length_space_inside", "Content-Length: 5 5", 400, "length_invalid"),
    ("length_hex", "Content-Length: 0x5", 400, "length_invalid"),
    ("length_empty", "Content-Length:", 400, "length_invalid"),
    ("length_not_a_number", "Content-Length: five", 400, "length_invalid"),
    ("length_beyond_63_bits", "Content-Length: 9223372036854775808", 400, "length_invalid"),
    ("length_wraps_64_bits", "Content-Length: 18446744073709551621", 400, "length_invalid"),
    ("encoding_gzip", "Transfer-Encoding: gzip, chunked", 501, "encoding_unsupported"),
    ("encoding_identity", "Transfer-Encoding: identity", 501, "encoding_unsupported"),
    ("encoding_unknown", "Transfer-Encoding: xchunked", 501, "encoding_unsupported"),
    ("encoding_quoted", "Transfer-Encoding: \"chunked\"", 501, "encoding_unsupported"),
    ("encoding_empty", "Transfer-Encoding:", 501, "encoding_unsupported"),
    ("encoding_list_member", "Transfer-Encoding: ,chunked", 501, "encoding_unsupported"),
    ("encoding_parameter", "Transfer-Encoding: chunked;q=1", 501, "encoding_unsupported"),
    (
        "encoding_twice",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        400,
        "encoding_repeated",
    ),
    ("encoding_vertical_tab", "Transfer-Encoding: \x0bchunked", 400, "control_in_head"),
    ("encoding_space_before_colon", "Transfer-Encoding : chunked", 400, "field_space_before_colon"),
    ("folded", "X-A: 1\r\n folded", 400, "field_folded"),
    ("folded_by_tab", "X-A: 1\r\n\tfolded", 400, "field_folded"),
    ("folded_encoding", "Transfer-Encoding:\r\n chunked", 400, "field_folded"),
    ("bare_lf", "X-A: 1\nX-B: 2", 400, "bare_lf"),
    ("bare_cr", "X-A: 1\rX-B: 2", 400, "bare_cr"),
    ("two_crs", "X-A: 1\r\r\nX-B: 2", 400, "bare_cr"),
    ("nul_in_value", "X-A: a\0b", 400, "control_in_head"),
    ("nul_in_name", "X\0A: ab", 400, "control_in_head"),
    ("escape_in_value", "X-A: a\x1bb", 400, "control_in_head"),
    ("delete_in_value", "X-A: a\x7fb", 400, "control_in_head"),
    ("space_before_colon", "X-A : 1", 400, "field_space_before_colon"),
    ("tab_before_colon", "X-A\t: 1", 400, "field_space_before_colon"),
    ("name_empty", ": 1", 400, "field_name_empty"),
    ("name_with_space", "X A: 1", 400, "field_name_invalid"),
    ("name_with_at", "X@A: 1", 400, "field_name_invalid"),
    ("name_not_ascii", "X-Ä: 1", 400, "field_name_invalid"),
    ("name_with_parentheses", "(X): 1", 400, "field_name_invalid"),
    ("no_colon", "X-A", 400, "field_no_colon"),
    ("no_colon_but_space", "X A", 400, "field_no_colon"),
    ("second_host", "Host: b", 400, "host_repeated"),
    ("second_host_equal", "Host: a", 400, "host_repeated"),
];

/// Whole heads.
const HEADS: &[Row] = &[
    ("host_missing", "GET / HTTP/1.1\r\n\r\n", 400, "host_missing"),
    ("host_with_path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "host_invalid"),
    ("host_with_user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "host_invalid"),
    ("host_list", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400, "host_invalid"),
    ("host_space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "host_invalid"),
    ("host_markup", "GET / HTTP/1.1\r\nHost: <a>\r\n\r\n", 400, "host_invalid"),
    ("host_port_letters", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400, "host_invalid"),
    ("host_port_large", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400, "host_invalid"),
    ("host_bracket_open", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, "host_invalid"),
    ("host_bracket_tail", "GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", 400, "host_invalid"),
    ("host_not_ascii", "GET / HTTP/1.1\r\nHost: ä\r\n\r\n", 400, "host_invalid"),
    ("old_host_twice", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, "host_repeated"),
    (
        "old_encoding",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        "encoding_in_old_version",
    ),
    ("old_request", "GET /\r\n", 400, "version_invalid"),
    ("version_0_9", "GET / HTTP/0.9\r\n\r\n", 505, "version_unsupported"),
    ("version_1_2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, "version_unsupported"),
    ("version_2_0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version_unsupported"),
    ("preface_late", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version_unsupported"),
    ("version_lower_case", "GET / http/1.1\r\nHost: a\r\n\r\n", 400, "version_invalid"),
    ("version_long", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400, "version_invalid"),
    ("version_space_after", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "version_invalid"),
    ("two_targets", "GET /a /b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "version_invalid"),
    ("two_spaces_first", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "request_line_invalid"),
    ("two_spaces_second", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400, "version_invalid"),
    ("space_first", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "method_invalid"),
    ("no_space", "GET\r\n\r\n", 400, "request_line_invalid"),
    ("tab_for_space", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400, "request_line_invalid"),
    ("method_colon", "Host: a HTTP/1.1\r\n\r\n", 400, "method_invalid"),
    ("method_long", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n", 501, "method_too_long"),
    ("connect", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501, "connect_refused"),
    ("trace", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "trace_refused"),
    ("target_fragment", "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_fragment"),
    ("target_tab", "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_invalid"),
    ("target_nul", "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "control_in_head"),
    ("target_delete", "GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n", 400, "control_in_head"),
    ("target_relative", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_form"),
    ("target_asterisk", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_form"),
    ("target_authority", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_form"),
    ("target_query_only", "GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_form"),
    ("target_user", "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_authority"),
    ("target_no_host", "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_authority"),
    ("target_scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_authority"),
    ("leading_lines", "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "leading_lines"),
    ("leading_lf", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bare_lf"),
    ("lf_only", "GET / HTTP/1.1\nHost: a\n\n", 400, "bare_lf"),
    ("lf_closes_head", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "bare_lf"),
    ("folded_first_field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "field_folded"),
    ("tls_greeting", "\x16\x03\x01\x02\0\x01\0\x01", 400, "control_in_head"),
    ("bare_cr_unfinished", "GET / HTTP/1.1\rHost", 400, "bare_cr"),
];

#[test]
fn each_abuse_is_refused_with_its_own_reason() {
    let mut wrong = String::new();
    let mut check = |name: &str, bytes: &[u8], status: u16, code: &str| match request_head(
        bytes,
        &HeadLimits::default(),
    ) {
        Err(refusal) if (refusal.status(), refusal.code()) == (status, code) => {}
        other => wrong.push_str(&format!("{name}: {other:?}\n")),
    };
    for (name, fields, status, code) in FIELDS {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\nX-Z: 1\r\n\r\n");
        check(name, head.as_bytes(), *status, code);
        let last = format!("POST / HTTP/1.1\r\nHost: a\r\nX-Z: 1\r\n{fields}\r\n\r\n");
        check(name, last.as_bytes(), *status, code);
    }
    for (name, head, status, code) in HEADS {
        check(name, head.as_bytes(), *status, code);
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn what_looks_odd_and_has_one_reading_is_served() {
    let rows: &[(&str, &str)] = &[
        ("two_leading_lines", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("old_without_host", "GET / HTTP/1.0\r\n\r\n"),
        ("host_empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        ("host_v6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
        ("host_underscore", "GET / HTTP/1.1\r\nHost: my_app\r\n\r\n"),
        ("no_space_after_colon", "GET / HTTP/1.1\r\nHost:a\r\nX:1\r\n\r\n"),
        ("value_empty", "GET / HTTP/1.1\r\nHost: a\r\nX-A:\r\n\r\n"),
        ("value_latin_1", "GET / HTTP/1.1\r\nHost: a\r\nX-A: ä\tö\r\n\r\n"),
        ("target_utf_8", "GET /ä?ö HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("target_markup", "GET /<\"{|}\\^`> HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("target_double_slash", "GET //a//b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("options_asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("method_unknown", "PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("encoding_upper_case", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n"),
        ("get_with_body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"),
    ];
    for (name, bytes) in rows {
        let served = request_head(bytes.as_bytes(), &HeadLimits::default());
        assert!(matches!(served, Ok(Parsed::Complete { .. })), "{name}: {served:?}");
    }
}

#[test]
fn a_target_that_is_no_utf8_is_refused() {
    let read = request_head(b"GET /a\x9db HTTP/1.1\r\nHost: a\r\n\r\n", &HeadLimits::default());
    assert_eq!(read.err(), Some(Refusal::TargetInvalid));
}

#[test]
fn bounds_are_exact_and_each_has_its_status() {
    let head = b"GET /123456789 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\n\r\n";
    let exact = HeadLimits { bytes: head.len(), fields: 3, target: 10 };
    let refused = |limits| request_head(head, &limits).err().map(|r| (r.status(), r.code()));
    assert_eq!(refused(exact), None);
    let bytes = HeadLimits { bytes: head.len() - 1, ..exact };
    assert_eq!(refused(bytes), Some((431, "head_too_large")));
    assert_eq!(refused(HeadLimits { fields: 2, ..exact }), Some((431, "too_many_fields")));
    assert_eq!(refused(HeadLimits { target: 9, ..exact }), Some((414, "target_too_long")));
}

#[test]
fn an_endless_head_is_refused_before_it_ends() {
    let limits = HeadLimits::default();
    let code = |bytes: &[u8]| request_head(bytes, &limits).err().map(Refusal::code);
    let target = format!("GET /{}", "a".repeat(limits.target + 100));
    assert_eq!(code(target.as_bytes()), Some("target_too_long"));
    let field = format!("GET / HTTP/1.1\r\nX-A: {}", "a".repeat(limits.bytes));
    assert_eq!(code(field.as_bytes()), Some("head_too_large"));
    let fields = format!("GET / HTTP/1.1\r\n{}", "X-A: 1\r\n".repeat(101));
    assert_eq!(code(fields.as_bytes()), Some("too_many_fields"));
    let lines = "\r\n".repeat(3);
    assert_eq!(code(lines.as_bytes()), Some("leading_lines"));
}

#[test]
fn a_worker_that_breaks_the_rules_gives_a_502() {
    let rows: &[(&str, &str, &str)] = &[
        ("status_line_empty", "\r\n", "response_status_line"),
        ("status_line_of_1_2", "HTTP/1.2 200 OK\r\n", "response_status_line"),
        ("status_below_100", "HTTP/1.1 099 No\r\n", "response_status_line"),
        ("status_of_4_digits", "HTTP/1.1 2000 OK\r\n", "response_status_line"),
        ("length_differs", "Content-Length: 1\r\nContent-Length: 2", "response_length_invalid"),
        ("length_signed", "Content-Length: -1", "response_length_invalid"),
        ("encoding_gzip", "Transfer-Encoding: gzip, chunked", "response_encoding_unsupported"),
        ("folded", "X-A: 1\r\n 2", "response_field_invalid"),
        ("bare_lf", "X-A: 1\nX-B: 2", "response_line_invalid"),
        ("bare_cr", "X-A: 1\rX-B: 2", "response_line_invalid"),
        ("name_with_space", "X A: 1", "response_field_invalid"),
    ];
    for (name, text, code) in rows {
        let is_line = text.ends_with("\r\n");
        let head = if is_line {
            format!("{text}\r\n")
        } else {
            format!("HTTP/1.1 200 OK\r\n{text}\r\n\r\n")
        };
        let read = response_head(head.as_bytes(), Asked::default(), &HeadLimits::default());
        assert_eq!(read.as_ref().err().map(|bad| bad.code()), Some(*code), "{name}: {read:?}");
    }
    let switching = response_head(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        Asked::default(),
        &HeadLimits::default(),
    );
    assert_eq!(switching.err(), Some(BadResponse::UnaskedUpgrade));
}
