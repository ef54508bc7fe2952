//! A request's body on its way to a worker: taken from what the client sent, framed as it goes on.

use crate::http::{Chunk, Chunked, Framing, Refusal, write_end, write_size};

/// What is left of a request's body.
#[derive(Debug)]
pub(super) struct Body {
    rest: Rest,
    /// Bytes of the body taken so far, framing left out.
    taken: u64,
    /// The most that a body may have.
    max: u64,
}

#[derive(Debug)]
enum Rest {
    Nothing,
    Length(u64),
    Chunked(Box<Chunked>),
}

/// Why a body cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// Its framing is broken.
    Refused(Refusal),
    /// It is longer than allowed.
    TooLarge,
}

impl Body {
    /// The body that a head announces, of at most `max` bytes.
    ///
    /// # Errors
    /// [`BodyFault::TooLarge`] if the head says so already.
    pub(super) fn new(framing: Framing, max: u64) -> Result<Self, BodyFault> {
        let rest = match framing {
            Framing::None | Framing::Length(0) => Rest::Nothing,
            Framing::Length(length) if length > max => return Err(BodyFault::TooLarge),
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Box::default()),
        };
        Ok(Self { rest, taken: 0, max })
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// Moves what `unread` holds of the body, at most about `room` bytes, to the end of `out`,
    /// framed for the worker. Chunks are made anew, so their extensions go no further.
    ///
    /// # Errors
    /// [`BodyFault`]; what was moved before stands.
    pub(super) fn take(
        &mut self,
        unread: &mut Vec<u8>,
        out: &mut Vec<u8>,
        room: usize,
    ) -> Result<(), BodyFault> {
        match &mut self.rest {
            Rest::Nothing => Ok(()),
            Rest::Length(left) => {
                let fits = usize::try_from(*left).unwrap_or(usize::MAX);
                let count = unread.len().min(room).min(fits);
                out.extend(unread.drain(..count));
                *left -= count as u64;
                self.taken += count as u64;
                if *left == 0 {
                    self.rest = Rest::Nothing;
                }
                Ok(())
            }
            Rest::Chunked(_) => self.take_chunks(unread, out, room),
        }
    }

    fn take_chunks(
        &mut self,
        unread: &mut Vec<u8>,
        out: &mut Vec<u8>,
        room: usize,
    ) -> Result<(), BodyFault> {
        let end = out.len() + room;
        let mut used = 0;
        while let Rest::Chunked(chunked) = &mut self.rest
            && out.len() < end
        {
            match chunked.next(&unread[used..]).map_err(BodyFault::Refused)? {
                Chunk::Incomplete => {
                    used = unread.len();
                    break;
                }
                Chunk::Data { skip, length } => {
                    let data = &unread[used + skip..used + skip + length];
                    self.taken += length as u64;
                    if self.taken > self.max {
                        return Err(BodyFault::TooLarge);
                    }
                    write_chunk(out, data);
                    used += skip + length;
                }
                Chunk::End { consumed, trailers } => {
                    write_end(&trailers, out);
                    used += consumed;
                    self.rest = Rest::Nothing;
                }
            }
        }
        unread.drain(..used);
        Ok(())
    }
}

/// Writes one chunk; `data` is not empty.
pub(super) fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    write_size(data.len(), out);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(framing: Framing, pieces: &[&[u8]], room: usize) -> (Vec<u8>, Vec<u8>, bool) {
        let mut body = Body::new(framing, u64::MAX).expect("no bound");
        let (mut unread, mut out) = (Vec::new(), Vec::new());
        for piece in pieces {
            unread.extend_from_slice(piece);
            let before = usize::MAX;
            let mut left = before;
            while left != unread.len() + usize::from(body.is_done()) {
                left = unread.len() + usize::from(body.is_done());
                body.take(&mut unread, &mut out, room).expect("a valid body");
            }
        }
        (out, unread, body.is_done())
    }

    #[test]
    fn what_follows_a_body_is_left_for_the_next_request() {
        let (out, rest, done) = taken(Framing::Length(5), &[b"hel", b"loGET /"], 100);
        assert_eq!((out.as_slice(), rest.as_slice(), done), (&b"hello"[..], &b"GET /"[..], true));
        let text = b"5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\nGET /";
        let (out, rest, done) = taken(Framing::Chunked, &[text], 100);
        assert_eq!(out, b"5\r\nhello\r\n0\r\nA: b\r\n\r\n");
        assert_eq!((rest.as_slice(), done), (&b"GET /"[..], true));
    }

    #[test]
    fn chunks_survive_every_cut() {
        let text = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
        for cut in 0..text.len() {
            let (out, rest, done) = taken(Framing::Chunked, &[&text[..cut], &text[cut..]], 100);
            assert!(done && rest.is_empty(), "cut at {cut}");
            let mut data = Vec::new();
            let mut reader = Chunked::default();
            let mut at = 0;
            while let Ok(Chunk::Data { skip, length }) = reader.next(&out[at..]) {
                data.extend_from_slice(&out[at + skip..at + skip + length]);
                at += skip + length;
            }
            assert_eq!(data, b"abcdefg", "cut at {cut}");
        }
    }

    #[test]
    fn a_body_beyond_its_bound_is_refused() {
        assert_eq!(Body::new(Framing::Length(6), 5).err(), Some(BodyFault::TooLarge));
        let mut body = Body::new(Framing::Chunked, 5).expect("not known yet");
        let mut unread = b"6\r\nabcdef\r\n".to_vec();
        let fault = body.take(&mut unread, &mut Vec::new(), 100);
        assert_eq!(fault, Err(BodyFault::TooLarge));
    }
}
