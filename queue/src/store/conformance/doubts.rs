//! What lost builds may have left in the world: that each of it is remembered on the
//! workspace until something proves it or a person gives it up.

use proto::state_index::StateIndex;
use proto::v1::{self, LedgerAction};

use super::world::{Held, ORG, World, complete, named, started};
use crate::store::model::{
    Abandon, Disposition, Finish, Forget, Gate, Plan, PushState, Replace, Settle, Shown, Update,
};
use crate::store::{Deleted, Error, Store};
use crate::words::{Outcome, ReleaseReason, Transition};

mod settled;

pub(crate) use settled::{
    a_builds_state_settles_only_what_it_names_by_id, a_pushed_state_settles_what_it_shows,
    an_adopted_state_brings_what_its_build_reported, only_what_is_in_doubt_can_be_forgotten,
};

/// Address, action and id of all that is in doubt.
async fn open<S: Store>(world: &World<S>) -> Vec<(String, LedgerAction, String)> {
    let found = world.workspace("ws").await.unconfirmed;
    let each = found.into_iter();
    each.map(|it| (it.address.clone(), it.action(), it.id))
        .collect()
}

fn made(address: &str, id: &str) -> (String, LedgerAction, String) {
    (address.to_owned(), LedgerAction::Create, id.to_owned())
}

fn with_id(entry: v1::LedgerEntry, id: &str) -> v1::LedgerEntry {
    v1::LedgerEntry {
        id_value: id.to_owned(),
        ..entry
    }
}

/// Tells this ledger behind the gate, and is never heard of again.
async fn lost_with<S: Store>(world: &World<S>, held: &Held, ledger: Vec<v1::LedgerEntry>) {
    let update = Update {
        ledger,
        ..held.update(2)
    };
    world.tell(update).await;
    world.pass(600).await;
}

/// A workspace whose first build was lost behind its gate and had made `a.b` as `i-1`.
async fn lost<S: Store>(world: &World<S>) -> Held {
    let held = world.behind_the_gate("ws").await;
    let ledger = vec![started(1, "a.b"), with_id(complete(2, "a.b"), "i-1")];
    lost_with(world, &held, ledger).await;
    held
}

/// The next build, in a daemon's hands and behind its gate.
async fn next_build<S: Store>(world: &World<S>, transition: Transition) -> Held {
    world.build("ws", transition).await.expect("a build");
    let held = world.take("worker").await;
    world.open_gate(&held, 1).await;
    held
}

pub(crate) async fn what_two_lost_builds_made_at_one_address_is_remembered_twice<S: Store>(
    world: World<S>,
) {
    lost(&world).await;
    let held = next_build(&world, Transition::Start).await;
    let ledger = vec![started(1, "a.b"), with_id(complete(2, "a.b"), "i-2")];
    lost_with(&world, &held, ledger).await;
    assert_eq!(open(&world).await, [made("a.b", "i-1"), made("a.b", "i-2")]);
}

pub(crate) async fn a_replacement_is_remembered_beside_the_removal_of_the_old_one<S: Store>(
    world: World<S>,
) {
    let held = world.behind_the_gate("ws").await;
    let removal = v1::LedgerEntry {
        action: LedgerAction::Delete.into(),
        id_value: "i-1".to_owned(),
        ..started(3, "a.b")
    };
    let ledger = vec![
        started(1, "a.b"),
        with_id(complete(2, "a.b"), "i-2"),
        removal,
    ];
    lost_with(&world, &held, ledger).await;
    let removed = ("a.b".to_owned(), LedgerAction::Delete, "i-1".to_owned());
    assert_eq!(open(&world).await, [made("a.b", "i-2"), removed]);
    // The next build settles what a refresh can see, and not the orphan.
    let held = next_build(&world, Transition::Start).await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    assert_eq!(open(&world).await, [made("a.b", "i-2")]);
    let refused = world.build("ws", Transition::Delete).await;
    assert!(matches!(refused, Err(Error::Unconfirmed { .. })));
}

/// A finish with a state, too late.
async fn late<S: Store>(world: &World<S>, held: &Held, serial: u64) {
    let finish = Finish {
        state: Some(world.state(serial, 6).await),
        ..held.finish(Outcome::Succeeded)
    };
    assert_eq!(world.done(&finish).await, Disposition::Late);
}

