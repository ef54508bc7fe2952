//! Starts real processes and looks at what they inherited, became and left behind.

use std::fs::Permissions;
use std::io::{PipeReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::child::{Delivery, Ended, Exited};
use super::*;
use crate::sys::testing::forking;

const NOBODY: u32 = 65_534;

fn spawn(plan: &SpawnPlan) -> Result<Spawned, SpawnError> {
    let _alone = forking();
    super::spawn(plan)
}

fn text(text: &str) -> CString {
    CString::new(text).expect("no NUL byte")
}

/// A plan for `sh -c script` with its stdout into the pipe returned.
fn shell(script: &str) -> (SpawnPlan, PipeReader) {
    let (reader, writer) = io::pipe().expect("pipe");
    let mut plan = SpawnPlan::new(Path::new("/bin/sh")).expect("a path");
    plan.arguments.extend([text("-c"), text(script)]);
    plan.environment.push(text("PATH=/usr/local/bin:/usr/bin:/bin"));
    plan.stdout = Output::To(writer.into());
    (plan, reader)
}

/// Starts the plan, reads its stdout to the end and reaps it.
fn output((plan, mut reader): (SpawnPlan, PipeReader)) -> (String, Ended) {
    let spawned = spawn(&plan).expect("it starts");
    drop(plan);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    (text.trim_end().to_owned(), wait_for(&spawned.child).ended)
}

fn wait_for(child: &Child) -> Exited {
    assert!(is_readable(child.pidfd().expect("this kernel has pidfds")), "it does not end");
    child::reap(child.pid()).expect("our child").expect("ended")
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let timeout = PollTimeout::try_from(Duration::from_secs(10)).expect("small");
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).expect("poll") == 1
}

