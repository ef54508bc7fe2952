//! The policies that are compared: the one that ships, what others do, mistakes made on purpose.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tenfold::policy::{
    Admission, Balance, Grant, ListenerId, Mode, QueueBounds, SplitMix64, Ticket, WorkerBounds,
    WorkerId,
};

use super::engine::{Job, Policy, Start};
use super::service::Nanos;

/// A policy by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `policy::Balance` itself, with a limit of 1.
    Tenfold,
    /// Dealt in turn on arrival; waits at its worker. nginx and others by default.
    RoundRobin,
    /// Dealt by a hash of the client's address and port: SO_REUSEPORT.
    Hash,
    /// Of two different ones, drawn at random, the one with fewer.
    TwoChoices,
    /// The one with the fewest, but on arrival: no queue before the workers.
    LeastAtOnce,
    /// Node's cluster: in turn to whoever acknowledged the last one, busy or not.
    AckGated,
    /// A mistake: of several free workers always the first.
    PinnedTies,
    /// A mistake: the limit counts connections, idle ones too.
    PerConnection,
}

impl Kind {
    /// What is compared.
    pub(crate) const PEERS: [Self; 6] = [
        Self::Tenfold,
        Self::RoundRobin,
        Self::Hash,
        Self::TwoChoices,
        Self::LeastAtOnce,
        Self::AckGated,
    ];
    /// What a bench must be able to see.
    pub(crate) const MISTAKES: [Self; 2] = [Self::PinnedTies, Self::PerConnection];

    /// For tables and plots.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tenfold => "tenfold",
            Self::RoundRobin => "round robin",
            Self::Hash => "per-worker hash",
            Self::TwoChoices => "two choices",
            Self::LeastAtOnce => "least, bound at once",
            Self::AckGated => "ack-gated round robin",
            Self::PinnedTies => "mistake: ties to slot 0",
            Self::PerConnection => "mistake: limit per connection",
        }
    }

    /// A fresh one for this many workers and client connections.
    pub(crate) fn build(self, workers: usize, connections: usize, seed: u64) -> Box<dyn Policy> {
        match self {
            Self::Tenfold => Box::new(Shipped::new(workers)),
            Self::RoundRobin => Box::new(Bound::new(workers, Choice::InTurn, seed)),
            Self::Hash => Box::new(Bound::new(workers, Choice::Random, seed)),
            Self::TwoChoices => Box::new(Bound::new(workers, Choice::FewerOfTwo, seed)),
            Self::LeastAtOnce => Box::new(Bound::new(workers, Choice::Fewest, seed)),
            Self::AckGated => Box::new(AckGated::new(workers)),
            Self::PinnedTies => Box::new(Pinned::new(workers)),
            Self::PerConnection => Box::new(PerConnection::new(workers, connections)),
        }
    }
}

/// `Balance`, driven as the reactor drives it.
struct Shipped {
    balance: Balance,
    /// Virtual time 0.
    epoch: Instant,
    /// Jobs by their ids, from the oldest that waits; what was started is none any more.
    jobs: VecDeque<Option<Job>>,
    /// The id of the first of them.
    first: u64,
}

const LISTENER: ListenerId = ListenerId(0);

impl Shipped {
    fn new(workers: usize) -> Self {
        let epoch = tenfold::clock::now();
        let mut balance = Balance::new();
        // A comparison of waits: nothing may be shed, so the bounds are out of reach.
        let bounds = QueueBounds { max: usize::MAX, timeout: Duration::from_secs(u64::MAX / 4) };
        balance.open_listener(LISTENER, Mode::Request, bounds);
        for slot in 0..workers {
            let id = WorkerId(slot as u64);
            let one = NonZeroU32::MIN;
            balance.add_worker(id, WorkerBounds { limit: one, max_connections: one });
            let early = [balance.ready(epoch, id), balance.serve(epoch, id, LISTENER)].concat();
            assert!(early.is_empty(), "nothing waits yet");
        }
        Self { balance, epoch, jobs: VecDeque::new(), first: 0 }
    }

