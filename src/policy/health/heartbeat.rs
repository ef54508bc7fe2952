//! Judges by signs of life which workers are stalled and which hang.
//!
//! Silence is the sum of the times between samples, and each counts for at most twice what it
//! should have been: after the master itself was stopped, suspended or starved, nobody has been
//! silent for longer than it has looked. Workers that are not to be judged now (starting, ending,
//! under a debugger) begin anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::policy::WorkerId;

/// How much silence is what. None: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HangTimes {
    /// A worker whose heartbeat is silent for so long should get nothing new.
    pub stall: Option<Duration>,
    /// One whose heartbeat is silent for so long hangs, and is to be ended.
    pub hang: Option<Duration>,
    /// One without a heartbeat that holds exchanges and has ended none for so long hangs, too.
    pub hang_without_heartbeat: Option<Duration>,
}

/// Evidence is gathered after this much silence: a person who looks into the log soon finds it
/// there, and few of the pauses that end by themselves are as long.
const SUSPECT_AFTER: Duration = Duration::from_secs(10);

/// The rarest sampling: four looks within the usual beat of 1 s.
const SAMPLE_MAX: Duration = Duration::from_millis(250);
const SAMPLE_MIN: Duration = Duration::from_millis(25);

/// What a worker shows of being alive in one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It has a heartbeat; the number is another after every beat.
    Heartbeat(u64),
    /// The same of a worker that drains: when it will be ended is settled, but who waits for it is
    /// not to wait for so long.
    Leaving(u64),
    /// It has none, and holds exchanges; the number is another after each that has ended.
    Progress(u64),
    /// There is nothing to judge it by, or no right to.
    Exempt,
}

impl Sign {
    /// Whether nothing has happened since a sample showed `before`.
    fn is_silent_after(self, before: Self) -> bool {
        match (before, self) {
            (
                Self::Heartbeat(one) | Self::Leaving(one),
                Self::Heartbeat(other) | Self::Leaving(other),
            )
            | (Self::Progress(one), Self::Progress(other)) => one == other,
            (Self::Heartbeat(_) | Self::Leaving(_) | Self::Progress(_) | Self::Exempt, _) => false,
        }
    }
}

/// What a sample brought to light. Each is found once, until the worker shows a sign again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It should get nothing new.
    Stalled { worker: WorkerId },
    /// It may get work again, after this much silence.
    Recovered { worker: WorkerId, silent: Duration },
    /// It is judged no longer, and was silent to the end: it ends, or a debugger has it.
    Excused { worker: WorkerId },
    /// It is likely to hang: time to gather evidence, and to let its clients go.
    Suspect { worker: WorkerId, silent: Duration },
    /// It hangs.
    Hung { worker: WorkerId, silent: Duration },
}

/// The signs of all workers so far.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    times: HangTimes,
    sampled: Option<Instant>,
    workers: BTreeMap<WorkerId, Pulse>,
}

#[derive(Clone, Copy, Debug)]
struct Pulse {
    sign: Sign,
    silent: Duration,
    /// How far its silence was found out.
    found: Found,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Nothing,
    Stalled,
    Suspect,
    Hung,
}

impl HangTimes {
    /// After how much silence of a worker evidence is gathered: 10 s, or half way to `hang` if that
    /// is earlier, and never before it is stalled.
    fn suspect(&self, sign: Sign) -> Option<Duration> {
        let hang = self.hang_of(sign)?;
        let stall = self.stall.unwrap_or(Duration::ZERO);
        Some((hang / 2).min(SUSPECT_AFTER).max(stall).min(hang))
    }

    fn hang_of(&self, sign: Sign) -> Option<Duration> {
        match sign {
            Sign::Heartbeat(_) | Sign::Leaving(_) => self.hang,
            Sign::Progress(_) => self.hang_without_heartbeat,
            Sign::Exempt => None,
        }
    }

    /// What this much silence is.
    fn judge(&self, sign: Sign, silent: Duration) -> Found {
        let reached = |bound: Option<Duration>| bound.is_some_and(|bound| silent >= bound);
        // A slow request is no stall: only a heartbeat tells.
        let beats = matches!(sign, Sign::Heartbeat(_) | Sign::Leaving(_));
        let stall = self.stall.filter(|_| beats);
        let hang = self.hang_of(sign).filter(|_| !matches!(sign, Sign::Leaving(_)));
        if reached(hang) {
            Found::Hung
        } else if reached(self.suspect(sign)) {
            Found::Suspect
        } else if reached(stall) {
            Found::Stalled
        } else {
            Found::Nothing
        }
    }
}

impl Heartbeats {
    /// Nobody was looked at yet.
    pub fn new(times: HangTimes) -> Self {
        Self { times, sampled: None, workers: BTreeMap::new() }
    }

    /// How often [`sample`](Self::sample) is due, 25 to 250 ms; none if nothing is to be judged.
    pub fn interval(&self) -> Option<Duration> {
        let HangTimes { stall, hang, hang_without_heartbeat } = self.times;
        let shortest = [stall, hang, hang_without_heartbeat].into_iter().flatten().min()?;
        Some((shortest / 8).clamp(SAMPLE_MIN, SAMPLE_MAX))
    }

