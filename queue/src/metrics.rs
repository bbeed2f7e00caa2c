//! Metrics in Prometheus' text format, read from the store when they are asked for.
//! Labels are bounded: statuses, kinds and the release.

use std::fmt::Write as _;

use crate::shared::Shared;
use crate::store::{Result, Store};
use crate::words::{Kind, Status};

/// Statuses of jobs that have not ended; the others only grow.
const OPEN: [Status; 3] = [Status::Pending, Status::Running, Status::Canceling];

/// All metrics as text.
///
/// # Errors
/// The store cannot be read.
pub async fn render<S: Store>(shared: &Shared<S>) -> Result<String> {
    let mut text = String::new();
    header(&mut text, "provisionerd_jobs", "Jobs that have not ended.");
    let counts = shared.store.open_jobs().await?;
    for status in OPEN {
        for kind in Kind::ALL {
            let count = counts.get(&(status, *kind)).copied().unwrap_or(0);
            let labels = format!("status=\"{status}\",kind=\"{kind}\"");
            line(&mut text, "provisionerd_jobs", &labels, count);
        }
    }
    header(
        &mut text,
        "provisionerd_acquires_waiting",
        "Acquire streams that wait for a job.",
    );
    line(
        &mut text,
        "provisionerd_acquires_waiting",
        "",
        shared.waiters.len() as u64,
    );
    header(
        &mut text,
        "provisionerd_finishes_unclaimed",
        "Finishes that are kept and belong to no known job or lease.",
    );
    let unclaimed = shared.store.unclaimed_finishes().await?;
    line(&mut text, "provisionerd_finishes_unclaimed", "", unclaimed);
    header(&mut text, "provisionerd_build_info", "The running release.");
    let labels = format!(
        "version=\"{}\",store=\"{}\"",
        env!("CARGO_PKG_VERSION"),
        shared.store.backend()
    );
    line(&mut text, "provisionerd_build_info", &labels, 1);
    Ok(text)
}

fn header(text: &mut String, name: &str, help: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge")
        .expect("invariant: a String grows as needed");
}

fn line(text: &mut String, name: &str, labels: &str, value: u64) {
    let written = if labels.is_empty() {
        writeln!(text, "{name} {value}")
    } else {
        writeln!(text, "{name}{{{labels}}} {value}")
    };
    written.expect("invariant: a String grows as needed");
}
