//! Many workspaces on one daemon, in rounds: all succeed, and the memory of queue and
//! daemon comes back to where it was. In the first round each allocator's caches fill, and
//! the queue's connections cache the pages of a database that grows, up to 2 MB each. What
//! grows beyond that with each workspace of the last round is kept by somebody, and fails
//! the run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::fleet::{self, Fleet, path};

/// How many.
#[derive(clap::Args)]
pub struct Args {
    /// The product's binary, built with `--release`.
    #[arg(long, default_value = "target/release/provisionerd")]
    binary: PathBuf,
    /// Template directory.
    #[arg(long, default_value = "testdata/templates/quickstart")]
    template: PathBuf,
    /// Engine: a name on PATH or a path.
    #[arg(long, default_value = "terraform")]
    engine: String,
    /// Unpacked provider mirror, for templates that need providers.
    #[arg(long)]
    mirror: Option<PathBuf>,
    /// Workspaces of each round.
    #[arg(long, default_value_t = 100)]
    workspaces: usize,
    /// Rounds, all with the same queue and daemon.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// KiB by which queue or daemon may grow with each workspace of the last round, the
    /// queue's page caches aside.
    #[arg(long, default_value_t = 8)]
    growth_kib: u64,
    /// Slots of the one daemon.
    #[arg(long, default_value_t = 4)]
    slots: u32,
}

/// How long queue and daemon may take to come to rest after a round.
const REST: Duration = Duration::from_secs(5);

/// Creates them all and reads the memory once warm and after each round.
pub fn run(args: &Args) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let options = fleet::Options {
        binary: &args.binary,
        engine: &args.engine,
        mirror: args.mirror.as_deref(),
        slots: args.slots,
        tags: &[],
    };
    let fleet = Arc::new(Fleet::start(&options, dir.path())?);
    fleet.client(
        &["templates", "push", "crowd", "-d"],
        &[path(&args.template)?],
    )?;
    create(&fleet, "warm", args.slots as usize)?;
    std::thread::sleep(REST);
    let mut looks = vec![Look::at(&fleet)?];
    let mut wall = Duration::ZERO;
    for round in 1..=args.rounds {
        let start = Instant::now();
        create(&fleet, &format!("w-{round}"), args.workspaces)?;
        wall += start.elapsed();
        std::thread::sleep(REST);
        looks.push(Look::at(&fleet)?);
    }
    let workspaces = fleet.client(&["workspaces", "list"], &[])?;
    let succeeded = workspaces
        .as_array()
        .into_iter()
        .flatten()
        .filter(|workspace| workspace["latest_build"]["status"] == "succeeded")
        .count();
    let wanted = args.rounds * args.workspaces + args.slots as usize;
    ensure!(
        succeeded == wanted,
        "{succeeded} of {wanted} builds succeeded"
    );
    eprintln!(
        "crowd: {succeeded} builds in {:.1} s, {looks:?}",
        wall.as_secs_f64()
    );
    must_have_settled(args, &looks)?;
    Ok(json!({
        "bench": "crowd",
        "workspaces": args.workspaces,
        "rounds": args.rounds,
        "slots": args.slots,
        "wall_s": wall.as_secs_f64(),
        "anonymous_kib_warm_then_each_round": looks.iter().map(|look| json!({
            "queue": look.queue,
            "daemon": look.daemon,
            "database": look.database,
        })).collect::<Vec<_>>(),
    }))
}

/// Connections of the queue to its database: one that writes, four that read.
const CONNECTIONS: u64 = 5;

/// What is held at one time, in KiB: anonymous memory, and the size of the database.
#[derive(Debug, Clone, Copy)]
struct Look {
    queue: u64,
    daemon: u64,
    database: u64,
}

impl Look {
    fn at(fleet: &Fleet) -> Result<Self> {
        let [queue, daemon] = fleet.memory_kib()[..] else {
            anyhow::bail!("a fleet is a queue and a daemon");
        };
        let database = fleet.database_kib()?;
        Ok(Self {
            queue,
            daemon,
            database,
        })
    }
}

/// Refuses growth that goes on in the last round, which one round alone cannot show.
fn must_have_settled(args: &Args, looks: &[Look]) -> Result<()> {
    let [_, .., before, after] = looks else {
        return Ok(());
    };
    let allowed = args.growth_kib * args.workspaces as u64;
    let pages = CONNECTIONS * after.database.saturating_sub(before.database);
    for (who, before, after, allowed) in [
        ("queue", before.queue, after.queue, allowed + pages),
        ("daemon", before.daemon, after.daemon, allowed),
    ] {
        let grown = after.saturating_sub(before);
        ensure!(
            grown <= allowed,
            "the {who} has grown by {grown} KiB in the last round, more than {allowed}"
        );
    }
    Ok(())
}

/// Creates `count` workspaces, as many at once as there are clients.
fn create(fleet: &Arc<Fleet>, prefix: &str, count: usize) -> Result<()> {
    const CLIENTS: usize = 8;
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return anyhow::Ok(());
                        }
                        let name = format!("{prefix}-{index}");
                        fleet
                            .client(&["workspaces", "create", &name, "--template", "crowd"], &[])?;
                    }
                })
            })
            .collect();
        for worker in workers {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    /// Rounds of 100 workspaces with the database growing by 100 KiB in each.
    fn settles(last: [u64; 2]) -> Result<()> {
        let line = ["crowd", "--workspaces", "100", "--growth-kib", "8"];
        let args = Command::parse_from(line).args;
        let look = |database, [queue, daemon]: [u64; 2]| Look {
            queue,
            daemon,
            database,
        };
        let looks = [
            look(100, [7_000, 5_000]),
            look(200, [12_000, 8_000]),
            look(300, last),
        ];
        must_have_settled(&args, &looks)
    }

    #[test]
    fn growth_that_goes_on_in_the_last_round_fails_the_run() {
        assert!(settles([13_300, 8_800]).is_ok());
        let refused = settles([13_301, 8_000]).expect_err("grows");
        assert!(refused.to_string().contains("queue"), "{refused}");
        let refused = settles([12_000, 8_801]).expect_err("grows");
        assert!(refused.to_string().contains("daemon"), "{refused}");
    }
}
