//! What readers that keep up receive.

use std::io::Write;

use nix::pty::openpty;

use super::*;

#[test]
fn auto_passes_bytes_through_on_the_stream_they_came_on() {
    let rig = Rig::patient(LineStyle::Json, WorkerOutput::Auto);
    let (logs, handle, stdout, stderr) = rig.collect();
    let (mut out, mut err) = attach(&handle, 1, 0);
    let bytes = b"{\"level\":30}\r\n\xff\xfe\x00\x1b[31m\n\n\xe2\x82";
    out.write_all(bytes).expect("write");
    err.write_all(b"warning\n").expect("write");
    drop((out, err));
    assert_eq!(logs.shutdown(soon()), Ending::Joined);
    assert_eq!(stdout.finish(), bytes);
    assert_eq!(stderr.finish(), b"warning\n");
    assert_eq!(handle.dropped(), Dropped::default());
}

#[test]
fn random_chunks_join_to_what_each_worker_wrote() {
    for seed in 0..8_u64 {
        println!("seed {seed}");
        let rig = Rig::patient(LineStyle::Json, WorkerOutput::Auto);
        let (logs, handle, stdout, stderr) = rig.collect();
        // One worker per output: where only one writes, nothing may ever be added.
        let (out, _) = attach(&handle, 1, 0);
        let (_, err) = attach(&handle, 2, 1);
        let writers: Vec<_> = [(out, seed), (err, seed + 100)]
            .into_iter()
            .map(|(mut pipe, seed)| {
                thread::spawn(move || {
                    let mut random = Random(seed);
                    let mut written = Vec::new();
                    for _ in 0..300 {
                        let size = 1 + random.below(9000);
                        let newline = 2 + random.below(5000);
                        let chunk: Vec<u8> = (0..size)
                            .map(|_| match random.below(newline) {
                                0 => b'\n',
                                other => u8::try_from(other % 256).expect("below 256"),
                            })
                            .collect();
                        pipe.write_all(&chunk).expect("the pipe is read");
                        written.extend(chunk);
                    }
                    written
                })
            })
            .collect();
        let written: Vec<_> =
            writers.into_iter().map(|writer| writer.join().expect("no panic")).collect();
        assert_eq!(logs.shutdown(soon()), Ending::Joined);
        assert!(stdout.finish() == written[0], "seed {seed}: stdout differs");
        assert!(stderr.finish() == written[1], "seed {seed}: stderr differs");
        assert_eq!(handle.dropped(), Dropped::default());
    }
}

