use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proto::timings::Timings;
use rusqlite::StatementStatus;
use tempfile::TempDir;

use super::*;
use crate::store::clock::Manual;
use crate::store::conformance::{self, world::World};
use crate::store::sql::rows::values;
use crate::store::{Error, Store};

async fn open(clock: Manual) -> Option<(Sqlite, TempDir)> {
    let dir = TempDir::new().expect("a directory");
    let store = open_in(&dir, clock);
    Some((store, dir))
}

fn open_in(dir: &TempDir, clock: Manual) -> Sqlite {
    let path = dir.path().join("queue.db");
    Sqlite::open(&path, Timings::default(), TimeSource::Manual(clock)).expect("a store")
}

crate::store::conformance::conformance!(crate::store::sqlite::tests::open);

#[tokio::test]
async fn what_was_answered_is_there_after_a_reopen() {
    let clock = Manual::at(1_700_000_000_000);
    let dir = TempDir::new().expect("a directory");
    let store = open_in(&dir, clock.clone());
    store
        .create_organization("kept".to_owned())
        .await
        .expect("made");
    // A copy of the files as they are, without any shutdown.
    let copy = TempDir::new().expect("a directory");
    for name in ["queue.db", "queue.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).expect("copied");
    }
    let store = open_in(&copy, clock);
    let names = store.list_organizations().await.expect("a list");
    assert!(names.iter().any(|organization| organization.name == "kept"));
}

/// Holds the writer so that the commands behind it meet in one batch.
async fn holds_the_writer(store: &Sqlite) -> Result<()> {
    let slow = |_: &mut Tx<'_>| {
        #[allow(
            clippy::disallowed_methods,
            reason = "a slow command is what is tested"
        )]
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    };
    Database::write(store, slow).await
}

#[tokio::test]
async fn one_failing_command_sinks_no_other_of_its_batch() {
    let world = World::open(open).await.expect("a world");
    let store = &world.store;
    let mut events = world.store.subscribe();
    let block = holds_the_writer(store);
    let good = store.create_organization("good".to_owned());
    let half = store.write(|tx| {
        tx.create_organization("half")?;
        tx.create_organization("half")
    });
    let also_good = store.create_organization("also-good".to_owned());
    let job = proto::ids::JobId::generate();
    let tells = store.write(move |tx| {
        tx.emit(Event::JobChanged(job));
        Ok(())
    });
    let (block, tells, good, half, also_good) = tokio::join!(block, tells, good, half, also_good);
    block.expect("ran");
    tells.expect("ran");
    // It ran before the one that failed, and once more with the rest of the batch.
    assert!(matches!(events.try_recv(), Ok(Event::JobChanged(told)) if told == job));
    assert!(events.try_recv().is_err(), "told once");
    good.expect("made");
    also_good.expect("made");
    assert!(matches!(half, Err(Error::Exists { .. })));
    let all = store.list_organizations().await.expect("a list");
    let names: Vec<_> = all.into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["also-good", "default", "good"]);
}

/// As SQLite does by itself where a disk fills: the command may not even hear of it.
#[tokio::test]
async fn a_command_that_ends_the_transaction_makes_nothing_last() {
    let world = World::open(open).await.expect("a world");
    let store = &world.store;
    let ends = || {
        store.write(|tx| {
            tx.create_organization("first")?;
            tx.db.prepare("ROLLBACK").run(&[])
        })
    };
    assert!(ends().await.is_err(), "alone");
    let beside = store.create_organization("beside".to_owned());
    let (_its_own, ended, beside) = tokio::join!(holds_the_writer(store), ends(), beside);
    assert!(ended.is_err(), "in company");
    let all = store.list_organizations().await.expect("a list");
    let there = |name: &str| all.iter().any(|it| it.name == name);
    assert!(!there("first"));
    assert_eq!(there("beside"), beside.is_ok(), "as it was answered");
}

