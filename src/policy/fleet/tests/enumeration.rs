//! A fleet of two slots under every sequence of events up to a depth.

use std::num::{NonZeroU16, NonZeroU32};

use super::super::*;
use super::world::{Existence, World};
use crate::policy::{Generation, Stalled};

/// Every event that can happen in this world now, and some that come late.
fn possible(world: &World) -> Vec<Event> {
    let settings = world.settings;
    let mut events = vec![
        Event::Tick,
        Event::ScaleTo(1),
        Event::ScaleTo(2),
        Event::Stop(StopKind::Graceful),
        Event::Stop(StopKind::Now),
        Event::Drain { slot: Slot(0) },
        Event::Recycle { slot: Slot(0) },
        Event::Reload { generation: Generation(world.fleet.generation().0 + 1), settings },
    ];
    for (&worker, process) in &world.processes {
        match process.exists {
            Existence::Asked => {
                events.extend([Event::Spawned { worker }, Event::SpawnFailed { worker }]);
            }
            Existence::Yes => {
                let exits = [0, 1, 78].map(WorkerExit::Code);
                events.extend(exits.map(|exit| Event::Exited { worker, exit }));
                events.push(if process.ready {
                    Event::Unready { worker }
                } else {
                    Event::Ready { worker }
                });
                let stalled = match process.stalled {
                    Stalled::Yes => Stalled::No,
                    Stalled::No => Stalled::Yes,
                };
                // Only spares care.
                let matters = settings.spares != Spares::Fixed(0);
                events.extend(matters.then_some(Event::Stalled { worker, stalled }));
                events.push(Event::Drained { worker });
                events.push(Event::Condemn { worker, cause: Cause::Hung });
                let replace = |handover| Event::Replace { worker, why: Why::RedLine, handover };
                events.extend([Handover::StartFirst, Handover::StopFirst].map(replace));
                events.push(Event::Extend { worker, by: std::time::Duration::from_secs(90) });
            }
        }
    }
    events
}

/// Tries everything; `World` checks each step, and each end must wind down.
fn explore(world: &World, depth: u32, seen: &mut u64) {
    *seen += 1;
    if depth == 0 || world.is_finished() {
        return world.clone().wind_down();
    }
    for event in possible(world) {
        let mut next = world.clone();
        match event {
            Event::Tick => next.tick(),
            _ => next.on(event),
        }
        explore(&next, depth - 1, seen);
    }
}

#[test]
fn one_slot_and_its_spare_survive_every_sequence_of_events() {
    let storm = StormSettings { burst: NonZeroU32::new(2), ..StormSettings::default() };
    let (one, two) = (NonZeroU16::MIN, NonZeroU16::new(2).expect("2 is not 0"));
    let settings = FleetSettings {
        count: one,
        spares: Spares::Fixed(1),
        concurrent_starts: two,
        storm,
        ..FleetSettings::default()
    };
    let mut world = World::begin(settings);
    for worker in [1, 2].map(WorkerId) {
        world.on(Event::Spawned { worker });
        world.on(Event::Ready { worker });
    }
    let mut seen = 0;
    explore(&world, 3, &mut seen);
    assert!(seen > 1_000, "only {seen} worlds explored");
}

#[test]
fn two_slots_survive_every_sequence_of_events() {
    let storm = StormSettings { burst: NonZeroU32::new(2), ..StormSettings::default() };
    let two = NonZeroU16::new(2).expect("2 is not 0");
    let settings =
        FleetSettings { count: two, concurrent_starts: two, storm, ..FleetSettings::default() };
    let mut world = World::begin(settings);
    world.on(Event::Spawned { worker: WorkerId(1) });
    world.on(Event::Spawned { worker: WorkerId(2) });
    let mut seen = 0;
    explore(&world, 4, &mut seen);
    assert!(seen > 20_000, "only {seen} worlds explored");
}