#[test]
fn a_process_runs_with_the_arguments_environment_and_directory_of_its_plan() {
    let (mut plan, reader) = shell(r#"echo "$0 $1 $NAME $(pwd) $(umask)"; exit 3"#);
    plan.arguments.extend([text("zero"), text("one")]);
    plan.environment.push(text("NAME=value"));
    plan.directory = Some(text("/usr"));
    plan.umask = Some(0o027);
    let (printed, ended) = output((plan, reader));
    assert_eq!(printed, "zero one value /usr 0027");
    assert_eq!(ended, Ended::Code(3));
}

#[test]
fn only_the_plans_descriptors_are_inherited() {
    // A descriptor without close-on-exec, as a careless shell leaves behind.
    let stray = nix::unistd::dup(std::io::stderr()).expect("a free descriptor");
    let (mut plan, reader) = shell("exec ls -l /proc/self/fd");
    let source = File::open("/dev/zero").expect("open");
    plan.fds.push(PassedFd { source: source.into(), target: 100 });
    plan.stderr = Output::Null;
    let (printed, _) = output((plan, reader));
    drop(stray);
    let arrow = |line: &str| {
        let (number, target) = line.rsplit_once(" -> ")?;
        let target = target.split(':').next()?.to_owned();
        Some((number.rsplit(' ').next()?.parse::<i32>().ok()?, target))
    };
    let mut inherited: Vec<_> = printed.lines().filter_map(arrow).collect();
    // The directory that `ls` itself reads.
    inherited.retain(|(_, target)| !target.starts_with("/proc/"));
    inherited.sort();
    let expected = [(0, "/dev/null"), (1, "pipe"), (2, "/dev/null"), (100, "/dev/zero")];
    assert_eq!(inherited, expected.map(|(number, target)| (number, target.to_owned())));
}

#[test]
fn targets_may_equal_the_numbers_of_other_sources() {
    let (mut plan, reader) = shell("");
    let first: OwnedFd = File::open("/dev/zero").expect("open").into();
    let second: OwnedFd = File::open("/dev/full").expect("open").into();
    let (a, b) = (first.as_raw_fd(), second.as_raw_fd());
    plan.arguments[2] = text(&format!("readlink /proc/$$/fd/{a} /proc/$$/fd/{b}"));
    plan.fds.push(PassedFd { source: first, target: b });
    plan.fds.push(PassedFd { source: second, target: a });
    assert_eq!(output((plan, reader)).0, "/dev/full\n/dev/zero");
}

#[test]
fn a_target_used_twice_or_below_three_is_refused() {
    for targets in [vec![2], vec![100, 100]] {
        let (mut plan, _reader) = shell("true");
        for target in targets {
            let source = File::open("/dev/null").expect("open").into();
            plan.fds.push(PassedFd { source, target });
        }
        let error = spawn(&plan).expect_err("refused");
        assert_eq!((error.step, error.errno), (Step::Prepare, Errno::EINVAL));
    }
}

#[test]
fn a_failure_is_reported_whatever_numbers_the_targets_take() {
    let (mut plan, _reader) = shell("true");
    plan.program = text("/nowhere/tool");
    // The sources take up the low numbers, so the report pipe gets one that is a target.
    for target in 103..=400 {
        let source = File::open("/dev/null").expect("open").into();
        plan.fds.push(PassedFd { source, target });
    }
    let error = spawn(&plan).expect_err("it cannot start");
    assert_eq!((error.step, error.errno), (Step::Execute, Errno::ENOENT));
}

#[test]
fn listen_pid_is_the_pid_of_the_process() {
    let (mut plan, reader) = shell("echo $LISTEN_PID $$ $LAST");
    plan.listen_pid = ListenPid::OfChild;
    plan.environment.push(text("LAST=kept"));
    let (printed, _) = output((plan, reader));
    let words: Vec<_> = printed.split(' ').collect();
    assert_eq!(words[0], words[1]);
    assert_eq!(words[2], "kept");
    let (printed, _) = output(shell("echo ${LISTEN_PID-absent}"));
    assert_eq!(printed, "absent");
}

#[test]
fn signals_are_default_and_unblocked_in_the_process() {
    let fields = "^Sig(Blk|Ign)";
    // Not the shell's own: it sets up its signals. `grep` is executed in its place.
    let script = format!("exec grep -E '{fields}' /proc/self/status");
    let (printed, _) = output(shell(&script));
    let none = format!("{:016x}", 0);
    for line in printed.lines() {
        assert!(line.ends_with(&none), "{line}");
    }
    assert_eq!(printed.lines().count(), 2);
}

#[test]
fn a_process_leads_its_group_and_a_session_if_asked() {
    // Fields 5 and 6 of stat are the group and the session; `sh` has no parenthesis in its name.
    let script = "set -- $(cat /proc/$$/stat); echo $1 $5 $6";
    let ids = |leads| {
        let (mut plan, reader) = shell(script);
        plan.leads = leads;
        let (printed, _) = output((plan, reader));
        printed.split(' ').map(|id| id.parse().expect("a pid")).collect::<Vec<i32>>()
    };
    let grouped = ids(Leads::Group);
    assert_eq!(grouped[0], grouped[1]);
    assert_eq!(grouped[2], nix::unistd::getsid(None).expect("ours").as_raw());
    let alone = ids(Leads::Session);
    assert_eq!((alone[0], alone[0]), (alone[1], alone[2]));
}

#[test]
fn limits_nice_and_oom_score_are_those_of_the_plan() {
    let script = "ulimit -Sn; ulimit -Hn; nice; cat /proc/self/oom_score_adj";
    let (mut plan, reader) = shell(script);
    plan.nofile = Some(Nofile { soft: 64, hard: 128 });
    plan.nice = 5;
    plan.oom_score_adj = Some(500);
    let ours: i32 = {
        let (printed, _) = output(shell("nice"));
        printed.parse().expect("a number")
    };
    let (printed, _) = output((plan, reader));
    assert_eq!(printed, format!("64\n128\n{}\n500", (ours + 5).min(19)));
}

#[test]
fn an_oom_score_out_of_range_is_denied_and_the_process_runs() {
    let (mut plan, _reader) = shell("exit 0");
    plan.oom_score_adj = Some(5000);
    let spawned = spawn(&plan).expect("it starts all the same");
    let denied: Vec<_> = spawned.denied.iter().map(ToString::to_string).collect();
    assert_eq!(denied, ["cannot set oom_score_adj to 5000: Invalid argument"]);
    assert_eq!(wait_for(&spawned.child).ended, Ended::Code(0));
}

#[test]
fn a_failed_start_names_its_step_cause_and_path() {
    let error = |change: &dyn Fn(&mut SpawnPlan)| {
        let (mut plan, _reader) = shell("true");
        change(&mut plan);
        spawn(&plan).expect_err("it cannot start").to_string()
    };
    let absent = error(&|plan| plan.program = text("/nowhere/tool"));
    assert_eq!(absent, "cannot execute /nowhere/tool: No such file or directory");
    let denied = error(&|plan| plan.program = text("/etc/passwd"));
    assert_eq!(denied, "cannot execute /etc/passwd: Permission denied");
    let directory = error(&|plan| plan.directory = Some(text("/nowhere")));
    assert_eq!(directory, "cannot enter directory /nowhere: No such file or directory");
    let limit = error(&|plan| plan.nofile = Some(Nofile { soft: 2, hard: 1 }));
    assert_eq!(limit, "cannot limit open files to 2:1: Invalid argument");
}

#[test]
fn a_script_whose_interpreter_is_missing_says_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/nowhere/interpreter\n").expect("written");
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("changed");
    let error = spawn(&SpawnPlan::new(&script).expect("a path")).expect_err("cannot run");
    let reason = "the interpreter named in its first line does not exist";
    assert_eq!(error.to_string(), format!("cannot execute {}: {reason}", script.display()));
}

