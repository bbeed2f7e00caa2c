//! Retention: what is old goes with all that hangs on it, and whatever a workspace, a daemon
//! or a person may still need stays, however old.

use std::time::Duration;

use proto::ids::JobId;
use proto::v1;

use super::world::{
    Held, ORG, World, all_jobs, contact, lines, named, replica, started, submission, tags, untagged,
};
use crate::store::model::{
    Abandon, Act, AuditEntry, Disposition, Drain, Finish, KeepStates, PlanTemplate, Pruned,
    PushState, Replace, ReplicaId, Retention, Submission, Update, VersionRow,
};
use crate::store::{Deleted, Error, Store};
use crate::words::{Outcome, Transition};

mod rest;
mod states;

pub(crate) use rest::{
    a_daemon_that_was_away_for_long_goes, a_daemon_with_a_job_in_hand_stays,
    old_lines_of_the_audit_log_go_and_young_ones_stay, one_replica_prunes_at_a_time,
    tags_that_no_job_asks_for_go_and_come_back,
};
pub(crate) use states::{
    a_checkpoint_of_a_running_build_stays, a_deleted_workspace_goes_whole_unless_a_state_waits,
    a_state_that_waits_stays_and_so_does_its_job,
    states_are_kept_by_number_or_by_age_and_the_current_one_always,
    the_build_whose_resources_are_shown_stays,
};

const DAY: Duration = Duration::from_hours(24);

/// Keeps nothing that is older than a month, but for daemons.
fn month() -> Retention {
    Retention {
        jobs: Some(DAY * 30),
        logs: Some(DAY * 30),
        states: KeepStates::Younger(DAY * 30),
        audit: Some(DAY * 30),
        daemons: None,
        late: DAY,
    }
}

/// Keeps all of everything.
fn all() -> Retention {
    Retention {
        jobs: None,
        logs: None,
        states: KeepStates::All,
        audit: None,
        daemons: None,
        late: DAY,
    }
}

async fn prune<S: Store>(world: &World<S>, keep: Retention) -> Pruned {
    // Whoever pruned before has had its time.
    world.clock.advance(Duration::from_mins(2));
    let pruned = world.store.prune(keep, replica()).await;
    pruned.expect("a pass")
}

/// A build with a line, a state and a resource, done.
async fn done<S: Store>(world: &World<S>, held: &Held, serial: u64) {
    world.open_gate(held, 1).await;
    let update = Update {
        lines: lines(1..=3),
        ..held.update(2)
    };
    world.tell(update).await;
    let mut finish = Finish {
        state: Some(world.state(serial, 0).await),
        ..held.finish(Outcome::Succeeded)
    };
    finish.report.extraction = Some(v1::Extraction {
        resources: vec![v1::Resource {
            name: format!("r{serial}"),
            ..v1::Resource::default()
        }],
        ..v1::Extraction::default()
    });
    assert_eq!(world.done(&finish).await, Disposition::Applied);
}

/// A workspace with so many builds that ended well, oldest first.
async fn built<S: Store>(world: &World<S>, name: &str, builds: u64) -> Vec<JobId> {
    let version = world.template("template").await;
    let mut jobs = vec![world.create(name, &version).await.id];
    for serial in 1..=builds {
        if serial > 1 {
            let next = world.build(name, Transition::Start).await.expect("a build");
            jobs.push(next.id);
        }
        let held = world.take("worker").await;
        done(world, &held, serial).await;
    }
    jobs
}

async fn is_there<S: Store>(world: &World<S>, job: JobId) -> bool {
    match world.store.job(ORG.to_owned(), job).await {
        Ok(_) => true,
        Err(Error::NotFound { .. }) => false,
        Err(error) => panic!("{error:?}"),
    }
}

async fn serials<S: Store>(world: &World<S>, name: &str) -> Vec<u64> {
    let states = world.store.states(named(name)).await.expect("states");
    states.into_iter().map(|state| state.serial).collect()
}

