//! From a submit to the daemon that takes it.

use std::time::{Duration, Instant};

use proto::v1;
use proto::v1::acquire_request::Message as Ask;
use tonic::Code;

use crate::harness::*;
use crate::on_postgres;

#[tokio::test]
async fn a_job_goes_from_submit_to_its_stored_finish() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let pushed = queue.push("first", &[]).await;
    assert_eq!(pushed.status(), v1::JobStatus::Pending);

    let mut acquiring = daemon.acquire().await;
    let job = acquiring.job().await;
    assert_eq!(job.id, pushed.id);
    assert_eq!(job.kind(), v1::JobKind::TemplateImport);
    let lease = acquiring.confirm(&job).await;
    assert_eq!(lease.id, lease_id(&job));
    assert_eq!(queue.job(&job.id).await.status(), v1::JobStatus::Running);

    let mut report = update(&job, 1);
    report.set_phase(v1::Phase::Init);
    report.lines = lines(1, &["one", "two"]);
    let reply = daemon
        .fleet
        .update_job(report)
        .await
        .expect("update")
        .into_inner();
    assert_eq!(reply.verdict(), v1::UpdateVerdict::Accepted);
    assert_eq!(reply.stored_seq, 2);

    let ended = finish(&job, v1::Outcome::Succeeded);
    let reply = daemon
        .fleet
        .finish_job(ended.clone())
        .await
        .expect("finish");
    assert_eq!(
        reply.into_inner().disposition(),
        v1::FinishDisposition::Applied
    );
    let again = daemon.fleet.finish_job(ended).await.expect("repeated");
    assert_eq!(
        again.into_inner().disposition(),
        v1::FinishDisposition::Applied
    );
    assert_eq!(queue.job(&job.id).await.status(), v1::JobStatus::Succeeded);
}

#[tokio::test]
async fn a_submit_wakes_a_waiting_daemon_at_once() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    // Without it the store is asked again soon.
    let _control = daemon.control(Vec::new()).await;
    let mut acquiring = daemon.acquire().await;
    queue.waiting(1).await;
    let begun = Instant::now();
    let pushed = queue.push("woken", &[]).await;
    let job = acquiring.job().await;
    assert_eq!(job.id, pushed.id);
    // The look at all lanes that is behind the wake-up comes after 8 s at the earliest.
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_submit_at_one_replica_wakes_a_daemon_that_waits_at_another() {
    let Some(([here, there], _database)) = on_postgres::two(timings()).await else {
        return;
    };
    let mut daemon = here.daemon("one").await;
    let _control = daemon.control(Vec::new()).await;
    let mut times = Vec::new();
    for _ in 0..3 {
        let mut acquiring = daemon.acquire().await;
        here.waiting(1).await;
        let begun = Instant::now();
        let pushed = there.push("woken", &[]).await;
        let job = acquiring.job().await;
        assert_eq!(job.id, pushed.id);
        times.push(begun.elapsed());
        acquiring.confirm(&job).await;
        let ended = finish(&job, v1::Outcome::Succeeded);
        daemon.fleet.finish_job(ended).await.expect("finish");
    }
    // Of hints the first may come before a replica listens; looks are 8 s apart.
    let quick = times.iter().filter(|time| **time < AT_ONCE).count();
    assert!(quick >= 2, "{times:?}");
}

#[tokio::test]
async fn each_job_goes_to_one_daemon() {
    let queue = Queue::start().await;
    let mut taken = Vec::new();
    let mut waiting = Vec::new();
    for name in ["a", "b", "c"] {
        let mut daemon = queue.daemon(name).await;
        waiting.push(daemon.acquire().await);
    }
    queue.waiting(3).await;
    for name in ["x", "y", "z"] {
        queue.push(name, &[]).await;
    }
    for acquiring in &mut waiting {
        let job = acquiring.job().await;
        acquiring.confirm(&job).await;
        taken.push(job.id);
    }
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 3);
}

#[tokio::test]
async fn an_unconfirmed_offer_goes_to_the_next_daemon() {
    let mut timings = timings();
    timings.confirm = Duration::from_millis(400);
    let queue = Queue::start_with(timings).await;
    let pushed = queue.push("offered", &[]).await;
    let mut silent = queue.daemon("silent").await;
    let mut first = silent.acquire().await;
    assert_eq!(first.job().await.id, pushed.id);
    // It would have to confirm within the same time.
    let mut second = queue.daemon("second").await;
    assert_eq!(second.acquire().await.job().await.id, pushed.id);
    let refused = first.reply().await.expect_err("too late");
    assert_eq!(code(&refused), "CONFIRM_TOO_LATE");
}

