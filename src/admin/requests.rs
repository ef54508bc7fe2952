//! Shows what is under way: the reactor's exchanges, each with its slot and without its query.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use crate::metrics::InFlight;
use crate::policy::{Slot, WorkerId};
use crate::supervisor::request::RequestStatus;

/// The oldest are what one looks for; more than this nobody reads.
const SHOWN_MAX: usize = 1_000;

/// A longer path would fill the screen.
const PATH_CHARS_MAX: usize = 200;

/// The exchanges as people see them, the oldest first.
pub(super) fn shown(
    mut in_flight: Vec<InFlight>,
    slots: &BTreeMap<WorkerId, Slot>,
) -> Vec<RequestStatus> {
    in_flight.sort_by_key(|exchange| std::cmp::Reverse(exchange.age));
    in_flight.truncate(SHOWN_MAX);
    in_flight.into_iter().map(|exchange| show(exchange, slots)).collect()
}

fn show(exchange: InFlight, slots: &BTreeMap<WorkerId, Slot>) -> RequestStatus {
    let InFlight { worker, age, method, target, client, state } = exchange;
    RequestStatus {
        slot: worker.and_then(|worker| slots.get(&worker)).map(|slot| slot.0),
        worker: worker.map(|worker| worker.0),
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        method,
        path: path_of(&target),
        client: client.map(shown_address),
        state: state.code().to_owned(),
    }
}

/// An IPv4 client as such, also where the listener takes both families.
fn shown_address(client: SocketAddr) -> String {
    SocketAddr::new(client.ip().to_canonical(), client.port()).to_string()
}

/// The path of a target, without its query, bounded, and with nothing that a terminal acts on.
fn path_of(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    path.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(PATH_CHARS_MAX).collect()
}

/// The exchanges as text, those of one slot only if one is named.
#[must_use]
pub fn requests_table(requests: &[RequestStatus], slot: Option<u16>) -> String {
    let of_slot = |request: &&RequestStatus| slot.is_none() || request.slot == slot;
    let client_of = |request: &RequestStatus| request.client.clone().unwrap_or("unix".to_owned());
    // As wide as `255.255.255.255:65535`, or as an IPv6 address needs.
    let widths = requests.iter().filter(of_slot).map(|request| client_of(request).len());
    let width = widths.chain([21]).max().unwrap_or(0);
    let mut text = format!(
        "{:<5} {:>9} {:<10} {:<7} {:<width$} PATH\n",
        "SLOT", "AGE", "STATE", "METHOD", "CLIENT"
    );
    for request in requests.iter().filter(of_slot) {
        let slot = request.slot.map_or_else(|| "-".to_owned(), |slot| slot.to_string());
        let RequestStatus { age_ms, method, path, state, .. } = request;
        let client = client_of(request);
        let age = format!("{age_ms} ms");
        writeln!(text, "{slot:<5} {age:>9} {state:<10} {method:<7} {client:<width$} {path}")
            .expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::InFlightState;

    fn exchange(age_ms: u64, target: &str, worker: Option<u64>) -> InFlight {
        InFlight {
            worker: worker.map(WorkerId),
            age: Duration::from_millis(age_ms),
            method: "GET".to_owned(),
            target: target.to_owned(),
            client: Some(([192, 0, 2, 7], 51_034).into()),
            state: InFlightState::Waiting,
        }
    }

    #[test]
    fn the_oldest_come_first_with_their_slots_and_without_queries() {
        let slots = BTreeMap::from([(WorkerId(9), Slot(3))]);
        let in_flight = vec![
            exchange(5, "/young", None),
            exchange(900, "/p/1?token=s3cret", Some(9)),
            exchange(70, "/esc\u{1b}[2J", Some(8)),
        ];
        let shown = shown(in_flight, &slots);
        let seen: Vec<_> =
            shown.iter().map(|request| (request.path.as_str(), request.slot)).collect();
        assert_eq!(
            seen,
            [("/p/1", Some(3)), ("/esc\u{fffd}[2J", None), ("/young", None)],
            "a worker that has gone meanwhile has no slot"
        );
        let text = requests_table(&shown, Some(3));
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("3        900 ms waiting    GET     192.0.2.7:51034"), "{text}");
        assert!(!text.contains("s3cret"));
    }

    #[test]
    fn an_ipv4_client_of_a_listener_for_both_families_is_shown_as_such() {
        let address = |text: &str| shown_address(text.parse().expect("an address"));
        assert_eq!(address("[::ffff:192.0.2.7]:51034"), "192.0.2.7:51034");
        assert_eq!(address("[2001:db8::7]:51034"), "[2001:db8::7]:51034");
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let long = format!("/{}", "x".repeat(10_000));
        let many = (0..2_000).map(|age| exchange(age, &long, None)).collect();
        let shown = shown(many, &BTreeMap::new());
        assert_eq!((shown.len(), shown[0].path.len()), (SHOWN_MAX, PATH_CHARS_MAX));
        assert_eq!(shown[0].age_ms, 1_999);
    }
}
