//! One line of an engine's `-json` output, understood as far as this product needs it.
//! Event types that are unknown are plain messages; fields that are unknown do no harm;
//! lines that are no JSON at all are messages too.

use proto::v1::{LedgerAction, LogLevel};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::diagnostic::Diagnostic;

/// A data source that took this long is worth a line.
const SLOW_READ_MS: u64 = 1_000;

/// What engines warn of when providers come from a mirror.
const INCOMPLETE_LOCK_FILE: &str = "Incomplete lock file information for providers";

/// What Terraform prints outside its events about the backend that we chose.
const BACKEND_CHATTER: [&[u8]; 3] = [
    b"",
    b"Successfully configured the backend \"local\"! Terraform will automatically",
    b"use this backend unless the backend configuration changes.",
];

/// A parsed line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) level: LogLevel,
    /// What a person reads: the engine's own message.
    pub(super) message: String,
    /// Unix milliseconds, `None` when the line has no usable time.
    pub(super) time_ms: Option<i64>,
    pub(super) kind: Kind,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Nothing but its message.
    Message,
    /// One change of a plan, `None` of an unknown shape; an apply of a saved plan says them
    /// all again.
    Planned(Option<Box<Change>>),
    /// A plan looks at what a resource is by now.
    Existing(Box<Hook>),
    Diagnostic(Box<Diagnostic>),
    /// Something happened to a resource.
    Hook(Step, Box<Hook>),
}

/// Which moment of a resource's life a hook tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Started,
    Complete,
    Errored,
    ProvisionStarted,
    ProvisionComplete,
    ProvisionErrored,
}

/// The resource of a hook and what is done to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hook {
    pub(super) address: String,
    pub(super) resource_type: String,
    /// Unspecified in provisioner events, which do not carry it.
    pub(super) action: LedgerAction,
    pub(super) id_key: String,
    pub(super) id_value: String,
    pub(super) elapsed_ms: u64,
}

/// What a plan does to a resource. Nothing real is done where the action is unspecified.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) address: String,
    pub(super) action: LedgerAction,
}

/// Parses one line of standard output, without its line feed.
pub(super) fn parse(line: &[u8]) -> Event {
    if line.first() == Some(&b'{')
        && let Ok(raw) = serde_json::from_slice::<Raw>(line)
        && let Some(message) = raw.message.as_deref()
    {
        return event(&raw, message);
    }
    raw(line)
}

/// Output that is no event, shown as it is.
pub(super) fn raw(text: &[u8]) -> Event {
    Event {
        level: if BACKEND_CHATTER.contains(&text) {
            LogLevel::Debug
        } else {
            LogLevel::Info
        },
        message: String::from_utf8_lossy(text).into_owned(),
        time_ms: None,
        kind: Kind::Message,
    }
}

/// Parses one line of standard error: what is no JSON is an error; engines log there in
/// JSON when asked for traces.
pub(super) fn parse_stderr(line: &[u8]) -> Event {
    let mut event = parse(line);
    let plain = event.time_ms.is_none() && event.kind == Kind::Message;
    if plain {
        event.level = LogLevel::Error;
    } else if event.level == LogLevel::Info {
        event.level = LogLevel::Debug;
    }
    event
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "@level", default)]
    level: String,
    #[serde(rename = "@message")]
    message: Option<String>,
    #[serde(rename = "@timestamp", default)]
    timestamp: String,
    #[serde(rename = "type", default)]
    kind: String,
    // Kept raw: a hook of an unknown shape must not cost the message.
    #[serde(borrow)]
    diagnostic: Option<&'a RawValue>,
    #[serde(borrow)]
    hook: Option<&'a RawValue>,
    #[serde(borrow)]
    change: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawChange {
    resource: RawResource,
    #[serde(default)]
    action: String,
}

#[derive(Deserialize)]
struct RawHook {
    resource: RawResource,
    #[serde(default)]
    action: String,
    #[serde(default)]
    id_key: String,
    #[serde(default)]
    id_value: serde_json::Value,
    #[serde(default)]
    elapsed_seconds: f64,
}

#[derive(Deserialize)]
struct RawResource {
    addr: String,
    #[serde(default)]
    resource_type: String,
}

