//! Carries one HTTP/2 stream to the front and back: as a client of its own, on a pipe that speaks
//! HTTP/1.1.
//!
//! So a stream meets the same reader, limits, queue, lease, timeouts and answers as any other
//! request. What only HTTP/2 has is flow control: a stream whose client does not read fills its
//! pipe, and from there on is a slow client.

use std::future::poll_fn;
use std::io;

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Request;

use super::h2_head::{self, BodyFollows};
use super::stream::Stream;
use crate::http::{
    Asked, Chunk, Chunked, HeadLimits, Method, Parsed, ResponseBody, ResponseHead, ResponseReader,
};

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

/// Carries a request to the front, and the front's response back.
pub(super) async fn carry(
    pipe: Stream,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Ended {
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
    let down = receive_response(&pipe, asked, &mut respond);
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

async fn receive_response(pipe: &Stream, asked: Asked, respond: &mut SendResponse<Bytes>) -> Ended {
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
    let mut body = Body::new(head.body());
    let Ok(mut out) = respond.send_response(response, body.is_done()) else {
        return Ended::Cancelled;
    };
    loop {
        if body.is_done() {
            return Ended::Answered;
        }
        match send_body(&mut body, &mut inbox, &mut out).await {
            Err(ended) => return ended,
            Ok(()) if body.is_done() => return Ended::Answered,
            Ok(()) => {}
        }
        let read = tokio::select! {
            biased;
            read = read_more(pipe, &mut inbox) => read,
            _ = poll_fn(|context| out.poll_reset(context)) => return Ended::Cancelled,
        };
        if read == 0 && body.end() {
            let _ = out.send_data(Bytes::new(), true);
        } else if read == 0 {
            out.send_reset(Reason::INTERNAL_ERROR);
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

/// Sends what is here of a body, as the client's window allows.
async fn send_body(
    body: &mut Body,
    inbox: &mut Vec<u8>,
    out: &mut SendStream<Bytes>,
) -> Result<(), Ended> {
    let arrived = std::mem::take(inbox);
    let mut rest = arrived.as_slice();
    while !rest.is_empty() && !body.is_done() {
        match body.next(&mut rest) {
            Piece::Nothing => {}
            Piece::Data(data) => {
                let is_last = body.is_done();
                send_data(Bytes::copy_from_slice(data), is_last, out).await?;
            }
            Piece::End(trailers) if trailers.is_empty() => {
                out.send_data(Bytes::new(), true).map_err(|_| Ended::Cancelled)?;
            }
            Piece::End(trailers) => {
                out.send_trailers(trailers).map_err(|_| Ended::Cancelled)?;
            }
            Piece::Broken => {
                out.send_reset(Reason::INTERNAL_ERROR);
                return Err(Ended::Failed);
            }
        }
    }
    Ok(())
}

async fn send_data(
    mut data: Bytes,
    is_last: bool,
    out: &mut SendStream<Bytes>,
) -> Result<(), Ended> {
    while data.has_remaining() {
        out.reserve_capacity(data.len());
        let room = match poll_fn(|context| out.poll_capacity(context)).await {
            Some(Ok(room)) => room,
            Some(Err(_)) | None => return Err(Ended::Cancelled),
        };
        let piece = data.split_to(room.min(data.len()));
        let ends = is_last && data.is_empty();
        out.send_data(piece, ends).map_err(|_| Ended::Cancelled)?;
    }
    Ok(())
}

/// What is left of a response's body.
enum Body {
    Done,
    Length(u64),
    Chunked(Box<Chunked>),
    UntilClose,
}

/// The next of a body.
enum Piece<'a> {
    /// Framing only.
    Nothing,
    Data(&'a [u8]),
    End(http::HeaderMap),
    Broken,
}

impl Body {
    fn new(body: ResponseBody) -> Self {
        match body {
            ResponseBody::None | ResponseBody::Length(0) => Self::Done,
            ResponseBody::Length(length) => Self::Length(length),
            ResponseBody::Chunked => Self::Chunked(Box::default()),
            ResponseBody::UntilClose => Self::UntilClose,
        }
    }

    fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// The pipe ended; whether the body may.
    fn end(&mut self) -> bool {
        let may_end = matches!(self, Self::UntilClose);
        if may_end {
            *self = Self::Done;
        }
        may_end
    }

    /// Takes the next of `rest`, which is not empty.
    fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Piece<'a> {
        match self {
            Self::Done => Piece::Nothing,
            Self::UntilClose => Piece::Data(std::mem::take(rest)),
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                let (data, after) = rest.split_at(count);
                *left -= count as u64;
                *rest = after;
                if *left == 0 {
                    *self = Self::Done;
                }
                Piece::Data(data)
            }
            Self::Chunked(chunked) => match chunked.next(rest) {
                Err(_) => Piece::Broken,
                Ok(Chunk::Incomplete) => {
                    *rest = &[];
                    Piece::Nothing
                }
                Ok(Chunk::Data { skip, length }) => {
                    let data = &rest[skip..skip + length];
                    *rest = &rest[skip + length..];
                    Piece::Data(data)
                }
                Ok(Chunk::End { consumed, trailers }) => {
                    *rest = &rest[consumed..];
                    *self = Self::Done;
                    Piece::End(h2_head::headers(&trailers))
                }
            },
        }
    }
}