    fn start(&mut self, grant: Grant) -> Start {
        let at = grant.ticket.0.checked_sub(self.first).expect("granted once");
        let job = self.jobs.get_mut(at as usize).and_then(Option::take);
        while let Some(None) = self.jobs.front() {
            self.jobs.pop_front();
            self.first += 1;
        }
        Start {
            worker: grant.worker.0 as usize,
            job: job.expect("granted once, after its arrival"),
        }
    }
}

impl Policy for Shipped {
    fn arrive(&mut self, now: Nanos, job: Job) -> Option<Start> {
        let ticket = Ticket(job.id);
        self.jobs.push_back(Some(job));
        match self.balance.admit(self.epoch + Duration::from_nanos(now), LISTENER, ticket) {
            Admission::Granted(grant) => Some(self.start(grant)),
            Admission::Queued => None,
            Admission::Shed(reason) => unreachable!("shed although unbounded: {reason}"),
        }
    }

    fn finish(&mut self, now: Nanos, worker: usize) -> Option<Start> {
        let now = self.epoch + Duration::from_nanos(now);
        let grants = self.balance.release(now, WorkerId(worker as u64));
        assert!(grants.len() <= 1, "one place came free: {grants:?}");
        grants.into_iter().next().map(|grant| self.start(grant))
    }
}

/// Chosen on arrival; from then on a job waits for its worker, whoever else is idle.
struct Bound {
    queues: Vec<VecDeque<Job>>,
    /// Jobs at each worker, the one in service included.
    held: Vec<usize>,
    choice: Choice,
    turn: usize,
    random: SplitMix64,
}

enum Choice {
    InTurn,
    Random,
    FewerOfTwo,
    Fewest,
}

impl Bound {
    fn new(workers: usize, choice: Choice, seed: u64) -> Self {
        // Not the stream of the arrivals, or choices would follow service times.
        let random = SplitMix64::new(!seed);
        Self {
            queues: vec![VecDeque::new(); workers],
            held: vec![0; workers],
            choice,
            turn: 0,
            random,
        }
    }

    fn choose(&mut self) -> usize {
        let workers = self.held.len();
        self.turn = (self.turn + 1) % workers;
        match self.choice {
            Choice::InTurn => self.turn,
            Choice::Random => self.random.below(workers as u64) as usize,
            Choice::FewerOfTwo => {
                // Two different ones, where there are two: drawn from all, the second of two
                // workers would be the first again in every other draw, and no choice at all.
                let one = self.random.below(workers as u64) as usize;
                let step = self.random.below((workers as u64 - 1).max(1)) as usize + 1;
                let other = (one + step) % workers;
                if self.held[other] < self.held[one] { other } else { one }
            }
            // Ties rotate: the search begins at another worker each time.
            Choice::Fewest => (0..workers)
                .map(|step| (self.turn + step) % workers)
                .min_by_key(|worker| self.held[*worker])
                .expect("there are workers"),
        }
    }
}

impl Policy for Bound {
    fn arrive(&mut self, _: Nanos, job: Job) -> Option<Start> {
        let worker = self.choose();
        self.held[worker] += 1;
        if self.held[worker] == 1 {
            return Some(Start { worker, job });
        }
        self.queues[worker].push_back(job);
        None
    }

    fn finish(&mut self, _: Nanos, worker: usize) -> Option<Start> {
        self.held[worker] -= 1;
        self.queues[worker].pop_front().map(|job| Start { worker, job })
    }
}

/// Node's round-robin handle. A worker acknowledges when its event loop comes round: at once while
/// idle, after the page it is busy with otherwise. So one more is bound to every busy worker, and
/// who acknowledged first gets the next, whether it is busy or idle.
struct AckGated {
    waiting: VecDeque<Job>,
    /// Workers that acknowledged all they were sent, in that order.
    free: VecDeque<usize>,
    /// What was sent to a busy worker and not acknowledged.
    sent: Vec<Option<Job>>,
    busy: Vec<bool>,
}

impl AckGated {
    fn new(workers: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            free: (0..workers).collect(),
            sent: vec![None; workers],
            busy: vec![false; workers],
        }
    }

    /// The worker acknowledged while it begins with a page: it gets the next, or is free.
    fn acknowledged(&mut self, worker: usize) {
        match self.waiting.pop_front() {
            Some(job) => self.sent[worker] = Some(job),
            None => self.free.push_back(worker),
        }
    }
}

