//! One job: archive, engine, state, extraction, supervisor, jail.
//!
//! Nothing here talks to the queue. `supervise` and `jail` are the only modules that talk
//! to the kernel directly, and they parse nothing a template wrote.

pub mod analyze;
pub mod archive;
pub mod extract;
pub mod jail;
pub mod job_dir;
pub mod launch;
pub mod link;
pub mod run;
#[cfg(test)]
#[path = "../../testdata/skip.rs"]
mod skip;
pub mod supervise;
