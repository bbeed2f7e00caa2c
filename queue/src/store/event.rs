//! What changed, told after COMMIT. Events only make things quick: a listener that
//! missed some (`RecvError::Lagged`) asks the store again and is right.

use proto::ids::JobId;

use crate::matching::{Affinity, Tags};
use crate::words::{Cancel, Kind};

/// One change; emitted only after it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A pending job may be taken: submitted, given back or withdrawn.
    JobReady {
        /// The job.
        job: JobId,
        /// Its organization.
        organization: String,
        /// Its tags.
        tags: Tags,
        /// The engine it needs; empty for any.
        engine: String,
        /// Its kind.
        kind: Kind,
        /// What daemons may have at hand of it.
        affinity: Affinity,
    },
    /// Something that the view of a job shows has changed.
    JobChanged(JobId),
    /// Lines were stored.
    LogsAppended(JobId),
    /// A daemon must stop a job it runs.
    CancelRequested {
        /// The job.
        job: JobId,
        /// The job's organization.
        organization: String,
        /// The daemon's name.
        daemon: String,
        /// How.
        kind: Cancel,
    },
    /// A daemon is to finish its jobs and take none.
    DrainRequested {
        /// The daemon's organization.
        organization: String,
        /// The daemon's name.
        daemon: String,
    },
    /// A key was deleted; its daemons may claim nothing more.
    KeyRevoked {
        /// The key's organization.
        organization: String,
        /// The key's name.
        key: String,
    },
    /// A client token was deleted; its open requests end.
    TokenRevoked {
        /// The token's name.
        token: String,
    },
    /// Some events did not come through: who relies on them asks the store again.
    Missed,
}
