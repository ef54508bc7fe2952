//! The keys of the workers: how many, as whom, what each may hold, and when one is replaced.

use super::Change::{Reload, Restart};
use super::Example::{Default, Unset};
use super::{Key, key};

/// Keys of the tables `workers` and `memory`, in the order of the example file.
pub(super) const KEYS: &[Key] = &[
    key(
        "workers.count",
        "How many workers; auto: CPU quota or CPUs (at most 16 without a quota), at most one per\n\
         256 MiB of the cgroup's memory. Unset: auto for node, deno and python, 1 for others.",
        "1 to 256 or \"auto\"",
        Unset("\"auto\""),
        Reload,
    ),
    key(
        "workers.spare",
        "Workers besides, ready and without work, that take over when one cannot serve; auto: 1\n\
         where even the fastest start took longer than 2s and memory has 256 MiB for it, else 0.",
        "0 to 255 or \"auto\"",
        Default("0"),
        Reload,
    ),
    key(
        "workers.max_connections",
        "Open connections one worker may hold, and streams in request mode; auto:\n\
         (open files - 256) / 2.",
        "1 to 1000000 or \"auto\"",
        Default("\"auto\""),
        Reload,
    ),
    key(
        "workers.limit",
        "Requests one worker may hold at once in request mode; auto: 100.",
        "1 to 100000 or \"auto\"",
        Default("\"auto\""),
        Reload,
    ),
    key(
        "workers.user",
        "The user workers run as; unset: tenfold's own.",
        "a name or number known to the host",
        Unset("\"www-data\""),
        Reload,
    ),
    key(
        "workers.group",
        "Their group; unset: the user's.",
        "a name or number known to the host",
        Unset("\"www-data\""),
        Reload,
    ),
    key(
        "workers.preload",
        "Whether Node workers load tenfold's reporter: counts, event-loop delay, drain.",
        "true or false",
        Default("true"),
        Reload,
    ),
    key(
        "workers.inspect",
        "Whether Node workers have a thread that tells where their JavaScript is, for\n\
         `tenfold stack` and the evidence on one that hangs; about 10 MB each.",
        "true or false",
        Default("false"),
        Reload,
    ),
    key(
        "workers.wait_ready",
        "Whether a Node worker is ready only at its process.send('ready').",
        "true or false",
        Default("false"),
        Restart,
    ),
    key(
        "workers.ready_path",
        "What a worker of dialect fd or port must answer, with any status, to be ready; unset: fd\n\
         says READY=1 or answers /, port accepts a connection.",
        "a path that begins with /",
        Unset("\"/ready\""),
        Reload,
    ),
    key(
        "workers.start_timeout",
        "A worker not ready after this long is killed and counts as crashed.",
        "duration, 100ms to 1h",
        Default("\"1m\""),
        Reload,
    ),
    key(
        "workers.give_up",
        "Without any ready worker for this long tenfold ends with exit code 1.",
        "duration, 100ms to 1day",
        Default("\"5m\""),
        Reload,
    ),
    key(
        "workers.nice",
        "Added to the workers' niceness; below 0 needs rights. auto: 5 as PID 1 or as a systemd\n\
         service, so that tenfold answers while they are busy, else 0.",
        "-20 to 19 or \"auto\"",
        Default("\"auto\""),
        Reload,
    ),
    key(
        "workers.oom_score_adj",
        "Their out-of-memory score; auto: 100 above tenfold's own.",
        "-1000 to 1000 or \"auto\"",
        Default("\"auto\""),
        Reload,
    ),
    key(
        "workers.stall",
        "A worker whose heartbeat (Node's preload, an SDK, WATCHDOG=1) is silent for so long gets\n\
         nothing new; never more than half of the workers.",
        "duration, 1500ms to 10m, or \"off\"",
        Default("\"2s\""),
        Restart,
    ),
    key(
        "workers.hang",
        "One that is silent for so long is killed and counts as crashed; its requests get a 504\n\
         before. auto: 30s for workers with a heartbeat; a duration also for others, that hold\n\
         requests and end none.",
        "duration, 500ms to 1h, not below workers.stall, \"auto\" or \"off\"",
        Default("\"auto\""),
        Restart,
    ),
    key(
        "workers.eject_after",
        "A worker that fails so many requests in a row (takes none, loses them, answers no HTTP)\n\
         gets none for a while; never more than half of the workers.",
        "1 to 1000000 or \"off\"",
        Default("5"),
        Restart,
    ),
    key(
        "workers.eject_time",
        "For how long; doubled each time in a row, up to 5m.",
        "duration, 10ms to 5m",
        Default("\"10s\""),
        Restart,
    ),
    key(
        "workers.warmup",
        "Paths that a new worker is asked for, one after the other, before it is ready; any\n\
         answer within 10s will do (request mode).",
        "a list of paths",
        Default("[]"),
        Reload,
    ),
    key(
        "workers.ramp",
        "For so long the limit of a new worker rises from a tenth to the whole, if others have\n\
         served for as long.",
        "duration, 1s to 1h, or \"off\"",
        Default("\"off\""),
        Restart,
    ),
    key(
        "workers.max_requests",
        "A worker that was given so many requests (connections, in connection mode) is replaced:\n\
         a new one starts first, one at a time, not while a queue stands. Each life ends up to a\n\
         tenth earlier, at random.",
        "1 to 1000000000000 or \"off\"",
        Default("\"off\""),
        Restart,
    ),
    key(
        "workers.max_age",
        "A worker that is so old is replaced likewise.",
        "duration, 1s to 365days, or \"off\"",
        Default("\"off\""),
        Restart,
    ),
    key(
        "memory.soft",
        "A worker that holds so much memory of its own is replaced likewise. auto: 85 % of the\n\
         cgroup's limit, divided by the workers; off without a limit. When the cgroup is 92 %\n\
         full the order turns: the largest worker finishes and ends, then the new one starts.",
        "size, 1MiB to 1024GiB, \"auto\" or \"off\"",
        Default("\"auto\""),
        Restart,
    ),
];
