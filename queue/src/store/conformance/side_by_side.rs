//! Many daemons and clients whose calls come at once.

use proto::ids::Digest;
use proto::v1::{Extraction, Job};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::world::{
    Held, ORG, World, all_jobs, complete, contact, lines, named, started, submission, tags,
};
use crate::matching::Tags;
use crate::store::model::{
    AuditFilter, BlobContent, BlobId, BuildWorkspace, Checkpoint, CreateWorkspace, Finish, Forget,
    Gate, JobFilter, NewBlob, Submission, Update,
};
use crate::store::{BaseVersion, Error, Store};
use crate::words::{Outcome, Phase, ReleaseReason, Transition};

/// Workspaces of each half.
const MANY: usize = 8;

/// How its calls are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    OneByOne,
    AtOnce,
}

/// Makes these calls; what they came to, in order.
async fn make<T, F>(calls: Calls, futures: Vec<F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut done = Vec::new();
    match calls {
        Calls::OneByOne => {
            for future in futures {
                done.push(future.await);
            }
        }
        Calls::AtOnce => {
            let tasks: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
            for task in tasks {
                done.push(task.await.expect("a task"));
            }
        }
    }
    done
}

/// One half of the fleet.
struct Half {
    name: &'static str,
    calls: Calls,
    held: Vec<Held>,
}

