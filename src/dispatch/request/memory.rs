//! The most memory that request mode holds for its clients: the sum of its bounds, as
//! docs/OPERATIONS.md publishes it.

use super::budget::FREE_BYTES;
use super::front::SCRATCH;
use super::h2;
use super::rules::WORKER_HEAD;
use super::upload::AHEAD;
use crate::config::RequestLimits;

/// A connection without a request, in bytes: 2,200 were measured, and the allocator rounds up.
const CONNECTION: u64 = 8 * 1024;
/// One field of a parsed head beside its bytes: where its name and value lie.
const FIELD: u64 = 64;
/// A vector that is appended to has up to this many times what it holds.
const GROWTH: u64 = 2;

/// How many of each there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowd {
    /// Connections and streams of clients.
    pub(crate) clients: u64,
    /// Requests that wait or that a worker has.
    pub(crate) exchanges: u64,
}

/// Bytes that this crowd may make the master hold, each of them doing its worst; the kernel's
/// socket buffers are not among them.
#[must_use]
pub(crate) fn most_memory(limits: &RequestLimits, crowd: Crowd) -> u64 {
    let Crowd { clients, exchanges } = crowd;
    let clients = clients.saturating_mul(per_client(limits));
    let exchanges = exchanges.saturating_mul(per_exchange(limits));
    clients.saturating_add(exchanges).saturating_add(limits.response_buffer_total as u64)
}

/// What was read of a client and not used: a head, or requests sent ahead, and one more read. One
/// that speaks HTTP/2 may fill its window instead.
fn per_client(limits: &RequestLimits) -> u64 {
    let unread = GROWTH * (limits.head_bytes.max(AHEAD) + SCRATCH) as u64;
    CONNECTION + unread.max(u64::from(h2::WINDOW))
}

/// A head as it came and as it goes on; its body read ahead, and a piece on its way; the head of
/// the response, and what a response may hold without asking.
fn per_exchange(limits: &RequestLimits) -> u64 {
    let head = 2 * GROWTH * limits.head_bytes as u64 + FIELD * limits.head_fields as u64;
    let body = GROWTH * (limits.request_buffer + 2 * SCRATCH) as u64;
    let response = GROWTH * WORKER_HEAD as u64 + FREE_BYTES as u64;
    head + body + response
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn every_bound_has_its_part() {
        let limits = RequestLimits {
            head_bytes: 32 * 1024,
            head_fields: 100,
            body_bytes: None,
            request_buffer: 64 * 1024,
            response_buffer: 1 << 20,
            response_buffer_total: 64 << 20,
        };
        let crowd = |clients, exchanges| Crowd { clients, exchanges };
        assert_eq!(most_memory(&limits, crowd(0, 0)), 64 * MIB);
        assert_eq!(most_memory(&limits, crowd(1, 0)) - 64 * MIB, 8 * 1024 + MIB);
        let exchange = most_memory(&limits, crowd(0, 1)) - 64 * MIB;
        assert_eq!(exchange, (128 + 384 + 512 + 8) * 1024 + 6400);
        let wider = RequestLimits { head_bytes: 1 << 20, request_buffer: 1 << 24, ..limits };
        assert_eq!(most_memory(&wider, crowd(1, 0)) - 64 * MIB, 8 * 1024 + 2 * (MIB + 64 * 1024));
        assert!(most_memory(&wider, crowd(0, 1)) > 64 * MIB + 32 * MIB);
        assert_eq!(most_memory(&limits, crowd(u64::MAX, 1)), u64::MAX);
    }
}
