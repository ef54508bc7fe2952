//! The loop of the log thread: commands, timers, one write turn per output, one read per pipe.
//!
//! Each turn is bounded: at most 64 KiB per worker pipe and 256 KiB per output. The only wait is
//! the poll at its end.

use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;

use super::format::LineStyle;
use super::inbox::{Command, Inbox};
use super::ledger::Ledger;
use super::outlet::{Flow, Outlet, Progress};
use super::settings::{LogSettings, WorkerOutput};
use super::sink::{Sink, same_file};
use super::source::{Heard, Source};
use super::wrap::{Origin, Wrap};
use super::{LastWords, Stream};
use crate::clock;
use crate::policy::WorkerId;

/// The least time between two lines about dropped lines.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Most pipes of finished workers that are kept for grandchildren which outlive them.
const ORPHANS: usize = 64;

const READ_BYTES: usize = 64 * 1024;

/// Everything the thread owns.
#[derive(Debug)]
pub(super) struct LogThread {
    inbox: Arc<Inbox>,
    style: LineStyle,
    patience: Duration,
    /// One if stdout and stderr are the same file, else two; the last is stderr.
    outlets: Vec<Outlet>,
    sources: Vec<Source>,
    ledger: Ledger,
    reported_at: Option<Instant>,
    stop_at: Option<Instant>,
    buffer: Vec<u8>,
}

impl LogThread {
    pub(super) fn new(settings: LogSettings, inbox: Arc<Inbox>) -> Self {
        let LogSettings { stdout, stderr, style, workers, patience } = settings;
        let outlet = |fd: OwnedFd| {
            let wrap = wrap_for(workers, style, fd.is_terminal());
            Outlet::new(Sink::new(fd), wrap)
        };
        // Two queues into one terminal would cut into each other's lines.
        let outlets = if same_file(&stdout, &stderr) {
            vec![outlet(stderr)]
        } else {
            vec![outlet(stdout), outlet(stderr)]
        };
        Self {
            ledger: Ledger::new(Arc::clone(&inbox)),
            inbox,
            style,
            patience,
            outlets,
            sources: Vec::new(),
            reported_at: None,
            stop_at: None,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let now = clock::now();
            self.obey(now);
            self.expire(now);
            self.take_own(now);
            self.write(now);
            if self.stop_at.is_some_and(|deadline| now >= deadline || self.is_done()) {
                break;
            }
            let ready = self.wait(now);
            self.read(&ready);
        }
        for outlet in &mut self.outlets {
            outlet.clear(&mut self.ledger);
        }
    }

    fn is_done(&self) -> bool {
        let idle = |outlet: &Outlet| outlet.progress == Progress::Idle;
        !self.inbox.has_own() && self.outlets.iter().all(idle)
    }

