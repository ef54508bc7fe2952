//! Takes the body of a worker's response out of the framing that it came in.

use crate::http::{Chunk, Chunked, Fields, Refusal, ResponseBody};

/// What is left of a response's body.
#[derive(Debug)]
pub(super) enum Unframed {
    Done,
    Length(u64),
    Chunked(Box<Chunked>),
    UntilClose,
}

/// The next of a body.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// Framing only.
    Nothing,
    /// Not empty.
    Data(&'a [u8]),
    /// The end of one that came in chunks, and its trailers.
    End(Fields),
}

impl Unframed {
    pub(super) fn new(body: ResponseBody) -> Self {
        match body {
            ResponseBody::None | ResponseBody::Length(0) => Self::Done,
            ResponseBody::Length(length) => Self::Length(length),
            ResponseBody::Chunked => Self::Chunked(Box::default()),
            ResponseBody::UntilClose => Self::UntilClose,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// So many bytes of a body of known length were used by somebody else.
    pub(super) fn skip(&mut self, count: usize) {
        if let Self::Length(left) = self {
            *left -= count as u64;
            if *left == 0 {
                *self = Self::Done;
            }
        }
    }

    /// The connection has ended; whether the body may end with it.
    pub(super) fn end(&mut self) -> bool {
        let may_end = matches!(self, Self::UntilClose);
        if may_end {
            *self = Self::Done;
        }
        may_end
    }

    /// Takes the next of `rest`, which is not empty; of what comes after the end it takes nothing.
    ///
    /// # Errors
    /// Why its chunks are none.
    pub(super) fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Piece<'a>, Refusal> {
        match self {
            Self::Done => Ok(Piece::Nothing),
            Self::UntilClose => Ok(Piece::Data(std::mem::take(rest))),
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                let (data, after) = rest.split_at(count);
                *rest = after;
                self.skip(count);
                Ok(Piece::Data(data))
            }
            Self::Chunked(chunked) => match chunked.next(rest)? {
                Chunk::Incomplete => {
                    *rest = &[];
                    Ok(Piece::Nothing)
                }
                Chunk::Data { skip, length } => {
                    let data = &rest[skip..skip + length];
                    *rest = &rest[skip + length..];
                    Ok(Piece::Data(data))
                }
                Chunk::End { consumed, trailers } => {
                    *rest = &rest[consumed..];
                    *self = Self::Done;
                    Ok(Piece::End(trailers))
                }
            },
        }
    }
}
