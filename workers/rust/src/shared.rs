//! What the channel's owner and the app share: counts held by guards, and the master's wishes.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use crate::environment::Identity;
use crate::sys;

/// Levels above it are for masters that know more than this crate does.
const PRESSURE_MAX: u8 = 3;

/// Why this worker finishes what it has and takes nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// The master asked for it.
    Asked,
    /// The control channel ended: there is no master any more.
    MasterLost,
}

/// A view of the worker that can be cloned and sent to any thread or task.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

/// One exchange in progress: a request, a query, whatever the app's protocol answers one at a time.
/// It counts as active until dropped, on success, error and panic alike.
#[derive(Debug)]
pub struct Active {
    shared: Arc<Shared>,
}

/// One open connection; counts until dropped. Part of a connection, see
/// [`Connection::into_parts`](crate::Connection::into_parts).
#[derive(Debug)]
pub struct Open {
    shared: Arc<Shared>,
}

impl Handle {
    /// Counts one exchange as active until the guard is dropped.
    #[must_use = "the exchange counts until the guard is dropped"]
    pub fn begin(&self) -> Active {
        Active::new(&self.shared)
    }

    /// Why this worker drains, or None while it serves.
    pub fn drain(&self) -> Option<Drain> {
        self.shared.drain()
    }

    /// How pressed the pool is: 0 not at all, 1 skip optional work, 2 answer from caches where
    /// possible, 3 do only what must be done. A worker is free to ignore it.
    pub fn pressure(&self) -> u8 {
        self.shared.pressure.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    pub fn open(&self) -> u32 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Exchanges that are active now.
    pub fn active(&self) -> u32 {
        self.shared.active.load(Ordering::Relaxed)
    }

    /// Who this worker is; all None without a master.
    pub fn identity(&self) -> Identity {
        self.shared.identity
    }

    /// Resolves once this worker drains. Meant for `axum::serve(…).with_graceful_shutdown(…)`.
    #[cfg(feature = "tokio")]
    pub async fn until_draining(&self) -> Drain {
        self.shared.until(|shared| shared.drain()).await
    }

    /// Resolves with the new pressure once it differs from `known`.
    #[cfg(feature = "tokio")]
    pub async fn pressure_other_than(&self, known: u8) -> u8 {
        let changed = |shared: &Shared| {
            let level = shared.pressure.load(Ordering::Relaxed);
            (level != known).then_some(level)
        };
        self.shared.until(changed).await
    }
}

impl Active {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.active.fetch_add(1, Ordering::Relaxed);
        shared.active_changed();
        Self { shared: Arc::clone(shared) }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.shared.active.fetch_sub(1, Ordering::Relaxed);
        self.shared.active_changed();
    }
}

impl Open {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        self.shared.changed();
    }
}

/// A connection that nobody has read from; counts until dropped.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub(crate) struct Unread {
    shared: Arc<Shared>,
}

#[cfg(feature = "tokio")]
impl Unread {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.unread.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared) }
    }
}

#[cfg(feature = "tokio")]
impl Drop for Unread {
    fn drop(&mut self) {
        // Nobody is woken: only a drain looks at this count, at each tick.
        self.shared.unread.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How to reach whoever owns the channel, when a count has changed.
#[derive(Debug)]
pub(crate) enum Wake {
    /// A thread in `poll`.
    Thread(OwnedFd),
    /// A task.
    #[cfg(feature = "tokio")]
    Task(tokio::sync::Notify),
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) wake: Wake,
    open: AtomicU32,
    active: AtomicU32,
    max_connections: AtomicU32,
    ready: AtomicBool,
    /// The owner was woken and has not looked since: one wake-up for many changes.
    woken: AtomicBool,
    /// `active` has changed since the owner last read it, and the owner knows.
    active_unread: AtomicBool,
    /// 0 none, 1 asked, 2 master lost.
    drain: AtomicU8,
    pressure: AtomicU8,
    #[cfg(feature = "tokio")]
    unread: AtomicU32,
    #[cfg(feature = "tokio")]
    wishes: tokio::sync::Notify,
}

impl Shared {
    pub(crate) fn new(identity: Identity, wake: Wake) -> Arc<Self> {
        Arc::new(Self {
            identity,
            wake,
            open: AtomicU32::new(0),
            active: AtomicU32::new(0),
            max_connections: AtomicU32::new(u32::MAX),
            ready: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            active_unread: AtomicBool::new(false),
            drain: AtomicU8::new(0),
            pressure: AtomicU8::new(0),
            #[cfg(feature = "tokio")]
            unread: AtomicU32::new(0),
            #[cfg(feature = "tokio")]
            wishes: tokio::sync::Notify::new(),
        })
    }

