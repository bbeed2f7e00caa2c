//! Identifiers. Each kind is a type of its own; all are UUIDs, of version 7 (ordered by
//! time) where a table is sorted by them, random where they fence or hide something.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

/// The text is no identifier of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind} id")]
pub struct Invalid {
    kind: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A new identifier, later than all before it in this process.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl $name {
            /// When it was made, to the millisecond.
            #[must_use]
            pub fn made_at(self) -> Option<SystemTime> {
                let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
                SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                Uuid::parse_str(text).map(Self).map_err(|_| Invalid {
                    kind: $kind,
                    text: text.to_owned(),
                })
            }
        }
    };
}

id!(
    /// A job.
    JobId, "job"
);
id!(
    /// A template, through all its versions.
    TemplateId, "template"
);
id!(
    /// One version of a template.
    VersionId, "template version"
);
id!(
    /// A workspace.
    WorkspaceId, "workspace"
);
id!(
    /// One build of a workspace.
    BuildId, "build"
);
id!(
    /// One stored state of a workspace.
    StateId, "state"
);

/// Random 128 bits that fence every write of one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId([u8; 16]);

impl LeaseId {
    /// A new lease id from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(*Uuid::new_v4().as_bytes())
    }

    /// The bytes as they travel.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<&[u8]> for LeaseId {
    type Error = Invalid;

    fn try_from(bytes: &[u8]) -> Result<Self, Invalid> {
        bytes.try_into().map(Self).map_err(|_| Invalid {
            kind: "lease",
            text: format!("{} bytes", bytes.len()),
        })
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// SHA-256 of a blob's uncompressed bytes: its address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// From the output of a hasher that saw all bytes.
    #[must_use]
    pub fn from_array(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes as they travel.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = Invalid;

    fn try_from(bytes: &[u8]) -> Result<Self, Invalid> {
        bytes.try_into().map(Self).map_err(|_| Invalid {
            kind: "blob",
            text: format!("{} bytes", bytes.len()),
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Digest({:02x}{:02x}{:02x}{:02x}…)",
            self.0[0], self.0[1], self.0[2], self.0[3]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_refuse_garbage_by_kind() {
        let id = JobId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        let refused = "../etc".parse::<JobId>().expect_err("garbage");
        assert_eq!(refused.to_string(), "`../etc` is no job id");
    }

    #[test]
    fn a_digest_is_sha256_in_hex() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
