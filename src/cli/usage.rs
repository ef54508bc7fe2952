//! What to say about arguments that make no sense: the right line to type, wherever it is known.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::{instead_of_manager, is_script, nearest_subcommand};

/// The answer to a bare `tenfold` without a configuration file.
pub(super) const EXAMPLES: &str = "\
nothing to run: no command and no ./tenfold.toml; for example

  tenfold -- node server.js            one worker per CPU, on the port the app asks for
  tenfold -n 4 -l :80 -- npm start     four workers, on port 80
  tenfold demo                         built-in workers, to see it work

tenfold --help lists everything";

/// The answer to `tenfold unit` without anything to run.
pub(super) const UNIT_WITHOUT_COMMAND: &str =
    "a unit needs a command; for example: tenfold unit -l :8080 -- node server.js";

/// Turns clap's verdict into text: `Ok` for help and version, `Err` for what is wrong.
pub(super) fn explain(error: &clap::Error, args: &[OsString]) -> Result<String, String> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Ok(error.to_string());
    }
    let wrong = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(wrong)) => wrong.as_str(),
        _ => "",
    };
    let is_word = !wrong.is_empty() && !wrong.starts_with('-');
    if error.kind() == ErrorKind::UnknownArgument
        && is_word
        && let Some(text) = unexpected_word(wrong, args)
    {
        return Err(text);
    }
    let text = error.to_string();
    Err(text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned())
}

/// What to say to a word where `--` should stand before a command; none where no command may
/// come at all.
fn unexpected_word(wrong: &str, args: &[OsString]) -> Option<String> {
    let at = first_positional(args, 1)?;
    let at = match args[at].to_str() {
        Some("run" | "check" | "unit") if args[at] != *wrong => first_positional(args, at + 1)?,
        _ if args[at] == *wrong => at,
        _ => return None,
    };
    let (before, words) = args.split_at(at);
    if let Some(advice) = instead_of_manager(words) {
        return Some(advice);
    }
    let text = |words: &[OsString]| {
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    };
    let meant = match nearest_subcommand(wrong) {
        Some(name) if before.len() == 1 => name.to_owned(),
        // Its flags come after it.
        Some(name) if name == wrong => text(&[&words[..1], &before[1..], &words[1..]].concat()),
        _ => {
            let before: String =
                before[1..].iter().map(|word| word.to_string_lossy() + " ").collect();
            let node = if is_script(wrong) { "node " } else { "" };
            format!("{before}-- {node}{}", text(words))
        }
    };
    Some(format!("{wrong:?} is not a command of tenfold; did you mean: tenfold {meant}"))
}

/// The first word from `start` that is neither a flag nor a flag's value: every flag that may
/// stand before a command takes one.
fn first_positional(args: &[OsString], start: usize) -> Option<usize> {
    let mut at = start;
    while let Some(word) = args.get(at) {
        let word = word.to_string_lossy();
        if !word.starts_with('-') {
            return Some(at);
        }
        let holds_value = match word.strip_prefix("--") {
            Some(long) => long.contains('='),
            None => word.len() > 2,
        };
        at += if holds_value { 1 } else { 2 };
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::args::Arguments;
    use crate::config::SUBCOMMANDS;

    #[test]
    fn every_subcommand_can_be_meant() {
        let grammar = Arguments::command();
        let mut names: Vec<_> = grammar.get_subcommands().map(|it| it.get_name()).collect();
        names.push("help");
        let mut known = SUBCOMMANDS.to_vec();
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
    }
}
