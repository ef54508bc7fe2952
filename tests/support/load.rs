//! Clients that ask at a steady pace until they are told to stop, and what went wrong for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::http::{self, Connection};

/// How often one client asks, if it is answered at once.
const PACE: Duration = Duration::from_millis(20);

/// How the clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Half of them keep their connections, half open a new one for each request.
    Mixed,
    OneShot,
}

/// See the module.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

/// How many clients of up to 50 requests a second a test has: `few`, or more in a run by hand.
#[track_caller]
pub(crate) fn clients(few: usize) -> usize {
    let asked = std::env::var("TENFOLD_TEST_CLIENTS").ok();
    asked.map_or(few, |text| text.parse().expect("TENFOLD_TEST_CLIENTS is a number"))
}

impl Load {
    pub(crate) fn begin(port: u16, clients: usize, manner: Manner) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let client = |number: usize| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            std::thread::spawn(move || {
                let mut kept = None;
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let outcome = match manner {
                        Manner::Mixed if number.is_multiple_of(2) => ask_kept(port, &mut kept),
                        Manner::Mixed | Manner::OneShot => {
                            http::get(port, "/").map_err(|error| error.to_string())
                        }
                    };
                    asked.fetch_add(1, Ordering::Relaxed);
                    match outcome {
                        Ok(answer) if answer.status == 200 && !answer.body.is_empty() => {}
                        Ok(answer) => failures.push(format!("{} {}", answer.status, answer.text())),
                        Err(error) => failures.push(error),
                    }
                    pause();
                }
                failures
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, asked, clients }
    }

    /// Waits until that many more requests have had their answers, good or bad.
    #[track_caller]
    pub(crate) fn wait_for(&self, more: u32) {
        let wanted = self.asked.load(Ordering::Relaxed) + more;
        super::wait_until(super::PATIENCE, "more requests", || {
            (self.asked.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }

    /// Ends it; the number of requests. Panics if one had no good answer, or hardly any was made.
    #[track_caller]
    pub(crate) fn end(self, at_least: u32) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let ended =
            self.clients.into_iter().flat_map(|it| it.join().expect("clients do not panic"));
        let failures: Vec<String> = ended.collect();
        let asked = self.asked.load(Ordering::Relaxed);
        let count = failures.len();
        assert!(failures.is_empty(), "{count} of {asked} failed: {:?}", failures.first());
        assert!(asked >= at_least, "only {asked} requests were made");
        asked
    }
}

/// The pace of a steady load, not a wait for anything.
#[allow(clippy::disallowed_methods, reason = "a client of its own thread has nothing to wait for")]
fn pause() {
    std::thread::sleep(PACE);
}

fn ask_kept(port: u16, kept: &mut Option<Connection>) -> Result<http::Response, String> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(port).map_err(|error| format!("connect: {error}"))?,
    };
    let answer = connection.get("/").map_err(|error| format!("kept alive: {error}"))?;
    if answer.header("connection") != Some("close") {
        *kept = Some(connection);
    }
    Ok(answer)
}
