//! Who did what.

use std::borrow::Cow;

use proto::ids::JobId;

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A client.
    Token {
        /// The token's name.
        name: String,
        /// Whose requests it carries.
        owner: String,
    },
    /// A daemon.
    Key {
        /// The key's name.
        name: String,
        /// The daemon that carries it.
        daemon: String,
    },
    /// The queue by itself.
    Queue,
    /// Who showed no credential that exists.
    Unknown,
}

impl Actor {
    /// Which kind of actor it is, as it stands in SQL and on the wire.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Key { .. } => "key",
            Self::Queue => "queue",
            Self::Unknown => "unknown",
        }
    }

    /// Name of its credential.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Token { name, .. } | Self::Key { name, .. } => name,
            Self::Queue | Self::Unknown => "",
        }
    }

    /// For whom it acts.
    #[must_use]
    pub fn owner(&self) -> &str {
        match self {
            Self::Token { owner, .. } => owner,
            Self::Key { daemon, .. } => daemon,
            Self::Queue | Self::Unknown => "",
        }
    }
}

/// What somebody is about to do. The store notes it together with what it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Where; empty for who belongs nowhere.
    pub organization: String,
    /// Who.
    pub actor: Actor,
    /// Name of the call.
    pub call: Cow<'static, str>,
    /// What it is about, as the caller names it; short and plain.
    pub object: String,
    /// The address it came from; empty for the queue's own.
    pub peer: String,
}

impl Act {
    /// The outcome of what was done.
    pub const DONE: &'static str = "done";

    /// Something that the queue does by itself.
    #[must_use]
    pub fn of_queue(organization: &str, call: &'static str, object: &str) -> Self {
        Self {
            organization: organization.to_owned(),
            actor: Actor::Queue,
            call: Cow::Borrowed(call),
            object: object.to_owned(),
            peer: String::new(),
        }
    }
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Who and what.
    pub act: Act,
    /// The job that it made or ended.
    pub job: Option<JobId>,
    /// What became of it: [`Act::DONE`], or the code of a refusal.
    pub outcome: String,
    /// How often in a row.
    pub times: u64,
}

/// Which lines of the audit log are shown, newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// The organization; empty for who belongs nowhere.
    pub organization: String,
    /// Not before this time.
    pub since_ms: i64,
    /// Only this token, key, owner or daemon; empty for all.
    pub actor: String,
    /// Only this call; empty for all.
    pub call: String,
    /// Only this object or job; empty for all.
    pub object: String,
    /// Only lines before this one.
    pub before: Option<u64>,
    /// At most this many.
    pub limit: u32,
}
