//! What a submitted job asks of the queue: how its turn comes.

use std::time::Duration;

use proto::v1;

/// Who waits for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Priority {
    /// A person: before automatic jobs.
    Interactive,
    /// A schedule: behind interactive jobs, for ten minutes at most.
    Automatic,
}

/// Flags of every command that submits a job.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Turn {
    /// Who waits for the job: a person, or nobody.
    #[arg(long, value_enum, default_value_t = Priority::Interactive)]
    pub priority: Priority,
    /// Fails the job when no daemon has begun it by then, such as `10m`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    queue_deadline: Option<Duration>,
    /// Ends the job when it has run for so long, such as `1h`; what it made is kept.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    run_deadline: Option<Duration>,
}

/// `90`, `90s`, `15m`, `2h` or `1d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        other => return Err(format!("`{other}` is none of s, m, h and d")),
    };
    let seconds: u64 = digits
        .parse()
        .map_err(|_| format!("`{text}` is not a number with a unit"))?;
    match seconds.checked_mul(unit) {
        Some(0) => Err("a deadline of no time at all".to_owned()),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(format!("`{text}` is too long")),
    }
}

impl From<Priority> for v1::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Interactive => Self::Interactive,
            Priority::Automatic => Self::Automatic,
        }
    }
}

impl Turn {
    /// As it travels.
    pub fn priority(self) -> i32 {
        v1::Priority::from(self.priority).into()
    }

    /// As it travels; 0 for none.
    pub fn queue_deadline_ms(self) -> u64 {
        millis(self.queue_deadline)
    }

    /// As it travels; 0 for none.
    pub fn run_deadline_ms(self) -> u64 {
        millis(self.run_deadline)
    }
}

fn millis(deadline: Option<Duration>) -> u64 {
    deadline.map_or(0, |deadline| {
        u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_of_time() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("15m", 900),
            ("2h", 7_200),
            ("1d", 86_400),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "m",
            "1w",
            "-1",
            "0",
            "0s",
            "1.5h",
            "99999999999999999999",
            "999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