#[test]
fn a_failed_start_leaves_no_descriptor_behind() {
    // Other tests open descriptors meanwhile, so counting ours proves nothing; the pipe's end of
    // file proves that no copy of its writer survived.
    let (mut plan, mut reader) = shell("true");
    plan.program = text("/nowhere/tool");
    spawn(&plan).expect_err("it cannot start");
    drop(plan);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("every writer is closed");
    assert_eq!(rest, "");
}

#[test]
fn a_process_dies_with_the_thread_that_started_it() {
    let (plan, mut reader) = shell("echo up; exec sleep 60");
    let mut first = [0; 3];
    let start = move || {
        let spawned = spawn(&plan).expect("it starts");
        reader.read_exact(&mut first).expect("it is up");
        spawned.child
    };
    let child = std::thread::spawn(start).join().expect("no panic");
    assert_eq!(wait_for(&child).ended, Ended::Signal(libc::SIGKILL));
}

#[test]
fn a_process_without_a_leash_survives_the_thread_that_started_it() {
    let (mut plan, mut reader) = shell("echo up; exec cat");
    plan.leash = Leash::Survive;
    let start = move || spawn(&plan).expect("it starts").child;
    let child = std::thread::spawn(start).join().expect("no panic");
    let mut text = String::new();
    // `cat` reads /dev/null, so it ends by itself, and with code 0 only if nobody killed it.
    reader.read_to_string(&mut text).expect("text");
    assert_eq!((text.as_str(), wait_for(&child).ended), ("up\n", Ended::Code(0)));
}

#[test]
fn a_sibling_is_a_child_of_our_parent() {
    let (mut plan, mut reader) = shell("echo $PPID");
    plan.leash = Leash::Sibling;
    spawn(&plan).expect("it starts");
    drop(plan);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    assert_eq!(text.trim_end(), nix::unistd::getppid().to_string());
}

#[test]
fn a_process_becomes_the_user_of_its_plan_and_keeps_its_leash() {
    let user = Credentials { uid: NOBODY, gid: NOBODY, groups: vec![NOBODY, 12] };
    let (mut plan, mut reader) = shell("id -u; id -g; id -G; exec sleep 60");
    plan.credentials = Some(user);
    if !nix::unistd::geteuid().is_root() {
        // Left out without root: the change itself. What remains is that it is refused by name.
        let error = spawn(&plan).expect_err("only root may");
        assert_eq!((error.step, error.errno), (Step::Groups, Errno::EPERM));
        return;
    }
    let start = move || {
        let spawned = spawn(&plan).expect("root may");
        let mut printed = vec![0; "65534\n65534\n65534 12\n".len()];
        reader.read_exact(&mut printed).expect("three lines");
        (spawned.child, String::from_utf8(printed).expect("text"))
    };
    let (child, printed) = std::thread::spawn(start).join().expect("no panic");
    assert_eq!(printed, "65534\n65534\n65534 12\n");
    assert_eq!(wait_for(&child).ended, Ended::Signal(libc::SIGKILL));
}

#[test]
fn a_signal_reaches_the_process_and_says_when_it_is_gone() {
    let (plan, _reader) = shell("exec sleep 60");
    let child = spawn(&plan).expect("it starts").child;
    assert_eq!(child.signal(Signal::SIGTERM).expect("ours"), Delivery::Sent);
    assert_eq!(wait_for(&child).ended, Ended::Signal(libc::SIGTERM));
    assert_eq!(child.signal(Signal::SIGTERM).expect("no error"), Delivery::Gone);
    let error = child::reap(child.pid()).expect_err("reaped already");
    assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
}

#[test]
fn a_signal_to_the_group_reaches_grandchildren() {
    let (plan, mut reader) = shell("sleep 60 & echo up; wait");
    let child = spawn(&plan).expect("it starts").child;
    drop(plan);
    reader.read_exact(&mut [0; 3]).expect("it is up");
    assert!(child::group_exists(child.pid()).expect("a group"));
    child::signal_group(child.pid(), Signal::SIGKILL).expect("ours");
    wait_for(&child);
    // The grandchild holds the pipe too; its end shows as the end of the file.
    reader.read_to_end(&mut Vec::new()).expect("nobody holds it");
}

#[test]
fn a_running_process_is_not_reaped() {
    let (plan, _reader) = shell("exec sleep 60");
    let child = spawn(&plan).expect("it starts").child;
    assert_eq!(child::reap(child.pid()).expect("our child"), None);
    child.signal(Signal::SIGKILL).expect("ours");
    wait_for(&child);
}

#[test]
fn an_ended_process_is_seen_before_it_is_reaped() {
    let (plan, _reader) = shell("kill -40 $$");
    let child = spawn(&plan).expect("it starts").child;
    assert!(is_readable(child.pidfd().expect("this kernel has pidfds")));
    // Other tests may have ended children too, so only the presence of one is certain.
    assert!(child::next_exited().expect("no error").is_some());
    assert_eq!(wait_for(&child).ended, Ended::Signal(40));
}
