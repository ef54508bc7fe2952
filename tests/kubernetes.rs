//! What `config/container` and `config/kubernetes` say is valid, and is what tenfold really has.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tenfold::config::{Example, KEYS};

use support::container::{BINARY, Container, NODE, Plan};
use support::{PATIENCE, node, processes, python, wait_until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const CONTAINERFILE: &str = include_str!("../config/container/Containerfile");

/// Every document of `config/kubernetes`, by its kind.
static MANIFESTS: LazyLock<Vec<(String, Value)>> = LazyLock::new(check);

/// Reads the documents and checks each against the schema of its kind, which takes seconds.
fn check() -> Vec<(String, Value)> {
    let files = Path::new(ROOT).join("config/kubernetes").read_dir().expect("it is there");
    let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    let output = Command::new(node::node(22))
        .arg(node::fixtures().join("manifests.mjs"))
        .args(files)
        .stdin(Stdio::null())
        .output()
        .expect("it was just installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let documents: Vec<Value> = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let kind = |it: &Value| it["kind"].as_str().expect("the schema asks for it").to_owned();
    documents.into_iter().map(|it| (kind(&it), it)).collect()
}

/// The part of the one document of that kind to which a path of names and numbers leads.
#[track_caller]
fn part<'a>(manifests: &'a [(String, Value)], kind: &str, pointer: &str) -> &'a Value {
    let (_, document) = manifests.iter().find(|(found, _)| found == kind).expect("it is there");
    document.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {document:#}"))
}

/// The container of the Deployment.
fn container(manifests: &[(String, Value)]) -> &Value {
    part(manifests, "Deployment", "/spec/template/spec/containers/0")
}

/// The number of a port that the container gives a name.
#[track_caller]
fn port(manifests: &[(String, Value)], name: &Value) -> u64 {
    let ports = container(manifests)["ports"].as_array().expect("it has ports");
    let found = ports.iter().find(|port| port["name"] == *name);
    found.and_then(|port| port["containerPort"].as_u64()).unwrap_or_else(|| panic!("no {name}"))
}

/// A duration that is the default of a key.
#[track_caller]
fn default_seconds(key: &str) -> u64 {
    let key = KEYS.iter().find(|it| it.name == key).expect("there is such a key");
    let Example::Default(value) = key.example else { panic!("{} has no default", key.name) };
    humantime::parse_duration(value.trim_matches('"')).expect("a duration").as_secs()
}

/// What follows an instruction of the last stage.
#[track_caller]
fn instruction(name: &str) -> &'static str {
    let (_, stage) = CONTAINERFILE.rsplit_once("\nFROM ").expect("it has stages");
    let mut found = stage.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.next().unwrap_or_else(|| panic!("no {name}"))
}

/// The words of an instruction in its form without a shell.
#[track_caller]
fn words(name: &str) -> Vec<String> {
    let text = instruction(name);
    let list = &text[text.find('[').unwrap_or_else(|| panic!("{name} needs a shell: {text}"))..];
    serde_json::from_str(list).expect("a list of words")
}

/// The image with the demo app, as the Deployment runs it.
#[track_caller]
fn start(manifests: &[(String, Value)]) -> Container {
    let spec = part(manifests, "Deployment", "/spec/template/spec");
    let context = &container(manifests)["securityContext"];
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
    let user = spec["securityContext"]["runAsUser"].as_u64().expect("a number");
    assert_eq!(instruction("USER"), format!("{user}:{user}"), "the image and the pod agree");
    let plan = Plan::new([words("ENTRYPOINT"), words("CMD")].concat())
        .user(u32::try_from(user).expect("a user"))
        .mount(&Path::new(ROOT).join("workers/node/demo"), "/app")
        .directory(instruction("WORKDIR"))
        .own_network()
        // What every pod has.
        .env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let variables = instruction("ENV").split(' ').filter_map(|pair| pair.split_once('='));
    variables.fold(plan, |plan, (name, value)| plan.env(name, value)).start()
}

