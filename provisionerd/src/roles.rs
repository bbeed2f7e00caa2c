//! The processes of a job, which are this binary too. They are told apart from
//! commands before clap and before any thread.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs a hidden role, if `args` name one.
pub fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let words: Vec<&str> = args.iter().skip(1).map_while(|arg| arg.to_str()).collect();
    match words.as_slice() {
        ["supervise", job] => Some(worker::supervise::main(job)),
        ["worker", job] => Some(worker::run::main(job)),
        ["jail", role, job] => Some(worker::jail::main(role, job)),
        _ => None,
    }
}
