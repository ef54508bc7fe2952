//! Keeps a client with its worker: by a cookie that names the worker and tells nothing else.
//!
//! The name is a keyed hash, its key drawn anew by each master: it reveals neither number nor pid,
//! and one that a former master gave names nobody.

use std::hash::{BuildHasher, RandomState};

use crate::config::Sticky;
use crate::http::RequestHead;
use crate::policy::{Balance, Wish, WorkerId, WorkerView};

/// What browsers send back. A session cookie: it ends with the browser, or with the worker.
const NAME: &str = "tenfold_worker";

/// Which clients keep their worker, and how workers are named to them.
#[derive(Debug)]
pub(super) struct Stickiness {
    which: Sticky,
    key: RandomState,
}

/// Whether a request's client keeps its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    No,
    /// It comes for this one, which lives; none if it has had none so far.
    At(Option<WorkerId>),
}

impl Stickiness {
    pub(super) fn new(which: Sticky) -> Self {
        Self { which, key: RandomState::new() }
    }

    /// For other clients, with the same names.
    pub(super) fn with(&self, which: Sticky) -> Self {
        Self { which, key: self.key.clone() }
    }

    /// Whom a request is for.
    pub(super) fn of(&self, head: &RequestHead, balance: impl FnOnce() -> Workers) -> Kept {
        let applies = match self.which {
            Sticky::Off => false,
            Sticky::On => true,
            Sticky::Auto => is_engine_io(head.query()),
        };
        if !applies {
            return Kept::No;
        }
        let given = head.fields().all("cookie").flat_map(cookies).find_map(|(name, value)| {
            if name == NAME.as_bytes() { std::str::from_utf8(value).ok() } else { None }
        });
        let Some(given) = given.and_then(|value| u64::from_str_radix(value, 16).ok()) else {
            return Kept::At(None);
        };
        Kept::At(balance().into_iter().find(|worker| self.name(*worker) == given))
    }

    /// The value of `Set-Cookie` for a client that was served by this worker; none if it knows.
    pub(super) fn cookie(&self, kept: Kept, worker: WorkerId) -> Option<String> {
        match kept {
            Kept::No => None,
            Kept::At(Some(known)) if known == worker => None,
            Kept::At(_) => {
                let name = self.name(worker);
                Some(format!("{NAME}={name:016x}; Path=/; HttpOnly; SameSite=Lax"))
            }
        }
    }

    fn name(&self, worker: WorkerId) -> u64 {
        self.key.hash_one(worker.0)
    }
}

/// The workers that a cookie may name.
pub(super) type Workers = Vec<WorkerId>;

/// Those that serve.
pub(super) fn workers(balance: &Balance) -> Workers {
    balance.workers().filter(WorkerView::is_on_duty).map(|worker| worker.id).collect()
}

impl Kept {
    pub(super) fn wish(self) -> Wish {
        match self {
            Self::At(Some(worker)) => Wish::Only(worker),
            Self::At(None) | Self::No => Wish::Any,
        }
    }
}

/// Engine.IO, the transport of Socket.IO: its polls of one session must meet the same process.
fn is_engine_io(query: &[u8]) -> bool {
    let query = query.strip_prefix(b"?").unwrap_or_default();
    let has = |key: &[u8]| query.split(|byte| *byte == b'&').any(|pair| pair.starts_with(key));
    has(b"EIO=") && has(b"transport=")
}

/// The cookies of one field, names with values (RFC 6265 §4.2.1).
fn cookies(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    field.split(|byte| *byte == b';').filter_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        Some((&pair[..equals], &pair[equals + 1..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, Parsed, request_head};

    fn head(target: &str, fields: &str) -> RequestHead {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        match request_head(text.as_bytes(), &HeadLimits::default()) {
            Ok(Parsed::Complete { head, .. }) => head,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn two() -> Workers {
        vec![WorkerId(1), WorkerId(2)]
    }

    #[test]
    fn auto_is_for_engine_io_alone() {
        let auto = Stickiness::new(Sticky::Auto);
        for (target, expected) in [
            ("/socket.io/?EIO=4&transport=polling&t=abc", Kept::At(None)),
            ("/any/?transport=websocket&EIO=4&sid=x", Kept::At(None)),
            ("/?EIO=4", Kept::No),
            ("/?xEIO=4&transport=polling", Kept::No),
            ("/", Kept::No),
        ] {
            assert_eq!(auto.of(&head(target, ""), two), expected, "{target}");
        }
        assert_eq!(Stickiness::new(Sticky::On).of(&head("/", ""), two), Kept::At(None));
        let off = Stickiness::new(Sticky::Off);
        assert_eq!(off.of(&head("/?EIO=4&transport=polling", ""), two), Kept::No);
    }

    #[test]
    fn cookie_leads_back_to_its_worker_while_that_lives() {
        let on = Stickiness::new(Sticky::On);
        let set = on.cookie(Kept::At(None), WorkerId(2)).expect("the client has none yet");
        let pair = set.split(';').next().expect("it has a first part");
        let request = head("/", &format!("Cookie: a=b; {pair};c=d\r\n"));
        assert_eq!(on.of(&request, two), Kept::At(Some(WorkerId(2))));
        assert_eq!(on.of(&request, || vec![WorkerId(1)]), Kept::At(None));
        assert_eq!(on.cookie(Kept::At(Some(WorkerId(2))), WorkerId(2)), None);
        assert_ne!(on.cookie(Kept::At(Some(WorkerId(2))), WorkerId(1)), None, "it was re-chosen");
        let former = Stickiness::new(Sticky::On);
        assert_eq!(former.of(&request, two), Kept::At(None), "another master's");
    }

    #[test]
    fn only_our_cookie_in_our_form_counts() {
        let on = Stickiness::new(Sticky::On);
        for field in ["tenfold_worker=zz", "tenfold_worker=", "tenfold_worker", "x=1; y=2"] {
            let request = head("/", &format!("Cookie: {field}\r\n"));
            assert_eq!(on.of(&request, two), Kept::At(None), "{field}");
        }
    }
}
