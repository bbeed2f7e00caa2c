//! Where an import runs: the tags its template asks for, under those of the push.

use std::sync::{Arc, Mutex};

use proto::v1::tag_part::Part;
use proto::v1::{self, JobError, ParameterValue, TagPart, TemplateVariable, WorkspaceTag};
use queue::Options;
use queue::analysis::{Analyzer, Analyzing, Archive, Failure, Findings};
use tonic::{Code, Status};

use crate::harness::{Queue, code, map, options};

/// Answers what it was told to, and keeps what it was given.
#[derive(Debug)]
struct Fake {
    answer: Result<Findings, Failure>,
    archives: Mutex<Vec<Vec<u8>>>,
}

impl Analyzer for Fake {
    fn analyze(&self, mut archive: Archive) -> Analyzing<'_> {
        Box::pin(async move {
            let mut bytes = Vec::new();
            while let Some(chunk) = archive.next().await.expect("archive") {
                bytes.extend_from_slice(&chunk);
            }
            self.archives.lock().expect("lock").push(bytes);
            self.answer.clone()
        })
    }
}

async fn queue(answer: Result<Findings, Failure>) -> (Queue, Arc<Fake>) {
    let fake = Arc::new(Fake {
        answer,
        archives: Mutex::default(),
    });
    let dir = tempfile::tempdir().expect("tempdir");
    let options = Options {
        analyzer: Some(fake.clone()),
        ..options(&dir)
    };
    (Queue::start_in(dir, options).await, fake)
}

fn tag(key: &str, value: Part) -> WorkspaceTag {
    let part = |part| vec![TagPart { part: Some(part) }];
    WorkspaceTag {
        key: part(Part::Literal(key.into())),
        value: part(value),
    }
}

/// A tag of each kind, and one whose value nobody knows.
fn findings() -> Findings {
    Findings {
        variables: vec![TemplateVariable {
            name: "zone".into(),
            default_value: "a".into(),
            ..TemplateVariable::default()
        }],
        workspace_tags: vec![
            tag("cluster", Part::Literal("dev".into())),
            tag("zone", Part::Variable("zone".into())),
            tag("region", Part::Parameter("region".into())),
            tag("size", Part::Parameter("asked".into())),
        ],
        parameters: vec![ParameterValue {
            name: "region".into(),
            value: "eu".into(),
        }],
    }
}

async fn push(
    queue: &Queue,
    tags: &[(&str, &str)],
    variables: &[(&str, &str)],
) -> Result<v1::JobView, Status> {
    let variables = variables.iter().map(|(name, value)| v1::VariableValue {
        name: (*name).into(),
        value: (*value).into(),
        sensitive: false,
    });
    let request = v1::PushTemplateRequest {
        name: "t".into(),
        archive: Some(queue.upload(b"archive").await),
        tags: map(tags),
        variables: variables.collect(),
        activate: true,
        ..v1::PushTemplateRequest::default()
    };
    let reply = queue.admin().push_template(request).await?;
    Ok(reply.into_inner().job.expect("job"))
}

fn expected(tags: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    map(&[tags, &[("scope", "organization"), ("owner", "")]].concat())
}

#[tokio::test]
async fn an_import_asks_for_the_tags_of_its_template() {
    let (queue, fake) = queue(Ok(findings())).await;
    let job = push(&queue, &[], &[]).await.expect("pushed");
    let tags = [("cluster", "dev"), ("zone", "a"), ("region", "eu")];
    assert_eq!(job.tags, expected(&tags), "all that is known");
    assert_eq!(*fake.archives.lock().expect("lock"), [b"archive"]);
}

#[tokio::test]
async fn values_of_a_push_go_before_defaults_and_its_tags_before_all() {
    let (queue, _) = queue(Ok(findings())).await;
    let given = [("region", "us"), ("size", "big")];
    let job = push(&queue, &given, &[("zone", "b")])
        .await
        .expect("pushed");
    let tags = [
        ("cluster", "dev"),
        ("zone", "b"),
        ("region", "us"),
        ("size", "big"),
    ];
    assert_eq!(job.tags, expected(&tags));
}

#[tokio::test]
async fn a_version_keeps_only_the_tags_it_was_given() {
    let (queue, _) = queue(Ok(findings())).await;
    push(&queue, &[("size", "big")], &[]).await.expect("pushed");
    let request = v1::ListTemplateVersionsRequest { name: "t".into() };
    let versions = queue.admin().list_template_versions(request).await;
    let versions = versions.expect("versions").into_inner().versions;
    assert_eq!(versions[0].tags, expected(&[("size", "big")]));
}

#[tokio::test]
async fn a_hostile_archive_is_refused_before_anything_is_made() {
    let refused = JobError::user("ARCHIVE_PATH_ESCAPES", "archive entry \"../x\" leaves")
        .hint("pack it again");
    let (queue, _) = queue(Err(Failure::Refused(refused))).await;
    let status = push(&queue, &[], &[]).await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(code(&status), "ARCHIVE_PATH_ESCAPES");
    let request = v1::ListTemplatesRequest::default();
    let templates = queue.admin().list_templates(request).await;
    assert_eq!(templates.expect("list").into_inner().templates, []);
}

#[tokio::test]
async fn a_template_that_cannot_be_analysed_is_placed_by_its_push_alone() {
    let failed = JobError::internal("ANALYSIS_TIMEOUT", "too long");
    let (queue, _) = queue(Err(Failure::Unreadable(failed))).await;
    let job = push(&queue, &[("region", "us")], &[])
        .await
        .expect("pushed");
    assert_eq!(job.tags, expected(&[("region", "us")]));
}

#[tokio::test]
async fn a_tag_that_no_daemon_could_have_is_refused() {
    let mut found = findings();
    found.workspace_tags = vec![tag("k", Part::Literal("x".repeat(1000)))];
    let (queue, _) = queue(Ok(found)).await;
    let status = push(&queue, &[], &[]).await.expect_err("refused");
    assert_eq!(code(&status), "INVALID_TAGS");
}
