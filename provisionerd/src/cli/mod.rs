//! The command line: one file per noun. Parsing ends here; what a command does with
//! its answers is shown by `render`.

mod audit;
mod carry;
mod completions;
mod connection;
mod context;
mod daemons;
mod exclusive;
mod exposed;
pub mod follow;
mod inspect;
mod jobs;
mod keep;
mod keys;
mod layers;
mod lifetime;
mod limits;
mod logs;
mod nearest;
mod organizations;
mod owners;
pub mod pack;
pub mod pairs;
mod place;
mod quickstart;
mod serve;
mod start;
mod state;
mod submit;
mod templates;
mod tfvars;
mod tokens;
mod turn;
mod waits;
mod workspaces;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use connection::{Connection, Tls};
pub use context::Context;
pub use follow::{Interrupt, Watched, exit_of, follow};
pub use start::{own_exe, own_name};
pub use submit::{PushSource, is_same, pack_directory, push_template};

use crate::failure::{Exit, Failure};
use crate::logging::Format;
use crate::render::Output;
use layers::Layers;

const EXAMPLES: &str = "\
Examples:
  provisionerd quickstart                       a queue, a daemon and a first workspace
  provisionerd serve                            the queue, on 127.0.0.1:7080
  provisionerd keys create eu --tag region=eu > eu.key
  provisionerd start --key-file eu.key --tag region=eu --slots 4
  provisionerd templates push aws -d ./aws
  provisionerd workspaces create dev --template aws --parameter region=eu-west-1

Every flag is also a variable (PROVISIONERD_ + name) and a key of the TOML file that
--config names, by default ~/.config/provisionerd/config.toml or
/etc/provisionerd/config.toml. Exit codes: 0 done, 1 the job or request failed,
2 wrong usage, 3 queue unreachable, 4 not allowed, 130 waiting was stopped by ^C.";

/// Runs Terraform and OpenTofu jobs on a fleet of provisioner daemons.
#[derive(Debug, Parser)]
#[command(name = "provisionerd", version, after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command has.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// What stdout gets: a table for people or one JSON document for programs.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    #[arg(help_heading = "Common options")]
    pub output: Output,
    /// No progress and no log lines on stderr.
    #[arg(long, short, global = true, help_heading = "Common options")]
    pub quiet: bool,
    /// The TOML file with defaults for flags.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Common options"
    )]
    pub config: Option<std::path::PathBuf>,
    /// Filter of our own log lines, such as `info` or `queue=debug`.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        help_heading = "Common options"
    )]
    pub log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(quickstart::Args),
    Serve(serve::Args),
    Start(start::Args),
    Organizations(organizations::Args),
    Owners(owners::Args),
    Limits(limits::Args),
    Keys(keys::Args),
    Tokens(tokens::Args),
    Templates(templates::Args),
    Workspaces(workspaces::Args),
    Jobs(jobs::Args),
    Daemons(daemons::Args),
    State(state::Args),
    Audit(audit::Args),
    Inspect(inspect::Args),
    Backup(carry::Backup),
    Restore(carry::Restore),
    Migrate(carry::Migrate),
    Completions(completions::Args),
}

impl Command {
    /// How it speaks on stderr: to people, unless it serves.
    fn lines(&self) -> Format {
        match self {
            Self::Serve(args) => args.logging.log_format,
            Self::Start(args) => args.logging.log_format,
            _ => Format::Text,
        }
    }
}

/// Everything but the hidden roles.
pub fn main(args: &[OsString]) -> ExitCode {
    let (parsed, warnings) = match parse(args) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let context = Context::new(&parsed.common, parsed.command.lines());
    for warning in warnings {
        context.warn(&warning);
    }
    match run(&context, parsed.command) {
        Ok(exit) => exit.code().into(),
        Err(failure) => {
            context.fail(&failure);
            failure.exit.code().into()
        }
    }
}

fn parse(args: &[OsString]) -> Result<(Cli, Vec<String>), ExitCode> {
    let texts: Vec<String> = args
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let layers = Layers::load(&texts).map_err(|failure| {
        crate::render::failure(&failure, json_asked(&texts));
        ExitCode::from(failure.exit.code())
    })?;
    let (command, warnings) = layers.apply(Cli::command());
    let parsed = command
        .try_get_matches_from(args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(parsed) => {
            if matches!(parsed.command, Command::Start(_) | Command::Quickstart(_)) {
                layers.refuse_profiles().map_err(|failure| {
                    crate::render::failure(&failure, json_asked(&texts));
                    ExitCode::from(failure.exit.code())
                })?;
            }
            Ok((parsed, warnings))
        }
        Err(error) => Err(refuse(&error, &texts)),
    }
}

/// Help and version are answers; everything else is wrong usage.
fn refuse(error: &clap::Error, args: &[String]) -> ExitCode {
    if !error.use_stderr() {
        // A closed pipe (`--help | head`) is no failure.
        let _ = error.print();
        return Exit::Done.code().into();
    }
    if json_asked(args) {
        let text = error.render().to_string();
        let text = text.trim_start_matches("error: ");
        let message = text.split("\n\nUsage:").next().unwrap_or(text);
        let words: Vec<&str> = message.split_whitespace().collect();
        let message = words.join(" ");
        let failure = Failure::usage(message).hint("see --help of the command");
        crate::render::failure(&failure, true);
    } else {
        let _ = error.print();
    }
    Exit::Usage.code().into()
}

/// Whether JSON was asked for, when parsing has failed.
fn json_asked(args: &[String]) -> bool {
    let flag = args
        .windows(2)
        .any(|pair| pair[0] == "--output" && pair[1] == "json");
    flag || args.iter().any(|arg| arg == "--output=json")
        || std::env::var("PROVISIONERD_OUTPUT").is_ok_and(|value| value == "json")
}

fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    // Only one provider is compiled in; naming it keeps rustls from guessing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal("RUNTIME", format!("cannot start threads: {error}")))?;
    let exit = runtime.block_on(dispatch(context, command));
    // A blocking thread that still waits for a closed pipe must not hold the exit.
    runtime.shutdown_background();
    exit
}

async fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Quickstart(args) => Box::pin(quickstart::run(context, args)).await,
        Command::Serve(args) => Box::pin(serve::run(context, args)).await,
        Command::Start(args) => Box::pin(start::run(context, args)).await,
        Command::Organizations(args) => Box::pin(organizations::run(context, args)).await,
        Command::Owners(args) => Box::pin(owners::run(context, args)).await,
        Command::Limits(args) => Box::pin(limits::run(context, args)).await,
        Command::Keys(args) => Box::pin(keys::run(context, args)).await,
        Command::Tokens(args) => Box::pin(tokens::run(context, args)).await,
        Command::Templates(args) => Box::pin(templates::run(context, args)).await,
        Command::Workspaces(args) => Box::pin(workspaces::run(context, args)).await,
        Command::Jobs(args) => Box::pin(jobs::run(context, args)).await,
        Command::Daemons(args) => Box::pin(daemons::run(context, args)).await,
        Command::State(args) => Box::pin(state::run(context, args)).await,
        Command::Audit(args) => Box::pin(audit::run(context, args)).await,
        Command::Inspect(args) => inspect::run(context, &args),
        Command::Backup(args) => carry::backup(context, args).await,
        Command::Restore(args) => carry::restore(context, args).await,
        Command::Migrate(args) => carry::migrate(context, args).await,
        Command::Completions(args) => completions::run(&args),
    }
}

#[cfg(test)]
mod tests;
