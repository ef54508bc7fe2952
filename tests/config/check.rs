//! `tenfold check`: every key, its source, and the host; never a secret.

use tenfold::cli::{Check, Invocation};
use tenfold::config::{Denied, HostFacts, KEYS, Nofile, choose_runtime_dir};

use crate::Host;

#[test]
fn check_shows_every_key_and_what_it_shows_is_the_same_configuration() {
    let text = "listen = [':80', { app = 3000, on = 'unix:/run/a.sock', backlog = 9, mode = \
                'connection', defer_accept = '2s', protocol = 'http', max_connections = 7 }]\n\
                command = ['node', \"a 'b' \\\"c\\\"\"]\nname = 'shop'\n\
                [workers]\ncount = 3\nmax_connections = 5\nlimit = 6\nuser = 'root'\n\
                [queue]\nmax = 0\n[shutdown]\ndelay = '1s 500ms'\n";
    let host = Host::new().file(text);
    let config = host.config("tenfold");
    let settings = host.settings("tenfold check");
    let keys: Vec<_> = settings.iter().map(|setting| setting.key).collect();
    assert_eq!(keys, KEYS.iter().map(|key| key.name).collect::<Vec<_>>());
    let mut sorted = settings;
    sorted.sort_by_key(|setting| setting.key.contains('.'));
    let again: String = sorted
        .iter()
        .filter_map(|setting| Some(format!("{} = {}\n", setting.key, setting.value.as_ref()?)))
        .collect();
    assert_eq!(host.file(&again).config("tenfold"), config, "{again}");
}

#[test]
fn worker_variables_stay_out_of_debug_and_check() {
    let host = Host::new().file("[env]\nTOKEN = 's3cret'\nPORT = 8080");
    let config = host.config("tenfold -- node x");
    assert_eq!(config.env.0["TOKEN"], "s3cret");
    assert_eq!(config.fallback_listen.to_string(), "0.0.0.0:8080");
    assert!(!format!("{config:?}").contains("s3cret"));
    assert!(!format!("{:?}", host.settings("tenfold check -- node x")).contains("s3cret"));
}

fn facts() -> HostFacts {
    HostFacts {
        cpus: 8,
        cpu_quota: Ok(Some(2.5)),
        memory: Ok(Some(1 << 30)),
        nofile: Ok(Nofile { soft: 1024, hard: 524_288 }),
        runtime_dir: Ok("/run/tenfold".into()),
        pidfd: Ok(()),
        uid: 0,
    }
}

fn check(host: &Host, line: &str) -> Check {
    match host.parse(line).expect("a valid configuration").invocation {
        Invocation::Check(check) => *check,
        other => panic!("{line} is {other:?}"),
    }
}

#[test]
fn report_has_settings_host_and_pool() {
    let host = Host::new().file("name = 'shop'\nenv.TOKEN = 's3cret'\n[queue]\nmax = 7\n");
    let text = check(&host, "tenfold check -n auto -- node x.js").render(&facts());
    let lines: Vec<_> = text.lines().collect();
    for line in [
        "  name = \"shop\"                               # tenfold.toml:1",
        "  command = [\"node\", \"x.js\"]",
        "  env = [\"TOKEN\"]                             # tenfold.toml:2",
        "  workers.count = \"auto\"                      # --workers",
        "  workers.user = unset",
        "  queue.max = 7                               # tenfold.toml:4",
        "  queue.timeout = \"auto\"",
        "  trusted_proxies = [\"private\"]",
        "  limits.response_buffer = \"1MiB\"",
    ] {
        assert!(lines.contains(&line), "{line}\nis not in\n{text}");
    }
    let rest = "\nhost\n  CPUs          8\n  CPU quota     2.5\n  memory limit  1024 MiB\n  \
                open files    1024 soft, 524288 hard\n  runtime dir   /run/tenfold\n  \
                pidfd         works\n  uid           0\n\
                \npool\n  workers       2 (auto: CPU quota 2.5)\n  \
                connections   384 per worker\n  queue         7 per listener, 1s at most; \
                in connection mode 7 per listener, 10s at most\n  \
                memory        at most 264337 MiB for 262016 clients, 207 requests\n";
    assert!(text.ends_with(rest), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn each_denied_facility_is_one_warning() {
    let denied = || Denied("permission denied".to_owned());
    let uid = nix::unistd::geteuid().as_raw();
    let facts = HostFacts {
        cpu_quota: Err(denied()),
        memory: Err(denied()),
        nofile: Err(denied()),
        runtime_dir: choose_runtime_dir(vec!["/nowhere/tenfold".into()], uid),
        pidfd: Err(denied()),
        uid: 1000,
        ..facts()
    };
    let check =
        check(&Host::new(), "tenfold check -n 2 --set workers.user=root -- node --inspect x");
    let text = check.render(&facts);
    let warnings: Vec<_> = text.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(
        warnings,
        [
            "warning: the CPU quota cannot be read, assuming none: permission denied",
            "warning: the memory limit cannot be read, assuming none: permission denied",
            "warning: the limit of open files cannot be read: permission denied",
            "warning: no runtime directory: /nowhere/tenfold has no parent: No such file or \
             directory (os error 2); status, scale and stop will not find this instance",
            "warning: pidfd_open is denied: permission denied",
            "warning: workers.user: only root can change it, uid is 1000",
            "warning: --inspect with 2 workers: use -n 1 to debug one process",
        ]
    );
    assert!(text.contains("  CPU quota     unknown\n"), "{text}");
}

#[test]
fn check_needs_no_command() {
    let text = check(&Host::new(), "tenfold check").render(&facts());
    assert!(text.contains("  command = unset\n"), "{text}");
    assert!(text.contains("  workers       2 for node or deno (auto: CPU quota 2.5)\n"), "{text}");
}

#[test]
fn check_finds_what_is_wrong_without_a_command() {
    let host = Host::new().file("workers.count = 0");
    assert!(host.error("tenfold check").starts_with("workers.count: 0 is below 1\n"));
}
