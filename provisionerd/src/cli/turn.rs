//! What a submitted job asks of the queue: how its turn comes.

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
}
