//! Whole job cycles a second: submit, acquire, confirm, an update with 20 lines, a state of
//! 8 KiB, the finish. More builds wait than there are daemons, so the queue is never short
//! of work; each owner of the waiting ones has several workspaces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::task::JoinSet;

use super::job::Work;
use super::report::{Row, Verdict};
use super::store::{Backend, Postgres, Statements};
use super::work::{self, Workspace};
use super::world::{Run, World};
use super::{baseline, pgbench};
use crate::sim::Client;
use crate::stats::{Series, millis};

/// Builds under way or waiting for each daemon.
const FOR_EACH: usize = 2;
/// Connections of those who submit.
const CLIENTS: usize = 16;
const WARM_UP: Duration = Duration::from_secs(3);
/// Promised of one cycle, on SQLite and on PostgreSQL.
const CPU_MS: (f64, f64) = (1.0, 4.0);
/// Promised on SQLite; on PostgreSQL this part of the bare loop's rate.
const RATE: f64 = 1_000.0;
const OF_BARE: f64 = 0.5;

/// Measures it; on PostgreSQL the baselines before it, on the same server.
pub async fn run(run: &Run<'_>) -> Result<Vec<Row>> {
    let window = run.args.window(10);
    let mut rows = Vec::new();
    let bare = match run.store {
        Backend::Sqlite => None,
        Backend::Postgres => {
            let bare = baseline::measure(window).await?;
            rows.push(bare.row());
            rows.push(pgbench::measure(window)?);
            Some(bare.per_s)
        }
    };
    let world = World::empty(run, 1, Statements::Uncounted).await?;
    world.import().await?;
    let daemons = run.args.daemons(64);
    let workspaces = work::workspaces(&world, daemons * FOR_EACH, daemons / 4 + 1).await?;
    let _crew = world.crew("cycle", daemons, Work::WHOLE).await?;
    let before = run.probes.probe().await?;
    let load = Submitters::begin(&world, workspaces)?;
    tokio::time::sleep(WARM_UP).await;
    if let Some(postgres) = &world.postgres {
        postgres.count_from_here();
    }
    let counted = world.postgres.as_ref().map(Postgres::counts).transpose()?;
    let (look, finished) = (world.look(), world.hub.finished());
    tokio::time::sleep(window).await;
    let (cycles, spent) = (world.hub.finished() - finished, world.spent(look));
    let counts = world.postgres.as_ref().map(Postgres::counts).transpose()?;
    let costly = world.postgres.as_ref().map(Postgres::costly);
    let took = load.end().await?;
    let after = run.probes.probe().await?;
    world.check()?;
    let around = [before, after];
    let void = run.probes.void(&around, &spent);
    #[allow(clippy::cast_precision_loss)]
    let cycles = cycles as f64;
    let per_s = cycles / spent.wall.as_secs_f64();
    let of = |cpu: Duration| cpu.as_secs_f64() * 1e3 / cycles.max(1.0);
    let (queue, store) = (of(spent.queue), of(spent.store));
    let target = bare.map_or(RATE, |bare| bare * OF_BARE);
    #[allow(clippy::cast_precision_loss)]
    let transactions = counted
        .zip(counts)
        .map(|(from, to)| (to.transactions - from.transactions) as f64 / cycles.max(1.0));
    let data = json!({
        "cycles_per_s": per_s, "bare_loop_per_s": bare, "spent": spent.json(),
        "hand_out_to_stored_finish": took.summary(),
        "cpu_ms_per_cycle": { "queue": queue, "store": store, "load": of(spent.load) },
        "transactions_per_cycle": transactions, "costly_statements": costly,
        "probes": around.map(|pair| pair.json()),
    });
    rows.push(Row {
        store: run.store,
        what: format!("whole cycles/s, {daemons} daemons"),
        figure: format!(
            "{per_s:.0}/s, hand-out to finish p50 {} ms",
            millis(took.quantile(0.5))
        ),
        target: match bare {
            Some(bare) => format!(">= {target:.0}/s, half of the bare loop's {bare:.0}/s"),
            None => format!(">= {target:.0}/s"),
        },
        verdict: Verdict::of(per_s >= target, void.as_ref()),
        data,
    });
    let most = run.store.pick(CPU_MS.0, CPU_MS.1);
    rows.push(Row {
        store: run.store,
        what: "CPU of a cycle".to_owned(),
        figure: format!(
            "{:.2} ms: queue {queue:.2}, database {store:.2}",
            queue + store
        ),
        target: format!("<= {most} ms"),
        // Others on the machine make it slower, not dearer.
        verdict: Verdict::sure(queue + store <= most),
        data: json!({ "queue_ms": queue, "store_ms": store }),
    });
    Ok(rows)
}

/// One for each workspace: its next build when its last one has ended.
struct Submitters {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<Series>>,
}

impl Submitters {
    fn begin(world: &World, workspaces: Vec<Workspace>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<Client> = (0..CLIENTS)
            .map(|_| world.client())
            .collect::<Result<_>>()?;
        let mut tasks = JoinSet::new();
        for (number, workspace) in workspaces.into_iter().enumerate() {
            let (stop, hub) = (stop.clone(), world.hub.clone());
            let mut client = clients[number % CLIENTS].clone();
            tasks.spawn(async move {
                let mut took = Series::default();
                while !stop.load(Ordering::Relaxed) {
                    let job = workspace.build(&mut client).await?;
                    let told = hub.end(&job).await?;
                    if let (Some(from), Some(to)) = (told.arrived, told.ended) {
                        took.push(to - from);
                    }
                }
                Ok(took)
            });
        }
        Ok(Self { stop, tasks })
    }

    /// From hand-out to stored finish, of each.
    async fn end(mut self) -> Result<Series> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Series::default();
        while let Some(took) = self.tasks.join_next().await {
            all.extend(took??);
        }
        Ok(all)
    }
}
