//! Merges pages of Prometheus text into one, in which every sample bears the slot it came from.
//!
//! Pure. Takes text format 0.0.4 and OpenMetrics, gives 0.0.4: samples of one family stand together
//! under one HELP and TYPE, as the format asks. What cannot be read is left out, never passed on.

use std::collections::HashMap;

/// One worker's page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AppPage {
    pub(super) slot: u16,
    /// None: it could not be had.
    pub(super) text: Option<String>,
}

/// More families than any app has; beyond it new ones are left out.
const FAMILIES_MAX: usize = 10_000;

/// What a family's samples may have behind its name.
const SUFFIXES: [&str; 7] = ["_bucket", "_count", "_sum", "_total", "_created", "_info", "_max"];

/// One page of all; `tenfold_app_metrics_up` says whose page is in it.
pub(super) fn merge(pages: &[AppPage]) -> String {
    let mut families = Families::default();
    for page in pages {
        let mut current = None;
        for line in page.text.iter().flat_map(|text| text.lines()) {
            match Line::parse(line) {
                Some(Line::Meta { kind, name, rest }) => {
                    current = families.describe(kind, name, rest);
                }
                Some(Line::Sample(sample)) => families.add(page.slot, current, &sample),
                None => {}
            }
        }
    }
    let mut text = families.into_text();
    text.push_str("# HELP tenfold_app_metrics_up 1 if the worker's app showed its metrics\n");
    text.push_str("# TYPE tenfold_app_metrics_up gauge\n");
    for page in pages {
        let up = u8::from(page.text.is_some());
        text.push_str(&format!("tenfold_app_metrics_up{{slot=\"{}\"}} {up}\n", page.slot));
    }
    text
}

/// The families in the order in which they were first seen.
#[derive(Default)]
struct Families {
    all: Vec<Family>,
    places: HashMap<String, usize>,
}

#[derive(Default)]
struct Family {
    name: String,
    help: Option<String>,
    kind: Option<String>,
    samples: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meta {
    Help,
    Type,
}

impl Families {
    /// Notes a HELP or TYPE, the first of which counts; gives the family's place.
    fn describe(&mut self, meta: Meta, name: &str, rest: &str) -> Option<usize> {
        let place = self.place(name)?;
        let family = &mut self.all[place];
        let text = match meta {
            Meta::Help => &mut family.help,
            Meta::Type => &mut family.kind,
        };
        text.get_or_insert_with(|| rest.to_owned());
        Some(place)
    }

    /// A sample belongs to the family described just above it, or to its own name.
    fn add(&mut self, slot: u16, current: Option<usize>, sample: &Sample<'_>) {
        let belongs = |place: &usize| {
            let suffix = sample.name.strip_prefix(self.all[*place].name.as_str());
            suffix.is_some_and(|suffix| suffix.is_empty() || SUFFIXES.contains(&suffix))
        };
        let place = current.filter(belongs).or_else(|| self.place(sample.name));
        if let Some(place) = place {
            sample.write(slot, &mut self.all[place].samples);
        }
    }

    fn place(&mut self, name: &str) -> Option<usize> {
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        if self.all.len() >= FAMILIES_MAX {
            return None;
        }
        self.places.insert(name.to_owned(), self.all.len());
        self.all.push(Family { name: name.to_owned(), ..Family::default() });
        Some(self.all.len() - 1)
    }

    fn into_text(self) -> String {
        let mut text = String::new();
        for Family { name, help, kind, samples } in self.all {
            // What was only described says nothing.
            if samples.is_empty() {
                continue;
            }
            if let Some(help) = help {
                text.push_str(&format!("# HELP {name} {help}\n"));
            }
            if let Some(kind) = kind {
                text.push_str(&format!("# TYPE {name} {kind}\n"));
            }
            text.push_str(&samples);
        }
        text
    }
}

/// A line that means something.
enum Line<'a> {
    Meta { kind: Meta, name: &'a str, rest: &'a str },
    Sample(Sample<'a>),
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim();
        let Some(comment) = line.strip_prefix('#') else {
            return Sample::parse(line).map(Self::Sample);
        };
        let mut words = comment.trim_start().splitn(3, ' ');
        let kind = match words.next()? {
            "HELP" => Meta::Help,
            "TYPE" => Meta::Type,
            _ => return None,
        };
        let name = words.next().filter(|name| is_name(name))?;
        Some(Self::Meta { kind, name, rest: words.next().unwrap_or_default() })
    }
}

/// `name{labels} value timestamp`; an exemplar is left out, 0.0.4 has none.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    /// With the timestamp, if there is one.
    value: &'a str,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => parse_labels(rest)?,
            None => (Vec::new(), rest),
        };
        let value = rest.split('#').next().unwrap_or_default().trim();
        let mut words = value.split_whitespace();
        words.next()?.parse::<f64>().ok()?;
        let is_timestamp = |word: &str| word.parse::<f64>().is_ok();
        let is_valid = is_name(name) && words.next().is_none_or(is_timestamp);
        (is_valid && words.next().is_none()).then_some(Self { name, labels, value })
    }

    /// As Prometheus does it, a label `slot` of the app's own becomes `exported_slot`.
    fn write(&self, slot: u16, text: &mut String) {
        text.push_str(&format!("{}{{slot=\"{slot}\"", self.name));
        for (name, value) in &self.labels {
            let name = if *name == "slot" { "exported_slot" } else { name };
            text.push_str(&format!(",{name}=\"{value}\""));
        }
        text.push_str(&format!("}} {}\n", self.value));
    }
}

