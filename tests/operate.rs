//! What a person does to a running pool, and sees of it: events, signals, replacements, the end.

mod support;

#[path = "operate/events.rs"]
mod events;
#[path = "operate/heap.rs"]
mod heap;
#[path = "operate/inspect.rs"]
mod inspect;
#[path = "operate/logs.rs"]
mod logs;
#[path = "operate/slots.rs"]
mod slots;
