//! Random histories that are pruned again and again, at random instants and as sharply as
//! can be: what a workspace, a daemon or a person may still need is the same before and
//! after. The model knows nothing of it, so the store is held against itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use proto::v1;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::world::World;
use super::command;
use super::drive::Case;
use super::number;
use crate::store::Store;
use crate::store::model::{JobFilter, KeepStates, Retention, WorkspaceName};
use crate::store::{BaseVersion, Deleted};

/// Cases in the suite, and how many commands each has.
const CASES: u64 = 3;
const COMMANDS: usize = 160;

/// One prune in so many commands.
const ONE_IN: u32 = 16;

pub(crate) async fn a_random_history_pruned_at_random_instants_keeps_what_is_needed<S: Store>(
    world: World<S>,
) {
    let first = number("PROVISIONERD_TEST_SEED").unwrap_or(1);
    let cases = number("PROVISIONERD_TEST_CASES").unwrap_or(CASES);
    let mut gone = 0;
    for seed in first..first + cases {
        gone += run(&world, seed).await;
    }
    assert!(gone > 0, "histories that lose nothing prove nothing");
}

/// How many rows went.
async fn run<S: Store>(world: &World<S>, seed: u64) -> u64 {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let commands = command::commands(COMMANDS).new_tree(&mut runner);
    let commands = commands.expect("commands").current();
    let mut random = StdRng::seed_from_u64(seed);
    let mut case = Case::begin(world).await;
    let mut gone = 0;
    for (step, command) in commands.iter().enumerate() {
        // The model does not prune: what it says of jobs that are gone is wrong.
        let _ignored = case.drive(command).await;
        if random.random_range(0..ONE_IN) > 0 {
            continue;
        }
        let before = Needed::read(&case).await;
        let keep = sharp(&mut random);
        let pruned = world.store.prune(keep, case.replica.clone()).await;
        let pruned = pruned.expect("a pass");
        gone += pruned.jobs + pruned.states + pruned.logs;
        let after = Needed::read(&case).await;
        let at = format!("PROVISIONERD_TEST_SEED={seed}, step {step}, {keep:?}");
        before.is_kept_by(&after, &at);
    }
    gone
}

/// Keeps hardly anything that is not needed.
fn sharp(random: &mut StdRng) -> Retention {
    let none = |random: &mut StdRng| random.random_bool(0.8).then_some(Duration::ZERO);
    Retention {
        jobs: none(random),
        logs: none(random),
        states: match random.random_range(0..4) {
            0 => KeepStates::All,
            1 => KeepStates::Newest(random.random_range(1..3)),
            _ => KeepStates::Younger(Duration::ZERO),
        },
        audit: None,
        daemons: None,
        late: Duration::from_secs(random.random_range(0..2) * 60),
    }
}

/// What may not be lost.
#[derive(Debug, PartialEq)]
struct Needed {
    /// With their newest build, parameters, resources and doubts.
    workspaces: BTreeMap<String, v1::Workspace>,
    /// The current state of each, and those that wait.
    states: BTreeMap<String, Vec<(String, Vec<u8>, bool)>>,
    /// What the next build of each starts from.
    bases: BTreeMap<String, String>,
    /// Jobs that have not ended.
    open: BTreeMap<String, v1::JobView>,
    /// All jobs that are listed.
    listed: BTreeSet<String>,
}

impl Needed {
    async fn read<S: Store>(case: &Case<'_, S>) -> Self {
        let (store, organization) = (&case.world.store, &case.organization);
        let mut needed = Self {
            workspaces: BTreeMap::new(),
            states: BTreeMap::new(),
            bases: BTreeMap::new(),
            open: BTreeMap::new(),
            listed: BTreeSet::new(),
        };
        let all = store.list_workspaces(organization.clone(), None, Deleted::Hide);
        for light in all.await.expect("workspaces") {
            let name = WorkspaceName {
                organization: organization.clone(),
                owner: light.owner.clone(),
                name: light.name.clone(),
            };
            let view = store.workspace(name.clone()).await.expect("a workspace");
            let states = store.states(name.clone()).await.expect("states");
            let states = states.into_iter().filter(|it| it.current || it.waiting);
            let digest = |blob: Option<v1::BlobRef>| blob.unwrap_or_default().sha256;
            let states = states.map(|it| (it.id, digest(it.blob), it.current));
            let base = store.build_base(name, BaseVersion::Own).await;
            let base = match base {
                Ok(base) => format!("{} {:?} {:?}", base.number, base.version.id, base.previous),
                Err(error) => error.code().to_owned(),
            };
            needed.states.insert(light.id.clone(), states.collect());
            needed.bases.insert(light.id.clone(), base);
            needed.workspaces.insert(light.id, view);
        }
        let filter = JobFilter {
            organization: organization.clone(),
            status: None,
            kind: None,
            owner: None,
            workspace: None,
            limit: 1_000,
        };
        for job in store.list_jobs(filter).await.expect("jobs") {
            needed.listed.insert(job.id.clone());
            if job.completed_at_ms.is_none() {
                needed.open.insert(job.id.clone(), job);
            }
        }
        needed
    }

    fn is_kept_by(&self, after: &Self, at: &str) {
        assert_eq!(self.workspaces, after.workspaces, "{at}");
        assert_eq!(self.states, after.states, "{at}");
        assert_eq!(self.bases, after.bases, "{at}");
        assert_eq!(self.open, after.open, "{at}");
        assert!(after.listed.is_subset(&self.listed), "{at}");
    }
}
