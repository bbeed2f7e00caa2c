//! How a transaction begins, and what is set for it.
//!
//! In a session that is ours alone what writing needs is set once, and a transaction that
//! reads sets it back for itself. Where others use the session too, each transaction that
//! writes sets it for itself.

use std::sync::LazyLock;

use super::pipeline::Naming;

/// A setting: for who writes, and for who reads where that differs.
type Setting = (&'static str, &'static str, Option<&'static str>);

/// A wait for a row ends before callers give up, and a transaction of a process that was
/// stopped in the middle lets go of its rows. Transitions look rows up by index, one after the
/// other. The planner, which knows little of a table that changes all the time, would now and
/// then read all of it for a join; a plan that it has made once is as good later. Entries of
/// rows that have gone are only cleared out of an index by those who walk along it: who makes
/// a bitmap of them, as the counts of jobs in hand would be, reads them again each time.
const SETTINGS: [Setting; 8] = [
    ("lock_timeout", "5s", None),
    ("idle_in_transaction_session_timeout", "15s", None),
    ("enable_seqscan", "off", Some("on")),
    ("enable_hashjoin", "off", Some("on")),
    ("enable_mergejoin", "off", Some("on")),
    ("enable_bitmapscan", "off", Some("on")),
    ("jit", "off", None),
    ("plan_cache_mode", "force_generic_plan", Some("auto")),
];

/// The server's clock, in Unix milliseconds.
const CLOCK: &str = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

/// Sets up a session that is ours alone.
pub(super) static SETUP: LazyLock<String> = LazyLock::new(|| {
    let all = SETTINGS.map(|(name, writing, _)| format!("SET {name} = '{writing}'"));
    all.join("; ")
});

static WRITING: LazyLock<String> =
    LazyLock::new(|| clock_and(SETTINGS.map(|(name, writing, _)| Some((name, writing)))));

/// A wait for a row holds up all who share the transaction.
const TOGETHER_LOCK_TIMEOUT: &str = "500ms";

static TOGETHER: LazyLock<String> = LazyLock::new(|| {
    clock_and(SETTINGS.map(|(name, writing, _)| match name {
        "lock_timeout" => Some((name, TOGETHER_LOCK_TIMEOUT)),
        _ => Some((name, writing)),
    }))
});

static BEGIN_TOGETHER: LazyLock<String> = LazyLock::new(|| {
    format!("{BEGIN_WRITING}; SET LOCAL lock_timeout = '{TOGETHER_LOCK_TIMEOUT}'")
});

const BEGIN_WRITING: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

static READING: LazyLock<String> =
    LazyLock::new(|| clock_and(SETTINGS.map(|(name, _, reading)| Some(name).zip(reading))));

fn clock_and(settings: [Option<(&str, &str)>; SETTINGS.len()]) -> String {
    let set = settings.into_iter().flatten();
    let set = set.map(|(name, value)| format!(", set_config('{name}', '{value}', true)"));
    std::iter::once(CLOCK.to_owned()).chain(set).collect()
}

/// Whether a transaction may change rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write,
    /// The same, for several callers.
    Together,
    Import,
}

/// What begins a transaction, and what is asked behind it: the time, and what is set for this
/// transaction and only for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    pub begin: &'static str,
    pub set: &'static str,
    /// Whether `set` does more than ask for the time.
    pub sets: bool,
}

impl Opening {
    pub(super) fn of(mode: Mode, naming: Naming) -> Self {
        let (set, sets) = match (mode, naming) {
            (Mode::Read, Naming::Prepared) => (READING.as_str(), true),
            (Mode::Write, Naming::Unnamed) => (WRITING.as_str(), true),
            (Mode::Together, Naming::Unnamed) => (TOGETHER.as_str(), true),
            (Mode::Write | Mode::Together, Naming::Prepared)
            | (Mode::Read, Naming::Unnamed)
            | (Mode::Import, _) => (CLOCK, false),
        };
        let begin = match mode {
            // One snapshot for all of its statements.
            Mode::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Mode::Write => BEGIN_WRITING,
            Mode::Together => BEGIN_TOGETHER.as_str(),
            // It fills empty tables from a stream that may be slow, in a session that is new.
            Mode::Import => {
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
                 SET LOCAL lock_timeout = '5s'; \
                 SET LOCAL statement_timeout = 0; \
                 SET LOCAL idle_in_transaction_session_timeout = 0"
            }
        };
        Self { begin, set, sets }
    }
}
