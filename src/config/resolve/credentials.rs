//! `workers.user` and `workers.group` → ids, by the host's own database.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::Resolver;
use crate::config::settings::Credentials;
use crate::config::value::{Data, Value};

impl Resolver<'_> {
    pub(super) fn credentials(&mut self) -> Option<Credentials> {
        let group = self.take("workers.group", None, |value| group(value).map(Some));
        let user = self.take("workers.user", None, |value| user(value).map(Some));
        match (user, group) {
            (Some((user, groups)), group) => Some(Credentials {
                uid: user.uid.as_raw(),
                gid: group.unwrap_or(user.gid).as_raw(),
                groups: groups.iter().map(|gid| gid.as_raw()).collect(),
                user: user.name,
            }),
            (None, Some(_)) if !self.values.contains_key("workers.user") => {
                self.fail("workers.group: needs workers.user".to_owned(), "workers.group");
                None
            }
            (None, _) => None,
        }
    }
}

/// A name, or the number of one.
fn word(value: &Value) -> Result<String, String> {
    match &value.data {
        Data::Integer(number) => Ok(number.to_string()),
        _ => value.text().map(str::to_owned),
    }
}

fn user(value: &Value) -> Result<(User, Vec<Gid>), String> {
    let word = word(value)?;
    let found = match word.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(&word),
    };
    let unknown = || format!("{} is not a user of this host", value.shown());
    let user = found.map_err(|errno| format!("{}: {errno}", unknown()))?.ok_or_else(unknown)?;
    let name = CString::new(user.name.as_str()).map_err(|_| unknown())?;
    let groups = getgrouplist(&name, user.gid)
        .map_err(|errno| format!("the groups of {} cannot be read: {errno}", value.shown()))?;
    Ok((user, groups))
}

fn group(value: &Value) -> Result<Gid, String> {
    let word = word(value)?;
    if let Ok(gid) = word.parse() {
        return Ok(Gid::from_raw(gid));
    }
    let unknown = || format!("{} is not a group of this host", value.shown());
    let group = Group::from_name(&word).map_err(|errno| format!("{}: {errno}", unknown()))?;
    Ok(group.ok_or_else(unknown)?.gid)
}
