//! Measurements behind `docs/specification.md`, each a subcommand that prints one JSON
//! document on stdout and a readable line on stderr. Nothing here runs in the tests.
//!
//! Machines are noisy, so an absolute figure comes with a probe of the same run (a bare
//! gRPC echo, an fdatasync) and everything else is a ratio to a baseline measured in
//! alternation with it.
#![allow(
    clippy::disallowed_methods,
    reason = "a bench may sleep: nothing waits for it"
)]

mod build;
mod crowd;
mod cycle;
mod dispatch;
mod fleet;
mod peaks;
mod probe;
mod processes;
mod sim;
mod sizes;
mod stats;
mod sweep;

use std::process::ExitCode;

use clap::Parser;

/// Measures the fleet.
#[derive(Parser)]
#[command(name = "bench", version)]
enum Command {
    /// Submit to the job in a daemon's hands, idle daemons waiting.
    Dispatch(dispatch::Args),
    /// Whole empty jobs per second, from submit to stored finish, without processes.
    Cycle(cycle::Args),
    /// Whole jobs with a real supervisor and worker and no engine: hand-out to stored finish.
    Processes(processes::Args),
    /// A null build through the fleet against the bare engine on the same files.
    Build(build::Args),
    /// Many workspaces on one daemon; memory afterwards.
    Crowd(crowd::Args),
    /// Large archives, states, events and logs, whole and in order; memory meanwhile.
    Sizes(sizes::Args),
    /// kill -9 of every process at drawn instants of real builds: nothing may be lost.
    Crash(sweep::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let report = match Command::parse() {
        Command::Dispatch(args) => dispatch::run(&args).await?,
        Command::Cycle(args) => cycle::run(&args).await?,
        Command::Processes(args) => processes::run(&args)?,
        Command::Build(args) => build::run(&args)?,
        Command::Crowd(args) => crowd::run(&args)?,
        Command::Sizes(args) => sizes::run(&args)?,
        Command::Crash(args) => {
            let report = sweep::run(&args)?;
            if !report.violations().is_empty() {
                code = ExitCode::FAILURE;
            }
            report.json()
        }
    };
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(code)
}
