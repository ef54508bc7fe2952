//! Containers by `runc`, as Docker and Kubernetes run them: processes of a nobody without a
//! capability, on a root that cannot be written to and holds nothing but what they were given.
//!
//! The root is an empty directory; the binary under test, Node, the libraries of both and an app
//! are mounted into it, read-only. There is no shell. Making namespaces needs root.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::output::{Output, Stream};
use super::{PATIENCE, Status, http, node, processes, try_until};

/// Where the image has the binary under test.
pub(crate) const BINARY: &str = "/usr/local/bin/tenfold";

/// Where the image has Node.
pub(crate) const NODE: &str = "/nodejs/bin/node";

/// The user of distroless images' `nonroot`.
pub(crate) const NOBODY: u32 = 65532;

/// What to run, and in what.
pub(crate) struct Plan {
    words: Vec<String>,
    env: Vec<String>,
    user: u32,
    directory: String,
    mounts: Vec<Value>,
    namespaces: Vec<&'static str>,
    resources: Value,
}

impl Plan {
    /// A command in an image with the binary under test, Node and the fixture apps in `/app`; on
    /// the network of the host, and with the `/dev/shm` that every container has unless told.
    #[track_caller]
    pub(crate) fn new<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Self {
        let tenfold = PathBuf::from(env!("CARGO_BIN_EXE_tenfold"));
        let node = node::node(22);
        let libraries: BTreeSet<String> = [&tenfold, &node].into_iter().flat_map(shared).collect();
        let plan = Self {
            words: words.into_iter().map(|word| word.as_ref().to_owned()).collect(),
            env: vec!["PATH=/nodejs/bin".to_owned()],
            user: NOBODY,
            directory: "/app".to_owned(),
            mounts: vec![
                json!({"destination": "/proc", "type": "proc", "source": "proc"}),
                tmpfs("/dev", "mode=755"),
                tmpfs("/dev/shm", "mode=1777"),
            ],
            namespaces: vec!["pid", "mount", "ipc", "uts"],
            resources: json!({}),
        };
        let plan = plan.mount(&tenfold, BINARY).mount(&node, NODE).mount(&node::fixtures(), "/app");
        libraries.iter().fold(plan, |plan, path| plan.mount(Path::new(path), path))
    }

    /// Two workers of that app, listening on `port`, and the admin address, both on loopback.
    #[track_caller]
    pub(crate) fn serving(app: &str, (port, admin): (u16, u16)) -> Self {
        let address = format!("127.0.0.1:{admin}");
        let app = format!("/app/apps/{app}");
        Self::new([BINARY, "--name", "box", "-n", "2", "--admin", &address, "--", NODE, &app])
            .env("APP_PORT", &port.to_string())
    }

    /// As many workers instead of two.
    pub(crate) fn workers(mut self, count: usize) -> Self {
        let at = self.words.iter().position(|word| word == "-n").expect("it has a pool");
        self.words[at + 1] = count.to_string();
        self
    }

    /// Adds a file or directory of the host, read-only.
    pub(crate) fn mount(mut self, source: &Path, destination: &str) -> Self {
        self.mounts.push(json!({
            "destination": destination, "type": "bind", "source": source,
            "options": ["bind", "ro", "nosuid", "nodev"],
        }));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
        self.env.push(format!("{name}={value}"));
        self
    }

    pub(crate) fn user(mut self, user: u32) -> Self {
        self.user = user;
        self
    }

    pub(crate) fn directory(mut self, directory: &str) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// Leaves no place where anything can be written.
    pub(crate) fn without_shm(mut self) -> Self {
        self.mounts.retain(|mount| mount["destination"] != "/dev/shm");
        self
    }

    /// A network of its own, with a loopback interface and nothing else.
    pub(crate) fn own_network(mut self) -> Self {
        self.namespaces.push("network");
        self
    }

    /// A quota of so many CPUs, and the files that tell of it.
    pub(crate) fn cpus(self, cpus: f64) -> Self {
        const PERIOD_US: f64 = 100_000.0;
        let quota = (cpus * PERIOD_US) as u64;
        self.bounded(json!({"cpu": {"period": PERIOD_US as u64, "quota": quota}}))
    }

    /// So many bytes of memory, no swap, and the files that tell of it.
    pub(crate) fn memory(self, bytes: u64) -> Self {
        self.bounded(json!({"memory": {"limit": bytes, "swap": bytes}}))
    }

    fn bounded(mut self, resources: Value) -> Self {
        self.resources = resources;
        let options = ["nosuid", "noexec", "nodev", "ro"];
        self.mounts.push(json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": options,
        }));
        self
    }

    /// Starts it and returns at once.
    #[track_caller]
    pub(crate) fn start(self) -> Container {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert_eq!(nix::unistd::geteuid().as_raw(), 0, "a test that makes containers must be root");
        end_leftovers();
        let prefix = format!("{DIRECTORY}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir();
        let dir = dir.expect("a temporary directory");
        std::fs::create_dir(dir.path().join("rootfs")).expect("the directory is new");
        let file = dir.path().join("config.json");
        std::fs::write(file, self.config().to_string()).expect("the directory is ours");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("tenfold-{}-{number}", std::process::id());
        let mut child = runc(dir.path())
            .args(["run", "--pid-file"])
            .arg(dir.path().join("pid"))
            .arg("--bundle")
            .args([dir.path().as_os_str(), id.as_ref()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runc is installed; on Debian: apt-get install runc");
        let output = Arc::new(Output::default());
        output.follow(Stream::Stdout, child.stdout.take().expect("it is piped"));
        output.follow(Stream::Stderr, child.stderr.take().expect("it is piped"));
        let mut container = Container { child, id, pid: 0, dir, output };
        let file = container.dir.path().join("pid");
        let pid = try_until(PATIENCE, || std::fs::read_to_string(&file).ok()?.parse().ok());
        match pid {
            Some(pid) => container.pid = pid,
            None => container.fail("no container"),
        }
        container
    }

    /// By the specification of the Open Container Initiative.
    fn config(&self) -> Value {
        let namespaces: Vec<Value> =
            self.namespaces.iter().map(|kind| json!({"type": kind})).collect();
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": self.user, "gid": self.user},
                "args": self.words,
                "env": self.env,
                "cwd": self.directory,
                "capabilities": {},
                "noNewPrivileges": true,
            },
            "root": {"path": "rootfs", "readonly": true},
            "hostname": "box",
            "mounts": self.mounts,
            "linux": {"namespaces": namespaces, "resources": self.resources},
        })
    }
}

