//! Many jobs, many daemons.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proto::ids::Digest;

use super::world::{World, all_jobs, contact, submission, tags, untagged};
use crate::matching::Tags;
use crate::store::Store;
use crate::store::model::{Acquire, BlobId, JobFilter, PlanTemplate, Submission, VersionRow};
use crate::store::sql::Database;
use crate::store::sql::rows::values;
use crate::words::{Outcome, Status};

/// An acquire among [`JOBS`] must stay below this even in an unoptimised build on a
/// busy machine; it takes about a tenth of it.
const QUICK: Duration = Duration::from_millis(250);
const JOBS: usize = 10_000;

/// Jobs that one transaction submits: each in its own would be most of the test.
const AT_ONCE: usize = 200;

async fn submit_many<S: Database>(world: &World<S>, jobs: usize) {
    let version = world.template("template").await;
    submit_tagged(world, &version, jobs, &untagged()).await;
}

/// Dry runs of fifty owners.
async fn submit_tagged<S: Database>(
    world: &World<S>,
    version: &VersionRow,
    jobs: usize,
    tags: &Tags,
) {
    let plans: Vec<PlanTemplate> = (0..jobs)
        .map(|number| PlanTemplate {
            organization: super::world::ORG.to_owned(),
            version: version.id,
            parameters: Vec::new(),
            submission: Submission {
                tags: tags.clone(),
                ..submission(&format!("owner {}", number % 50))
            },
        })
        .collect();
    for plans in plans.chunks(AT_ONCE) {
        let plans = plans.to_vec();
        let submitted = world.store.write(move |tx| {
            for plan in &plans {
                tx.plan_template(plan)?;
            }
            Ok(())
        });
        submitted.await.expect("jobs");
    }
}

pub(crate) async fn an_acquire_among_ten_thousand_jobs_is_quick<S: Database>(world: World<S>) {
    submit_many(&world, JOBS).await;
    let newest = world.store.list_jobs(all_jobs()).await;
    let newest = newest.expect("jobs")[0].id.parse().expect("an id");
    let (forecast, place) = super::forecasts::costs(&world, newest).await;
    let most = super::forecasts::STATEMENTS;
    assert!(forecast <= most.0 && place <= most.1, "{forecast}, {place}");
    // Each of fifty owners has two hundred, of which this one's is the last.
    let position = world.prospect(newest).await.position;
    assert!((9_950..10_000).contains(&position), "{position}");
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        world.offered(contact("worker")).await.expect("a job");
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < QUICK, "{quickest:?}");
}

pub(crate) async fn an_acquire_looks_at_lanes_and_not_at_jobs<S: Database>(world: World<S>) {
    let version = world.template("template").await;
    let elsewhere = tags(&[("scope", "organization"), ("owner", ""), ("gpu", "yes")]);
    let mut looked_at = Vec::new();
    for more in [100, 1_900] {
        submit_tagged(&world, &version, more, &elsewhere).await;
        submit_tagged(&world, &version, more, &untagged()).await;
        let acquire = Acquire {
            contact: contact("worker"),
            kinds: Vec::new(),
        };
        let visits = world.store.write(move |tx| {
            let before = tx.db.visited()?;
            let answer = tx.acquire_all(std::slice::from_ref(&acquire))?.pop();
            let answer = answer.flatten().expect("an answer")?;
            answer.job().expect("a job");
            Ok(tx.db.visited()? - before)
        });
        looked_at.push(visits.await.expect("acquire"));
    }
    // Twenty times the jobs in the same lanes; one more of them is in hand.
    let (few, many) = (looked_at[0], looked_at[1]);
    assert!(few > 50, "{few} visits cannot have come to each lane");
    assert!(many <= few + few / 20, "{few} visits became {many}");
}

