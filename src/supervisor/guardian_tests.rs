//! Lets a guardian's watch run against real process groups, and looks at the process it would be.

use std::io::PipeReader;
use std::time::Instant;

use super::*;
use crate::sys::child::Ended;
use crate::sys::testing::forking;

const INSTANCE: &str = "0123456789abcdef0123456789abcdef";

fn text(text: &str) -> CString {
    CString::new(text).expect("no NUL byte")
}

/// Starts `sh -c script` with its own stdout pipe and no leash; returns once it has printed `up`.
fn shell(script: &str, environment: &[&str]) -> (Child, PipeReader) {
    let (mut reader, writer) = io::pipe().expect("pipe");
    let mut plan = SpawnPlan::new(Path::new("/bin/sh")).expect("a path");
    plan.arguments.extend([text("-c"), text(script)]);
    plan.environment.push(text("PATH=/usr/local/bin:/usr/bin:/bin"));
    plan.environment.extend(environment.iter().map(|entry| text(entry)));
    plan.stdout = Output::To(writer.into());
    plan.leash = Leash::Survive;
    let alone = forking();
    let child = spawn(&plan).expect("it starts").child;
    drop((plan, alone));
    reader.read_exact(&mut [0; 3]).expect("it is up");
    (child, reader)
}

fn reap(child: &Child) -> Option<Ended> {
    child::reap(child.pid()).expect("our child").map(|exited| exited.ended)
}

/// Runs a guard over `lines`, then an end of file, as its own thread, reaping `children` meanwhile
/// as an init process would. Returns how each ended and how long the guard took.
fn guard_over(lines: &str, instance: &str, children: &[Child]) -> (Vec<Ended>, Duration) {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let guard = scope.spawn(|| guard(lines.as_bytes(), instance));
        let mut ended = vec![None; children.len()];
        while !guard.is_finished() || ended.contains(&None) {
            for (child, ended) in children.iter().zip(&mut ended) {
                *ended = ended.or_else(|| reap(child));
            }
            assert!(start.elapsed() < Duration::from_secs(20), "somebody is left: {ended:?}");
            std::thread::yield_now();
        }
        (ended.into_iter().flatten().collect(), start.elapsed())
    })
}

#[test]
fn the_masters_death_ends_every_watched_group_with_its_grandchildren() {
    let (first, mut pipe) = shell("sleep 60 & echo up; wait", &[]);
    let (second, _pipe) = shell("echo up; exec sleep 60", &[]);
    let lines = format!("+{}\n+{}\n", first.pid(), second.pid());
    let (ended, took) = guard_over(&lines, INSTANCE, &[first, second]);
    assert_eq!(ended, [Ended::Signal(libc::SIGTERM); 2]);
    assert!(took < GRACE, "nobody was left to wait for: {took:?}");
    // The grandchild held the pipe too.
    pipe.read_to_end(&mut Vec::new()).expect("nobody holds it");
}

#[test]
fn a_group_that_ignores_term_is_killed_after_the_grace() {
    let (stubborn, _pipe) = shell("trap '' TERM; echo up; sleep 60; sleep 60", &[]);
    let lines = format!("+{}\n", stubborn.pid());
    let (ended, took) = guard_over(&lines, INSTANCE, &[stubborn]);
    assert_eq!(ended, [Ended::Signal(libc::SIGKILL)]);
    assert!(took >= GRACE, "the grace was cut short: {took:?}");
}

#[test]
fn a_process_that_left_its_group_is_found_by_the_instance() {
    let instance = format!("{:032x}", std::process::id());
    let (stray, _pipe) =
        shell("echo up; exec sleep 60", &[&format!("TENFOLD_INSTANCE={instance}")]);
    let (other, _pipe) = shell("echo up; exec sleep 60", &["TENFOLD_INSTANCE=another"]);
    let (ended, _) = guard_over("", &instance, &[stray]);
    assert_eq!(ended, [Ended::Signal(libc::SIGTERM)]);
    assert_eq!(reap(&other), None, "another master's worker was hit");
    other.signal(Signal::SIGKILL).expect("ours");
    let (ended, _) = guard_over("done\n", &instance, &[other]);
    assert_eq!(ended, [Ended::Signal(libc::SIGKILL)]);
}