/// A running container; ends, with everything in it, when it is dropped.
pub(crate) struct Container {
    /// `runc` in the foreground, which ends as the container does.
    child: Child,
    id: String,
    /// PID 1, as seen from here.
    pid: i32,
    dir: TempDir,
    output: Arc<Output>,
}

impl Container {
    /// PID 1, as seen from here.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn signal(&self, signal: Signal) {
        processes::signal(self.pid, signal);
    }

    /// Runs a command in it, as `docker exec` does; its exit code and all it said.
    pub(crate) fn exec(&self, words: &[&str]) -> (Option<i32>, String) {
        let mut command = runc(self.dir.path());
        finish(command.arg("exec").arg(&self.id).args(words))
    }

    /// The status and the body that a client in its network gets there; 0 for no answer.
    pub(crate) fn get(&self, url: &str) -> (u16, String) {
        let pid = self.pid.to_string();
        let client = ["-t", &pid, "-n", "curl", "-sS", "-m", "20", "-w", "\n%{http_code}", url];
        let (_, said) = finish(Command::new("nsenter").args(client).stdin(Stdio::null()));
        match said.rsplit_once('\n') {
            Some((body, status)) => (status.parse().unwrap_or(0), body.to_owned()),
            None => (0, said),
        }
    }

    /// Waits until `count` workers are ready, by the admin address.
    #[track_caller]
    pub(crate) fn wait_ready(&self, admin: u16, count: usize) -> Status {
        let what = format!("{count} ready workers");
        self.wait_status(admin, &what, |status| status.ready() == count)
    }

    /// Waits for a status of which `wanted` is true.
    #[track_caller]
    pub(crate) fn wait_status(
        &self,
        admin: u16,
        what: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Status {
        let found = try_until(PATIENCE, || {
            let status = http::get(admin, "/status").ok()?.json::<Status>().ok()?;
            wanted(&status).then_some(status)
        });
        found.unwrap_or_else(|| self.fail(&format!("waited {PATIENCE:?} for {what}")))
    }

    #[track_caller]
    pub(crate) fn wait_for_line(&self, part: &str) -> String {
        let found = self.try_line(PATIENCE, part);
        found.unwrap_or_else(|| self.fail(&format!("no {part:?} came")))
    }

    /// A line with that in it, if one comes.
    pub(crate) fn try_line(&self, bound: Duration, part: &str) -> Option<String> {
        self.output.wait(bound, |seen| {
            seen.lines.iter().map(|(_, line)| line).find(|line| line.contains(part)).cloned()
        })
    }

    /// Everything that it has written so far.
    pub(crate) fn output(&self) -> String {
        self.output.both()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, bound: Duration) -> ExitStatus {
        let child = &mut self.child;
        let ended = try_until(bound, || child.try_wait().expect("the child is ours"));
        ended.unwrap_or_else(|| self.fail("it does not end"))
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        panic!("{what}\n--- output\n{}--- end of output", self.output())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut command = runc(self.dir.path());
        let _ = finish(command.args(["delete", "--force", &self.id]));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How the directories of containers begin; the id of the test process follows.
const DIRECTORY: &str = "tenfold-container-";

/// Ends the containers of test processes that were killed, and so could not do it themselves.
fn end_leftovers() {
    let Ok(entries) = std::env::temp_dir().read_dir() else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(DIRECTORY).and_then(|rest| rest.split_once('-'));
        let Some(pid) = pid.and_then(|(pid, _)| pid.parse().ok()) else {
            continue;
        };
        if processes::is_alive(pid) {
            continue;
        }
        let containers = entry.path().join("state").read_dir();
        for container in containers.into_iter().flatten().flatten() {
            let mut command = runc(&entry.path());
            let _ = finish(command.args(["delete", "--force"]).arg(container.file_name()));
        }
        // Another test process may be at it, too.
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

/// `runc`, keeping its books in the test's own directory.
fn runc(dir: &Path) -> Command {
    let mut command = Command::new("runc");
    command.env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin");
    command.arg("--root").arg(dir.join("state")).stdin(Stdio::null());
    command
}

fn finish(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("runc and util-linux are installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn tmpfs(destination: &str, mode: &str) -> Value {
    let options = ["nosuid", "strictatime", mode, "size=65536k"];
    json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options})
}

/// The shared libraries of a program, its loader included, by their paths.
fn shared(program: &PathBuf) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().expect("the C library has it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(str::to_owned).collect()
}
