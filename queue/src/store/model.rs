//! What goes into the store and what comes out.
//!
//! Commands are typed here, parsed at the edge before they arrive. Answers that only
//! travel on to a client are the wire's own views (`proto::v1`), already without secrets.

mod audit;
mod blob;
mod build;
mod fleet;
mod identity;
mod limit;
mod outlook;
mod pool;
mod retention;
mod state;
mod template;

pub use audit::{Act, Actor, AuditEntry, AuditFilter};
pub use blob::{BlobContent, Holder, LeaseStanding, NewBlob, StoredBlob};
pub use build::{
    BuildBase, BuildWorkspace, CreateWorkspace, Deadlines, Forget, Submission, Submitted,
    WorkspaceName,
};
pub use fleet::{
    Abandon, Acquire, Acquired, Attendance, Begun, Checkpoint, DaemonContact, DaemonName,
    DaemonRef, Disposition, Expired, Finish, Finished, Gate, HandedOut, JobFilter, Lane, LogPage,
    Opened, Plan, ReplicaId, Update,
};
pub use identity::{Drain, KeyRow, NewKey, NewToken, OwnerProfile, Role, SecretHash, TokenRow};
pub use limit::SetLimit;
pub use outlook::{Crew, InHand, Outlook, Place, Queued, Standing, Work};
pub use pool::PoolDepth;
pub use retention::{KeepStates, Pruned, Retention};
pub use state::{PushState, Replace, Settle, Shown, StateSource};
pub use template::{Activate, BlobId, PlanTemplate, PushTemplate, VersionRow, VersionSelector};
