//! Tells the service manager where the pool is in its life (sd_notify(3)), and that it goes round.
//!
//! What to say is decided from a picture of the pool, compared with what was said before, so
//! nothing is said twice and nothing is lost: what the manager had no room for is said again.

use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

use super::{Charge, Supervisor};
use crate::clock;
use crate::policy::{Phase, Startup, StopStep};
use crate::sys::notify::Manager;

/// How much longer than its own bounds the manager shall wait, each time it is told. Ours
/// (`workers.start_timeout`, `shutdown.total`) are what ends a start or a stop.
const EXTENSION: Duration = Duration::from_secs(30);

/// How often it is told, while we start or stop: two may come late.
const EXTEND_EVERY: Duration = Duration::from_secs(10);

/// How long a message that found no room, or a sign of life that is not true, waits to be tried
/// again.
const AGAIN: Duration = Duration::from_millis(250);

/// How old the reactor's last beat may be while it counts as alive. It beats every second; a busy
/// machine may keep it from a turn.
const PULSE_MIN: Duration = Duration::from_secs(3);

/// Our end of the service manager; see the module.
#[derive(Debug)]
pub(crate) struct Systemd {
    manager: Manager,
    said: Said,
}

/// What the manager knows.
#[derive(Debug)]
struct Said {
    ready: Told,
    stopping: Told,
    /// How many reloads it knows of.
    reloads: u64,
    status: String,
    /// When it is next told to wait longer.
    extend_at: Instant,
    watchdog: Option<Watchdog>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    NotYet,
    Yes,
}

/// The manager kills who does not say WATCHDOG=1 for this long.
#[derive(Clone, Copy, Debug)]
struct Watchdog {
    /// Half of what it allows.
    every: Duration,
    next: Instant,
}

/// Where the pool is, for the manager.
#[derive(Clone, Debug)]
struct Picture {
    stage: Stage,
    /// One line for people.
    status: String,
    /// Since the reactor went round.
    pulse_age: Duration,
    /// How many reloads have begun, failed ones included.
    reloads: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Serving,
    Reloading,
    Stopping,
}

impl Systemd {
    /// The manager that the environment names; none where there is none.
    ///
    /// # Errors
    /// NOTIFY_SOCKET names nobody.
    pub(crate) fn detect(
        now: Instant,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> io::Result<Option<Self>> {
        let Some(address) = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Ok(None);
        };
        let manager = Manager::connect(&address)?;
        let number = |name| variable(name)?.into_string().ok()?.parse::<u64>().ok();
        // Without WATCHDOG_PID it is meant for whoever has the variable.
        let is_ours = variable("WATCHDOG_PID").is_none()
            || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
        let allowed = number("WATCHDOG_USEC").filter(|microseconds| is_ours && *microseconds > 0);
        let watchdog = allowed.map(|microseconds| Watchdog {
            every: Duration::from_micros(microseconds) / 2,
            next: now,
        });
        Ok(Some(Self { manager, said: Said::nothing(now, watchdog) }))
    }

    /// When there is something to say although nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let settled = self.said.ready == Told::Yes && self.said.stopping == Told::NotYet;
        let extend = (!settled).then_some(self.said.extend_at);
        let watchdog = self.said.watchdog.map(|watchdog| watchdog.next);
        extend.into_iter().chain(watchdog).min().map(|due| due.max(now))
    }

    /// Says that another process is the unit's main one from now on. Nothing is said after it: the
    /// manager no longer listens to us.
    pub(super) fn name_successor(self, pid: i32) {
        if let Err(error) = self.manager.say(&format!("MAINPID={pid}")) {
            tracing::error!(%error, pid, "systemd was not told of the new master");
        }
    }

    /// Says what has changed since the last call.
    fn tell(&mut self, now: Instant, picture: &Picture) {
        // A reload that failed at once is begun and ended in two messages.
        while let Some(message) = self.said.owed(now, picture) {
            if let Err(error) = self.manager.say(&message) {
                // It is behind, or restarts itself; both end.
                tracing::debug!(%error, "systemd does not listen now");
                return self.said.postpone(now);
            }
            self.said.was_told(now, picture);
        }
    }
}

impl Said {
    fn nothing(now: Instant, watchdog: Option<Watchdog>) -> Self {
        let (ready, stopping) = (Told::NotYet, Told::NotYet);
        Self { ready, stopping, reloads: 0, status: String::new(), extend_at: now, watchdog }
    }

