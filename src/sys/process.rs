//! Reads what /proc tells about any process: children, groups, environment, sockets, descriptors.
//!
//! All of it is one moment's truth. A process that ends while it is read is left out, and so is one
//! that belongs to somebody else and does not show itself.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::sys::signal::Signal;

use super::child::{group_exists, pidfd_open, pidfd_send_signal};

/// State LISTEN in /proc/net/tcp.
const LISTEN: &str = "0A";

/// A TCP socket on which a process listens by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListeningSocket {
    /// A process that holds it; a socket inherited by several is listed for each.
    pub pid: i32,
    /// The address it is bound to.
    pub address: SocketAddr,
}

/// The children of a process, adopted ones included.
///
/// # Errors
/// `NotFound` for a process that is gone, else those of reading /proc.
pub fn children(pid: i32) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("children")) {
            Ok(text) => children.extend(parse_children(&text)),
            // The thread has ended, or the kernel has no such file; the scan serves both.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(scan(|stat| stat.parent == pid));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

/// The processes of a group, ended but not reaped ones included.
#[must_use]
pub fn group_members(group: i32) -> Vec<i32> {
    scan(|stat| stat.group == group)
}

/// Whether a group has any process that has not ended: orphans that init leaves unreaped have.
#[must_use]
pub fn group_lives(group: i32) -> bool {
    let living = scan(|stat| stat.group == group && !matches!(stat.state, b'Z' | b'X'));
    // Where /proc is missing, nothing tells the living from the dead.
    let is_hidden = || group_exists(group).unwrap_or(false) && group_members(group).is_empty();
    !living.is_empty() || is_hidden()
}

/// Whether a process is `leader`, of its group, or descends from it.
///
/// One that has left the group and whose parents have ended cannot be told from a stranger.
#[must_use]
pub fn is_within(pid: i32, leader: i32) -> bool {
    /// Deeper than any chain of wrappers; a bound because the tree changes while it is read.
    const GENERATIONS_MAX: usize = 64;
    let mut at = pid;
    for _ in 0..GENERATIONS_MAX {
        if at == leader {
            return true;
        }
        match read_stat(at) {
            Some(stat) if stat.group == leader => return true,
            Some(stat) if stat.parent > 1 => at = stat.parent,
            Some(_) | None => return false,
        }
    }
    false
}

/// The users that a process acts as: real, effective, saved and for files.
///
/// # Errors
/// `NotFound` if the process is gone, `InvalidData` if the kernel shows no such line.
pub fn users(pid: i32) -> io::Result<Vec<u32>> {
    // Not the owner of the directory: that is root for a process that has changed its user.
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_users(&status).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// One variable of the environment that a process was started with.
///
/// # Errors
/// `NotFound` if the process is gone, `PermissionDenied` if it belongs to somebody else.
pub fn environment_variable(pid: i32, name: &str) -> io::Result<Option<OsString>> {
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    Ok(find_variable(&environment, name).map(|value| OsString::from_vec(value.to_vec())))
}

/// Every other process that was started with `name=value` in its environment.
#[must_use]
pub fn with_variable(name: &str, value: &str) -> Vec<i32> {
    pids().filter(|&pid| pid != own_pid() && carries(pid, name, value)).collect()
}

/// Signals every other process that was started with `name=value`, and returns how many there were.
///
/// Each is looked at through a pidfd, so a pid that is reused meanwhile is never hit.
pub fn signal_with_variable(name: &str, value: &str, signal: Signal) -> usize {
    let signalled = pids().filter(|&pid| {
        pid != own_pid()
            && carries(pid, name, value)
            && pidfd_open(pid).is_ok_and(|pidfd| {
                // Again, now that the pidfd holds on to whoever it is.
                carries(pid, name, value) && pidfd_send_signal(&pidfd, signal).is_ok()
            })
    });
    signalled.count()
}

/// The TCP sockets on which any of these processes listens.
#[must_use]
pub fn listening_sockets(pids: &[i32]) -> Vec<ListeningSocket> {
    let mut listening = Vec::new();
    for &pid in pids {
        let inodes = socket_inodes(pid);
        if inodes.is_empty() {
            continue;
        }
        // The tables of that process's own network namespace.
        for table in ["tcp", "tcp6"] {
            let Ok(file) = fs::File::open(format!("/proc/{pid}/net/{table}")) else {
                continue;
            };
            let own = listeners(BufReader::new(file)).filter(|(_, inode)| inodes.contains(inode));
            listening.extend(own.map(|(address, _)| ListeningSocket { pid, address }));
        }
    }
    listening
}

/// The number of open descriptors of a process.
///
/// # Errors
/// `NotFound` if the process is gone, `PermissionDenied` if it belongs to somebody else.
pub fn fd_count(pid: i32) -> io::Result<u64> {
    let directory = format!("/proc/{pid}/fd");
    // Since Linux 6.2 its size is the count, at a hundredth of the price for a busy server.
    match fs::metadata(&directory)?.len() {
        0 => Ok(fs::read_dir(&directory)?.count() as u64),
        count => Ok(count),
    }
}

/// CPU time of a process so far, all of its threads together, in clock ticks of 10 ms.
///
/// # Errors
/// `NotFound` if the process is gone.
pub fn cpu_ticks(pid: i32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    parse_cpu(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Fields 14 and 15, which are the 12th and 13th after the name.
fn parse_cpu(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut times = rest.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    Some(user + system)
}

/// What we use of /proc/PID/stat.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// The letter of `ps`.
    state: u8,
    parent: i32,
    group: i32,
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn scan(wanted: impl Fn(&Stat) -> bool) -> Vec<i32> {
    pids().filter(|&pid| read_stat(pid).is_some_and(|stat| wanted(&stat))).collect()
}

fn read_stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn carries(pid: i32, name: &str, value: &str) -> bool {
    environment_variable(pid, name)
        .is_ok_and(|found| found.is_some_and(|found| found.as_bytes() == value.as_bytes()))
}

fn socket_inodes(pid: i32) -> HashSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.filter_map(inode).collect()
}

/// The name in the second field may hold spaces, parentheses and any byte, so fields are counted
/// from its end.
fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Stat { state, parent, group })
}

fn parse_users(status: &str) -> Option<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().map(|uid| uid.parse().ok()).collect()
}

