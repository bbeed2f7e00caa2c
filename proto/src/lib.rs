//! The wire contract of the fleet and the vocabulary that all crates share.
//!
//! This crate does no I/O. `v1` holds what `.proto` files describe; the other
//! modules give those messages types, rules and numbers: identifiers, tags, limits,
//! waits, parameter rules, the header of a state file. gRPC stubs exist only with the
//! features `client` and `server`, so a worker cannot even name a queue client.

pub mod account;
pub mod affinity;
#[cfg(any(feature = "client", feature = "server"))]
pub mod codec;
pub mod credential;
pub mod frame;
pub mod ids;
mod job_error;
pub mod limits;
pub mod parameters;
pub mod secret;
pub mod state_file;
pub mod state_index;
pub mod tags;
pub mod timings;
pub mod transport;
pub mod unconfirmed;
pub mod workspace_tags;

/// Generated messages and stubs of package `provisionerd.v1`.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    rustdoc::all
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/provisionerd.v1.rs"));
}
