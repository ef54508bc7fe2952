//! Has a worker write its heap to a file, and gives it nothing until it has.
//!
//! V8 stops the process for as long as that takes. So the worker first finishes what it holds, gets
//! nothing new, and is not judged by its silence: but only while its page says that it writes, and
//! only until a bound. One worker of the pool at a time, since each needs much memory meanwhile.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::inspect::{server, without_worker};
use super::stack::tidied;
use super::{Process, Supervisor, memory};
use crate::clock;
use crate::link::orders::{HeapOrder, Order};
use crate::policy::{Slot, Stalled, WorkerId, WorkerLife};
use crate::sys::load::Page;
use crate::sys::{limits, thread, usage};

/// What a worker holds may take so long to be finished before it stands still: most requests do.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// Nothing tells when its last request has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A main thread that reads no message for so long is busy with something else; later it must not
/// begin, for nobody would excuse it.
const BEGIN_MAX: Duration = Duration::from_secs(10);

/// It may begin at the last moment, and its page is then still to be written.
const BEGIN_GRACE: Duration = Duration::from_secs(1);

/// 300 MB of small objects took 30 to 45 s on a busy machine, so several GB have time.
const WRITE_MAX: Duration = Duration::from_secs(600);

/// More than all of that together.
pub(crate) const HEAP_PATIENCE: Duration = Duration::from_secs(660);

/// Memory for each byte of the heap in use. Measured on Node 18 to 26: 9.5 to 12.5 where objects
/// are small, 3.6 to 4.7 where they are strings and code; and 2 for the file, which the usual
/// directory has in memory.
const MEMORY_PER_BYTE: u64 = 14;

/// Bytes of the file for each byte of the heap in use. Measured: 0.2 to 1.9.
const FILE_PER_BYTE: u64 = 2;

/// Its channel may tell of its death first, or its parent.
pub(super) const GONE: &str = "the process that served has ended";

/// Whether there must be room for a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomCheck {
    /// It is not written if memory or disk would hardly suffice.
    Made,
    /// It is written as far as it goes.
    Skipped,
}

/// A flag of the command line: `--force`.
impl From<bool> for RoomCheck {
    fn from(is_forced: bool) -> Self {
        if is_forced { Self::Skipped } else { Self::Made }
    }
}

/// What somebody wants.
#[derive(Debug)]
pub(crate) struct HeapRequest {
    pub(crate) slot: u16,
    /// Where to; absolute.
    pub(crate) directory: PathBuf,
    pub(crate) room: RoomCheck,
}

/// A heap that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapStatus {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

pub(crate) type HeapReply = oneshot::Sender<Result<HeapStatus, String>>;

/// The one heap that somebody waits for.
#[derive(Debug)]
pub(super) struct HeapWish {
    worker: WorkerId,
    slot: Slot,
    path: PathBuf,
    room: RoomCheck,
    step: Step,
    /// When it is looked at.
    due: Instant,
    reply: HeapReply,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The worker finishes what it holds, until then at most.
    Finishing { until: Instant },
    /// It was asked. By then it has begun, or will not.
    Asked { until: Instant },
    /// It writes.
    Writing { until: Instant },
}

/// What a worker shows.
#[derive(Clone, Copy, Debug)]
struct Seen {
    held: u32,
    writes: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    LookAgain(Instant),
    Ask,
    Await { until: Instant },
    GiveUp(String),
}

impl Step {
    fn next(self, now: Instant, seen: Seen) -> Next {
        match self {
            Self::Finishing { until } if seen.held == 0 || now >= until => Next::Ask,
            Self::Finishing { until } => Next::LookAgain(until.min(now + LOOK_EVERY)),
            Self::Asked { until } | Self::Writing { until } if now < until => {
                Next::LookAgain(until)
            }
            Self::Asked { .. } if seen.writes => Next::Await { until: now + WRITE_MAX },
            Self::Asked { .. } => Next::GiveUp(format!(
                "its main thread did not come to it within {} s; `tenfold stack` shows why",
                BEGIN_MAX.as_secs()
            )),
            Self::Writing { .. } => {
                Next::GiveUp(format!("it was not written within {} s", WRITE_MAX.as_secs()))
            }
        }
    }
}

impl HeapWish {
    /// When there is something to do, if nothing happens before.
    pub(super) fn due(&self) -> Instant {
        self.due
    }
}

impl Supervisor {
    /// Has a slot's worker write its heap; answered when that is done, or why it is not.
    pub(super) fn write_heap(&mut self, request: &HeapRequest, reply: HeapReply) {
        let (worker, path) = match self.find_heap(request) {
            Ok(found) => found,
            // Whoever asked may have gone.
            Err(why) => return drop(reply.send(Err(why))),
        };
        let (slot, room, now) = (Slot(request.slot), request.room, clock::now());
        let file = path.display();
        tracing::info!(%worker, %slot, %file, "worker writes its heap, as asked; it gets no work");
        self.set_stalled(worker, Stalled::Yes);
        let step = Step::Finishing { until: now + FINISH_MAX };
        self.heap = Some(HeapWish { worker, slot, path, room, step, due: now, reply });
        self.check_heap(now);
    }

