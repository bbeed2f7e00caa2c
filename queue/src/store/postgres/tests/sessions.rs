//! How transactions begin and end on their connections.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proto::ids::LeaseId;
use tokio::runtime::Handle;

use super::opening::{Mode, Opening};
use super::session::{Commit, Session};
use super::*;
use crate::store::Store as _;
use crate::store::conformance::world::World;
use crate::store::model::Finish;
use crate::store::sql::rows::{Db as _, Row};
use crate::words::Outcome;

/// A store with one connection to a database of its own.
async fn single() -> Option<(Postgres, server::Database<'static>)> {
    let database = migrated()?;
    let mut options = Options::new(database.url());
    options.connections = 1;
    let time = TimeSource::Manual(Manual::at(1_000_000));
    let store = Postgres::open(&options, Timings::default(), time).await;
    Some((store.expect("a store"), database))
}

const SETTINGS: &str = "SELECT current_setting('enable_bitmapscan'), \
     current_setting('enable_seqscan'), current_setting('plan_cache_mode'), \
     current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')";

fn settings(row: Row<'_>) -> Result<Vec<String>> {
    (0..5).map(|column| row.get(column)).collect()
}

#[tokio::test]
async fn who_writes_walks_along_indexes_and_who_reads_as_the_planner_likes() {
    let Some((store, _database)) = single().await else {
        return;
    };
    // In turn, on the same connection.
    for _ in 0..2 {
        let written = store.write(|tx| tx.db.prepare(SETTINGS).one(&[], settings));
        let expected = ["off", "off", "force_generic_plan", "5s", "15s"];
        assert_eq!(written.await.expect("a write"), expected);
        let read = store.read(|view| view.db.prepare(SETTINGS).one(&[], settings));
        let expected = ["on", "on", "auto", "5s", "15s"];
        assert_eq!(read.await.expect("a read"), expected);
    }
}

#[tokio::test]
async fn what_has_changed_nothing_leaves_no_mark_and_its_connection_to_the_next() {
    let Some((store, _database)) = single().await else {
        return;
    };
    let marks = "SELECT COUNT(*) FROM commits";
    for _ in 0..20 {
        let looked = store.write(move |tx| tx.db.prepare(marks).one(&[], |row| row.get::<i64>(0)));
        assert_eq!(looked.await.expect("a look"), 0);
        store.write(|_| Ok(())).await.expect("nothing at all");
    }
    let made = store.create_organization("made".to_owned()).await;
    made.expect("made");
    let looked = store.read(move |view| view.db.prepare(marks).one(&[], |row| row.get::<i64>(0)));
    assert_eq!(looked.await.expect("a look"), 1);
}

#[tokio::test]
async fn a_row_held_by_what_has_changed_nothing_is_let_go() {
    let Some((store, _database)) = open(Manual::at(1_000_000)).await else {
        return;
    };
    let hold = "SELECT 1 FROM organizations WHERE name = 'default' FOR NO KEY UPDATE";
    for _ in 0..8 {
        let held = store.write(move |tx| tx.db.prepare(hold).exists(&[]));
        assert!(held.await.expect("held"));
        let change = "UPDATE organizations SET created_at = created_at + 1";
        let changed = store.write(move |tx| tx.db.prepare(change).execute(&[]));
        assert_eq!(changed.await.expect("changed"), 1);
    }
}

#[tokio::test]
async fn a_transaction_that_could_not_begin_at_once_begins_anew_with_another_time() {
    let Some((store, _database)) = single().await else {
        return;
    };
    let tries = Arc::new(AtomicU32::new(0));
    let counted = tries.clone();
    store.read(|_| Ok(())).await.expect("the time is known");
    let made = store.write(move |tx| {
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            // As a process that is stopped between the time and its first statement.
            let stopped = tokio::time::sleep(Duration::from_millis(1_100));
            Handle::current().block_on(stopped);
        }
        let make = "INSERT INTO organizations VALUES ('late', ?1)";
        tx.db.prepare(make).execute(values![tx.now])
    });
    assert_eq!(made.await.expect("made"), 1);
    // On a slow machine another one may have come too late, too.
    assert!(tries.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn what_changes_something_goes_only_once_its_transaction_has_begun() {
    let Some((store, _database)) = single().await else {
        return;
    };
    let make = "INSERT INTO organizations VALUES ('alone', 1)";
    for waits in [true, false] {
        let client = store.inner.pool.get().await.expect("a connection");
        let (runtime, travel) = (Handle::current(), store.inner.travel.clone());
        let refused = tokio::task::spawn_blocking(move || {
            let session = Session::begin(client, runtime, travel, Mode::Write, Some(1));
            let session = session.expect("nothing has travelled");
            // As a server that refuses to begin, and takes what follows.
            let opening = session.opening.get().expect("not sent");
            let refused = Opening {
                begin: "BEGIN ISOLATION LEVEL NONE",
                ..opening
            };
            session.opening.set(Some(refused));
            if waits {
                session.run(make, &[]).expect("it waits");
                return matches!(session.commit(None), Commit::Refused(_));
            }
            let refused = session.execute(make, &[]).is_err();
            session.rollback();
            refused
        });
        assert!(refused.await.expect("an answer"), "waits: {waits}");
    }
    let made = store.list_organizations().await.expect("a list");
    assert_eq!(made.len(), 1, "{made:?}");
}

/// Whether these rows can be locked by somebody else while a stranger's finish is under way.
async fn free_beside(world: &World<Postgres>, finish: Finish, rows: &'static str) -> bool {
    let other = world.store.inner.pool.get().await.expect("a connection");
    let (finish, other) = (finish, Arc::new(other));
    let looked = world.store.write(move |tx| {
        tx.finish(&finish, &Default::default())?;
        let lock = format!("SELECT 1 FROM {rows} FOR UPDATE NOWAIT");
        Ok(Handle::current()
            .block_on(other.batch_execute(&lock))
            .is_ok())
    });
    looked.await.expect("a finish")
}

#[tokio::test]
async fn who_finishes_what_was_not_given_to_him_holds_nothing_of_it() {
    let world = World::open(async |clock| open(clock).await).await;
    let Some(world) = world else { return };
    let version = world.template("template").await;
    world.create("workspace", &version).await;
    let held = world.take("worker").await;
    let unknown = Finish {
        lease: LeaseId::generate(),
        ..held.finish(Outcome::Failed)
    };
    assert!(free_beside(&world, unknown, "workspaces").await);
    let mut elsewhere = held.finish(Outcome::Failed);
    elsewhere.daemon.organization = "another".to_owned();
    assert!(free_beside(&world, elsewhere.clone(), "workspaces").await);
    assert!(free_beside(&world, elsewhere, "jobs").await);
    let own = held.finish(Outcome::Failed);
    assert!(!free_beside(&world, own, "workspaces").await);
}

#[tokio::test]
async fn the_server_is_asked_for_its_time_once_a_second() {
    let clock = ServerClock::new(TimeSource::Server);
    assert_eq!(clock.fresh(), None);
    // A process may be stopped in between, but not each time.
    let counted_on = (0..10).find_map(|_| {
        assert_eq!(clock.said(5_000), 5_000);
        clock.fresh()
    });
    let counted_on = counted_on.expect("said just now");
    assert!((5_000..7_000).contains(&counted_on), "{counted_on}");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(clock.fresh(), None);
    assert!(clock.now_ms() >= 6_050);
}
