//! Tests of `Fleet`: a table, a simulation and an enumeration, the latter two under one watch.

mod behaviours;
mod enumeration;
mod simulation;
mod world;
