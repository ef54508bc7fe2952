//! The settings of request mode, of the admin address and of metrics, with their bounds.

use std::net::IpAddr;
use std::time::Duration;

use super::{DAY, HOUR, MINUTE, Resolver, SECOND, ms, non_zero_u16, shown};
use crate::config::count::COUNT_MAX;
use crate::config::listen::Address;
use crate::config::request::{
    Headers, Poison, RequestLimits, RequestSettings, Route, Routes, ShedAnswer, Sticky, Timeouts,
    TrustedProxies, TrustedProxy,
};
use crate::config::settings::{Admin, ReadyMin};
use crate::config::size::Size;
use crate::config::value::Value;

pub(in crate::config) const POISON: [(&str, Poison); 3] =
    [("report", Poison::Report), ("block", Poison::Block), ("off", Poison::Off)];

pub(in crate::config) const STICKY: [(&str, Sticky); 3] =
    [("auto", Sticky::Auto), ("on", Sticky::On), ("off", Sticky::Off)];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Resolver<'_> {
    pub(super) fn request(&mut self) -> RequestSettings {
        RequestSettings {
            timeouts: self.timeouts(),
            limits: self.request_limits(),
            retries: self.take("retries", true, Value::boolean),
            warmup: self.take("workers.warmup", Vec::new(), |value| {
                value.list()?.iter().map(path).collect()
            }),
            poison: self.take("poison", Poison::Report, |value| value.choice(&POISON)),
            sticky: self.take("sticky", Sticky::Auto, |value| value.choice(&STICKY)),
            unlimited: self.take("unlimited", Routes::default(), routes),
            trusted_proxies: self.take(
                "trusted_proxies",
                TrustedProxies(vec![TrustedProxy::Private]),
                trusted_proxies,
            ),
            shed: self.shed(),
            headers: Headers {
                server_timing: self.take("headers.server_timing", true, Value::boolean),
                forwarded: self.take("headers.forwarded", false, Value::boolean),
                via: self.take("headers.via", false, Value::boolean),
                proxy_status: self.take("headers.proxy_status", false, Value::boolean),
                request_id: self.take("headers.request_id", true, Value::boolean),
            },
            public_health: self.take("health.public", Vec::new(), |value| {
                value.list()?.iter().map(path).collect()
            }),
        }
    }

    fn timeouts(&mut self) -> Timeouts {
        Timeouts {
            header_read: self.duration("timeouts.header_read", 10 * SECOND, ms(100), 10 * MINUTE),
            body_idle: self.duration("timeouts.body_idle", 10 * SECOND, ms(100), HOUR),
            connect: self.duration("timeouts.connect", 5 * SECOND, ms(10), MINUTE),
            response_head: self.duration("timeouts.response_head", MINUTE, ms(100), DAY),
            response_idle: self.duration("timeouts.response_idle", MINUTE, ms(100), DAY),
            keep_alive: self.duration("timeouts.keep_alive", 75 * SECOND, SECOND, DAY),
        }
    }

    fn request_limits(&mut self) -> RequestLimits {
        let limits = RequestLimits {
            head_bytes: self.size("limits.head_bytes", 32 * KIB, KIB, MIB),
            head_fields: self
                .take("limits.head_fields", 100, |value| Ok(value.integer(1..=1000)? as usize)),
            body_bytes: self.take("limits.body_bytes", None, |value| {
                if value.as_text() == Some("off") {
                    return Ok(None);
                }
                value.size(Size(0)..=Size(1024 * GIB)).map(Some)
            }),
            request_buffer: self.size("limits.request_buffer", 64 * KIB, 0, 16 * MIB),
            response_buffer: self.size("limits.response_buffer", MIB, 4 * KIB, GIB),
            response_buffer_total: self.size(
                "limits.response_buffer_total",
                64 * MIB,
                64 * KIB,
                1024 * GIB,
            ),
        };
        let RequestLimits { response_buffer: one, response_buffer_total: all, .. } = limits;
        if all < one {
            let key = "limits.response_buffer_total";
            let (all, one) = (Size(all as u64), Size(one as u64));
            self.fail(format!("{key}: {all} is below limits.response_buffer, {one}"), key);
        }
        limits
    }

    fn shed(&mut self) -> ShedAnswer {
        let base = self.values.get("shed.page").map(|value| self.base(value));
        let mut seconds =
            |key, default: Duration| self.take(key, default, |value| value.seconds(SECOND..=HOUR));
        let retry_after_min = seconds("shed.retry_after_min", SECOND);
        let retry_after_max = seconds("shed.retry_after_max", 10 * SECOND);
        if retry_after_max < retry_after_min {
            let key = if self.values.contains_key("shed.retry_after_max") {
                "shed.retry_after_max"
            } else {
                "shed.retry_after_min"
            };
            let (max, min) = (shown(retry_after_max), shown(retry_after_min));
            let message =
                format!("shed.retry_after_max: {max} is below shed.retry_after_min, {min}");
            self.fail(message, key);
        }
        ShedAnswer {
            page: self.take("shed.page", None, |value| {
                let page = base.unwrap_or_default().join(value.text()?);
                match page.is_file() {
                    true => Ok(Some(page)),
                    false => Err(format!("{} is not a file", value.shown())),
                }
            }),
            status: self.take("shed.status", 503, |value| Ok(value.integer(200..=599)? as u16)),
            retry_after_max,
            retry_after_min,
        }
    }

    pub(super) fn admin(&mut self) -> Admin {
        self.take("admin", Admin::Auto, |value| match value.text()? {
            "auto" => Ok(Admin::Auto),
            "off" => Ok(Admin::Off),
            text => match Address::parse(text, "/".as_ref())? {
                Address::Tcp { host, port } => Ok(Admin::At { host, port }),
                Address::Unix(_) | Address::Systemd(_) => {
                    Err(format!("{text:?} is not HOST:PORT, \"auto\" or \"off\""))
                }
            },
        })
    }

    pub(super) fn ready_min(&mut self) -> ReadyMin {
        self.take("health.ready_min", ReadyMin::Auto, |value| {
            let min = value.integer_or(1..=i64::from(COUNT_MAX), Some("auto"))?;
            Ok(min.map_or(ReadyMin::Auto, |min| ReadyMin::Fixed(non_zero_u16(min))))
        })
    }

    fn size(&mut self, key: &'static str, default: u64, min: u64, max: u64) -> usize {
        let size = self.take(key, default, |value| value.size(Size(min)..=Size(max)));
        // On 32-bit hosts a bound beyond the address space is no bound.
        usize::try_from(size).unwrap_or(usize::MAX)
    }
}