pub(crate) async fn concurrent_acquires_never_share_a_job<S: Database>(world: World<S>) {
    submit_many(&world, 100).await;
    let mut waiting = Vec::new();
    for number in 0..120 {
        let store = world.store.clone();
        let acquire = Acquire {
            contact: contact(&format!("worker {number}")),
            kinds: Vec::new(),
        };
        waiting.push(tokio::spawn(async move { store.acquire(acquire).await }));
    }
    let mut given = HashSet::new();
    for task in waiting {
        if let Some(job) = task.await.expect("a task").expect("acquire").job() {
            assert!(given.insert(job.id), "handed out twice");
        }
    }
    assert_eq!(given.len(), 100);
}

pub(crate) async fn a_list_by_status_looks_at_no_other_job<S: Database>(world: World<S>) {
    let version = world.template("template").await;
    submit_tagged(&world, &version, 1, &untagged()).await;
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Failed)).await;
    let mut looked_at = Vec::new();
    for more in [100, 1_900] {
        submit_tagged(&world, &version, more, &untagged()).await;
        let cancel = world.store.write(move |tx| {
            let cancel = "UPDATE jobs SET state = 'canceled', completed_at = ?1 \
                 WHERE state = 'pending'";
            tx.db.prepare(cancel).execute(values![tx.now])
        });
        assert_eq!(cancel.await.expect("canceled"), more as u64);
        submit_tagged(&world, &version, 3, &untagged()).await;
        // As the database does by itself, some time after such changes.
        let known = world
            .store
            .write(|tx| tx.db.prepare("ANALYZE jobs").execute(values![]));
        known.await.expect("statistics");
        let wanted = [
            (Status::Failed, 1),
            (Status::Pending, 3),
            (Status::Running, 0),
        ];
        for (at, (status, expected)) in wanted.into_iter().enumerate() {
            let filter = JobFilter {
                status: Some(status),
                ..all_jobs()
            };
            // Twenty times the jobs of another status.
            let limit = looked_at.get(at).map(|few| few + few / 10 + 10);
            let visits = visits_of_a_list(&world, &filter, expected, limit).await;
            assert!(
                limit.is_none_or(|limit| visits <= limit),
                "{status}: {visits} beside {more}, {looked_at:?}"
            );
            looked_at.push(visits);
        }
        let taken = world.store.write(|tx| {
            let cancel = "UPDATE jobs SET state = 'canceled', completed_at = ?1 \
                 WHERE state = 'pending'";
            tx.db.prepare(cancel).execute(values![tx.now])
        });
        taken.await.expect("canceled");
    }
}

pub(crate) async fn who_names_a_blob_looks_at_its_own_job_only<S: Database>(world: World<S>) {
    let version = world.template("template").await;
    submit_tagged(&world, &version, 1, &untagged()).await;
    let held = world.take("worker").await;
    let blob = BlobId {
        digest: Digest::from_array([7; 32]),
        size: 7,
    };
    let holder = held.holder();
    let visits = async || {
        let holder = holder.clone();
        let visits = world.store.write(move |tx| {
            let before = tx.db.visited()?;
            assert!(!tx.holds(blob, &holder)?);
            Ok(tx.db.visited()? - before)
        });
        visits.await.expect("a look")
    };
    // Where PostgreSQL plans it while the tables are nearly empty, and keeps the plan.
    let few = visits().await;
    submit_tagged(&world, &version, 2_000, &untagged()).await;
    let many = visits().await;
    assert!(many <= few + 10, "{few} visits became {many}");
}

/// Fewest visits of several lists, until they are within the limit: `PostgreSQL` meets
/// entries of rows that changed again and again, until no transaction needs them.
async fn visits_of_a_list<S: Database>(
    world: &World<S>,
    filter: &JobFilter,
    expected: usize,
    limit: Option<u64>,
) -> u64 {
    let mut fewest = u64::MAX;
    for tried in 0..100 {
        let filter = filter.clone();
        let visits = world.store.write(move |tx| {
            let before = tx.db.visited()?;
            let listed = tx.list_jobs(&filter)?;
            assert_eq!(listed.len(), expected, "{:?}", filter.status);
            Ok(tx.db.visited()? - before)
        });
        fewest = fewest.min(visits.await.expect("a list"));
        if tried >= 3 && limit.is_none_or(|limit| fewest <= limit) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fewest
}
