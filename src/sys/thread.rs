//! Reads what the threads of a process do now: evidence on one that does not answer.

use std::fmt;
use std::fs;

/// What a process's main thread does, as far as the kernel tells us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MainThread {
    /// The letter of `ps`: R, S, D, T, t, Z and others.
    pub state: char,
    /// The kernel function in which it waits; none: it does not, or we may not know.
    pub wait_channel: Option<String>,
    /// The system call in which it is; none: it is in none, or we may not know.
    pub system_call: Option<String>,
    /// The process that traces it: a debugger, strace.
    pub tracer: Option<i32>,
}

/// One thread of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its id; the main thread's is the process's.
    pub tid: i32,
    /// As it calls itself, at most 15 bytes.
    pub name: String,
    /// What it does.
    pub doing: MainThread,
    /// The kernel functions in which it is, the innermost first; none where only root may know, or
    /// it is in none.
    pub kernel: Vec<String>,
}

/// At most so many threads are looked at: Node has a dozen, a server with a pool some hundred.
const THREADS_MAX: usize = 256;

/// The threads of `pid`, the main one first; none for a process that is gone.
#[must_use]
pub fn threads(pid: i32) -> Vec<Thread> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let named = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut tids: Vec<i32> = named.take(THREADS_MAX).collect();
    tids.sort_unstable_by_key(|tid| (*tid != pid, *tid));
    tids.into_iter().filter_map(|tid| thread(pid, tid)).collect()
}

fn thread(pid: i32, tid: i32) -> Option<Thread> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/task/{tid}/{name}")).ok();
    let name = read("comm")?.trim_end().to_owned();
    let doing = doing(pid, tid)?;
    // Of one that runs there is only what was left of its last interrupt.
    let stack = read("stack").filter(|_| doing.state != 'R');
    let kernel = stack.map_or_else(Vec::new, |text| kernel_functions(&text));
    Some(Thread { tid, name, doing, kernel })
}

/// Lines such as `[<0>] ep_poll+0x2c1/0x3a0`.
fn kernel_functions(stack: &str) -> Vec<String> {
    let names = stack.lines().filter_map(|line| line.split_ascii_whitespace().nth(1));
    names.filter_map(|name| Some(name.split_once('+')?.0.to_owned())).collect()
}

/// The main thread of `pid`; none for a process that is gone.
#[must_use]
pub fn main_thread(pid: i32) -> Option<MainThread> {
    doing(pid, pid)
}

fn doing(pid: i32, tid: i32) -> Option<MainThread> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/task/{tid}/{name}")).ok();
    let state = state_of(&read("stat")?)?;
    let wait_channel = read("wchan").filter(|name| !name.is_empty() && name != "0");
    let system_call = read("syscall").and_then(|text| name_of_call(&text));
    let tracer = read("status").and_then(|text| tracer_of(&text));
    Some(MainThread { state, wait_channel, system_call, tracer })
}

/// The name of the program may hold anything, parentheses included.
fn state_of(stat: &str) -> Option<char> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

fn tracer_of(status: &str) -> Option<i32> {
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    line.trim().parse().ok().filter(|&pid| pid != 0)
}

/// The first word is the call's number, -1 where it was interrupted by a signal, or `running`.
fn name_of_call(text: &str) -> Option<String> {
    let number: i64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    if number < 0 {
        return None;
    }
    let name = CALLS.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).to_owned());
    Some(name.unwrap_or_else(|| format!("system call {number}")))
}

/// Those in which a server's main thread is likely to be found.
const CALLS: &[(i64, &str)] = &[
    (libc::SYS_read, "read"),
    (libc::SYS_write, "write"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_wait4, "wait4"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"),
    (libc::SYS_ppoll, "ppoll"),
    (libc::SYS_epoll_pwait, "epoll_pwait"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait"),
];

impl fmt::Display for MainThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            'R' => "busy in its own code",
            'S' => "asleep",
            'D' => "waiting for a disk or a network file system",
            'T' => "stopped by a signal",
            't' => "stopped by a debugger",
            'Z' | 'X' => "dead",
            _ => "in an unknown state",
        })?;
        if let Some(call) = &self.system_call {
            write!(f, " in {call}")?;
        }
        match &self.wait_channel {
            Some(channel) => write!(f, " ({channel})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    /// A child that is killed when the test ends, however it does.
    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn start(command: &mut Command) -> Killed {
        let _forking = crate::sys::testing::forking();
        Killed(command.spawn().expect("a shell is everywhere"))
    }

    /// Waits until the child's main thread is in this state.
    fn until(child: &Killed, state: char) -> MainThread {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let thread = main_thread(child.0.id() as i32).expect("the child lives");
            if thread.state == state {
                return thread;
            }
            assert!(Instant::now() < end, "{thread:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn every_thread_of_a_process_is_listed_the_main_one_first() {
        let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(0);
        let (begun, begins) = std::sync::mpsc::sync_channel::<()>(0);
        let named = std::thread::Builder::new().name("a waiter".to_owned());
        let wait = move || {
            // By now it has its name.
            drop(begun);
            assert!(stopped.recv().is_err(), "nothing is sent");
        };
        let waiter = named.spawn(wait).expect("threads can be had");
        assert!(begins.recv().is_err(), "it says no more than that it runs");
        let pid = i32::try_from(std::process::id()).expect("a pid is an i32");
        let threads = threads(pid);
        assert_eq!(threads.first().map(|it| it.tid), Some(pid), "{threads:?}");
        assert!(threads.iter().any(|it| it.name == "a waiter"), "{threads:?}");
        drop(stop);
        waiter.join().expect("it waits for the end only");
    }

    #[test]
    fn kernel_stacks_are_read_without_addresses() {
        let text = "[<0>] ep_poll+0x2c1/0x3a0\n[<0>] do_epoll_wait+0xd0/0xf0\n[<0>] 0xffff\n";
        assert_eq!(kernel_functions(text), ["ep_poll", "do_epoll_wait"]);
    }

    #[test]
    fn a_loop_is_busy_a_sleeper_asleep_and_a_stopped_one_stopped() {
        let busy = start(Command::new("sh").args(["-c", "while :; do :; done"]));
        let thread = until(&busy, 'R');
        assert!(thread.to_string().starts_with("busy in its own code"), "{thread}");
        let asleep = start(Command::new("sleep").arg("60"));
        until(&asleep, 'S');
        kill(Pid::from_raw(asleep.0.id() as i32), Signal::SIGSTOP).expect("it is ours");
        let thread = until(&asleep, 'T');
        assert!(thread.to_string().starts_with("stopped by a signal"), "{thread}");
        assert_eq!(thread.tracer, None);
    }

    #[test]
    fn fields_are_read_as_the_kernel_writes_them() {
        assert_eq!(state_of("12 (a) S b) D 1 12 12"), Some('D'));
        assert_eq!(tracer_of("Name:\tx\nTracerPid:\t0\n"), None);
        assert_eq!(tracer_of("Name:\tx\nTracerPid:\t77\n"), Some(77));
        assert_eq!(name_of_call("running\n"), None);
        assert_eq!(name_of_call("-1 0x0 0x0\n"), None);
        assert_eq!(name_of_call("99999 0x0\n").as_deref(), Some("system call 99999"));
        let futex = format!("{} 0x7f 0x80\n", libc::SYS_futex);
        assert_eq!(name_of_call(&futex).as_deref(), Some("futex"));
    }

    #[test]
    fn nobody_is_seen_where_nobody_is() {
        assert_eq!(main_thread(i32::MAX), None);
    }
}
