//! Finds the lines of a head as it arrives; a line ends in CRLF and nothing else.

use super::syntax::is_value;

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
/// arrive: without that a client that sends one byte at a time costs the square of its head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    /// Where the next line starts.
    pub(super) start: usize,
    searched: usize,
}

impl Lines {
    /// The next line without its CRLF, once it is complete; `bytes` starts as in the call before.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Option<(usize, usize)>, LineFault> {
        let Some(offset) = memchr::memchr(b'\n', &bytes[self.searched..]) else {
            self.examine_rest(bytes)?;
            return Ok(None);
        };
        let lf = self.searched + offset;
        if lf == self.start || bytes[lf - 1] != b'\r' {
            return Err(LineFault::BareLf);
        }
        let line = (self.start, lf - 1);
        if !is_value(&bytes[line.0..line.1]) {
            return Err(fault_in(&bytes[line.0..line.1]));
        }
        self.start = lf + 1;
        self.searched = lf + 1;
        Ok(Some(line))
    }

    /// Refuses at once what no later byte can make right: a TLS greeting has no line to wait for.
    fn examine_rest(&mut self, bytes: &[u8]) -> Result<(), LineFault> {
        // A CR at the end may get its LF; it is looked at again with the next byte.
        let end = if bytes.ends_with(b"\r") { bytes.len() - 1 } else { bytes.len() };
        let from = self.searched.min(end);
        if !is_value(&bytes[from..end]) {
            return Err(fault_in(&bytes[from..end]));
        }
        self.searched = end.max(self.searched);
        Ok(())
    }
}

#[cold]
fn fault_in(bytes: &[u8]) -> LineFault {
    let first = bytes.iter().find(|byte| **byte < b' ' && **byte != b'\t' || **byte == 0x7f);
    if first == Some(&b'\r') { LineFault::BareCr } else { LineFault::Control }
}
