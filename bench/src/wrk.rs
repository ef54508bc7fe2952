//! Runs wrk, a closed loop: for peaks, where as many requests are sent as are answered.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::peer::on_path;

/// What wrk counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    /// Answers per second.
    pub(crate) rate: f64,
    /// Answers other than 2xx and 3xx, and sockets that failed.
    pub(crate) failed: u64,
    /// Of the failed ones, the answers.
    pub(crate) refused: u64,
}

impl Counts {
    /// Why the rate is not that of the app. A refusal costs less than an answer, so a rate that
    /// holds some would say too much.
    pub(crate) fn flaw(self) -> Option<&'static str> {
        if self.requests == 0 {
            Some("no request was answered")
        } else if self.refused > 0 {
            Some("some answers were neither 2xx nor 3xx")
        } else {
            None
        }
    }
}

/// Why it cannot run here, with the command that helps.
pub(crate) fn missing() -> Option<&'static str> {
    let absent = !on_path("wrk").exists();
    absent.then_some("wrk is not installed; to have it: apt-get install wrk")
}

/// Whether a connection carries one request or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connections {
    Kept,
    OneEach,
}

/// One run of wrk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'a str,
    pub(crate) connections: u32,
    pub(crate) how: Connections,
    pub(crate) seconds: u32,
}

/// Runs it on one thread: more would take the workers' CPUs.
///
/// # Errors
/// wrk is missing, could not connect, or said something else than counts.
pub(crate) async fn wrk(run: Run<'_>) -> anyhow::Result<Counts> {
    let mut command = Command::new("wrk");
    command.arg("-t1").arg(format!("-c{}", run.connections)).arg(format!("-d{}s", run.seconds));
    // Longer than any answer takes: a late one is counted as answered.
    command.arg("--timeout").arg("30s");
    if run.how == Connections::OneEach {
        command.arg("-H").arg("Connection: close");
    }
    command.arg(format!("http://{}{}", run.address, run.path));
    command.kill_on_drop(true).stdin(Stdio::null());
    let output = command.output().await.context("cannot run wrk: apt-get install wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk: {}", String::from_utf8_lossy(&output.stderr).trim());
    parse(&text).with_context(|| format!("wrk said {text}"))
}

fn parse(text: &str) -> Option<Counts> {
    let mut counts = Counts::default();
    let mut told = false;
    for line in text.lines().map(str::trim) {
        if let Some(rate) = line.strip_prefix("Requests/sec:") {
            counts.rate = rate.trim().parse().ok()?;
        } else if line.contains(" requests in ") {
            counts.requests = line.split(' ').next()?.parse().ok()?;
            told = true;
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses:") {
            counts.refused = count.trim().parse().ok()?;
            counts.failed += counts.refused;
        } else if let Some(kinds) = line.strip_prefix("Socket errors:") {
            let numbers = kinds.split(|c: char| !c.is_ascii_digit());
            counts.failed += numbers.filter_map(|number| number.parse::<u64>().ok()).sum::<u64>();
        }
    }
    told.then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_prints() {
        let text = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  \
                    24120 requests in 1.01s, 3.4MB read\n  \
                    Socket errors: connect 1, read 2, write 0, timeout 4\n  \
                    Non-2xx or 3xx responses: 5\nRequests/sec:  23881.19\nTransfer/sec: 3.3MB\n";
        let expected = Counts { requests: 24120, rate: 23881.19, failed: 12, refused: 5 };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("unable to connect to 127.0.0.1:1 Connection refused"), None);
    }

    #[test]
    fn a_rate_is_worth_something_if_all_that_came_were_answers_of_the_app() {
        let silent = parse("0 requests in 1.00s, 0.00B read\nRequests/sec:  0.00\n");
        assert!(silent.expect("counts").flaw().is_some_and(|flaw| flaw.contains("no request")));
        let good = Counts { requests: 9, rate: 9.0, failed: 1, refused: 0 };
        assert_eq!(good.flaw(), None, "a socket that failed is not in the rate");
        assert!(Counts { failed: 2, refused: 1, ..good }.flaw().is_some());
    }
}
