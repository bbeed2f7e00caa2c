//! Why an engine failed, as class and code. The phase and where a diagnostic comes from
//! (a place in the template, or a provider working on a resource) decide; a few
//! summaries that engines have used for years tell more.

use proto::v1::{JobError, Phase};

use super::diagnostic::Diagnostic;

/// Makes the error of a known cause from its message.
type Cause = fn(String) -> JobError;

/// Summaries of engines that name a cause which the user can mend.
const KNOWN: [(&str, Cause); 10] = [
    ("Resource precondition failed", condition),
    ("Resource postcondition failed", condition),
    ("Module output value precondition failed", condition),
    ("No value for required variable", required_variable),
    (
        "Failed to query available provider packages",
        provider_missing,
    ),
    ("Failed to install provider", provider_missing),
    ("Failed to resolve provider packages", provider_missing),
    (
        "Could not retrieve the list of available versions",
        provider_missing,
    ),
    ("Required plugins are not installed", provider_missing),
    ("Inconsistent dependency lock file", lock_file),
];

/// Summaries about modules that could not be fetched all start like this.
const MODULE_SUMMARIES: [&str; 5] = [
    "Failed to download module",
    "Unreadable module directory",
    "Error accessing remote module registry",
    "Module not found",
    "Could not download module",
];

/// How many errors a verdict quotes; the log has all.
const QUOTED: usize = 5;

/// Bytes of one quoted error. Providers put whole replies of a cloud into theirs; an
/// outcome must stay small enough to travel.
const QUOTE: usize = 4 * 1024;

/// The verdict on an engine that exited with an error of its own.
pub(super) fn failed(phase: Phase, errors: &[Diagnostic]) -> JobError {
    let message = quote(phase, errors);
    let Some(first) = errors.first() else {
        return by_phase(phase, message);
    };
    if let Some((_, verdict)) = KNOWN
        .iter()
        .find(|(start, _)| first.summary.starts_with(start))
    {
        return verdict(message);
    }
    if MODULE_SUMMARIES
        .iter()
        .any(|start| first.summary.starts_with(start))
    {
        return JobError::user("MODULE_NOT_AVAILABLE", message)
            .hint("Check the module's source, and that the daemon can reach it.");
    }
    let configuration = first.address.is_empty() && first.range.is_some();
    if configuration && phase != Phase::Apply {
        return JobError::user("TEMPLATE_INVALID", message)
            .hint("Mend the template at the place the error names.");
    }
    by_phase(phase, message)
}

/// The engine was ended by a signal that nobody of ours sent.
pub(super) fn killed(phase: Phase, signal: i32) -> JobError {
    let message = format!(
        "the engine was killed by signal {signal} in {}",
        word(phase)
    );
    JobError::internal("ENGINE_KILLED", message)
        .hint("Often the host ran out of memory: see its kernel log.")
}

/// The engine could not be started.
pub(super) fn not_started(layer: &str, errno: i32, message: &str) -> JobError {
    let system = if errno == 0 {
        String::new()
    } else {
        format!(" ({})", std::io::Error::from_raw_os_error(errno))
    };
    let text = format!("the engine could not be started, {layer}: {message}{system}");
    JobError::internal("ENGINE_NOT_STARTED", text).hint("The daemon's log on its host says more.")
}

fn by_phase(phase: Phase, message: String) -> JobError {
    match phase {
        Phase::Init => JobError::user("INIT_FAILED", message),
        Phase::Apply => JobError::provider("APPLY_FAILED", message)
            .hint("What was made is in the workspace's state: mend the cause and build again."),
        Phase::Unspecified | Phase::Setup | Phase::Plan | Phase::Cleanup => {
            JobError::provider("PLAN_FAILED", message)
        }
    }
}

fn required_variable(message: String) -> JobError {
    JobError::user("REQUIRED_TEMPLATE_VARIABLES", message)
        .hint("Pass each as --variable NAME=VALUE, or in a file with --variable-file.")
}

fn condition(message: String) -> JobError {
    JobError::user("CONDITION_FAILED", message)
        .hint("The template's author set this condition: give other values, or change it.")
}

fn provider_missing(message: String) -> JobError {
    JobError::provider("PROVIDER_NOT_AVAILABLE", message)
        .hint("Give the daemon a --provider-mirror that has it, or access to its registry.")
}

fn lock_file(message: String) -> JobError {
    JobError::user("LOCK_FILE_STALE", message)
        .hint("Run `init` in the template's directory and push it with its lock file.")
}

/// The errors in one text: summary, place, first line of detail.
fn quote(phase: Phase, errors: &[Diagnostic]) -> String {
    if errors.is_empty() {
        return format!("the engine failed in {}; its log says why", word(phase));
    }
    let causes: Vec<_> = errors.iter().filter(|error| !only_follows(error)).collect();
    let causes = match causes.is_empty() {
        true => errors.iter().collect(),
        false => causes,
    };
    let quoted = causes.iter().take(QUOTED);
    let mut lines: Vec<String> = quoted.map(|error| one_line(error)).collect();
    if causes.len() > QUOTED {
        lines.push(format!("and {} more", causes.len() - QUOTED));
    }
    lines.join("; ")
}

