//! One owner submits a thousand jobs, then another one: it is the next hand-out. One daemon
//! with one slot, which has a job of the first owner whenever the other submits; so no job
//! of the first runs when the next one is chosen.

use anyhow::{Context as _, Result};
use serde_json::json;

use super::report::{Row, Verdict};
use super::work;
use super::world::{self, Run, World};
use super::{job, job::Work};
use crate::sim::{Client, HandOut, SimDaemon};

/// Times that the other owner comes; the second half of them is another other each time.
const ROUNDS: usize = 20;
/// Jobs of the first owner between two of them.
const BETWEEN: usize = 3;

/// Counts the rounds in which the other came next.
pub async fn run(run: &Run<'_>) -> Result<Vec<Row>> {
    let world = World::ready(run).await?;
    let mut client = world.client()?;
    // As many as an unfair queue hands out in all rounds.
    let jobs = run.args.jobs(1_000).max(ROUNDS * (BETWEEN + ROUNDS));
    for _ in 0..jobs {
        client.plan(work::TEMPLATE, "many").await?;
    }
    let target = world.targets().pop().context("no replica")?;
    let daemon = SimDaemon::over(target.channel()?, world.key(), "only")?;
    let mut daemon = daemon.tagged(&world::pool());
    let _control = daemon.control().await?;
    let mut next = Vec::new();
    for round in 0..ROUNDS {
        let other = match round {
            0..10 => "other".to_owned(),
            _ => format!("other-{round}"),
        };
        next.push(waited(&mut daemon, &mut client, &other).await?);
    }
    world.check()?;
    let kept = next.iter().filter(|jobs| **jobs == 0).count();
    Ok(vec![Row {
        store: run.store,
        what: format!("an owner's one job behind {jobs} of another"),
        figure: format!("the next hand-out in {kept} of {ROUNDS} rounds"),
        target: "the next one".to_owned(),
        verdict: Verdict::sure(kept == ROUNDS),
        data: json!({ "handed_out_before_it": next }),
    }])
}

/// How many jobs of the first owner are handed out before the other's.
async fn waited(daemon: &mut SimDaemon, client: &mut Client, other: &str) -> Result<usize> {
    for _ in 1..BETWEEN {
        finish(daemon, take(daemon).await?).await?;
    }
    let held = take(daemon).await?;
    let theirs = client.plan(work::TEMPLATE, other).await?;
    finish(daemon, held).await?;
    for before in 0.. {
        let hand_out = take(daemon).await?;
        let found = hand_out.job.id == theirs;
        finish(daemon, hand_out).await?;
        // A queue without shares would hand out all of the first one's before it.
        if found || before >= ROUNDS {
            return Ok(before);
        }
    }
    Ok(0)
}

async fn take(daemon: &SimDaemon) -> Result<HandOut> {
    daemon.clone().acquire().await?.job().await
}

async fn finish(daemon: &SimDaemon, hand_out: HandOut) -> Result<()> {
    let job = hand_out.confirm().await?;
    job::run(daemon, &job, &mut Work::NONE.clone()).await
}