pub(crate) async fn an_old_job_goes_with_all_that_hangs_on_it<S: Store>(world: World<S>) {
    let jobs = built(&world, "ws", 6).await;
    world.clock.advance(DAY * 31);
    let view = world.workspace("ws").await;
    let pruned = prune(&world, month()).await;
    assert_eq!((pruned.jobs, pruned.workspaces), (4, 0));
    for (index, job) in jobs.iter().enumerate() {
        assert_eq!(
            is_there(&world, *job).await,
            index >= 4,
            "build {}",
            index + 1
        );
    }
    let gone = world
        .store
        .job(ORG.to_owned(), jobs[0])
        .await
        .expect_err("gone");
    assert!(gone.hint().contains("--keep-jobs"), "{}", gone.hint());
    let listed = world.store.list_jobs(all_jobs()).await.expect("a list");
    assert_eq!(listed.len(), 3, "two builds and the import");
    assert_eq!(world.workspace("ws").await, view, "it looks as before");
    // What the last build made, what it and the one before it started from.
    assert_eq!(serials(&world, "ws").await, [6, 5, 4]);
    let states = world.store.states(named("ws")).await.expect("states");
    assert_eq!(
        states[2].job_id,
        Some(jobs[3].to_string()),
        "of a job that is gone"
    );
    assert_eq!(
        prune(&world, month()).await,
        Pruned::default(),
        "nothing is left to do"
    );
    let next = world.build("ws", Transition::Start).await.expect("a build");
    let held = world.take("worker").await;
    assert_eq!(held.id, next.id);
    assert!(held.header.state.is_some());
    done(&world, &held, 7).await;
}

pub(crate) async fn a_log_that_went_is_told_from_one_that_never_was<S: Store>(world: World<S>) {
    let jobs = built(&world, "ws", 3).await;
    world.clock.advance(DAY * 31);
    let keep = Retention {
        logs: Some(DAY * 30),
        ..all()
    };
    let pruned = prune(&world, keep).await;
    let logs = async |job: JobId, after: u64| {
        let page = world
            .store
            .logs_after(ORG.to_owned(), job, after, 100)
            .await;
        page.map(|page| page.lines.len())
            .map_err(|error| error.code())
    };
    assert_eq!(pruned.logs, 2);
    assert_eq!(logs(jobs[0], 0).await, Err("PRUNED"));
    assert_eq!(
        logs(jobs[0], 3).await,
        Ok(0),
        "who has read all misses nothing"
    );
    assert_eq!(logs(jobs[1], 0).await, Err("PRUNED"));
    assert_eq!(logs(jobs[2], 0).await, Ok(3), "of the newest build");
    let import = world.store.list_jobs(all_jobs()).await.expect("a list");
    let import = import
        .last()
        .expect("the import")
        .id
        .parse()
        .expect("an id");
    assert_eq!(logs(import, 0).await, Ok(0), "it said nothing");
    assert!(is_there(&world, jobs[0]).await, "the job itself stays");
}

pub(crate) async fn a_job_that_has_not_ended_never_goes<S: Store>(world: World<S>) {
    let (_, import) = world.push("template").await;
    world.clock.advance(DAY * 400);
    assert_eq!(prune(&world, month()).await.jobs, 0);
    assert!(is_there(&world, import.id).await);
    let held = world.take("worker").await;
    let update = Update {
        lines: lines(1..=3),
        ..held.update(1)
    };
    world.tell(update).await;
    prune(&world, month()).await;
    let page = world
        .store
        .logs_after(ORG.to_owned(), import.id, 0, 10)
        .await;
    assert_eq!(page.expect("a page").lines.len(), 3);
}

