//! Knows where the master is to listen, as the configuration of each generation says it.
//!
//! There is one layout in force. While a reload runs there is another one: that of the new
//! generation before the commit, that of the old one after it.

use crate::config::{Address, AppAddress, Listen, ListenOptions, Listeners, Protocol};
use crate::policy::Generation;

/// One configured listener; it keeps its number for as long as the configuration has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryId(u32);

impl EntryId {
    /// The entry of a first configuration at this place of its list.
    pub(super) fn first(place: usize) -> Self {
        Self(u32::try_from(place).expect("a configuration is shorter than that"))
    }
}

/// The listeners that one configuration names.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) generation: Generation,
    listeners: Listeners,
    /// Of each entry in `listeners.listed`.
    ids: Vec<EntryId>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Layouts {
    current: Layout,
    other: Option<Layout>,
    next: u32,
}

impl Layout {
    /// Every entry, in the order written.
    pub(super) fn entries(&self) -> impl Iterator<Item = (EntryId, &Listen)> {
        self.ids.iter().copied().zip(&self.listeners.listed)
    }

    pub(super) fn has(&self, entry: EntryId) -> bool {
        self.ids.contains(&entry)
    }

    pub(super) fn options_of(&self, entry: EntryId) -> Option<ListenOptions> {
        self.entries().find(|(id, _)| *id == entry).map(|(_, listen)| listen.options)
    }

    /// The options of what only the app names.
    pub(super) fn options(&self) -> ListenOptions {
        self.listeners.options
    }

    /// How connections are turned away whose listener is gone.
    pub(super) fn default_protocol(&self) -> Protocol {
        self.listeners.options.protocol
    }

    /// Whether a path was named, as what the app listens on or as ours.
    pub(super) fn names_path(&self, path: &std::path::Path) -> bool {
        self.listeners.listed.iter().any(|entry| {
            matches!(&entry.app, Some(AppAddress::Path(named)) if named == path)
                || matches!(&entry.on, Some(Address::Unix(named)) if named == path)
        })
    }
}

impl Layouts {
    /// The layout of a pool that starts.
    pub(super) fn new(listeners: Listeners) -> Self {
        let ids: Vec<EntryId> = (0..listeners.listed.len()).map(EntryId::first).collect();
        let next = u32::try_from(ids.len()).expect("a configuration is shorter than that");
        let current = Layout { generation: Generation(1), listeners, ids };
        Self { current, other: None, next }
    }

    pub(super) fn current(&self) -> &Layout {
        &self.current
    }

    /// What workers of this generation go by.
    pub(super) fn of(&self, generation: Generation) -> &Layout {
        match &self.other {
            Some(other) if other.generation == generation => other,
            Some(_) | None => &self.current,
        }
    }

    /// A generation is tried with these listeners, while workers are of the generation `from`.
    pub(super) fn foresee(&mut self, from: Generation, to: Generation, listeners: Listeners) {
        self.current.generation = from;
        let matched = listeners.matched(&self.current.listeners);
        let ids = matched.into_iter().map(|at| match at {
            Some(at) => self.current.ids[at],
            None => {
                self.next += 1;
                EntryId(self.next - 1)
            }
        });
        let ids = ids.collect();
        self.other = Some(Layout { generation: to, listeners, ids });
    }

    /// Puts the layout of this generation in force, and keeps the one that was.
    pub(super) fn put_in_force(&mut self, generation: Generation) {
        if let Some(other) = self.other.as_mut().filter(|it| it.generation == generation) {
            std::mem::swap(&mut self.current, other);
        }
    }

    /// There is no way back.
    pub(super) fn settle(&mut self) {
        self.other = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backlog, MaxClients, Mode, ProxyProtocol};

    fn listeners(addresses: &[&str]) -> Listeners {
        let options = ListenOptions {
            mode: Mode::Auto,
            backlog: Backlog::Auto,
            defer_accept: None,
            protocol: Protocol::Tcp,
            max_connections: MaxClients::Auto,
            proxy_protocol: ProxyProtocol::Off,
        };
        let listed = addresses.iter().map(|address| {
            let on = Address::parse(address, std::path::Path::new("/")).expect("it is an address");
            Listen { app: None, on: Some(on), options }
        });
        Listeners { listed: listed.collect(), options }
    }

    fn ids(layout: &Layout) -> Vec<u32> {
        layout.entries().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn an_entry_that_stays_keeps_its_number_wherever_it_is_written() {
        let mut layouts = Layouts::new(listeners(&[":1", ":2", ":0", ":0"]));
        layouts.foresee(Generation(1), Generation(2), listeners(&[":3", ":2", ":0", ":0", ":0"]));
        assert_eq!(ids(layouts.of(Generation(2))), [4, 1, 2, 3, 5]);
        assert_eq!(ids(layouts.of(Generation(1))), [0, 1, 2, 3]);
    }

    #[test]
    fn each_generation_has_its_layout_until_there_is_no_way_back() {
        let mut layouts = Layouts::new(listeners(&[":1"]));
        layouts.foresee(Generation(1), Generation(2), listeners(&[":2"]));
        assert_eq!(ids(layouts.current()), [0]);
        layouts.put_in_force(Generation(2));
        assert_eq!((ids(layouts.current()), ids(layouts.of(Generation(1)))), (vec![1], vec![0]));
        // The reload fails late, and goes back.
        layouts.put_in_force(Generation(1));
        layouts.settle();
        assert_eq!(ids(layouts.of(Generation(2))), [0]);
    }
}