    fn obey(&mut self, now: Instant) {
        for command in self.inbox.take_commands() {
            match command {
                Command::Attach { worker, slot, stdout, stderr } => {
                    self.ledger.open(worker, slot);
                    for (stream, fd) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
                        let origin = Origin { worker, slot, stream };
                        let outlet = self.outlet_of(stream);
                        self.sources.push(Source::new(origin, fd, outlet, now));
                    }
                }
                Command::Finish { worker, reply } => self.finish(worker, reply, now),
                Command::Stop { deadline } => {
                    self.stop_at = Some(deadline);
                    self.drain(|_| true, now);
                    self.sources.clear();
                    for outlet in &mut self.outlets {
                        outlet.backlog.release();
                    }
                }
            }
        }
    }

    fn outlet_of(&self, stream: Stream) -> usize {
        match stream {
            Stream::Stdout => 0,
            Stream::Stderr => self.outlets.len() - 1,
        }
    }

    fn finish(&mut self, worker: WorkerId, reply: oneshot::Sender<LastWords>, now: Instant) {
        self.drain(|source| source.origin.worker == worker, now);
        let words = self.ledger.finish(worker);
        self.bound_orphans();
        self.forget();
        // Whoever asked may have gone.
        let _ = reply.send(words);
    }

    /// Empties the chosen pipes and closes those at their end.
    fn drain(&mut self, chosen: impl Fn(&Source) -> bool, now: Instant) {
        let Self { sources, outlets, ledger, buffer, .. } = self;
        sources.retain_mut(|source| {
            let outlet = &mut outlets[source.outlet];
            !chosen(source) || source.drain(buffer, now, outlet, ledger) != Heard::End
        });
    }

    /// Closes the oldest pipes that only grandchildren of finished workers hold.
    fn bound_orphans(&mut self) {
        let ledger = &self.ledger;
        let orphan = |source: &Source| ledger.is_finished(source.origin.worker);
        let orphans = self.sources.iter().filter(|source| orphan(source)).count();
        let mut surplus = orphans.saturating_sub(ORPHANS);
        self.sources.retain(|source| {
            let close = surplus > 0 && orphan(source);
            surplus -= usize::from(close);
            !close
        });
    }

    fn forget(&mut self) {
        let heard = self.sources.iter().map(|source| source.origin.worker);
        self.ledger.forget(&heard.collect());
    }

    /// Passes on lines after their silence and ends pauses that have lasted too long.
    fn expire(&mut self, now: Instant) {
        for source in &mut self.sources {
            let outlet = &mut self.outlets[source.outlet];
            if source.flush_at().is_some_and(|at| at <= now) {
                source.flush(outlet, &mut self.ledger);
            }
            if source.paused_since.is_some_and(|since| now >= since + self.patience) {
                outlet.flow = Flow::Stalled;
            }
        }
    }

    /// Moves own lines to stderr's backlog once the last ones are written.
    fn take_own(&mut self, now: Instant) {
        let stderr = self.outlets.len() - 1;
        if self.outlets[stderr].has_own() {
            return;
        }
        let mut batch = self.inbox.take_own();
        self.ledger.missed(batch.missed);
        let due = self.reported_at.is_none_or(|at| now >= at + REPORT_EVERY);
        if due || self.stop_at.is_some() {
            for line in self.ledger.tell(self.style) {
                let line = line.finish(SystemTime::now());
                batch.bytes.extend_from_slice(line.as_bytes());
                batch.lines += 1;
                self.reported_at = Some(now);
            }
            self.forget();
        }
        if batch.lines > 0 {
            self.outlets[stderr].backlog.push_own(batch.bytes, batch.lines);
        }
    }

    fn write(&mut self, now: Instant) {
        // Stderr first: own lines.
        for outlet in self.outlets.iter_mut().rev() {
            outlet.write(now, &mut self.ledger);
        }
    }

    /// Waits for whatever comes first; returns the sources to read, by index.
    fn wait(&mut self, now: Instant) -> Vec<usize> {
        let mut until = self.stop_at;
        let mut sooner = |at: Instant| until = Some(until.map_or(at, |until| until.min(at)));
        let mut polled = Vec::with_capacity(self.sources.len());
        for (index, source) in self.sources.iter_mut().enumerate() {
            let outlet = &self.outlets[source.outlet];
            if !outlet.wants(source.origin.worker) {
                sooner(*source.paused_since.get_or_insert(now) + self.patience);
            } else {
                source.paused_since = None;
                polled.push(index);
            }
            source.flush_at().map(&mut sooner);
        }
        let mut fds = vec![PollFd::new(self.inbox.wake_fd(), PollFlags::POLLIN)];
        let mut blocked = Vec::new();
        for (index, outlet) in self.outlets.iter().enumerate() {
            match outlet.progress {
                Progress::Blocked => {
                    fds.push(PollFd::new(outlet.as_fd(), PollFlags::POLLOUT));
                    blocked.push(index);
                }
                Progress::Unfinished | Progress::Writable => sooner(now),
                Progress::Until(at) => sooner(at),
                Progress::Idle => (),
            }
        }
        if !self.outlets[self.outlets.len() - 1].has_own() {
            if self.inbox.has_own() {
                sooner(now);
            } else if self.ledger.has_untold() {
                sooner(self.reported_at.map_or(now, |at| at + REPORT_EVERY));
            }
        }
        let sources = polled.iter().map(|index| &self.sources[*index]);
        fds.extend(sources.map(|source| PollFd::new(source.as_fd(), PollFlags::POLLIN)));
        // A failure (EINTR) makes a turn in which nothing is ready.
        let _ = poll(&mut fds, timeout(now, until));
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        for (index, ready) in blocked.iter().zip(&ready[1..]) {
            if *ready {
                self.outlets[*index].progress = Progress::Writable;
            }
        }
        let pipes = polled.iter().zip(&ready[1 + blocked.len()..]);
        pipes.filter(|(_, ready)| **ready).map(|(index, _)| *index).collect()
    }

    fn read(&mut self, ready: &[usize]) {
        let now = clock::now();
        let mut ended = Vec::new();
        for index in ready {
            let source = &mut self.sources[*index];
            let outlet = &mut self.outlets[source.outlet];
            // Those read before it in this turn may have taken the room.
            if !outlet.wants(source.origin.worker) {
                continue;
            }
            let into = &mut self.buffer[..outlet.read_bytes()];
            if source.read(into, now, outlet, &mut self.ledger) == Heard::End {
                source.flush(outlet, &mut self.ledger);
                ended.push(*index);
            }
        }
        for index in ended.iter().rev() {
            self.sources.remove(*index);
        }
        if !ended.is_empty() {
            self.forget();
        }
    }
}

/// After a panic too, nobody fills an inbox that is never emptied or waits for last words.
impl Drop for LogThread {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

fn wrap_for(workers: WorkerOutput, style: LineStyle, terminal: bool) -> Wrap {
    match (workers, style) {
        (WorkerOutput::Auto, _) if !terminal => Wrap::Raw,
        (WorkerOutput::Tag, LineStyle::Json) => Wrap::Json,
        (WorkerOutput::Auto | WorkerOutput::Tag, LineStyle::Colour) if terminal => {
            Wrap::ColourPrefix
        }
        (WorkerOutput::Auto | WorkerOutput::Tag, _) => Wrap::Prefix,
    }
}

/// The time left, rounded up so that a timer is due when the poll returns.
fn timeout(now: Instant, until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else {
        return PollTimeout::NONE;
    };
    let left = until.saturating_duration_since(now);
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
