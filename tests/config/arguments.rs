//! The command line: subcommands, words in the wrong place, and what is suggested.

use std::fs;

use tenfold::cli::{Invocation, StatusFormat};
use tenfold::config::{Kind, Placeholder};

use crate::Host;

#[test]
fn commands_are_refused_with_what_works() {
    let host = Host::new();
    fs::write(host.path().join("notes"), "").expect("the directory is ours");
    for (line, message) in [
        ("pm2 start app.js", "command: pm2 forks its own workers; run: tenfold -- node app.js"),
        (
            "server.js",
            "command: \"server.js\" is not a program; did you mean: tenfold -- node server.js",
        ),
        ("nosuch", "command: \"nosuch\" was not found in PATH"),
        ("./notes", "command: \"./notes\" is not executable"),
    ] {
        assert_eq!(host.error(&format!("tenfold -- {line}")), message);
    }
}

#[test]
fn any_program_is_a_command_and_braces_ask_for_a_listener() {
    let host = Host::new();
    let command = |line: &str| host.config(line).command;
    assert_eq!(command("tenfold -- python3 a.py").kind, Kind::Python);
    assert_eq!(command("tenfold -- native -c a").placeholder, Placeholder::None);
    assert_eq!(command("tenfold -- native -c a:{port}").placeholder, Placeholder::Port);
    assert_eq!(command("tenfold -- native -c {socket}").placeholder, Placeholder::Socket);
    assert_eq!(command("tenfold --dialect fd -- native").placeholder, Placeholder::None);
    for (line, message) in [
        (
            "tenfold -- native {port} {socket}",
            "command: has {port} and {socket}; a worker listens on one of them",
        ),
        (
            "tenfold --dialect fd -- native {port}",
            "command: {port} and {socket} need dialect = \"port\"; with \"fd\" a worker listens \
             on descriptor 3",
        ),
    ] {
        assert_eq!(host.error(line), message, "{line}");
    }
    let host = host.file("env = { BIND = 'localhost:{port}' }");
    assert_eq!(host.config("tenfold -- native").command.placeholder, Placeholder::Port);
}

#[test]
fn run_can_be_left_out_and_words_without_dashes_are_explained() {
    let host = Host::new();
    let words = |line: &str| host.config(line).command.words;
    assert_eq!(words("tenfold -n 2 -- node x -n 3"), ["node", "x", "-n", "3"]);
    assert_eq!(words("tenfold run -n 2 -- node x"), ["node", "x"]);
    for (line, message) in [
        (
            "tenfold node x.js",
            "\"node\" is not a command of tenfold; did you mean: tenfold -- node x.js",
        ),
        (
            "tenfold server.js",
            "\"server.js\" is not a command of tenfold; did you mean: tenfold -- node server.js",
        ),
        ("tenfold relod", "\"relod\" is not a command of tenfold; did you mean: tenfold reload"),
        (
            "tenfold --name shop status --json",
            "\"status\" is not a command of tenfold; did you mean: \
             tenfold status --name shop --json",
        ),
        (
            "tenfold pm2 start app.js -i max",
            "pm2 forks its own workers; run: tenfold -- node app.js",
        ),
        ("tenfold statsu", "\"statsu\" is not a command of tenfold; did you mean: tenfold status"),
        (
            "tenfold -n 2 node x.js -p 1",
            "\"node\" is not a command of tenfold; did you mean: tenfold -n 2 -- node x.js -p 1",
        ),
        (
            "tenfold run -n 2 node x.js",
            "\"node\" is not a command of tenfold; did you mean: tenfold run -n 2 -- node x.js",
        ),
    ] {
        assert_eq!(host.error(line), message, "{line}");
    }
}

#[test]
fn bare_tenfold_uses_the_file_here_or_shows_three_examples() {
    let error = Host::new().error("tenfold");
    assert!(error.starts_with("nothing to run: no command and no ./tenfold.toml"), "{error}");
    assert_eq!(error.matches("\n  tenfold ").count(), 3);
    let host = Host::new().file("command = ['npm', 'start']");
    assert_eq!(host.config("tenfold").command.words, ["npm", "start"]);
}

#[test]
fn demo_ignores_the_file_of_the_app() {
    let config = Host::new().file("name = 'shop'").config("tenfold demo -n 3");
    assert_eq!((config.command.kind, config.name.as_str()), (Kind::Demo, "demo"));
}

#[test]
fn control_commands_read_no_configuration() {
    let host = Host::new().file("zebra = 1");
    let invocation = |line: &str| host.parse(line).expect("valid").invocation;
    match invocation("tenfold status --name shop --json") {
        Invocation::Status { name, format: StatusFormat::Json } => {
            assert_eq!(name.as_deref(), Some("shop"));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(invocation("tenfold stop"), Invocation::Stop { name: None, .. }));
    match invocation("tenfold scale 4") {
        Invocation::Scale { count, .. } => assert_eq!(count.get(), 4),
        other => panic!("{other:?}"),
    }
    assert!(host.error("tenfold scale 0").contains("0 is below 1"));
    assert!(host.error("tenfold scale -1").contains("-1 is below 1"));
    assert!(host.error("tenfold scale 257").contains("257 is above 256"));
    for (line, last) in [
        ("tenfold logs", None),
        ("tenfold logs -n all", None),
        ("tenfold logs -n 20 3", Some(20)),
        ("tenfold logs --tail=0 -f", Some(0)),
        ("tenfold logs --lines 99999999999", Some(u32::MAX)),
    ] {
        match invocation(line) {
            Invocation::Logs { wanted, .. } => assert_eq!(wanted.last, last, "{line}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(host.error("tenfold logs -n -5").contains("-5 is below 0"));
    assert!(host.error("tenfold logs -n +5").contains("\"+5\" is not a whole number or \"all\""));
}

#[test]
fn completions_know_the_subcommands() {
    let parsed = Host::new().parse("tenfold completions bash").expect("a shell");
    let Invocation::Completions(shell) = parsed.invocation else { panic!("{parsed:?}") };
    assert!(tenfold::cli::completions(shell).contains("completions"));
}

#[test]
fn help_and_version_are_printed_and_unknown_flags_explained() {
    let host = Host::new();
    for line in ["tenfold --help", "tenfold --version", "tenfold run --help", "tenfold help"] {
        let invocation = host.parse(line).expect(line).invocation;
        assert!(matches!(invocation, Invocation::Print(_)), "{line}");
    }
    let error = host.error("tenfold --wrokers 3 -- node x");
    assert!(error.starts_with("unexpected argument '--wrokers' found"), "{error}");
    assert!(error.contains("'--workers'"), "{error}");
}
