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
    /// The template's variable `kib`: 12 inputs, each twice in the state.
    #[must_use]
    pub fn kib(self) -> u32 {
        match self {
            Self::Small => 0,
            Self::Large => 185,
        }
    }
}

/// What the build that is hit does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// Makes everything.
    First,
    /// Updates in place, replaces, and creates before it destroys.
    Replace,
    /// Deletes what only a started workspace has.
    Stop,
    /// Deletes everything.
    Delete,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::First, Self::Replace, Self::Stop, Self::Delete];

    /// As the report names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first build",
            Self::Replace => "replace",
            Self::Stop => "stop",
            Self::Delete => "delete",
        }
    }
}

/// The instant of a kill.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// A fraction of the whole build, as such builds went before.
    Uniform(f64),
    /// As soon as the plan is read: what is left before the gate is asked for.
    Planned,
    /// As soon as the daemon has written down that it asks for the gate.
    Asked,
    /// Seconds after the apply has its output file.
    Applies(f64),
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
    /// What the build that is hit does.
    pub change: Change,
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
            change,
            aim,
            away_ms,
        } = self;
        let (kind, engine, change) = (kind.name(), engine.name(), change.name());
        write!(
            f,
            "{number} ({kind}, {engine}, {size:?}, {change}, {aim:?}, away {away_ms} ms)"
        )
    }
}

/// Of the half second behind the gate: a kill comes a little later than its sign.
const BEHIND_GATE: f64 = 0.3;
/// An apply of a change is short: most of it lies before this many seconds.
const OF_CHANGE: f64 = 1.0;
/// Of ten builds that are hit.
const CHANGES: [Change; 10] = [
    Change::First,
    Change::First,
    Change::First,
    Change::Replace,
    Change::First,
    Change::First,
    Change::Stop,
    Change::First,
    Change::Replace,
    Change::Delete,
];
/// Longest absence of what was killed.
const AWAY_MS: u64 = 1_500;

/// The cases: all kinds equally often, a third OpenTofu, a quarter large, of first builds
/// a third around the gate and of changes all, in an order of their own.
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
    let mut changes: Vec<Change> = CHANGES.into_iter().cycle().take(count).collect();
    changes.shuffle(&mut rng);
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
            change: changes[number],
            aim: aim(changes[number], gate[number], &mut rng),
            away_ms: rng.random_range(0..AWAY_MS),
        })
        .collect()
}

fn aim(change: Change, gate: bool, rng: &mut StdRng) -> Aim {
    let draw = rng.random_range(0.0..1.0);
    match (change, gate) {
        (Change::First, false) => Aim::Uniform(draw),
        (Change::First, true) => match rng.random_range(0..4) {
            0 => Aim::Planned,
            1 => Aim::Asked,
            _ => Aim::Applies(draw * BEHIND_GATE),
        },
        (Change::Replace | Change::Stop | Change::Delete, _) => match rng.random_range(0..6) {
            0 => Aim::Asked,
            _ => Aim::Applies(draw * OF_CHANGE),
        },
    }
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
        for (change, cases) in [
            (Change::First, 120),
            (Change::Replace, 40),
            (Change::Stop, 20),
            (Change::Delete, 20),
        ] {
            assert_eq!(count(&|case| case.change == change), cases, "{change:?}");
        }
        let somewhere = |case: &Case| matches!(case.aim, Aim::Uniform(_));
        assert!(
            (75..=85).contains(&count(&somewhere)),
            "of 120 first builds"
        );
        assert!(count(&|case| case.aim == Aim::Asked) >= 10);
        assert!(count(&|case| case.aim == Aim::Planned) >= 5);
        for kind in Kind::ALL {
            assert!((28..=29).contains(&count(&|case| case.kind == kind)));
        }
    }
}
