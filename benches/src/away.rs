//! The soak of [`benches::cut`] from the command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use benches::cut::case::Case;
use benches::cut::{self, Report};

/// Which cases.
#[derive(clap::Args)]
pub struct Args {
    /// The product's binary.
    #[arg(long, default_value = "target/release/provisionerd")]
    binary: PathBuf,
    /// The directory `testdata`.
    #[arg(long, default_value = "testdata")]
    testdata: PathBuf,
    /// Engine of the applies.
    #[arg(long, env = "PROVISIONERD_TEST_TERRAFORM")]
    engine: PathBuf,
    /// Only cases whose name contains this, say `network/apply` or `/60s`.
    #[arg(long, default_value = "")]
    only: String,
    /// The product's waits and the spans are divided by it: 1 to 4.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    divisor: u32,
    /// Seconds of the lease after the gate, by default the product's own.
    #[arg(long)]
    lease: Option<u64>,
    /// Cases at once: most of a case is waiting.
    #[arg(long, default_value_t = 8)]
    lanes: usize,
}

/// Runs them.
pub fn run(args: &Args) -> Result<Report> {
    let binary = args.binary.canonicalize();
    let binary = binary.with_context(|| format!("build {} first", args.binary.display()))?;
    let mut cases = Case::all();
    cases.retain(|case| case.to_string().contains(&args.only));
    // The longest first.
    cases.sort_by_key(|case| std::cmp::Reverse(case.span));
    let options = cut::Options {
        binary,
        testdata: args.testdata.canonicalize().context("testdata")?,
        engine: args.engine.clone(),
        divisor: args.divisor,
        lease: args.lease.map(Duration::from_secs),
        lanes: args.lanes,
    };
    let report = cut::run(&options, &cases);
    let (broken, all) = (report.broken().len(), report.outcomes.len());
    eprintln!(
        "cut: {broken} of {all} cases broken, {} skipped",
        report.skipped.len()
    );
    for (case, why) in &report.skipped {
        eprintln!("cut: skipped {case}: {why}");
    }
    Ok(report)
}
