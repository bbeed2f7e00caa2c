//! Dispatch: from the answer to a submit until the job is in a daemon's hands, 1,000
//! daemons waiting; alone, and while 200 whole cycles a second run.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tokio::task::JoinSet;

use super::job::Work;
use super::report::{Row, Verdict};
use super::work::{self, Workspace};
use super::world::{Run, World};
use crate::sim::Client;
use crate::stats::{Series, millis};

/// Workspaces that the measured jobs go round.
const WORKSPACES: usize = 32;
/// Cycles a second beside them.
const BESIDE: u64 = 200;
/// Between two measured jobs: none is measured in the wake of another.
const PAUSE: Duration = Duration::from_millis(5);

/// What was measured of a row of jobs.
#[derive(Default)]
pub struct Dispatched {
    from_submit: Series,
    from_answer: Series,
}

impl Dispatched {
    /// Submits so many, one after another, to daemons that wait.
    pub async fn measure(
        world: &World,
        client: &mut Client,
        workspaces: &[Workspace],
        jobs: usize,
    ) -> Result<Self> {
        let mut all = Self::default();
        for workspace in workspaces.iter().cycle().take(jobs) {
            let start = Instant::now();
            let job = workspace.build(client).await?;
            let answered = Instant::now();
            let at = world.hub.arrival(&job).await?;
            all.from_submit.push(at.saturating_duration_since(start));
            all.from_answer.push(at.saturating_duration_since(answered));
            world.hub.end(&job).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(all)
    }

    /// More of the same.
    pub fn extend(&mut self, more: Self) {
        self.from_submit.extend(more.from_submit);
        self.from_answer.extend(more.from_answer);
    }

    /// The 50th and 99th percentile, in milliseconds.
    pub fn figures(&self) -> (f64, f64) {
        let at = |fraction| millis(self.from_answer.quantile(fraction));
        (at(0.5), at(0.99))
    }

    /// In words.
    pub fn figure(&self) -> String {
        let (p50, p99) = self.figures();
        format!("p50 {p50} ms, p99 {p99} ms, n = {}", self.from_answer.len())
    }

    /// For the document.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "submit_to_hands": self.from_submit.summary(),
            "answer_to_hands": self.from_answer.summary(),
        })
    }
}

/// Alone.
pub async fn idle(run: &Run<'_>) -> Result<Vec<Row>> {
    let world = World::ready(run).await?;
    let workspaces = work::workspaces(&world, WORKSPACES, WORKSPACES).await?;
    let daemons = run.args.daemons(1_000);
    let _crew = world.crew("idle", daemons, Work::NONE).await?;
    let mut client = world.client()?;
    // Everything that is made once is made.
    Dispatched::measure(&world, &mut client, &workspaces, WORKSPACES).await?;
    let before = run.probes.probe().await?;
    let look = world.look();
    let jobs = run.args.jobs(1_000);
    let all = Dispatched::measure(&world, &mut client, &workspaces, jobs).await?;
    let spent = world.spent(look);
    let after = run.probes.probe().await?;
    world.check()?;
    let (p50, p99) = run.store.pick((2.0, 10.0), (5.0, 20.0));
    let measured = all.figures();
    let around = [before, after];
    let void = run.probes.void(&around, &spent);
    Ok(vec![Row {
        store: run.store,
        what: format!("dispatch, {daemons} idle daemons"),
        figure: all.figure(),
        target: format!("p50 <= {p50} ms, p99 <= {p99} ms"),
        verdict: Verdict::of(measured.0 <= p50 && measured.1 <= p99, void.as_ref()),
        data: json!({
            "measured": all.json(), "spent": spent.json(),
            "probes": around.map(|pair| pair.json()),
        }),
    }])
}

/// While cycles run.
pub async fn busy(run: &Run<'_>) -> Result<Vec<Row>> {
    let world = World::ready(run).await?;
    let mut workspaces = work::workspaces(&world, 256 + WORKSPACES, 64).await?;
    let daemons = run.args.daemons(1_000);
    let _crew = world.crew("busy", daemons, Work::WHOLE).await?;
    let mut client = world.client()?;
    let measured = workspaces.split_off(256);
    let before = run.probes.probe().await?;
    let beside = Beside::begin(&world, workspaces)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (look, finished) = (world.look(), world.hub.finished());
    let jobs = run.args.jobs(1_000);
    let all = Dispatched::measure(&world, &mut client, &measured, jobs).await?;
    let spent = world.spent(look);
    let cycles = world.hub.finished() - finished - jobs as u64;
    let skipped = beside.end().await?;
    let after = run.probes.probe().await?;
    world.check()?;
    #[allow(clippy::cast_precision_loss)]
    let rate = cycles as f64 / spent.wall.as_secs_f64();
    let target = run.store.pick(20.0, 40.0);
    let kept = all.figures().1 <= target && rate >= 0.98 * BESIDE as f64;
    let around = [before, after];
    let void = run.probes.void(&around, &spent);
    Ok(vec![Row {
        store: run.store,
        what: format!("dispatch, {daemons} daemons, {BESIDE} cycles/s beside it"),
        figure: format!("{}; {rate:.0} cycles/s ran", all.figure()),
        target: format!("p99 <= {target} ms at {BESIDE} cycles/s"),
        verdict: Verdict::of(kept, void.as_ref()),
        data: json!({
            "measured": all.json(), "spent": spent.json(), "cycles_per_s": rate,
            "submits_skipped": skipped, "probes": around.map(|pair| pair.json()),
        }),
    }])
}

/// Submits at a fixed rate, however long each takes.
struct Beside {
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<u64>>,
}

impl Beside {
    fn begin(world: &World, workspaces: Vec<Workspace>) -> Result<Self> {
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let clients: Vec<Client> = (0..8).map(|_| world.client()).collect::<Result<_>>()?;
        let hub = world.hub.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / BESIDE as u32);
            let (free, mut next) = tokio::sync::mpsc::unbounded_channel();
            for workspace in workspaces {
                free.send(workspace)?;
            }
            let (mut running, mut skipped) = (JoinSet::new(), 0);
            for turn in 0_usize.. {
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = stopped.changed() => break,
                }
                while let Some(ended) = running.try_join_next() {
                    ended??;
                }
                // All have a build under way: the queue is behind, and the rate shows it.
                let Ok(workspace) = next.try_recv() else {
                    skipped += 1;
                    continue;
                };
                let mut client = clients[turn % clients.len()].clone();
                let (hub, free) = (hub.clone(), free.clone());
                running.spawn(async move {
                    let job = workspace.build(&mut client).await?;
                    hub.end(&job).await?;
                    free.send(workspace)?;
                    anyhow::Ok(())
                });
            }
            while let Some(ended) = running.join_next().await {
                ended??;
            }
            Ok(skipped)
        });
        Ok(Self { stop, task })
    }

    async fn end(self) -> Result<u64> {
        self.stop.send(true)?;
        self.task.await?
    }
}
