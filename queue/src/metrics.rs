//! Metrics in Prometheus' text format, read from the store when they are asked for.
//! Labels are bounded: statuses, kinds and the release.

use std::fmt::Write as _;

use crate::shared::Shared;
use crate::store::model::JobFilter;
use crate::store::{Result, Store};
use crate::words::{Kind, Status};

/// Jobs counted per status and organization; more are shown as this many.
const COUNTED: u32 = 10_000;

/// Statuses of jobs that have not ended; the others only grow.
const OPEN: [Status; 3] = [Status::Pending, Status::Running, Status::Canceling];

/// All metrics as text.
///
/// # Errors
/// The store cannot be read.
pub async fn render<S: Store>(shared: &Shared<S>) -> Result<String> {
    let mut text = String::new();
    header(&mut text, "provisionerd_jobs", "Jobs that have not ended.");
    for (status, kind, count) in open_jobs(shared).await? {
        line(
            &mut text,
            "provisionerd_jobs",
            &format!("status=\"{status}\",kind=\"{kind}\""),
            count,
        );
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
        shared.waiters.len(),
    );
    header(&mut text, "provisionerd_build_info", "The running release.");
    let labels = format!(
        "version=\"{}\",store=\"{}\"",
        env!("CARGO_PKG_VERSION"),
        shared.store.backend()
    );
    line(&mut text, "provisionerd_build_info", &labels, 1);
    Ok(text)
}

async fn open_jobs<S: Store>(shared: &Shared<S>) -> Result<Vec<(Status, Kind, usize)>> {
    let organizations = shared.store.list_organizations().await?;
    let mut counts = Vec::new();
    for status in OPEN {
        for kind in Kind::ALL {
            let mut count = 0;
            for organization in &organizations {
                let filter = JobFilter {
                    organization: organization.name.clone(),
                    status: Some(status),
                    kind: Some(*kind),
                    owner: None,
                    workspace: None,
                    limit: COUNTED,
                };
                count += shared.store.list_jobs(filter).await?.len();
            }
            counts.push((status, *kind, count));
        }
    }
    Ok(counts)
}

fn header(text: &mut String, name: &str, help: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge")
        .expect("invariant: a String grows as needed");
}

fn line(text: &mut String, name: &str, labels: &str, value: usize) {
    let written = if labels.is_empty() {
        writeln!(text, "{name} {value}")
    } else {
        writeln!(text, "{name}{{{labels}}} {value}")
    };
    written.expect("invariant: a String grows as needed");
}
