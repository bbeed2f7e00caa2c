//! What a forecast is made of, and what asking for it costs.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::JobId;
use tokio::task::JoinSet;

use super::world::{ORG, World, contact, submission};
use crate::forecasts::Forecasts;
use crate::store::model::{DaemonContact, Drain, PlanTemplate, Submission, VersionRow};
use crate::store::sql::asked::Asked;
use crate::store::sql::rows::{Db, Value};
use crate::store::sql::{Database, Snapshot, Tx};
use crate::store::{Result, Store};
use crate::words::{Cancel, Outcome, Priority};

fn plan(version: &VersionRow, of: Submission) -> PlanTemplate {
    PlanTemplate {
        organization: ORG.to_owned(),
        version: version.id,
        parameters: Vec::new(),
        submission: of,
    }
}

async fn planned<S: Store>(world: &World<S>, version: &VersionRow) -> JobId {
    let plan = plan(version, submission("ann"));
    world.store.plan_template(plan).await.expect("a dry run").id
}

/// A daemon with one slot.
fn single(name: &str) -> DaemonContact {
    DaemonContact {
        slots: 1,
        ..contact(name)
    }
}

pub(crate) async fn a_start_is_foreseen_from_what_ran_lately<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let (slow, quick) = (world.template("slow").await, version);
    for (version, seconds) in [(&quick, 8), (&slow, 4), (&quick, 8)] {
        planned(&world, version).await;
        let held = world.offered(single("only")).await.expect("a job");
        world.confirm(&held).await.expect("confirmed");
        world.pass(seconds).await;
        world.done(&held.finish(Outcome::Succeeded)).await;
    }
    // A failed one says nothing.
    planned(&world, &quick).await;
    let held = world.offered(single("only")).await.expect("a job");
    world.done(&held.finish(Outcome::Failed)).await;
    // Those that imported are gone.
    world.pass(16).await;
    planned(&world, &quick).await;
    let held = world.offered(single("only")).await.expect("a job");
    world.confirm(&held).await.expect("confirmed");
    let begun = world.clock.now_ms();
    world.pass(3).await;
    let next = planned(&world, &quick).await;
    let last = planned(&world, &slow).await;
    let said = world.prospect(next).await;
    assert_eq!((said.position, said.start_ms), (0, Some(begun + 8_000)));
    let reason = said.waiting_for.expect("a reason");
    assert_eq!(
        reason,
        "all 1 slots of the 1 daemons that may take it are busy"
    );
    let said = world.prospect(last).await;
    assert_eq!((said.position, said.start_ms), (1, Some(begun + 16_000)));
    // No build of either has ever ended.
    world.create("ws", &quick).await;
    world
        .store
        .cancel(ORG.to_owned(), next, Cancel::Cancel)
        .await
        .expect("gone");
    let behind = planned(&world, &slow).await;
    assert_eq!(world.prospect(behind).await.start_ms, None);
}

pub(crate) async fn who_cannot_take_the_job_now_is_no_fleet_for_it<S: Store>(world: World<S>) {
    let (_, pushed) = world.push("template").await;
    let waits_for = async || world.prospect(pushed.id).await.waiting_for;
    world.store.see_daemon(single("one")).await.expect("seen");
    assert_eq!(waits_for().await, None);
    let drain = world
        .store
        .set_drain(ORG.to_owned(), "one".to_owned(), Drain::On);
    drain.await.expect("drains");
    assert_eq!(waits_for().await.as_deref(), Some("no daemon is connected"));
    world.store.see_daemon(single("two")).await.expect("seen");
    assert_eq!(waits_for().await, None);
    world.pass(16).await;
    assert_eq!(waits_for().await.as_deref(), Some("no daemon is connected"));
}

/// What a forecast costs while automatic jobs are due, and what one job's place.
pub(crate) const STATEMENTS: (u32, u32) = (6, 2);

/// Counts the statements that go through it.
struct Counting<'d> {
    db: &'d dyn Db,
    statements: Cell<u32>,
}

impl Counting<'_> {
    fn count(&self, statements: usize) {
        let statements = u32::try_from(statements).expect("a few");
        self.statements.set(self.statements.get() + statements);
    }
}

