//! How a job ended, for people: its resources, where its time went, why it failed.

use std::time::Duration;

use proto::account::{self, Names};
use proto::v1::{
    ErrorClass, JobKind, JobStatus, JobView, PhaseTiming, Resource, Transition, UnconfirmedResource,
};

use super::paint::{Paint, harmless};
use super::tables::Table;
use super::time::{elapsed, short};
use super::words;

/// Widest bar of the timeline.
const BAR: usize = 40;

/// What a job that succeeded has come to: what exists, where the time went, what is next.
pub fn success(job: &JobView) -> String {
    let found = job.extraction.as_ref();
    let exists = found.map_or(&[][..], |found| &found.resources);
    let template = job.template.as_deref().unwrap_or("-");
    let workspace = job.workspace.as_deref().unwrap_or("-");
    let (headline, exists) = match (job.kind(), job.transition()) {
        (JobKind::TemplateImport, _) => (
            format!("template {template} is imported; next:"),
            format!(
                "  provisionerd templates show {template}\n\
                 \x20 provisionerd workspaces create NAME --template {template}\n"
            ),
        ),
        (JobKind::TemplateDryRun, _) => (
            format!("a workspace of template {template} would have:"),
            resources(exists),
        ),
        (JobKind::WorkspaceBuild | JobKind::Unspecified, Transition::Delete) => {
            (format!("workspace {workspace} is deleted"), String::new())
        }
        (JobKind::WorkspaceBuild | JobKind::Unspecified, Transition::Stop) => (
            format!("workspace {workspace} is stopped and keeps:"),
            resources(exists),
        ),
        (
            JobKind::WorkspaceBuild | JobKind::Unspecified,
            Transition::Start | Transition::Unspecified,
        ) => (format!("workspace {workspace} is up:"), resources(exists)),
    };
    format!("{}\n{}\n{}", harmless(&headline), exists, timeline(job))
}

