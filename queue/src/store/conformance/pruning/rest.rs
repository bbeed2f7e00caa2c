//! Of what is neither a job nor a state.

use super::*;

async fn plan<S: Store>(world: &World<S>, version: &VersionRow, submission: Submission) -> JobId {
    let plan = PlanTemplate {
        organization: ORG.to_owned(),
        version: version.id,
        parameters: Vec::new(),
        submission,
    };
    world.store.plan_template(plan).await.expect("a job").id
}

pub(crate) async fn tags_that_no_job_asks_for_go_and_come_back<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let special = || Submission {
        tags: tags(&[("scope", "organization"), ("owner", ""), ("gpu", "yes")]),
        ..submission("ann")
    };
    let mut gpu = contact("gpu");
    gpu.tags = special().tags;
    for _ in 0..2 {
        let job = plan(&world, &version, special()).await;
        let held = world.offered(gpu.clone()).await.expect("a job");
        assert_eq!(held.id, job);
        world.confirm(&held).await.expect("confirmed");
        world.done(&held.finish(Outcome::Succeeded)).await;
        world.clock.advance(DAY * 31);
        let pruned = prune(&world, month()).await;
        assert_eq!((pruned.jobs, pruned.tagsets), (1, 1));
    }
    let of_import = world.store.list_jobs(all_jobs()).await.expect("a list");
    assert_eq!(of_import[0].tags, untagged().into_iter().collect());
}

pub(crate) async fn a_daemon_that_was_away_for_long_goes<S: Store>(world: World<S>) {
    let holder = replica();
    world.template("template").await;
    let seen = world.store.see_daemon(contact("away")).await;
    assert_eq!(seen.expect("seen"), Drain::Off);
    let held = world
        .store
        .open_control(contact("held"), holder.clone())
        .await;
    held.expect("held");
    world.clock.advance(DAY * 31);
    world.store.attend(holder).await.expect("attended");
    world.store.see_daemon(contact("back")).await.expect("seen");
    let keep = Retention {
        daemons: Some(DAY * 30),
        ..all()
    };
    assert_eq!(
        prune(&world, keep).await.daemons,
        2,
        "this one and the importer"
    );
    let left = world
        .store
        .list_daemons(ORG.to_owned())
        .await
        .expect("a list");
    let names: Vec<_> = left.iter().map(|daemon| daemon.name.as_str()).collect();
    assert_eq!(names, ["back", "held"]);
}

pub(crate) async fn a_daemon_with_a_job_in_hand_stays<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    let keep = Retention {
        daemons: Some(Duration::ZERO),
        ..all()
    };
    prune(&world, keep).await;
    let left = world
        .store
        .list_daemons(ORG.to_owned())
        .await
        .expect("a list");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].jobs, [held.id.to_string()]);
}

pub(crate) async fn old_lines_of_the_audit_log_go_and_young_ones_stay<S: Store>(world: World<S>) {
    let note = async |lines: usize| {
        let line = AuditEntry {
            act: Act::of_queue(ORG, "Test", ""),
            job: None,
            outcome: "done".to_owned(),
            times: 1,
        };
        world.store.note(vec![line; lines]).await.expect("noted");
    };
    note(450).await;
    world.clock.advance(DAY * 31);
    note(3).await;
    assert_eq!(prune(&world, all()).await.audit, 0);
    assert_eq!(prune(&world, month()).await.audit, 450);
    assert_eq!(prune(&world, month()).await.audit, 0);
}

pub(crate) async fn one_replica_prunes_at_a_time<S: Store>(world: World<S>) {
    let jobs = built(&world, "ws", 4).await;
    world.clock.advance(DAY * 31);
    let (one, other) = (replica(), replica());
    let pass = async |who: &ReplicaId, keep: Retention| {
        let pruned = world.store.prune(keep, who.clone()).await;
        pruned.expect("a pass").jobs
    };
    assert_eq!(pass(&one, all()).await, 0);
    assert_eq!(pass(&other, month()).await, 0, "it is another's duty");
    assert!(is_there(&world, jobs[0]).await);
    assert_eq!(pass(&one, month()).await, 2);
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(pass(&other, month()).await, 0, "and nothing is left");
    assert_eq!(pass(&one, month()).await, 0, "by now it is the other's");
}
