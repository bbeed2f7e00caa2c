//! One job: archive, engine, state, extraction, supervisor, jail.

pub mod run;
