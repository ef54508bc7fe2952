//! A real systemd, booted as the init of namespaces of its own, with units that a test wrote.
//!
//! It needs root, as a real one does. Nothing of the host can be changed by it: every mount is
//! read-only, /tmp, /var, /run and /dev are its own, and it knows no unit but those of the test (a
//! host's own units would empty /tmp). The network is the host's, so that clients reach its units.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{PATIENCE, try_until};

/// It ends by itself after this many seconds, whatever becomes of the test.
const LIFE: &str = "180";

/// The binary under test, as units see it: outside of /tmp and /home.
pub(crate) const BINARY: &str = "/run/bin/tenfold";

/// Where units write what they print, as they see it.
const OUTPUT: &str = "/run/output";

/// Becomes systemd. The arguments: a directory with units, the binary under test.
///
/// What the units need is copied while /tmp is still the host's. The last look before systemd
/// starts is whether anything of the host can be written to.
const BOOT: &str = r#"
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir -p /mnt/systemd/system /mnt/lock /mnt/bin
cp "$0"/* /mnt/systemd/system/
touch /mnt/output /mnt/bin/tenfold
mount --bind "$1" /mnt/bin/tenfold
mount -o remount,bind,ro /mnt/bin/tenfold
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /var
mkdir -m 1777 /var/tmp
mkdir -p /var/lib /var/cache /var/log
mount --rbind /mnt /run
mkdir /run/dev
for device in null zero full random urandom tty; do
  touch /run/dev/$device
  mount --bind /dev/$device /run/dev/$device
done
mkdir /run/dev/shm /run/dev/pts /run/dev/mqueue /run/dev/hugepages
mount -t devpts -o newinstance,ptmxmode=666 devpts /run/dev/pts
ln -s pts/ptmx /run/dev/ptmx
ln -s /proc/self/fd /run/dev/fd
mount --rbind /run/dev /dev
cat /proc/self/mounts | while read -r _ place _; do
  case $place in
    /mnt*|/run*|/var*|/tmp*|/dev*|/proc|/sys/fs/cgroup) ;;
    *) mount -o remount,bind,ro "$place" ;;
  esac
done
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs tmpfs /tmp
for place in / /etc /usr /root /home /var/lib/dpkg; do
  if touch "$place/written-by-a-test" 2>/dev/null; then
    echo "$place can be written to" >&2
    exit 1
  fi
done
export container=test SYSTEMD_UNIT_PATH=/run/systemd/system
exec /lib/systemd/systemd --system --unit=test.target --log-target=null --show-status=no
"#;

/// What units depend on without saying so, with nothing behind it.
const TARGETS: [&str; 6] = [
    "sysinit.target",
    "basic.target",
    "shutdown.target",
    "sockets.target",
    "network-online.target",
    "multi-user.target",
];

/// A booted systemd; ends, with everything it runs, when it is dropped.
pub(crate) struct Systemd {
    /// `timeout`, whose child `unshare` KILLs the init when it is killed.
    outer: Child,
    /// systemd itself, as seen from here.
    pid: i32,
    units: TempDir,
}

impl Systemd {
    /// Boots one that has these units, `(file name, text)`, and has started none of them.
    #[track_caller]
    pub(crate) fn boot(units: &[(&str, &str)]) -> Self {
        assert_eq!(nix::unistd::geteuid().as_raw(), 0, "a test that boots systemd must be root");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(path, text).expect("the directory is ours");
        };
        write("test.target", "[Unit]\nDefaultDependencies=no\n");
        for target in TARGETS {
            write(target, "[Unit]\nDefaultDependencies=no\n");
        }
        for (name, text) in units {
            let output = format!("StandardOutput=append:{OUTPUT}\nStandardError=append:{OUTPUT}\n");
            let service = format!("{text}\n[Service]\n{output}");
            write(name, if name.ends_with(".service") { &service } else { text });
        }
        let log = std::fs::File::create(directory.path().join("boot.log")).expect("it is ours");
        let outer = Command::new("timeout")
            .args(["-s", "KILL", LIFE, "unshare", "--kill-child=KILL", "-fpmuC", "--mount-proc"])
            .args(["bash", "-euc", BOOT])
            .args([directory.path(), Path::new(env!("CARGO_BIN_EXE_tenfold"))])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("coreutils and util-linux are installed");
        let mut systemd = Self { outer, pid: 0, units: directory };
        let pid = try_until(PATIENCE, || {
            let unshare = only_child(i32::try_from(systemd.outer.id()).ok()?)?;
            let init = only_child(unshare)?;
            let name = std::fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
            (name.trim() == "systemd").then_some(init)
        });
        let Some(pid) = pid else { panic!("systemd did not start\n{}", systemd.output()) };
        systemd.pid = pid;
        let up = || systemd.try_ctl(&["is-active", "test.target"]).is_ok().then_some(());
        assert!(try_until(PATIENCE, up).is_some(), "no boot\n{}", systemd.output());
        systemd
    }

    /// Runs `systemctl` there; its output, or what went wrong.
    pub(crate) fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        self.run(&[&["systemctl"], arguments].concat())
    }

    /// Runs `systemctl` there, which must succeed.
    #[track_caller]
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        match self.try_ctl(arguments) {
            Ok(text) => text,
            Err(error) => panic!("systemctl {arguments:?}: {error}\n{}", self.output()),
        }
    }

    /// Runs a command among the units.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String, String> {
        let pid = self.pid.to_string();
        let output = Command::new("nsenter")
            .args(["-t", &pid, "-m", "-p", "-C", "-u"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stdout) + &text(&output.stderr)),
        }
    }

    /// One property of a unit.
    #[track_caller]
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.ctl(&["show", "--value", "-p", name, unit]).trim().to_owned()
    }

    /// Waits until a property of a unit is that.
    #[track_caller]
    pub(crate) fn wait_property(&self, unit: &str, name: &str, wanted: &str) {
        let mut last = String::new();
        let found = try_until(PATIENCE, || {
            last = self.property(unit, name);
            (last == wanted).then_some(())
        });
        let output = self.output();
        assert!(found.is_some(), "no {name}={wanted} of {unit}, but {last}\n{output}");
    }

    /// Everything that its units, or its boot, have written so far.
    pub(crate) fn output(&self) -> String {
        let units = PathBuf::from(format!("/proc/{}/root{OUTPUT}", self.pid));
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        read(&self.units.path().join("boot.log")) + &read(&units)
    }

    /// Waits for a unit to write that.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, bound: Duration, part: &str) {
        let found = try_until(bound, || self.output().contains(part).then_some(()));
        assert!(found.is_some(), "no {part:?} within {bound:?}\n{}", self.output());
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // The init of a namespace: everything in it ends with it.
        if self.pid > 0 {
            super::processes::signal(self.pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

fn only_child(pid: i32) -> Option<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}