#[tokio::test]
async fn a_broken_stream_gives_its_offer_back_at_once() {
    let queue = Queue::start().await;
    let pushed = queue.push("offered", &[]).await;
    let mut breaks = queue.daemon("breaks").await;
    let mut first = breaks.acquire().await;
    let offered = first.job().await;
    let mut other = queue.daemon("other").await;
    let _control = other.control(Vec::new()).await;
    let mut second = other.acquire().await;
    queue.waiting(1).await;
    let begun = Instant::now();
    drop(first);
    let job = second.job().await;
    assert_eq!(job.id, pushed.id);
    assert_ne!(lease_id(&job), lease_id(&offered));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_acquire_can_be_cancelled() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let mut acquiring = daemon.acquire().await;
    queue.waiting(1).await;
    let cancel = Ask::Cancel(v1::CancelAcquire {});
    acquiring.requests.send(ask(cancel)).await.expect("sent");
    assert_eq!(acquiring.none().await, "cancelled");
    queue.waiting(0).await;
}

#[tokio::test]
async fn an_acquire_without_job_ends_with_none() {
    let mut timings = timings();
    timings.acquire_min = Duration::from_millis(50);
    timings.acquire_max = Duration::from_millis(60);
    let queue = Queue::start_with(timings).await;
    let mut daemon = queue.daemon("one").await;
    assert_eq!(daemon.acquire().await.none().await, "idle");
}

#[tokio::test]
async fn a_draining_daemon_gets_none_and_keeps_nobody_waiting() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let _control = daemon.control(Vec::new()).await;
    drains(&queue, &mut daemon).await;
}

/// Its waiting tells the store of it, a moment after it came.
#[tokio::test]
async fn so_does_one_that_has_no_control_stream() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let acquiring = daemon.acquire().await;
    let mut admin = queue.admin();
    until(async || {
        let daemons = admin.list_daemons(v1::ListDaemonsRequest {}).await;
        !daemons.expect("a list").into_inner().daemons.is_empty()
    })
    .await;
    drop(acquiring);
    queue.waiting(0).await;
    drains(&queue, &mut daemon).await;
}

async fn drains(queue: &Queue, daemon: &mut Daemon) {
    let mut acquiring = daemon.acquire().await;
    queue.waiting(1).await;
    let drain = v1::DrainDaemonRequest { name: "one".into() };
    let drained = queue.admin().drain_daemon(drain).await.expect("drain");
    assert_eq!(drained.into_inner().status, "draining");
    assert_eq!(acquiring.none().await, "draining");
    queue.push("later", &[]).await;
    assert_eq!(daemon.acquire().await.none().await, "draining");
}

#[tokio::test]
async fn a_queue_that_stops_sends_its_waiters_away() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let mut acquiring = daemon.acquire().await;
    queue.waiting(1).await;
    let stopping = tokio::spawn(queue.service.shutdown());
    assert_eq!(acquiring.none().await, "restarting");
    drop((acquiring, daemon, queue.channel));
    soon(stopping).await.expect("stopped");
}

#[tokio::test]
async fn tags_decide_who_gets_a_job_and_facts_may_be_asked_for() {
    let queue = Queue::start().await;
    let key = queue.key("prod", &[("env", "*")]).await;
    let mut untagged = queue.daemon("untagged").await;
    let mut prod = queue.daemon_with("prod", "i", &key, &[("env", "prod")]);
    untagged.facts = map(&[("engine", "tofu")]);
    let mut idle = untagged.acquire().await;
    let mut tagged = prod.acquire().await;
    queue.waiting(2).await;
    let pushed = queue.push("tagged", &[("env", "prod")]).await;
    assert_eq!(tagged.job().await.id, pushed.id);
    let plain = queue.push("plain", &[]).await;
    assert_eq!(idle.job().await.id, plain.id);
    let by_fact = queue.push("by-fact", &[("engine", "tofu")]).await;
    assert_eq!(untagged.take().await.id, by_fact.id);
}

#[tokio::test]
async fn a_job_that_nobody_can_run_says_which_tag_is_missing() {
    let queue = Queue::start().await;
    let none = queue.push("alone", &[("env", "prod")]).await;
    let none = queue.job(&none.id).await.waiting_for.expect("a reason");
    assert!(none.contains("no daemon is connected"), "{none}");
    let mut daemon = queue.daemon("one").await;
    let _control = daemon.control(Vec::new()).await;
    let pushed = queue.push("needs", &[("env", "prod")]).await;
    // A forecast is kept for a while.
    until(async || {
        let reason = queue.job(&pushed.id).await.waiting_for.expect("a reason");
        reason.contains("env=prod")
    })
    .await;
}

