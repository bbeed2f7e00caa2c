//! Of states and their workspaces.

use super::*;

pub(crate) async fn a_state_that_waits_stays_and_so_does_its_job<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    world.pass(600).await;
    for serial in 1..=3 {
        world.build("ws", Transition::Start).await.expect("a build");
        let next = world.take("worker").await;
        done(&world, &next, serial).await;
    }
    let late = Finish {
        state: Some(world.state(9, 0).await),
        ..held.finish(Outcome::Succeeded)
    };
    assert_eq!(world.done(&late).await, Disposition::Late);
    world.clock.advance(DAY * 31);
    prune(&world, month()).await;
    assert!(is_there(&world, held.id).await);
    assert!(world.workspace("ws").await.state_conflict);
    assert!(serials(&world, "ws").await.contains(&9));
    let id = world.waiting("ws").await;
    let discarded = world.store.discard_state(named("ws"), id).await;
    discarded.expect("discarded");
    prune(&world, month()).await;
    assert!(!is_there(&world, held.id).await);
    assert!(!serials(&world, "ws").await.contains(&9));
}

pub(crate) async fn the_build_whose_resources_are_shown_stays<S: Store>(world: World<S>) {
    let jobs = built(&world, "ws", 1).await;
    for _ in 0..4 {
        world.build("ws", Transition::Start).await.expect("a build");
        let held = world.take("worker").await;
        world.done(&held.finish(Outcome::Failed)).await;
    }
    world.clock.advance(DAY * 31);
    let before = world.workspace("ws").await;
    assert_eq!(before.resources.len(), 1);
    assert_eq!(prune(&world, month()).await.jobs, 2);
    assert_eq!(world.workspace("ws").await, before);
    assert!(is_there(&world, jobs[0]).await);
}

pub(crate) async fn states_are_kept_by_number_or_by_age_and_the_current_one_always<S: Store>(
    world: World<S>,
) {
    built(&world, "ws", 1).await;
    let push = async |serial: u64| {
        let push = PushState {
            workspace: named("ws"),
            by: "ann".to_owned(),
            blob: world.state(serial, 0).await.blob,
            serial,
            lineage: "l".to_owned(),
            replace: Replace::Force,
        };
        world.store.push_state(push).await.expect("pushed");
    };
    for serial in [12, 13, 14, 15] {
        world.clock.advance(DAY);
        push(serial).await;
    }
    let keep = |states: KeepStates| Retention { states, ..all() };
    assert_eq!(prune(&world, keep(KeepStates::All)).await.states, 0);
    assert_eq!(prune(&world, keep(KeepStates::Newest(4))).await.states, 1);
    assert_eq!(serials(&world, "ws").await, [15, 14, 13, 12]);
    let days = KeepStates::Younger(DAY * 2);
    assert_eq!(prune(&world, keep(days)).await.states, 2);
    assert_eq!(serials(&world, "ws").await, [15, 14]);
    world.clock.advance(DAY * 400);
    assert_eq!(prune(&world, keep(days)).await.states, 1);
    assert_eq!(serials(&world, "ws").await, [15], "the current one");
    let digest = world.store.state(named("ws"), None).await.expect("a state");
    assert!(digest.current);
}

pub(crate) async fn a_checkpoint_of_a_running_build_stays<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    let update = Update {
        checkpoint: Some(world.state(4, 0).await),
        ..held.update(2)
    };
    world.tell(update).await;
    let nothing = Retention {
        states: KeepStates::Younger(Duration::ZERO),
        late: Duration::ZERO,
        ..all()
    };
    assert_eq!(prune(&world, nothing).await.states, 0);
    world.pass(600).await;
    assert_eq!(world.serial("ws").await, Some(4), "it was recovered");
}

pub(crate) async fn a_deleted_workspace_goes_whole_unless_a_state_waits<S: Store>(world: World<S>) {
    let lost = world.behind_the_gate("ws").await;
    world.pass(600).await;
    for transition in [Transition::Start, Transition::Delete] {
        world.build("ws", transition).await.expect("a build");
        let next = world.take("worker").await;
        done(&world, &next, 3).await;
    }
    let late = Finish {
        state: Some(world.state(9, 0).await),
        ..lost.finish(Outcome::Succeeded)
    };
    assert_eq!(world.done(&late).await, Disposition::Late);
    world.clock.advance(DAY * 31);
    assert_eq!(prune(&world, month()).await.workspaces, 0);
    let id = world.waiting("ws").await;
    let discarded = world.store.discard_state(named("ws"), id).await;
    discarded.expect("discarded");
    let pruned = prune(&world, month()).await;
    assert_eq!(pruned.workspaces, 1);
    let listed = world
        .store
        .list_workspaces(ORG.to_owned(), None, Deleted::Show);
    assert_eq!(listed.await.expect("a list"), []);
    assert!(!is_there(&world, lost.id).await);
    let listed = world.store.list_jobs(all_jobs()).await.expect("a list");
    assert_eq!(listed.len(), 1, "the import");
    assert_eq!(prune(&world, month()).await, Pruned::default());
}
