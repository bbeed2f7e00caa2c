//! Servers that crash, and connections that break at the worst moments.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::proxy::{Breaks, Proxy};
use super::*;
use crate::store::Store as _;
use crate::store::conformance::{self, world::World};

pub(super) async fn through(
    breaks: Breaks,
) -> Option<(Postgres, Proxy, server::Database<'static>)> {
    let server = shared()?;
    let database = server.database();
    let port = server.port().parse().expect("a number");
    let proxy = Proxy::start(port, breaks).await;
    let url = database
        .url()
        .replace(&server.port(), &proxy.address.port().to_string());
    let store = connect(&url, Manual::at(1_700_000_000_000)).await;
    Some((store, proxy, database))
}

/// A second run of this transition would answer that the name is taken.
async fn is_made_once(store: &Postgres, proxy: &Proxy, breaks: u32) {
    for n in 0..5 {
        proxy.break_next(breaks);
        let name = format!("organization {n}");
        let mut events = store.subscribe();
        let made = store.create_organization(name.clone()).await;
        made.expect("made, and not twice");
        assert_eq!(proxy.left(), 0, "the proxy broke what it should");
        let all = store.list_organizations().await.expect("a list");
        assert_eq!(all.iter().filter(|it| it.name == name).count(), 1);
        while let Ok(event) = events.try_recv() {
            assert_eq!(event, Event::Missed, "no other event belongs to this");
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_by_its_mark() {
    let Some((store, proxy, _database)) = through(Breaks::AfterCommit).await else {
        return;
    };
    is_made_once(&store, &proxy, 1).await;
}

#[tokio::test]
async fn a_transaction_that_broke_before_its_commit_is_run_again() {
    let Some((store, proxy, _database)) = through(Breaks::BeforeCommit).await else {
        return;
    };
    is_made_once(&store, &proxy, 3).await;
}

#[tokio::test]
async fn a_look_at_the_clock_does_not_wait_for_a_server_that_is_away() {
    let Some(server) = own() else { return };
    let url = server.database().url();
    let database = server.database();
    drop(url);
    let clock = Manual::at(1_700_000_000_000);
    let store = connect(&database.url(), clock.clone()).await;
    for _ in 0..6 {
        store.expire().await.expect("a look");
        clock.advance(Duration::from_secs(4));
    }
    assert!(store.check().await.is_ok());
    server.crash();
    let begun = Instant::now();
    let refused = store.expire().await;
    assert!(
        matches!(refused, Err(Error::Unreachable { .. })),
        "{refused:?}"
    );
    assert!(store.check().await.is_err());
    assert!(begun.elapsed() < timings::DATABASE);
    server.start_again();
    store.list_organizations().await.expect("it is back");
    let settle = store.inner.settle.lock().expect("a count").clone();
    let now = Database::now_ms(&store);
    assert!(
        !settle.clone().look(now, store.timings()),
        "the count begins anew"
    );
}

/// Crashes the server again and again until told to stop; how often it did.
fn crash_until(server: Arc<Server>, stop: mpsc::Receiver<()>) -> std::thread::JoinHandle<u32> {
    std::thread::spawn(move || {
        let mut crashes = 0;
        // Time to work in between.
        while let Err(mpsc::RecvTimeoutError::Timeout) =
            stop.recv_timeout(Duration::from_millis(700))
        {
            server.crash_and_restart();
            crashes += 1;
        }
        crashes
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_crashes_and_nothing_is_done_twice() {
    const WRITERS: u32 = 8;
    const CRASHES: u32 = 4;
    let Some(server) = own() else { return };
    let (server, done) = (Arc::new(server), Arc::new(AtomicBool::new(false)));
    let database = server.database();
    let store = connect(&database.url(), Manual::at(1_700_000_000_000)).await;
    let acknowledged = Arc::new(AtomicU32::new(0));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (store, done) = (store.clone(), done.clone());
        let count = acknowledged.clone();
        writers.push(tokio::spawn(async move {
            let mut made = Vec::new();
            for n in 0_u32.. {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let name = format!("made {writer} {n}");
                match store.create_organization(name.clone()).await {
                    Ok(_) => made.push(name),
                    // Nobody was told that it is there.
                    Err(Error::Unreachable { .. }) => {}
                    Err(error) => panic!("{name}: {error:?}"),
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
            made
        }));
    }
    for _ in 0..CRASHES {
        // Each crash meets a store at work.
        let before = acknowledged.load(Ordering::SeqCst);
        while acknowledged.load(Ordering::SeqCst) < before + 3 * WRITERS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let server = server.clone();
        let crash = tokio::task::spawn_blocking(move || server.crash_and_restart());
        crash.await.expect("a crash");
    }
    done.store(true, Ordering::SeqCst);
    let mut made = Vec::new();
    for writer in writers {
        made.extend(writer.await.expect("a writer"));
    }
    let all = store.list_organizations().await.expect("a list");
    let mut all: Vec<_> = all.into_iter().map(|it| it.name).collect();
    all.retain(|name| name != "default");
    made.sort();
    assert!(made.len() > 3 * (WRITERS * CRASHES) as usize / 2);
    for name in &made {
        assert!(
            all.binary_search(name).is_ok(),
            "{name} was acknowledged and is lost"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_commands_keep_the_invariants_while_the_server_crashes() {
    let Some(server) = own() else { return };
    let server = Arc::new(server);
    let database = server.database();
    let world = World::open(async |clock| Some((connect(&database.url(), clock).await, ())));
    let world = world.await.expect("a world");
    let (stop, stopped) = mpsc::channel();
    let crashing = crash_until(server.clone(), stopped);
    commands::keep_the_invariants(world).await;
    stop.send(()).expect("it listens");
    let crashes = crashing.join().expect("its count");
    assert!(crashes > 0, "nothing was tried");
}

#[tokio::test]
async fn a_server_that_stalled_loses_no_job_whose_updates_had_to_wait() {
    let world = World::open(async |clock| {
        let database = shared()?.database();
        let mut options = Options::new(database.url());
        options.connections = 1;
        let time = TimeSource::Manual(clock);
        let store = Postgres::open(&options, Timings::default(), time).await;
        Some((store.expect("a store"), database))
    });
    let Some(world) = world.await else { return };
    conformance::losses::nothing_is_lost_by_a_look_that_had_to_wait(world).await;
}