    /// Open and active, as one report shows them.
    pub(crate) fn counts(&self) -> (u32, u32) {
        (self.open.load(Ordering::Relaxed), self.active.load(Ordering::Relaxed))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn unread(&self) -> u32 {
        self.unread.load(Ordering::Relaxed)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.open.load(Ordering::Relaxed) < self.max_connections.load(Ordering::Relaxed)
    }

    pub(crate) fn limit_connections(&self, max: u32) {
        self.max_connections.store(max, Ordering::Relaxed);
        self.changed();
    }

    /// Wakes the owner unless it is already on its way.
    pub(crate) fn changed(&self) {
        // The swap publishes the change: the owner's swap in `look` acquires it.
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        match &self.wake {
            Wake::Thread(eventfd) => sys::raise(eventfd),
            #[cfg(feature = "tokio")]
            Wake::Task(notify) => notify.notify_one(),
        }
    }

    /// Wakes the owner for the first change of `active` since it last read it: there are two in
    /// each exchange, and a wake-up for each would cost more than a small exchange itself.
    fn active_changed(&self) {
        if !self.active_unread.swap(true, Ordering::AcqRel) {
            self.changed();
        }
    }

    /// The owner is about to read `active`; the next change wakes it again.
    pub(crate) fn look_at_active(&self) {
        self.active_unread.swap(false, Ordering::AcqRel);
    }

    /// Whether `active` has changed since the owner last read it.
    pub(crate) fn is_active_unread(&self) -> bool {
        self.active_unread.load(Ordering::Acquire)
    }

    /// The owner is about to read the counts; what changes from here on wakes it again.
    pub(crate) fn look(&self) {
        if self.woken.swap(false, Ordering::AcqRel)
            && let Wake::Thread(eventfd) = &self.wake
        {
            sys::lower(eventfd);
        }
    }

    pub(crate) fn make_ready(&self) {
        if !self.ready.swap(true, Ordering::AcqRel) {
            self.changed();
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(crate) fn drain(&self) -> Option<Drain> {
        match self.drain.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Drain::Asked),
            _ => Some(Drain::MasterLost),
        }
    }

    /// The first reason stays.
    pub(crate) fn start_drain(&self, reason: Drain) {
        let value = match reason {
            Drain::Asked => 1,
            Drain::MasterLost => 2,
        };
        let _ = self.drain.compare_exchange(0, value, Ordering::AcqRel, Ordering::Acquire);
        self.wish();
    }

    pub(crate) fn set_pressure(&self, level: u8) {
        self.pressure.store(level.min(PRESSURE_MAX), Ordering::Relaxed);
        self.wish();
    }

    fn wish(&self) {
        #[cfg(feature = "tokio")]
        self.wishes.notify_waiters();
    }

    /// Waits until `look` finds something; it is asked again after each wish of the master.
    #[cfg(feature = "tokio")]
    async fn until<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            let mut wished = std::pin::pin!(self.wishes.notified());
            wished.as_mut().enable();
            if let Some(found) = look(self) {
                return found;
            }
            wished.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_woken_once_for_all_exchanges_between_two_looks() {
        let wake = Wake::Thread(sys::eventfd().expect("eventfd"));
        let shared = Shared::new(Identity::default(), wake);
        let handle = Handle { shared: Arc::clone(&shared) };
        let was_woken = || {
            let woken = shared.woken.load(Ordering::Acquire);
            shared.look();
            woken
        };
        let first = handle.begin();
        assert!(was_woken());
        drop(first);
        let second = handle.begin();
        assert!(!was_woken());
        assert!(shared.is_active_unread());
        shared.look_at_active();
        drop(second);
        assert!(was_woken());
        assert_eq!(shared.counts(), (0, 0));
    }
}
