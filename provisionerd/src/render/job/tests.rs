//! The job object, compared with documents written by hand from the contract.

use std::collections::HashMap;

use proto::v1::{
    EngineFacts, Extraction, JobKind, JobStatus, LedgerAction, LogLevel, LogLine, LogSource, Phase,
    Priority, Resource, Transition,
};

use super::*;

/// Every field that the contract names.
const CONTRACT: [&str; 26] = [
    "id",
    "organization",
    "kind",
    "status",
    "transition",
    "template",
    "version_id",
    "workspace",
    "owner",
    "tags",
    "priority",
    "attempt",
    "created_at",
    "started_at",
    "completed_at",
    "queue_wait_ms",
    "unreachable_since",
    "daemon",
    "sandbox",
    "broker",
    "engine",
    "phases",
    "engine_processes",
    "resources",
    "error",
    "phase",
];

fn failed() -> JobView {
    JobView {
        id: "j1".to_owned(),
        organization: "default".to_owned(),
        kind: JobKind::WorkspaceBuild.into(),
        status: JobStatus::Failed.into(),
        transition: Transition::Start.into(),
        template: Some("aws".to_owned()),
        version_id: Some("v1".to_owned()),
        workspace: Some("dev".to_owned()),
        owner: "ann".to_owned(),
        tags: HashMap::from([("region".to_owned(), "eu".to_owned())]),
        priority: Priority::Interactive.into(),
        attempt: 1,
        created_at_ms: 1_795_361_400_000,
        started_at_ms: Some(1_795_361_400_250),
        completed_at_ms: Some(1_795_361_401_000),
        queue_wait_ms: Some(250),
        daemon: Some("eu-1".to_owned()),
        sandbox: Some("landlock".to_owned()),
        engine: Some(EngineFacts {
            name: "terraform".to_owned(),
            version: "1.11.4".to_owned(),
        }),
        phases: vec![PhaseTiming {
            phase: Phase::Apply.into(),
            started_at_ms: 1_795_361_400_500,
            duration_ms: 500,
        }],
        engine_processes: Some(3),
        error: Some(JobError::provider("APPLY_FAILED", "no capacity").hint("try later")),
        unconfirmed: vec![UnconfirmedResource {
            address: "aws_instance.dev".to_owned(),
            action: LedgerAction::Create.into(),
            ..UnconfirmedResource::default()
        }],
        phase: Phase::Apply.into(),
        gate_open: true,
        ..JobView::default()
    }
}

#[test]
fn a_failed_build_prints_the_contracts_document() {
    let expected = json!({
        "id": "j1",
        "organization": "default",
        "kind": "workspace_build",
        "status": "failed",
        "transition": "start",
        "template": "aws",
        "version_id": "v1",
        "workspace": "dev",
        "owner": "ann",
        "tags": { "region": "eu" },
        "priority": "interactive",
        "attempt": 1,
        "created_at": "2026-11-22T15:30:00.000Z",
        "started_at": "2026-11-22T15:30:00.250Z",
        "completed_at": "2026-11-22T15:30:01.000Z",
        "queue_wait_ms": 250,
        "unreachable_since": null,
        "daemon": "eu-1",
        "sandbox": "landlock",
        "broker": null,
        "engine": { "name": "terraform", "version": "1.11.4" },
        "phase": "apply",
        "phases": [{
            "name": "apply",
            "started_at": "2026-11-22T15:30:00.500Z",
            "duration_ms": 500,
        }],
        "engine_processes": 3,
        "resources": null,
        "error": {
            "code": "APPLY_FAILED",
            "class": "provider",
            "message": "no capacity",
            "hint": "try later",
            "in_flight": ["aws_instance.dev"],
            "unconfirmed": [{
                "address": "aws_instance.dev",
                "action": "create",
                "id": null,
                "reason": null,
            }],
        },
        "gate_open": true,
        "cancel_requested": false,
        "queue_position": null,
        "waiting_for": null,
        "estimated_start": null,
        "queue_deadline_at": null,
        "run_deadline_at": null,
    });
    assert_eq!(document(&failed()), expected);
}

#[test]
fn a_field_that_does_not_apply_is_null_and_never_missing() {
    let pending = document(&JobView::default());
    for field in CONTRACT {
        assert!(pending.get(field).is_some(), "{field} is missing");
    }
    for field in [
        "transition",
        "template",
        "workspace",
        "daemon",
        "engine",
        "error",
    ] {
        assert_eq!(pending[field], Value::Null, "{field}");
    }
    assert_eq!(pending["phases"], json!([]));
}

#[test]
fn resources_of_a_job_are_those_of_its_extraction() {
    let job = JobView {
        extraction: Some(Extraction {
            resources: vec![Resource {
                name: "dev".to_owned(),
                r#type: "aws_instance".to_owned(),
                address: "aws_instance.dev".to_owned(),
                ..Resource::default()
            }],
            ..Extraction::default()
        }),
        ..JobView::default()
    };
    assert_eq!(
        document(&job)["resources"][0]["address"],
        "aws_instance.dev"
    );
    assert_eq!(document(&job)["error"], Value::Null);
}

#[test]
fn unconfirmed_resources_are_shown_without_an_error_too() {
    let job = JobView {
        error: None,
        status: JobStatus::Canceled.into(),
        ..failed()
    };
    let shown = document(&job);
    assert_eq!(shown["error"]["code"], Value::Null);
    assert_eq!(shown["error"]["in_flight"], json!(["aws_instance.dev"]));
}

#[test]
fn a_log_line_has_the_contracts_fields() {
    let line = StoredLine {
        seq: 7,
        attempt: 2,
        line: Some(LogLine {
            seq: 3,
            time_ms: 1_795_361_400_000,
            phase: Phase::Plan.into(),
            source: LogSource::Engine.into(),
            level: LogLevel::Info.into(),
            text: "hello".to_owned(),
            more: false,
        }),
    };
    let expected = json!({
        "seq": 7,
        "time": "2026-11-22T15:30:00.000Z",
        "attempt": 2,
        "phase": "plan",
        "source": "engine",
        "level": "info",
        "text": "hello",
    });
    assert_eq!(log_line(&line), expected);
}
