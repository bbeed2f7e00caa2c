//! Random commands on a store and on a plain model of the design, held against each
//! other after each step.
//!
//! A case is one organization of its own in one store, so that cases cost no setup and a
//! failing one can be run again, smaller. The seed of a case is all that it depends on;
//! a failure prints it with the smallest list of commands that still fails:
//!
//! ```sh
//! PROVISIONERD_TEST_SEED=7 PROVISIONERD_TEST_CASES=1 cargo test -p queue random
//! ```
//!
//! The suite runs the first few seeds; `PROVISIONERD_TEST_CASES=1000` is a long run.

mod command;
mod compare;
mod drive;
mod invariants;
mod load;
mod plain;
mod pruned;
mod settling;
mod submit;

use std::time::{Duration, Instant};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::world::World;
use crate::store::Store;
use command::Command;
use drive::Case;
pub(crate) use pruned::a_random_history_pruned_at_random_instants_keeps_what_is_needed;

/// Cases in the suite, and how many commands each has.
const CASES: u64 = 8;
const COMMANDS: usize = 180;

/// From so many cases on, all hard places must have been seen.
const THOROUGH: u64 = 60;

/// How long a failure is made smaller at most.
const SHRINKING: Duration = Duration::from_secs(120);

/// Where store and model differ, and what led to it.
type Difference = String;

pub(crate) async fn random_commands_agree_with_a_plain_model<S: Store>(world: World<S>) {
    let first = number("PROVISIONERD_TEST_SEED").unwrap_or(1);
    let cases = number("PROVISIONERD_TEST_CASES").unwrap_or(CASES);
    let mut seen = compare::Seen::default();
    for seed in first..first + cases {
        if let Some((commands, difference)) = fails(&world, seed, &mut seen).await {
            let commands: Vec<_> = commands.iter().map(|it| format!("{it:?}")).collect();
            panic!(
                "PROVISIONERD_TEST_SEED={seed} PROVISIONERD_TEST_CASES=1: {difference}\n\
                 after these commands:\n{}",
                commands.join("\n")
            );
        }
    }
    // A long run that never came to the hard places proves nothing.
    if cases >= THOROUGH {
        seen.assert_complete();
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// The smallest commands found that fail as this seed's do, if they do.
async fn fails<S: Store>(
    world: &World<S>,
    seed: u64,
    seen: &mut compare::Seen,
) -> Option<(Vec<Command>, Difference)> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let commands = command::commands(COMMANDS).new_tree(&mut runner);
    let commands = commands.expect("commands").current();
    let (step, difference) = run(world, &commands, seen).await.err()?;
    Some(shrunk(world, (commands, step, difference), seen).await)
}

/// Leaves out parts, ever smaller ones, as long as what is left still fails.
async fn shrunk<S: Store>(
    world: &World<S>,
    (mut commands, step, mut difference): (Vec<Command>, usize, Difference),
    seen: &mut compare::Seen,
) -> (Vec<Command>, Difference) {
    commands.truncate(step + 1);
    let until = Instant::now() + SHRINKING;
    let mut part = commands.len() / 2;
    while part > 0 && Instant::now() < until {
        let mut from = 0;
        while from < commands.len() && Instant::now() < until {
            let mut fewer = commands.clone();
            fewer.drain(from..commands.len().min(from + part));
            match run(world, &fewer, seen).await {
                Ok(()) => from += part,
                Err((step, smaller)) => {
                    fewer.truncate(step + 1);
                    (commands, difference) = (fewer, smaller);
                }
            }
        }
        part /= 2;
    }
    (commands, difference)
}

/// The step at which store and model differ, and how.
async fn run<S: Store>(
    world: &World<S>,
    commands: &[Command],
    seen: &mut compare::Seen,
) -> Result<(), (usize, Difference)> {
    let mut case = Case::begin(world).await;
    for (step, command) in commands.iter().enumerate() {
        let at = |difference| (step, format!("at {command:?}: {difference}"));
        case.drive(command).await.map_err(at)?;
        case.compare(seen).await.map_err(at)?;
    }
    let logs = case.compare_logs().await;
    logs.map_err(|difference| (commands.len(), difference))
}
