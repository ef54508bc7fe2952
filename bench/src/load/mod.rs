//! Sends requests at set rates whether or not answers come, and measures from when each was due.
//!
//! Several streams at once, each with its own rate, connections and source addresses. A latency
//! begins at the intended time: a generator that waits for an answer before it sends the next
//! (a closed loop) does not see the stall that it waited out. Arrivals and service times are drawn
//! before the run from a seed, the same for every peer and for the [`ideal`] beside them.

mod alarm;
pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod ideal;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tenfold::policy::SplitMix64;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use self::alarm::Alarm;
use self::client::{Connection, Outcome};
use crate::sim::service::exponential;

/// What requests ask of a worker.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// The same path every time.
    Path(String),
    /// A service time drawn for each, exponential with this mean, one at a time per worker.
    Served(Duration),
    /// The same, with a busy loop in place of a timer.
    Burned(Duration),
}

impl Work {
    /// How long the next request takes to serve. Where paths say nothing of it, nothing is drawn.
    fn draw(&self, random: &mut SplitMix64) -> Duration {
        match self {
            Self::Path(_) => Duration::ZERO,
            Self::Served(mean) | Self::Burned(mean) => {
                Duration::from_micros((exponential(random) * mean.as_micros() as f64) as u64)
            }
        }
    }

    /// The path that asks for so much.
    fn path(&self, service: Duration) -> String {
        let micros = service.as_micros();
        match self {
            Self::Path(path) => path.clone(),
            Self::Served(_) => format!("/work?serial=1&wait_us={micros}"),
            Self::Burned(_) => format!("/work?serial=1&cpu_us={micros}"),
        }
    }
}

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Travel {
    /// Each client's connection that was used last and is free, else a new one.
    KeepAlive,
    /// So many connections, opened at the start; the one used last that is free, as the pool of
    /// an ingress does it. Requests wait for one to come free.
    Pool { connections: usize },
    /// A connection each.
    Close,
}

/// One stream of requests.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) target: SocketAddr,
    /// Requests per second on average, as a Poisson process.
    pub(crate) rate: f64,
    /// From the beginning of the run.
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) work: Work,
    pub(crate) travel: Travel,
    /// Source addresses, one per client: so many from 127.`net`.0.1 on.
    pub(crate) clients: u16,
    pub(crate) net: u8,
    /// A client's patience, from the intended time on.
    pub(crate) timeout: Duration,
    pub(crate) seed: u64,
}

/// One request that was due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// When it was due, from the beginning of the run.
    pub(crate) due: Duration,
    /// From then until the whole answer was here, or the outcome was known.
    pub(crate) latency: Duration,
    /// How late the generator itself was.
    pub(crate) lag: Duration,
    pub(crate) outcome: Outcome,
    pub(crate) service: Duration,
    pub(crate) worker: u32,
}

impl Record {
    /// Whether it was served, within `limit`.
    pub(crate) fn is_good(&self, limit: Duration) -> bool {
        self.outcome == Outcome::Answered(200) && self.latency <= limit
    }

    /// Latency without what the worker was busy with it.
    pub(crate) fn wait(&self) -> Duration {
        self.latency.saturating_sub(self.service)
    }
}

/// Runs all streams at once to their ends; records are in the order of answers, per stream.
///
/// # Errors
/// The kernel gives no timer.
pub(crate) async fn run(streams: Vec<Stream>) -> anyhow::Result<Vec<Vec<Record>>> {
    // Workers that wait for timers leave a core to us, and one is enough; those that burn CPU do
    // not, and there the kernel knows best.
    let timed = streams.iter().any(|stream| matches!(stream.work, Work::Served(_)));
    let _core = timed.then(OneCore::take);
    LocalSet::new()
        .run_until(async move {
            let mut shared = Vec::new();
            for stream in streams {
                shared.push(Rc::new(Shared::open(stream).await));
            }
            play(&shared).await.context("cannot wait for when requests are due")?;
            Ok(shared.iter().map(|shared| shared.records.take()).collect())
        })
        .await
}

/// This thread on one core, until it is dropped. Nothing may be started meanwhile: it would inherit
/// that.
struct OneCore {
    before: Option<CpuSet>,
}

impl OneCore {
    /// The last core that it may use; where the kernel refuses, all of them as before.
    fn take() -> Self {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread).ok();
        let pinned = before.and_then(|before| {
            let last = (0..CpuSet::count()).rev().find(|cpu| before.is_set(*cpu) == Ok(true))?;
            let mut one = CpuSet::new();
            one.set(last).ok()?;
            sched_setaffinity(this_thread, &one).ok()
        });
        Self { before: before.filter(|_| pinned.is_some()) }
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It was in force a moment ago; if it cannot be again, the bench goes on with one core.
            let _ = sched_setaffinity(Pid::from_raw(0), before);
        }
    }
}

/// What the requests of one stream share.
struct Shared {
    stream: Stream,
    /// Free connections of each client, the last used at the end.
    idle: RefCell<Vec<Vec<Connection>>>,
    places: Semaphore,
    records: RefCell<Vec<Record>>,
}

