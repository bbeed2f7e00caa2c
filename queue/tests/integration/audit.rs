//! Who did what: every call that changes something or shows a state leaves a line, done or
//! refused. The calls are read from the .proto file: a new one that leaves none fails.

use proto::v1;

use crate::access::{call, client, quiet, row, victim};
use crate::credentials::{MANAGEMENT, calls};
use crate::harness::*;
use crate::on_postgres;

/// Calls that change nothing and show no state.
const SHOWN: [&str; 21] = [
    "GetInfo",
    "ListOrganizations",
    "ListKeys",
    "ListTokens",
    "ListTemplates",
    "GetTemplate",
    "ListTemplateVersions",
    "ListWorkspaces",
    "GetWorkspace",
    "ListJobs",
    "GetJob",
    "WatchJob",
    "StreamLogs",
    "GetLedger",
    "ListDaemons",
    "StateHistory",
    "ListOwners",
    "ListUnclaimed",
    "ListLimits",
    "ListAudit",
    // Refused when it brings no bytes; see `an_upload_is_noted_once`.
    "Upload",
];

#[tokio::test]
async fn every_call_that_changes_something_leaves_a_line() {
    let queue = Queue::start_with(quiet()).await;
    Box::pin(every_call(&queue)).await;
}

#[tokio::test]
async fn every_call_leaves_it_on_postgres_too() {
    let Some((queue, _database)) = on_postgres::start(quiet()).await else {
        return;
    };
    Box::pin(every_call(&queue)).await;
}

async fn every_call(queue: &Queue) {
    let (things, _daemon, key) = victim(queue).await;
    let token = queue.service.admin_token().expect("a token");
    let token = token.expose().to_owned();
    let admin = client("the admin", &token, "default");
    let before = lines(queue).await.len();
    let mut expected = Vec::new();
    for name in calls(MANAGEMENT) {
        if SHOWN.contains(&name.as_str()) {
            continue;
        }
        let answer = call(queue, &admin, &name, row(&name, &things)).await;
        let outcome = answer.map_or_else(|status| code(&status).to_owned(), |_| "done".into());
        expected.push((name, outcome));
    }
    let done = expected.iter().filter(|(_, outcome)| outcome == "done");
    assert!(
        done.count() >= 10,
        "hardly any call did something: {expected:?}"
    );
    let found = async || {
        let mut all = lines(queue).await;
        all.truncate(all.len() - before);
        all.retain(|line| line.call != "Verdict" && line.call != "Upload");
        all
    };
    // What was refused comes a little later.
    let enough = || async { found().await.len() >= expected.len() };
    let _late = tokio::time::timeout(std::time::Duration::from_secs(10), until(enough)).await;
    let mut told = Vec::new();
    for line in found().await {
        assert_eq!(
            (line.actor.as_str(), line.owner.as_str()),
            ("admin", "admin")
        );
        assert_eq!((line.peer.as_str(), line.times), ("127.0.0.1", 1));
        assert!(!line.object.is_empty(), "{} is about nothing", line.call);
        told.push((line.call, line.outcome));
    }
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    let all = format!("{:?}", lines(queue).await);
    for secret in [&token, &key, &token[4..], &key[4..]] {
        assert!(!all.contains(secret), "a credential stands in the log");
    }
}

async fn lines(queue: &Queue) -> Vec<v1::AuditEntry> {
    listed(queue, v1::ListAuditRequest::default()).await
}

async fn listed(queue: &Queue, request: v1::ListAuditRequest) -> Vec<v1::AuditEntry> {
    let request = v1::ListAuditRequest {
        limit: 1_000,
        ..request
    };
    let reply = queue.admin().list_audit(request).await.expect("the log");
    reply.into_inner().entries
}

async fn strangers(queue: &Queue) -> Vec<v1::AuditEntry> {
    let request = v1::ListAuditRequest {
        strangers: true,
        ..v1::ListAuditRequest::default()
    };
    listed(queue, request).await
}

#[tokio::test]
async fn an_upload_is_noted_once() {
    let queue = Queue::start().await;
    for _ in 0..2 {
        queue.upload(b"bytes of an archive").await;
    }
    let mut all = lines(&queue).await;
    all.retain(|line| line.call == "Upload");
    assert_eq!(all.len(), 1, "the second one stored nothing");
    let digest = blob_ref(b"bytes of an archive").sha256;
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(all[0].object, hex);
}

#[tokio::test]
async fn a_member_who_is_refused_is_noted_and_may_not_read_the_log() {
    let queue = Queue::start().await;
    let mut member = queue.member("ann").await;
    for _ in 0..5 {
        let refused = member.list_keys(v1::ListKeysRequest {}).await;
        refused.expect_err("an admin's");
        let refused = member.list_audit(v1::ListAuditRequest::default()).await;
        assert_eq!(code(&refused.expect_err("an admin's")), "ADMIN_ONLY");
    }
    let of = async |call: &str| {
        let mut all = lines(&queue).await;
        all.retain(|line| line.call == call && line.outcome == "ADMIN_ONLY");
        all
    };
    until(async || {
        let found = of("ListKeys").await;
        found.iter().map(|line| line.times).sum::<u64>() == 5
    })
    .await;
    let found = of("ListAudit").await;
    assert!(found.len() <= 3, "put together: {found:?}");
    assert_eq!(found[0].owner, "ann");
}

#[tokio::test]
async fn wrong_credentials_are_noted_together_and_apart_from_the_rest() {
    let queue = Queue::start().await;
    let mut stranger = queue.client(&format!("pdt_{}", "0".repeat(64)));
    let wrong = 40;
    for _ in 0..wrong {
        let refused = stranger.get_info(v1::GetInfoRequest {}).await;
        assert_eq!(code(&refused.expect_err("a stranger")), "WRONG_CREDENTIAL");
    }
    until(async || {
        let all = strangers(&queue).await;
        all.iter().map(|line| line.times).sum::<u64>() == wrong
    })
    .await;
    let all = strangers(&queue).await;
    assert!(all.len() < 10, "put together: {all:?}");
    assert!(all.iter().all(|line| line.actor_kind == "unknown"
        && line.peer == "127.0.0.1"
        && line.outcome == "WRONG_CREDENTIAL"
        && line.call == "GetInfo"));
    assert!(
        lines(&queue)
            .await
            .iter()
            .all(|line| line.actor_kind != "unknown")
    );
}
