//! Files that nobody would write: whatever the bytes are, the answer is an error, not a panic.

use proptest::prelude::*;

use crate::Host;

/// Pieces that meet the parser, the excerpts and the conversions from unusual sides.
fn piece() -> impl Strategy<Value = String> {
    let names: Vec<_> = tenfold::config::KEYS.iter().map(|key| key.name).collect();
    let key = proptest::sample::select(names);
    prop_oneof![
        key.clone().prop_map(|key| format!("{key} = ")),
        key.prop_map(str::to_owned),
        proptest::sample::select(vec![
            "\n",
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            ",",
            "'",
            "\"",
            "\"\"\"",
            "#",
            "\r\n",
            "\t",
            "ß",
            "\u{1F980}",
            "\u{0}",
            "0x",
            "1e9",
            "-9223372036854775809",
            "1979-05-27",
            "nan",
            "true",
            "listen",
            "env",
            "app",
            "unix:",
            "[::1]:",
            ":99999",
            "'10s'",
            "'0ms'",
            "''",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ]
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(pieces in proptest::collection::vec(piece(), 0..40)) {
        let host = Host::new().file(&pieces.concat());
        if let Err(error) = host.parse("tenfold -- node x") {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_value_makes_it_panic(index in 0..tenfold::config::KEYS.len(), value in ".{0,200}") {
        let key = tenfold::config::KEYS[index].name;
        let words = ["tenfold".into(), "--set".into(), format!("{key}={value}").into(),
            "--".into(), "node".into()];
        if let Err(error) = Host::new().parse_words(words) {
            prop_assert!(error.to_string().ends_with("(from --set)"), "{}", error);
        }
    }
}
