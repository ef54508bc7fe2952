//! Every metric there is: what it means, its kind, its labels; documentation and tests read this.
//!
//! Base units only (seconds, bytes, ratios). Labels are bounded by slots, listeners and fixed
//! words: nothing that a client sends becomes one, nor a worker's number, which is never reused.

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Without the `_total`, `_bucket`, `_sum` and `_count` that its kind adds.
    pub name: &'static str,
    /// What it is, for Prometheus.
    pub kind: Kind,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// What a metric is, for Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; shown with `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Metric {
    /// The name by which one asks for it: `tenfold_shed_total`.
    #[must_use]
    pub fn shown_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels: &[], help }
}

const SLOT: &[&str] = &["slot"];
const LISTENER: &[&str] = &["listener"];
const REASON: &[&str] = &["reason"];

/// All of them, in the order in which they are shown.
pub static METRICS: &[Metric] = &[
    gauge("tenfold_build_info", &["version"], "Always 1"),
    gauge("tenfold_uptime_seconds", &[], "Since the master started"),
    gauge("tenfold_workers", &[], "Slots that are to serve"),
    gauge("tenfold_workers_ready", &[], "Workers that serve"),
    gauge("tenfold_workers_spare", &[], "Workers that stand by, ready"),
    gauge(
        "tenfold_saturation_ratio",
        &[],
        "What is under way and waits, of what the ready workers may hold; above 1 something waits",
    ),
    counter("tenfold_restarts", REASON, "Restarts, by how the worker before had ended"),
    counter("tenfold_recycles", REASON, "Workers replaced that could have gone on"),
    counter("tenfold_takeovers", &[], "How often a spare took a worker's place"),
    counter("tenfold_stalls", &[], "How often a worker's heartbeat was late"),
    counter("tenfold_ejections", &[], "How often a worker got nothing because it failed"),
    counter("tenfold_panics", &[], "How often most workers were stalled or ejected"),
    counter("tenfold_log_lines_dropped", &["source"], "Log lines that found no room"),
    gauge("tenfold_worker_state", &["slot", "state"], "1 for the state that a slot is in"),
    gauge("tenfold_worker_in_flight", SLOT, "Requests leased to it"),
    gauge("tenfold_worker_limit", SLOT, "How many it may hold"),
    gauge("tenfold_worker_open", SLOT, "Connections it holds"),
    gauge("tenfold_worker_max_connections", SLOT, "How many it may hold"),
    gauge("tenfold_worker_active", SLOT, "Connections with something to do, as it reports"),
    counter("tenfold_worker_connections", SLOT, "Connections it took; 0 again after a restart"),
    counter("tenfold_worker_requests", SLOT, "Requests it finished, as it reports"),
    counter("tenfold_worker_restarts", SLOT, "Restarts of the slot after failures"),
    gauge("tenfold_worker_uptime_seconds", SLOT, "Since its process started"),
    gauge("tenfold_worker_stalled", SLOT, "1 while its heartbeat is late"),
    gauge("tenfold_worker_ejected", SLOT, "1 while it gets nothing because it failed"),
    gauge("tenfold_worker_resident_memory_bytes", SLOT, "Its process in memory"),
    gauge("tenfold_worker_heap_used_bytes", SLOT, "V8 heap in use"),
    gauge("tenfold_worker_heap_limit_bytes", SLOT, "V8 heap limit"),
    gauge("tenfold_worker_loop_delay_seconds", SLOT, "Worst event-loop delay of the last second"),
    gauge("tenfold_worker_loop_utilization_ratio", SLOT, "Event-loop utilisation, 0 to 1"),
    gauge("tenfold_queue_length", LISTENER, "What waits for a worker"),
    gauge("tenfold_queue_max", LISTENER, "How much may wait"),
    gauge("tenfold_queue_oldest_seconds", LISTENER, "How long the oldest has waited"),
    counter("tenfold_shed", REASON, "Requests and connections that the queue turned away"),
    counter("tenfold_client_connections", &[], "Connections accepted"),
    counter(
        "tenfold_client_connections_refused",
        &[],
        "Those closed at once: the listener was full",
    ),
    counter("tenfold_hand_overs", &["answer"], "Connections handed to workers, by their answer"),
    gauge("tenfold_open", &["kind"], "What request mode holds open"),
    counter("tenfold_requests", &["code"], "Requests, by the class of their status"),
    counter(
        "tenfold_request_failures",
        &["kind", "reason"],
        "Requests that did not end as their worker's response",
    ),
    counter("tenfold_request_retries", REASON, "Requests sent to another worker"),
    counter("tenfold_request_retries_denied", &[], "Retries that the budget forbade"),
    histogram("tenfold_request_queue_seconds", "How long requests waited for a worker"),
    histogram("tenfold_request_service_seconds", "How long workers had them"),
    counter("tenfold_received_bytes", &[], "Bytes from clients of request mode"),
    counter("tenfold_sent_bytes", &[], "Bytes to clients of request mode"),
    gauge("tenfold_response_buffer_bytes", &[], "Responses read ahead of their clients"),
    gauge("tenfold_master_resident_memory_bytes", &[], "The master in memory"),
    gauge("tenfold_master_open_fds", &[], "The master's open files"),
    gauge("tenfold_master_max_fds", &[], "How many it may have"),
    gauge("tenfold_master_pulse_age_seconds", &[], "Since the reactor last went round its loop"),
    counter("tenfold_cgroup_cpu_seconds", &[], "CPU time of the cgroup"),
    counter("tenfold_cgroup_cpu_periods", &[], "Periods of the cgroup's CPU quota"),
    counter("tenfold_cgroup_cpu_throttled_periods", &[], "Those in which it was spent"),
    counter("tenfold_cgroup_cpu_throttled_seconds", &[], "How long that stopped the cgroup"),
    gauge("tenfold_cgroup_memory_bytes", &[], "Memory of the cgroup without inactive file cache"),
    gauge("tenfold_cgroup_memory_limit_bytes", &[], "Its bound"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_end_in_their_base_unit() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            assert!(metric.name.starts_with("tenfold_"), "{}", metric.name);
            let wrong = ["_ms", "_milliseconds", "_mib", "_percent", "_total", "_count", "_sum"];
            assert!(!wrong.iter().any(|unit| metric.name.ends_with(unit)), "{}", metric.name);
        }
    }
}
