//! The keys of request mode, of health and of metrics.

use super::Change::{Reload, Restart};
use super::Example::{Default, Unset};
use super::{Key, key};

/// In the order of the example file; keys of one table stand together.
pub(super) const KEYS: [Key; 24] = [
    key(
        "timeouts.header_read",
        "A request's head must be whole this long after its first byte; else 408. 10s outlasts\n\
         three lost packets in a row (1s + 2s + 4s) and is all that a slow head can cost.",
        "duration, 100ms to 10m",
        Default("\"10s\""),
        Reload,
    ),
    key(
        "timeouts.body_idle",
        "The longest pause within a request's body; else 408.",
        "duration, 100ms to 1h",
        Default("\"10s\""),
        Reload,
    ),
    key(
        "timeouts.connect",
        "A worker's own listener must take a connection within this; else another is tried.",
        "duration, 10ms to 1m",
        Default("\"5s\""),
        Reload,
    ),
    key(
        "timeouts.response_head",
        "From the end of the request to the head of the response; else 504.",
        "duration, 100ms to 1day",
        Default("\"1m\""),
        Reload,
    ),
    key(
        "timeouts.response_idle",
        "The longest pause within a response's body, be it the worker's or the client's; event\n\
         streams may pause for ever.",
        "duration, 100ms to 1day",
        Default("\"1m\""),
        Reload,
    ),
    key(
        "timeouts.keep_alive",
        "How long a client's connection may stay without a request. A balancer that reuses one\n\
         just then answers 502: 75s is above the 60s of ALB and ingress-nginx; Google's is 620s.\n\
         Never shorter than the app's own, as it says in Keep-Alive (Node: keepAliveTimeout).",
        "duration, 1s to 1day",
        Default("\"75s\""),
        Reload,
    ),
    key(
        "limits.head_bytes",
        "A request's line and fields together; else 431.",
        "size, 1KiB to 1MiB",
        Default("\"32KiB\""),
        Reload,
    ),
    key(
        "limits.head_fields",
        "Fields of one request; else 431.",
        "1 to 1000",
        Default("100"),
        Reload,
    ),
    key(
        "limits.body_bytes",
        "A request's body; else 413.",
        "size, 0B to 1024GiB, or \"off\"",
        Default("\"off\""),
        Reload,
    ),
    key(
        "limits.request_buffer",
        "How much of a request's body is read before a worker is asked for.",
        "size, 0B to 16MiB",
        Default("\"64KiB\""),
        Reload,
    ),
    key(
        "limits.response_buffer",
        "How much of one response is read ahead of a slow client, so that its worker is free.",
        "size, 4KiB to 1GiB",
        Default("\"1MiB\""),
        Reload,
    ),
    key(
        "limits.response_buffer_total",
        "How much of all responses; when it is spent, workers wait for their clients.",
        "size, 64KiB to 1024GiB, not below limits.response_buffer",
        Default("\"64MiB\""),
        Reload,
    ),
    key(
        "shed.page",
        "A file for clients that nobody serves, its type by its ending; unset: a line of text.",
        "a path, relative to this file",
        Unset("\"busy.html\""),
        Reload,
    ),
    key("shed.status", "With this status.", "200 to 599", Default("503"), Reload),
    key(
        "shed.retry_after_min",
        "Retry-After is drawn anew for each answer, so that clients do not return in step.",
        "whole seconds, 1s to 1h",
        Default("\"1s\""),
        Reload,
    ),
    key(
        "shed.retry_after_max",
        "The longest Retry-After.",
        "whole seconds, 1s to 1h, not below shed.retry_after_min",
        Default("\"10s\""),
        Reload,
    ),
    key(
        "headers.server_timing",
        "Adds how long a request waited and ran: Server-Timing: queue;dur=0, app;dur=12.",
        "true or false",
        Default("true"),
        Reload,
    ),
    key(
        "headers.request_id",
        "Adds X-Request-Id, made here unless a trusted proxy sent one.",
        "true or false",
        Default("true"),
        Reload,
    ),
    key(
        "headers.forwarded",
        "Adds Forwarded (RFC 7239) to requests, or appends to a trusted proxy's; else its own\n\
         passes as it is.",
        "true or false",
        Default("false"),
        Reload,
    ),
    key("headers.via", "Adds Via, both ways.", "true or false", Default("false"), Reload),
    key(
        "headers.proxy_status",
        "Adds Proxy-Status (RFC 9209), the reason, to tenfold's own answers.",
        "true or false",
        Default("false"),
        Reload,
    ),
    key(
        "health.public",
        "Paths that answer readiness on the public listeners, without queue or worker.",
        "a list of paths",
        Default("[]"),
        Reload,
    ),
    key(
        "health.ready_min",
        "Workers that must have been ready once for /startupz; auto: half of them, at least 1.",
        "1 to 256 or \"auto\"",
        Default("\"auto\""),
        Reload,
    ),
    key(
        "metrics.app",
        "Each worker's own metrics, shown with a slot label at /metrics/app of the admin address.",
        "a path",
        Unset("\"/metrics\""),
        Restart,
    ),
];
