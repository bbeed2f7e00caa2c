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
