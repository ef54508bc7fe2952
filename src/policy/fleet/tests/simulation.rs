//! Random processes under a `Fleet`, from a seed: they crash, hang, refuse, linger and lie.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use super::super::*;
use super::world::{Existence, World};
use crate::policy::testing::for_each_seed;
use crate::policy::{Backoff, Generation, SplitMix64, Stalled};

#[test]
fn every_invariant_holds_after_every_event() {
    for_each_seed(2_000, |mut random| {
        let mut world = World::begin(any_settings(&mut random));
        for _ in 0..150 {
            step(&mut world, &mut random);
        }
        world.wind_down();
    });
}

#[test]
fn stop_at_any_moment_ends_in_time_even_if_no_worker_obeys() {
    for_each_seed(1_000, |mut random| {
        let mut world = World::begin(any_settings(&mut random));
        for _ in 0..random.below(60) {
            step(&mut world, &mut random);
        }
        let kinds = [StopKind::Graceful, StopKind::Succeeded, StopKind::Interactive, StopKind::Now];
        world.on(Event::Stop(kinds[random.below(4) as usize]));
        while !world.is_finished() {
            world.tick();
        }
    });
}

fn any_settings(random: &mut SplitMix64) -> FleetSettings {
    let mut up_to = |most: u64| NonZeroU16::new(1 + random.below(most) as u16).expect("1 is added");
    let (count, concurrent_starts, burst) = (up_to(5), up_to(3), NonZeroU32::from(up_to(6)));
    let delay = Duration::from_secs(random.below(2) * 5);
    let spares = any_spares(random);
    FleetSettings {
        count,
        spares,
        concurrent_starts,
        start_timeout: Duration::from_secs(10),
        give_up: Duration::from_secs(30),
        backoff: Backoff { cap: Duration::from_secs(5), ..Backoff::default() },
        storm: StormSettings { burst: Some(burst), ..StormSettings::default() },
        stop: StopTimes { delay, ..StopTimes::default() },
        reload: ReloadSettings::default(),
        seed: random.next_u64(),
    }
}

fn step(world: &mut World, random: &mut SplitMix64) {
    let wait = Duration::from_millis(random.below(400));
    // Timers may be late, but not by more than this.
    match world.fleet.deadline() {
        Some(deadline) if deadline <= world.now + wait => world.tick(),
        _ => world.now += wait,
    }
    let event = match random.below(60) {
        0 => Event::ScaleTo(1 + random.below(6) as u16),
        1 => Event::ScaleBy(random.below(5) as i16 - 2),
        2 if random.below(8) == 0 => Event::Stop(StopKind::Graceful),
        2 if random.below(8) == 0 => Event::Stop(StopKind::Interactive),
        13 => any_reload(world, random),
        14 => Event::Drain { slot: Slot(random.below(6) as u16) },
        15 => Event::Recycle { slot: Slot(random.below(6) as u16) },
        // About a worker that never was, or is long gone.
        3 => worker_event(WorkerId(random.below(40)), 2 + random.below(12)),
        4..10 => return world.tick(),
        _ => {
            let at = random.below(world.processes.len() as u64) as usize;
            let Some((&worker, process)) = world.processes.iter().nth(at) else {
                return;
            };
            match process.exists {
                Existence::Asked => worker_event(worker, random.below(12).saturating_sub(10)),
                Existence::Yes => worker_event(worker, 2 + random.below(26)),
            }
        }
    };
    world.on(event);
}

fn any_spares(random: &mut SplitMix64) -> Spares {
    match random.below(6) {
        number @ 1..=2 => Spares::Fixed(number as u16),
        3 => Spares::WhereSlow,
        _ => Spares::Fixed(0),
    }
}

fn any_reload(world: &World, random: &mut SplitMix64) -> Event {
    let proof = if random.below(2) == 0 { Proof::Soak } else { Proof::Answer };
    let surge = Surge::Workers(random.below(4) as u16);
    let reload = ReloadSettings { proof, surge, ..ReloadSettings::default() };
    let generation = Generation(world.fleet.generation().0 + 1 + random.next_u64() as u32 / 2);
    let spares = any_spares(random);
    Event::Reload { generation, settings: FleetSettings { reload, spares, ..world.settings } }
}

fn worker_event(worker: WorkerId, choice: u64) -> Event {
    let exited = |exit| Event::Exited { worker, exit };
    match choice {
        0 => Event::Spawned { worker },
        1 => Event::SpawnFailed { worker },
        2 => exited(WorkerExit::Code(1)),
        3 => exited(WorkerExit::Code(0)),
        4 => exited(WorkerExit::Signal(9)),
        5 => Event::Unready { worker },
        6 | 7 => Event::Drained { worker },
        8 => exited(WorkerExit::Code(78)),
        9 => Event::Extend { worker, by: std::time::Duration::from_secs(90) },
        10 => Event::Condemn { worker, cause: Cause::Hung },
        11 => Event::Replace { worker, why: Why::RedLine, handover: Handover::StopFirst },
        14 | 15 => Event::Probed { worker, verdict: Verdict::Passed },
        17 => Event::Leaves { worker },
        16 => Event::Probed { worker, verdict: Verdict::Failed },
        12 | 13 => Event::Replace { worker, why: Why::MaxAge, handover: Handover::StartFirst },
        18 | 19 => Event::Stalled { worker, stalled: Stalled::Yes },
        20 => Event::Stalled { worker, stalled: Stalled::No },
        _ => Event::Ready { worker },
    }
}
