//! Carries one HTTP/2 stream to the front and back: as a client of its own, on a pipe that speaks
//! HTTP/1.1.
//!
//! So a stream meets the same reader, limits, queue, lease, timeouts and answers as any other
//! request. What only HTTP/2 has is flow control: a stream whose client does not read fills its
//! pipe, and from there on is a slow client.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Request;

use super::h2_head::{self, BodyFollows};
use super::stream::Stream;
use super::unframe::{Piece, Unframed};
use crate::http::{Asked, HeadLimits, Method, Parsed, ResponseHead, ResponseReader};

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a whole response.
    Answered,
    /// Its client took it back.
    Cancelled,
    /// Without a whole response.
    Failed,
}

/// How much of a response is read at once: one frame of usual size.
const PIECE: usize = 16 * 1024;

/// What is added to a worker's head on its way through the front, at most, and what it may have.
const HEAD: HeadLimits = HeadLimits { bytes: 512 * 1024, fields: 1100, target: 0 };

/// Carries a request to the front, and the front's response back, as long as the client takes some
/// of it within each `patience`.
pub(super) async fn carry(
    pipe: Stream,
    stream: (Request<RecvStream>, SendResponse<Bytes>),
    patience: Duration,
) -> Ended {
    let (request, mut respond) = stream;
    let (parts, body) = request.into_parts();
    let follows = h2_head::body_follows(&parts.headers, body.is_end_stream());
    let mut head = Vec::with_capacity(512);
    h2_head::request_head(&parts, follows, &mut head);
    let method = if parts.method == http::Method::HEAD { Method::Head } else { Method::Get };
    let asked = Asked { method, ..Asked::default() };
    let up = async {
        let sent = send_request(&pipe, &head, (body, follows)).await;
        if sent.is_ok() {
            // The client has said all; whether it stays shows where the response goes.
            std::future::pending::<()>().await;
        }
    };
    let down = receive_response(&pipe, asked, (&mut respond, patience));
    tokio::select! {
        biased;
        ended = down => ended,
        // Its body broke off: so does the request.
        () = up => Ended::Cancelled,
    }
}

async fn send_request(
    pipe: &Stream,
    head: &[u8],
    body: (RecvStream, BodyFollows),
) -> io::Result<()> {
    let (mut body, follows) = body;
    pipe.write_all(head).await?;
    let mut framed = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(io::Error::other)?;
        match follows {
            BodyFollows::Chunks if !data.is_empty() => {
                framed.clear();
                super::body::write_chunk(&mut framed, &data);
                pipe.write_all(&framed).await?;
            }
            BodyFollows::Plain => pipe.write_all(&data).await?,
            BodyFollows::Chunks | BodyFollows::No => {}
        }
        // The client may send as much again only now: what waits in the pipe is all there is.
        body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
    }
    if follows == BodyFollows::Chunks {
        framed.clear();
        framed.extend_from_slice(b"0\r\n");
        let trailers = body.trailers().await.map_err(io::Error::other)?;
        h2_head::trailers(&trailers.unwrap_or_default(), &mut framed);
        pipe.write_all(&framed).await?;
    }
    Ok(())
}

/// Waits until the client takes the stream back.
async fn reset(respond: &mut SendResponse<Bytes>) {
    // An error is the end of the whole connection.
    let _ = poll_fn(|context| respond.poll_reset(context)).await;
}

async fn receive_response(
    pipe: &Stream,
    asked: Asked,
    to: (&mut SendResponse<Bytes>, Duration),
) -> Ended {
    let (respond, patience) = to;
    let mut inbox = Vec::new();
    let head = loop {
        let read = tokio::select! {
            biased;
            read = read_head(pipe, asked, &mut inbox) => read,
            () = reset(respond) => return Ended::Cancelled,
        };
        let Some(head) = read else {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Ended::Failed;
        };
        if !head.is_informational() {
            break head;
        }
        // Hints that the client does not take are no loss.
        let _ = h2_head::response_head(&head).map(|head| respond.send_informational(head));
    };
    let Some(response) = h2_head::response_head(&head) else {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return Ended::Failed;
    };
    let mut body = Unframed::new(head.body());
    let Ok(stream) = respond.send_response(response, body.is_done()) else {
        return Ended::Cancelled;
    };
    // As with HTTP/1: who listens for events may be slow for as long as it stays.
    let patience = (!head.is_event_stream()).then_some(patience);
    let mut out = Outbound { stream, patience };
    loop {
        if body.is_done() {
            return Ended::Answered;
        }
        match out.send(&mut body, &mut inbox).await {
            Err(NotSent::Cancelled) => return Ended::Cancelled,
            Err(NotSent::Failed) => return Ended::Failed,
            Err(NotSent::TooSlow) => {
                pipe.lose_patience();
                return Ended::Failed;
            }
            Ok(()) if body.is_done() => return Ended::Answered,
            Ok(()) => {}
        }
        let read = tokio::select! {
            biased;
            read = read_more(pipe, &mut inbox) => read,
            _ = poll_fn(|context| out.stream.poll_reset(context)) => return Ended::Cancelled,
        };
        if read == 0 && body.end() {
            let _ = out.stream.send_data(Bytes::new(), true);
        } else if read == 0 {
            out.stream.send_reset(Reason::INTERNAL_ERROR);
            return Ended::Failed;
        }
    }
}

