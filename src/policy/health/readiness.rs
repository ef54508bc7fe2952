//! Decides what probes are told: has the pool started, and should it get traffic.
//!
//! Readiness does not depend on load: a pod that sheds is still the best place for what it can
//! serve.

/// Whether the pool serves, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    pub startup: Startup,
    pub stop: Stop,
    /// Workers that serve now.
    pub ready: usize,
    /// Slots.
    pub wanted: usize,
}

/// Whether `health.ready_min` workers were ready at once, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup {
    Pending,
    Done,
}

/// Whether the pool is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    No,
    Begun,
}

/// The answer to a probe, with its text: `ready 7/10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    Well(String),
    Unwell(String),
}

impl Health {
    /// Of a pool that is to have so many workers, and has none yet.
    pub fn before(wanted: usize) -> Self {
        Self { startup: Startup::Pending, stop: Stop::No, ready: 0, wanted }
    }

    /// Whether it should get traffic.
    pub fn readiness(&self) -> Diagnosis {
        match (self.stop, self.startup) {
            (Stop::Begun, _) => Diagnosis::Unwell(self.told("stopping")),
            (Stop::No, Startup::Pending) => Diagnosis::Unwell(self.told("starting")),
            (Stop::No, Startup::Done) if self.ready == 0 => Diagnosis::Unwell(self.told("ready")),
            (Stop::No, Startup::Done) => Diagnosis::Well(self.told("ready")),
        }
    }

    /// Whether it has started; that stays so, whatever becomes of the workers.
    pub fn start(&self) -> Diagnosis {
        match self.startup {
            Startup::Pending => Diagnosis::Unwell(self.told("starting")),
            Startup::Done => Diagnosis::Well(self.told("ready")),
        }
    }

    fn told(&self, word: &str) -> String {
        format!("{word} {}/{}", self.ready, self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(startup: Startup, stop: Stop, ready: usize) -> Health {
        Health { startup, stop, ready, wanted: 10 }
    }

    #[test]
    fn readiness_needs_a_start_a_ready_worker_and_no_stop() {
        for (startup, stop, workers, wanted) in [
            (Startup::Pending, Stop::No, 0, Diagnosis::Unwell("starting 0/10".to_owned())),
            (Startup::Pending, Stop::No, 4, Diagnosis::Unwell("starting 4/10".to_owned())),
            (Startup::Done, Stop::No, 1, Diagnosis::Well("ready 1/10".to_owned())),
            (Startup::Done, Stop::No, 0, Diagnosis::Unwell("ready 0/10".to_owned())),
            (Startup::Done, Stop::Begun, 10, Diagnosis::Unwell("stopping 10/10".to_owned())),
        ] {
            assert_eq!(health(startup, stop, workers).readiness(), wanted);
        }
    }

    #[test]
    fn a_start_stays_done_whatever_becomes_of_the_workers() {
        let done = health(Startup::Done, Stop::Begun, 0).start();
        assert_eq!(done, Diagnosis::Well("ready 0/10".to_owned()));
        let pending = health(Startup::Pending, Stop::No, 4).start();
        assert_eq!(pending, Diagnosis::Unwell("starting 4/10".to_owned()));
    }
}