pub(crate) async fn a_state_that_waits_is_in_the_way_of_stop_and_delete<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    world.pass(600).await;
    let next = next_build(&world, Transition::Start).await;
    let finish = Finish {
        state: Some(world.state(8, 0).await),
        ..next.finish(Outcome::Succeeded)
    };
    world.done(&finish).await;
    late(&world, &held, 9).await;
    for transition in [Transition::Stop, Transition::Delete] {
        let refused = world.build("ws", transition).await;
        assert!(matches!(refused, Err(Error::StateConflict { .. })));
    }
    let delete = Transition::Delete;
    let knowingly = world.build_with("ws", delete, Forget::Drop).await;
    knowingly.expect("a delete that may forget");
}

pub(crate) async fn an_engine_that_may_run_is_in_the_way_of_stop_and_delete<S: Store>(
    world: World<S>,
) {
    let held = world.behind_the_gate("ws").await;
    let abandoned = world
        .store
        .abandon(ORG.to_owned(), held.id, Abandon::Careful);
    abandoned.await.expect("abandoned");
    for transition in [Transition::Stop, Transition::Delete] {
        let refused = world.build("ws", transition).await;
        assert!(matches!(refused, Err(Error::OldEngineMayRun { .. })));
    }
    let delete = Transition::Delete;
    let knowingly = world.build_with("ws", delete, Forget::Drop).await;
    knowingly.expect("a delete that may forget");
}

/// A workspace that was deleted before the state of its lost build came.
async fn deleted_too_early<S: Store>(world: &World<S>) -> v1::StateRecord {
    let held = world.behind_the_gate("ws").await;
    world.pass(600).await;
    let next = next_build(world, Transition::Delete).await;
    world.done(&next.finish(Outcome::Succeeded)).await;
    assert!(world.workspace("ws").await.deleted);
    late(world, &held, 9).await;
    let mut states = world.store.states(named("ws")).await.expect("states");
    assert_eq!(states.len(), 1);
    states.remove(0)
}

pub(crate) async fn a_state_that_comes_after_the_delete_is_seen_and_brings_the_workspace_back<
    S: Store,
>(
    world: World<S>,
) {
    let late = deleted_too_early(&world).await;
    assert!(late.waiting && !late.current);
    let listed = world
        .store
        .list_workspaces(ORG.to_owned(), None, Deleted::Hide);
    let listed = listed.await.expect("a list");
    assert!(listed.iter().any(|it| it.deleted && it.state_conflict));
    let id = late.id.parse().expect("an id");
    let adopted = world.store.adopt_state(named("ws"), id).await;
    assert!(adopted.expect("adopted").current);
    assert!(!world.workspace("ws").await.deleted);
    next_build(&world, Transition::Delete).await;
}

pub(crate) async fn a_state_that_comes_after_the_delete_can_be_discarded<S: Store>(
    world: World<S>,
) {
    let late = deleted_too_early(&world).await;
    let id = late.id.parse().expect("an id");
    let discarded = world.store.discard_state(named("ws"), id).await;
    assert!(!discarded.expect("discarded").waiting);
    let workspace = world.workspace("ws").await;
    assert!(workspace.deleted && !workspace.state_conflict);
}

/// What a plan that was told with the gate announces.
fn change(address: &str, action: LedgerAction, id: &str) -> v1::IntendedChange {
    v1::IntendedChange {
        address: address.to_owned(),
        action: action.into(),
        id: id.to_owned(),
    }
}

