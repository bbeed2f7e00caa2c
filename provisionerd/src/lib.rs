//! The shipped binary as a library, so that its parts can be tested in one process.

pub mod connect;
pub mod daemon;
