//! Every duration the product waits for, in one struct, so that tests with real
//! processes can scale it (by at most 4) and paused-time tests freely. Constants beside
//! it are waits for what does not get quicker in a test: a peer's handshake, a kernel's
//! answer, a database that is down.
//!
//! The lease inequalities are theory, not taste; `tests` holds them:
//!
//! ```text
//!  request starts                                      trusted ends   lease ends
//!  |----------------------- trusted -------------------|-interrupt-|-kill-|-margin-|
//! ```
//!
//! After the gate an engine is interrupted at the end of the trusted window, killed
//! `lease_interrupt + lease_kill` later at the latest, and is dead a margin before the
//! queue may give its verdict. Before the gate nothing can have changed the world, so
//! a short lease needs no such reserve.

use std::time::Duration;

use crate::v1;

/// A connection's TLS handshake and HTTP/2 preface arrive in this time.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection carries a call with a good credential in this time, or is closed.
pub const INTRODUCTION: Duration = Duration::from_secs(30);

/// A unary request has arrived whole in this time.
pub const REQUEST: Duration = Duration::from_secs(120);

/// In each such time a transfer moves `limits::TRANSFER_PACE` bytes, or is cut.
pub const TRANSFER_STALL: Duration = Duration::from_secs(60);

/// A connection of the HTTP port that sends and takes nothing this long is closed.
pub const HTTP_IDLE: Duration = Duration::from_secs(90);

/// Between two looks at the TLS files.
pub const TLS_FILES: Duration = Duration::from_secs(2);

/// A dial of the queue that takes longer goes to the next attempt.
pub const CONNECT: Duration = Duration::from_secs(10);

/// A connection that is silent this long is asked for a sign of life (HTTP/2 PING), by
/// either side. That of an idle daemon is not: its acquire stream is answered, and the next
/// one opened, within [`Timings::acquire_max`], which is shorter.
pub const KEEPALIVE: Duration = Duration::from_secs(65);

/// Without that sign in this time the connection is dead.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A new supervisor hears what its job is, its `Timings` among it, in this time, or ends.
pub const CONFIGURE: Duration = Duration::from_secs(30);

/// A jail takes milliseconds; one that does not answer this long is broken, and its
/// supervisor must go on watching deadlines.
pub const JAIL: Duration = Duration::from_secs(10);

/// The last frames of a supervisor may take this long to leave.
pub const FAREWELL: Duration = Duration::from_secs(5);

/// What was killed is gone in this time; then it is said which process is not.
pub const DYING: Duration = Duration::from_secs(10);

/// A transition is tried this long while PostgreSQL is away: a restart or a failover is
/// shorter, and callers try again themselves.
pub const DATABASE: Duration = Duration::from_secs(10);

