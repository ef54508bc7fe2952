//! Any bytes as a chunked body, whole and in pieces: the same data, end and refusal.
#![no_main]
#![allow(dead_code, unused_imports, unreachable_pub, reason = "one module, without its crate")]

// The module alone, not the crate: it is a leaf, and builds in seconds.
#[path = "../../src/http/mod.rs"]
mod http;

use http::{Chunk, Chunked, Refusal};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else {
        return;
    };
    assert_eq!(read(bytes, bytes.len()), read(bytes, usize::from(*size).max(1)));
});

/// The data, and where the body ended, if it did.
fn read(bytes: &[u8], size: usize) -> (Vec<u8>, Result<Option<usize>, Refusal>) {
    let (mut chunked, mut data, mut consumed) = (Chunked::default(), Vec::new(), 0);
    for mut rest in bytes.chunks(size.max(1)) {
        loop {
            match chunked.next(rest) {
                Err(refusal) => return (data, Err(refusal)),
                Ok(Chunk::Incomplete) => {
                    consumed += rest.len();
                    break;
                }
                Ok(Chunk::Data { skip, length }) => {
                    data.extend_from_slice(&rest[skip..skip + length]);
                    consumed += skip + length;
                    rest = &rest[skip + length..];
                }
                Ok(Chunk::End { consumed: last, .. }) => return (data, Ok(Some(consumed + last))),
            }
        }
    }
    (data, Ok(None))
}
