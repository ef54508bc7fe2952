//! Gathers the samples of `/metrics`.

use std::collections::BTreeMap;

use super::Sources;
use super::exposition::{Page, Value};
use crate::clock;
use crate::metrics::Code;
use crate::policy::Shed;
use crate::supervisor::request::{Facts, Status, WorkerStatus};
use crate::sys::usage::{self, CgroupUsage};
use crate::sys::{limits, process};

/// Every state that a slot can be in, as in the status.
const STATES: [&str; 8] =
    ["starting", "ready", "spare", "draining", "stopping", "killed", "waiting", "failed"];

/// Everything there is to show now.
pub(super) fn collect(facts: &Facts, sources: &Sources) -> Page {
    let mut page = Page::default();
    pool(&mut page, facts);
    slots(&mut page, &facts.status.workers);
    listeners(&mut page, facts);
    requests(&mut page, sources);
    master(&mut page, facts, sources);
    cgroup(&mut page, &usage::cgroup());
    page
}

fn pool(page: &mut Page, Facts { status, dropped, restarts, .. }: &Facts) {
    page.number("tenfold_build_info", &[&status.version], 1.0);
    page.count("tenfold_uptime_seconds", &[], status.uptime_s);
    page.count("tenfold_workers", &[], status.totals.workers as u64);
    page.count("tenfold_workers_ready", &[], status.totals.ready as u64);
    page.count("tenfold_workers_spare", &[], status.totals.spares as u64);
    page.number("tenfold_saturation_ratio", &[], saturation(status));
    for (reason, count) in restarts.by_reason() {
        page.count("tenfold_restarts", &[reason], count);
    }
    for (reason, count) in restarts.recycled_by_reason() {
        page.count("tenfold_recycles", &[reason], count);
    }
    page.count("tenfold_takeovers", &[], status.totals.takeovers);
    page.count("tenfold_stalls", &[], status.totals.stalls);
    page.count("tenfold_ejections", &[], status.totals.ejections);
    page.count("tenfold_panics", &[], status.totals.panics);
    page.count("tenfold_log_lines_dropped", &["own"], dropped.own);
    page.count("tenfold_log_lines_dropped", &["workers"], dropped.workers);
}

/// What requests and connections make of their bounds, whichever is fuller: one number to scale by.
fn saturation(status: &Status) -> f64 {
    let waiting = |mode: &str| -> u64 {
        let listeners = status.listeners.iter().filter(|listener| listener.mode == mode);
        listeners.map(|listener| listener.queue.length as u64).sum()
    };
    let ready = || status.workers.iter().filter(|worker| worker.state == "ready");
    let sum = |of: fn(&WorkerStatus) -> u32| ready().map(|worker| u64::from(of(worker))).sum();
    let part = |held: u64, bound: u64| match (held, bound) {
        (held, 0) => f64::from(u8::from(held > 0)),
        (held, bound) => held as f64 / bound as f64,
    };
    let requests = part(waiting("request") + sum(|it| it.in_flight), sum(|it| it.limit));
    let connections = part(waiting("connection") + sum(|it| it.open), sum(|it| it.max_connections));
    requests.max(connections)
}

/// One series per slot: where two workers share one for a while (one drains, one starts), what they
/// hold is added up.
fn slots(page: &mut Page, workers: &[WorkerStatus]) {
    let mut slots: BTreeMap<u16, Vec<&WorkerStatus>> = BTreeMap::new();
    for worker in workers {
        slots.entry(worker.slot).or_default().push(worker);
    }
    for (number, workers) in slots {
        let slot = &[number.to_string()];
        let slot = &[slot[0].as_str()];
        for state in STATES {
            let is_in = workers.iter().any(|worker| worker.state == state);
            page.count("tenfold_worker_state", &[slot[0], state], u64::from(is_in));
        }
        let sum = |of: fn(&WorkerStatus) -> u64| workers.iter().map(|worker| of(worker)).sum();
        let most = |of: fn(&WorkerStatus) -> Option<f64>| {
            workers.iter().filter_map(|worker| of(worker)).reduce(f64::max)
        };
        for (name, value) in [
            ("tenfold_worker_in_flight", sum(|worker| worker.in_flight.into())),
            ("tenfold_worker_limit", sum(|worker| worker.limit.into())),
            ("tenfold_worker_open", sum(|worker| worker.open.into())),
            ("tenfold_worker_max_connections", sum(|worker| worker.max_connections.into())),
            ("tenfold_worker_active", sum(|worker| worker.active.into())),
            ("tenfold_worker_connections", sum(|worker| worker.accepted)),
            ("tenfold_worker_requests", sum(|worker| worker.requests)),
            ("tenfold_worker_stalled", sum(|worker| worker.stalled.into())),
            ("tenfold_worker_ejected", sum(|worker| worker.ejected_ms.is_some().into())),
            ("tenfold_worker_resident_memory_bytes", sum(|worker| worker.rss_bytes)),
        ] {
            page.count(name, slot, value);
        }
        // The slot's, and so the same for each of its workers.
        let restarts = workers.first().map_or(0, |worker| worker.restarts);
        page.count("tenfold_worker_restarts", slot, restarts.into());
        for (name, value) in [
            ("tenfold_worker_uptime_seconds", most(|worker| Some(worker.uptime_s? as f64))),
            ("tenfold_worker_heap_used_bytes", most(|worker| Some(worker.heap_used_bytes? as f64))),
            (
                "tenfold_worker_heap_limit_bytes",
                most(|worker| Some(worker.heap_limit_bytes? as f64)),
            ),
            ("tenfold_worker_loop_delay_seconds", most(|worker| Some(worker.loop_delay_ms? / 1e3))),
            ("tenfold_worker_loop_utilization_ratio", most(|worker| worker.loop_utilization)),
        ] {
            if let Some(value) = value {
                page.number(name, slot, value);
            }
        }
    }
}

