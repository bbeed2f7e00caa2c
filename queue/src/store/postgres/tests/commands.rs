//! Random commands, seeded: whatever order they come in, some things never happen.
//!
//! The model knows only what was answered: which lease was given for what, what was
//! acknowledged, how a job ended. After each command it is held against the store.

use std::collections::HashMap;

use proto::ids::JobId;
use proto::v1::{self, JobStatus, UpdateVerdict};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::store::Store;
use crate::store::conformance::world::{
    Held, ORG, World, complete, contact, line, replica, started,
};
use crate::store::model::{Abandon, Disposition, Finish, Gate, Update};
use crate::words::{Cancel, Outcome, Phase, ReleaseReason, Transition};

/// Tried one after the other, until all that is to be seen was seen: a server that crashes
/// keeps leases from ending.
const SEEDS: u64 = 10;
const COMMANDS: usize = 200;
const WORKSPACES: [&str; 3] = ["ws 1", "ws 2", "ws 3"];

/// One lease that was ever given.
struct Given {
    held: Held,
    counter: u64,
    /// Lines made so far, and how many of them were acknowledged.
    made: u64,
    acknowledged: u64,
    gate_open: bool,
    disposition: Option<Disposition>,
}

#[derive(Default)]
struct Model {
    given: Vec<Given>,
    jobs: Vec<JobId>,
    ended: HashMap<JobId, JobStatus>,
    serial: u64,
}

pub(super) async fn keep_the_invariants<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    for name in WORKSPACES {
        world.create(name, &version).await;
        let held = world.take("worker").await;
        world.done(&held.finish(Outcome::Succeeded)).await;
    }
    let mut seen = Vec::new();
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let mut model = Model::default();
        for step in 0..COMMANDS {
            command(&world, &mut model, &mut random).await;
            check(&world, &mut model, &format!("seed {seed}, step {step}")).await;
        }
        check_logs(&world, &model, seed).await;
        seen.extend(model.given.iter().filter_map(|given| given.disposition));
        if seen.contains(&Disposition::Applied) && seen.contains(&Disposition::Late) {
            return;
        }
        world.pass(700).await;
    }
    panic!("{SEEDS} seeds have only seen {seen:?}");
}

async fn command<S: Store>(world: &World<S>, model: &mut Model, random: &mut StdRng) {
    match random.random_range(0..10) {
        0 => submit(world, model, random).await,
        1 | 2 => acquire(world, model, random).await,
        3..=5 => update(world, model, random).await,
        6 => finish(world, model, random).await,
        7 => control(world, model, random).await,
        8 => world.pass(random.random_range(1..8)).await,
        _ if random.random_bool(0.1) => world.pass(620).await,
        _ => world.pass(1).await,
    }
}

async fn submit<S: Store>(world: &World<S>, model: &mut Model, random: &mut StdRng) {
    let name = WORKSPACES[random.random_range(0..WORKSPACES.len())];
    let transition = if random.random() {
        Transition::Start
    } else {
        Transition::Stop
    };
    if let Ok(submitted) = world.build(name, transition).await {
        model.jobs.push(submitted.id);
    }
}

async fn acquire<S: Store>(world: &World<S>, model: &mut Model, random: &mut StdRng) {
    let Some(held) = world.offered(contact("worker")).await else {
        return;
    };
    let before = model.given.iter().filter(|given| given.held.id == held.id);
    for earlier in before {
        assert!(
            !earlier.gate_open,
            "handed out again behind the gate: {}",
            held.id
        );
        assert!(
            earlier.held.attempt < held.attempt,
            "an attempt was given twice"
        );
    }
    assert!(
        !model.ended.contains_key(&held.id),
        "an ended job was handed out"
    );
    if random.random_bool(0.9) {
        world.confirm(&held).await.expect("an offer just made");
    }
    model.given.push(Given {
        held,
        counter: 0,
        made: 0,
        acknowledged: 0,
        gate_open: false,
        disposition: None,
    });
}

fn pick<'m>(model: &'m mut Model, random: &mut StdRng) -> Option<&'m mut Given> {
    let len = model.given.len();
    // Mostly the newest, sometimes one that was given up long ago.
    let back = if random.random_bool(0.7) {
        1
    } else {
        random.random_range(1..=len.max(1))
    };
    model.given.get_mut(len.checked_sub(back)?)
}