impl Half {
    fn workspace(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    fn tags(&self) -> Tags {
        tags(&[
            ("scope", "organization"),
            ("owner", ""),
            ("half", self.name),
        ])
    }

    fn submission(&self) -> Submission {
        Submission {
            tags: self.tags(),
            ..submission("ann")
        }
    }

    /// All daemons take a job, if there is one.
    async fn take<S: Store>(&mut self, world: &World<S>) {
        let mut held = Vec::new();
        for number in 0..MANY {
            let mut daemon = contact(&format!("{} daemon {number}", self.name));
            daemon.tags = self.tags();
            held.extend(world.offered(daemon).await);
        }
        held.sort_by_key(|held| workspace_of(&held.header));
        let confirmed = held.iter().map(|held| {
            let store = world.store.clone();
            let (daemon, id, lease) = (held.daemon.clone(), held.id, held.lease);
            async move { store.confirm(daemon, id, lease).await }
        });
        for lease in make(self.calls, confirmed.collect()).await {
            lease.expect("confirmed");
        }
        self.held = held;
    }

    async fn update<S: Store>(&self, world: &World<S>, of: impl Fn(&Held) -> Update) {
        let updates = self.held.iter().map(|held| {
            let (store, update) = (world.store.clone(), of(held));
            async move { store.update(update).await }
        });
        for (reply, held) in make(self.calls, updates.collect())
            .await
            .into_iter()
            .zip(&self.held)
        {
            let lease = reply.expect("an update").lease.expect("accepted");
            assert_eq!(lease.id, held.lease.as_bytes());
        }
    }

    async fn finish<S: Store>(&self, world: &World<S>, of: impl Fn(&Held) -> Finish) {
        let finishes = self.held.iter().map(|held| {
            let (store, finish) = (world.store.clone(), of(held));
            async move { store.finish(finish).await }
        });
        for finished in make(self.calls, finishes.collect()).await {
            finished.expect("a finish");
        }
    }

    /// Builds all workspaces; which could be built.
    async fn build<S: Store>(&self, world: &World<S>) -> Vec<bool> {
        let bases = (0..MANY).map(|number| {
            let (store, name) = (world.store.clone(), named(&self.workspace(number)));
            async move { store.build_base(name, BaseVersion::Own).await }
        });
        let bases = make(self.calls, bases.collect()).await;
        let builds = bases.into_iter().zip(0..).map(|(base, number)| {
            let (store, workspace) = (world.store.clone(), self.workspace(number));
            let (base, submission) = (base.expect("a base"), self.submission());
            async move {
                let build = BuildWorkspace {
                    workspace: base.workspace,
                    base: base.number,
                    transition: Transition::Start,
                    version: base.version.id,
                    parameters: base.previous,
                    forget: Forget::Refuse,
                    submission,
                };
                let submitted = match store.build_workspace(build).await {
                    Ok(submitted) => submitted,
                    Err(Error::BuildRunning { workspace: of, .. }) => {
                        assert_eq!(of, workspace, "somebody else's answer");
                        return false;
                    }
                    Err(error) => panic!("{error:?}"),
                };
                let of = submitted.workspace.expect("a workspace").name;
                assert_eq!(of, workspace, "somebody else's answer");
                true
            }
        });
        make(self.calls, builds.collect()).await
    }

    /// All that can be seen of each workspace, without the names that differ.
    async fn seen<S: Store>(&self, world: &World<S>) -> Vec<String> {
        let mut seen = Vec::new();
        for number in 0..MANY {
            let name = self.workspace(number);
            let mut all = format!("{:#?}", world.workspace(&name).await);
            let states = world.store.states(named(&name)).await.expect("states");
            all.push_str(&format!("{states:#?}"));
            let filter = JobFilter {
                workspace: Some(name),
                ..all_jobs()
            };
            for mut job in world.store.list_jobs(filter).await.expect("jobs") {
                // In no order.
                job.tags.clear();
                let id = job.id.parse().expect("an id");
                let log = world.store.logs_after(ORG.to_owned(), id, 0, 1_000).await;
                let ledger = world.store.ledger(ORG.to_owned(), id).await;
                let audit = world.store.audit(AuditFilter {
                    organization: ORG.to_owned(),
                    object: job.id.clone(),
                    actor: String::new(),
                    call: String::new(),
                    since_ms: 0,
                    before: None,
                    limit: 100,
                });
                let mut audit = audit.await.expect("an audit").entries;
                audit.iter_mut().for_each(|line| line.id = 0);
                all.push_str(&format!("{job:#?}{log:#?}{ledger:#?}{audit:#?}"));
            }
            seen.push(nameless(&all.replace(self.name, "half")));
        }
        seen
    }
}

/// Ids by the order in which they come.
fn nameless(text: &str) -> String {
    let mut ids: Vec<&str> = Vec::new();
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(|c: char| !(c.is_ascii_hexdigit() || c == '-')) {
        let word = part.trim_end_matches(|c: char| !(c.is_ascii_hexdigit() || c == '-'));
        if word.len() != 36 {
            out.push_str(part);
            continue;
        }
        let at = ids.iter().position(|id| *id == word).unwrap_or_else(|| {
            ids.push(word);
            ids.len() - 1
        });
        out.push_str(&format!("id {at}{}", &part[word.len()..]));
    }
    out
}

fn workspace_of(job: &Job) -> usize {
    let metadata = job.metadata.as_ref().expect("a build");
    let (_, number) = metadata.workspace_name.rsplit_once('-').expect("a number");
    number.parse().expect("a number")
}

/// What both halves hear of a job at the same time.
fn news(seed: u64, held: &Held, counter: u64) -> Update {
    let number = workspace_of(&held.header);
    let mut random = StdRng::seed_from_u64(seed * 1_000 + number as u64 * 10 + counter);
    let first = (counter - 1) * 20 + 1;
    let entries = random.random_range(0..4);
    let ledger = (0..entries).map(|entry| {
        let seq = counter * 10 + entry;
        match random.random_bool(0.5) {
            true => started(seq, &format!("thing.{seq}")),
            false => complete(seq, &format!("thing.{seq}")),
        }
    });
    let ledger = ledger.collect();
    Update {
        // Some leave a hole.
        lines: match random.random_range(0..4) {
            0 => Vec::new(),
            1 => lines(first + 2..=first + 5),
            _ => lines(first..=first + 19),
        },
        ledger,
        phase: Some(*[Phase::Init, Phase::Plan].choose(&mut random).expect("one")),
        gate: match counter {
            2 if random.random_bool(0.5) => Gate::Asked,
            _ => Gate::NotAsked,
        },
        ..held.update(counter)
    }
}

fn ending(seed: u64, held: &Held) -> Finish {
    let number = workspace_of(&held.header);
    let mut random = StdRng::seed_from_u64(seed * 1_000 + number as u64);
    let outcome = *[Outcome::Succeeded, Outcome::Succeeded, Outcome::Failed]
        .choose(&mut random)
        .expect("one");
    let mut finish = match random.random_range(0..6) {
        0 => return held.release(ReleaseReason::Drain),
        1 => held.finish(Outcome::Failed),
        _ => {
            let bytes = format!("state {seed} {number}").into_bytes();
            let id = BlobId {
                digest: Digest::of(&bytes),
                size: bytes.len() as u64,
            };
            let state = Checkpoint {
                blob: id,
                serial: seed,
                lineage: "l".to_owned(),
                ledger_seq: 0,
            };
            let content = BlobContent::Inline(bytes);
            Finish {
                state: Some(state),
                brings: Some(NewBlob::new(id, content)),
                ..held.finish(outcome)
            }
        }
    };
    finish.report.lines = lines(1..=50);
    if random.random_bool(0.5) {
        finish.report.extraction = Some(Extraction::default());
    }
    finish
}

pub(crate) async fn a_fleet_at_once_does_what_it_does_one_by_one<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let half = |name, calls| Half {
        name,
        calls,
        held: Vec::new(),
    };
    let mut halves = [half("solo", Calls::OneByOne), half("many", Calls::AtOnce)];
    for half in &halves {
        for number in 0..MANY {
            let create = CreateWorkspace {
                workspace: named(&half.workspace(number)),
                version: version.id,
                parameters: Vec::new(),
                submission: half.submission(),
            };
            let created = world.store.create_workspace(create).await;
            created.expect("a workspace");
        }
    }
    let mut built = 0;
    for round in 1..=4 {
        for half in &mut halves {
            half.take(&world).await;
        }
        for half in &halves {
            half.update(&world, |held| news(round, held, 1)).await;
        }
        world.pass(1).await;
        for half in &halves {
            half.update(&world, |held| news(round, held, 2)).await;
        }
        world.pass(1).await;
        for half in &halves {
            half.finish(&world, |held| ending(round, held)).await;
        }
        world.pass(1).await;
        let mut begun = Vec::new();
        for half in &halves {
            begun.push(half.build(&world).await);
        }
        assert_eq!(begun[0], begun[1], "round {round}");
        built += begun[0].iter().filter(|begun| **begun).count();
    }
    assert!((16..32).contains(&built), "hardly any or all: {built}");
    let (solo, many) = (halves[0].seen(&world).await, halves[1].seen(&world).await);
    for (solo, many) in solo.iter().zip(&many) {
        let mut lines = solo.lines().zip(many.lines());
        assert_eq!(lines.find(|(solo, many)| solo != many), None);
        assert_eq!(solo.len(), many.len());
    }
}
