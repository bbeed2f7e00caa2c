//! Transitions of many callers in one transaction.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proto::ids::JobId;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::crashes::through;
use super::proxy::Breaks;
use super::*;
use crate::line::TOGETHER;
use crate::store::Store as _;
use crate::store::conformance::world::{World, line};
use crate::store::model::{Disposition, Update};
use crate::store::sql::Tx;
use crate::words::Outcome;

const MAKE: &str = "INSERT INTO organizations VALUES (?1, ?2)";

type Called<T> = JoinHandle<Result<T>>;

/// A store whose line stands until it is let go: its first transition waits.
struct Held {
    store: Postgres,
    first: Called<()>,
    let_go: oneshot::Sender<()>,
    database: server::Database<'static>,
}

impl Held {
    async fn open() -> Option<Self> {
        Some(Self::of(open(Manual::at(1_000_000)).await?).await)
    }

    async fn of((store, database): (Postgres, server::Database<'static>)) -> Self {
        let (first, let_go) = hold(&store).await;
        Self {
            store,
            first,
            let_go,
            database,
        }
    }

    /// Lets the others go, which all stand in line now.
    async fn go(self) -> (Postgres, server::Database<'static>) {
        self.let_go.send(()).expect("it waits");
        self.first.await.expect("a task").expect("nothing");
        (self.store, self.database)
    }

    async fn make(&self, name: &str) -> Called<i64> {
        let name = name.to_owned();
        self.call(move |tx| made(tx, &name)).await
    }

    /// Returns once it stands in line.
    async fn call<T: Send + 'static>(
        &self,
        command: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Called<T> {
        let before = self.store.inner.company.waiting();
        let call = call(&self.store, command);
        while self.store.inner.company.waiting() == before {
            tokio::task::yield_now().await;
        }
        call
    }
}

/// Makes the line stand until it is let go: nobody loses patience before.
async fn hold(store: &Postgres) -> (Called<()>, oneshot::Sender<()>) {
    store.inner.company.have_patience(Duration::from_hours(1));
    let (let_go, wait) = oneshot::channel::<()>();
    let (begins, begun) = oneshot::channel();
    let mut once = Some((wait, begins));
    let first = call(store, move |_| {
        if let Some((wait, begins)) = once.take() {
            begins.send(()).expect("somebody waits");
            wait.blocking_recv().expect("let go");
        }
        Ok(())
    });
    begun.await.expect("it begins");
    (first, let_go)
}

fn call<T: Send + 'static>(
    store: &Postgres,
    command: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
) -> Called<T> {
    let store = store.clone();
    tokio::spawn(async move { store.write_together(Again::Harmful, command).await })
}

/// Makes an organization; the id of the transaction that did.
fn made(tx: &mut Tx<'_>, name: &str) -> Result<i64> {
    tx.db.prepare(MAKE).run(values![name, tx.now])?;
    let which = "SELECT CAST(CAST(xmin AS TEXT) AS BIGINT) FROM organizations WHERE name = ?1";
    tx.db.prepare(which).one(values![name], |row| row.get(0))
}

async fn all(calls: Vec<Called<i64>>) -> Vec<i64> {
    let mut all = Vec::new();
    for call in calls {
        all.push(call.await.expect("a task").expect("made"));
    }
    all
}