/// See the module. Every field is a wait; the comment says whose and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// Lease before the gate.
    pub lease_pending: Duration,
    /// Lease after the gate.
    pub lease: Duration,
    /// Part of the lease kept for an engine to answer SIGINT.
    pub lease_interrupt: Duration,
    /// Part of the lease kept for SIGKILL to end everything.
    pub lease_kill: Duration,
    /// Part of the lease kept for clocks and scheduling.
    pub lease_margin: Duration,
    /// A hand-out not confirmed in this time goes back.
    pub confirm: Duration,
    /// Longest time between two updates of a running job.
    pub update: Duration,
    /// Age of the oldest unsent line at which an update is sent.
    pub flush: Duration,
    /// Shortest and longest life of an acquire stream that finds no job.
    pub acquire_min: Duration,
    /// See `acquire_min`.
    pub acquire_max: Duration,
    /// SIGINT to SIGKILL after a user's cancel.
    pub cancel_grace: Duration,
    /// The same after `--force`.
    pub force_grace: Duration,
    /// The same when lease, daemon or worker is lost.
    pub lost_grace: Duration,
    /// The same under memory or disk pressure.
    pub pressure_grace: Duration,
    /// Between two looks at a job's memory and free disk space.
    pub pressure: Duration,
    /// Between two heartbeats of a worker or supervisor.
    pub heartbeat: Duration,
    /// A worker or supervisor silent this long is killed.
    pub silent: Duration,
    /// How long a restarted daemon waits for a living supervisor.
    pub restart_wait: Duration,
    /// A running job without update for this long shows `unreachable_since`: who asks 15 s
    /// after a host fell silent has it in the answer.
    pub unreachable: Duration,
    /// After the loss of a control stream, jobs before the gate go to others.
    pub control_grace: Duration,
    /// Between two `alive` events on the control stream of a daemon with jobs.
    pub control_alive: Duration,
    /// The same while it has none: nothing of it has to go to others soon, and it hears the
    /// queue on its acquire stream as well.
    pub control_idle: Duration,
    /// A stream that the queue opens with a word and that stays silent this long is held back
    /// by something on the way.
    pub first_message: Duration,
    /// A stream that ends sooner was cut by something on the way.
    pub stream_cut: Duration,
    /// Between two tries of streams by a daemon on short calls.
    pub stream_retry: Duration,
    /// How long such a daemon's ask for a job waits at the queue.
    pub acquire_poll: Duration,
    /// How often such a daemon asks for cancels of its jobs; five times as long without any.
    pub control_poll: Duration,
    /// First and longest reconnect backoff of a daemon.
    pub reconnect_min: Duration,
    /// See `reconnect_min`.
    pub reconnect_max: Duration,
    /// The longest of a daemon with jobs: they are somebody's who waits.
    pub reconnect_busy: Duration,
    /// How long the store must have answered without a break before leases expire.
    pub store_settle: Duration,
    /// Between two looks for leases and deadlines that are over; a break of a quarter of
    /// `store_settle` puts leases on hold.
    pub expire: Duration,
    /// Checkpoints are shipped at most this often.
    pub checkpoint_ship: Duration,
    /// Part of a drain's deadline kept for engines to answer SIGINT and for what follows.
    pub drain_interrupt: Duration,
    /// Part of it kept for the last uploads, behind the SIGKILL.
    pub drain_upload: Duration,
    /// A worker that has closed its connection is gone in this time, or is killed.
    pub worker_close: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            lease_pending: s(10),
            lease: s(600),
            lease_interrupt: s(60),
            lease_kill: s(15),
            lease_margin: s(15),
            confirm: s(15),
            update: s(3),
            flush: Duration::from_millis(250),
            acquire_min: s(56),
            acquire_max: s(60),
            cancel_grace: s(600),
            force_grace: s(5),
            lost_grace: s(60),
            pressure_grace: s(15),
            pressure: Duration::from_millis(250),
            heartbeat: s(1),
            silent: s(30),
            restart_wait: s(80),
            unreachable: Duration::from_millis(14_500),
            control_grace: s(3),
            control_alive: s(5),
            control_idle: s(60),
            first_message: Duration::from_millis(4_500),
            stream_cut: s(5),
            stream_retry: s(600),
            acquire_poll: s(3),
            control_poll: s(2),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: s(20),
            reconnect_busy: s(1),
            store_settle: s(20),
            expire: s(1),
            checkpoint_ship: s(1),
            drain_interrupt: s(25),
            drain_upload: s(10),
            worker_close: s(1),
        }
    }
}

impl Timings {
    /// How long a holder trusts a lease after the gate, from the start of the request
    /// that renewed it.
    #[must_use]
    pub fn trusted(&self) -> Duration {
        self.lease - self.lease_interrupt - self.lease_kill - self.lease_margin
    }

    /// All waits divided by `divisor`, for tests.
    #[must_use]
    pub fn divided(&self, divisor: u32) -> Self {
        let mut message = v1::Timings::from(self);
        for_each_field(&mut message, |millis| {
            *millis = (*millis / u64::from(divisor)).max(1);
        });
        Self::from(&message)
    }
}

