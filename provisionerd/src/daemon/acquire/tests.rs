use std::sync::atomic::Ordering;

use super::*;
use crate::daemon::comeback::Hands;
use crate::daemon::scripted::{bench, context, job, options, until};
use crate::daemon::shutdown;

#[tokio::test]
async fn one_stream_waits_however_many_slots_are_free() {
    let bench = bench(8).await;
    let (trigger, heard) = shutdown::channel();
    let running = tokio::spawn(run(bench.context.clone(), heard));
    until("a stream", || {
        bench.script.streams.1.load(Ordering::SeqCst) > 0
    })
    .await;
    // The drain may come before the stream's first answer: then nothing is cancelled.
    trigger.signal(Step::Drain);
    running.await.expect("task").expect("drained");
    assert_eq!(bench.script.streams.1.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_daemon_without_a_free_slot_asks_for_nothing() {
    let bench = bench(1).await;
    let held = bench
        .context
        .slots
        .clone()
        .try_acquire_owned()
        .expect("slot");
    let (trigger, heard) = shutdown::channel();
    let running = tokio::spawn(run(bench.context.clone(), heard));
    tokio::task::yield_now().await;
    trigger.signal(Step::Drain);
    running.await.expect("task").expect("drained");
    assert_eq!(bench.script.streams.1.load(Ordering::SeqCst), 0);
    drop(held);
}

#[tokio::test]
async fn a_refused_daemon_ends_with_the_reason() {
    let bench = bench(1).await;
    bench.script.refuses.store(true, Ordering::SeqCst);
    let (_trigger, heard) = shutdown::channel();
    let refused = run(bench.context.clone(), heard)
        .await
        .expect_err("refused");
    assert!(
        refused.to_string().contains("scripted refusal"),
        "{refused}"
    );
}

#[tokio::test]
async fn an_outage_is_waited_out() {
    let bench = bench(1).await;
    bench.script.outages.store(3, Ordering::SeqCst);
    let (trigger, heard) = shutdown::channel();
    let running = tokio::spawn(run(bench.context.clone(), heard));
    until("a stream", || {
        bench.script.streams.1.load(Ordering::SeqCst) > 0
    })
    .await;
    trigger.signal(Step::Drain);
    running.await.expect("task").expect("drained");
}

#[tokio::test]
async fn a_lost_queue_is_not_asked_before_its_time() {
    let bench = bench(1).await;
    let context = &bench.context;
    let (begun, wait) = (std::time::Instant::now(), Duration::from_millis(300));
    let timings = &context.options.timings;
    context.comeback.lost(Hands::Free, wait, begun, timings);
    let (trigger, heard) = shutdown::channel();
    let running = tokio::spawn(run(context.clone(), heard.clone()));
    until("a stream", || {
        bench.script.streams.1.load(Ordering::SeqCst) > 0
    })
    .await;
    assert!(begun.elapsed() >= wait, "{:?}", begun.elapsed());
    // Nor does the wait keep it from leaving.
    let (long, now) = (Duration::from_hours(1), std::time::Instant::now());
    context.comeback.lost(Hands::Free, long, now, timings);
    trigger.signal(Step::Drain);
    running.await.expect("task").expect("drained");
    run(context.clone(), heard).await.expect("drained");
}

#[tokio::test]
async fn a_job_whose_engine_is_missing_fails_with_its_code() {
    let bench = bench(1).await;
    bench.script.jobs.lock().expect("jobs").push(job());
    let options = crate::daemon::Options {
        lifetime: Lifetime::Once,
        data_dir: bench.dir.path().join("once"),
        ..options(
            bench.context.options.target.url.clone(),
            1,
            bench.dir.path(),
        )
    };
    let context = context(options);
    let (_trigger, heard) = shutdown::channel();
    run(context.clone(), heard).await.expect("one job");
    context.work.ended().await;
    let finishes = bench.script.finishes.lock().expect("finishes");
    let error = finishes[0].error.as_ref().expect("error");
    assert_eq!(error.code, "ENGINE_MISSING");
    assert!(context.data.leftovers().expect("list").is_empty());
}

#[tokio::test]
async fn a_daemon_ends_after_its_idle_time() {
    let bench = bench(1).await;
    let options = crate::daemon::Options {
        lifetime: Lifetime::Idle(Duration::from_millis(50)),
        data_dir: bench.dir.path().join("idle"),
        ..options(
            bench.context.options.target.url.clone(),
            1,
            bench.dir.path(),
        )
    };
    let (_trigger, heard) = shutdown::channel();
    run(context(options), heard).await.expect("idle");
    bench.script.cancelled.cancelled().await;
}

#[tokio::test]
async fn a_job_is_taken_by_short_calls_through_an_outage() {
    let bench = bench(1).await;
    bench.context.way.switch(Transport::Unary);
    let offered = job();
    bench
        .script
        .jobs
        .lock()
        .expect("jobs")
        .push(offered.clone());
    let (_trigger, heard) = shutdown::channel();
    let taken = now::take(&bench.context, heard.clone(), None).await;
    let Ok(Outcome::Job(taken, _)) = taken else {
        panic!("a job");
    };
    assert_eq!(taken.id, offered.id);
    bench.script.jobs.lock().expect("jobs").push(offered);
    bench.script.outages.store(1, Ordering::SeqCst);
    let lost = now::take(&bench.context, heard.clone(), None).await;
    assert!(lost.is_err(), "the ask was lost");
    let taken = now::take(&bench.context, heard, None).await;
    assert!(matches!(taken, Ok(Outcome::Job(..))), "and the offer not");
    assert_eq!(bench.script.streams.1.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn streams_that_bring_nothing_are_left_for_short_calls() {
    let bench = bench(1).await;
    bench.script.unary.store(true, Ordering::SeqCst);
    bench
        .script
        .cancels
        .lock()
        .expect("cancels")
        .push(v1::CancelJob {
            job_id: "job".to_owned(),
            kind: v1::CancelKind::Cancel.into(),
        });
    let context = bench.context.clone();
    let lease = Lease {
        job_id: "job".to_owned(),
        lease_id: vec![1],
        attempt: 1,
    };
    let mut held = context.register(&lease);
    let control = tokio::spawn(crate::daemon::control::run(context.clone()));
    until("it is on short calls", || {
        context.way.now() == Transport::Unary
    })
    .await;
    held.cancel
        .wait_for(|kind| *kind == v1::CancelKind::Cancel)
        .await
        .expect("a cancel by a short call");
    until("it is seen to reach the queue", || {
        context.seen.reaches_queue()
    })
    .await;
    bench.script.drains.store(true, Ordering::SeqCst);
    until("it drains", || context.trigger.step() == Step::Drain).await;
    context.closing.cancel();
    control.await.expect("it ends");
}
