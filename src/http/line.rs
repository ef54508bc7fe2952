//! Finds the lines of a head as it arrives; a line ends in CRLF and nothing else.

use super::syntax::find_control;

/// Why a head cannot be cut into lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineFault {
    /// A LF without a CR before it.
    BareLf,
    /// A CR without a LF after it.
    BareCr,
    /// NUL, DEL or another control that no head may hold.
    Control,
}

impl LineFault {
    /// The reason code.
    pub fn code(self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::BareCr => "bare_cr",
            Self::Control => "control_in_head",
        }
    }

    /// One sentence for logs.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::BareLf => "a line ends in a bare LF",
            Self::BareCr => "a CR stands in the middle of a line",
            Self::Control => "the head holds a control character",
        }
    }
}

/// Cuts lines from bytes that grow between calls. Each byte is looked at once, however slowly they
/// arrive: without that a client that sends one byte at a time costs the square of its head. What
/// no later byte can make right is refused at once: a TLS greeting has no line to wait for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    /// Where the next line starts.
    pub(super) start: usize,
    searched: usize,
}

impl Lines {
    /// The next line without its CRLF, once it is complete; it holds no control but tab. `bytes`
    /// starts as in the call before.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Option<(usize, usize)>, LineFault> {
        let Some(end) = find_control(bytes, self.searched) else {
            self.searched = bytes.len();
            return Ok(None);
        };
        match (bytes[end], bytes.get(end + 1)) {
            (b'\r', Some(b'\n')) => {
                let line = (self.start, end);
                self.start = end + 2;
                self.searched = self.start;
                Ok(Some(line))
            }
            (b'\r', None) => {
                self.searched = end;
                Ok(None)
            }
            (b'\r', Some(_)) => Err(LineFault::BareCr),
            (b'\n', _) => Err(LineFault::BareLf),
            (_, _) => Err(LineFault::Control),
        }
    }
}