pub(crate) async fn a_job_whose_lease_may_still_bring_something_stays<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    let abandoned = world.store.abandon(ORG.to_owned(), held.id, Abandon::Force);
    abandoned.await.expect("abandoned");
    for serial in 1..=2 {
        world.build("ws", Transition::Start).await.expect("a build");
        let next = world.take("worker").await;
        done(&world, &next, serial).await;
    }
    let nothing = Retention {
        jobs: Some(Duration::ZERO),
        late: Duration::ZERO,
        ..all()
    };
    prune(&world, nothing).await;
    assert!(is_there(&world, held.id).await, "its lease goes on");
    let late = Finish {
        state: Some(world.state(9, 0).await),
        ..held.finish(Outcome::Succeeded)
    };
    assert_eq!(world.done(&late).await, Disposition::Late);
    let id = world.waiting("ws").await;
    let discarded = world.store.discard_state(named("ws"), id).await;
    discarded.expect("discarded");
    world.clock.advance(Duration::from_mins(20));
    let patient = Retention {
        late: DAY,
        ..nothing
    };
    prune(&world, patient).await;
    assert!(is_there(&world, held.id).await, "it was over only just now");
    prune(&world, nothing).await;
    assert!(!is_there(&world, held.id).await, "it is over");
}

pub(crate) async fn the_import_of_a_version_stays_and_one_tried_before_goes<S: Store>(
    world: World<S>,
) {
    let (_, import) = world.push("template").await;
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Failed)).await;
    let again = world.retry(import.id, "").await;
    let again = again.expect("again").id;
    let held = world.take("worker").await;
    let update = Update {
        lines: lines(1..=3),
        ..held.update(1)
    };
    world.tell(update).await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    world.clock.advance(DAY * 31);
    assert_eq!(prune(&world, month()).await.jobs, 1);
    assert!(!is_there(&world, import.id).await);
    assert!(is_there(&world, again).await);
    let log = world.store.logs_after(ORG.to_owned(), again, 0, 10).await;
    let log = log.expect("the log of an active version's import");
    assert_eq!(log.lines.len(), 3);
    let versions = world
        .store
        .template_versions(ORG.to_owned(), "template".to_owned());
    assert_eq!(versions.await.expect("versions").len(), 1);
}

pub(crate) async fn what_left_something_in_doubt_stays_until_that_is_settled<S: Store>(
    world: World<S>,
) {
    let held = world.behind_the_gate("ws").await;
    let update = Update {
        ledger: vec![started(1, "a.b")],
        lines: lines(1..=3),
        ..held.update(2)
    };
    world.tell(update).await;
    world.pass(600).await;
    for serial in 1..=2 {
        world.build("ws", Transition::Start).await.expect("a build");
        let next = world.take("worker").await;
        done(&world, &next, serial).await;
    }
    world.clock.advance(DAY * 31);
    let pruned = prune(&world, month()).await;
    assert_eq!(
        (pruned.jobs, pruned.logs),
        (0, 1),
        "the log of build 2 alone"
    );
    assert_eq!(world.workspace("ws").await.unconfirmed.len(), 1);
    let forgotten = world.store.forget(named("ws"), vec!["a.b".to_owned()]);
    forgotten.await.expect("forgotten");
    assert_eq!(prune(&world, month()).await.jobs, 1);
    assert!(!is_there(&world, held.id).await);
}

pub(crate) async fn a_job_with_thousands_of_rows_goes_in_small_steps<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    for seq in 1..=450 {
        let update = Update {
            lines: lines(seq..=seq),
            ledger: vec![started(seq, "a.b")],
            ..held.update(seq + 1)
        };
        world.tell(update).await;
    }
    world.done(&held.finish(Outcome::Failed)).await;
    for serial in 1..=2 {
        world.build("ws", Transition::Start).await.expect("a build");
        let next = world.take("worker").await;
        done(&world, &next, serial).await;
    }
    world.clock.advance(DAY * 31);
    assert_eq!(prune(&world, month()).await.jobs, 1);
    assert!(!is_there(&world, held.id).await);
}
