//! One binary, many roles. The hidden roles are chosen before any thread exists,
//! because their confinement cannot be built in a process that has threads.

mod cli;
mod client;
mod failure;
mod logging;
mod quickstart;
mod render;
mod roles;
mod serve;
mod signals;
mod start;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    match roles::dispatch(&args) {
        Some(code) => code,
        None => cli::main(&args),
    }
}
