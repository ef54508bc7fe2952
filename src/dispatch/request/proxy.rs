//! Reads the PROXY header that begins a connection where it is configured, and believes it only of
//! trusted peers.

use super::client::{Bytes, Client};
use super::front::Front;
use crate::clock;
use crate::http::{BadProxyHeader, Parsed, Trust, proxy_header};

/// Why a connection is closed before its first request, without an answer: it may not be HTTP.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum NotIntroduced {
    #[error("the peer is none of trusted_proxies")]
    Untrusted,
    #[error(transparent)]
    Bad(#[from] BadProxyHeader),
    #[error("the connection ended, or too much time passed, before its PROXY header")]
    Gone,
}

/// Reads the header, within the time for a request's head; the client is then whom it names.
pub(super) async fn introduce(front: &Front, client: &mut Client) -> Result<(), NotIntroduced> {
    match front.trust(client.peer) {
        Trust::Trusted => {}
        Trust::Untrusted => return Err(NotIntroduced::Untrusted),
    }
    let deadline = clock::now() + front.settings.timeouts.header_read;
    loop {
        match client.fill(front, deadline).await {
            Bytes::Arrived => {}
            Bytes::Gone | Bytes::TimedOut => return Err(NotIntroduced::Gone),
        }
        match proxy_header(&client.unread)? {
            Parsed::Complete { head, length } => {
                client.unread.drain(..length);
                // Without a name it is the balancer itself, which looks whether we live.
                if let Some(named) = head {
                    client.peer = Some(named.source);
                }
                return Ok(());
            }
            Parsed::Incomplete => {}
        }
    }
}
