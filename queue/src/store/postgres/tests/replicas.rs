//! Two stores on one database, as two replicas have them.

use std::time::Duration;

use tokio::sync::broadcast::Receiver;

use super::*;
use crate::store::Store as _;
use crate::store::conformance::limits;
use crate::store::conformance::world::{ORG, World, lines, replica};
use crate::store::model::Update;
use crate::words::Cancel;

/// How long a hint may take on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(10);

struct Pair {
    here: World<Postgres>,
    there: Postgres,
}

async fn pair() -> Option<Pair> {
    let mut url = String::new();
    let here = World::open(async |clock| {
        let (store, database) = open(clock).await?;
        url = database.url();
        Some((store, database))
    });
    let here = here.await?;
    let there = connect(&url, here.clock.clone()).await;
    Some(Pair { here, there })
}

/// Waits for an event that `wanted` takes.
async fn hear(events: &mut Receiver<Event>, wanted: impl Fn(&Event) -> bool) {
    let heard = async {
        loop {
            match events.recv().await {
                Ok(event) if wanted(&event) => return,
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(SOON, heard).await.expect("a hint");
}

/// Waits until `there` listens: the hints of replicas are lost before.
async fn connected(pair: &Pair) -> Receiver<Event> {
    let mut events = pair.there.subscribe();
    let name = |n: u32| format!("probe {n}");
    for n in 0_u32.. {
        let key = name(n);
        let told = Event::KeyRevoked {
            organization: ORG.to_owned(),
            key: key.clone(),
        };
        pair.here.store.inner.hints.tell(vec![told.clone()]);
        let heard = hear(&mut events, |event| *event == told);
        if tokio::time::timeout(Duration::from_millis(100), heard)
            .await
            .is_ok()
        {
            break;
        }
    }
    events
}

#[tokio::test]
async fn what_happens_on_one_replica_is_heard_on_the_other() {
    let Some(pair) = pair().await else { return };
    let mut there = connected(&pair).await;
    let (_, submitted) = pair.here.push("template").await;
    let job = submitted.id;
    hear(
        &mut there,
        |e| matches!(e, Event::JobReady { job: of, .. } if *of == job),
    )
    .await;
    let held = pair.here.take("worker").await;
    hear(&mut there, |e| *e == Event::JobChanged(job)).await;
    let update = Update {
        lines: lines(1..=3),
        ..held.update(1)
    };
    pair.here.tell(update).await;
    hear(&mut there, |e| *e == Event::LogsAppended(job)).await;
    let page = pair
        .there
        .logs_after(ORG.to_owned(), job, 0, 10)
        .await
        .expect("a page");
    assert_eq!(page.lines.len(), 3);

    let mut here = pair.here.store.subscribe();
    let canceled = pair.there.cancel(ORG.to_owned(), job, Cancel::Cancel);
    canceled.await.expect("canceled");
    let wanted = Event::CancelRequested {
        job,
        organization: ORG.to_owned(),
        daemon: "worker".to_owned(),
        kind: Cancel::Cancel,
    };
    hear(&mut here, |event| *event == wanted).await;
}

#[tokio::test]
async fn an_update_at_one_replica_ends_the_control_grace_that_began_at_another() {
    let Some(pair) = pair().await else { return };
    pair.here.push("template").await;
    let held = pair.here.take("worker").await;
    pair.here
        .store
        .control_lost(held.daemon.clone(), replica())
        .await
        .expect("noted");
    pair.here.pass(2).await;
    pair.there.update(held.update(1)).await.expect("accepted");
    pair.here.pass(4).await;
    let job = pair
        .there
        .job(ORG.to_owned(), held.id)
        .await
        .expect("a job");
    assert_eq!(job.status(), proto::v1::JobStatus::Running);
}

#[tokio::test]
async fn a_replica_that_has_just_come_up_lets_nothing_expire() {
    let Some(pair) = pair().await else { return };
    pair.here.push("template").await;
    let held = pair.here.take("worker").await;
    pair.here.clock.advance(Duration::from_secs(60));
    for _ in 0..4 {
        let expired = pair.there.expire().await.expect("a look");
        assert_eq!(expired, crate::store::model::Expired::default());
        pair.here.clock.advance(Duration::from_secs(4));
    }
    pair.there
        .update(held.update(1))
        .await
        .expect("it came in time");
    let job = pair.here.job(held.id).await;
    assert_eq!(job.status(), proto::v1::JobStatus::Running);
}

#[tokio::test]
async fn a_broken_listener_comes_back_and_says_that_something_may_be_missed() {
    let Some(pair) = pair().await else { return };
    let mut there = connected(&pair).await;
    let killed = pair.here.store.read(|view| {
        let listeners = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()
                 AND (query LIKE '%pg_notify%' OR query LIKE 'LISTEN%'
                     OR query LIKE 'DELETE FROM commits%')";
        view.db.prepare(listeners).one(&[], |row| row.get::<i64>(0))
    });
    assert!(killed.await.expect("asked") >= 1);
    hear(&mut there, |event| *event == Event::Missed).await;
    drop(connected(&pair).await);
}

#[tokio::test]
async fn acquires_at_two_replicas_never_share_a_job() {
    let Some(pair) = pair().await else { return };
    for n in 0..20 {
        pair.here.push(&format!("template {n}")).await;
    }
    let mut asking = Vec::new();
    for n in 0..24 {
        let store = if n % 2 == 0 {
            &pair.here.store
        } else {
            &pair.there
        };
        let acquire = crate::store::model::Acquire {
            contact: crate::store::conformance::world::contact(&format!("worker {n}")),
            kinds: Vec::new(),
        };
        let store = store.clone();
        asking.push(tokio::spawn(async move { store.acquire(acquire).await }));
    }
    let mut given = std::collections::HashSet::new();
    for asked in asking {
        if let Some(job) = asked.await.expect("a task").expect("acquire").job() {
            assert!(given.insert(job.id), "handed out twice");
        }
    }
    assert_eq!(given.len(), 20);
}

#[tokio::test]
async fn a_limit_holds_when_two_replicas_hand_out_at_once() {
    let Some(pair) = pair().await else { return };
    limits::asked_by_many(&pair.here, &pair.there).await;
}
