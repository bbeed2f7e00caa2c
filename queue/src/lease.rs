//! The right to a job: how long it lasts and when it has been lost.
//!
//! A lease is (attempt, random id, expiry). The id fences: every write is compared with
//! it, so a holder that was given up can do no harm to the record. The expiry protects
//! the world: after the gate an engine changes things that no comparison guards, so the
//! queue may give its verdict only when that engine is surely dead. The holder promises
//! this by trusting less than it was given, counted from the *start* of the request that
//! renewed the lease, hence from a moment before the queue's own count began:
//!
//! ```text
//!  holder:  request starts ─────── trusted ───────▶ SIGINT ─▶ SIGKILL ─▶ dead
//!  queue:        └─▶ stored, expiry = max(old, now + ttl) ──────────────────── margin ─▶ lost
//! ```
//!
//! | | before the gate | after the gate |
//! |---|---|---|
//! | what the engine may have done | nothing | anything |
//! | ttl | 10 s | 600 s |
//! | trusted | all of it: the gate is the fence | ttl − 60 interrupt − 15 kill − 15 margin |
//! | when lost | another attempt | verdict `WORKER_LOST`, never run again by itself |
//! | control stream gone for 3 s, no contact since | lost | nothing |
//!
//! Within an attempt the expiry only grows. A reply tells what is *left* of the lease, so
//! a repeated request, which renews nothing, can make nobody trust too much.
//!
//! A queue that was away must not blame others for it: nothing is lost until the store
//! has been looked at without a break for the settle time ([`Settle`]). When one of several
//! replicas goes, leases before the gate are waited for as much longer, once ([`silent`]).

use std::time::Duration;

use proto::ids::LeaseId;
use proto::timings::Timings;
use proto::v1;

/// Longest pause between two looks that does not count as a break, as a part of the
/// settle time.
const BREAK_PART: u32 = 4;

/// On which side of the gate an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nothing in the world can have changed.
    BeforeGate,
    /// Anything may have.
    AfterGate,
}

/// How long a lease lasts from its renewal.
#[must_use]
pub fn ttl(side: Side, timings: &Timings) -> Duration {
    match side {
        Side::BeforeGate => timings.lease_pending,
        Side::AfterGate => timings.lease,
    }
}

/// The expiry after a renewal at `now_ms`: never earlier than it was.
#[must_use]
pub fn renewed(old_ms: i64, now_ms: i64, side: Side, timings: &Timings) -> i64 {
    old_ms.max(now_ms.saturating_add(millis(ttl(side, timings))))
}

/// After this time without a sign of life a replica is taken for gone, as far as its daemons
/// are waited for: before the first of their leases before the gate can end, which was
/// renewed an update's time before the replica went.
#[must_use]
pub fn silent(timings: &Timings) -> Duration {
    timings.lease_pending.saturating_sub(timings.update)
}

/// Whether a lease has run out.
#[must_use]
pub fn is_over(expires_ms: i64, now_ms: i64) -> bool {
    expires_ms <= now_ms
}

/// Whether the control grace of a daemon has run out, whose stream ended at `lost_ms`.
#[must_use]
pub fn control_is_over(lost_ms: i64, now_ms: i64, timings: &Timings) -> bool {
    lost_ms.saturating_add(millis(timings.control_grace)) <= now_ms
}

/// What is left of a lease, as the holder is told.
#[must_use]
pub fn remaining(
    id: LeaseId,
    attempt: u32,
    left: Duration,
    side: Side,
    timings: &Timings,
) -> v1::Lease {
    let reserve = match side {
        Side::BeforeGate => Duration::ZERO,
        Side::AfterGate => timings.lease_interrupt + timings.lease_kill + timings.lease_margin,
    };
    v1::Lease {
        id: id.as_bytes().to_vec(),
        attempt,
        ttl_ms: wire_millis(left),
        trusted_ms: wire_millis(left.saturating_sub(reserve)),
    }
}