/// A path without a query, as a request names it.
pub(super) fn path(value: &Value) -> Result<String, String> {
    let text = value.text()?;
    if !text.starts_with('/') {
        return Err(format!("{} does not begin with /", value.shown()));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains(['?', '#', '*']) {
        return Err(format!("{} is not a plain path without ?, # and *", value.shown()));
    }
    Ok(text.to_owned())
}

fn routes(value: &Value) -> Result<Routes, String> {
    let route = |item: &Value| {
        let Some(beginning) = item.text()?.strip_suffix('*') else {
            return path(item).map(Route::Exactly);
        };
        path(&Value::bare(beginning, item.origin.clone())).map(Route::Below)
    };
    value.list()?.iter().map(route).collect::<Result<_, _>>().map(Routes)
}

fn trusted_proxies(value: &Value) -> Result<TrustedProxies, String> {
    let proxies = value.list()?;
    proxies.iter().map(trusted_proxy).collect::<Result<_, _>>().map(TrustedProxies)
}

fn trusted_proxy(value: &Value) -> Result<TrustedProxy, String> {
    let text = value.text()?;
    if text == "private" {
        return Ok(TrustedProxy::Private);
    }
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let no_network =
        || format!("{} is not \"private\", an address or a network: \"10.0.0.0/8\"", value.shown());
    let address: IpAddr = address.parse().map_err(|_| no_network())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| no_network())?;
    if prefix > longest {
        return Err(format!("{} has a prefix above {longest}", value.shown()));
    }
    Ok(TrustedProxy::Network { address, prefix })
}
