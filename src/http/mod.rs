//! Decides what the bytes of HTTP/1 mean and which bytes answer them; no I/O, no clock, no log.
//!
//! Bytes in, heads and framing out; heads in, bytes out. One reading only: what two readers could
//! understand differently is refused ([`Refusal`]) and never forwarded. Nothing here knows sockets,
//! workers or configuration.

pub mod answer;
mod chunked;
mod fields;
mod forward_request;
mod forward_response;
mod framing;
mod head;
mod limits;
mod line;
mod name;
mod peer;
mod preface;
mod proxy;
mod refusal;
mod request;
mod response;
mod syntax;
mod target;
mod trust;
mod write;

pub use chunked::{Chunk, Chunked, write_end, write_size};
pub use fields::{Field, Fields};
pub use forward_request::{
    Expectation, ForwardedField, Forwarding, Scheme, Trust, forward_request,
};
pub use forward_response::{Persistence, ResponseForwarding, Timing, forward_response};
pub use framing::{Framing, ResponseBody};
pub use head::{Asked, Method, Parsed, Upgrade, Version};
pub use limits::HeadLimits;
pub use line::LineFault;
pub use peer::peer_line;
pub use preface::Preface;
pub use proxy::{BadProxyHeader, ProxyAddresses, proxy_header};
pub use refusal::{BadResponse, FieldFault, Refusal};
pub use request::{RequestHead, RequestReader, request_head};
pub use response::{ResponseHead, ResponseReader, response_head};
pub use trust::{NotANetwork, TrustedPeers};

#[cfg(test)]
mod tests;
