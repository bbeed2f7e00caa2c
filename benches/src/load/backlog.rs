//! Dispatch of a job that somebody can run, before 100,000 pending ones that nobody can:
//! dry runs of ten templates, each with a tag that no daemon has, of a hundred owners.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Result;
use serde_json::json;
use tokio::task::JoinSet;

use super::dispatch::Dispatched;
use super::job::Work;
use super::report::{Row, Verdict};
use super::work;
use super::world::{self, FAR, Run, World};

/// Owners of what waits.
const OWNERS: usize = 100;
/// Clients that submit it, on connections of their own, and submits under way on each.
const CLIENTS: usize = 8;
const AT_ONCE: usize = 8;
/// Daemons that wait for what matches.
const DAEMONS: usize = 16;
const MATCHING: usize = 1_000;

/// Fills the queue, then measures.
pub async fn run(run: &Run<'_>) -> Result<Vec<Row>> {
    let world = World::ready(run).await?;
    for number in 0..FAR {
        let tags = [world::far(number)];
        work::import(&world, &template(number), &tags).await?;
    }
    let workspaces = work::workspaces(&world, 32, 32).await?;
    let pending = run.args.jobs(100_000);
    let start = Instant::now();
    fill(&world, pending).await?;
    let filled = start.elapsed().as_secs_f64();
    let _crew = world.crew("near", DAEMONS, Work::NONE).await?;
    let mut client = world.client()?;
    Dispatched::measure(&world, &mut client, &workspaces, 32).await?;
    let before = run.probes.probe().await?;
    let look = world.look();
    let jobs = MATCHING.div_ceil(run.args.divide);
    let all = Dispatched::measure(&world, &mut client, &workspaces, jobs).await?;
    let spent = world.spent(look);
    let after = run.probes.probe().await?;
    world.check()?;
    let target = run.store.pick(10.0, 20.0);
    let around = [before, after];
    let void = run.probes.void(&around, &spent);
    #[allow(clippy::cast_precision_loss)]
    let submits = pending as f64 / filled;
    Ok(vec![Row {
        store: run.store,
        what: format!("dispatch before {pending} pending jobs that match nobody"),
        figure: format!("{}; they were submitted at {submits:.0}/s", all.figure()),
        target: format!("p99 <= {target} ms"),
        verdict: Verdict::of(all.figures().1 <= target, void.as_ref()),
        data: json!({
            "pending": pending, "tag_sets": FAR, "owners": OWNERS, "filled_in_s": filled,
            "measured": all.json(), "spent": spent.json(),
            "probes": around.map(|pair| pair.json()),
        }),
    }])
}

fn template(number: usize) -> String {
    format!("far-{number}")
}

async fn fill(world: &World, pending: usize) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = world.client()?;
        for _ in 0..AT_ONCE {
            let (mut client, next) = (client.clone(), next.clone());
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= pending {
                        return anyhow::Ok(());
                    }
                    let owner = format!("far-owner-{}", number % OWNERS);
                    client
                        .plan(&template(number / OWNERS % FAR), &owner)
                        .await?;
                }
            });
        }
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}
