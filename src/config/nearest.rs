//! Which known word a wrong one was probably meant to be.

/// The candidate within a quarter of the word's length in edits, at least one.
pub(crate) fn nearest<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let most = (wrong.chars().count() / 4).max(1);
    let edits = |word: &str| strsim::damerau_levenshtein(wrong, word);
    let rated = candidates.into_iter().map(|word| (edits(word), word));
    rated.filter(|(edits, _)| *edits <= most).min().map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_is_the_closest_within_a_quarter_of_the_length() {
        let words = ["status", "stop", "start_timeout", "count"];
        for (wrong, right) in [
            ("statsu", Some("status")),
            ("stpo", Some("stop")),
            ("cunt", Some("count")),
            ("starttimeotu", Some("start_timeout")),
            ("node", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, words), right, "{wrong}");
        }
    }
}
