//! What happens to everybody else when a reader stops, leaves, or is too slow.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use nix::pty::openpty;
use nix::unistd::write;

use super::*;

const LINE: &[u8] = b"0123456789 0123456789 0123456789 0123456789 0123456789 0123456789\n";

/// Writes `bytes` bytes of lines on a thread; the receiver closes when they are all written.
fn flood(mut pipe: File, bytes: usize) -> Receiver<()> {
    let (done, waiting) = channel::<()>();
    thread::spawn(move || {
        let lines = LINE.repeat(1000);
        for _ in 0..bytes / lines.len() {
            pipe.write_all(&lines).expect("the pipe is read");
        }
        drop(done);
    });
    waiting
}

fn wait_until_done(flood: &Receiver<()>) {
    let result = flood.recv_timeout(BOUND);
    assert_eq!(result, Err(RecvTimeoutError::Disconnected), "a worker was blocked");
}

/// Fails unless `bytes` are whole copies of [`LINE`].
fn assert_whole_lines(bytes: &[u8]) {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        assert_eq!(String::from_utf8_lossy(line), String::from_utf8_lossy(LINE));
    }
}

#[test]
fn a_stuck_stdout_blocks_neither_workers_nor_stderr_and_losses_are_told() {
    let rig = Rig::usual(LineStyle::Text, WorkerOutput::Auto);
    let Rig { logs, handle, stdout, stderr } = rig;
    let stderr = Collector::new(stderr);
    let (out, mut err) = attach(&handle, 5, 1);
    wait_until_done(&flood(out, 30 << 20));
    err.write_all(b"still heard\n").expect("write");
    stderr.wait_for("still heard\n");
    handle.print("own line");
    stderr.wait_for("own line\n");
    stderr.wait_for("lines of worker output slot=1 worker=5\n");
    let dropped = handle.dropped();
    assert_eq!(dropped.own, 0);
    let expected = (30 << 20) / LINE.len() as u64;
    assert!((expected / 2..expected).contains(&dropped.workers), "{dropped:?}");

    // The reader comes back: whole lines, as many as were not counted as dropped.
    let stdout = Collector::new(stdout);
    logs.shutdown(soon());
    let text = stdout.finish();
    assert_whole_lines(&text);
    let written = (30 << 20) / (LINE.len() * 1000) * 1000;
    let lines = (text.len() / LINE.len()) as u64;
    assert_eq!(lines + handle.dropped().workers, written as u64);
}

#[test]
fn callers_never_wait_and_shutdown_ends_at_its_deadline() {
    let Rig { logs, handle, stdout, stderr } = Rig::usual(LineStyle::Text, WorkerOutput::Auto);
    let (out, err) = attach(&handle, 1, 0);
    wait_until_done(&flood(out, 10 << 20));
    wait_until_done(&flood(err, 10 << 20));
    for _ in 0..100_000 {
        handle.print("a line of our own that nobody reads");
    }
    assert!(handle.dropped().own > 0);
    let before = Instant::now();
    assert_eq!(logs.shutdown(before + Duration::from_millis(100)), Ending::Joined);
    assert!(before.elapsed() < BOUND / 4);
    // Every own line was written, is counted, or both outputs are closed too early.
    let mut text = String::new();
    let mut stderr = stderr;
    stderr.read_to_string(&mut text).expect("UTF-8");
    let own = text.lines().filter(|line| line.starts_with("a line")).count() as u64;
    assert_eq!(own + handle.dropped().own, 100_000);
    drop(stdout);
}

#[test]
fn own_lines_that_found_no_room_are_told_once_there_is_some() {
    let Rig { logs, handle, stderr, .. } = Rig::usual(LineStyle::Text, WorkerOutput::Auto);
    for _ in 0..100_000 {
        handle.print("a line of our own that nobody reads yet");
    }
    let stderr = Collector::new(stderr);
    stderr.wait_for(" log lines\n");
    logs.shutdown(soon());
    let text = String::from_utf8(stderr.finish()).expect("UTF-8");
    let told: u64 = text
        .lines()
        .filter_map(|line| line.split_once("WARN dropped ")?.1.split_once(" log lines"))
        .map(|(count, _)| count.parse::<u64>().expect("a number"))
        .sum();
    assert_eq!(told, handle.dropped().own);
    let own = text.lines().filter(|line| line.starts_with("a line")).count() as u64;
    assert_eq!(own + told, 100_000);
}