impl Policy for AckGated {
    fn arrive(&mut self, _: Nanos, job: Job) -> Option<Start> {
        let Some(worker) = self.free.pop_front() else {
            self.waiting.push_back(job);
            return None;
        };
        if self.busy[worker] {
            self.sent[worker] = Some(job);
            return None;
        }
        self.busy[worker] = true;
        self.acknowledged(worker);
        Some(Start { worker, job })
    }

    fn finish(&mut self, _: Nanos, worker: usize) -> Option<Start> {
        let next = self.sent[worker].take();
        self.busy[worker] = next.is_some();
        if next.is_some() {
            self.acknowledged(worker);
        }
        next.map(|job| Start { worker, job })
    }
}

/// One queue, but ties go to the lowest slot: waits are those of a central queue, and slot 0 wears
/// out first.
struct Pinned {
    waiting: VecDeque<Job>,
    busy: Vec<bool>,
}

impl Pinned {
    fn new(workers: usize) -> Self {
        Self { waiting: VecDeque::new(), busy: vec![false; workers] }
    }
}

impl Policy for Pinned {
    fn arrive(&mut self, _: Nanos, job: Job) -> Option<Start> {
        let Some(worker) = self.busy.iter().position(|busy| !busy) else {
            self.waiting.push_back(job);
            return None;
        };
        self.busy[worker] = true;
        Some(Start { worker, job })
    }

    fn finish(&mut self, _: Nanos, worker: usize) -> Option<Start> {
        let next = self.waiting.pop_front();
        self.busy[worker] = next.is_some();
        next.map(|job| Start { worker, job })
    }
}

/// Requests that a connection carries before its client closes it.
const REQUESTS_PER_CONNECTION: u32 = 20;

/// A worker's one place belongs to a connection until the connection has carried
/// [`REQUESTS_PER_CONNECTION`]; between requests the worker idles while others wait.
struct PerConnection {
    /// The connection that holds each worker's place, and what it still carries.
    holds: Vec<Option<(usize, u32)>>,
    busy: Vec<bool>,
    /// Requests that wait, by connection.
    waiting: Vec<VecDeque<Job>>,
    /// Connections that wait for a place.
    queue: VecDeque<usize>,
}

impl PerConnection {
    fn new(workers: usize, connections: usize) -> Self {
        Self {
            holds: vec![None; workers],
            busy: vec![false; workers],
            waiting: vec![VecDeque::new(); connections],
            queue: VecDeque::new(),
        }
    }

    /// Begins with the next request of the connection that holds the worker, if there is one.
    fn begin(&mut self, worker: usize) -> Option<Start> {
        let (connection, left) = self.holds[worker].as_mut()?;
        let job = self.waiting[*connection].pop_front()?;
        *left -= 1;
        self.busy[worker] = true;
        Some(Start { worker, job })
    }
}

impl Policy for PerConnection {
    fn arrive(&mut self, _: Nanos, job: Job) -> Option<Start> {
        self.waiting[job.connection].push_back(job);
        let holder = |hold: &Option<(usize, u32)>| hold.is_some_and(|(c, _)| c == job.connection);
        if let Some(worker) = self.holds.iter().position(holder) {
            return if self.busy[worker] { None } else { self.begin(worker) };
        }
        let Some(worker) = self.holds.iter().position(Option::is_none) else {
            if !self.queue.contains(&job.connection) {
                self.queue.push_back(job.connection);
            }
            return None;
        };
        self.holds[worker] = Some((job.connection, REQUESTS_PER_CONNECTION));
        self.begin(worker)
    }

    fn finish(&mut self, _: Nanos, worker: usize) -> Option<Start> {
        self.busy[worker] = false;
        if let Some((connection, 0)) = self.holds[worker] {
            if !self.waiting[connection].is_empty() {
                self.queue.push_back(connection);
            }
            let next = self.queue.pop_front();
            self.holds[worker] = next.map(|connection| (connection, REQUESTS_PER_CONNECTION));
        }
        self.begin(worker)
    }
}