/// Names and still escaped values up to the closing brace, and what follows it.
type Labels<'a> = (Vec<(&'a str, &'a str)>, &'a str);

fn parse_labels(mut rest: &str) -> Option<Labels<'_>> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start().strip_prefix('"')?;
        let end = closing_quote(after)?;
        let name = name.trim_end();
        if !is_name(name) || name.contains(':') {
            return None;
        }
        labels.push((name, &after[..end]));
        rest = after[end + 1..].trim_start();
        rest = match rest.strip_prefix(',') {
            Some(rest) => rest,
            None if rest.starts_with('}') => rest,
            None => return None,
        };
    }
}

/// Where the quote that is not escaped stands.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let begins = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b':';
    bytes.next().is_some_and(begins) && bytes.all(|b| begins(b) || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(slot: u16, text: &str) -> AppPage {
        AppPage { slot, text: Some(text.to_owned()) }
    }

    /// The merged page without what says whose pages are in it.
    fn merged(pages: &[AppPage]) -> String {
        let text = merge(pages);
        let end = text.find("# HELP tenfold_app_metrics_up").expect("it is always there");
        text[..end].to_owned()
    }

    #[test]
    fn families_of_all_workers_stand_together_and_bear_their_slots() {
        let text = "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n\
                    http_requests_total{method=\"get\"} 3\n\
                    # TYPE nodejs_heap_bytes gauge\nnodejs_heap_bytes 1.5e6\n";
        assert_eq!(
            merged(&[page(0, text), page(1, text)]),
            "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n\
             http_requests_total{slot=\"0\",method=\"get\"} 3\n\
             http_requests_total{slot=\"1\",method=\"get\"} 3\n\
             # TYPE nodejs_heap_bytes gauge\n\
             nodejs_heap_bytes{slot=\"0\"} 1.5e6\nnodejs_heap_bytes{slot=\"1\"} 1.5e6\n"
        );
    }

    #[test]
    fn histograms_stay_whole() {
        let text = "# TYPE d histogram\nd_bucket{le=\"1\"} 1\nd_bucket{le=\"+Inf\"} 2\nd_sum 3\n\
                    d_count 2\nother 1\n";
        assert_eq!(
            merged(&[page(7, text)]),
            "# TYPE d histogram\nd_bucket{slot=\"7\",le=\"1\"} 1\n\
             d_bucket{slot=\"7\",le=\"+Inf\"} 2\nd_sum{slot=\"7\"} 3\nd_count{slot=\"7\"} 2\n\
             other{slot=\"7\"} 1\n"
        );
    }

    #[test]
    fn samples_are_taken_as_they_are_or_not_at_all() {
        for (line, expected) in [
            ("a 1", "a{slot=\"0\"} 1\n"),
            ("a{} NaN", "a{slot=\"0\"} NaN\n"),
            ("a{x=\"1\",} +Inf 1700000000", "a{slot=\"0\",x=\"1\"} +Inf 1700000000\n"),
            ("a { x = \"}\\\"{,\" } 1", ""),
            ("a{ x = \"}\\\"{,\" } 1", "a{slot=\"0\",x=\"}\\\"{,\"} 1\n"),
            ("a{slot=\"x\"} 1", "a{slot=\"0\",exported_slot=\"x\"} 1\n"),
            ("a_total 1 # {trace=\"f00\"} 0.5", "a_total{slot=\"0\"} 1\n"),
            ("# EOF", ""),
            ("# a comment", ""),
            ("a", ""),
            ("a one", ""),
            ("a 1 2 3", ""),
            ("1a 1", ""),
            ("a{x=\"1} 1", ""),
            ("a{x=\"1\" y=\"2\"} 1", ""),
            ("a{x=1} 1", ""),
            ("<html>", ""),
        ] {
            assert_eq!(merged(&[page(0, line)]), expected, "{line}");
        }
    }

    #[test]
    fn a_worker_that_gave_nothing_is_named() {
        let text = merge(&[page(0, "a 1\n"), AppPage { slot: 1, text: None }]);
        let up = "tenfold_app_metrics_up{slot=\"0\"} 1\ntenfold_app_metrics_up{slot=\"1\"} 0\n";
        assert!(text.ends_with(up), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_an_app_says_every_line_is_a_comment_or_a_sample_of_its_slot(
            lines in proptest::collection::vec("[a-z{}=\", #\\\\0-9\n]{0,40}|\\PC{0,20}", 0..20),
        ) {
            let text = merged(&[page(3, &lines.join("\n"))]);
            for line in text.lines() {
                let is_meta = line.starts_with("# HELP ") || line.starts_with("# TYPE ");
                prop_assert!(is_meta || line.contains("{slot=\"3\""), "{}", line);
                prop_assert!(is_meta || Sample::parse(line).is_some(), "{}", line);
            }
        }
    }
}