async fn names(store: &Postgres) -> Vec<String> {
    let all = store.read(|view| {
        let names = "SELECT name FROM organizations WHERE name <> 'default' ORDER BY name";
        view.db.prepare(names).all(&[], |row| row.get(0))
    });
    all.await.expect("a list")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_in_line_share_a_transaction_up_to_so_many() {
    let Some(held) = Held::open().await else {
        return;
    };
    let mut calls = Vec::new();
    for number in 0..TOGETHER + 2 {
        calls.push(held.make(&format!("{number:02}")).await);
    }
    let (store, _database) = held.go().await;
    let mut transactions = all(calls).await;
    assert_eq!(names(&store).await.len(), TOGETHER + 2);
    transactions.sort_unstable();
    let runs: Vec<usize> = transactions.chunk_by(i64::eq).map(<[i64]>::len).collect();
    assert_eq!(runs, [TOGETHER, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_go_on_together_without_who_is_to_blame() {
    let Some(held) = Held::open().await else {
        return;
    };
    let mut calls = vec![held.make("first").await];
    let spoils = |tx: &mut Tx<'_>| -> Result<()> {
        tx.db.prepare(MAKE).run(values!["spoiled", 1_i64])?;
        let there = tx.db.prepare("SELECT 1 FROM organizations WHERE name = ?1");
        assert!(there.exists(values!["spoiled"])?);
        Err(Error::Closed)
    };
    let spoiled = held.call(spoils).await;
    let panics: Called<()> = held.call(|_| panic!("told to panic")).await;
    let hold = |tx: &mut Tx<'_>| {
        let hold = "SELECT name FROM organizations WHERE name = ?1 FOR NO KEY UPDATE";
        tx.db.prepare(hold).one(values!["default"], |_| Ok(()))
    };
    let holds = [held.call(hold).await, held.call(hold).await];
    calls.push(held.make("last").await);
    let (store, _database) = held.go().await;
    let transactions = all(calls).await;
    assert_eq!(transactions[0], transactions[1]);
    for hold in holds {
        hold.await.expect("a task").expect("held");
    }
    let spoiled = spoiled.await.expect("a task").expect_err("told to");
    assert!(matches!(spoiled, Error::Closed), "{spoiled:?}");
    let panicked = panics.await.expect("a task").expect_err("told to");
    assert!(matches!(panicked, Error::Backend { .. }), "{panicked:?}");
    assert_eq!(names(&store).await, ["first", "last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_one_is_nobody_elses() {
    let Some(held) = Held::open().await else {
        return;
    };
    let mut calls = vec![held.make("first").await];
    // It fails, having changed something.
    let spoils = |tx: &mut Tx<'_>| -> Result<()> {
        tx.db.prepare(MAKE).run(values!["spoiled", 1_i64])?;
        Err(Error::Invalid {
            what: "told to fail".to_owned(),
        })
    };
    let spoiled = held.call(spoils).await;
    // The database refuses a statement.
    let divides = |tx: &mut Tx<'_>| {
        let divide = tx.db.prepare("SELECT 1 / ?1");
        divide.one(values![0_i64], |row| row.get::<i64>(0))
    };
    let refused = held.call(divides).await;
    let panics: Called<()> = held.call(|_| panic!("told to panic")).await;
    calls.push(held.make("last").await);
    let (store, _database) = held.go().await;
    let transactions = all(calls).await;
    assert_ne!(transactions[0], transactions[1], "each by itself");
    let spoiled = spoiled.await.expect("a task").expect_err("told to");
    assert!(matches!(spoiled, Error::Invalid { .. }), "{spoiled:?}");
    let refused = refused.await.expect("a task").expect_err("a division");
    assert!(matches!(refused, Error::Backend { .. }), "{refused:?}");
    let panicked = panics.await.expect("a task").expect_err("told to");
    assert!(matches!(panicked, Error::Backend { .. }), "{panicked:?}");
    assert_eq!(names(&store).await, ["first", "last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_before_anything_is_changed_spoils_nothing() {
    let Some(held) = Held::open().await else {
        return;
    };
    let mut calls = vec![held.make("first").await];
    let mut events = held.store.events().subscribe();
    let refuses = |tx: &mut Tx<'_>| -> Result<()> {
        tx.emit(Event::JobChanged(JobId::generate()));
        let there = tx.db.prepare("SELECT 1 FROM organizations WHERE name = ?1");
        assert!(there.exists(values!["default"])?);
        Err(Error::Closed)
    };
    let refused = held.call(refuses).await;
    calls.push(held.make("last").await);
    let _store = held.go().await;
    let transactions = all(calls).await;
    assert_eq!(transactions[0], transactions[1]);
    let refused = refused.await.expect("a task").expect_err("told to");
    assert!(matches!(refused, Error::Closed), "{refused:?}");
    while let Ok(told) = events.try_recv() {
        assert!(!matches!(told, Event::JobChanged(_)), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_brings_much_goes_by_itself() {
    let world = World::open(async |clock| open(clock).await).await;
    let Some(world) = world else { return };
    let taken = world.behind_the_gate("ws").await;
    let (first, let_go) = hold(&world.store).await;
    let much = "x".repeat(300 << 10);
    let update = Update {
        lines: vec![line(1, &much)],
        ..taken.update(2)
    };
    let stored = world.store.update(update).await.expect("an update");
    assert_eq!(stored.stored_seq, 1);
    let mut finish = taken.finish(Outcome::Succeeded);
    finish.report.lines = vec![line(2, &much)];
    let finished = world.store.finish(finish).await.expect("a finish");
    assert_eq!(finished.disposition, Disposition::Applied);
    let_go.send(()).expect("it still waits");
    first.await.expect("a task").expect("nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_hold_one_row_do_so_one_after_the_other() {
    let Some(held) = Held::open().await else {
        return;
    };
    // Each adds to what it has read: if both read before one wrote, one addition is lost.
    let add = |tx: &mut Tx<'_>| {
        let hold = "SELECT name, created_at FROM organizations WHERE name = 'default' \
                    AND created_at > ?1 FOR NO KEY UPDATE";
        let was: i64 = tx.db.prepare(hold).one(values![-1_i64], |row| row.get(1))?;
        let set = "UPDATE organizations SET created_at = ?2 WHERE name = ?1";
        tx.db.prepare(set).run(values!["default", was + 1])
    };
    let was = "SELECT created_at FROM organizations WHERE name = 'default'";
    let was = move |view: Snapshot<'_>| view.db.prepare(was).one(&[], |row| row.get::<i64>(0));
    let before = held.store.read(was).await.expect("a time");
    let mut adds = Vec::new();
    for _ in 0..8 {
        adds.push(held.call(add).await);
    }
    let (store, _database) = held.go().await;
    for add in adds {
        add.await.expect("a task").expect("added");
    }
    assert_eq!(store.read(was).await.expect("a time"), before + 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_refuses_of_one_costs_the_others_few_transactions() {
    let Some(held) = Held::open().await else {
        return;
    };
    let mut calls = Vec::new();
    for number in 0..16 {
        calls.push(held.make(&format!("{number:02}")).await);
    }
    // PostgreSQL's text has no NUL.
    let refused = held.make("bad \0").await;
    for number in 16..32 {
        calls.push(held.make(&format!("{number:02}")).await);
    }
    let (store, _database) = held.go().await;
    let mut transactions = all(calls).await;
    transactions.sort_unstable();
    transactions.dedup();
    assert!(transactions.len() <= 6, "{transactions:?}");
    let refused = refused.await.expect("a task").expect_err("refused");
    assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
    assert_eq!(names(&store).await.len(), 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_held_elsewhere_is_waited_for_by_who_wants_it() {
    let Some(held) = Held::open().await else {
        return;
    };
    let elsewhere = held.store.inner.pool.get().await.expect("a connection");
    let lock = "BEGIN; SELECT 1 FROM organizations WHERE name = 'default' FOR UPDATE";
    elsewhere.batch_execute(lock).await.expect("held");
    let mut calls = vec![held.make("first").await];
    let hold = |tx: &mut Tx<'_>| {
        let hold = "SELECT name FROM organizations WHERE name = ?1 FOR NO KEY UPDATE";
        tx.db.prepare(hold).one(values!["default"], |_| Ok(()))
    };
    let waits = held.call(hold).await;
    calls.push(held.make("last").await);
    let (store, _database) = held.go().await;
    all(calls).await;
    assert_eq!(names(&store).await, ["first", "last"]);
    assert!(!waits.is_finished());
    elsewhere.batch_execute("ROLLBACK").await.expect("let go");
    waits.await.expect("a task").expect("held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_changes_more_than_waits_changes_all_of_it() {
    let Some(held) = Held::open().await else {
        return;
    };
    let many = 2 * seat::WAITING + 10;
    let makes = held.call(move |tx| {
        (0..many).try_for_each(|number| {
            let name = format!("{number:04}");
            tx.db.prepare(MAKE).run(values![name, tx.now])
        })
    });
    let makes = makes.await;
    let calls = vec![held.make("last").await];
    let (store, _database) = held.go().await;
    all(calls).await;
    makes.await.expect("a task").expect("made");
    assert_eq!(names(&store).await.len(), many + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_told_of_its_own_rows() {
    let Some(held) = Held::open().await else {
        return;
    };
    let look = |number: i64| {
        held.call(move |tx| {
            let rows = "SELECT ?1 * 10 + n FROM generate_series(1, ?1) n ORDER BY n DESC";
            let found: Vec<i64> = tx.db.prepare(rows).all(values![number], |row| row.get(0))?;
            let add = "INSERT INTO organizations VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            let added = tx
                .db
                .prepare(add)
                .execute(values![format!("{}", number / 2), 1_i64])?;
            let gone = "DELETE FROM organizations WHERE name = ?1";
            tx.db
                .prepare(gone)
                .run(values![format!("{}", number / 2)])?;
            Ok((found, added))
        })
    };
    let mut looks = Vec::new();
    for number in 0..4 {
        looks.push(look(number).await);
    }
    let (store, _database) = held.go().await;
    let mut added = 0;
    for (number, look) in (0..).zip(looks) {
        let (found, one) = look.await.expect("a task").expect("a look");
        let expected: Vec<i64> = (1..=number).rev().map(|n| number * 10 + n).collect();
        assert_eq!(found, expected);
        added += one;
    }
    assert_eq!(added, 2, "each name once");
    assert!(names(&store).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_takes_nobody_with_it() {
    let Some(held) = Held::open().await else {
        return;
    };
    let mut calls = vec![held.make("first").await];
    let tries = Arc::new(AtomicU32::new(0));
    let counted = tries.clone();
    let cut_once = move |tx: &mut Tx<'_>| {
        tx.db.prepare(MAKE).run(values!["cuts", 1_i64])?;
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            let cut = tx.db.prepare(
                "SELECT pg_terminate_backend(pg_backend_pid()) FROM \
                                     organizations WHERE name = ?1",
            );
            cut.exists(values!["default"])?;
        }
        Ok(())
    };
    let cuts = held.call(cut_once).await;
    calls.push(held.make("last").await);
    let (store, _database) = held.go().await;
    all(calls).await;
    cuts.await.expect("a task").expect("by itself");
    // On a slow machine one more may be too late to begin.
    assert!(tries.load(Ordering::Relaxed) >= 2);
    assert_eq!(names(&store).await, ["cuts", "first", "last"]);
}

/// Three make something that cannot be made twice, over a connection that breaks.
async fn are_made_once(breaks: Breaks) {
    let Some((store, proxy, database)) = through(breaks).await else {
        return;
    };
    let held = Held::of((store, database)).await;
    let mut calls = Vec::new();
    for name in ["a", "b", "c"] {
        calls.push(held.make(name).await);
    }
    proxy.break_next(1);
    let (store, _database) = held.go().await;
    all(calls).await;
    assert_eq!(proxy.left(), 0, "the proxy broke what it should");
    assert_eq!(names(&store).await, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_commit_whose_answer_was_lost_is_found_by_its_mark() {
    are_made_once(Breaks::AfterCommit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_whose_transaction_broke_before_its_commit_are_run_again() {
    are_made_once(Breaks::BeforeCommit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_is_served_with_the_others() {
    let Some(held) = Held::open().await else {
        return;
    };
    let first = held.make("first").await;
    let goes = held.make("gone").await;
    goes.abort();
    let (store, _database) = held.go().await;
    all(vec![first]).await;
    assert_eq!(names(&store).await, ["first", "gone"]);
}