impl Db for Counting<'_> {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        self.count(1);
        self.db.execute(sql, values)
    }

    fn run(&self, sql: &str, values: &[Value<'_>]) -> Result<()> {
        self.count(1);
        self.db.run(sql, values)
    }

    fn ask(&self, asked: &mut [&mut dyn Asked]) -> Result<()> {
        self.count(asked.len());
        self.db.ask(asked)
    }

    fn visited(&self) -> Result<u64> {
        self.db.visited()
    }
}

/// What work through a snapshot costs in statements.
fn counted(view: Snapshot<'_>, work: impl FnOnce(Snapshot<'_>) -> Result<()>) -> Result<u32> {
    let counting = Counting {
        db: view.db,
        statements: Cell::new(0),
    };
    work(Snapshot {
        db: &counting,
        now: view.now,
        timings: view.timings,
    })?;
    Ok(counting.statements.get())
}

/// Pending dry runs of fifty owners, some of them automatic and due.
async fn submit<S: Store>(world: &World<S>, version: &VersionRow, jobs: usize) -> JobId {
    let mut last = None;
    let mut waiting = Vec::new();
    for number in 0..jobs {
        let priority = Priority::ALL[number % 2];
        let of = Submission {
            priority,
            ..submission(&format!("owner {}", number % 50))
        };
        let (store, plan) = (world.store.clone(), plan(version, of));
        waiting.push(tokio::spawn(async move { store.plan_template(plan).await }));
    }
    for task in waiting {
        last = Some(task.await.expect("a task").expect("a job").id);
    }
    last.expect("a job")
}

/// What a forecast costs in statements, and where one job stands in it.
pub(crate) async fn costs<S: Database>(world: &World<S>, job: JobId) -> (u32, u32) {
    let costs = world.store.read(move |view| {
        let forecast = counted(view, |view| view.outlook(ORG).map(drop))?;
        let place = counted(view, |view| view.place(ORG, job).map(drop))?;
        Ok((forecast, place))
    });
    costs.await.expect("a forecast")
}

/// The same among ten thousand: `many`.
pub(crate) async fn asking_costs_a_few_statements_however_many_wait<S: Database>(world: World<S>) {
    let version = world.template("template").await;
    for more in [50, 450] {
        let last = submit(&world, &version, more).await;
        world.clock.advance(Duration::from_secs(601));
        assert_eq!(costs(&world, last).await, STATEMENTS);
        let said = world.prospect(last).await;
        assert!(said.position > 0, "{said:?}");
    }
}

pub(crate) async fn a_submit_reads_no_fleet_and_no_queue<S: Database>(world: World<S>) {
    let version = world.template("template").await;
    let mut costs = Vec::new();
    for more in [10, 200] {
        submit(&world, &version, more).await;
        for daemon in 0..more {
            let contact = contact(&format!("daemon {more} {daemon}"));
            world.store.see_daemon(contact).await.expect("seen");
        }
        let plan = plan(&version, submission("ann"));
        let cost = world.store.write(move |tx| {
            let before = tx.db.visited()?;
            let counting = Counting {
                db: tx.db,
                statements: Cell::new(0),
            };
            let view = Snapshot {
                db: &counting,
                now: tx.now,
                timings: tx.timings,
            };
            let mut counted = Tx::new(view);
            let job = counted.plan_template(&plan)?;
            counted.submitted(job)?;
            Ok((counting.statements.get(), tx.db.visited()? - before))
        });
        costs.push(cost.await.expect("a submit"));
    }
    let [(few, little), (many, much)] = costs[..] else {
        panic!("two costs, not {costs:?}");
    };
    assert_eq!(few, many, "{costs:?}");
    // To read those that are more would be a visit to each at least. A few less or more
    // are the planner's, or rows that are dead.
    assert!(much < little + 200, "{costs:?}");
}

pub(crate) async fn those_who_ask_at_once_share_a_forecast<S: Store>(world: World<S>) {
    world.push("template").await;
    let forecasts = Forecasts::default();
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        let (forecasts, store) = (forecasts.clone(), world.store.clone());
        asking.spawn(async move { forecasts.of(&store, ORG).await });
    }
    let mut made = Vec::new();
    while let Some(forecast) = asking.join_next().await {
        made.push(forecast.expect("a task").expect("a forecast"));
    }
    // One that was quick may have been made anew for who came last.
    let first = made.iter().filter(|it| Arc::ptr_eq(it, &made[0])).count();
    assert!(first > 1, "each made one of their own");
    let other = forecasts.of(&world.store, "other").await.expect("another");
    assert!(made.iter().all(|it| !Arc::ptr_eq(it, &other)));
}