pub(crate) async fn what_a_plan_intended_is_in_doubt_when_nothing_more_was_heard<S: Store>(
    world: World<S>,
) {
    let version = world.template("template").await;
    world.create("ws", &version).await;
    let held = world.take("worker").await;
    let asks = |counter, changes| Update {
        gate: Gate::Asked,
        plan: Plan {
            changes,
            left_out: 3,
        },
        ..held.update(counter)
    };
    let changes = vec![
        change("a.b", LedgerAction::Create, ""),
        change("a.c", LedgerAction::Create, ""),
        change("a.d", LedgerAction::Replace, "i-old"),
    ];
    assert!(world.tell(asks(1, changes)).await.gate_open);
    // What comes after the gate is open is no plan any more.
    let other = vec![change("a.z", LedgerAction::Create, "")];
    world.tell(asks(2, other)).await;
    let heard = Update {
        ledger: vec![started(1, "a.b"), with_id(complete(2, "a.b"), "i-1")],
        ..held.update(3)
    };
    world.tell(heard).await;
    world.pass(600).await;
    let left_out = "3 further changes of the plan".to_owned();
    let expected = [
        (left_out, LedgerAction::Unspecified, String::new()),
        made("a.b", "i-1"),
        made("a.c", ""),
        ("a.d".to_owned(), LedgerAction::Replace, "i-old".to_owned()),
    ];
    assert_eq!(open(&world).await, expected);
    let reason = &world.workspace("ws").await.unconfirmed[2].reason;
    let since = reason.strip_prefix("it may exist, not heard of since 2023-11-");
    assert!(since.is_some(), "{reason}");
    let refused = world.build("ws", Transition::Delete).await;
    assert!(matches!(refused, Err(Error::Unconfirmed { count: 4, .. })));
}

pub(crate) async fn a_late_report_takes_the_place_of_what_was_only_intended<S: Store>(
    world: World<S>,
) {
    let version = world.template("template").await;
    world.create("ws", &version).await;
    let held = world.take("worker").await;
    let asks = Update {
        gate: Gate::Asked,
        plan: Plan {
            changes: vec![change("a.b", LedgerAction::Create, "")],
            left_out: 0,
        },
        ..held.update(1)
    };
    world.tell(asks).await;
    world.pass(600).await;
    assert_eq!(open(&world).await, [made("a.b", "")]);
    // It was refused by the provider before it made anything.
    let finish = held.finish(Outcome::Failed);
    assert_eq!(world.done(&finish).await, Disposition::Late);
    assert_eq!(open(&world).await, []);
}

pub(crate) async fn a_late_release_settles_nothing<S: Store>(world: World<S>) {
    let held = lost(&world).await;
    let release = held.release(ReleaseReason::WorkerLost);
    assert_eq!(world.done(&release).await, Disposition::Late);
    assert_eq!(open(&world).await, [made("a.b", "i-1")]);
}

pub(crate) async fn endings_that_no_job_took_are_listed<S: Store>(world: World<S>) {
    let late = deleted_too_early(&world).await;
    world.push("other").await;
    let held = world.take("worker").await;
    let mut strange = held.finish(Outcome::Failed);
    strange.lease = proto::ids::LeaseId::generate();
    strange.report.job_id = held.id.to_string();
    strange.report.outcome = v1::Outcome::Failed.into();
    assert_eq!(world.done(&strange).await, Disposition::Unclaimed);
    let unclaimed = |organization: &str| world.store.unclaimed(organization.to_owned(), None);
    let found = unclaimed(ORG).await.expect("a list");
    assert_eq!(found.len(), 2);
    assert!(found[0].reason.contains("deleted"), "{}", found[0].reason);
    assert_eq!(found[1].job_id, held.id.to_string());
    assert_eq!(found[1].outcome(), v1::Outcome::Failed);
    assert!(unclaimed("other").await.expect("a list").is_empty());
    let one = |id| world.store.unclaimed_finish(ORG.to_owned(), id);
    assert_eq!(one(found[1].id).await.expect("found"), found[1]);
    assert!(matches!(one(99).await, Err(Error::NotFound { .. })));
    let below = world.store.unclaimed(ORG.to_owned(), Some(found[1].id));
    assert_eq!(below.await.expect("a list"), found[..1]);
    let discard =
        |organization: &str, id| world.store.discard_unclaimed(organization.to_owned(), id);
    let refused = discard(ORG, found[0].id).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let refused = discard("other", found[1].id).await;
    assert!(
        matches!(refused, Err(Error::NotFound { .. })),
        "{refused:?}"
    );
    assert_eq!(unclaimed(ORG).await.expect("a list"), found);
    // A decision takes the late one off the list.
    let id = late.id.parse().expect("an id");
    let discarded = world.store.discard_state(named("ws"), id).await;
    discarded.expect("discarded");
    assert_eq!(unclaimed(ORG).await.expect("a list"), found[1..]);
    let discarded = discard(ORG, found[1].id).await;
    assert_eq!(discarded.expect("discarded"), found[1]);
    assert_eq!(unclaimed(ORG).await.expect("a list"), []);
}
