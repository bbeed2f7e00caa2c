//! The flags that say when a daemon ends by itself.

use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::exclusive::{self, Counts};
use crate::daemon::Lifetime;

/// The flags behind [`Lifetime`].
#[derive(Args)]
struct Flags {
    /// End after one job.
    #[arg(long)]
    once: bool,
    /// End after so many seconds without a job.
    #[arg(long, value_name = "SECONDS")]
    exit_after_idle: Option<u64>,
}

impl Args for Lifetime {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for Lifetime {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = Flags::from_arg_matches(matches)?;
        let once = ("--once", exclusive::source_of_switch(matches, "once"));
        let idle = exclusive::source(matches, "exit_after_idle");
        let idle = ("--exit-after-idle", idle);
        let lifetime = match exclusive::stronger(once, idle)? {
            Counts::Neither => None,
            Counts::First => Some(Self::Once),
            Counts::Second => flags
                .exit_after_idle
                .map(|seconds| Self::Idle(Duration::from_secs(seconds))),
        };
        Ok(lifetime.unwrap_or(Self::Unlimited))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Typed, over what the file says: `default_value` is how that layer is put there.
    fn lifetime(line: &[&str], file: &[(&'static str, &'static str)]) -> Option<Lifetime> {
        let mut command = Lifetime::augment_args(Command::new("start"));
        for (id, value) in file {
            command = command.mut_arg(id, |arg| {
                let parser = clap::builder::BoolishValueParser::new();
                let arg = arg.default_value(*value);
                if *id == "once" {
                    arg.value_parser(parser)
                } else {
                    arg
                }
            });
        }
        let matches = command.try_get_matches_from([&["start"], line].concat());
        Lifetime::from_arg_matches(&matches.expect("parses")).ok()
    }

    #[test]
    fn a_flag_wins_over_the_other_one_in_the_file() {
        let idle = Some(Lifetime::Idle(Duration::from_secs(5)));
        let once = [("once", "true")];
        assert_eq!(lifetime(&["--exit-after-idle=5"], &once), idle);
        assert_eq!(lifetime(&[], &once), Some(Lifetime::Once));
        let seconds = [("exit_after_idle", "5")];
        assert_eq!(lifetime(&["--once"], &seconds), Some(Lifetime::Once));
        assert_eq!(lifetime(&[], &seconds), idle);
        assert_eq!(lifetime(&[], &[]), Some(Lifetime::Unlimited));
        let off = [("once", "false"), ("exit_after_idle", "5")];
        assert_eq!(lifetime(&[], &off), idle);
        assert_eq!(lifetime(&["--once", "--exit-after-idle=5"], &[]), None);
    }
}
