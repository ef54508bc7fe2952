//! The settings of request mode, of the admin address and of metrics, as text in TOML.

use super::{list, quoted, word};
use crate::config::listen::Address;
use crate::config::request::{Route, TrustedProxy};
use crate::config::resolve::{self, shown};
use crate::config::settings::{Admin, Config, ReadyMin};
use crate::config::size::Size;

/// The value of one of these keys; none: unset.
pub(super) fn value(config: &Config, key: &'static str) -> Option<String> {
    let request = &config.request;
    let value = match key {
        "admin" => match &config.admin {
            Admin::Auto => quoted("auto"),
            Admin::Off => quoted("off"),
            Admin::At { host, port } => quoted(Address::Tcp { host: host.clone(), port: *port }),
        },
        "trusted_proxies" => list(request.trusted_proxies.0.iter().map(|proxy| match proxy {
            TrustedProxy::Private => quoted("private"),
            TrustedProxy::Network { address, prefix } => quoted(format!("{address}/{prefix}")),
        })),
        "workers.warmup" => list(request.warmup.iter().map(quoted)),
        "poison" => word(&resolve::POISON, request.poison),
        "sticky" => word(&resolve::STICKY, request.sticky),
        "unlimited" if request.unlimited.0.is_empty() => return None,
        "unlimited" => list(request.unlimited.0.iter().map(|route| match route {
            Route::Exactly(path) => quoted(path),
            Route::Below(beginning) => quoted(format!("{beginning}*")),
        })),
        "retries" => request.retries.to_string(),
        "health.public" => list(request.public_health.iter().map(quoted)),
        "health.ready_min" => match config.ready_min {
            ReadyMin::Auto => quoted("auto"),
            ReadyMin::Fixed(min) => min.to_string(),
        },
        "metrics.app" => quoted(config.metrics_app.as_ref()?),
        "shed.page" => quoted(request.shed.page.as_ref()?.display()),
        "shed.status" => request.shed.status.to_string(),
        "shed.retry_after_min" => quoted(shown(request.shed.retry_after_min)),
        "shed.retry_after_max" => quoted(shown(request.shed.retry_after_max)),
        _ => return times_and_sizes(config, key),
    };
    Some(value)
}

fn times_and_sizes(config: &Config, key: &'static str) -> Option<String> {
    let timeouts = config.request.timeouts;
    let limits = config.request.limits;
    let headers = config.request.headers;
    let value = match key {
        "timeouts.header_read" => quoted(shown(timeouts.header_read)),
        "timeouts.body_idle" => quoted(shown(timeouts.body_idle)),
        "timeouts.connect" => quoted(shown(timeouts.connect)),
        "timeouts.response_head" => quoted(shown(timeouts.response_head)),
        "timeouts.response_idle" => quoted(shown(timeouts.response_idle)),
        "timeouts.keep_alive" => quoted(shown(timeouts.keep_alive)),
        "limits.head_bytes" => size(limits.head_bytes),
        "limits.head_fields" => limits.head_fields.to_string(),
        "limits.body_bytes" => match limits.body_bytes {
            Some(max) => quoted(Size(max)),
            None => quoted("off"),
        },
        "limits.request_buffer" => size(limits.request_buffer),
        "limits.response_buffer" => size(limits.response_buffer),
        "limits.response_buffer_total" => size(limits.response_buffer_total),
        "headers.server_timing" => headers.server_timing.to_string(),
        "headers.request_id" => headers.request_id.to_string(),
        "headers.forwarded" => headers.forwarded.to_string(),
        "headers.via" => headers.via.to_string(),
        "headers.proxy_status" => headers.proxy_status.to_string(),
        _ => unreachable!("{key} is in the table of keys and has a value here; a test says so"),
    };
    Some(value)
}

fn size(bytes: usize) -> String {
    quoted(Size(bytes as u64))
}