/// One line per resource, agents and apps below it.
pub fn resources(resources: &[Resource]) -> String {
    if resources.is_empty() {
        return "no resources\n".to_owned();
    }
    let mut table = Table::new(&["resource", "type", "details"]);
    for resource in resources {
        let address = match resource.address.as_str() {
            "" => format!("{}.{}", resource.r#type, resource.name),
            address => address.to_owned(),
        };
        table.row([address, resource.r#type.clone(), details(resource)]);
    }
    table.to_string()
}

/// What was taken off a workspace's list of doubts, and how many are left.
pub fn forgotten(forgotten: &[UnconfirmedResource], left: &[UnconfirmedResource]) -> String {
    let mut text = String::new();
    for doubt in account::doubts(forgotten) {
        text.push_str(&format!("forgotten: {}\n", harmless(&doubt)));
    }
    text.push_str(&match left.len() {
        0 => "nothing is unconfirmed any more\n".to_owned(),
        1 => "1 resource is still unconfirmed\n".to_owned(),
        count => format!("{count} resources are still unconfirmed\n"),
    });
    text
}

fn details(resource: &Resource) -> String {
    let mut lines = Vec::new();
    if resource.daily_cost > 0 {
        lines.push(format!("cost {} a day", resource.daily_cost));
    }
    for item in resource.metadata.iter().filter(|item| !item.is_null) {
        let value = if item.sensitive {
            "••••"
        } else {
            &item.value
        };
        lines.push(format!("{}: {value}", item.key));
    }
    for agent in &resource.agents {
        let system = format!("{}/{}", agent.operating_system, agent.architecture);
        lines.push(format!("agent {} ({system})", agent.name));
        let apps = agent.apps.iter().map(|app| app.slug.as_str());
        let apps: Vec<_> = apps.collect();
        if !apps.is_empty() {
            lines.push(format!("  apps {}", apps.join(", ")));
        }
    }
    lines.join("\n")
}

/// Where the time of a job went, as bars on one scale.
pub fn timeline(job: &JobView) -> String {
    let mut spans = Vec::new();
    if let Some(wait) = job.queue_wait_ms {
        spans.push(("queue", job.created_at_ms, wait));
    }
    spans.extend(job.phases.iter().map(span));
    let end = |span: &(&str, i64, u64)| span.1.saturating_add_unsigned(span.2);
    let first = spans.iter().map(|span| span.1).min().unwrap_or(0);
    let last = spans.iter().map(end).max().unwrap_or(first);
    let whole = last.abs_diff(first).max(1);
    let mut text = String::new();
    for (name, start, duration) in spans {
        let from = scaled(start.abs_diff(first), whole).min(BAR - 1);
        let length = scaled(duration, whole).clamp(1, BAR - from);
        let bar = format!("{}{}", " ".repeat(from), "█".repeat(length));
        let time = elapsed(Duration::from_millis(duration));
        text.push_str(&format!("  {name:<8}{bar:<BAR$}  {time}\n"));
    }
    let total = job
        .completed_at_ms
        .map_or(whole, |done| done.abs_diff(job.created_at_ms));
    let total = elapsed(Duration::from_millis(total));
    text.push_str(&format!("  {:<8}{:<BAR$}  {total}\n", "total", ""));
    text
}

fn span(timing: &PhaseTiming) -> (&'static str, i64, u64) {
    let name = words::phase(timing.phase()).unwrap_or("?");
    (name, timing.started_at_ms, timing.duration_ms)
}

fn scaled(ms: u64, whole: u64) -> usize {
    let cells = u128::from(ms) * BAR as u128 / u128::from(whole);
    usize::try_from(cells).unwrap_or(BAR)
}

/// Everything about one job, as `jobs show` prints it.
pub fn job(job: &JobView) -> String {
    let dash = || "-".to_owned();
    let mut table = Table::bare();
    let status = words::status(job.status()).unwrap_or("-");
    table.row(["id".to_owned(), job.id.clone()]);
    table.row(["kind".to_owned(), what(job)]);
    table.row(["status".to_owned(), status.to_owned()]);
    if let Some(reason) = job.waiting_for.as_deref().filter(|text| !text.is_empty()) {
        table.row(["waiting for".to_owned(), harmless(reason)]);
    }
    if let Some(ahead) = job.queue_position {
        table.row(["jobs ahead".to_owned(), ahead.to_string()]);
    }
    if let Some(at) = job.estimated_start_ms {
        table.row(["may start".to_owned(), short(at)]);
    }
    table.row([
        "template".to_owned(),
        job.template.clone().unwrap_or_else(dash),
    ]);
    if let Some(workspace) = &job.workspace {
        table.row(["workspace".to_owned(), workspace.clone()]);
    }
    table.row(["owner".to_owned(), job.owner.clone()]);
    table.row(["created".to_owned(), short(job.created_at_ms)]);
    table.row(["attempt".to_owned(), job.attempt.to_string()]);
    table.row(["daemon".to_owned(), job.daemon.clone().unwrap_or_else(dash)]);
    if let Some(since) = job.unreachable_since_ms {
        table.row(["unreachable since".to_owned(), short(since)]);
    }
    if let Some(engine) = &job.engine {
        let engine = format!("{} {}", engine.name, engine.version);
        table.row(["engine".to_owned(), engine]);
    }
    if let Some(sandbox) = &job.sandbox {
        table.row(["sandbox".to_owned(), sandbox.clone()]);
    }
    table.to_string()
}

/// `build start`, `import`, `dry run`.
pub fn what(job: &JobView) -> String {
    let kind = words::kind(job.kind()).unwrap_or("-");
    match words::transition(job.transition()) {
        Some(transition) => format!("{kind} {transition}"),
        None => kind.to_owned(),
    }
}

/// A status in its colour.
pub fn coloured(status: JobStatus, paint: Paint) -> String {
    let word = words::status(status).unwrap_or("-");
    match status {
        JobStatus::Succeeded => paint.green(word),
        JobStatus::Failed => paint.red(word),
        JobStatus::Canceled | JobStatus::Canceling => paint.yellow(word),
        JobStatus::Running => paint.cyan(word),
        JobStatus::Pending | JobStatus::Unspecified => word.to_owned(),
    }
}

/// Why a job did not succeed, with the next step and what may exist untracked.
pub fn verdict(job: &JobView, paint: Paint) -> String {
    let mut text = match &job.error {
        Some(error) => {
            let hint = (!error.hint.is_empty()).then_some(error.hint.as_str());
            super::error::text(&error.code, &error.message, hint, paint)
        }
        None => format!("job {} is {}", job.id, coloured(job.status(), paint)),
    };
    if let Some(workspace) = job.workspace.as_deref().filter(|_| needs_account(job)) {
        let job_id = retriable(job).then_some(job.id.as_str());
        let names = Names {
            workspace,
            job: job_id,
        };
        text.push_str(&account(names, &job.unconfirmed, paint));
    }
    text
}

/// What is in doubt, why, and the commands that lead on; begins with a line break.
pub fn account(names: Names<'_>, unconfirmed: &[UnconfirmedResource], paint: Paint) -> String {
    let mut text = String::new();
    for doubt in account::doubts(unconfirmed) {
        let line = harmless(&doubt);
        text.push_str(&format!("\n  {} {line}", paint.yellow("unconfirmed:")));
    }
    for step in account::steps(names, unconfirmed) {
        let line = harmless(&step);
        text.push_str(&format!("\n  {} {line}", paint.cyan("next:")));
    }
    text
}

/// A build that was lost or left something in doubt; what an engine said explains itself.
fn needs_account(job: &JobView) -> bool {
    let error = job.error.as_ref();
    let ours = error.is_some_and(|error| error.class() == ErrorClass::Internal);
    job.kind() == JobKind::WorkspaceBuild && (ours || !job.unconfirmed.is_empty())
}

fn retriable(job: &JobView) -> bool {
    matches!(job.status(), JobStatus::Failed | JobStatus::Canceled)
}

#[cfg(test)]
mod tests {
    use proto::v1::{JobError, LedgerAction, Phase};

    use super::*;

    fn timing(phase: Phase, started_at_ms: i64, duration_ms: u64) -> PhaseTiming {
        PhaseTiming {
            phase: phase.into(),
            started_at_ms,
            duration_ms,
        }
    }

    #[test]
    fn the_timeline_shows_every_phase_on_one_scale() {
        let job = JobView {
            created_at_ms: 1_000,
            completed_at_ms: Some(2_000),
            queue_wait_ms: Some(500),
            phases: vec![
                timing(Phase::Setup, 1_500, 0),
                timing(Phase::Apply, 1_500, 500),
            ],
            ..JobView::default()
        };
        let half = "█".repeat(20);
        let later = format!("{}{half}", " ".repeat(20));
        let dot = format!("{}█{}", " ".repeat(20), " ".repeat(19));
        let expected = format!(
            "  queue   {half}{}  500 ms\n  setup   {dot}  0 ms\n  apply   {later}  500 ms\n  total   {}  1.0 s\n",
            " ".repeat(20),
            " ".repeat(40),
        );
        assert_eq!(timeline(&job), expected);
    }

    #[test]
    fn a_timeline_without_phases_is_no_panic() {
        assert!(timeline(&JobView::default()).contains("total"));
    }

    #[test]
    fn a_verdict_names_code_hint_and_unconfirmed_resources() {
        let job = JobView {
            error: Some(JobError::internal("WORKER_LOST", "the daemon is gone").hint("look")),
            id: "j1".to_owned(),
            kind: JobKind::WorkspaceBuild.into(),
            status: JobStatus::Failed.into(),
            workspace: Some("dev".to_owned()),
            unconfirmed: vec![UnconfirmedResource {
                address: "a.b".to_owned(),
                action: LedgerAction::Create.into(),
                id: "i-1".to_owned(),
                reason: "no state names it".to_owned(),
            }],
            ..JobView::default()
        };
        let text = verdict(&job, Paint::Plain);
        let begins = "error: the daemon is gone [WORKER_LOST]; look\n  unconfirmed: create of a.b (id i-1): no state names it\n  next: see what";
        assert!(text.starts_with(begins), "{text}");
        assert!(text.contains("provisionerd jobs retry j1"), "{text}");
    }
}
