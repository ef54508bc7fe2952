//! Sees what CPU time the host of a virtual machine gave to others, and has such windows repeated.
//!
//! A machine that shares its CPUs may get a tenth of them for a second. What is measured then tells
//! of the host; a window is therefore measured again if others got more than a little of it, a few
//! times, and only while the scenario has time to spare.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The share of a window that others may have got of all CPUs.
const TAKEN_MAX: f64 = 0.02;

/// How often a window is measured at most; the last time counts.
const TRIES_MAX: u32 = 3;

/// CPU time of all CPUs since the machine started, in ticks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks {
    all: u64,
    /// What others got while this machine had something to do.
    taken: u64,
}

impl Ticks {
    /// Nothing was taken where the kernel does not say.
    pub(crate) fn now() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// The first line of proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal. What
    /// follows is in these.
    fn parse(stat: &str) -> Self {
        let words = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
        Self { all: ticks.iter().sum(), taken: ticks.get(7).copied().unwrap_or(0) }
    }

    /// The share of all CPU time that others got since `before`, from 0 to 1.
    pub(crate) fn taken_since(self, before: Self) -> f64 {
        match self.all.saturating_sub(before.all) {
            0 => 0.0,
            all => self.taken.saturating_sub(before.taken) as f64 / all as f64,
        }
    }
}

/// Time that a scenario may spend on windows that are measured again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spare(Rc<Cell<Duration>>);

impl Spare {
    pub(crate) fn new(time: Duration) -> Self {
        Self(Rc::new(Cell::new(time)))
    }

    /// Takes the time for a window of this length, if there is as much.
    fn spend(&self, time: Duration) -> bool {
        let left = self.0.get().checked_sub(time);
        self.0.set(left.unwrap_or(self.0.get()));
        left.is_some()
    }
}

/// The windows of a round in their order; one that the host disturbed comes once more at once.
/// Whoever measures it again must put the values in place of the first ones.
#[derive(Debug)]
pub(crate) struct Turn<I: Iterator> {
    items: I,
    spare: Spare,
    current: Option<Window<I::Item>>,
}

#[derive(Debug)]
struct Window<T> {
    item: T,
    tries: u32,
    began: Instant,
    host: Ticks,
}

impl<I: Iterator> Turn<I> {
    pub(crate) fn new(items: I, spare: Spare) -> Self {
        Self { items, spare, current: None }
    }
}

impl<I: Iterator<Item: Copy>> Iterator for Turn<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let (began, host) = (tenfold::clock::now(), Ticks::now());
        let again = self.current.take().filter(|last| {
            let taken = host.taken_since(last.host);
            is_repeated((taken, last.tries), began - last.began, &self.spare)
        });
        let (item, tries) = match again {
            Some(last) => (last.item, last.tries + 1),
            None => (self.items.next()?, 1),
        };
        self.current = Some(Window { item, tries, began, host });
        Some(item)
    }
}

fn is_repeated((taken, tries): (f64, u32), lasted: Duration, spare: &Spare) -> bool {
    taken > TAKEN_MAX && tries < TRIES_MAX && spare.spend(lasted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_all_cpus_between_two_looks() {
        let before = Ticks::parse("cpu  100 0 50 800 10 0 5 35 7 0\ncpu0 1 2 3\n");
        assert_eq!(before, Ticks { all: 1000, taken: 35 });
        let after = Ticks::parse("cpu  150 0 60 900 10 0 5 75 9 0\n");
        assert!((after.taken_since(before) - 0.2).abs() < 1e-9, "{after:?}");
        assert_eq!(before.taken_since(before), 0.0);
        assert_eq!(Ticks::parse(""), Ticks { all: 0, taken: 0 });
        assert!(Ticks::now().all > 0, "this is Linux");
    }

    #[test]
    fn a_window_is_repeated_while_it_is_disturbed_and_there_are_tries_and_time() {
        let second = Duration::from_secs(1);
        let spare = Spare::new(second * 2);
        assert!(!is_repeated((0.02, 1), second, &spare), "a little is borne");
        assert!(!is_repeated((0.5, 3), second, &spare), "three times are enough");
        assert!(is_repeated((0.021, 1), second, &spare));
        assert!(!is_repeated((0.5, 1), second * 2, &spare), "no time for so long a one");
        assert!(is_repeated((0.5, 2), second, &spare));
        assert!(!is_repeated((0.5, 1), second, &spare), "none is left");
    }

    #[test]
    fn without_time_to_spare_everything_comes_once_in_its_order() {
        let all = [3, 1, 2];
        let turn = Turn::new(all.iter(), Spare::default());
        assert_eq!(turn.copied().collect::<Vec<_>>(), all);
    }
}
