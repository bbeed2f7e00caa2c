//! How many jobs of an owner or a template are handed out at once, and who is woken when
//! there is room again.

use proto::ids::JobId;
use proto::v1;
use tokio::sync::broadcast::Receiver;

use super::world::{Held, ORG, World, contact, submission, tags};
use crate::matching::Tags;
use crate::store::model::{Acquire, DaemonContact, JobFilter, SetLimit, Submission, VersionRow};
use crate::store::{Error, Event, Store};
use crate::words::{Cancel, LimitOf, Outcome};

/// An admin's word.
async fn limit<S: Store>(world: &World<S>, of: LimitOf, name: &str, most: Option<u32>) {
    let set = SetLimit {
        organization: ORG.to_owned(),
        of,
        name: name.to_owned(),
        most,
    };
    let set_to = world.store.set_limit(set).await.expect("a limit");
    assert_eq!((set_to.name.as_str(), set_to.most), (name, most));
}

/// A dry run.
fn gpu() -> Tags {
    tags(&[("scope", "organization"), ("owner", ""), ("gpu", "yes")])
}

fn on_gpu(owner: &str) -> Submission {
    Submission {
        tags: gpu(),
        ..submission(owner)
    }
}

async fn waits_for<S: Store>(world: &World<S>, job: JobId) -> String {
    world.prospect(job).await.waiting_for.unwrap_or_default()
}

/// Which pending jobs wake somebody, until nothing more is told.
fn woken(events: &mut Receiver<Event>) -> Vec<JobId> {
    let mut woken = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::JobReady { job, .. } = event {
            woken.push(job);
        }
    }
    woken
}

pub(crate) async fn an_owner_s_limit_holds_and_is_named<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    limit(&world, LimitOf::Owner, "ann", Some(2)).await;
    for _ in 0..3 {
        world.plan(&version, submission("ann")).await;
    }
    let last = world.plan(&version, submission("ann")).await;
    let first = world.take("worker").await;
    assert_eq!(waits_for(&world, last).await, "");
    // An offer counts before it is confirmed.
    let second = world.offered(contact("worker")).await.expect("a job");
    assert!(world.offered(contact("worker")).await.is_none());
    assert_eq!(
        waits_for(&world, last).await,
        "owner `ann` runs 2 of at most 2 jobs"
    );
    // Others are not held up by those in front of them.
    let of_bob = world.plan(&version, submission("bob")).await;
    assert_eq!(world.take("worker").await.id, of_bob);
    world.done(&first.finish(Outcome::Failed)).await;
    let third = world.offered(contact("worker")).await.expect("a job");
    assert!(world.offered(contact("worker")).await.is_none());
    for held in [second, third] {
        let withdrawn = world.store.withdraw(held.id, held.lease).await;
        withdrawn.expect("withdrawn");
    }
    assert!(world.offered(contact("worker")).await.is_some());
}

pub(crate) async fn a_template_s_limit_counts_every_kind_of_its_jobs<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    limit(&world, LimitOf::Template, "template", Some(1)).await;
    let (_, import) = world.push("template").await;
    world.create("ws", &version).await;
    let planned = world.plan(&version, submission("ann")).await;
    let other = world.push("other").await.1.id;
    assert_eq!(world.take("worker").await.id, import.id);
    assert_eq!(world.take("worker").await.id, other);
    assert!(world.offered(contact("worker")).await.is_none());
    assert_eq!(
        waits_for(&world, planned).await,
        "template `template` runs 1 of at most 1 job"
    );
}

pub(crate) async fn an_import_counts_as_its_owner_s<S: Store>(world: World<S>) {
    limit(&world, LimitOf::Owner, "ann", Some(1)).await;
    world.push("a").await;
    world.push("b").await;
    world.take("worker").await;
    assert!(world.offered(contact("worker")).await.is_none());
}

pub(crate) async fn a_limit_of_none_hands_nothing_out_until_it_is_lifted<S: Store>(
    world: World<S>,
) {
    let version = world.template("template").await;
    limit(&world, LimitOf::Owner, "ann", Some(0)).await;
    let waits = world.plan(&version, submission("ann")).await;
    assert!(world.offered(contact("worker")).await.is_none());
    let mut events = world.store.subscribe();
    limit(&world, LimitOf::Owner, "ann", None).await;
    assert_eq!(woken(&mut events), [waits]);
    assert_eq!(world.take("worker").await.id, waits);
    // Lifting what is not there is no fault.
    limit(&world, LimitOf::Owner, "ann", None).await;
}

/// Two jobs of ann at her limit of one: one in hand, one that only other daemons can run.
async fn one_waits_elsewhere<S: Store>(world: &World<S>) -> (VersionRow, Held, JobId) {
    let version = world.template("template").await;
    limit(world, LimitOf::Owner, "ann", Some(1)).await;
    world.plan(&version, submission("ann")).await;
    let held = world.take("worker").await;
    let elsewhere = world.plan(&version, on_gpu("ann")).await;
    // Nobody who waits there waits for ann.
    let plain = world.plan(&version, submission("bob")).await;
    assert_eq!(world.take("other").await.id, plain);
    (version, held, elsewhere)
}

fn with_gpu() -> DaemonContact {
    DaemonContact {
        tags: gpu(),
        ..contact("gpu")
    }
}

