//! Dispatch latency: from just before submit to the job in a daemon's hands, and from
//! the submit's answer (after COMMIT) to the same instant.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::sim::Queue;
use crate::stats::Series;
use crate::{probe, stats};

/// How much to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Jobs to submit, one after another; a p99 needs at least 1,000.
    #[arg(long, default_value_t = 1_000)]
    jobs: usize,
    /// Daemons that wait idle beside the one that is served.
    #[arg(long, default_value_t = 15)]
    idle: usize,
}

/// Runs the measurement.
pub async fn run(args: &Args) -> Result<Value> {
    let queue = Queue::start().await?;
    let mut client = queue.client().await?;
    let key = queue.key(&mut client, BTreeMap::new()).await?;
    let archive = client.upload(b"bench").await?;
    let (sender, mut arrivals) = tokio::sync::mpsc::channel::<Instant>(1);
    for index in 0..=args.idle {
        let mut daemon = queue.daemon(&key, &format!("sim-{index}")).await?;
        let sender = sender.clone();
        tokio::spawn(async move {
            loop {
                let Ok(waiting) = daemon.acquire().await else {
                    return;
                };
                let Ok(hand_out) = waiting.job().await else {
                    continue;
                };
                let at = hand_out.at;
                let _ = daemon.complete(hand_out, 0).await;
                if sender.send(at).await.is_err() {
                    return;
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut from_submit, mut from_answer) = (Series::default(), Series::default());
    for _ in 0..args.jobs {
        let start = Instant::now();
        client.submit(&archive).await?;
        let answered = Instant::now();
        let at = arrivals.recv().await.unwrap_or(answered);
        from_submit.push(at.duration_since(start));
        from_answer.push(at.saturating_duration_since(answered));
    }
    let echo = probe::echo(&mut client, 1_000).await?;
    let sync = probe::fdatasync(queue.dir.path(), 200)?;
    queue.stop().await;
    eprintln!(
        "dispatch: p50 {} ms, p99 {} ms from submit; echo p50 {} ms",
        stats::millis(from_submit.quantile(0.5)),
        stats::millis(from_submit.quantile(0.99)),
        stats::millis(echo.quantile(0.5)),
    );
    Ok(json!({
        "bench": "dispatch",
        "idle_daemons": args.idle + 1,
        "submit_to_hands": from_submit.summary(),
        "answer_to_hands": from_answer.summary(),
        "probe_grpc_echo": echo.summary(),
        "probe_fdatasync": sync.summary(),
    }))
}