macro_rules! millis_fields {
    ($($field:ident => $wire:ident),* $(,)?) => {
        impl From<&Timings> for v1::Timings {
            fn from(timings: &Timings) -> Self {
                Self { $($wire: u64::try_from(timings.$field.as_millis()).unwrap_or(u64::MAX)),* }
            }
        }

        impl From<&v1::Timings> for Timings {
            fn from(message: &v1::Timings) -> Self {
                Self { $($field: Duration::from_millis(message.$wire)),* }
            }
        }

        fn for_each_field(message: &mut v1::Timings, mut change: impl FnMut(&mut u64)) {
            $(change(&mut message.$wire);)*
        }
    };
}

millis_fields! {
    lease_pending => lease_pending_ms,
    lease => lease_ms,
    lease_interrupt => lease_interrupt_ms,
    lease_kill => lease_kill_ms,
    lease_margin => lease_margin_ms,
    confirm => confirm_ms,
    update => update_ms,
    flush => flush_ms,
    acquire_min => acquire_min_ms,
    acquire_max => acquire_max_ms,
    cancel_grace => cancel_grace_ms,
    force_grace => force_grace_ms,
    lost_grace => lost_grace_ms,
    pressure_grace => pressure_grace_ms,
    heartbeat => heartbeat_ms,
    silent => silent_ms,
    restart_wait => restart_wait_ms,
    unreachable => unreachable_ms,
    control_grace => control_grace_ms,
    control_alive => control_alive_ms,
    control_idle => control_idle_ms,
    reconnect_min => reconnect_min_ms,
    reconnect_max => reconnect_max_ms,
    store_settle => store_settle_ms,
    checkpoint_ship => checkpoint_ship_ms,
    pressure => pressure_ms,
    reconnect_busy => reconnect_busy_ms,
    expire => expire_ms,
    drain_interrupt => drain_interrupt_ms,
    drain_upload => drain_upload_ms,
    worker_close => worker_close_ms,
    first_message => first_message_ms,
    stream_cut => stream_cut_ms,
    stream_retry => stream_retry_ms,
    acquire_poll => acquire_poll_ms,
    control_poll => control_poll_ms,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_dead_before_its_lease_ends() {
        let t = Timings::default();
        assert_eq!(t.trusted(), Duration::from_secs(510));
        assert!(t.trusted() + t.lost_grace + t.lease_kill < t.lease);
        assert!(t.lost_grace <= t.lease_interrupt);
        assert!(t.restart_wait >= t.lost_grace + t.lease_kill);
    }

    #[test]
    fn several_updates_fit_into_the_shortest_lease() {
        let t = Timings::default();
        assert!(t.update * 3 <= t.lease_pending);
        assert!(t.heartbeat * 10 <= t.silent);
        assert!(t.control_alive < t.lease_pending);
    }

    #[test]
    fn a_daemon_on_short_calls_is_heard_before_it_is_given_up() {
        let t = Timings::default();
        assert!(t.control_poll <= Duration::from_secs(2), "a cancel");
        // Three of the seldom polls, or a try of streams between two of them.
        assert!(t.control_poll * 5 + t.first_message <= t.unreachable);
        assert!(t.acquire_poll + t.first_message <= t.unreachable);
    }

    #[test]
    fn idle_daemons_that_speak_are_not_asked_for_signs_of_life() {
        assert!(Timings::default().acquire_max < KEEPALIVE);
    }

    #[test]
    fn timings_survive_the_wire_and_scale_together() {
        let t = Timings::default();
        assert_eq!(Timings::from(&v1::Timings::from(&t)), t);
        assert_eq!(t.divided(4).lease, Duration::from_secs(150));
        assert_eq!(t.divided(1_000_000).flush, Duration::from_millis(1));
    }
}