    /// Takes what every living worker shows now; returns what is new. Who is left out is forgotten.
    pub fn sample(
        &mut self,
        now: Instant,
        signs: impl IntoIterator<Item = (WorkerId, Sign)>,
    ) -> Vec<Finding> {
        let Some(interval) = self.interval() else {
            return Vec::new();
        };
        let since = self.sampled.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let counted = since.min(2 * interval);
        self.sampled = Some(now);
        let mut findings = Vec::new();
        let mut before = std::mem::take(&mut self.workers);
        for (worker, sign) in signs {
            let pulse = match before.remove(&worker) {
                Some(pulse) if sign.is_silent_after(pulse.sign) => {
                    Pulse { sign, silent: pulse.silent + counted, ..pulse }
                }
                Some(pulse) => {
                    let silent = pulse.silent;
                    match (pulse.found, sign) {
                        (Found::Nothing, _) => {}
                        (_, Sign::Exempt) => findings.push(Finding::Excused { worker }),
                        (_, Sign::Heartbeat(_) | Sign::Leaving(_) | Sign::Progress(_)) => {
                            findings.push(Finding::Recovered { worker, silent });
                        }
                    }
                    Pulse { sign, silent: Duration::ZERO, found: Found::Nothing }
                }
                None => Pulse { sign, silent: Duration::ZERO, found: Found::Nothing },
            };
            self.workers.insert(worker, self.find(worker, pulse, &mut findings));
        }
        findings
    }

    /// Whether a worker was found stalled, and has shown no sign since.
    pub fn is_stalled(&self, worker: WorkerId) -> bool {
        let pulse = self.workers.get(&worker).filter(|pulse| self.has_stalls(pulse.sign));
        pulse.is_some_and(|pulse| pulse.found >= Found::Stalled)
    }

    /// Lets a hanging worker live, for a reason that may end: it is found to hang once more after
    /// as much silence again.
    pub fn spare(&mut self, worker: WorkerId) {
        if let Some(pulse) = self.workers.get_mut(&worker) {
            pulse.silent = Duration::ZERO;
            pulse.found = pulse.found.min(Found::Suspect);
        }
    }

    fn has_stalls(&self, sign: Sign) -> bool {
        let beats = matches!(sign, Sign::Heartbeat(_) | Sign::Leaving(_));
        self.times.stall.is_some() && beats
    }

    /// Adds every step of silence that was not found before.
    fn find(&self, worker: WorkerId, mut pulse: Pulse, findings: &mut Vec<Finding>) -> Pulse {
        let Pulse { sign, silent, found } = pulse;
        let is = self.times.judge(sign, silent);
        let is_new = |step: Found| found < step && step <= is;
        if self.has_stalls(sign) && is_new(Found::Stalled) {
            findings.push(Finding::Stalled { worker });
        }
        if is_new(Found::Suspect) {
            findings.push(Finding::Suspect { worker, silent });
        }
        if is_new(Found::Hung) {
            findings.push(Finding::Hung { worker, silent });
        }
        pulse.found = found.max(is);
        pulse
    }
}

#[cfg(test)]
mod tests {
    use super::Sign::{Exempt, Heartbeat, Leaving, Progress};
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    const TIMES: HangTimes =
        HangTimes { stall: Some(ms(2_000)), hang: Some(ms(30_000)), hang_without_heartbeat: None };

    /// Samples one worker at these times (ms); returns what was found, with when.
    fn found(times: HangTimes, samples: impl IntoIterator<Item = (u64, Sign)>) -> Vec<String> {
        let start = Instant::now();
        let mut heartbeats = Heartbeats::new(times);
        let mut told = Vec::new();
        for (at, sign) in samples {
            for finding in heartbeats.sample(start + ms(at), [(WorkerId(1), sign)]) {
                let (what, silent) = match finding {
                    Finding::Stalled { .. } => ("stalled", None),
                    Finding::Recovered { silent, .. } => ("recovered", Some(silent)),
                    Finding::Excused { .. } => ("excused", None),
                    Finding::Suspect { silent, .. } => ("suspect", Some(silent)),
                    Finding::Hung { silent, .. } => ("hung", Some(silent)),
                };
                let silent = silent.map_or(String::new(), |it| format!(" {}", it.as_millis()));
                told.push(format!("{at} {what}{silent}"));
            }
        }
        told
    }

    /// A sample every 250 ms, with the sign of each.
    fn steadily(until: u64, sign: impl Fn(u64) -> Sign) -> Vec<(u64, Sign)> {
        (0..=until / 250).map(|step| (step * 250, sign(step * 250))).collect()
    }

    #[test]
    fn silence_is_found_in_steps_and_each_once() {
        let last_beat_at_one_second = |at: u64| Heartbeat(at.min(1_000));
        assert_eq!(
            found(TIMES, steadily(40_000, last_beat_at_one_second)),
            ["3000 stalled", "11000 suspect 10000", "31000 hung 30000"]
        );
    }

