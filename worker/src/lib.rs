//! One job: archive, engine, state, extraction, supervisor, jail.
//!
//! This crate never talks to the queue.

pub mod analyze;
pub mod archive;
pub mod extract;
pub mod run;
