//! Follows the lives of workers' channels: attached, heard, drained, ended.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::observe::KernelCount;
use super::request::{Death, SETTLED};
use super::upstream::Via;
use super::warming::Warming;
use super::{
    Counted, EXHAUSTED_PAUSE, EXIT_GRACE, Hears, Leaving, Member, Reactor, Standing, Timer,
    Watched, tasks,
};
use crate::link::orders::{Attachment, Report};
use crate::link::said::Said;
use crate::link::{Channel, Link, Stuck};
use crate::policy::{Duty, WorkerId};

impl Reactor {
    pub(super) fn attach(&mut self, now: Instant, attachment: Attachment) {
        let (worker, duty) = (attachment.worker, attachment.duty);
        let via = attachment.upstream.clone().map_or(Via::Channel, Via::Undecided);
        let (speaker, generation) = (attachment.pid, attachment.generation);
        let heard = Arc::clone(&attachment.heard);
        let link = Link::new(attachment);
        self.balance().add_worker(worker, self.bounds);
        let member = Member {
            link,
            generation,
            standing: Standing::Starting,
            flush: Rc::new(Notify::new()),
            watched: Watched::No,
            counted: Counted::Kernel(KernelCount::default()),
            speaker,
            private_seen: 0,
            private_open: Rc::new(Cell::new(0)),
            via,
            hears: Hears::Nothing,
            leaving: Leaving::No,
            warming: Warming::Cold,
            heard,
        };
        let change = tasks::Change::watch_channel(&member);
        self.links.insert(worker, member);
        self.change(change);
        self.assign(now, worker, duty);
    }

    /// It is to serve from now on, or to stand by.
    pub(super) fn assign(&mut self, now: Instant, worker: WorkerId, duty: Duty) {
        let grants = self.balance().set_duty(now, worker, duty);
        self.deliver(now, grants);
    }

    /// The worker's process is dead. What it said last still counts: an answer may sit unread.
    pub(super) fn detach(&mut self, now: Instant, worker: WorkerId) {
        while self.hear(now, worker) == Channel::More {}
        self.end_channel(now, worker);
        self.links.remove(&worker);
        self.front.forget_departure(worker);
        self.servers.forget_worker(worker);
        self.change(tasks::Change::ForgetChannel(worker));
    }

    /// Nothing more can be said to this worker: settles its account and gives what it had not
    /// answered for to others.
    pub(super) fn end_channel(&mut self, now: Instant, worker: WorkerId) {
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        if member.standing == Standing::Ended {
            return;
        }
        let mut was = std::mem::replace(&mut member.standing, Standing::Ended);
        if self.held.remove(&worker) {
            was = Standing::Draining;
        }
        let death = match was {
            Standing::Starting | Standing::Ready => Death::Crash,
            Standing::Draining | Standing::Ended => Death::Leaving,
        };
        self.front.died(worker, death);
        self.after(now + SETTLED, Timer::Casualties(worker));
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        let taken_back = member.link.take_back();
        let grants = self.balance().remove_worker(now, worker);
        self.deliver(now, grants);
        self.front.forget_worker(worker);
        if let Some(observer) = self.observing.observer() {
            observer.forget_worker(worker);
        }
        self.readmit(now, taken_back);
        match was {
            // It is most likely on its way out; a TERM now would cut that short.
            Standing::Draining => self.after(now + EXIT_GRACE, Timer::Drained(worker)),
            Standing::Starting | Standing::Ready | Standing::Ended => {
                self.report(Report::Unready(worker));
            }
        }
        // It may have been the last one that served.
        self.deadline_moved.notify_one();
    }

    /// A process that had claimed the channel is gone while the worker (a wrapper) lives on: the
    /// channel is offered to the wrapper's next child.
    pub(super) fn claimant_ended(&mut self, now: Instant, worker: WorkerId) {
        while self.hear(now, worker) == Channel::More {}
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        let is_held = self.held.contains(&worker);
        match member.standing {
            Standing::Ended => return,
            Standing::Draining => return self.end_channel(now, worker),
            Standing::Starting | Standing::Ready if is_held => {
                return self.end_channel(now, worker);
            }
            Standing::Starting | Standing::Ready => {}
        }
        member.standing = Standing::Starting;
        member.warming = Warming::Cold;
        member.watched = Watched::No;
        member.hears = Hears::Nothing;
        member.counted = Counted::Kernel(KernelCount::default());
        let taken_back = member.link.take_back();
        let offered = member.link.offer_again();
        self.front.forget_worker(worker);
        let grants = self.balance().unready(now, worker);
        self.deliver(now, grants);
        self.servers.forget_worker(worker);
        self.readmit(now, taken_back);
        self.report(Report::Unready(worker));
        if let Err(error) = offered {
            self.report(Report::Faulted { worker, error: format!("cannot offer again: {error}") });
        }
    }

    /// Reads and acts on one turn's worth of what a worker says.
    pub(super) fn hear(&mut self, now: Instant, worker: WorkerId) -> Channel {
        let Some(member) = self.links.get_mut(&worker) else {
            return Channel::Ended;
        };
        let mut said: Vec<Said> = Vec::new();
        let channel = member.link.read(&mut said);
        for message in said {
            self.heed(now, worker, message);
        }
        self.refresh_load(now, worker);
        channel
    }

    /// Finds out at once whether a worker is gone whose connection broke.
    pub(super) fn look_after(&mut self, now: Instant, worker: WorkerId) {
        loop {
            match self.hear(now, worker) {
                Channel::More => {}
                Channel::Empty => return,
                Channel::Ended => return self.channel_ended(now, worker),
            }
        }
    }

    /// Writes what waited for room in the channel.
    pub(super) fn flush(&mut self, now: Instant, worker: WorkerId) {
        if let Some(member) = self.links.get_mut(&worker) {
            let sent = member.link.flush();
            self.after_send(now, worker, sent);
        }
    }

    /// Waits for what a send that did not go through needs.
    pub(super) fn after_send(&mut self, now: Instant, worker: WorkerId, sent: Result<(), Stuck>) {
        match sent {
            Ok(()) => {}
            Err(Stuck::Full) => {
                if let Some(member) = self.links.get(&worker) {
                    member.flush.notify_one();
                }
            }
            Err(Stuck::Exhausted) => self.after(now + EXHAUSTED_PAUSE, Timer::Flush(worker)),
            Err(Stuck::Broken(error)) => {
                tracing::debug!(%worker, %error, "control channel broken");
                // It gets nothing more. But what it said before this may be unread, or half acted
                // on by our caller: a connection that it answered for must not go to another.
                let grants = self.balance().drain(now, worker);
                self.deliver(now, grants);
                self.after(now, Timer::Lost(worker));
            }
        }
    }
}