    #[test]
    fn a_worker_that_beats_every_second_is_never_found() {
        assert!(found(TIMES, steadily(60_000, |at| Heartbeat(at / 1_000))).is_empty());
    }

    #[test]
    fn a_stalled_worker_that_beats_again_is_in_order_and_can_stall_again() {
        let sign = |at: u64| Heartbeat(u64::from(at >= 5_000));
        assert_eq!(
            found(TIMES, steadily(8_000, sign)),
            ["2000 stalled", "5000 recovered 4750", "7000 stalled"]
        );
    }

    #[test]
    fn a_gap_between_samples_counts_for_two_of_them_at_most() {
        // A master that was stopped for a minute, twice, and looked for a moment between.
        let samples = [0, 60_000, 60_250, 120_250].map(|at| (at, Heartbeat(7)));
        assert!(found(TIMES, samples).is_empty());
    }

    #[test]
    fn a_spared_worker_is_found_to_hang_after_as_much_silence_again() {
        let start = Instant::now();
        let mut heartbeats = Heartbeats::new(TIMES);
        let mut hung = Vec::new();
        for (at, sign) in steadily(100_000, |at| Heartbeat(u64::from(at > 70_000))) {
            for finding in heartbeats.sample(start + ms(at), [(WorkerId(1), sign)]) {
                if let Finding::Hung { worker, .. } = finding {
                    hung.push(at);
                    heartbeats.spare(worker);
                }
            }
        }
        assert_eq!(hung, [30_000, 60_000], "and not after it has shown a sign");
    }

    #[test]
    fn a_worker_is_stalled_from_its_finding_to_its_next_sign() {
        let start = Instant::now();
        let mut heartbeats = Heartbeats::new(TIMES);
        let mut stalled = Vec::new();
        for (at, sign) in steadily(5_000, |at| Heartbeat(u64::from(at >= 4_000))) {
            heartbeats.sample(start + ms(at), [(WorkerId(1), sign)]);
            if heartbeats.is_stalled(WorkerId(1)) {
                stalled.push(at);
            }
        }
        assert_eq!((stalled.first(), stalled.last()), (Some(&2_000), Some(&3_750)));
        assert!(!heartbeats.is_stalled(WorkerId(2)), "nobody knows it");
    }

    #[test]
    fn who_is_exempt_is_not_judged_and_begins_anew() {
        let sign = |at: u64| if at < 60_000 { Exempt } else { Heartbeat(1) };
        assert_eq!(found(TIMES, steadily(62_000, sign)), ["62000 stalled"]);
        let attached = |at: u64| if at < 4_000 { Heartbeat(1) } else { Exempt };
        assert_eq!(
            found(TIMES, steadily(60_000, attached)),
            ["2000 stalled", "4000 excused"],
            "a debugger stops the judging"
        );
    }

    #[test]
    fn who_waits_for_a_draining_worker_is_let_go_and_it_is_left_to_its_end() {
        let sign = |at: u64| if at < 6_000 { Heartbeat(1) } else { Leaving(1) };
        assert_eq!(found(TIMES, steadily(60_000, sign)), ["2000 stalled", "10000 suspect 10000"]);
        let alive = |at: u64| Leaving(u64::from(at >= 5_000) + at.saturating_sub(5_000) / 1_000);
        assert_eq!(found(TIMES, steadily(20_000, alive)), ["2000 stalled", "5000 recovered 4750"]);
    }

    #[test]
    fn without_a_heartbeat_only_an_explicit_time_judges_and_only_hangs() {
        assert!(found(TIMES, steadily(90_000, |_| Progress(3))).is_empty());
        let explicit = HangTimes { hang_without_heartbeat: Some(ms(8_000)), ..TIMES };
        assert_eq!(
            found(explicit, steadily(20_000, |_| Progress(3))),
            ["4000 suspect 4000", "8000 hung 8000"]
        );
        assert!(found(explicit, steadily(20_000, |at| Progress(at / 2_000))).is_empty());
    }

    #[test]
    fn what_is_switched_off_is_never_found() {
        let off = HangTimes { stall: None, hang: None, hang_without_heartbeat: None };
        assert_eq!(Heartbeats::new(off).interval(), None);
        assert!(found(off, steadily(90_000, |_| Heartbeat(1))).is_empty());
        let stall_only = HangTimes { hang: None, ..TIMES };
        assert_eq!(found(stall_only, steadily(90_000, |_| Heartbeat(1))), ["2000 stalled"]);
        let hang_only = HangTimes { stall: None, ..TIMES };
        assert_eq!(
            found(hang_only, steadily(40_000, |_| Heartbeat(1))),
            ["10000 suspect 10000", "30000 hung 30000"]
        );
    }

    #[test]
    fn a_short_hang_brings_the_evidence_forward() {
        let times = HangTimes { stall: Some(ms(300)), hang: Some(ms(900)), ..TIMES };
        assert_eq!(Heartbeats::new(times).interval(), Some(Duration::from_micros(37_500)));
        let samples = (0..=30).map(|step| (step * 50, Heartbeat(1)));
        assert_eq!(found(times, samples), ["300 stalled", "450 suspect 450", "900 hung 900"]);
    }
}
