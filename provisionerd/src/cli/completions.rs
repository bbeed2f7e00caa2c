//! Completion scripts for shells.

use clap::CommandFactory;

use crate::failure::{Exit, Failure};

/// Prints a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  provisionerd completions bash > /etc/bash_completion.d/provisionerd
  provisionerd completions zsh > ~/.zfunc/_provisionerd
  provisionerd completions fish > ~/.config/fish/completions/provisionerd.fish")]
pub struct Args {
    /// The shell to write for.
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    let mut command = super::Cli::command();
    clap_complete::generate(args.shell, &mut command, "provisionerd", &mut script);
    crate::render::write_stdout(&script)?;
    Ok(Exit::Done)
}
