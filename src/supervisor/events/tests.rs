//! Tests of the stream, and of what the document says of its lines.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

fn samples() -> Vec<Transition> {
    let text = String::new;
    let who = Who { slot: 0, worker: 1, pid: Some(2) };
    let worker = |what| Transition::Worker(WorkerTransition { what, who });
    let deaths = [
        Death::WorkerCrashed {
            kind: text(),
            exit: text(),
            killer: None,
            failures: 1,
            restart_in_ms: 0,
            last_output: text(),
        },
        Death::SuccessorFailed { exit: text(), retry_in_ms: 0, last_output: text() },
        Death::SlotFailed { exit: text(), last_output: text() },
    ];
    let workers = [
        What::WorkerStarted { generation: 1 },
        What::StartFailed { restart_in_ms: 0 },
        What::StartTimedOut,
        What::WorkerReady { after_ms: 0 },
        What::WorkerUnready,
        What::WorkerStalled { alone: false },
        What::WorkerRecovered { silent_ms: 0 },
        What::WorkerHung { silent_ms: 0, main_thread: text(), oldest: None, stack: None },
        What::WorkerEjected { for_ms: 0 },
        What::WorkerReadmitted,
        What::WorkerReplacing { why: text(), first: "start" },
        What::WorkerReplaced { why: text(), by: 2, farewell: None },
        What::WorkerTookOver { vacated: 1 },
        What::WorkerDraining { for_ms: 0 },
        What::DrainTimedOut,
        What::WorkerStopping { signal: "TERM" },
        What::StopTimedOut,
        What::WorkerKilled,
        What::WorkerAbandoned,
        What::WorkerSignalled { signal: "SIGUSR2" },
        What::WorkerExited { exit: text(), asked: true },
    ];
    let (name, version, phase) = (text(), "", "running");
    let pool = [
        Transition::Connected { name, pid: 1, version, phase, generation: 1 },
        Transition::Cut { missed: 1 },
        Transition::Phase { phase, was: "starting" },
        Transition::Listening { address: text(), url: text(), mode: text() },
        Transition::Closed { address: text() },
        Transition::PoolReady { ready: 1, wanted: 1, after_ms: 0 },
        Transition::Scaled { from: 1, to: 2 },
        Transition::StormBegan,
        Transition::StormEnded,
        Transition::PanicBegan,
        Transition::PanicEnded,
        Transition::Shed { shed: 1, seconds: 10, reasons: BTreeMap::new(), pool: text() },
        Transition::ShedEnded { seconds: 10 },
        Transition::Stopping { step: Step::Draining, left: 1 },
        Transition::Finished { reason: "stopped" },
        Transition::ReloadBegan { generation: 2, directory: text() },
        Transition::ReloadCommitted { generation: 2 },
        Transition::ReloadDone { generation: 2, took_ms: 0 },
        Transition::ReloadFailed { generation: 1, took_ms: 0, reason: text(), last_output: None },
    ];
    let deaths = deaths.map(|death| worker(What::Death(death)));
    pool.into_iter().chain(workers.map(worker)).chain(deaths).collect()
}

#[test]
fn every_event_has_the_fields_that_the_table_says() {
    let samples = samples();
    assert_eq!(samples.len(), EVENTS.len());
    for (sample, (name, fields, _)) in samples.iter().zip(EVENTS) {
        let value: Value = serde_json::from_str(&Entry::new(sample).line).expect("it is JSON");
        assert_eq!(value["event"], name);
        let object = value.as_object().expect("it is an object");
        let found: BTreeMap<&str, ()> = object.keys().map(|key| (key.as_str(), ())).collect();
        let own = fields.split(", ").filter(|field| !field.is_empty());
        let of_worker = WORKER_FIELDS.split(", ").filter(|_| object.contains_key("worker"));
        let expected = own.chain(of_worker).chain(["time", "event"]).map(|field| (field, ()));
        assert_eq!(found, expected.collect(), "{name}");
    }
}

/// Takes what there is for a reader without waiting; the names, and whether it has ended.
async fn read(lines: &mut Lines) -> (Vec<String>, bool) {
    let mut names = Vec::new();
    loop {
        let line = tokio::select! {
            biased;
            line = lines.next() => line,
            () = std::future::ready(()) => return (names, false),
        };
        let Some(line) = line else {
            return (names, true);
        };
        let value: Value = serde_json::from_str(&line).expect("it is JSON");
        names.push(value["event"].as_str().unwrap_or_default().to_owned());
    }
}

fn greeting() -> Transition {
    samples().swap_remove(0)
}

#[tokio::test]
async fn a_reader_gets_what_happens_after_its_greeting_until_the_pool_has_finished() {
    let events = Events::new();
    events.publish(&Transition::StormBegan);
    let mut lines = events.subscribe(&greeting()).expect("there is room");
    assert_eq!(read(&mut lines).await, (vec!["connected".to_owned()], false));
    events.publish(&Transition::StormEnded);
    events.publish(&Transition::Finished { reason: "stopped" });
    let rest = vec!["storm_ended".to_owned(), "finished".to_owned()];
    assert_eq!(read(&mut lines).await, (rest, true));
    // It no longer counts, so this does not wait.
    events.ring.closed().await;
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_and_cut() {
    let events = Events::new();
    let mut slow = events.subscribe(&greeting()).expect("there is room");
    let mut quick = events.subscribe(&greeting()).expect("there is room");
    for _ in 0..BEHIND_MAX + 5 {
        events.publish(&Transition::StormBegan);
        read(&mut quick).await;
    }
    assert_eq!(read(&mut slow).await, (vec!["connected".to_owned(), "cut".to_owned()], true));
    assert_eq!(read(&mut quick).await, (Vec::new(), false));
}

#[test]
fn there_are_no_more_readers_than_the_bound() {
    let events = Events::new();
    let readers: Vec<_> = (0..READERS_MAX).map(|_| events.subscribe(&greeting())).collect();
    assert!(readers.iter().all(Option::is_some));
    assert!(events.subscribe(&greeting()).is_none());
    drop(readers);
    assert!(events.subscribe(&greeting()).is_some());
}
