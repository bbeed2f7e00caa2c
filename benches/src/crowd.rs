//! Many workspaces on one daemon: all succeed, and the memory of queue and daemon comes
//! back to where it was.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

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
    /// Workspaces in all.
    #[arg(long, default_value_t = 100)]
    workspaces: usize,
    /// Slots of the one daemon.
    #[arg(long, default_value_t = 4)]
    slots: u32,
}

/// Creates them all and reads the memory before, once warm, and after.
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
    let warm = fleet.memory_kib();
    let start = Instant::now();
    create(&fleet, "w", args.workspaces)?;
    let wall = start.elapsed();
    std::thread::sleep(std::time::Duration::from_secs(5));
    let after = fleet.memory_kib();
    let jobs = fleet.client(&["jobs", "list", "--limit", "1000"], &[])?;
    let succeeded = jobs
        .as_array()
        .into_iter()
        .flatten()
        .filter(|job| job["status"] == "succeeded" && job["kind"] == "workspace_build")
        .count();
    let wanted = args.workspaces + args.slots as usize;
    ensure!(
        succeeded == wanted,
        "{succeeded} of {wanted} builds succeeded"
    );
    eprintln!(
        "crowd: {succeeded} builds in {:.1} s, memory {warm:?} -> {after:?} KiB",
        wall.as_secs_f64()
    );
    Ok(json!({
        "bench": "crowd",
        "workspaces": args.workspaces,
        "slots": args.slots,
        "wall_s": wall.as_secs_f64(),
        "anonymous_kib_queue_daemon_warm": warm,
        "anonymous_kib_queue_daemon_after": after,
    }))
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
