use std::io::Write as _;
use std::sync::OnceLock;

use proto::timings::Timings;

use super::*;

#[path = "../../../../testdata/postgres.rs"]
mod server;

use server::{Durability, Server};

/// The one server of this test program.
fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<std::result::Result<Server, String>> = OnceLock::new();
    let started = SERVER.get_or_init(|| Server::start(Durability::None));
    started.as_ref().inspect_err(|why| skip(why)).ok()
}

/// `testdata/test` repeats it at the end.
fn skip(why: &str) {
    eprintln!("skipped: {why}");
    let Some(path) = std::env::var_os("PROVISIONERD_TEST_SKIPPED") else {
        return;
    };
    let file = std::fs::OpenOptions::new().append(true).open(path);
    let line = format!("tests of the PostgreSQL store: {why}\n");
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("the list of skipped tests can be written");
}

async fn open(clock: Manual) -> Option<(Postgres, server::Database<'static>)> {
    let database = shared()?.database();
    let store = connect(&database.url(), clock).await;
    Some((store, database))
}

async fn connect(url: &str, clock: Manual) -> Postgres {
    let options = Options::new(url.to_owned());
    let time = TimeSource::Manual(clock);
    let store = Postgres::open(&options, Timings::default(), time).await;
    store.expect("a store")
}

crate::store::conformance::conformance!(crate::store::postgres::tests::open);
