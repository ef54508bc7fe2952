//! The shipped example: complete, and equal to the defaults.

use tenfold::config::example;

use crate::Host;

#[test]
fn example_is_made_of_the_table_of_keys() {
    assert_eq!(include_str!("../../config/example.toml"), example());
}

#[test]
fn example_equals_the_defaults() {
    let line = "tenfold -- node x.js";
    let host = Host::new();
    let default = host.config(line);
    assert_eq!(host.file(&example()).config(line), default);
}

#[test]
fn every_commented_line_of_the_example_can_be_uncommented() {
    let text: String = example()
        .replace("\"/srv/shop\"", "\"/\"")
        .replace("\"www-data\"", "\"root\"")
        .replace("\"busy.html\"", "\"tenfold.toml\"")
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let settings = Host::new().file(&text).settings("tenfold check");
    let unset: Vec<_> = settings.iter().filter(|setting| setting.value.is_none()).collect();
    assert!(unset.is_empty(), "{unset:?}");
    let elsewhere: Vec<_> =
        settings.iter().filter(|setting| !setting.origin.starts_with("tenfold.toml:")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}
