//! What this project cares about and no compiler checks; each rule names every offender.

#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/source.rs"]
mod source;

use std::fmt::Write as _;

use files::{exists_near, of_module, read, rust, shipped, texts};
use source::{Source, crate_imports, is_word, line_of, words};

/// Files longer than [`FILE_LINES`], each with the reason why it is one thing.
const LONG_FILES: &[(&str, &str)] = &[];
const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
const LINE_CHARS: usize = 100;

#[test]
fn policy_imports_only_std_and_itself() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("cargo has read it too");
    let dependencies = manifest["dependencies"].as_table().expect("it is a table");
    let crates: Vec<String> = dependencies.keys().map(|name| name.replace('-', "_")).collect();
    let mut found = Vec::new();
    for source in of_module("policy") {
        let code = source.shipped();
        for (at, word) in words(code) {
            let is_path = code[at + word.len()..].starts_with("::");
            if is_path && !code[..at].ends_with("::") && crates.iter().any(|name| name == word) {
                found.push(place(&source, at, word));
            }
        }
        for module in ["std::env", "std::fs", "std::io", "std::net", "std::process", "std::thread"]
        {
            found.extend(code.match_indices(module).map(|(at, _)| place(&source, at, module)));
        }
    }
    report(found, "policy decides and does nothing else: take what it needs as an argument");
}

#[test]
fn modules_import_only_what_is_below_them() {
    // A leaf, `*`, may use the words of policy (Slot, WorkerId) and the clock, and nothing else.
    let above: [(&str, &[&str]); 9] = [
        ("policy", &["*"]),
        ("sys", &["*"]),
        ("logs", &["*"]),
        ("config", &["*"]),
        ("http", &["*"]),
        ("metrics", &["*"]),
        ("link", &["supervisor", "dispatch", "admin", "cli"]),
        ("supervisor", &["dispatch", "admin", "cli"]),
        ("dispatch", &["supervisor", "admin", "cli"]),
    ];
    let mut found = Vec::new();
    for (module, forbidden) in above {
        for source in of_module(module) {
            for (at, name) in crate_imports(source.shipped()) {
                let below = [module, "policy", "clock"].contains(&name);
                if forbidden.contains(&name) || forbidden == ["*"] && !below {
                    found.push(place(&source, at, &format!("{module} imports {name}")));
                }
            }
        }
    }
    report(found, "dependencies point one way: the two meet in the module that owns both");
}

#[test]
fn files_begin_with_a_sentence_on_what_they_do() {
    let mut found = Vec::new();
    for source in rust() {
        let paragraph: Vec<&str> =
            source.text.lines().map_while(|line| line.strip_prefix("//! ")).collect();
        if paragraph.last().is_none_or(|line| !line.ends_with('.')) {
            found.push(format!("{}:1: no `//! Sentence.`", source.path));
        }
    }
    report(found, "the first paragraph says exactly what the file decides or does");
}

#[test]
fn lines_fit() {
    let mut found = Vec::new();
    for source in rust() {
        for (index, line) in source.text.lines().enumerate() {
            let chars = line.chars().count();
            if chars > LINE_CHARS {
                found.push(format!("{}:{}: {chars} characters", source.path, index + 1));
            }
        }
    }
    report(found, "a line has at most 100 characters, comments and strings included");
}

#[test]
fn files_hold_one_concept() {
    let mut found = Vec::new();
    for source in rust() {
        let lines = if source.is_test() { source.text.as_str() } else { source.shipped() };
        let lines = lines.lines().count();
        let excepted = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        if lines > FILE_LINES && !excepted {
            found.push(format!("{}: {lines} lines without tests", source.path));
        } else if lines <= FILE_LINES && excepted {
            found.push(format!("{}: needs no exception any more", source.path));
        }
    }
    report(found, "at most 500 lines, 150 to 300 usual: split it, or say in LONG_FILES why not");
}

#[test]
fn functions_fit_a_screen() {
    let mut found = Vec::new();
    for source in shipped() {
        for function in source.functions() {
            if function.lines > FUNCTION_LINES {
                let source::Function { name, first_line, lines } = function;
                found.push(format!("{}:{first_line}: {name} has {lines} lines", source.path));
            }
        }
    }
    report(found, "at most 70 lines: the parent keeps the `match`, the arms become functions");
}

#[test]
fn unsafe_stays_in_sys() {
    let mut found = Vec::new();
    for source in rust() {
        if source.path.contains("src/sys") {
            continue;
        }
        let uses = words(&source.code).filter(|(_, word)| *word == "unsafe");
        found.extend(uses.map(|(at, word)| place(&source, at, word)));
    }
    report(found, "raw system calls live behind a safe function of src/sys");
}

#[test]
fn nothing_is_left_for_later_and_nothing_is_unwrapped() {
    let later = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let mut found = Vec::new();
    for (path, text) in texts() {
        for (at, word) in words(&text).filter(|(_, word)| later.contains(word)) {
            found.push(format!("{path}:{}: {word}", line_of(&text, at)));
        }
    }
    for source in rust() {
        for call in [".unwrap()", "todo!", "unimplemented!"] {
            let calls = source.code.match_indices(call);
            found.extend(calls.map(|(at, _)| place(&source, at, call)));
        }
    }
    report(found, "do it, or open an issue; `expect(\"why it cannot happen\")` instead of unwrap");
}

