//! The flags that say how long a queue keeps what has come to its end.

use std::time::Duration;

use queue::{KeepStates, Retention};

/// Days in a century: more is for ever.
const MOST: i64 = 36_500;

/// See the module.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Days for which jobs are kept after their end, and deleted workspaces after their
    /// deletion; 0 for ever. The newest builds of each workspace stay.
    #[arg(long, value_name = "DAYS", default_value_t = 365,
        value_parser = clap::value_parser!(u32).range(..=MOST))]
    keep_jobs: u32,
    /// Days for which logs are kept after their job's end; 0 for as long as the job.
    #[arg(long, value_name = "DAYS", default_value_t = 90,
        value_parser = clap::value_parser!(u32).range(..=MOST))]
    keep_logs: u32,
    /// States kept of each workspace: so many, such as `50`, or those of so many days, such
    /// as `365d`; 0 for all. The current one and those that wait stay.
    #[arg(long, value_name = "N|DAYSd", default_value = "365d", value_parser = states)]
    keep_states: KeepStates,
    /// Days for which the audit log is kept; 0 for ever.
    #[arg(long, value_name = "DAYS", default_value_t = 365,
        value_parser = clap::value_parser!(u32).range(..=MOST))]
    keep_audit: u32,
}

impl Args {
    /// What they say.
    pub fn retention(self) -> Retention {
        Retention {
            jobs: Retention::days(self.keep_jobs),
            logs: Retention::days(self.keep_logs),
            states: self.keep_states,
            audit: Retention::days(self.keep_audit),
            ..Retention::default()
        }
    }
}

/// `50`, `365d` or `0`.
fn states(text: &str) -> Result<KeepStates, String> {
    let (digits, days) = match text.strip_suffix('d') {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let wrong = || format!("`{text}` is neither a number of states nor of days such as `365d`");
    let number: u32 = digits.parse().map_err(|_| wrong())?;
    if days && i64::from(number) > MOST {
        return Err(format!("more than {MOST} days; 0 is for ever"));
    }
    let age = Duration::from_hours(24).saturating_mul(number);
    Ok(match (number, days) {
        (0, _) => KeepStates::All,
        (_, true) => KeepStates::Younger(age),
        (count, false) => KeepStates::Newest(count),
    })
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parsed(line: &[&str]) -> Result<Retention, clap::Error> {
        let command = <Args as clap::Args>::augment_args(Command::new("serve"));
        let matches = command.try_get_matches_from([&["serve"][..], line].concat())?;
        Ok(Args::from_arg_matches(&matches)?.retention())
    }

    #[test]
    fn without_a_flag_it_is_the_queues_own_default() {
        assert_eq!(parsed(&[]).expect("parses"), Retention::default());
    }

    #[test]
    fn nought_is_for_ever_and_states_are_counted_or_dated() {
        let never = [
            "--keep-jobs=0",
            "--keep-logs=0",
            "--keep-states=0",
            "--keep-audit=0",
        ];
        let all = parsed(&never).expect("parses");
        assert_eq!((all.jobs, all.logs, all.audit), (None, None, None));
        assert_eq!(all.states, KeepStates::All);
        let states = |text: &str| parsed(&["--keep-states", text]).map(|it| it.states);
        assert_eq!(states("50").expect("parses"), KeepStates::Newest(50));
        let week = KeepStates::Younger(Duration::from_hours(7 * 24));
        assert_eq!(states("7d").expect("parses"), week);
        for wrong in ["", "d", "-1", "1w", "1.5d", "99999d"] {
            assert!(states(wrong).is_err(), "{wrong}");
        }
        assert!(parsed(&["--keep-jobs=36501"]).is_err());
    }
}
