//! Who may speak to the queue: keys of daemons, tokens of clients.

use crate::matching::Tags;

/// SHA-256 of a key's or token's secret; the secret itself is never stored.
pub type SecretHash = [u8; 32];

/// What a client token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its owner's own workspaces and jobs.
    Member,
    /// Everything.
    Admin,
}

impl Role {
    /// As it stands in SQL and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }

    /// The role for its text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "member" => Some(Self::Member),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }
}

/// Whether a daemon takes new jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Drain {
    /// It finishes what it has.
    On,
    /// It works.
    #[default]
    Off,
}

/// A provisioner key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose daemons it admits.
    pub organization: String,
    /// Unique in the organization.
    pub name: String,
    /// Exact pairs, or `*` as the value for any.
    pub tags: Tags,
    /// Hash of the secret.
    pub hash: SecretHash,
}

/// A provisioner key as found by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Whose daemons it admits.
    pub organization: String,
    /// Its name.
    pub name: String,
    /// Exact pairs, or `*` as the value for any.
    pub tags: Tags,
}

/// A client token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The one organization it may name; `None` for all.
    pub organization: Option<String>,
    /// Unique in the queue.
    pub name: String,
    /// Whose requests it carries.
    pub owner: String,
    /// What it may do.
    pub role: Role,
    /// Hash of the secret.
    pub hash: SecretHash,
}

/// A client token as found by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The one organization it may name; `None` for all.
    pub organization: Option<String>,
    /// Its name.
    pub name: String,
    /// Whose requests it carries.
    pub owner: String,
    /// What it may do.
    pub role: Role,
}

/// What templates may know of an owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerProfile {
    /// The owner's name, unique in the organization.
    pub name: String,
    /// Empty when unknown.
    pub email: String,
    /// Empty when unknown.
    pub full_name: String,
    /// Names of groups.
    pub groups: Vec<String>,
}
