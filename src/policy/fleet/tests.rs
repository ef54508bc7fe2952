//! Tests of `Fleet`: tables, a simulation and an enumeration, the latter two under one watch.

mod behaviours;
mod enumeration;
mod reloads;
mod replacements;
mod simulation;
mod spares;
mod storms;
mod world;