#[test]
fn forty_thousand_lines_of_four_workers_arrive_whole_and_in_order() {
    const LINES: usize = 10_000;
    let rig = Rig::patient(LineStyle::Json, WorkerOutput::Auto);
    let (logs, handle, stdout, _) = rig.collect();
    let writers: Vec<_> = (0..4)
        .map(|worker| {
            let (mut out, _) = attach(&handle, worker, 0);
            thread::spawn(move || {
                for n in 0..LINES {
                    // One write of less than PIPE_BUF bytes: never seen in part.
                    let line = format!("{worker} {n} {}\n", "x".repeat(n % 200));
                    out.write_all(line.as_bytes()).expect("the pipe is read");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().expect("no panic");
    }
    logs.shutdown(soon());
    let text = String::from_utf8(stdout.finish()).expect("UTF-8");
    let mut next = [0; 4];
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok());
        let (worker, n) = number().zip(number()).expect("two numbers");
        assert_eq!(n, next[worker], "line of worker {worker}");
        assert_eq!(words.next().map(str::len), Some(n % 200), "line {n} is whole");
        next[worker] += 1;
    }
    assert_eq!(next, [LINES; 4]);
    assert_eq!(handle.dropped(), Dropped::default());
}

#[test]
fn a_reader_slower_than_four_workers_loses_nothing() {
    const BYTES: usize = 4 << 20;
    let Rig { logs, handle, stdout, stderr } = Rig::patient(LineStyle::Json, WorkerOutput::Auto);
    let writers: Vec<_> = (0..4_u8)
        .map(|worker| {
            let (mut out, _) = attach(&handle, u64::from(worker), 0);
            thread::spawn(move || {
                let line = [vec![b'a' + worker; 63], vec![b'\n']].concat();
                out.write_all(&line.repeat(BYTES / line.len())).expect("the pipe is read");
            })
        })
        .collect();
    // The backlog is full most of the time.
    let stdout = Collector::new(SmallReads(stdout));
    for writer in writers {
        writer.join().expect("no panic");
    }
    logs.shutdown(soon());
    let text = stdout.finish();
    let lines = text.chunks_exact(64);
    assert!(lines.clone().all(|line| line[63] == b'\n' && line[..63] == [line[0]; 63]));
    assert_eq!(lines.len() * 64, 4 * BYTES);
    assert_eq!(handle.dropped(), Dropped::default());
    drop(stderr);
}

#[test]
fn a_line_of_ten_megabytes_passes_unchanged() {
    let rig = Rig::patient(LineStyle::Json, WorkerOutput::Auto);
    let (logs, handle, stdout, _) = rig.collect();
    let (mut out, _) = attach(&handle, 1, 0);
    let mut line = "é".repeat(5 << 20).into_bytes();
    line.push(b'\n');
    out.write_all(&line).expect("the pipe is read");
    logs.shutdown(soon());
    assert!(stdout.finish() == line, "the line was changed");
    assert_eq!(handle.dropped(), Dropped::default());
}

#[test]
fn a_prompt_is_shown_after_a_silence_and_never_shares_its_line() {
    let rig = Rig::patient(LineStyle::Text, WorkerOutput::Tag);
    let (logs, handle, _, stderr) = rig.collect();
    let (_, mut err) = attach(&handle, 1, 7);
    err.write_all(b"name? ").expect("write");
    stderr.wait_for("[7] name? ");
    handle.print("own");
    stderr.wait_for("\nown\n");
    err.write_all(b"Ann\n").expect("write");
    stderr.wait_for("[7] Ann\n");
    logs.shutdown(soon());
    assert_eq!(stderr.finish(), b"[7] name? \nown\n[7] Ann\n");
}

#[test]
fn two_outputs_that_are_one_pipe_never_share_a_line() {
    let (reader, stdout) = pipe();
    let reader = Collector::new(reader);
    let stderr = stdout.try_clone().expect("dup");
    let (logs, handle) = start(stdout, stderr, LineStyle::Json, WorkerOutput::Auto, BOUND);
    let (mut out, mut err) = attach(&handle, 1, 0);
    out.write_all(b"half").expect("write");
    reader.wait_for("half");
    err.write_all(b"whole\n").expect("write");
    reader.wait_for("half\nwhole\n");
    out.write_all(b" a line\n").expect("write");
    reader.wait_for("half\nwhole\n a line\n");
    assert_eq!(logs.shutdown(soon()), Ending::Joined);
}

#[test]
fn tag_wraps_lines_as_json_objects_beside_our_own() {
    let rig = Rig::patient(LineStyle::Json, WorkerOutput::Tag);
    let (logs, handle, stdout, _) = rig.collect();
    let (mut out, _) = attach(&handle, 9, 2);
    out.write_all(b"a \"b\" \xff\nlast").expect("write");
    drop(out);
    logs.shutdown(soon());
    let text = String::from_utf8(stdout.finish()).expect("UTF-8");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["line"], "a \"b\" \u{fffd}");
    assert_eq!(lines[0]["worker"], 9);
    assert_eq!(lines[0]["partial"], serde_json::Value::Null);
    assert_eq!(lines[1]["line"], "last");
    assert_eq!(lines[1]["partial"], true);
}

#[test]
fn on_a_terminal_lines_of_both_streams_get_the_slot_in_colour() {
    let pty = openpty(None, None).expect("pty");
    let screen = Collector::new(File::from(pty.master));
    let stderr = pty.slave.try_clone().expect("dup");
    let (logs, handle) = start(pty.slave, stderr, LineStyle::Colour, WorkerOutput::Auto, BOUND);
    let (mut out, mut err) = attach(&handle, 1, 3);
    out.write_all(b"from stdout\n").expect("write");
    err.write_all(b"from stderr\n").expect("write");
    screen.wait_for("\x1b[35m[3]\x1b[0m from stdout\r\n");
    screen.wait_for("\x1b[35m[3]\x1b[0m from stderr\r\n");
    assert_eq!(logs.shutdown(soon()), Ending::Joined);
}

#[test]
fn last_words_hold_all_that_the_worker_wrote_while_a_grandchild_holds_the_pipe() {
    let rig = Rig::patient(LineStyle::Json, WorkerOutput::Auto);
    let (logs, handle, _, stderr) = rig.collect();
    for round in 0..50 {
        let (mut out, mut err) = attach(&handle, round, 0);
        let mut grandchild = err.try_clone().expect("dup");
        for n in 0..100 {
            writeln!(err, "trace {round} {n}").expect("write");
        }
        err.write_all(b"Error: no newline").expect("write");
        out.write_all(b"bye\n").expect("write");
        drop((out, err));
        let words = handle.finish(WorkerId(round)).blocking_recv();
        let words = words.expect("the thread runs");
        assert_eq!(words.stderr.len(), 64);
        assert_eq!(words.stderr[63], "Error: no newline");
        assert_eq!(words.stderr[62], format!("trace {round} 99"));
        assert_eq!(words.stdout, ["bye"]);
        writeln!(grandchild, "\ngrandchild of {round}").expect("still read");
        stderr.wait_for(&format!("grandchild of {round}\n"));
    }
    let unknown = handle.finish(WorkerId(999)).blocking_recv();
    assert_eq!(unknown.expect("the thread runs"), LastWords::default());
    logs.shutdown(soon());
    assert!(handle.finish(WorkerId(1)).blocking_recv().is_err());
}

/// A reader that takes 256 bytes at a time.
struct SmallReads(File);

impl Read for SmallReads {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let limit = into.len().min(256);
        self.0.read(&mut into[..limit])
    }
}