    /// Whose heap is meant, and where it will be; or why it cannot be had.
    fn find_heap(&self, request: &HeapRequest) -> Result<(WorkerId, PathBuf), String> {
        let slot = request.slot;
        if let Some(wish) = &self.heap {
            return Err(format!("slot {} writes its heap; one at a time", wish.slot));
        }
        let worker = self.worker_of(slot)?;
        let process = self.processes.get(&worker).ok_or_else(|| without_worker(slot))?;
        match self.state_of(worker) {
            Some(WorkerLife::Ready { .. }) => {}
            Some(state) => return Err(format!("slot {slot} is {state}")),
            None => return Err(without_worker(slot)),
        }
        let page = can_write(process)?;
        if request.room == RoomCheck::Made {
            check_memory(page.heap_used, memory_room())?;
        }
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        let name = &self.parts.name;
        let file = format!("{name}-{slot}-{}-{since}.heapsnapshot", server(process));
        Ok((worker, request.directory.join(file)))
    }

    /// Goes a step further with the heap that somebody waits for.
    pub(super) fn check_heap(&mut self, now: Instant) {
        let Some(wish) = self.heap.as_ref().filter(|wish| wish.due <= now) else {
            return;
        };
        let (worker, step) = (wish.worker, wish.step);
        let seen = Seen { held: self.held_by(worker), writes: self.writes_heap(worker) };
        match step.next(now, seen) {
            Next::LookAgain(at) => self.await_heap(step, at),
            Next::Ask => {
                let until = now + BEGIN_MAX + BEGIN_GRACE;
                self.await_heap(Step::Asked { until }, until);
                self.ask_for_heap(worker);
            }
            Next::Await { until } => self.await_heap(Step::Writing { until }, until),
            Next::GiveUp(why) => self.heap_lost(worker, &why),
        }
    }

    fn await_heap(&mut self, step: Step, due: Instant) {
        if let Some(wish) = &mut self.heap {
            (wish.step, wish.due) = (step, due);
        }
    }

    fn ask_for_heap(&mut self, worker: WorkerId) {
        let Some(wish) = self.heap.as_ref() else {
            return;
        };
        let path = wish.path.to_str().map(str::to_owned);
        let file_per_byte = match wish.room {
            RoomCheck::Made => Some(FILE_PER_BYTE),
            RoomCheck::Skipped => None,
        };
        match (path, clock::monotonic_micros()) {
            (Some(path), Ok(now)) => {
                let begin_by = Duration::from_micros(now) + BEGIN_MAX;
                self.order(Order::WriteHeap(HeapOrder { worker, path, begin_by, file_per_byte }));
            }
            (None, _) => self.heap_lost(worker, "the directory's name is not UTF-8"),
            (Some(_), Err(error)) => self.heap_lost(worker, &error.to_string()),
        }
    }

    /// What a worker has begun and not ended; of streams nobody knows when they end.
    fn held_by(&self, worker: WorkerId) -> u32 {
        let account = crate::link::lock(&self.parts.balance).workers().find(|it| it.id == worker);
        account.map_or(0, |account| {
            let (_, active) = self.counts_now(&account);
            account.in_flight.max(active.saturating_sub(account.streams))
        })
    }

    /// Whether a worker stands still because it was asked to.
    pub(super) fn writes_heap(&self, worker: WorkerId) -> bool {
        let process = self.processes.get(&worker).filter(|_| self.wants_heap_of(worker));
        process.and_then(|process| process.load.read()).is_some_and(|page| page.writes_heap)
    }

    /// Whether somebody waits for the heap of this worker, and it gets nothing therefore.
    pub(super) fn wants_heap_of(&self, worker: WorkerId) -> bool {
        self.heap.as_ref().is_some_and(|wish| wish.worker == worker)
    }

    /// There will be no whole file, and the worker cannot be relied on to remove what there is.
    pub(super) fn heap_lost(&mut self, worker: WorkerId, why: &str) {
        if let Some(wish) = self.heap.as_ref().filter(|wish| wish.worker == worker) {
            // It may not have begun, or be another user's.
            let _ = std::fs::remove_file(&wish.path);
        }
        self.heap_ended(worker, Err(why.to_owned()));
    }

