//! Events as they travel between replicas: JSON in the payload of a NOTIFY.
//!
//! A release reads what it knows and takes anything else for a gap, so that two releases
//! can share a database.

use proto::ids::JobId;
use serde::{Deserialize, Serialize};

use crate::matching::{Affinity, Tags};
use crate::store::Event;
use crate::words::{Cancel, Kind};

/// A payload must be shorter than 8,000 bytes; the rest is the envelope's.
const PAYLOAD: usize = 7_900;

/// One payload.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    /// The replica that sends it; it has told its own listeners already.
    from: String,
    events: Vec<Told>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Ready {
        job: String,
        organization: String,
        tags: Tags,
        // Releases before this one tell less.
        #[serde(default)]
        engine: String,
        kind: String,
        #[serde(default)]
        version: String,
        #[serde(default)]
        providers: String,
    },
    Changed(String),
    Logs(String),
    Cancel {
        job: String,
        organization: String,
        daemon: String,
        kind: String,
    },
    Drain {
        organization: String,
        daemon: String,
    },
    Revoked {
        organization: String,
        key: String,
    },
    TokenRevoked(String),
    Missed,
}

/// Packs events of replica `from` into as few payloads as they need, each told once.
pub(super) fn pack(from: &str, events: impl IntoIterator<Item = Event>) -> Vec<String> {
    let mut payloads = Vec::new();
    let (mut batch, mut size) = (Vec::new(), 0);
    let mut seen = std::collections::HashSet::new();
    for event in events {
        let mut told = Told::from(event);
        if length(&told) > PAYLOAD - 100 {
            told = Told::Missed;
        }
        if !seen.insert(told.clone()) {
            continue;
        }
        let more = length(&told) + 1;
        if size + more > PAYLOAD - 100 {
            payloads.push(envelope(from, std::mem::take(&mut batch)));
            size = 0;
        }
        size += more;
        batch.push(told);
    }
    if !batch.is_empty() {
        payloads.push(envelope(from, batch));
    }
    payloads
}

/// A payload like no other one that says nothing to anybody.
pub(super) fn echo() -> String {
    envelope(&uuid::Uuid::new_v4().to_string(), Vec::new())
}

/// What a payload says to the replica `own`; nothing when it is its own.
pub(super) fn unpack(own: &str, payload: &str) -> Vec<Event> {
    let Ok(envelope) = serde_json::from_str::<Envelope>(payload) else {
        return vec![Event::Missed];
    };
    if envelope.from == own {
        return Vec::new();
    }
    let events = envelope.events.into_iter();
    events
        .map(|told| told.event().unwrap_or(Event::Missed))
        .collect()
}

fn length(told: &Told) -> usize {
    serde_json::to_string(told).map_or(usize::MAX, |text| text.len())
}

fn envelope(from: &str, events: Vec<Told>) -> String {
    let from = from.to_owned();
    serde_json::to_string(&Envelope { from, events })
        .expect("invariant: words and maps of words are JSON")
}

impl From<Event> for Told {
    fn from(event: Event) -> Self {
        match event {
            Event::JobReady {
                job,
                organization,
                tags,
                engine,
                kind,
                affinity,
            } => Self::Ready {
                job: job.to_string(),
                organization,
                tags,
                engine,
                kind: kind.as_str().to_owned(),
                version: affinity.version,
                providers: affinity.providers,
            },
            Event::JobChanged(job) => Self::Changed(job.to_string()),
            Event::LogsAppended(job) => Self::Logs(job.to_string()),
            Event::CancelRequested {
                job,
                organization,
                daemon,
                kind,
            } => Self::Cancel {
                job: job.to_string(),
                organization,
                daemon,
                kind: kind.as_str().to_owned(),
            },
            Event::DrainRequested {
                organization,
                daemon,
            } => Self::Drain {
                organization,
                daemon,
            },
            Event::KeyRevoked { organization, key } => Self::Revoked { organization, key },
            Event::TokenRevoked { token } => Self::TokenRevoked(token),
            Event::Missed => Self::Missed,
        }
    }
}