fn listeners(page: &mut Page, Facts { status, tally, .. }: &Facts) {
    for listener in &status.listeners {
        let label = &[listener.address.as_str()];
        page.count("tenfold_queue_length", label, listener.queue.length as u64);
        page.count("tenfold_queue_max", label, listener.queue.max as u64);
        page.number("tenfold_queue_oldest_seconds", label, listener.queue.oldest_ms as f64 / 1e3);
    }
    for reason in Shed::ALL {
        page.count("tenfold_shed", &[reason.code()], tally.shed.of(reason));
    }
    page.count("tenfold_hand_overs", &["taken"], tally.accepted);
    page.count("tenfold_hand_overs", &["refused"], tally.refused);
}

fn requests(page: &mut Page, Sources { counts, .. }: &Sources) {
    page.count("tenfold_client_connections", &[], counts.accepted());
    page.count("tenfold_client_connections_refused", &[], counts.accepted_refused());
    for (kind, count) in counts.held() {
        page.count("tenfold_open", &[kind], count);
    }
    for (class, count) in counts.classes() {
        page.count("tenfold_requests", &[class], count);
    }
    for (Code { kind, code }, count) in counts.reasons() {
        page.count("tenfold_request_failures", &[kind, code], count);
    }
    for (Code { code, .. }, count) in counts.retries() {
        page.count("tenfold_request_retries", &[code], count);
    }
    page.count("tenfold_request_retries_denied", &[], counts.retries_denied());
    let queued = Value::Distribution(counts.queued());
    page.add("tenfold_request_queue_seconds", &[], queued);
    let served = Value::Distribution(counts.served());
    page.add("tenfold_request_service_seconds", &[], served);
    page.count("tenfold_received_bytes", &[], counts.received_bytes());
    page.count("tenfold_sent_bytes", &[], counts.sent_bytes());
    page.count("tenfold_response_buffer_bytes", &[], counts.buffered_bytes());
}

fn master(page: &mut Page, facts: &Facts, sources: &Sources) {
    page.count("tenfold_master_resident_memory_bytes", &[], facts.rss_bytes);
    if let Ok(count) = process::fd_count(facts.pid) {
        page.count("tenfold_master_open_fds", &[], count);
    }
    if let Some(max) = limits::nofile() {
        page.count("tenfold_master_max_fds", &[], max);
    }
    page.seconds("tenfold_master_pulse_age_seconds", &[], sources.pulse.age(clock::now()));
}

fn cgroup(page: &mut Page, usage: &CgroupUsage) {
    if let Some(cpu) = usage.cpu_time {
        page.seconds("tenfold_cgroup_cpu_seconds", &[], cpu);
    }
    if let Some(throttling) = usage.throttling {
        page.count("tenfold_cgroup_cpu_periods", &[], throttling.periods);
        page.count("tenfold_cgroup_cpu_throttled_periods", &[], throttling.throttled_periods);
        page.seconds("tenfold_cgroup_cpu_throttled_seconds", &[], throttling.throttled);
    }
    if let Some(bytes) = usage.memory_bytes {
        page.count("tenfold_cgroup_memory_bytes", &[], bytes);
    }
    if let Some(bytes) = limits::cgroup().memory_bytes {
        page.count("tenfold_cgroup_memory_limit_bytes", &[], bytes);
    }
}
