mod commands;
mod company;
mod crashes;
mod pooled;
mod pooler;
mod proxy;
mod replicas;
mod sessions;
mod setup;

#[path = "../../../../testdata/postgres.rs"]
pub(crate) mod server;
#[path = "../../../../testdata/skip.rs"]
mod skipped;

use std::sync::OnceLock;

use proto::timings::{self, Timings};
use tokio::time::Instant;

use super::*;
use server::{Durability, Server};

/// The one server that the tests of rules share.
pub(crate) fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<std::result::Result<Server, String>> = OnceLock::new();
    let started = SERVER.get_or_init(|| Server::start(Durability::None));
    started.as_ref().inspect_err(|why| skip(why)).ok()
}

/// A server that a test may crash.
fn own() -> Option<Server> {
    let started = Server::start(Durability::Full);
    started.inspect_err(|why| skip(why)).ok()
}

fn skip(why: &str) {
    skipped::skip("tests of the PostgreSQL store", why);
}

/// A database of the shared server that has the newest schema: a copy of one that was
/// migrated, because that takes longer than most tests.
fn migrated() -> Option<server::Database<'static>> {
    static MODEL: OnceLock<server::Database<'static>> = OnceLock::new();
    let server = shared()?;
    let model = MODEL.get_or_init(|| {
        let database = server.database();
        let url = database.url();
        // A runtime of its own: its end ends the connections, and nobody can copy before.
        let migrating = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            runtime.block_on(async { drop(connect(&url, Manual::at(0)).await) });
        });
        migrating.join().expect("migrated");
        database
    });
    Some(server.copy_of(model))
}

async fn open(clock: Manual) -> Option<(Postgres, server::Database<'static>)> {
    let database = migrated()?;
    let store = connect(&database.url(), clock).await;
    Some((store, database))
}

async fn connect(url: &str, clock: Manual) -> Postgres {
    try_connect(url, clock).await.expect("a store")
}

async fn try_connect(url: &str, clock: Manual) -> std::result::Result<Postgres, OpenError> {
    let options = Options::new(url.to_owned());
    let time = TimeSource::Manual(clock);
    Postgres::open(&options, Timings::default(), time).await
}

crate::store::conformance::conformance!(crate::store::postgres::tests::open);
