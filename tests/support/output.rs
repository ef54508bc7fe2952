//! What a process has written, line by line, as it arrives.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// The lines of both streams, filled by a thread per pipe.
#[derive(Default)]
pub(super) struct Output {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) lines: Vec<(Stream, String)>,
    pub(super) open_pipes: usize,
}

impl Output {
    pub(super) fn follow(self: &Arc<Self>, stream: Stream, pipe: impl Read + Send + 'static) {
        self.lock().open_pipes += 1;
        let output = Arc::clone(self);
        // Not joined: it ends with the pipe, whose last holder Drop has killed.
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                line.clear();
                output.lock().lines.push((stream, text));
                output.changed.notify_all();
            }
            output.lock().open_pipes -= 1;
            output.changed.notify_all();
        });
    }

    /// Waits on the readers until `f` gives a value, at most for `bound` and until all have ended.
    pub(super) fn wait<T>(&self, bound: Duration, f: impl Fn(&Seen) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + bound;
        let mut seen = self.lock();
        loop {
            if let Some(value) = f(&seen) {
                return Some(value);
            }
            if seen.open_pipes == 0 {
                return None;
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let woken = self.changed.wait_timeout(seen, left);
            seen = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn text(&self, stream: Stream) -> String {
        let seen = self.lock();
        seen.lines
            .iter()
            .filter(|(from, _)| *from == stream)
            .map(|(_, line)| format!("{line}\n"))
            .collect()
    }

    pub(super) fn both(&self) -> String {
        let seen = self.lock();
        seen.lines.iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
