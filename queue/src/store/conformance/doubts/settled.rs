//! Of how doubts come to an end: a state that shows what they are about, or a person.

use super::*;

fn index(objects: &[(&str, &str)]) -> StateIndex {
    let each = objects.iter();
    each.map(|(address, id)| ((*address).to_owned(), (*id).to_owned()))
        .collect()
}

/// The current state is read and shows this.
async fn show<S: Store>(world: &World<S>, now: &[(&str, &str)], before: &[(&str, &str)]) {
    let current = world.store.state(named("ws"), None).await.expect("a state");
    let settle = Settle {
        workspace: named("ws"),
        state: current.id.parse().expect("an id"),
        shown: Shown {
            now: index(now),
            before: index(before),
        },
    };
    world.store.settle(settle).await.expect("settled");
}

pub(crate) async fn a_pushed_state_settles_what_it_shows<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    let ledger = vec![
        started(1, "a.b"),
        with_id(complete(2, "a.b"), "i-1"),
        started(3, "a.c"),
        started(4, "a.d"),
    ];
    lost_with(&world, &held, ledger).await;
    let pushed = world.state(9, 0).await;
    let push = PushState {
        workspace: named("ws"),
        by: "ann".to_owned(),
        blob: pushed.blob,
        serial: pushed.serial,
        lineage: pushed.lineage,
        replace: Replace::Continue,
    };
    world.store.push_state(push).await.expect("pushed");
    show(&world, &[("a.b", "i-2")], &[]).await;
    assert_eq!(open(&world).await.len(), 3, "another object");
    // What a build has put at `a.d` before says nothing of the one that is in doubt.
    let now = [("a.b", "i-1"), ("a.c", "i-3"), ("a.d", "i-4")];
    show(&world, &now, &[("a.d", "i-4")]).await;
    assert_eq!(open(&world).await, [made("a.d", "")]);
}

pub(crate) async fn a_builds_state_settles_only_what_it_names_by_id<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    let ledger = vec![
        started(1, "a.b"),
        with_id(complete(2, "a.b"), "i-1"),
        started(3, "a.c"),
    ];
    lost_with(&world, &held, ledger).await;
    let next = next_build(&world, Transition::Start).await;
    let finish = Finish {
        state: Some(world.state(9, 0).await),
        ..next.finish(Outcome::Succeeded)
    };
    assert_eq!(world.finished(&finish).await.in_doubt, Some(named("ws")));
    show(&world, &[("a.b", "i-1"), ("a.c", "i-2")], &[]).await;
    assert_eq!(open(&world).await, [made("a.c", "")]);
}

pub(crate) async fn an_adopted_state_brings_what_its_build_reported<S: Store>(world: World<S>) {
    let held = lost(&world).await;
    let next = next_build(&world, Transition::Start).await;
    let finish = Finish {
        state: Some(world.state(8, 0).await),
        ..next.finish(Outcome::Succeeded)
    };
    world.done(&finish).await;
    late(&world, &held, 9).await;
    assert_eq!(open(&world).await, [made("a.b", "i-1")]);
    let states = world.store.states(named("ws")).await.expect("states");
    let waiting = states.iter().find(|state| state.waiting).expect("one");
    let id = waiting.id.parse().expect("an id");
    let adopted = world.store.adopt_state(named("ws"), id).await;
    adopted.expect("adopted");
    assert_eq!(open(&world).await, [], "its report names nothing");
}

pub(crate) async fn only_what_is_in_doubt_can_be_forgotten<S: Store>(world: World<S>) {
    lost(&world).await;
    let forget = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|it| (*it).to_owned()).collect();
        world.store.forget(named("ws"), addresses)
    };
    let refused = forget(&["a.b", "a.x"]).await;
    assert!(matches!(refused, Err(Error::NotFound { name, .. }) if name == "a.x"));
    assert_eq!(open(&world).await, [made("a.b", "i-1")], "all or nothing");
    let forgotten = forget(&["a.b"]).await.expect("forgotten");
    assert_eq!(forgotten[0].id, "i-1");
    assert_eq!(open(&world).await, []);
    world
        .build("ws", Transition::Delete)
        .await
        .expect("a build");
}