async fn update<S: Store>(world: &World<S>, model: &mut Model, random: &mut StdRng) {
    model.serial += 1;
    let checkpoint = world.state(model.serial, 0).await;
    let Some(given) = pick(model, random) else {
        return;
    };
    if random.random_bool(0.8) {
        given.counter += 1;
    }
    given.made += random.random_range(0..4);
    let from = given.acknowledged.saturating_sub(random.random_range(0..3)) + 1;
    let lines = (from..=given.made).map(|seq| line(seq, &text(&given.held, seq)));
    let ledger = vec![
        started(given.counter * 2 + 1, "a.one"),
        complete(given.counter * 2 + 2, "a.one"),
    ];
    let update = Update {
        phase: Some(Phase::ALL[random.random_range(0..Phase::ALL.len())]),
        lines: lines.collect(),
        ledger,
        checkpoint: given.gate_open.then_some(checkpoint),
        gate: if random.random_bool(0.2) {
            Gate::Asked
        } else {
            Gate::NotAsked
        },
        ..given.held.update(given.counter)
    };
    let reply = world.tell(update).await;
    assert_eq!(
        reply.stored_seq, given.made,
        "everything sent is acknowledged"
    );
    given.acknowledged = reply.stored_seq;
    if reply.verdict() == UpdateVerdict::Accepted {
        assert!(
            reply.gate_open || !given.gate_open,
            "a gate never shuts again"
        );
        given.gate_open = reply.gate_open;
    }
}

fn text(held: &Held, seq: u64) -> String {
    format!("{} {} {seq}", held.id, held.attempt)
}

async fn finish<S: Store>(world: &World<S>, model: &mut Model, random: &mut StdRng) {
    model.serial += 1;
    let state = world.state(model.serial, 0).await;
    let Some(given) = pick(model, random) else {
        return;
    };
    let outcome = Outcome::ALL[random.random_range(0..Outcome::ALL.len())];
    let reason = ReleaseReason::ALL[random.random_range(0..ReleaseReason::ALL.len())];
    let finish = Finish {
        release: (outcome == Outcome::Released).then_some(reason),
        state: given.gate_open.then_some(state),
        ..given.held.finish(outcome)
    };
    let disposition = world.done(&finish).await;
    assert_ne!(disposition, Disposition::Unclaimed, "the lease was given");
    assert_eq!(
        world.done(&finish).await,
        disposition,
        "a repetition is answered alike"
    );
    if let Some(earlier) = given.disposition {
        assert_eq!(disposition, earlier);
    }
    given.disposition = Some(disposition);
}

async fn control<S: Store>(world: &World<S>, model: &mut Model, random: &mut StdRng) {
    let Some(&job) = model.jobs.last() else {
        return;
    };
    let org = ORG.to_owned();
    // Refusals are answers too; what matters is what stands afterwards.
    match random.random_range(0..4) {
        0 => drop(world.store.cancel(org, job, Cancel::Cancel).await),
        1 => drop(world.store.abandon(org, job, Abandon::Force).await),
        2 => {
            if let Ok(again) = world.store.retry(org, job, HashMap::new()).await {
                model.jobs.push(again.id);
            }
        }
        _ => drop(
            world
                .store
                .control_lost(contact("worker").daemon, replica())
                .await,
        ),
    }
}

async fn check<S: Store>(world: &World<S>, model: &mut Model, at: &str) {
    let jobs = world
        .store
        .list_jobs(crate::store::conformance::world::all_jobs())
        .await;
    let jobs = jobs.expect("a list");
    let mut open: HashMap<&str, u32> = HashMap::new();
    for job in &jobs {
        let ended = match job.status() {
            JobStatus::Succeeded | JobStatus::Canceled | JobStatus::Failed => true,
            JobStatus::Unspecified
            | JobStatus::Pending
            | JobStatus::Running
            | JobStatus::Canceling => false,
        };
        let id: JobId = job.id.parse().expect("an id");
        if let Some(before) = model.ended.get(&id) {
            assert_eq!(job.status(), *before, "{at}: {id} changed after its end");
        } else if ended {
            assert!(job.completed_at_ms.is_some(), "{at}");
            model.ended.insert(id, job.status());
        }
        if !ended && let Some(workspace) = &job.workspace {
            *open.entry(workspace.as_str()).or_default() += 1;
        }
    }
    assert!(open.values().all(|&builds| builds == 1), "{at}: {open:?}");
}

/// Every acknowledged line is there, once, and the public sequence has no hole. What the
/// queue says of its own about a lost build stands apart.
async fn check_logs<S: Store>(world: &World<S>, model: &Model, seed: u64) {
    for &job in &model.jobs {
        let page = world.store.logs_after(ORG.to_owned(), job, 0, 10_000).await;
        let page = page.expect("a page");
        let public: Vec<u64> = page.lines.iter().map(|stored| stored.seq).collect();
        assert_eq!(public, (1..=page.end).collect::<Vec<_>>(), "seed {seed}");
        let mut texts: Vec<String> = page.lines.into_iter().filter_map(line_text).collect();
        let of_job = model.given.iter().filter(|given| given.held.id == job);
        let mut sent: Vec<String> = of_job
            .flat_map(|given| (1..=given.acknowledged).map(|seq| text(&given.held, seq)))
            .collect();
        texts.sort();
        sent.sort();
        assert_eq!(texts, sent, "seed {seed}");
    }
}

fn line_text(stored: v1::StoredLine) -> Option<String> {
    let line = stored.line?;
    (line.source() != v1::LogSource::System).then_some(line.text)
}
