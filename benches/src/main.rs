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

mod away;
mod build;
mod cancel;
mod cost;
mod crowd;
mod dead;
mod fleet;
mod load;
mod notice;
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
    /// A fleet's load on a queue of its own: one scenario for each promise, or all of them.
    Load(load::Args),
    /// Whole jobs with a real supervisor and worker and no engine: hand-out to stored finish.
    Processes(processes::Args),
    /// A null build through the fleet against the bare engine on the same files.
    Build(build::Args),
    /// CPU of daemon, supervisor and worker next to that of the engine.
    Cost(cost::Args),
    /// Many workspaces on one daemon; memory afterwards.
    Crowd(crowd::Args),
    /// Large archives, states, events and logs, whole and in order; memory meanwhile.
    Sizes(sizes::Args),
    /// kill -9 of every process at drawn instants of real builds: nothing may be lost.
    Crash(sweep::Args),
    /// The network cut, or a process stopped, in each phase: what must come of it.
    Cut(away::Args),
    /// A cancel under steady output, from the request to the engine's SIGINT.
    Cancel(cancel::Args),
    /// Deaths before and after the gate: how long until each is noticed.
    Notice(notice::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let report = match Command::parse() {
        Command::Load(args) => {
            let (report, ending) = load::run(&args).await?;
            code = match ending {
                load::Ending::Kept => ExitCode::SUCCESS,
                load::Ending::Broken => ExitCode::FAILURE,
                load::Ending::Void => ExitCode::from(2),
            };
            report
        }
        Command::Processes(args) => processes::run(&args)?,
        Command::Build(args) => build::run(&args)?,
        Command::Cost(args) => {
            let (report, broken) = cost::run(&args).await?;
            if broken > 0 {
                code = ExitCode::FAILURE;
            }
            report
        }
        Command::Crowd(args) => crowd::run(&args)?,
        Command::Sizes(args) => sizes::run(&args)?,
        Command::Crash(args) => {
            let report = sweep::run(&args)?;
            if !report.violations().is_empty() {
                code = ExitCode::FAILURE;
            }
            report.json()
        }
        Command::Cancel(args) => {
            let (report, broken) = cancel::run(&args).await?;
            if broken > 0 {
                code = ExitCode::FAILURE;
            }
            report
        }
        Command::Notice(args) => {
            let (report, broken) = notice::run(&args).await?;
            if broken > 0 {
                code = ExitCode::FAILURE;
            }
            report
        }
        Command::Cut(args) => {
            let report = away::run(&args)?;
            if !report.broken().is_empty() {
                code = ExitCode::FAILURE;
            }
            report.json()
        }
    };
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(code)
}