#[test]
fn the_image_serves_as_the_manifests_say() {
    let manifests = &*MANIFESTS;
    let mut pod = start(manifests);
    pod.wait_for_line("ready ");
    let ask = |port: u64, path: &Value| {
        let path = path.as_str().expect("a path");
        pod.get(&format!("http://127.0.0.1:{port}{path}"))
    };
    for name in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container(manifests)[name]["httpGet"];
        let (status, said) = ask(port(manifests, &get["port"]), &get["path"]);
        assert_eq!(status, 200, "{name}: {said}");
    }
    let http = port(manifests, part(manifests, "Service", "/spec/ports/0/targetPort"));
    let home = Value::from("/");
    assert!(ask(http, &home).1.starts_with("worker "), "the app answers at the service's port");
    let endpoint = part(manifests, "PodMonitor", "/spec/podMetricsEndpoints/0");
    let (_, metrics) = ask(port(manifests, &endpoint["port"]), &endpoint["path"]);
    let metric = part(manifests, "HorizontalPodAutoscaler", "/spec/metrics/0/pods/metric/name");
    let metric = format!("\n{} ", metric.as_str().expect("a name"));
    assert!(metrics.contains(&metric), "no{metric}in {metrics}");
    let check = words("HEALTHCHECK");
    assert_eq!(pod.exec(&check.iter().map(String::as_str).collect::<Vec<_>>()).0, Some(0));
    // Without a preStop: while the endpoints change, new connections are served.
    pod.signal(Signal::SIGTERM);
    let ready = &container(manifests)["readinessProbe"]["httpGet"];
    wait_until(PATIENCE, "unready", || {
        (ask(port(manifests, &ready["port"]), &ready["path"]).0 == 503).then_some(())
    });
    assert!(ask(http, &home).1.starts_with("worker "), "a late client is served");
    let grace = part(manifests, "Deployment", "/spec/template/spec/terminationGracePeriodSeconds");
    let grace = Duration::from_secs(grace.as_u64().expect("a number"));
    assert_eq!(pod.wait_exit(grace).code(), Some(0));
    assert!(!processes::is_alive(pod.pid()));
}

#[test]
fn times_and_sizes_of_the_manifests_fit_the_defaults() {
    let manifests = &*MANIFESTS;
    let pod = part(manifests, "Deployment", "/spec/template/spec");
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value}"));
    let patience =
        |probe: &Value| number(&probe["periodSeconds"]) * number(&probe["failureThreshold"]);
    let grace = number(&pod["terminationGracePeriodSeconds"]);
    assert!(grace > default_seconds("shutdown.total"));
    let app = container(manifests);
    assert!(patience(&app["startupProbe"]) > default_seconds("workers.start_timeout"));
    // A pod that stops is unready before it stops accepting, 5 s later.
    assert!(2 * patience(&app["readinessProbe"]) < 5);
    assert_eq!(app["lifecycle"], Value::Null, "no preStop");
    let limits = &app["resources"]["limits"];
    let cpus: u64 = limits["cpu"].as_str().and_then(|it| it.parse().ok()).expect("whole CPUs");
    let memory = limits["memory"].as_str().and_then(|it| it.strip_suffix("Gi")?.parse().ok());
    let gib: u64 = memory.expect("whole GiB");
    assert!(gib * 1024 >= cpus * 256, "memory would bound the workers");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let replicas = part(manifests, "Deployment", "/spec").get("replicas");
    assert_eq!(replicas, None, "the autoscaler's number would be reset by every apply");
}

#[test]
fn the_manifests_are_about_the_same_pods_and_ports() {
    let manifests = &*MANIFESTS;
    let labels = part(manifests, "Deployment", "/spec/template/metadata/labels");
    for (kind, pointer) in [
        ("Deployment", "/spec/selector/matchLabels"),
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
        ("PodMonitor", "/spec/selector/matchLabels"),
    ] {
        assert_eq!(part(manifests, kind, pointer), labels, "{kind}");
    }
    let target = part(manifests, "HorizontalPodAutoscaler", "/spec/scaleTargetRef/name");
    assert_eq!(target, part(manifests, "Deployment", "/metadata/name"));
    let exposed: Vec<u64> =
        instruction("EXPOSE").split(' ').filter_map(|it| it.parse().ok()).collect();
    let named = ["http", "admin"].map(|name| port(manifests, &Value::from(name)));
    assert_eq!(exposed, named, "of the image and of the Deployment");
    for rule in part(manifests, "NetworkPolicy", "/spec/ingress").as_array().expect("a list") {
        port(manifests, &rule["ports"][0]["port"]);
    }
}

#[test]
fn the_containerfile_is_clean_and_builds_with_a_rust_that_suffices() {
    let output = Command::new("hadolint")
        .arg(Path::new(ROOT).join("config/container/Containerfile"))
        .env("PATH", python::search_path())
        .stdin(Stdio::null())
        .output()
        .expect("it was just installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let version = |text: &str| {
        let mut numbers = text.split('.').map(|it| it.parse::<u32>().expect("a number"));
        (numbers.next(), numbers.next())
    };
    let (_, rest) = CONTAINERFILE.split_once("/rust:").expect("a stage with Rust");
    let (built_with, _) = rest.split_once('-').expect("a tag");
    assert!(version(built_with) >= version(env!("CARGO_PKG_RUST_VERSION")));
    // Where the tests have them, the image has them.
    assert_eq!(words("ENTRYPOINT")[0], BINARY);
    assert_eq!(words("CMD")[0], NODE);
    assert!(instruction("COPY --from=tenfold").ends_with(BINARY));
}