#[test]
fn a_reader_that_leaves_costs_its_lines_and_nothing_else() {
    let Rig { logs, handle, stdout, stderr } = Rig::usual(LineStyle::Json, WorkerOutput::Auto);
    let stderr = Collector::new(stderr);
    drop(stdout);
    let (out, mut err) = attach(&handle, 1, 0);
    wait_until_done(&flood(out, 1 << 20));
    err.write_all(b"still here\n").expect("write");
    stderr.wait_for("still here\n");
    assert_eq!(logs.shutdown(soon()), Ending::Joined);
    let written = (1 << 20) / (LINE.len() * 1000) * 1000;
    assert_eq!(handle.dropped().workers, written as u64);
}

#[test]
fn a_flood_starves_neither_own_lines_nor_other_workers() {
    let Rig { logs, handle, stderr, .. } = Rig::usual(LineStyle::Text, WorkerOutput::Auto);
    let (others, heard) = channel();
    let flooded = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&flooded);
    let reader = thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            let line = line.expect("UTF-8");
            if line.as_bytes() == LINE.trim_ascii_end() {
                counter.fetch_add(1, Ordering::Relaxed);
            } else if others.send(line).is_err() {
                break;
            }
        }
    });
    let running = Arc::new(AtomicBool::new(true));
    let (_, mut loud) = attach(&handle, 1, 0);
    let (_, mut quiet) = attach(&handle, 2, 1);
    let until = Arc::clone(&running);
    let flood = thread::spawn(move || {
        let lines = LINE.repeat(1000);
        while until.load(Ordering::Relaxed) {
            loud.write_all(&lines).expect("the pipe is read");
        }
    });
    // A line about dropped lines of the flood may come at any time.
    let next = || loop {
        let line = heard.recv_timeout(BOUND).expect("a line that is not the flood");
        if !line.contains(" WARN dropped ") {
            break line;
        }
    };
    let mut n = 0;
    while n < 50 || flooded.load(Ordering::Relaxed) < 50_000 {
        n += 1;
        writeln!(quiet, "quiet {n}").expect("write");
        assert_eq!(next(), format!("quiet {n}"));
        handle.print(&format!("own {n}"));
        assert_eq!(next(), format!("own {n}"));
    }
    running.store(false, Ordering::Relaxed);
    flood.join().expect("no panic");
    logs.shutdown(soon());
    drop(heard);
    reader.join().expect("no panic");
    assert_eq!(handle.dropped().own, 0);
}

#[test]
fn a_stopped_terminal_loses_nothing_of_a_short_pause() {
    let pty = openpty(None, None).expect("pty");
    let keyboard = pty.master.try_clone().expect("dup");
    let screen = Collector::new(File::from(pty.master));
    let stderr = pty.slave.try_clone().expect("dup");
    let (logs, handle) = start(pty.slave, stderr, LineStyle::Text, WorkerOutput::Auto, PATIENCE);
    let (mut out, _) = attach(&handle, 1, 3);
    out.write_all(b"before\n").expect("write");
    screen.wait_for("[3] before\r\n");
    write(&keyboard, b"\x13").expect("Ctrl-S");
    out.write_all(b"during\n").expect("write");
    handle.print("own");
    wait_until_done(&flood(out, 1 << 20));
    write(&keyboard, b"\x11").expect("Ctrl-Q");
    screen.wait_for("[3] during\r\n");
    screen.wait_for("own\r\n");
    assert_eq!(logs.shutdown(soon()), Ending::Joined);
    drop(keyboard);
    let shown = screen.finish();
    let lines = shown.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, 3 + (1 << 20) / (LINE.len() * 1000) * 1000);
    assert_eq!(handle.dropped(), Dropped::default());
}

#[test]
fn a_stuck_socket_is_no_different_from_a_stuck_pipe() {
    let (reader, stdout) = UnixStream::pair().expect("socketpair");
    let (stderr, stderr_end) = pipe();
    let (logs, handle) =
        start(stdout.into(), stderr_end, LineStyle::Journal, WorkerOutput::Auto, PATIENCE);
    let stderr = Collector::new(stderr);
    let (out, _) = attach(&handle, 1, 0);
    wait_until_done(&flood(out, 20 << 20));
    handle.print("<6>own");
    stderr.wait_for("<6>own\n");
    let reader = Collector::new(reader);
    logs.shutdown(soon());
    assert_whole_lines(&reader.finish());
    assert!(handle.dropped().workers > 0);
}
