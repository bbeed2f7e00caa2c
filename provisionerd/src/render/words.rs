//! Enums of the protocol as the words that outputs use. `None` stands for "does not
//! apply".

use proto::v1::{
    ErrorClass, JobKind, JobStatus, LedgerAction, LimitOf, LogLevel, LogSource, Outcome, Phase,
    Priority, Transition,
};

pub fn kind(kind: JobKind) -> Option<&'static str> {
    match kind {
        JobKind::Unspecified => None,
        JobKind::TemplateImport => Some("template_import"),
        JobKind::TemplateDryRun => Some("template_dry_run"),
        JobKind::WorkspaceBuild => Some("workspace_build"),
    }
}

pub fn transition(transition: Transition) -> Option<&'static str> {
    match transition {
        Transition::Unspecified => None,
        Transition::Start => Some("start"),
        Transition::Stop => Some("stop"),
        Transition::Delete => Some("delete"),
    }
}

pub fn limit_of(of: LimitOf) -> Option<&'static str> {
    match of {
        LimitOf::Unspecified => None,
        LimitOf::Owner => Some("owner"),
        LimitOf::Template => Some("template"),
    }
}

pub fn status(status: JobStatus) -> Option<&'static str> {
    match status {
        JobStatus::Unspecified => None,
        JobStatus::Pending => Some("pending"),
        JobStatus::Running => Some("running"),
        JobStatus::Canceling => Some("canceling"),
        JobStatus::Succeeded => Some("succeeded"),
        JobStatus::Canceled => Some("canceled"),
        JobStatus::Failed => Some("failed"),
    }
}

/// Whether a job with this status has ended.
pub fn has_ended(status: JobStatus) -> bool {
    match status {
        JobStatus::Succeeded | JobStatus::Canceled | JobStatus::Failed => true,
        JobStatus::Unspecified | JobStatus::Pending | JobStatus::Running | JobStatus::Canceling => {
            false
        }
    }
}

pub fn outcome(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Unspecified => None,
        Outcome::Succeeded => Some("succeeded"),
        Outcome::Failed => Some("failed"),
        Outcome::Canceled => Some("canceled"),
        Outcome::Released => Some("released"),
    }
}

pub fn phase(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Unspecified => None,
        Phase::Setup => Some("setup"),
        Phase::Init => Some("init"),
        Phase::Plan => Some("plan"),
        Phase::Apply => Some("apply"),
        Phase::Cleanup => Some("cleanup"),
    }
}

pub fn class(class: ErrorClass) -> Option<&'static str> {
    match class {
        ErrorClass::Unspecified => None,
        ErrorClass::User => Some("user"),
        ErrorClass::Provider => Some("provider"),
        ErrorClass::Capacity => Some("capacity"),
        ErrorClass::Internal => Some("internal"),
    }
}

pub fn priority(priority: Priority) -> Option<&'static str> {
    match priority {
        Priority::Unspecified => None,
        Priority::Interactive => Some("interactive"),
        Priority::Automatic => Some("automatic"),
    }
}

pub fn action(action: LedgerAction) -> Option<&'static str> {
    match action {
        LedgerAction::Unspecified => None,
        LedgerAction::Create => Some("create"),
        LedgerAction::Update => Some("update"),
        LedgerAction::Delete => Some("delete"),
        LedgerAction::Replace => Some("replace"),
        LedgerAction::Read => Some("read"),
    }
}

pub fn source(source: LogSource) -> Option<&'static str> {
    match source {
        LogSource::Unspecified => None,
        LogSource::Engine => Some("engine"),
        LogSource::System => Some("system"),
        LogSource::Gap => Some("gap"),
    }
}

pub fn level(level: LogLevel) -> Option<&'static str> {
    match level {
        LogLevel::Unspecified => None,
        LogLevel::Trace => Some("trace"),
        LogLevel::Debug => Some("debug"),
        LogLevel::Info => Some("info"),
        LogLevel::Warn => Some("warn"),
        LogLevel::Error => Some("error"),
    }
}

/// A text that the protocol leaves empty when there is none.
pub fn filled(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// `1 slot`, `2 slots`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
