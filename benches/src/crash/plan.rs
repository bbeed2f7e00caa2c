//! What is killed in which build, and where: drawn from the seed before anything runs.

use std::fmt;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::Options;

/// What gets SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The jailed brain of the job.
    Worker,
    /// The parent of everything of the job.
    Supervisor,
    /// The daemon alone; its supervisor lives on.
    Daemon,
    /// The queue.
    Queue,
    /// Terraform or OpenTofu, whatever it does.
    Engine,
    /// Both that hold the job's records.
    DaemonAndQueue,
    /// Daemon, supervisor, worker, engine, plugins and shells: as a machine that dies.
    Tree,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Worker,
        Self::Supervisor,
        Self::Daemon,
        Self::Queue,
        Self::Engine,
        Self::DaemonAndQueue,
        Self::Tree,
    ];

    /// As the report names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Supervisor => "supervisor",
            Self::Daemon => "daemon",
            Self::Queue => "queue",
            Self::Engine => "engine",
            Self::DaemonAndQueue => "daemon+queue",
            Self::Tree => "tree",
        }
    }
}

/// Which engine builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Engine {
    /// Writes its state after each resource.
    Terraform,
    /// Writes it every 20 s.
    Tofu,
}

impl Engine {
    /// As `--engine` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Terraform => "terraform",
            Self::Tofu => "tofu",
        }
    }
}

/// How large the state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Size {
    /// Some ten kilobytes.
    Small,
    /// More than four megabytes.
    Large,
}

impl Size {
    /// The template's variable `kib`: 20 inputs, each twice in the state.
    #[must_use]
    pub fn kib(self) -> u32 {
        match self {
            Self::Small => 0,
            Self::Large => 110,
        }
    }
}

/// The instant of a kill, relative to what such a build took before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// A fraction of the whole build.
    Uniform(f64),
    /// Seconds before or after the gate.
    Gate(f64),
}

/// One kill.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    /// From 0; names the workspace.
    pub number: usize,
    /// What dies.
    pub kind: Kind,
    /// What builds.
    pub engine: Engine,
    /// What it builds.
    pub size: Size,
    /// When.
    pub aim: Aim,
    /// What was killed comes back after so many milliseconds.
    pub away_ms: u64,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            kind,
            engine,
            size,
            aim,
            away_ms,
        } = self;
        let (kind, engine) = (kind.name(), engine.name());
        write!(
            f,
            "{number} ({kind}, {engine}, {size:?}, {aim:?}, away {away_ms} ms)"
        )
    }
}

/// Half of the second around the gate.
const AROUND_GATE: f64 = 0.5;
/// Longest absence of what was killed.
const AWAY_MS: u64 = 1_500;

/// The cases: all kinds equally often, a third OpenTofu, a quarter large, a third around
/// the gate, in an order of their own.
pub fn draw(options: &Options) -> Vec<Case> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let count = options.kills;
    let every = |nth: usize, rng: &mut StdRng| {
        let mut marks: Vec<bool> = (0..count).map(|n| n % nth == 0).collect();
        marks.shuffle(rng);
        marks
    };
    let mut kinds: Vec<Kind> = Kind::ALL.into_iter().cycle().take(count).collect();
    kinds.shuffle(&mut rng);
    let (tofu, large, gate) = (every(3, &mut rng), every(4, &mut rng), every(3, &mut rng));
    (0..count)
        .map(|number| Case {
            number,
            kind: kinds[number],
            engine: match tofu[number] && options.tofu.is_some() {
                true => Engine::Tofu,
                false => Engine::Terraform,
            },
            size: if large[number] {
                Size::Large
            } else {
                Size::Small
            },
            aim: match gate[number] {
                true => Aim::Gate(rng.random_range(-AROUND_GATE..AROUND_GATE)),
                false => Aim::Uniform(rng.random_range(0.0..1.0)),
            },
            away_ms: rng.random_range(0..AWAY_MS),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn options(seed: u64) -> Options {
        Options {
            binary: PathBuf::new(),
            template: PathBuf::new(),
            terraform: PathBuf::new(),
            tofu: Some(PathBuf::new()),
            mirror: PathBuf::new(),
            kills: 200,
            seed,
            lanes: 1,
            divisor: 4,
            dir: PathBuf::new(),
        }
    }

    #[test]
    fn a_seed_says_all_and_the_shares_are_kept() {
        let cases = draw(&options(7));
        assert_eq!(cases, draw(&options(7)));
        assert_ne!(cases, draw(&options(8)));
        let count = |wanted: &dyn Fn(&Case) -> bool| cases.iter().filter(|c| wanted(c)).count();
        assert_eq!(count(&|case| case.engine == Engine::Tofu), 67);
        assert_eq!(count(&|case| case.size == Size::Large), 50);
        assert_eq!(count(&|case| matches!(case.aim, Aim::Gate(_))), 67);
        for kind in Kind::ALL {
            assert!((28..=29).contains(&count(&|case| case.kind == kind)));
        }
    }
}
