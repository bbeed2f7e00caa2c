//! Whole job cycles without processes: submit, acquire, confirm, an update with log
//! lines, finish. The time of one cycle runs from hand-out to stored finish.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::probe;
use crate::sim::Queue;
use crate::stats::Series;

/// How much to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Jobs in all.
    #[arg(long, default_value_t = 5_000)]
    jobs: usize,
    /// Simulated daemons, one slot each.
    #[arg(long, default_value_t = 64)]
    daemons: usize,
    /// Clients that submit.
    #[arg(long, default_value_t = 16)]
    submitters: usize,
    /// Log lines in the one update of each job.
    #[arg(long, default_value_t = 20)]
    lines: u64,
}

/// Runs the measurement.
pub async fn run(args: &Args) -> Result<Value> {
    let queue = Queue::start().await?;
    let mut client = queue.client().await?;
    let key = queue.key(&mut client, BTreeMap::new()).await?;
    let archive = client.upload(b"bench").await?;
    let echo = probe::echo(&mut client, 1_000).await?;
    let left = Arc::new(AtomicUsize::new(args.jobs));
    let cpu = process_cpu();
    let start = Instant::now();
    let mut daemons = tokio::task::JoinSet::new();
    for index in 0..args.daemons {
        let mut daemon = queue.daemon(&key, &format!("sim-{index}")).await?;
        let (left, lines) = (Arc::clone(&left), args.lines);
        daemons.spawn(async move {
            let mut series = Series::default();
            while left.load(Ordering::Relaxed) > 0 {
                let Ok(waiting) = daemon.acquire().await else {
                    break;
                };
                let Ok(Ok(hand_out)) =
                    tokio::time::timeout(Duration::from_secs(2), waiting.job()).await
                else {
                    continue;
                };
                let at = hand_out.at;
                daemon.complete(hand_out, lines).await?;
                series.push(at.elapsed());
                left.fetch_sub(1, Ordering::Relaxed);
            }
            anyhow::Ok(series)
        });
    }
    let mut submitters = tokio::task::JoinSet::new();
    for index in 0..args.submitters {
        let mut client = queue.client().await?;
        let archive = archive.clone();
        let share = args.jobs / args.submitters + usize::from(index < args.jobs % args.submitters);
        submitters.spawn(async move {
            for _ in 0..share {
                client.submit(&archive).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(submitter) = submitters.join_next().await {
        submitter??;
    }
    while left.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let wall = start.elapsed();
    let cpu = process_cpu().saturating_sub(cpu);
    let mut cycles = Series::default();
    while let Some(daemon) = daemons.join_next().await {
        cycles.extend(daemon??);
    }
    let sync = probe::fdatasync(queue.dir.path(), 200)?;
    queue.stop().await;
    #[allow(clippy::cast_precision_loss)]
    let jobs = args.jobs as f64;
    let rate = jobs / wall.as_secs_f64();
    eprintln!("cycle: {rate:.0} jobs/s with {} daemons", args.daemons);
    Ok(json!({
        "bench": "cycle",
        "daemons": args.daemons,
        "jobs": args.jobs,
        "lines_per_job": args.lines,
        "jobs_per_s": rate.round(),
        "hand_out_to_stored_finish": cycles.summary(),
        "cpu_ms_per_job_queue_clients_and_load": cpu.as_secs_f64() * 1e3 / jobs,
        "probe_grpc_echo": echo.summary(),
        "probe_fdatasync": sync.summary(),
    }))
}

/// User and system time of this process: queue, simulated daemons and submitters.
fn process_cpu() -> Duration {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}