#[tokio::test]
async fn an_undone_command_tells_nobody() {
    let world = World::open(open).await.expect("a world");
    let mut events = world.store.subscribe();
    let undone: Result<()> = world
        .store
        .write(|tx| {
            tx.emit(Event::JobChanged(proto::ids::JobId::generate()));
            Err(Error::Closed)
        })
        .await;
    assert!(undone.is_err());
    world.store.check().await.expect("a transaction");
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn a_look_sees_what_goes_before_it_and_a_failed_one_repeats_nothing() {
    let world = World::open(open).await.expect("a world");
    let store = &world.store;
    let runs = Arc::new(AtomicU32::new(0));
    let ran = Arc::clone(&runs);
    let made = store.write(move |tx| {
        ran.fetch_add(1, Ordering::SeqCst);
        tx.create_organization("made")
    });
    let sees = store.peek(|view| {
        let named = view
            .db
            .prepare("SELECT 1 FROM organizations WHERE name = ?1");
        named.exists(values!["made"])
    });
    let fails = store.peek(|_| Err::<(), _>(Error::Closed));
    let (block, made, sees, fails) = tokio::join!(holds_the_writer(store), made, sees, fails);
    block.expect("ran");
    made.expect("made");
    assert!(sees.expect("an answer"));
    assert!(fails.is_err());
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn looks_alone_write_nothing() {
    let dir = TempDir::new().expect("a directory");
    let clock = Manual::at(5_000);
    let store = open_in(&dir, clock.clone());
    store.check().await.expect("a transaction");
    let log = || std::fs::read(dir.path().join("queue.db-wal")).expect("a log");
    let before = log();
    clock.advance(Duration::from_secs(1));
    let mark = store.peek(|view| high_water(view.db));
    assert_eq!(mark.await.expect("a mark"), 5_000);
    assert!(log() == before, "the log is as it was");
    store.check().await.expect("a transaction");
    assert!(log() != before, "a write is seen");
}

#[tokio::test]
async fn each_commit_raises_the_high_water_mark_and_none_lowers_it() {
    let dir = TempDir::new().expect("a directory");
    let clock = Manual::at(5_000);
    let store = open_in(&dir, clock.clone());
    clock.advance(Duration::from_secs(1));
    store.check().await.expect("a transaction");
    let mark = || store.read(|view| high_water(view.db));
    assert_eq!(mark().await.expect("a mark"), 6_000);
    let earlier = open_in(&dir, Manual::at(1_000));
    earlier.check().await.expect("a transaction");
    assert_eq!(mark().await.expect("a mark"), 6_000);
}

#[tokio::test]
async fn a_broken_file_is_refused_and_not_overwritten() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("queue.db");
    std::fs::write(
        &path,
        b"this is no database at all, but a file of someone's",
    )
    .expect("written");
    let clock = TimeSource::Manual(Manual::at(0));
    let refused = Sqlite::open(&path, Timings::default(), clock);
    assert!(matches!(refused, Err(Error::Backend { .. })));
    let kept = std::fs::read(&path).expect("read");
    assert!(kept.starts_with(b"this is no database"));
}

#[tokio::test]
async fn a_disk_that_stalled_loses_no_job_whose_updates_had_to_wait() {
    let world = World::open(open).await.expect("a world");
    conformance::losses::nothing_is_lost_by_a_look_that_had_to_wait(world).await;
}

#[tokio::test]
async fn a_writer_that_panics_closes_the_store_and_says_so() {
    let world = World::open(open).await.expect("a world");
    let store = &world.store;
    let mut closed = Box::pin(Store::closed(store));
    let open = tokio::select! {
        biased;
        () = &mut closed => false,
        () = std::future::ready(()) => true,
    };
    assert!(open, "it has not panicked yet");
    let broken: Result<()> = store.write(|_| panic!("a transition that panics")).await;
    assert!(broken.is_err());
    closed.await;
    assert!(matches!(store.check().await, Err(Error::Closed)));
}

#[tokio::test]
async fn who_calls_is_known_while_every_place_for_pages_is_taken() {
    let world = World::open(open).await.expect("a world");
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let slow = || {
        let (store, wait) = (world.store.clone(), wait.clone());
        tokio::spawn(async move {
            let query = move |_: Snapshot<'_>| {
                // Ends when nobody can send any more.
                let _ended = wait.lock().expect("no panic").recv();
                Ok(())
            };
            Database::read(&store, query).await
        })
    };
    let pages: Vec<_> = (0..20).map(|_| slow()).collect();
    let busy = async || world.store.inner.readers.pages_left() == 0;
    while !busy().await {
        tokio::task::yield_now().await;
    }
    let found = world.store.find_key(conformance::world::KEY_HASH).await;
    assert!(found.expect("an answer").is_some());
    drop(release);
    for page in pages {
        page.await.expect("a task").expect("a page");
    }
}

/// How often one statement was compiled again for its values.
fn compiled_again(conn: &Connection) -> i32 {
    let schema = "CREATE TABLE t (a TEXT, b TEXT); CREATE INDEX t_x ON t (b) WHERE a = 'x'";
    conn.execute_batch(schema).expect("a table");
    let mut statement = conn
        .prepare("SELECT b FROM t WHERE a = ?1")
        .expect("compiled");
    for value in ["x", "y", "x"] {
        assert!(!statement.exists([value]).expect("asked"));
    }
    statement.get_status(StatementStatus::RePrepare)
}

#[test]
fn no_value_compiles_a_statement_again() {
    let conn = Connection::open_in_memory().expect("opened");
    assert!(compiled_again(&conn) > 0, "as SQLite has it");
    let conn = Connection::open_in_memory().expect("opened");
    plans_stand(&conn).expect("configured");
    assert_eq!(compiled_again(&conn), 0);
}