pub(crate) async fn whatever_frees_a_place_wakes_what_waits_for_it<S: Store>(world: World<S>) {
    let (version, held, elsewhere) = one_waits_elsewhere(&world).await;
    assert!(world.offered(with_gpu()).await.is_none());
    let mut events = world.store.subscribe();
    world.done(&held.finish(Outcome::Succeeded)).await;
    assert_eq!(woken(&mut events), [elsewhere]);
    let held = world
        .offered(with_gpu())
        .await
        .expect("the one that waited");
    assert_eq!(held.id, elsewhere);

    // So does an offer that is taken back, for those who can run others than that one.
    let other = world.plan(&version, submission("ann")).await;
    woken(&mut events);
    let withdrawn = world.store.withdraw(held.id, held.lease).await;
    withdrawn.expect("withdrawn");
    let both = woken(&mut events);
    assert!(
        both.contains(&other) && both.contains(&elsewhere),
        "{both:?}"
    );

    // A job that was in nobody's hands frees nothing.
    let held = world.take("worker").await;
    assert_eq!(held.id, other);
    let canceled = world
        .store
        .cancel(ORG.to_owned(), elsewhere, Cancel::Cancel);
    canceled.await.expect("canceled");
    assert_eq!(woken(&mut events), []);
}

pub(crate) async fn the_end_of_a_job_without_limits_wakes_nobody<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    world.plan(&version, submission("ann")).await;
    let held = world.take("worker").await;
    world.plan(&version, submission("ann")).await;
    let mut events = world.store.subscribe();
    world.done(&held.finish(Outcome::Succeeded)).await;
    assert_eq!(woken(&mut events), []);
}

pub(crate) async fn a_raised_limit_wakes_one_for_each_that_waits<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    limit(&world, LimitOf::Template, "template", Some(0)).await;
    let mut waiting = Vec::new();
    for owner in ["ann", "bob", "ann"] {
        waiting.push(world.plan(&version, submission(owner)).await);
    }
    let mut events = world.store.subscribe();
    limit(&world, LimitOf::Template, "template", Some(2)).await;
    let mut told = woken(&mut events);
    told.sort();
    waiting.sort();
    assert_eq!(told, waiting);
}

pub(crate) async fn limits_are_listed_with_what_counts_against_them<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    limit(&world, LimitOf::Template, "template", Some(3)).await;
    limit(&world, LimitOf::Owner, "bob", Some(5)).await;
    limit(&world, LimitOf::Owner, "ann", Some(4)).await;
    limit(&world, LimitOf::Owner, "ann", Some(2)).await;
    world.plan(&version, submission("ann")).await;
    world.take("worker").await;
    let listed = world.store.list_limits(ORG.to_owned()).await;
    let listed: Vec<_> = listed.expect("limits").into_iter().map(shown).collect();
    assert_eq!(
        listed,
        [
            (v1::LimitOf::Owner, "ann".to_owned(), Some(2), 1),
            (v1::LimitOf::Owner, "bob".to_owned(), Some(5), 0),
            (v1::LimitOf::Template, "template".to_owned(), Some(3), 1),
        ]
    );
    let elsewhere = world.store.create_organization("other".to_owned()).await;
    elsewhere.expect("made");
    let none = world.store.list_limits("other".to_owned()).await;
    assert_eq!(none.expect("limits"), []);
}

fn shown(limit: v1::Limit) -> (v1::LimitOf, String, Option<u32>, u32) {
    (limit.of(), limit.name, limit.most, limit.running)
}

pub(crate) async fn a_limit_of_an_unknown_template_is_refused<S: Store>(world: World<S>) {
    let set = SetLimit {
        organization: ORG.to_owned(),
        of: LimitOf::Template,
        name: "absent".to_owned(),
        most: Some(1),
    };
    let refused = world.store.set_limit(set).await;
    assert!(
        matches!(
            refused,
            Err(Error::NotFound {
                what: "template",
                ..
            })
        ),
        "{refused:?}"
    );
}

/// Jobs of two owners under limits of each and of their template, asked for by many at
/// once at both of these.
pub(crate) async fn asked_by_many<S: Store>(world: &World<S>, there: &S) {
    let version = world.template("template").await;
    limit(world, LimitOf::Owner, "ann", Some(3)).await;
    limit(world, LimitOf::Owner, "bob", Some(4)).await;
    limit(world, LimitOf::Template, "template", Some(6)).await;
    for round in 0..3 {
        for _ in 0..8 {
            world.plan(&version, submission("ann")).await;
            world.plan(&version, submission("bob")).await;
        }
        let asking = (0..24).map(|number| {
            let store = if number % 2 == 0 { &world.store } else { there };
            let store = store.clone();
            let contact = contact(&format!("worker {number}"));
            let kinds = Vec::new();
            tokio::spawn(async move { store.acquire(Acquire { contact, kinds }).await })
        });
        let asking: Vec<_> = asking.collect();
        let mut given = 0;
        for task in asking {
            let acquired = task.await.expect("a task").expect("acquire");
            given += usize::from(acquired.job().is_some());
        }
        assert!(given <= 6, "{given} were given in round {round}");
        // Who came too late for one lane has taken from the other: none is left unused.
        while world.offered(contact("late")).await.is_some() {
            given += 1;
        }
        assert_eq!(given, 6, "round {round}");
        let listed = world
            .store
            .list_limits(ORG.to_owned())
            .await
            .expect("limits");
        for limit in &listed {
            assert!(Some(limit.running) <= limit.most, "{listed:?}");
        }
        for job in world.store.list_jobs(all()).await.expect("jobs") {
            let id = job.id.parse().expect("an id");
            // Ends what is offered and what waits.
            let _ended = world.store.cancel(ORG.to_owned(), id, Cancel::Cancel).await;
        }
        world.pass(20).await;
    }
}

fn all() -> JobFilter {
    JobFilter {
        limit: 1_000,
        ..super::world::all_jobs()
    }
}

pub(crate) async fn a_limit_holds_when_many_ask_at_once<S: Store>(world: World<S>) {
    let there = world.store.clone();
    asked_by_many(&world, &there).await;
}
