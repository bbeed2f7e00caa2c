//! The shipped binary as a library, so that its parts can be tested in one process.

mod analyzer;
mod cli;
mod client;
pub mod connect;
pub mod daemon;
mod failure;
mod logging;
mod quickstart;
mod render;
mod roles;
mod serve;
mod signals;
mod start;
mod telemetry;

use std::process::ExitCode;

/// The whole program: a hidden role or a command. Must be called before any thread
/// exists, because confinement cannot be built in a process that has threads.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    match roles::dispatch(&args) {
        Some(code) => code,
        None => cli::main(&args),
    }
}
