//! The parts of the soak commands that tests run too, with smaller numbers.
#![allow(
    clippy::disallowed_methods,
    reason = "a soak polls processes of its own; each wait is for a condition with a deadline"
)]

pub mod crash;
pub mod cut;
pub mod journal;
#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../../testdata/postgres.rs"]
mod postgres;
pub mod rows;
