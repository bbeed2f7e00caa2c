//! The store through a transaction-pooling proxy: the core of the conformance suite, with
//! the one listener on its own way to the server.

use super::pooler::Pooler;
use super::*;
use crate::store::conformance::world::World;
use crate::store::{Event, Store as _};

/// What a store needs to live.
type Keep = (server::Database<'static>, Pooler);

fn port(url: &str) -> (u16, String) {
    let (before, after) = url.rsplit_once(':').expect("a port");
    let (port, database) = after.split_once('/').expect("a database");
    let _scheme_and_host = before;
    (port.parse().expect("a number"), database.to_owned())
}

async fn open(clock: Manual) -> Option<(Postgres, Keep)> {
    let database = migrated()?;
    let direct = database.url();
    let (port, name) = port(&direct);
    let pooler = Pooler::start(port).await;
    let mut options = Options::new(format!("postgres://postgres@{}/{name}", pooler.address));
    options.listen_url = Some(direct);
    options.between = Between::Pooler;
    let time = TimeSource::Manual(clock);
    let store = Postgres::open(&options, Timings::default(), time).await;
    Some((store.expect("a store"), (database, pooler)))
}

/// Transactions that follow each other have each another server connection, so that the
/// tests below test what they say.
#[tokio::test]
async fn each_transaction_has_another_connection() {
    let Some((store, (database, pooler))) = open(Manual::at(1_700_000_000_000)).await else {
        return;
    };
    let mut backends = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let pid = store.read(|view| {
            let pid = view.db.prepare("SELECT CAST(pg_backend_pid() AS BIGINT)");
            pid.one(&[], |row| row.get::<i64>(0))
        });
        backends.insert(pid.await.expect("a look"));
    }
    assert!(backends.len() >= 3, "{backends:?}");
    let both = async |n: u32| store.create_organization(format!("made {n}")).await;
    let made = tokio::join!(both(1), both(2), both(3), both(4));
    for made in [made.0, made.1, made.2, made.3] {
        made.expect("made");
    }
    let (transactions, changes) = pooler.counts();
    assert!(transactions > 8 && changes > 0, "{transactions}, {changes}");
    drop((store, database));
}

/// Names of prepared statements would be lost, or another replica's.
#[tokio::test]
async fn a_proxy_that_nobody_told_of_is_found_and_nothing_else() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let (port, name) = port(&database.url());
    let pooler = Pooler::start(port).await;
    let through = format!("postgres://postgres@{}/{name}", pooler.address);
    let pooled = connect(&through, Manual::at(1_700_000_000_000)).await;
    assert_eq!(pooled.inner.travel.naming, Naming::Unnamed);
    let direct = connect(&database.url(), Manual::at(1_700_000_000_000)).await;
    assert_eq!(direct.inner.travel.naming, Naming::Prepared);
}

/// A hint comes over the listener's own connection.
#[tokio::test]
async fn hints_are_heard_although_transactions_are_pooled() {
    let mut url = String::new();
    let here = World::open(async |clock| {
        let (store, keep) = open(clock).await?;
        url = keep.0.url();
        Some((store, keep))
    });
    let Some(here) = here.await else { return };
    let there = connect(&url, here.clock.clone()).await;
    let mut events = there.subscribe();
    let heard = async {
        // Hints are lost until the other listens.
        for n in 0_u32.. {
            let (_, submitted) = here.push(&format!("template {n}")).await;
            let ready = |event: &Event| matches!(event, Event::JobReady { job, .. } if *job == submitted.id);
            let wait = async { while !events.recv().await.is_ok_and(|event| ready(&event)) {} };
            let waited = tokio::time::timeout(std::time::Duration::from_millis(200), wait);
            if waited.await.is_ok() {
                return;
            }
        }
    };
    let soon = tokio::time::timeout(std::time::Duration::from_secs(10), heard);
    soon.await.expect("a hint");
}

/// What is logged on this thread, where the store's tasks run too.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(tracing::Level, String)>>>);

