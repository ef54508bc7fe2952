//! Reads a metrics page as strictly as the format's text does: whatever is odd fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// A page, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Kind of each family, by name.
    pub(crate) kinds: BTreeMap<String, String>,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) family: String,
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

impl Page {
    /// Takes an OpenMetrics page apart.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the page ends with # EOF");
        let mut page = Self::default();
        let mut seen = BTreeSet::new();
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text");
                assert!(helped.insert(name.to_owned()) && !help.is_empty(), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a kind");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let before = page.kinds.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "families stand together: {line}");
                assert!(helped.contains(name), "help comes first: {line}");
                name.clone_into(&mut family);
            } else {
                let sample = Sample::parse(&family, line);
                sample.check_name(&page.kinds[&family]);
                let series = (sample.name.clone(), sample.labels.clone());
                assert!(seen.insert(series), "twice: {line}");
                page.samples.push(sample);
            }
        }
        page.check_histograms();
        page
    }

    /// The value of the only series of this name with these labels.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let found =
            self.samples.iter().find(|sample| sample.name == name && sample.labels == labels);
        found.unwrap_or_else(|| panic!("no {name} {labels:?} in {self:#?}")).value
    }

    fn check_histograms(&self) {
        let of = |family: &str, suffix: &str| -> Vec<&Sample> {
            let name = format!("{family}{suffix}");
            self.samples.iter().filter(|sample| sample.name == name).collect()
        };
        for (family, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let buckets = of(family, "_bucket");
            let bound = |sample: &&Sample| match sample.labels.as_slice() {
                [(name, bound)] if name == "le" => bound.replace('+', "").parse::<f64>(),
                _ => panic!("{sample:?}"),
            };
            let bounds: Vec<f64> =
                buckets.iter().map(|sample| bound(sample).expect("a number")).collect();
            assert!(bounds.is_sorted() && bounds.last() == Some(&f64::INFINITY), "{bounds:?}");
            assert!(buckets.is_sorted_by_key(|sample| sample.value), "{buckets:?}");
            let count = of(family, "_count")[0].value;
            assert_eq!(buckets.last().map(|sample| sample.value), Some(count));
            assert!(of(family, "_sum")[0].value >= 0.0);
        }
    }
}

impl Sample {
    #[track_caller]
    fn parse(family: &str, line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').expect("a closing brace")),
            None => (series, ""),
        };
        let label = |pair: &str| {
            let (name, value) = pair.split_once("=\"").expect("a label");
            let value = value.strip_suffix('"').expect("a closing quote");
            assert!(!value.contains(['"', '\\']), "{line}");
            (name.to_owned(), value.to_owned())
        };
        let pairs = labels.split(',').filter(|pair| !pair.is_empty());
        let value: f64 = value.parse().expect("a number");
        assert!(value.is_finite() && value >= 0.0, "{line}");
        Self {
            family: family.to_owned(),
            name: name.to_owned(),
            labels: pairs.map(label).collect(),
            value,
        }
    }

    #[track_caller]
    fn check_name(&self, kind: &str) {
        let suffix = self.name.strip_prefix(&self.family).expect("samples follow their type");
        let allowed: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{self:?}");
    }
}
