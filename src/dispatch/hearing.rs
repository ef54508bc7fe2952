//! Acts on what workers say.

use std::path::Path;
use std::time::Instant;

use super::connection::Answer;
use super::servers::Identity;
use super::serving::describe;
use super::{Counted, Hears, Reactor, ReadyWhen, Standing, Watched, tasks};
use crate::link::orders::Report;
use crate::link::said::{Place, Said, ServerKey};
use crate::policy::WorkerId;

impl Reactor {
    /// Acts on one message.
    pub(super) fn heed(&mut self, now: Instant, worker: WorkerId, said: Said) {
        match said {
            Said::Online => self.spoke(worker, "node", None),
            Said::Attached { pid, runtime } => self.attached(worker, pid, runtime),
            Said::Asks(request) => self.asked(now, worker, request),
            Said::Listening(place) => self.listening(now, worker, &place),
            Said::Closed(server) => self.closed_by_app(now, worker, server),
            Said::HandleTaken => {
                if let Some(member) = self.links.get_mut(&worker) {
                    member.link.handle_taken();
                }
            }
            Said::Answered { seq, accepted: true } => {
                self.answered(now, worker, Answer::Taken { seq });
            }
            Said::Answered { seq, accepted: false } => {
                self.answered(now, worker, Answer::Refused { seq });
            }
            Said::HandleLost => self.answered(now, worker, Answer::NeverReceived),
            Said::Ready => self.native_ready(now, worker),
            Said::AppReady => {
                if self.ready_when == ReadyWhen::Told {
                    self.ready(now, worker);
                }
            }
            Said::Load(load) => {
                if let Some(member) = self.links.get(&worker) {
                    member.heard.beat(now);
                }
                let grants = self.balance().report(now, worker, load);
                self.deliver(now, grants);
            }
            Said::Room => {
                if let Some(member) = self.links.get_mut(&worker) {
                    member.watched = Watched::No;
                }
                self.refresh_load(now, worker);
                self.watch_for_room(now);
            }
            Said::Leaving { seq } => self.leaving(now, worker, seq),
            Said::Bypasses(bypass) => {
                let place = bypass.place.as_ref().map(describe);
                self.report(Report::Bypassed { worker, why: bypass.why, place });
            }
            Said::WroteHeap(outcome) => self.report(Report::WroteHeap { worker, outcome }),
            Said::Faulted(error) => self.report(Report::Faulted { worker, error }),
            Said::App => {}
        }
    }

    fn spoke(&mut self, worker: WorkerId, dialect: &'static str, runtime: Option<String>) {
        self.report(Report::Spoke { worker, dialect, runtime });
    }

    /// A process of the worker's tree claimed the channel and runs our preload.
    fn attached(&mut self, worker: WorkerId, pid: Option<i32>, runtime: Option<String>) {
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        member.hears = Hears::Peers;
        // Until its first page is written, counts from outside stand in (a worker whose preload may
        // not write at all never writes one).
        if member.link.load.read().is_some_and(|page| page.version > 0) {
            member.counted = Counted::Page;
        }
        member.speaker = pid.unwrap_or(member.link.pid);
        if let Some(pid) = pid.filter(|pid| *pid != member.link.pid) {
            // The channel is held open by the wrapper too, so its end is no news of this process.
            self.change(tasks::Change::WatchClaimant { worker, pid });
        }
        self.spoke(worker, "node", runtime);
    }

    /// The worker listens: from now on it gets what its servers' listeners accept.
    fn listening(&mut self, now: Instant, worker: WorkerId, place: &Place) {
        for key in self.servers.served_by(worker) {
            self.serve(now, worker, key);
        }
        let counts_as_ready = match place {
            Place::Tcp { .. } => true,
            // Wrappers open private pipes of their own first; see docs/PROTOCOL.md.
            Place::Path(path) => {
                let speaker = self.links.get(&worker).map(|member| member.speaker);
                let is_private = speaker.is_some_and(|pid| names(path, pid));
                self.servers.layouts.of(self.generation_of(worker)).names_path(path) || !is_private
            }
            Place::Udp { .. } | Place::Descriptor(_) => false,
        };
        if counts_as_ready && self.ready_when == ReadyWhen::Listening {
            self.ready(now, worker);
        }
    }

    fn serve(&mut self, now: Instant, worker: WorkerId, key: ServerKey) {
        let Some(server) = self.servers.get(key) else {
            return;
        };
        for listener in server.listeners.clone() {
            if !self.is_for(worker, listener) {
                continue;
            }
            let grants = self.balance().serve(now, worker, listener);
            self.deliver(now, grants);
        }
    }

    pub(super) fn ready(&mut self, now: Instant, worker: WorkerId) {
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        if member.standing != Standing::Starting || !self.is_warm(worker) {
            return;
        }
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        member.standing = Standing::Ready;
        if let Counted::Kernel(count) = &mut member.counted {
            count.ready(member.link.pid);
            self.observe();
        }
        self.begin_ramp(now, worker);
        let grants = self.balance().ready(now, worker);
        self.report(Report::Ready(worker));
        self.deliver(now, grants);
    }

    /// A native worker serves every listener; where none is configured, the default one.
    fn native_ready(&mut self, now: Instant, worker: WorkerId) {
        let key = match self.servers.key_of(&Identity::Native) {
            Some(key) => match self.complete(key, worker, None) {
                Ok(()) => key,
                Err(error) => return self.no_fallback(worker, &error),
            },
            None => match self.open_native(worker, None) {
                Ok(key) => key,
                Err((address, error)) => {
                    let error = error.to_string();
                    return self.report(Report::CannotListen { worker, address, error });
                }
            },
        };
        if let Some(server) = self.servers.get_mut(key) {
            server.workers.insert(worker);
        }
        if let Some(member) = self.links.get_mut(&worker) {
            member.counted = Counted::Messages;
            // Its heartbeat is due from now on: docs/PROTOCOL.md, §3.
            member.heard.beat(now);
        }
        self.spoke(worker, "native", None);
        self.serve(now, worker, key);
        self.ready(now, worker);
    }

    /// The app leaves the cluster by itself.
    fn leaving(&mut self, now: Instant, worker: WorkerId, seq: u64) {
        let grants = self.balance().drain(now, worker);
        self.deliver(now, grants);
        if let Some(member) = self.links.get_mut(&worker) {
            let sent = member.link.confirm_leaving(seq);
            self.after_send(now, worker, sent);
        }
    }
}

/// Whether a path has the number of this process in it: then it is private to the process.
fn names(path: &Path, pid: i32) -> bool {
    let pid = pid.to_string();
    path.to_string_lossy().split(|character: char| !character.is_ascii_digit()).any(|it| it == pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_process_by_its_whole_number_only() {
        for (path, expected) in [
            ("/tmp/tsx-0/4711.pipe", true),
            ("/tmp/app-4711", true),
            ("/tmp/app-47110.sock", false),
            ("/tmp/x471/1.sock", false),
            ("/run/app.sock", false),
        ] {
            assert_eq!(names(Path::new(path), 4711), expected, "{path}");
        }
    }
}
