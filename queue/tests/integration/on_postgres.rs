//! The same queue on a real PostgreSQL.

use std::sync::OnceLock;

use proto::timings::Timings;
use queue::Options;
use queue::store::postgres;

use crate::harness::*;
use crate::skip::skip;

#[path = "../../../testdata/postgres.rs"]
#[allow(
    dead_code,
    reason = "the file is shared with tests that crash their server"
)]
mod server;

use server::{Durability, Server};

/// A queue, and its database, which goes when it is dropped; none without PostgreSQL.
pub async fn start(timings: Timings) -> Option<(Queue, server::Database<'static>)> {
    let database = shared()?.database();
    let dir = tempfile::tempdir().expect("tempdir");
    let options = Options {
        timings,
        database: queue::Database::Postgres(postgres::Options::new(database.url())),
        ..options(&dir)
    };
    Some((Queue::start_in(dir, options).await, database))
}

/// Two replicas on one database, with blobs that they share.
pub async fn two(timings: Timings) -> Option<([Queue; 2], server::Database<'static>)> {
    let database = shared()?.database();
    let blobs = tempfile::tempdir().expect("tempdir");
    let replica = async |dir: tempfile::TempDir| {
        let options = Options {
            timings: timings.clone(),
            database: queue::Database::Postgres(postgres::Options::new(database.url())),
            blob_dir: Some(blobs.path().to_owned()),
            ..options(&dir)
        };
        Queue::start_in(dir, options).await
    };
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().expect("tempdir"));
    let here = replica(first).await;
    // The first one writes it; who is given it has it too.
    let token = here.dir.path().join("admin.token");
    std::fs::copy(token, second.path().join("admin.token")).expect("copied");
    let there = replica(second).await;
    // Nothing larger than a row is put there.
    drop(blobs);
    Some(([here, there], database))
}

/// Throws everybody out of the database and lets nobody in, or lets all in again.
pub fn shuts(database: &server::Database<'_>, shut: bool) {
    let (server, name) = (shared().expect("it serves"), database.name());
    let allow = format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS {}", !shut);
    server.sql("postgres", &allow);
    let out = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ";
    server.sql("postgres", &format!("{out}'{name}'"));
}

fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    let started = SERVER.get_or_init(|| Server::start(Durability::None));
    let skipped = |why: &&String| skip("the queue on PostgreSQL", why);
    started.as_ref().inspect_err(skipped).ok()
}