/// Reads one head; none if the front ended without one.
async fn read_head(pipe: &Stream, asked: Asked, inbox: &mut Vec<u8>) -> Option<ResponseHead> {
    let mut reader = ResponseReader::new(asked, HEAD);
    loop {
        if !inbox.is_empty()
            && let Parsed::Complete { head, length } = reader.read(inbox).ok()?
        {
            inbox.drain(..length);
            return Some(head);
        }
        if read_more(pipe, inbox).await == 0 {
            return None;
        }
    }
}

/// Reads what comes next; 0 is the end. Cancel-safe.
async fn read_more(pipe: &Stream, inbox: &mut Vec<u8>) -> usize {
    let mut piece = [0; PIECE];
    loop {
        match pipe.try_read(&mut piece) {
            Ok(count) => {
                inbox.extend_from_slice(&piece[..count]);
                return count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if pipe.readable().await.is_err() {
                    return 0;
                }
            }
            Err(_) => return 0,
        }
    }
}

/// Where a response goes.
struct Outbound {
    stream: SendStream<Bytes>,
    /// How long the client may take none of it; none: as long as it likes.
    patience: Option<Duration>,
}

/// Why no more of a response can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotSent {
    /// The client took the stream back.
    Cancelled,
    /// The client took none of it for too long.
    TooSlow,
    /// What the front sent is no response.
    Failed,
}

impl Outbound {
    /// Sends what is here of a body, as the client's window allows.
    async fn send(&mut self, body: &mut Unframed, inbox: &mut Vec<u8>) -> Result<(), NotSent> {
        let arrived = std::mem::take(inbox);
        let mut rest = arrived.as_slice();
        while !rest.is_empty() && !body.is_done() {
            match body.next(&mut rest) {
                Ok(Piece::Nothing) => {}
                Ok(Piece::Data(data)) => {
                    let is_last = body.is_done();
                    self.send_data(Bytes::copy_from_slice(data), is_last).await?;
                }
                Ok(Piece::End(trailers)) => {
                    let trailers = h2_head::headers(&trailers);
                    let sent = match trailers.is_empty() {
                        true => self.stream.send_data(Bytes::new(), true),
                        false => self.stream.send_trailers(trailers),
                    };
                    sent.map_err(|_| NotSent::Cancelled)?;
                }
                Err(_) => {
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Err(NotSent::Failed);
                }
            }
        }
        Ok(())
    }

    async fn send_data(&mut self, mut data: Bytes, is_last: bool) -> Result<(), NotSent> {
        while data.has_remaining() {
            self.stream.reserve_capacity(data.len());
            let room = self.room().await?;
            let piece = data.split_to(room.min(data.len()));
            let ends = is_last && data.is_empty();
            self.stream.send_data(piece, ends).map_err(|_| NotSent::Cancelled)?;
        }
        Ok(())
    }

    /// Waits until the client takes more, and how much.
    async fn room(&mut self) -> Result<usize, NotSent> {
        let room = poll_fn(|context| self.stream.poll_capacity(context));
        let room = match self.patience {
            Some(patience) => tokio::time::timeout(patience, room).await,
            None => Ok(room.await),
        };
        match room {
            Ok(Some(Ok(room))) => Ok(room),
            Ok(Some(Err(_)) | None) => Err(NotSent::Cancelled),
            Err(_) => {
                self.stream.send_reset(Reason::CANCEL);
                Err(NotSent::TooSlow)
            }
        }
    }
}