impl Log {
    fn lines(&self, level: tracing::Level, with: &str) -> usize {
        let lines = self.0.lock().expect("lines");
        let wanted = |(of, text): &&(tracing::Level, String)| *of == level && text.contains(with);
        lines.iter().filter(wanted).count()
    }

    async fn until(&self, level: tracing::Level, with: &str, count: usize) {
        let there = async {
            while self.lines(level, with) < count {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let soon = tokio::time::timeout(std::time::Duration::from_mins(1), there);
        soon.await.expect(with);
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{value:?} ");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let line = (*event.metadata().level(), text.0);
        self.0.lock().expect("lines").push(line);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

const DEAF: &str = "--database-listen-url";
const HEARS: &str = "hints are heard";

/// Ends whatever listens on a database; what comes next listens anew.
fn end_listeners(database: &server::Database<'_>) {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    shared().expect("a server").sql(database.name(), end);
}

#[tokio::test]
async fn a_replica_that_hears_nothing_says_so_each_time_it_begins_to_listen() {
    let Some(database) = migrated() else { return };
    let log = Log::default();
    let _heard = tracing::subscriber::set_default(log.clone());
    let (port, name) = port(&database.url());
    let pooler = Pooler::start(port).await;
    let through = format!("postgres://postgres@{}/{name}", pooler.address);
    let store = connect(&through, Manual::at(1_700_000_000_000)).await;
    log.until(tracing::Level::WARN, DEAF, 1).await;
    // Talk goes on: it is only not heard.
    store.read(|_| Ok(())).await.expect("a look");
    end_listeners(&database);
    log.until(tracing::Level::WARN, DEAF, 2).await;
    assert_eq!(log.lines(tracing::Level::DEBUG, HEARS), 0);
}

#[tokio::test]
async fn a_replica_that_hears_says_nothing() {
    let Some(database) = migrated() else { return };
    let log = Log::default();
    let _heard = tracing::subscriber::set_default(log.clone());
    let _direct = connect(&database.url(), Manual::at(1_700_000_000_000)).await;
    log.until(tracing::Level::DEBUG, HEARS, 1).await;
    end_listeners(&database);
    log.until(tracing::Level::DEBUG, HEARS, 2).await;
    // Transactions through a proxy, and the listener on its own way.
    let opened = open(Manual::at(1_700_000_000_000)).await;
    log.until(tracing::Level::DEBUG, HEARS, 3).await;
    assert_eq!(log.lines(tracing::Level::WARN, DEAF), 0);
    drop(opened);
}

crate::store::conformance::conformance!(@on crate::store::postgres::tests::pooled::open,
    handing_out: [
        a_job_is_handed_out_once_and_the_lease_begins_with_the_confirm,
        an_unconfirmed_offer_goes_back_after_fifteen_seconds,
        interactive_goes_first_and_owners_share,
    ],
    late: [
        a_late_state_follows_its_own_recovery,
    ],
    losses: [
        lost_before_the_gate_waits_again_three_times,
        lost_after_the_gate_is_failed_with_the_newest_checkpoint,
        contact_ends_the_control_grace,
    ],
    many: [
        concurrent_acquires_never_share_a_job,
    ],
    output: [
        lines_are_stored_once_whatever_is_repeated,
        lines_of_a_fenced_attempt_are_kept_and_nothing_else,
    ],
    races: [
        one_of_many_builds_begins,
        one_of_many_namesakes_is_made,
        versions_pushed_at_once_have_numbers_of_their_own,
        one_of_many_instances_gets_the_name,
        one_verdict_stands_whoever_gives_it,
    ],
    side_by_side: [
        a_fleet_at_once_does_what_it_does_one_by_one,
    ],
    states: [
        a_finish_replaces_the_state_its_build_started_from,
        blobs_are_inserted_once_and_read_by_their_leases,
    ],
    unary: [
        an_offer_that_was_not_confirmed_is_made_again,
    ],
    gate: [
        the_gate_opens_once_and_lengthens_the_lease,
        a_repeated_finish_is_answered_like_the_first,
    ],
);