    /// The message that is due; [`Said::was_told`] once it is out.
    fn owed(&mut self, now: Instant, picture: &Picture) -> Option<String> {
        let mut lines = Vec::new();
        match picture.stage {
            Stage::Serving | Stage::Reloading if self.reloads != picture.reloads => {
                lines.push(reloading());
            }
            Stage::Serving if self.ready == Told::NotYet => lines.push("READY=1".to_owned()),
            Stage::Stopping if self.stopping == Told::NotYet => lines.push("STOPPING=1".to_owned()),
            Stage::Starting | Stage::Serving | Stage::Reloading | Stage::Stopping => {}
        }
        if self.extends(now, picture) {
            lines.push(format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
        }
        if picture.status != self.status {
            lines.push(format!("STATUS={}", picture.status));
        }
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.next <= now
        {
            if picture.pulse_age <= watchdog.every.max(PULSE_MIN) {
                lines.push("WATCHDOG=1".to_owned());
            } else {
                watchdog.next = now + AGAIN;
            }
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    fn extends(&self, now: Instant, picture: &Picture) -> bool {
        picture.stage != Stage::Serving
            && (self.extend_at <= now
                || picture.stage == Stage::Stopping && self.stopping == Told::NotYet)
    }

    fn was_told(&mut self, now: Instant, picture: &Picture) {
        if self.extends(now, picture) {
            self.extend_at = now + EXTEND_EVERY;
        }
        match picture.stage {
            Stage::Serving | Stage::Reloading if self.reloads != picture.reloads => {
                self.ready = Told::NotYet;
            }
            Stage::Starting | Stage::Reloading => {}
            Stage::Serving => self.ready = Told::Yes,
            Stage::Stopping => self.stopping = Told::Yes,
        }
        self.reloads = picture.reloads;
        self.status.clone_from(&picture.status);
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.next <= now
        {
            watchdog.next = now + watchdog.every;
        }
    }

    fn postpone(&mut self, now: Instant) {
        self.extend_at = self.extend_at.max(now + AGAIN);
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.next = watchdog.next.max(now + AGAIN);
        }
    }
}

impl Supervisor {
    /// Tells the service manager, if there is one, what has changed.
    pub(super) fn tell_systemd(&mut self, now: Instant) {
        // While the pool is an old master's, it is the one that speaks.
        let is_ours = *self.parts.estate.charge.borrow() == Charge::Ours;
        if self.parts.systemd.is_none() || !is_ours {
            return;
        }
        let picture = self.picture(now);
        if let Some(systemd) = &mut self.parts.systemd {
            systemd.tell(now, &picture);
        }
    }

    fn picture(&self, now: Instant) -> Picture {
        let pulse_age = self.parts.pulse.age(now);
        let (ready, wanted) = (self.ready_count(), self.parts.fleet.count());
        let (stage, status) = match (self.parts.fleet.phase(), self.startup) {
            (Phase::Starting, _) | (Phase::Running | Phase::Reloading, Startup::Pending) => {
                (Stage::Starting, format!("starting {ready}/{wanted}"))
            }
            (Phase::Reloading, Startup::Done) => {
                (Stage::Reloading, format!("reloading, ready {ready}/{wanted}"))
            }
            (Phase::Running, Startup::Done) => (Stage::Serving, format!("ready {ready}/{wanted}")),
            (Phase::Stopping(step), _) => {
                let left = self.parts.fleet.workers().count();
                (Stage::Stopping, format!("stopping: {}, {left} left", step_word(step)))
            }
            (Phase::Finished, _) => (Stage::Stopping, "stopped".to_owned()),
        };
        Picture { stage, status, pulse_age, reloads: self.reloads.begun }
    }
}

/// With the time, by which systemd from 253 on knows that it is its own reload that we mean.
fn reloading() -> String {
    match clock::monotonic_micros() {
        Ok(micros) => format!("RELOADING=1\nMONOTONIC_USEC={micros}"),
        Err(_) => "RELOADING=1".to_owned(),
    }
}

fn step_word(step: StopStep) -> &'static str {
    match step {
        StopStep::Delaying => "still accepting",
        StopStep::Draining => "draining",
        StopStep::Terminating => "TERM sent",
        StopStep::Killing => "KILL sent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn picture(stage: Stage, status: &str) -> Picture {
        Picture { stage, status: status.to_owned(), pulse_age: Duration::ZERO, reloads: 0 }
    }

    fn told(said: &mut Said, now: Instant, picture: &Picture) -> String {
        let message = said.owed(now, picture).unwrap_or_default().replace('\n', " ");
        if !message.is_empty() {
            said.was_told(now, picture);
        }
        message
    }

    #[test]
    fn a_life_is_told_once_step_by_step() {
        let now = clock::now();
        let mut said = Said::nothing(now, None);
        let longer = "EXTEND_TIMEOUT_USEC=30000000";
        for (after, stage, status, message) in [
            (0, Stage::Starting, "starting 0/2", format!("{longer} STATUS=starting 0/2")),
            (1, Stage::Starting, "starting 0/2", String::new()),
            (2, Stage::Starting, "starting 1/2", "STATUS=starting 1/2".to_owned()),
            (10, Stage::Starting, "starting 1/2", longer.to_owned()),
            (11, Stage::Serving, "ready 2/2", "READY=1 STATUS=ready 2/2".to_owned()),
            (99, Stage::Serving, "ready 2/2", String::new()),
            (100, Stage::Serving, "ready 1/2", "STATUS=ready 1/2".to_owned()),
            (101, Stage::Stopping, "stopping", format!("STOPPING=1 {longer} STATUS=stopping")),
            (105, Stage::Stopping, "stopping", String::new()),
            (111, Stage::Stopping, "stopping", longer.to_owned()),
        ] {
            let told = told(&mut said, now + after * SECOND, &picture(stage, status));
            assert_eq!(told, message, "after {after} s");
        }
    }

    #[test]
    fn a_reload_is_told_with_its_time_and_its_end_even_if_it_fails_at_once() {
        let now = clock::now();
        let mut said = Said::nothing(now, None);
        let mut picture = picture(Stage::Serving, "");
        assert_eq!(told(&mut said, now, &picture), "READY=1");
        let begins = |message: String| {
            let before = clock::monotonic_micros().expect("it is there");
            let rest = message.strip_prefix("RELOADING=1 MONOTONIC_USEC=").expect("it begins");
            let micros = rest.split(' ').next().and_then(|it| it.parse::<u64>().ok());
            assert!(micros.is_some_and(|micros| micros <= before), "{message}");
        };
        (picture.stage, picture.reloads) = (Stage::Reloading, 1);
        begins(told(&mut said, now, &picture));
        assert_eq!(told(&mut said, now + SECOND, &picture), "");
        // Another one follows at once, and is begun too.
        picture.reloads = 2;
        begins(told(&mut said, now + SECOND, &picture));
        picture.stage = Stage::Serving;
        assert_eq!(told(&mut said, now + SECOND, &picture), "READY=1");
        picture.reloads = 3;
        begins(told(&mut said, now + SECOND, &picture));
        assert_eq!(told(&mut said, now + SECOND, &picture), "READY=1");
        assert_eq!(told(&mut said, now + SECOND, &picture), "");
    }

    #[test]
    fn what_found_no_room_is_said_again() {
        let now = clock::now();
        let mut said = Said::nothing(now, None);
        let ready = picture(Stage::Serving, "ready 1/1");
        assert!(said.owed(now, &ready).is_some());
        said.postpone(now);
        assert_eq!(said.owed(now, &ready).as_deref(), Some("READY=1\nSTATUS=ready 1/1"));
    }

    #[test]
    fn life_is_told_at_half_the_time_and_only_while_the_reactor_goes_round() {
        let now = clock::now();
        let watchdog = Watchdog { every: 5 * SECOND, next: now };
        let mut said = Said::nothing(now, Some(watchdog));
        let mut serving = picture(Stage::Serving, "");
        assert_eq!(told(&mut said, now, &serving), "READY=1 WATCHDOG=1");
        assert_eq!(told(&mut said, now + 4 * SECOND, &serving), "");
        assert_eq!(told(&mut said, now + 5 * SECOND, &serving), "WATCHDOG=1");
        serving.pulse_age = 6 * SECOND;
        assert_eq!(told(&mut said, now + 10 * SECOND, &serving), "");
        // It goes round again before the manager's patience ends.
        serving.pulse_age = SECOND;
        assert_eq!(told(&mut said, now + 11 * SECOND, &serving), "WATCHDOG=1");
    }

    #[test]
    fn nobody_is_told_where_nobody_asked() {
        let absent = Systemd::detect(clock::now(), |_| None).expect("nobody to connect to");
        assert!(absent.is_none());
        let gone = Systemd::detect(clock::now(), |name| {
            (name == "NOTIFY_SOCKET").then(|| "/nowhere/notify".into())
        });
        assert!(gone.is_err());
    }
}
