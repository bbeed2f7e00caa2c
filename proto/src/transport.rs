//! How a daemon reaches the queue, as the queue keeps it among the daemon's facts. The
//! queue sets it by the calls that come; what a daemon says of it does not count.

use std::collections::BTreeMap;

/// The fact's name.
pub const FACT: &str = "transport";

/// Its value for short calls. A daemon on streams, as nearly all are, has no such fact.
pub const UNARY: &str = "unary";

/// The two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Streams that stand.
    Streams,
    /// Short calls, because something on the way does not let streams through.
    Unary,
}

impl Transport {
    /// What the facts of a daemon say.
    #[must_use]
    pub fn of(facts: &BTreeMap<String, String>) -> Self {
        match facts.get(FACT).map(String::as_str) {
            Some(UNARY) => Self::Unary,
            Some(_) | None => Self::Streams,
        }
    }

    /// Makes the facts say this.
    pub fn note(self, facts: &mut BTreeMap<String, String>) {
        match self {
            Self::Streams => facts.remove(FACT),
            Self::Unary => facts.insert(FACT.to_owned(), UNARY.to_owned()),
        };
    }

    /// For people and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Unary => UNARY,
        }
    }
}
