//! How a new generation comes in.

use std::time::Duration;

use super::request::path;
use super::{HOUR, Resolver, SECOND};
use crate::config::settings::Reload;
use crate::config::value::Value;
use crate::policy::{MAX_WORKERS, Surge};

impl Resolver<'_> {
    pub(super) fn reload(&mut self) -> Reload {
        Reload {
            soak: self.duration("reload.soak", 5 * SECOND, Duration::ZERO, HOUR),
            probe: self.take("reload.probe", None, |value| path(value).map(Some)),
            surge: self.take("reload.surge", Surge::Percent(25), surge),
        }
    }
}

fn surge(value: &Value) -> Result<Surge, String> {
    let Some(share) = value.text().ok().and_then(|text| text.strip_suffix('%')) else {
        let number = value.integer(0..=i64::from(MAX_WORKERS))?;
        return Ok(Surge::Workers(u16::try_from(number).unwrap_or(MAX_WORKERS)));
    };
    match share.parse() {
        Ok(share @ 1..=100) => Ok(Surge::Percent(share)),
        Ok(_) | Err(_) => Err(format!("{} is not between 1% and 100%", value.shown())),
    }
}