#[test]
fn lines_are_followed_up_to_done_or_the_end() {
    let follow = |lines: &str| {
        let mut groups = BTreeSet::new();
        let watch = watch(lines.as_bytes(), &mut groups);
        (watch, groups.into_iter().collect::<Vec<_>>())
    };
    assert_eq!(follow("+7\n+8\n-7\n"), (Watch::MasterDied, vec![8]));
    assert_eq!(follow("+7\ndone\n+8\n"), (Watch::Dismissed, vec![7]));
    assert_eq!(follow("+7\n+12"), (Watch::MasterDied, vec![7]), "half a number");
    assert_eq!(follow("+7\ndone"), (Watch::MasterDied, vec![7]), "half a word");
    assert_eq!(follow("+1\n+0\n+-3\n-x\n\nhello\n+9\n"), (Watch::MasterDied, vec![9]));
    assert_eq!(follow(&"9".repeat(100)), (Watch::MasterDied, vec![]));
    assert_eq!(follow(""), (Watch::MasterDied, vec![]));
}

/// A guardian whose process is a shell script instead.
fn posing(script: &str) -> (Guardian, PipeReader) {
    let (reader, writer) = io::pipe().expect("pipe");
    let mut plan = plan(INSTANCE).expect("no NUL byte");
    plan.program = c"/bin/sh".to_owned();
    plan.arguments.splice(1..1, [text("-c"), text(script)]);
    plan.stdout = Output::To(writer.into());
    let _alone = forking();
    (Guardian::launch(plan).expect("it starts"), reader)
}

#[test]
fn the_guardian_hears_the_master_and_leads_a_session_of_its_own() {
    let script = "set -- $(cat /proc/$$/stat) \"$@\"; echo $1 $6; cat";
    let (mut guardian, mut reader) = posing(script);
    guardian.watch(12).expect("it reads");
    guardian.forget(12).expect("it reads");
    let pid = guardian.child().pid();
    guardian.dismiss().expect("it reads");
    let mut heard = String::new();
    reader.read_to_string(&mut heard).expect("text");
    assert_eq!(heard, format!("{pid} {pid}\n+12\n-12\ndone\n"));
    while child::reap(pid).expect("our child").is_none() {
        std::thread::yield_now();
    }
}

#[test]
fn the_guardian_is_started_from_the_running_binary_with_its_instance() {
    let plan = plan(INSTANCE).expect("no NUL byte");
    assert_eq!(plan.program.as_c_str(), c"/proc/self/exe");
    let arguments: Vec<_> = plan.arguments.iter().map(|text| text.to_string_lossy()).collect();
    assert_eq!(arguments, ["tenfold: guardian", ARGUMENT, INSTANCE]);
    assert!(plan.environment.is_empty(), "else it would end itself as one of the instance");
}

#[test]
fn a_guardian_that_does_not_read_never_blocks_the_master() {
    let (mut guardian, mut reader) = posing("echo up; exec sleep 60");
    reader.read_exact(&mut [0; 3]).expect("it is up");
    let error = (0..).find_map(|group| guardian.watch(1_000_000 + group % 9).err());
    assert_eq!(error.map(|error| error.kind()), Some(io::ErrorKind::OutOfMemory));
    guardian.child().signal(Signal::SIGKILL).expect("ours");
    while reap(guardian.child()).is_none() {
        std::thread::yield_now();
    }
}

#[test]
fn a_dead_guardian_is_reported_by_the_next_line() {
    let (mut guardian, _reader) = posing("exit 0");
    while reap(guardian.child()).is_none() {
        std::thread::yield_now();
    }
    let error = guardian.watch(12).expect_err("nobody reads");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn only_a_whole_instance_name_makes_a_guardian() {
    assert!(is_instance(INSTANCE));
    for wrong in ["", "0123", &INSTANCE[1..], &format!("{INSTANCE}0"), &"g".repeat(32)] {
        assert!(!is_instance(wrong), "{wrong}");
    }
    assert_eq!(guardian_main([]), ExitCode::from(78));
}

#[test]
fn no_guardian_is_needed_where_somebody_else_ends_the_tree() {
    let with = |pid: u32, variables: &[(&str, &str)]| {
        is_needed(pid, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    };
    assert!(with(42, &[]));
    assert!(with(42, &[("INVOCATION_ID", "a")]), "a shell inside a unit");
    assert!(with(42, &[("SYSTEMD_EXEC_PID", "41")]), "a child of a unit's process");
    assert!(!with(1, &[]));
    assert!(!with(42, &[("SYSTEMD_EXEC_PID", "42")]));
    assert!(!with(42, &[("INVOCATION_ID", "a"), ("NOTIFY_SOCKET", "/run/n")]));
}

#[test]
fn a_guardian_that_is_given_up_does_nothing_more() {
    let (guardian, mut reader) = posing("echo up; cat; echo the master has died");
    let pid = guardian.child().pid();
    let _ = guardian.discard();
    let mut said = String::new();
    reader.read_to_string(&mut said).expect("it ends");
    assert!(!said.contains("died"), "{said}");
    child::reap(pid).expect("ours");
}