#[test]
fn paths_named_in_documents_and_comments_exist() {
    let tops = ["src/", "tests/", "docs/", "config/", "workers/", "systemd/", "bench/", ".ci/"];
    let mut found = Vec::new();
    for (path, text) in texts() {
        if !(path.ends_with(".md") || path.ends_with(".rs")) {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            for token in line.split('`').skip(1).step_by(2) {
                let named = token.split([':', '#']).next().unwrap_or_default();
                // Not a pattern (`tests/*.rs`) nor a placeholder (`src/MODULE`).
                let literal = named.chars().all(|c| is_word(c) || "./-".contains(c))
                    && (named.ends_with(".md") || !named.contains(char::is_uppercase));
                let is_path = literal && tops.iter().any(|top| named.starts_with(top));
                if is_path && !exists_near(&path, named) {
                    found.push(format!("{path}:{}: `{named}` does not exist", index + 1));
                }
            }
        }
    }
    report(found, "a document that names what is gone misleads: name what is there");
}

#[test]
fn tests_that_answer_complaints_exist() {
    let sources = rust();
    let is_test = |place: &str, name: &str| {
        let in_place = |source: &&Source| {
            ["tests/", "src/"].iter().any(|top| source.path.starts_with(&format!("{top}{place}")))
        };
        let function = format!("#[test]\nfn {name}() {{");
        let inner = format!("#[test]\n    fn {name}() {{");
        let has_it = |it: &Source| it.text.contains(&function) || it.text.contains(&inner);
        sources.iter().filter(in_place).any(has_it)
    };
    let document = read("docs/COMPLAINTS.md");
    let (rows, _) = document.split_once("## Not for tenfold").expect("the last part");
    let mut found = Vec::new();
    let mut numbered = 0;
    for (index, line) in rows.lines().enumerate() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let is_head = line.starts_with("|---") || line.contains("| tests |");
        if !line.starts_with("| ") || is_head {
            continue;
        }
        numbered += usize::from(cells[0].trim().parse::<u32>() == Ok(numbered as u32 + 1));
        let names: Vec<&str> =
            cells.last().expect("a row has cells").split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            found.push(format!("docs/COMPLAINTS.md:{}: names no test", index + 1));
        }
        for named in names {
            let (place, name) = named.rsplit_once("::").unwrap_or(("", named));
            if place.is_empty() || !is_test(&place.replace("::", "/"), name) {
                found.push(format!("docs/COMPLAINTS.md:{}: no test `{named}`", index + 1));
            }
        }
    }
    assert_eq!(numbered, 25, "all complaints, in their order");
    report(found, "a complaint is answered by a test that would fail");
}

#[test]
fn nothing_names_the_machine_it_was_made_on() {
    let roots = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut found = Vec::new();
    for (path, text) in texts() {
        for root in roots {
            for (at, _) in text.match_indices(root) {
                // `$dir/…/` and the like: not from the root of the file system.
                let absolute = !text[..at].ends_with(|c: char| is_word(c) || ".-}$~)/".contains(c));
                if absolute {
                    found.push(format!("{path}:{}: {root}", line_of(&text, at)));
                }
            }
        }
        if path.ends_with("package-lock.json") && text.contains("\"resolved\": \"http") {
            found.push(format!("{path}: records where packages were downloaded from"));
        }
    }
    report(found, "what is committed must mean the same on every machine");
}

#[test]
fn source_sees_code_without_comments_strings_and_tests() {
    let text = concat!(
        "//! A { file.\n",
        "fn short<'a>(x: [u8; 2]) -> &'a str { \"}\\\"\" /* } /* { */ */ }\n",
        "trait T { fn bodiless(&self); }\n",
        "const F: fn(u8) = |_| (); const C: (char, u8) = ('{', b'\\'');\n",
        "fn long() {\n    let _ = r#\"} \"quoted\" {\"#;\n}\n",
        "#[cfg(test)]\nmod tests {\n    fn of_tests() {}\n}\n",
    );
    let source = Source::new("src/a.rs", text);
    assert_eq!(source.code.lines().count(), text.lines().count());
    assert!(!source.code.contains("quoted") && !source.code.contains("file"));
    let function = |name: &str, first_line, lines| source::Function {
        name: name.to_owned(),
        first_line,
        lines,
    };
    assert_eq!(source.functions(), [function("short", 2, 1), function("long", 5, 3)]);
    let imports = crate_imports("use crate::{a::B, c}; crate::d::e(); use crate::f;");
    let names: Vec<&str> = imports.into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["a", "c", "d", "f"]);
}

/// Fails with all of `found` and `remedy`, if there is any.
#[track_caller]
fn report(found: Vec<String>, remedy: &str) {
    let mut text = String::new();
    for line in &found {
        let _ = writeln!(text, "  {line}");
    }
    assert!(found.is_empty(), "{} found; {remedy}\n{text}", found.len());
}

fn place(source: &Source, at: usize, what: &str) -> String {
    format!("{}:{}: {what}", source.path, line_of(&source.code, at))
}