/// Watches that the store is looked at without a break, and says when its leases may be
/// held against their holders.
#[derive(Debug, Clone, Default)]
pub struct Settle {
    since_ms: Option<i64>,
    last_ms: i64,
}

impl Settle {
    /// Notes a look at `now_ms`; true when leases may expire.
    pub fn look(&mut self, now_ms: i64, timings: &Timings) -> bool {
        let pause = now_ms.saturating_sub(self.last_ms);
        if pause > millis(timings.store_settle / BREAK_PART) {
            self.since_ms = None;
        }
        self.last_ms = now_ms;
        let since = *self.since_ms.get_or_insert(now_ms);
        now_ms.saturating_sub(since) >= millis(timings.store_settle)
    }

    /// The store could not be reached: the count begins anew.
    pub fn broken(&mut self) {
        self.since_ms = None;
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn wire_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> LeaseId {
        LeaseId::generate()
    }

    #[test]
    fn an_expiry_never_moves_back() {
        let t = Timings::default();
        let after = renewed(0, 1_000, Side::AfterGate, &t);
        assert_eq!(after, 601_000);
        assert_eq!(renewed(after, 2_000, Side::BeforeGate, &t), after);
        assert_eq!(renewed(after, 5_000, Side::AfterGate, &t), 605_000);
    }

    #[test]
    fn a_lease_is_over_at_its_expiry_and_not_before() {
        assert!(!is_over(10_000, 9_999));
        assert!(is_over(10_000, 10_000));
    }

    #[test]
    fn a_holder_trusts_what_is_left_minus_the_time_to_die() {
        let t = Timings::default();
        let full = remaining(id(), 1, t.lease, Side::AfterGate, &t);
        assert_eq!((full.ttl_ms, full.trusted_ms), (600_000, 510_000));
        let half = remaining(id(), 1, Duration::from_secs(300), Side::AfterGate, &t);
        assert_eq!(half.trusted_ms, 210_000);
        let gone = remaining(id(), 1, Duration::from_secs(50), Side::AfterGate, &t);
        assert_eq!(gone.trusted_ms, 0);
    }

    #[test]
    fn before_the_gate_all_of_it_is_trusted() {
        let t = Timings::default();
        let lease = remaining(id(), 1, t.lease_pending, Side::BeforeGate, &t);
        assert_eq!((lease.ttl_ms, lease.trusted_ms), (10_000, 10_000));
    }

    #[test]
    fn an_engine_trusted_to_the_last_moment_is_dead_before_the_verdict() {
        let t = Timings::default();
        let (request_start, stored) = (0, 700);
        let expiry = renewed(0, stored, Side::AfterGate, &t);
        let killed = request_start + millis(t.trusted() + t.lease_interrupt + t.lease_kill);
        assert!(!is_over(expiry, killed + millis(t.lease_margin)));
    }

    #[test]
    fn the_control_grace_ends_after_three_seconds() {
        let t = Timings::default();
        assert!(!control_is_over(1_000, 3_999, &t));
        assert!(control_is_over(1_000, 4_000, &t));
    }

    #[test]
    fn nothing_expires_before_twenty_unbroken_seconds() {
        let t = Timings::default();
        let mut settle = Settle::default();
        let mut now = 1_000_000;
        for _ in 0..20 {
            assert!(!settle.look(now, &t));
            now += 1_000;
        }
        assert!(settle.look(now, &t));
    }

    #[test]
    fn a_pause_or_a_broken_store_begins_the_count_anew() {
        let t = Timings::default();
        let mut settle = Settle::default();
        for second in 0..=20 {
            settle.look(second * 1_000, &t);
        }
        assert!(settle.look(21_000, &t));
        assert!(!settle.look(27_000, &t), "six seconds without a look");
        for second in 28..=47 {
            settle.look(second * 1_000, &t);
        }
        assert!(settle.look(48_000, &t));
        settle.broken();
        assert!(!settle.look(49_000, &t));
    }
}