#[tokio::test]
async fn a_tag_outside_the_key_is_refused_by_name() {
    let queue = Queue::start().await;
    let key = queue.key("dev", &[("env", "dev")]).await;
    let mut daemon = queue.daemon_with("one", "i", &key, &[("env", "prod")]);
    let refused = daemon.acquire().await.reply().await.expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(code(&refused), "TAG_NOT_ALLOWED");
    assert!(refused.message().contains("env=prod"), "{refused:?}");
    let mut allowed = queue.daemon_with("one", "i", &key, &[("env", "dev")]);
    let _waits = allowed.acquire().await;
    queue.waiting(1).await;
}

#[tokio::test]
async fn a_second_living_instance_of_a_name_is_refused() {
    let queue = Queue::start().await;
    let key = queue.key("shared", &[]).await;
    let mut first = queue.daemon_with("same", "instance-1", &key, &[]);
    let _control = first.control(Vec::new()).await;
    let mut second = queue.daemon_with("same", "instance-2", &key, &[]);
    let refused = second.acquire().await.reply().await.expect_err("refused");
    assert_eq!(code(&refused), "DAEMON_NAME_TAKEN");
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_acquire_is_refused() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let cancel = tokio_stream::once(ask(Ask::Cancel(v1::CancelAcquire {})));
    let replies = daemon.fleet.acquire_job(cancel).await.expect("stream");
    let refused = soon(replies.into_inner().message())
        .await
        .expect_err("refused");
    assert_eq!(code(&refused), "INVALID_REQUEST");
}

#[tokio::test]
async fn a_job_behind_a_limit_is_handed_out_as_soon_as_there_is_room() {
    let queue = Queue::start().await;
    let limit = v1::SetLimitRequest {
        of: v1::LimitOf::Owner.into(),
        name: "admin".into(),
        most: Some(1),
    };
    let set = queue.admin().set_limit(limit.clone()).await.expect("set");
    assert_eq!(set.into_inner().most, Some(1));
    let mut busy = queue.daemon("busy").await;
    let mut idle = queue.daemon("idle").await;
    let first = queue.push("first", &[]).await;
    let running = busy.take().await;
    assert_eq!(running.id, first.id);
    let _control = idle.control(Vec::new()).await;
    let mut acquiring = idle.acquire().await;
    queue.waiting(1).await;
    let second = queue.push("second", &[]).await;
    let named = "owner `admin` runs 1 of at most 1 job";
    until(async || queue.job(&second.id).await.waiting_for.as_deref() == Some(named)).await;
    let ended = finish(&running, v1::Outcome::Succeeded);
    let begun = Instant::now();
    busy.fleet.finish_job(ended).await.expect("finish");
    let handed = acquiring.job().await;
    assert_eq!(handed.id, second.id);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    acquiring.confirm(&handed).await;
    // Likewise when it is raised.
    let mut acquiring = idle.acquire().await;
    queue.waiting(1).await;
    let third = queue.push("third", &[]).await;
    let raised = v1::SetLimitRequest {
        most: Some(2),
        ..limit
    };
    let begun = Instant::now();
    queue.admin().set_limit(raised).await.expect("raised");
    assert_eq!(acquiring.job().await.id, third.id);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn of_idle_daemons_the_one_that_ran_the_version_gets_the_next_build_of_it() {
    let queue = Queue::start().await;
    let mut other = queue.daemon("other").await;
    let mut holder = queue.daemon("holder").await;
    queue.push("t", &[]).await;
    let import = other.take().await;
    let ended = finish(&import, v1::Outcome::Succeeded);
    other.fleet.finish_job(ended).await.expect("imported");
    let build = async |name: &str| {
        let create = v1::CreateWorkspaceRequest {
            name: name.into(),
            template: "t".into(),
            ..v1::CreateWorkspaceRequest::default()
        };
        let made = queue.admin().create_workspace(create).await.expect("made");
        made.into_inner().job.expect("job").id
    };
    // Who has waited longer would be woken first.
    let mut waits = other.acquire().await;
    queue.waiting(1).await;
    holder.holds = vec!["unknown".into(), import.template_version_id];
    let mut acquiring = holder.acquire().await;
    queue.waiting(2).await;
    let first = build("one").await;
    let job = acquiring.job().await;
    assert_eq!(job.id, first);
    acquiring.confirm(&job).await;
    // The holder is busy: nobody waits for it.
    let second = build("two").await;
    assert_eq!(waits.job().await.id, second);
}
