//! How much a provisioner key may store for leases that the queue does not know.
//!
//! After a restore from an older backup a daemon still delivers what the queue has
//! forgotten, so a put for an unknown lease is taken. It proves nothing, though, but a
//! key: what comes that way is counted per key. Blobs are swept after their age, unless a
//! kept finish names them; those finishes, which stay, count with all that they name.

use proto::limits;

/// What a key has stored for unknown leases and was not swept yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// How many blobs and finishes.
    pub blobs: u64,
    /// Their uncompressed bytes.
    pub bytes: u64,
}

/// The allowance is used up; the message names the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Spent {
    /// Too many.
    #[error(
        "this key has stored {} blobs and endings for leases that the queue does not know, which is the limit",
        limits::UNKNOWN_LEASE_BLOBS
    )]
    Blobs,
    /// Too large.
    #[error(
        "with {size} bytes more this key would exceed the limit of {} bytes for leases that the queue does not know",
        limits::UNKNOWN_LEASE_BYTES
    )]
    Bytes {
        /// Of the blob or finish that was refused.
        size: u64,
    },
}

/// Whether one more blob or finish of `size` bytes is taken.
///
/// # Errors
/// Which limit it would break.
pub fn admit(used: Used, size: u64) -> Result<(), Spent> {
    if used.blobs >= limits::UNKNOWN_LEASE_BLOBS {
        return Err(Spent::Blobs);
    }
    if used.bytes.saturating_add(size) > limits::UNKNOWN_LEASE_BYTES {
        return Err(Spent::Bytes { size });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_that_fits_is_taken_and_the_next_is_not() {
        let used = |blobs, bytes| Used { blobs, bytes };
        assert_eq!(admit(used(9_999, 0), 1), Ok(()));
        assert_eq!(admit(used(10_000, 0), 1), Err(Spent::Blobs));
        let all = 8 * 1024 * 1024 * 1024;
        assert_eq!(admit(used(1, all - 5), 5), Ok(()));
        let over = admit(used(1, all - 5), 6).expect_err("over");
        assert_eq!(over, Spent::Bytes { size: 6 });
        assert!(over.to_string().contains("8589934592"), "{over}");
        assert!(admit(used(1, 1), u64::MAX).is_err());
    }
}
