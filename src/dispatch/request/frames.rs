//! Follows the frames of a WebSocket (RFC 6455 §5.2), to find where one ends and another may begin.
//!
//! Lengths only: what is in a frame, and whether it may come, is between client and worker.

/// What a WebSocket server that goes away says last: a close frame with the code 1001, unmasked as
/// a server's are (RFC 6455 §5.5.1, §7.4.1).
pub(super) const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];

/// The longest header: two bytes, a length of eight, a mask of four.
const HEADER_MAX: usize = 14;

/// Where in a stream of frames the bytes seen so far end.
#[derive(Clone, Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER_MAX],
    /// How much of a header is here; 0 between frames and within a payload.
    have: usize,
    /// Bytes of the payload to come.
    payload: u64,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.payload == 0
    }

    /// Takes note of bytes that pass.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.is_between() {
                self.begin(&mut bytes);
            } else {
                let rest = self.finish(bytes);
                bytes = &bytes[rest..];
            }
        }
    }

    /// Takes note of bytes up to the end of the frame that is under way; returns how many.
    pub(super) fn finish(&mut self, bytes: &[u8]) -> usize {
        let mut left = bytes;
        while !left.is_empty() && !self.is_between() {
            if self.have > 0 {
                self.begin(&mut left);
            } else {
                let passed = usize::try_from(self.payload).unwrap_or(usize::MAX).min(left.len());
                self.payload -= passed as u64;
                left = &left[passed..];
            }
        }
        bytes.len() - left.len()
    }

    /// Takes one byte of a header.
    fn begin(&mut self, bytes: &mut &[u8]) {
        let Some((byte, rest)) = bytes.split_first() else {
            return;
        };
        *bytes = rest;
        self.header[self.have] = *byte;
        self.have += 1;
        if self.have >= 2 && self.have == self.header_length() {
            self.payload = self.payload_length();
            self.have = 0;
        }
    }

    fn header_length(&self) -> usize {
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn payload_length(&self) -> u64 {
        let wide = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        match self.header[1] & 0x7f {
            126 => wide(&self.header[2..4]),
            127 => wide(&self.header[2..10]),
            short => u64::from(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of this payload length, masked or not.
    fn frame(length: usize, mask: &[u8]) -> Vec<u8> {
        let bit = if mask.is_empty() { 0 } else { 0x80 };
        let mut bytes = vec![0x82];
        match length {
            0..126 => bytes.push(bit | length as u8),
            126..65536 => {
                bytes.push(bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.resize(bytes.len() + length, 7);
        bytes
    }

    #[test]
    fn frames_end_where_their_lengths_say_however_they_are_cut() {
        let lengths = [0, 1, 125, 126, 65535, 65536];
        for mask in [&b""[..], &[1, 2, 3, 4]] {
            let all: Vec<u8> = lengths.iter().flat_map(|it| frame(*it, mask)).collect();
            let mut ends: Vec<usize> = Vec::new();
            for length in lengths {
                ends.push(ends.last().unwrap_or(&0) + frame(length, mask).len());
            }
            for step in [1, 3, 1000, all.len()] {
                let (mut frames, mut at) = (Frames::default(), 0);
                for piece in all.chunks(step) {
                    frames.pass(piece);
                    at += piece.len();
                    assert_eq!(frames.is_between(), ends.contains(&at), "{step} at {at}");
                }
            }
        }
    }

    #[test]
    fn only_the_frame_under_way_is_finished() {
        let (first, second) = (frame(300, b""), frame(5, b""));
        let all = [first.as_slice(), second.as_slice()].concat();
        for cut in 0..first.len() {
            let mut frames = Frames::default();
            frames.pass(&all[..cut]);
            let expected = if cut == 0 { 0 } else { first.len() - cut };
            assert_eq!(frames.finish(&all[cut..]), expected, "cut at {cut}");
            assert!(frames.is_between());
        }
    }

    #[test]
    fn close_frame_is_one_frame() {
        let mut frames = Frames::default();
        frames.pass(GOING_AWAY);
        assert!(frames.is_between());
    }
}
