//! The crash sweep from the command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use benches::crash::{self, Report};

/// How many kills, of what.
#[derive(clap::Args)]
pub struct Args {
    /// The product's binary.
    #[arg(long, default_value = "target/release/provisionerd")]
    binary: PathBuf,
    /// Template directory.
    #[arg(long, default_value = "testdata/templates/marks")]
    template: PathBuf,
    /// Terraform.
    #[arg(long, env = "PROVISIONERD_TEST_TERRAFORM")]
    terraform: PathBuf,
    /// OpenTofu, for a third of the builds.
    #[arg(long, env = "PROVISIONERD_TEST_TOFU")]
    tofu: Option<PathBuf>,
    /// Unpacked provider mirror with coder/coder, hashicorp/local and hashicorp/null.
    #[arg(long, env = "PROVISIONERD_TEST_MIRROR")]
    mirror: PathBuf,
    /// Kills in all.
    #[arg(long, default_value_t = 200)]
    kills: usize,
    /// Everything that is drawn is drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fleets at once.
    #[arg(long, default_value_t = 3)]
    fleets: usize,
    /// The product's waits are divided by it: 1 to 4.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4))]
    divisor: u32,
    /// Directory for the fleets; those of broken cases stay. A fresh one in /tmp by default.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Runs the sweep and prints its table.
pub fn run(args: &Args) -> Result<Report> {
    let binary = args.binary.canonicalize();
    let binary = binary.with_context(|| format!("build {} first", args.binary.display()))?;
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => tempfile::Builder::new().prefix("crash").tempdir()?.keep(),
    };
    let report = crash::run(&crash::Options {
        binary,
        template: args.template.canonicalize().context("template")?,
        terraform: args.terraform.clone(),
        tofu: args.tofu.clone(),
        mirror: args.mirror.clone(),
        kills: args.kills,
        seed: args.seed,
        lanes: args.fleets,
        divisor: args.divisor,
        dir: dir.clone(),
    })?;
    eprintln!("{}", report.text());
    // Stays when a broken case lies in it.
    let _ = std::fs::remove_dir(dir);
    Ok(report)
}
