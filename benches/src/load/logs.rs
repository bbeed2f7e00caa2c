//! Log intake: daemons that have a backlog send it in full batches, while 100 other jobs
//! log 200 lines a second each and each is followed by a reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proto::v1::{Job, Phase, StreamLogsRequest, UpdateJobRequest};
use serde_json::json;
use tokio::task::JoinSet;

use super::report::{Row, Verdict};
use super::work;
use super::world::{self, Run, World};
use crate::sim::{Client, SimDaemon, line};

/// Jobs with a backlog.
const BULK: usize = 16;
/// Lines of one update: the most that one may bring.
pub const BATCH: u64 = proto::limits::UPDATE_LINES as u64;
/// Jobs that are followed, and how fast each logs.
const FOLLOWED: usize = 100;
const PACE: u64 = 200;
/// Of a followed job: a daemon sends what is this old.
const FLUSH: Duration = Duration::from_millis(250);
const WARM_UP: Duration = Duration::from_secs(3);

/// Measures it.
pub async fn run(run: &Run<'_>) -> Result<Vec<Row>> {
    let world = World::ready(run).await?;
    let followed = FOLLOWED.div_ceil(run.args.divide);
    let mut client = world.client()?;
    let jobs = take(&world, &mut client, BULK + followed).await?;
    let (bulk, slow) = jobs.split_at(BULK);
    let counted = Arc::new(Counted::default());
    let mut tasks = JoinSet::new();
    for (daemon, job) in slow {
        let (daemon, job, counted) = (daemon.clone(), job.clone(), counted.clone());
        tasks.spawn(follow(world.client()?, job.id.clone(), counted.clone()));
        tasks.spawn(async move { slowly(&daemon, &job, &counted).await });
    }
    let before = run.probes.probe().await?;
    for (daemon, job) in bulk {
        let (daemon, job, counted) = (daemon.clone(), job.clone(), counted.clone());
        tasks.spawn(async move { quickly(&daemon, &job, &counted).await });
    }
    tokio::time::sleep(WARM_UP).await;
    let (look, from) = (world.look(), counted.now());
    tokio::time::sleep(run.args.window(10)).await;
    let (spent, to) = (world.spent(look), counted.now());
    counted.over.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let after = run.probes.probe().await?;
    world.check()?;
    let seconds = spent.wall.as_secs_f64();
    #[allow(clippy::cast_precision_loss)]
    let rate = |index: usize| (to[index] - from[index]) as f64 / seconds;
    let (lines, wrote, read) = (rate(0), rate(1), rate(2));
    let target = run.store.pick(200_000.0, 50_000.0);
    let due = (followed as u64 * PACE) as f64;
    // Readers that fall behind would make room for the others.
    let kept = lines >= target && read >= 0.95 * due;
    let around = [before, after];
    let void = run.probes.void(&around, &spent);
    Ok(vec![Row {
        store: run.store,
        what: format!("log lines/s in batches, {followed} readers of other jobs"),
        figure: format!("{lines:.0}/s; readers got {read:.0} of {wrote:.0}/s"),
        target: format!(">= {target:.0}/s, readers {due:.0}/s"),
        verdict: Verdict::of(kept, void.as_ref()),
        data: json!({
            "lines_per_s": lines, "followed_lines_per_s": wrote, "read_lines_per_s": read,
            "batch": BATCH, "jobs": BULK, "spent": spent.json(),
            "probes": around.map(|pair| pair.json()),
        }),
    }])
}

#[derive(Default)]
struct Counted {
    bulk: AtomicU64,
    slow: AtomicU64,
    read: AtomicU64,
    over: AtomicBool,
}

impl Counted {
    fn now(&self) -> [u64; 3] {
        [&self.bulk, &self.slow, &self.read].map(|count| count.load(Ordering::Relaxed))
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// So many dry runs in the hands of as many daemons.
pub async fn take(
    world: &World,
    client: &mut Client,
    count: usize,
) -> Result<Vec<(SimDaemon, Job)>> {
    let mut jobs = Vec::new();
    for number in 0..count {
        let target = world.targets().pop().context("no replica")?;
        let daemon = SimDaemon::over(target.channel()?, world.key(), &format!("log-{number}"))?;
        let mut daemon = daemon.tagged(&world::pool());
        client
            .plan(work::TEMPLATE, &format!("owner-{number}"))
            .await?;
        let job = daemon.acquire().await?.job().await?.confirm().await?;
        // Its lease is short before the gate; the others take a while.
        append(&daemon, &job, 1, 1, 0).await?;
        jobs.push((daemon, job));
    }
    Ok(jobs)
}

/// One update with so many lines from `first`.
pub async fn append(
    daemon: &SimDaemon,
    job: &Job,
    counter: u64,
    first: u64,
    lines: u64,
) -> Result<()> {
    let lease = job.lease.as_ref().context("job without lease")?;
    let update = UpdateJobRequest {
        job_id: job.id.clone(),
        lease_id: lease.id.clone(),
        counter,
        phase: Phase::Plan.into(),
        lines: (first..first + lines).map(line).collect(),
        gate: true,
        ..UpdateJobRequest::default()
    };
    let reply = daemon.fleet.clone().update_job(update).await?.into_inner();
    let stored = first + lines - 1;
    ensure!(
        reply.stored_seq == stored,
        "{} of {stored} lines",
        reply.stored_seq
    );
    Ok(())
}

async fn quickly(daemon: &SimDaemon, job: &Job, counted: &Counted) -> Result<()> {
    for turn in 0_u64.. {
        if counted.is_over() {
            break;
        }
        append(daemon, job, turn + 2, 1 + turn * BATCH, BATCH).await?;
        counted.bulk.fetch_add(BATCH, Ordering::Relaxed);
    }
    Ok(())
}

async fn slowly(daemon: &SimDaemon, job: &Job, counted: &Counted) -> Result<()> {
    let start = Instant::now() - FLUSH.mul_f64(rand::random_range(0.0..1.0));
    let (mut sent, mut counter) = (0, 1);
    while !counted.is_over() {
        let elapsed = u64::try_from(start.elapsed().as_millis())?;
        let due = (elapsed * PACE / 1_000).min(sent + BATCH);
        counter += 1;
        append(daemon, job, counter, sent + 1, due - sent).await?;
        counted.slow.fetch_add(due - sent, Ordering::Relaxed);
        sent = due;
        tokio::time::sleep(FLUSH).await;
    }
    Ok(())
}

/// Reads what is appended, each line once and in order.
async fn follow(mut client: Client, job: String, counted: Arc<Counted>) -> Result<()> {
    let request = StreamLogsRequest {
        job_id: job,
        follow: true,
        ..StreamLogsRequest::default()
    };
    let mut batches = client.management.stream_logs(request).await?.into_inner();
    let mut next = 1;
    while !counted.is_over() {
        let batch = tokio::time::timeout(Duration::from_secs(1), batches.message()).await;
        let Ok(batch) = batch else { continue };
        for line in batch?.context("the log ended")?.lines {
            ensure!(line.seq == next, "line {} where {next} was due", line.seq);
            next += 1;
            counted.read.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
