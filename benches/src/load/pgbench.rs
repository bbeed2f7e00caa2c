//! What pgbench makes of the same server: a figure that people know of their own.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::report::{Row, Verdict};
use super::store::{Backend, Postgres, Statements};

/// Clients, and rows in units of 100,000.
const CLIENTS: &str = "16";
const SCALE: &str = "10";

/// TPC-B with prepared statements.
pub fn measure(window: Duration) -> Result<Row> {
    let postgres = tokio::task::block_in_place(|| Postgres::start(Statements::Uncounted))?;
    let run = |args: &[&str]| -> Result<String> {
        let output = Command::new(Postgres::programs()?.join("pgbench"))
            .args(args)
            .arg(postgres.url())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pgbench {args:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let seconds = window.as_secs().max(1).to_string();
    let printed = tokio::task::block_in_place(|| {
        run(&["-i", "-q", "-s", SCALE])?;
        run(&["-M", "prepared", "-c", CLIENTS, "-j", "2", "-T", &seconds])
    })?;
    let tps = printed.lines().find_map(|line| line.strip_prefix("tps = "));
    let tps = tps.and_then(|rest| rest.split_whitespace().next());
    let tps: f64 = tps.context("pgbench printed no tps")?.parse()?;
    Ok(Row {
        store: Backend::Postgres,
        what: format!("pgbench, TPC-B, {CLIENTS} clients, prepared"),
        figure: format!("{tps:.0} transactions/s"),
        target: String::new(),
        verdict: Verdict::Shown,
        data: json!({ "tps": tps, "scale": SCALE }),
    })
}