impl Shared {
    /// With the connections that the stream has from the start.
    async fn open(stream: Stream) -> Self {
        let places = match stream.travel {
            Travel::Pool { connections } => connections,
            Travel::KeepAlive | Travel::Close => Semaphore::MAX_PERMITS,
        };
        let mut idle: Vec<Vec<Connection>> = (0..stream.clients).map(|_| Vec::new()).collect();
        if let Travel::Pool { connections } = stream.travel {
            for at in 0..connections {
                let client = at % idle.len();
                let opened = Connection::open(source(&stream, client as u16), stream.target).await;
                idle[client].extend(opened);
            }
        }
        let (idle, records) = (RefCell::new(idle), RefCell::default());
        Self { stream, idle, places: Semaphore::new(places), records }
    }
}

/// A request to come.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    due: Duration,
    client: u16,
    /// How long it takes to serve, where that is drawn.
    service: Duration,
}

/// All arrivals of one stream.
fn arrivals(stream: &Stream) -> Vec<Arrival> {
    let mut random = SplitMix64::new(stream.seed);
    let mut arrivals = Vec::new();
    let mut due = stream.from;
    loop {
        due += Duration::from_secs_f64(exponential(&mut random) / stream.rate);
        if due >= stream.until {
            return arrivals;
        }
        let client = random.below(u64::from(stream.clients)) as u16;
        let service = stream.work.draw(&mut random);
        arrivals.push(Arrival { due, client, service });
    }
}

/// Sends everything when it is due, and waits for what comes back.
///
/// In one order for all streams, that of when requests are due. Were each stream to wait for
/// itself, one of them would always be the first of those that are late together, and with queues
/// that shed by age the first is the one that is served.
async fn play(shared: &[Rc<Shared>]) -> io::Result<()> {
    let all = shared.iter().flat_map(|shared| {
        arrivals(&shared.stream).into_iter().map(move |arrival| (arrival, Rc::clone(shared)))
    });
    let mut all: Vec<(Arrival, Rc<Shared>)> = all.collect();
    all.sort_by_key(|(arrival, _)| arrival.due);
    let alarm = Alarm::new()?;
    let start = tenfold::clock::now() + Duration::from_millis(20);
    let mut requests = JoinSet::new();
    for (arrival, shared) in all {
        alarm.until(start + arrival.due).await?;
        requests.spawn_local(one(shared, start, arrival));
        while requests.try_join_next().is_some() {}
    }
    requests.join_all().await;
    Ok(())
}

async fn one(shared: Rc<Shared>, start: Instant, arrival: Arrival) {
    let due = arrival.due;
    let intended = start + due;
    let lag = tenfold::clock::now().saturating_duration_since(intended);
    let deadline = intended + shared.stream.timeout;
    let answered = tokio::time::timeout_at(deadline.into(), exchange(&shared, arrival)).await;
    let latency = tenfold::clock::now().saturating_duration_since(intended);
    let (outcome, service_us, worker) = match answered {
        Ok(Ok(answer)) => (Outcome::Answered(answer.status), answer.service_us, answer.worker),
        Ok(Err(outcome)) => (outcome, 0, 0),
        Err(_) => (Outcome::TimedOut, 0, 0),
    };
    let service = Duration::from_micros(u64::from(service_us));
    shared.records.borrow_mut().push(Record { due, latency, lag, outcome, service, worker });
}

async fn exchange(shared: &Shared, arrival: Arrival) -> Result<client::Answer, Outcome> {
    let Arrival { client, service, .. } = arrival;
    let _place = shared.places.acquire().await.expect("it is never closed");
    let path = shared.stream.work.path(service);
    let close = match shared.stream.travel {
        Travel::KeepAlive | Travel::Pool { .. } => "",
        Travel::Close => "Connection: close\r\n",
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{close}\r\n");
    let mut free = shared.idle.borrow_mut()[usize::from(client)].pop();
    while let Some(connection) = free.take_if(|connection| !connection.is_fresh()) {
        drop(connection);
        free = shared.idle.borrow_mut()[usize::from(client)].pop();
    }
    let mut connection = match free {
        Some(connection) => connection,
        None => Connection::open(source(&shared.stream, client), shared.stream.target).await?,
    };
    let answer = connection.exchange(request.as_bytes()).await?;
    if answer.reusable && shared.stream.travel != Travel::Close {
        shared.idle.borrow_mut()[usize::from(client)].push(connection);
    }
    Ok(answer)
}

fn source(stream: &Stream, client: u16) -> Ipv4Addr {
    let [high, low] = (client + 1).to_be_bytes();
    Ipv4Addr::new(127, stream.net, high, low)
}

/// The value that a share `quantile` of `values` does not exceed; 0 if there are none.
pub(crate) fn quantile(mut values: Vec<Duration>, quantile: f64) -> Duration {
    values.sort_unstable();
    let rank = (quantile * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied().unwrap_or_default()
}