    /// A worker has written its heap, or says why not.
    pub(super) fn heap_ended(&mut self, worker: WorkerId, outcome: Result<u64, String>) {
        // Its time may have been over.
        let Some(wish) = self.heap.take_if(|wish| wish.worker == worker) else {
            return;
        };
        // One that is silent still stays out for that.
        if !self.health.is_stalled(worker) {
            self.set_stalled(worker, Stalled::No);
        }
        let HeapWish { slot, path, reply, .. } = wish;
        let outcome = match outcome {
            Ok(bytes) => {
                tracing::info!(%worker, %slot, bytes, "worker has written its heap");
                Ok(HeapStatus { path, bytes })
            }
            Err(why) => {
                let why = tidied(&why);
                tracing::warn!(%worker, %slot, why, "worker has not written its heap");
                Err(format!("no heap of slot {slot}: {why}"))
            }
        };
        // Whoever asked may have gone.
        drop(reply.send(outcome));
    }
}

/// What a worker says of its heap, if it can be asked to write it.
fn can_write(process: &Process) -> Result<Page, String> {
    let page = process.load.read().filter(|page| page.version > 0 && page.pid > 0);
    let page = page.ok_or("the worker is not Node with tenfold's preload")?;
    if page.writes_heap {
        return Err("it still writes one that nobody waits for".to_owned());
    }
    match thread::main_thread(server(process)) {
        Some(doing) if matches!(doing.state, 'T' | 't' | 'Z' | 'X') => {
            Err(format!("the process is {doing}"))
        }
        Some(_) | None => Ok(page),
    }
}

/// How much memory is left, in our cgroup or on the host; none if neither is known.
fn memory_room() -> Option<u64> {
    let (limit, used) = (limits::cgroup().memory_bytes, usage::cgroup().memory_bytes);
    let in_cgroup = limit.zip(used).map(|(limit, used)| limit.saturating_sub(used));
    in_cgroup.into_iter().chain(memory::available_bytes()).min()
}

fn check_memory(heap: u64, room: Option<u64>) -> Result<(), String> {
    let needed = heap.saturating_mul(MEMORY_PER_BYTE);
    match room {
        Some(room) if room < needed => Err(format!(
            "{} MiB of heap may need {} MiB of memory to be written, and {} MiB are left; --force \
             tries it all the same",
            heap >> 20,
            needed >> 20,
            room >> 20
        )),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// What is next, with times in seconds from now.
    fn next(step: impl FnOnce(Instant) -> Step, held: u32, writes: bool) -> String {
        let now = clock::now();
        let after = |at: Instant| at.duration_since(now).as_secs_f64();
        match step(now).next(now, Seen { held, writes }) {
            Next::LookAgain(at) => format!("look again after {} s", after(at)),
            Next::Ask => "ask".to_owned(),
            Next::Await { until } => format!("await for {} s", after(until)),
            Next::GiveUp(why) => why,
        }
    }

    #[test]
    fn a_worker_is_asked_when_it_has_finished_or_its_time_for_that_is_over() {
        let finishing = |now: Instant| Step::Finishing { until: now + Duration::from_secs(3) };
        assert_eq!(next(finishing, 2, false), "look again after 0.1 s");
        assert_eq!(next(finishing, 0, false), "ask");
        assert_eq!(next(|until| Step::Finishing { until }, 2, false), "ask");
    }

    #[test]
    fn a_worker_that_has_begun_has_time_and_one_that_has_not_is_given_up() {
        let asked = |now: Instant| Step::Asked { until: now + Duration::from_secs(4) };
        for writes in [false, true] {
            assert_eq!(next(asked, 0, writes), "look again after 4 s");
        }
        assert_eq!(next(|until| Step::Asked { until }, 0, true), "await for 600 s");
        let given_up = next(|until| Step::Asked { until }, 0, false);
        assert!(given_up.contains("did not come to it within 10 s"), "{given_up}");
    }

    #[test]
    fn no_worker_is_waited_for_without_end() {
        let writing = |now: Instant| Step::Writing { until: now + Duration::from_secs(9) };
        assert_eq!(next(writing, 0, true), "look again after 9 s");
        let given_up = next(|until| Step::Writing { until }, 0, true);
        assert_eq!(given_up, "it was not written within 600 s");
        assert!(FINISH_MAX + BEGIN_MAX + BEGIN_GRACE + WRITE_MAX < HEAP_PATIENCE);
    }

    #[test]
    fn a_heap_needs_room_in_memory_where_that_is_known() {
        assert_eq!(check_memory(100 * MIB, Some(1400 * MIB)), Ok(()));
        assert_eq!(check_memory(u64::MAX, None), Ok(()));
        let refused = check_memory(100 * MIB, Some(1399 * MIB)).expect_err("it is too much");
        assert!(refused.starts_with("100 MiB of heap may need 1400 MiB of memory"), "{refused}");
        assert!(refused.contains("and 1399 MiB are left; --force tries it"), "{refused}");
        assert!(memory_room().is_some_and(|room| room > 0), "every host says how much it has");
    }
}
