//! Writes `/metrics`: what control, the reactor's counts and the kernel know, as one page.

use std::fmt;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::metrics::{Kind, METRICS, Metric};
use super::{Sources, collect};
use crate::metrics::Distribution;
use crate::supervisor::request::Request;

/// What the encoder writes; Prometheus asks for it since 2018.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One number of a metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// Values in the order of the metric's labels.
    pub(super) labels: Vec<String>,
    pub(super) value: Value,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Count(u64),
    Number(f64),
    Distribution(Distribution),
}

/// All samples of a page; a metric without samples is not on it.
#[derive(Debug, Default)]
pub(super) struct Page(Vec<(&'static Metric, Vec<Sample>)>);

impl Page {
    /// Adds one sample of the metric called `name`, which is in the table.
    pub(super) fn add(&mut self, name: &str, labels: &[&str], value: Value) {
        let metric = METRICS.iter().find(|metric| metric.name == name);
        let metric = metric.expect("every name is in the table of metrics; a test adds them all");
        debug_assert_eq!(metric.labels.len(), labels.len(), "{name}");
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let sample = Sample { labels, value };
        match self.0.iter_mut().find(|(known, _)| *known == metric) {
            Some((_, samples)) => samples.push(sample),
            None => self.0.push((metric, vec![sample])),
        }
    }

    pub(super) fn number(&mut self, name: &str, labels: &[&str], value: f64) {
        self.add(name, labels, Value::Number(value));
    }

    pub(super) fn count(&mut self, name: &str, labels: &[&str], value: u64) {
        self.add(name, labels, Value::Count(value));
    }

    pub(super) fn seconds(&mut self, name: &str, labels: &[&str], value: Duration) {
        self.number(name, labels, value.as_secs_f64());
    }

    /// In the order of the table, whoever added what first.
    fn in_order(mut self) -> Self {
        let place = |metric: &Metric| METRICS.iter().position(|known| known == metric);
        self.0.sort_by_key(|(metric, _)| place(metric));
        self
    }
}

type Answer = ([(HeaderName, &'static str); 1], String);

/// `GET /metrics`.
pub(super) async fn metrics(State(sources): State<Sources>) -> Result<Answer, StatusCode> {
    let facts = sources.ask(Request::Facts).await?;
    let page = collect::collect(&facts, &sources).in_order();
    let text = write(page).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

fn write(page: Page) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(page));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (metric, samples) in &self.0 {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for Sample { labels, value } in samples {
                let pairs: Vec<(&str, &str)> =
                    metric.labels.iter().copied().zip(labels.iter().map(String::as_str)).collect();
                if pairs.is_empty() {
                    encode(&mut family, metric.kind, value)?;
                } else {
                    encode(&mut family.encode_family(&pairs.as_slice())?, metric.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode(encoder: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Count(count)) => {
            encoder.encode_counter::<NoLabelSet, u64, f64>(count, None)
        }
        (Kind::Gauge | Kind::Histogram, Value::Count(count)) => encoder.encode_gauge(count),
        (Kind::Counter, Value::Number(number)) => {
            encoder.encode_counter::<NoLabelSet, f64, f64>(number, None)
        }
        (Kind::Gauge | Kind::Histogram, Value::Number(number)) => encoder.encode_gauge(number),
        (_, Value::Distribution(Distribution { buckets, count, sum_s })) => {
            encoder.encode_histogram::<NoLabelSet>(*sum_s, *count, buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_in_the_order_of_the_table() {
        let mut page = Page::default();
        page.number("tenfold_queue_length", &["0.0.0.0:80"], 3.0);
        page.count("tenfold_restarts", &["exit"], 2);
        page.count("tenfold_restarts", &["killed"], 1);
        page.number("tenfold_uptime_seconds", &[], 1.5);
        let buckets = vec![(0.5, 1), (f64::INFINITY, 2)];
        let distribution = Distribution { buckets, count: 3, sum_s: 7.25 };
        let value = Value::Distribution(distribution);
        page.add("tenfold_request_queue_seconds", &[], value);
        let text = write(page.in_order()).expect("a String takes everything");
        assert_eq!(
            text,
            "# HELP tenfold_uptime_seconds Since the master started\n\
             # TYPE tenfold_uptime_seconds gauge\n\
             tenfold_uptime_seconds 1.5\n\
             # HELP tenfold_restarts Restarts, by how the worker before had ended\n\
             # TYPE tenfold_restarts counter\n\
             tenfold_restarts_total{reason=\"exit\"} 2\n\
             tenfold_restarts_total{reason=\"killed\"} 1\n\
             # HELP tenfold_queue_length What waits for a worker\n\
             # TYPE tenfold_queue_length gauge\n\
             tenfold_queue_length{listener=\"0.0.0.0:80\"} 3.0\n\
             # HELP tenfold_request_queue_seconds How long requests waited for a worker\n\
             # TYPE tenfold_request_queue_seconds histogram\n\
             tenfold_request_queue_seconds_sum 7.25\n\
             tenfold_request_queue_seconds_count 3\n\
             tenfold_request_queue_seconds_bucket{le=\"0.5\"} 1\n\
             tenfold_request_queue_seconds_bucket{le=\"+Inf\"} 3\n\
             # EOF\n"
        );
    }
}