impl Told {
    /// `None` when a word in it is not known here.
    fn event(self) -> Option<Event> {
        let id = |text: String| text.parse::<JobId>().ok();
        Some(match self {
            Self::Ready {
                job,
                organization,
                tags,
                engine,
                kind,
                version,
                providers,
            } => Event::JobReady {
                job: id(job)?,
                organization,
                tags,
                engine,
                kind: Kind::from_text(&kind)?,
                affinity: Affinity { version, providers },
            },
            Self::Changed(job) => Event::JobChanged(id(job)?),
            Self::Logs(job) => Event::LogsAppended(id(job)?),
            Self::Cancel {
                job,
                organization,
                daemon,
                kind,
            } => Event::CancelRequested {
                job: id(job)?,
                organization,
                daemon,
                kind: Cancel::from_text(&kind)?,
            },
            Self::Drain {
                organization,
                daemon,
            } => Event::DrainRequested {
                organization,
                daemon,
            },
            Self::Revoked { organization, key } => Event::KeyRevoked { organization, key },
            Self::TokenRevoked(token) => Event::TokenRevoked { token },
            Self::Missed => Event::Missed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(tags: Tags) -> Event {
        Event::JobReady {
            job: JobId::generate(),
            organization: "default".to_owned(),
            tags,
            engine: "tofu".to_owned(),
            kind: Kind::WorkspaceBuild,
            affinity: Affinity {
                version: "a version".to_owned(),
                providers: "some".to_owned(),
            },
        }
    }

    fn every() -> Vec<Event> {
        let (organization, daemon) = ("default".to_owned(), "d \"1\"".to_owned());
        vec![
            ready(Tags::from([("k".to_owned(), "v".to_owned())])),
            Event::JobChanged(JobId::generate()),
            Event::LogsAppended(JobId::generate()),
            Event::CancelRequested {
                job: JobId::generate(),
                organization: organization.clone(),
                daemon: daemon.clone(),
                kind: Cancel::Cancel,
            },
            Event::DrainRequested {
                organization: organization.clone(),
                daemon,
            },
            Event::KeyRevoked {
                organization,
                key: "key".to_owned(),
            },
            Event::TokenRevoked {
                token: "token".to_owned(),
            },
            Event::Missed,
        ]
    }

    #[test]
    fn what_one_replica_packs_the_others_unpack_and_itself_does_not() {
        let payloads = pack("a", every());
        assert_eq!(payloads.len(), 1);
        assert_eq!(unpack("b", &payloads[0]), every_again(&payloads[0]));
        assert_eq!(unpack("b", &payloads[0]).len(), 8);
        assert_eq!(unpack("a", &payloads[0]), []);
    }

    /// Packing is the same whoever packs it, so a second trip changes nothing.
    fn every_again(payload: &str) -> Vec<Event> {
        let events = unpack("b", payload);
        let again = pack("c", events.clone());
        assert_eq!(unpack("d", &again[0]), events);
        events
    }

    #[test]
    fn a_payload_stays_below_the_servers_limit() {
        let wide = (0..40).map(|n| (format!("key {n}"), "v".repeat(60)));
        let events: Vec<_> = (0..50).map(|_| ready(wide.clone().collect())).collect();
        let payloads = pack("a", events.clone());
        assert!(payloads.len() > 1);
        assert!(payloads.iter().all(|payload| payload.len() < 8_000));
        let all: Vec<_> = payloads.iter().flat_map(|p| unpack("b", p)).collect();
        assert_eq!(all, events);
        let huge = Tags::from([("k".to_owned(), "v".repeat(9_000))]);
        assert_eq!(unpack("b", &pack("a", [ready(huge)])[0]), [Event::Missed]);
    }

    #[test]
    fn an_echo_says_nothing_to_anybody() {
        let echo = echo();
        assert_eq!(unpack("a", &echo), []);
        assert_ne!(echo, super::echo());
    }

    #[test]
    fn a_repeated_event_is_told_once() {
        let event = Event::LogsAppended(JobId::generate());
        let payloads = pack("a", vec![event.clone(); 100]);
        assert_eq!(unpack("b", &payloads[0]), [event]);
    }

    #[test]
    fn what_a_newer_release_says_is_a_gap() {
        assert_eq!(
            unpack("b", r#"{"from":"a","events":[{"newer":1}]}"#),
            [Event::Missed]
        );
        let kind = r#"{"from":"a","events":[{"cancel":{"job":"x","organization":"","daemon":"","kind":"new"}}]}"#;
        assert_eq!(unpack("b", kind), [Event::Missed]);
    }
}
