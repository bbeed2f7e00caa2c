//! 10,000 daemons come back after the queue was killed, on PostgreSQL after one of two
//! replicas was. Some of them have jobs, before and behind the gate, which must go on; new
//! jobs come while the others are still dialling. Each job must be confirmed once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::sync::watch;

use super::crew::Crew;
use super::job::Work;
use super::report::{Row, Verdict};
use super::store::{Backend, Statements};
use super::work::{self, Workspace};
use super::world::{Run, World};
use crate::sim::Client;

/// Promised, from the kill until every daemon has both of its streams again.
const PROMISE: Duration = Duration::from_secs(30);
/// No storm takes longer.
const LIMIT: Duration = Duration::from_secs(180);
/// After their hand-out, so that their jobs are on their way.
const SETTLED: Duration = Duration::from_secs(3);

/// Kills, waits, and looks what became of the jobs.
pub async fn run(run: &Run<'_>) -> Result<Vec<Row>> {
    let replicas = run.store.pick(1, 2);
    let mut world = World::empty(run, replicas, Statements::Uncounted).await?;
    world.import().await?;
    let daemons = run.args.daemons(10_000);
    let jobs = run.args.jobs(400).min(daemons / 4).max(2);
    let mut workspaces = work::workspaces(&world, jobs * 2, 50).await?;
    let later = workspaces.split_off(jobs);
    let (release, held_until) = watch::channel(false);
    // Half of their jobs are behind the gate: those that will bring a state.
    let hold = |state| Work {
        lines: 1,
        state,
        held_until: Some(held_until.clone()),
    };
    let mut held = Vec::new();
    let mut holders = Vec::new();
    let mut client = world.client()?;
    for (half, state) in workspaces.chunks(jobs.div_ceil(2)).zip([0, 8 * 1024]) {
        holders.push(
            world
                .crew(&format!("holder-{state}"), half.len(), hold(state))
                .await?,
        );
        for workspace in half {
            let job = workspace.build(&mut client).await?;
            world.hub.arrival(&job).await?;
            held.push(job);
        }
    }
    let crew = world.crew("idle", daemons - jobs, Work::WHOLE).await?;
    tokio::time::sleep(SETTLED).await;
    let killed = Killed::now(&mut world, &holders, &crew)?;
    match run.store {
        Backend::Sqlite => world.replicas[0].start_again().await?,
        Backend::Postgres => drop(world.replicas.remove(0)),
    }
    let look = world.look();
    let up = killed.at.elapsed();
    let (back, submitted) = tokio::join!(
        killed.all_back(&holders, &crew),
        submit(&world, later.clone())
    );
    let (back, mut all) = (back?, submitted?);
    let spent = world.spent(look);
    release.send(true)?;
    all.extend(held);
    let mut counts = (0, 0, 0);
    for job in &all {
        // One that is lost does not end.
        match world.hub.end(job).await {
            Ok(told) if told.confirmed == 1 => counts.0 += 1,
            Ok(_) => counts.1 += 1,
            Err(_) => counts.2 += 1,
        }
    }
    world.check()?;
    let (once, twice, lost) = counts;
    let seconds = back.as_secs_f64();
    let kept = back <= PROMISE && once == all.len();
    let who = run
        .store
        .pick("the queue was killed", "one of two replicas was killed");
    Ok(vec![Row {
        store: run.store,
        what: format!("{daemons} daemons come back after {who}"),
        figure: format!(
            "all served after {seconds:.1} s; of {} jobs {lost} lost, {twice} handed out twice",
            all.len()
        ),
        target: format!("<= {} s, none lost, none twice", PROMISE.as_secs()),
        verdict: Verdict::sure(kept),
        data: json!({
            "served_after_s": seconds, "queue_up_after_s": up.as_secs_f64(),
            "jobs": all.len(), "held_through": all.len() - later.len(), "once": once,
            "twice": twice, "lost": lost, "spent_meanwhile": spent.json(),
        }),
    }])
}

/// New builds, by who was there before, at 100 a second.
async fn submit(world: &World, workspaces: Vec<Workspace>) -> Result<Vec<String>> {
    let mut jobs = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut client: Client = world.client()?;
    for workspace in workspaces {
        ticks.tick().await;
        let start = Instant::now();
        let job = loop {
            match workspace.build(&mut client).await {
                Ok(job) => break job,
                Err(error) if start.elapsed() > PROMISE => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        jobs.push(job);
    }
    Ok(jobs)
}

/// The first replica is gone, since when on the crews' clocks.
struct Killed {
    at: Instant,
    marks: Vec<u64>,
}

impl Killed {
    fn now(world: &mut World, holders: &[Crew], crew: &Crew) -> Result<Self> {
        let replica = world.replicas.first_mut().context("no replica")?;
        replica.kill()?;
        let crews = holders.iter().chain([crew]);
        Ok(Self {
            at: Instant::now(),
            marks: crews.map(Crew::now).collect(),
        })
    }

    /// When all that were cut off serve again.
    async fn all_back(&self, holders: &[Crew], crew: &Crew) -> Result<Duration> {
        loop {
            let crews = holders.iter().chain([crew]).zip(&self.marks);
            let (mut back, mut all) = (0, 0);
            for (crew, mark) in crews {
                back += crew.back_since(*mark, 0);
                all += crew.len();
            }
            if back >= all {
                return Ok(self.at.elapsed());
            }
            let took = self.at.elapsed();
            ensure!(took < LIMIT, "{back} of {all} came back in {took:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