/// Whether the error only says that there were others: engines end an init with one.
fn only_follows(error: &Diagnostic) -> bool {
    error.range.is_none()
        && error
            .summary
            .contains("encountered problems during initiali")
}

fn one_line(error: &Diagnostic) -> String {
    let words = error.summary.split_whitespace();
    let summary = words.collect::<Vec<_>>().join(" ");
    let mut text = match (error.place(), error.address.as_str()) {
        (Some(place), "") => format!("{place}: {summary}"),
        (Some(place), address) => format!("{place}: {address}: {summary}"),
        (None, "") => summary,
        (None, address) => format!("{address}: {summary}"),
    };
    let detail = error.detail.split("\n\n").next().unwrap_or("");
    let detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
    if !detail.is_empty() {
        text.push_str(": ");
        text.push_str(&detail);
    }
    if text.len() > QUOTE {
        text.truncate(text.floor_char_boundary(QUOTE));
        text.push_str("… (the log has all of it)");
    }
    text
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Init => "init",
        Phase::Plan => "plan",
        Phase::Apply => "apply",
        Phase::Cleanup => "cleanup",
        Phase::Unspecified | Phase::Setup => "setup",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::diagnostic::{Position, Range};
    use proto::v1::ErrorClass;

    fn error(summary: &str, address: &str, file: Option<&str>) -> Diagnostic {
        Diagnostic {
            severity: "error".to_owned(),
            summary: summary.to_owned(),
            detail: "First\nline.\n\nMore.".to_owned(),
            address: address.to_owned(),
            range: file.map(|filename| Range {
                filename: filename.to_owned(),
                start: Position { line: 7, column: 1 },
            }),
            ..Diagnostic::default()
        }
    }

    fn judged(phase: Phase, error: Diagnostic) -> (ErrorClass, String) {
        let verdict = failed(phase, &[error]);
        (verdict.class(), verdict.code)
    }

    #[test]
    fn a_place_without_a_resource_is_the_templates_fault() {
        for phase in [Phase::Init, Phase::Plan] {
            let verdict = failed(phase, &[error("Unsupported argument", "", Some("main.tf"))]);
            assert_eq!(
                (verdict.class(), verdict.code.as_str()),
                (ErrorClass::User, "TEMPLATE_INVALID")
            );
            assert_eq!(
                verdict.message,
                "main.tf:7: Unsupported argument: First line."
            );
        }
    }

    #[test]
    fn an_error_of_mebibytes_is_quoted_in_part() {
        let mut long = error("boom", "a.b", None);
        long.detail = "é".repeat(5_000_000);
        let verdict = failed(Phase::Apply, &vec![long; 10]);
        assert!(verdict.message.len() < (QUOTED + 1) * (QUOTE + 64));
        assert!(verdict.message.contains("the log has all of it"));
    }

    #[test]
    fn an_error_of_a_provider_at_work_is_the_providers() {
        let plan = judged(Phase::Plan, error("boom", "a.b", Some("main.tf")));
        assert_eq!(plan, (ErrorClass::Provider, "PLAN_FAILED".to_owned()));
        let apply = judged(Phase::Apply, error("boom", "a.b", Some("main.tf")));
        assert_eq!(apply, (ErrorClass::Provider, "APPLY_FAILED".to_owned()));
    }

    #[test]
    fn known_summaries_tell_the_cause() {
        for (summary, code) in [
            (
                "No value for required variable",
                "REQUIRED_TEMPLATE_VARIABLES",
            ),
            (
                "Failed to query available provider packages",
                "PROVIDER_NOT_AVAILABLE",
            ),
            ("Resource precondition failed", "CONDITION_FAILED"),
            ("Failed to download module", "MODULE_NOT_AVAILABLE"),
            ("Unreadable module directory", "MODULE_NOT_AVAILABLE"),
            ("Inconsistent dependency lock file", "LOCK_FILE_STALE"),
        ] {
            assert_eq!(
                judged(Phase::Init, error(summary, "", Some("main.tf"))).1,
                code
            );
        }
    }

    #[test]
    fn an_engine_that_said_nothing_is_judged_by_its_phase() {
        assert_eq!(failed(Phase::Init, &[]).code, "INIT_FAILED");
        assert_eq!(failed(Phase::Plan, &[]).code, "PLAN_FAILED");
        assert_eq!(failed(Phase::Apply, &[]).code, "APPLY_FAILED");
    }

    #[test]
    fn many_errors_are_counted_not_listed() {
        let errors = vec![error("boom", "", None); 9];
        assert!(failed(Phase::Plan, &errors).message.ends_with("and 4 more"));
    }
}
