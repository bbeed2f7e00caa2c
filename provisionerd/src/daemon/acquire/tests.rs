use std::sync::atomic::Ordering;

use super::*;
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
