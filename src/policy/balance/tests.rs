//! Tests of `Balance`: a table, a simulation judged by a naive model, interleavings, and waits.

mod behaviours;
mod interleavings;
mod model;
mod sidelines;
mod simulation;
mod table;
mod waits;
mod wishes;