fn event(raw: &Raw<'_>, message: &str) -> Event {
    let mut event = Event {
        level: level(&raw.level),
        message: message.to_owned(),
        time_ms: time_ms(&raw.timestamp),
        kind: kind(raw).unwrap_or(Kind::Message),
    };
    if let Kind::Diagnostic(diagnostic) = &event.kind {
        event.level = diagnostic.level();
        event.message = diagnostic.render();
    }
    if says_nothing_new(raw, &event) {
        event.level = LogLevel::Debug;
    }
    event
}

/// Whether a reader can do without the line: it says what a line of ours says, or only
/// that something quick has begun. It stays in the log, one level down.
fn says_nothing_new(raw: &Raw<'_>, event: &Event) -> bool {
    if event.level != LogLevel::Info && event.level != LogLevel::Warn {
        return false;
    }
    match (raw.kind.as_str(), &event.kind) {
        ("version" | "init_output" | "outputs" | "refresh_start" | "refresh_complete", _) => true,
        (_, Kind::Hook(_, hook)) => {
            hook.action == LedgerAction::Read && hook.elapsed_ms < SLOW_READ_MS
        }
        // Mirrors and the kept lock file are ours, and so is the platform they are for.
        (_, Kind::Diagnostic(found)) => found.summary == INCOMPLETE_LOCK_FILE,
        ("log", Kind::Message) => event.message.contains(" is built in to "),
        (_, Kind::Message | Kind::Planned(_) | Kind::Existing(_)) => false,
    }
}

fn kind(raw: &Raw<'_>) -> Option<Kind> {
    let step = match raw.kind.as_str() {
        "diagnostic" => {
            let diagnostic = serde_json::from_str(raw.diagnostic?.get()).ok()?;
            return Some(Kind::Diagnostic(Box::new(diagnostic)));
        }
        "planned_change" => return Some(Kind::Planned(change(raw).map(Box::new))),
        "refresh_start" => {
            let hook: RawHook = serde_json::from_str(raw.hook?.get()).ok()?;
            return Some(Kind::Existing(Box::new(hook.into())));
        }
        "apply_start" => Step::Started,
        "apply_complete" => Step::Complete,
        "apply_errored" => Step::Errored,
        "provision_start" => Step::ProvisionStarted,
        "provision_complete" => Step::ProvisionComplete,
        "provision_errored" => Step::ProvisionErrored,
        _ => return None,
    };
    let hook: RawHook = serde_json::from_str(raw.hook?.get()).ok()?;
    Some(Kind::Hook(step, Box::new(hook.into())))
}

fn change(raw: &Raw<'_>) -> Option<Change> {
    let change: RawChange = serde_json::from_str(raw.change?.get()).ok()?;
    let action = match change.action.as_str() {
        // Only the state lets go of it.
        "remove" | "forget" => LedgerAction::Unspecified,
        word => action(word),
    };
    Some(Change {
        address: change.resource.addr,
        action,
    })
}

impl From<RawHook> for Hook {
    fn from(raw: RawHook) -> Self {
        let id_value = match raw.id_value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Null => String::new(),
            other => other.to_string(),
        };
        Self {
            address: raw.resource.addr,
            resource_type: raw.resource.resource_type,
            action: action(&raw.action),
            id_key: raw.id_key,
            id_value,
            elapsed_ms: elapsed_ms(raw.elapsed_seconds),
        }
    }
}

fn action(word: &str) -> LedgerAction {
    match word {
        "create" => LedgerAction::Create,
        "update" => LedgerAction::Update,
        "delete" | "remove" | "forget" => LedgerAction::Delete,
        "replace" => LedgerAction::Replace,
        "read" => LedgerAction::Read,
        _ => LedgerAction::Unspecified,
    }
}

fn level(word: &str) -> LogLevel {
    match word {
        "trace" => LogLevel::Trace,
        "debug" => LogLevel::Debug,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        _ => LogLevel::Info,
    }
}

fn time_ms(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_millisecond)
}

/// Engines print whole seconds; anything absurd counts as zero.
fn elapsed_ms(seconds: f64) -> u64 {
    std::time::Duration::try_from_secs_f64(seconds)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
