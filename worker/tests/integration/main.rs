//! Real supervisors, jails, workers and engines; a shell script plays the engine.

mod builds;
mod processes;
#[path = "../../../testdata/skip.rs"]
mod skip;