fn parse_children(text: &str) -> impl Iterator<Item = i32> {
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok())
}

fn find_variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a [u8]> {
    environment
        .split(|&byte| byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The listening sockets of /proc/net/tcp or tcp6, each with its inode.
///
/// The kernel lists them first, so nothing is read behind the last one: a busy host has tens of
/// thousands of connections there, and printing them all takes it tens of milliseconds.
fn listeners(table: impl BufRead) -> impl Iterator<Item = (SocketAddr, u64)> {
    let lines = table.lines().skip(1).map_while(Result::ok);
    lines.map_while(|line| parse_listening(&line))
}

/// One line of it; `None` for a socket in any other state.
fn parse_listening(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let address = parse_address(fields.next()?)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    (state == LISTEN).then_some((address, inode))
}

/// An address as the kernel prints it: words of 32 bits in its own byte order, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for start in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(start..start + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::sys::testing::forking;

    #[test]
    fn children_are_listed_by_pid() {
        assert_eq!(parse_children("12 345 \n").collect::<Vec<_>>(), [12, 345]);
        assert_eq!(parse_children("").count(), 0);
        let parent = std::os::unix::process::parent_id() as i32;
        assert!(children(parent).expect("our parent lives").contains(&own_pid()));
        assert!(scan(|stat| stat.parent == parent).contains(&own_pid()));
        let gone = children(i32::MAX).expect_err("nobody");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_process_may_be_named_anything() {
        let stat = b"77 (a) R 1 (\xff) S 5 6 7 0";
        assert_eq!(parse_stat(stat), Some(Stat { state: b'S', parent: 5, group: 6 }));
        for broken in ["", "77", "77 (a", "77 (a)", "77 (a) S x y", ")"] {
            assert_eq!(parse_stat(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn a_group_lists_its_members() {
        let group = nix::unistd::getpgrp().as_raw();
        assert!(group_members(group).contains(&own_pid()));
        assert!(group_members(i32::MAX).is_empty());
        assert!(group_lives(group) && !group_lives(i32::MAX));
    }

    #[test]
    fn a_group_of_which_all_have_ended_does_not_live() {
        let alone = forking();
        let mut command = Command::new("sh");
        command.args(["-c", "read line"]).process_group(0).stdin(Stdio::piped());
        let mut child = command.spawn().expect("sh is there");
        drop(alone);
        let group = i32::try_from(child.id()).expect("a pid is an i32");
        assert!(group_lives(group));
        drop(child.stdin.take());
        while group_lives(group) {
            std::thread::yield_now();
        }
        // Nobody has reaped it.
        assert!(group_exists(group).expect("a group"));
        child.wait().expect("it is our child");
    }

    #[test]
    fn a_tree_holds_its_leader_its_group_and_its_descendants() {
        let (own, parent) = (own_pid(), std::os::unix::process::parent_id() as i32);
        assert!(is_within(own, own));
        assert!(is_within(own, parent));
        assert!(is_within(own, nix::unistd::getpgrp().as_raw()));
        assert!(!is_within(parent, own));
        assert!(!is_within(i32::MAX, own));
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment = b"ABC=1\0AB=2=3\0EMPTY=\0";
        assert_eq!(find_variable(environment, "AB"), Some(b"2=3".as_slice()));
        assert_eq!(find_variable(environment, "EMPTY"), Some(b"".as_slice()));
        assert_eq!(find_variable(environment, "A"), None);
        let path = environment_variable(own_pid(), "PATH").expect("our own");
        assert_eq!(path, std::env::var_os("PATH"));
    }

    #[test]
    fn processes_are_found_and_signalled_by_a_variable() {
        let value = format!("process-test-{}", own_pid());
        let alone = forking();
        let mut child = Command::new("sleep")
            .arg("60")
            .env("TENFOLD_INSTANCE", &value)
            .stdin(Stdio::null())
            .spawn()
            .expect("every host has sleep");
        drop(alone);
        let pid = child.id() as i32;
        assert_eq!(with_variable("TENFOLD_INSTANCE", &value), [pid]);
        assert_eq!(signal_with_variable("TENFOLD_INSTANCE", "else", Signal::SIGKILL), 0);
        assert_eq!(signal_with_variable("TENFOLD_INSTANCE", &value, Signal::SIGKILL), 1);
        let status = child.wait().expect("our child");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[test]
    fn addresses_are_read_in_the_kernels_byte_order() {
        let words = |bytes: &[u8]| -> String {
            let word = |four: &[u8]| u32::from_ne_bytes(four.try_into().expect("four bytes"));
            bytes.chunks(4).map(|four| format!("{:08X}", word(four))).collect()
        };
        let v4 = format!("{}:1F90", words(&[127, 0, 0, 1]));
        assert_eq!(parse_address(&v4), Some(SocketAddr::from(([127, 0, 0, 1], 8080))));
        let v6 = format!("{}:0050", words(&Ipv6Addr::LOCALHOST.octets()));
        assert_eq!(parse_address(&v6), Some(SocketAddr::from((Ipv6Addr::LOCALHOST, 80))));
        for broken in ["", "0100007F", "0100007:1F90", "zzzzzzzz:0050", "0100007F:1F90F", "é0:1"] {
            assert_eq!(parse_address(broken), None, "{broken}");
        }
    }

    #[test]
    fn only_listening_sockets_are_listed() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n\
               0: 00000000:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 71 1\n\
               1: 00000000:0BB9 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 72 1\n\
               2: 00000000:0BB8 00000000:0001 01 00000000:00000000 00:00000000 00000000  0 0 73 1\n\
               3: broken\n";
        let listed: Vec<_> = listeners(table.as_bytes()).collect();
        let at = |port| SocketAddr::from(([0, 0, 0, 0], port));
        assert_eq!(listed, [(at(3000), 71), (at(3001), 72)]);
    }

    #[test]
    fn the_kernel_lists_listening_sockets_before_all_others() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("bound");
        let _pair = (std::net::TcpStream::connect(address).expect("connect"), listener.accept());
        let table = fs::read_to_string("/proc/self/net/tcp").expect("it is there");
        let count = table.lines().skip(1).filter_map(parse_listening).count();
        assert!(count < table.lines().count() - 1, "a connection is there");
        assert_eq!(listeners(table.as_bytes()).count(), count);
    }

    #[test]
    fn our_own_listeners_are_found() {
        let listeners = ["127.0.0.1:0", "[::1]:0"].map(|any| TcpListener::bind(any).expect("bind"));
        let found = listening_sockets(&[own_pid(), i32::MAX]);
        for listener in &listeners {
            let address = listener.local_addr().expect("bound");
            assert!(found.contains(&ListeningSocket { pid: own_pid(), address }), "{address}");
        }
    }

    #[test]
    fn descriptors_are_counted() {
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").expect("open")).collect();
        let count = fd_count(own_pid()).expect("our own");
        assert!(count > held.len() as u64, "{count}");
        let gone = fd_count(i32::MAX).expect_err("nobody");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
