//! Metrics of a queue. What all replicas share is read from the store when it is asked for;
//! the rest is what this process has counted. Labels are bounded: statuses, kinds, reasons,
//! the release, and the largest pools.

mod census;
mod counters;
mod histogram;

use std::collections::BTreeMap;
use std::time::Duration;

use proto::limits;

use crate::exposition::Kind::{Counter, Gauge};
use crate::exposition::Page;
use crate::shared::Shared;
use crate::store::model::{PoolDepth, Pruned};
use crate::store::{Result, Store};
use crate::words::{Kind, Status};
pub use census::{Census, Count};
use counters::get;
pub use counters::{Counters, Match};
pub use histogram::Histogram;

/// Statuses of jobs that have not ended; the others only grow.
const OPEN: [Status; 3] = [Status::Pending, Status::Running, Status::Canceling];

/// Label of the pools that are counted together.
const OTHERS: &str = "others";

/// How long the store may take for its part: less than the 10 s that Prometheus waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the store says.
struct Told {
    census: Count,
    unclaimed: u64,
}

/// All metrics as text. While the store is away those that it would tell are not there, and
/// `provisionerd_store_up` is 0: what this process has counted is wanted just then.
pub async fn render<S: Store>(shared: &Shared<S>) -> String {
    let mut page = Page::default();
    let told = match tokio::time::timeout(PATIENCE, ask(shared)).await {
        Ok(Ok(told)) => Some(told),
        Ok(Err(error)) => {
            tracing::error!(error = %crate::refusal::chain(&error), "the store's metrics cannot be read");
            None
        }
        Err(_) => {
            tracing::error!(
                limit.s = PATIENCE.as_secs(),
                "the store does not tell its metrics"
            );
            None
        }
    };
    page.metric(
        Gauge,
        "provisionerd_store_up",
        "Whether the store has told its part of this page.",
    )
    .value(&[], told.is_some().into());
    if let Some(told) = told {
        jobs(&mut page, told);
    }
    dispatch(&mut page, shared);
    edge(&mut page, shared);
    pruned(&mut page, shared);
    page.metric(Gauge, "provisionerd_build_info", "The running release.")
        .value(
            &[
                ("version", env!("CARGO_PKG_VERSION")),
                ("store", shared.store.backend()),
            ],
            1,
        );
    page.into_text()
}

async fn ask<S: Store>(shared: &Shared<S>) -> Result<Told> {
    Ok(Told {
        census: shared.census.count(&shared.store).await?,
        unclaimed: shared.store.unclaimed_finishes().await?,
    })
}

fn jobs(page: &mut Page, told: Told) {
    page.metric(Gauge, "provisionerd_jobs", "Jobs that have not ended.");
    let counts = &told.census.open;
    for status in OPEN {
        for kind in Kind::ALL {
            let count = counts.get(&(status, *kind)).copied().unwrap_or(0);
            let (status, kind) = (status.to_string(), kind.to_string());
            page.value(&[("status", &status), ("kind", &kind)], count);
        }
    }
    page.metric(
        Gauge,
        "provisionerd_pool_jobs",
        "Jobs that have not ended, by the tags they ask for.",
    );
    for (pool, status, count) in largest(told.census.pools) {
        page.value(&[("pool", &pool), ("status", &status.to_string())], count);
    }
    page.metric(
        Gauge,
        "provisionerd_finishes_unclaimed",
        "Finishes that are kept and belong to no known job or lease.",
    )
    .value(&[], told.unclaimed);
}

/// The largest pools apart, the others together.
fn largest(depths: Vec<PoolDepth>) -> Vec<(String, Status, u64)> {
    let mut pools: BTreeMap<String, u64> = BTreeMap::new();
    for depth in &depths {
        *pools.entry(depth.tags.clone()).or_default() += depth.jobs;
    }
    let mut order: Vec<(String, u64)> = pools.into_iter().collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    order.truncate(limits::METRIC_POOLS);
    let mut counts: BTreeMap<(String, Status), u64> = BTreeMap::new();
    for depth in depths {
        let apart = order.iter().any(|(tags, _)| *tags == depth.tags);
        let pool = if apart { depth.tags } else { OTHERS.to_owned() };
        *counts.entry((pool, depth.status)).or_default() += depth.jobs;
    }
    let counts = counts.into_iter();
    counts
        .map(|((pool, status), jobs)| (pool, status, jobs))
        .collect()
}

/// How jobs came to daemons and what became of leases.
fn dispatch<S: Store>(page: &mut Page, shared: &Shared<S>) {
    let counters = &shared.counters;
    page.metric(
        Gauge,
        "provisionerd_acquires_waiting",
        "Acquire streams that wait for a job.",
    )
    .value(&[], shared.waiters.len() as u64);
    page.histogram(
        "provisionerd_schedule_to_start_seconds",
        "From the submit of a job to its first confirmed hand-out.",
        &[counters.start.read(&[])],
    );
    page.metric(
        Counter,
        "provisionerd_matches_total",
        "Jobs found for daemons that waited (sync) or that came later (backlog).",
    )
    .value(&[("match", "sync")], get(&counters.matched_waiting))
    .value(&[("match", "backlog")], get(&counters.matched_backlog));
    page.metric(
        Counter,
        "provisionerd_leases_expired_total",
        "Offers withdrawn, jobs that wait again and jobs that got a verdict, for silence.",
    )
    .value(&[("then", "withdrawn")], get(&counters.offers_withdrawn))
    .value(&[("then", "requeued")], get(&counters.leases_requeued))
    .value(&[("then", "ended")], get(&counters.leases_ended));
    let latency = shared.store.latency();
    page.histogram(
        "provisionerd_store_seconds",
        "From a transition's call to its durable answer, and a query's.",
        &[
            latency.writes.read(&[("does", "write")]),
            latency.reads.read(&[("does", "read")]),
        ],
    );
}

/// What went because it was old.
fn pruned<S: Store>(page: &mut Page, shared: &Shared<S>) {
    page.metric(
        Counter,
        "provisionerd_pruned_total",
        "Rows that went because they were older than is kept; of logs, runs of lines.",
    );
    let counts = shared.counters.pruned.iter().map(get);
    for ((kind, _), count) in Pruned::default().by_kind().into_iter().zip(counts) {
        page.value(&[("kind", kind)], count);
    }
}

/// Who comes to the port.
fn edge<S: Store>(page: &mut Page, shared: &Shared<S>) {
    let counters = &shared.counters;
    page.metric(
        Gauge,
        "provisionerd_connections",
        "Open connections of the gRPC port.",
    )
    .value(&[], shared.places.open().into());
    page.metric(
        Counter,
        "provisionerd_connections_refused_total",
        "Connections over a limit.",
    )
    .value(&[], shared.places.refused());
    page.metric(
        Counter,
        "provisionerd_authentications_refused_total",
        "Calls of nobody we know: no or a wrong credential, too many of them, or else.",
    )
    .value(&[("reason", "credential")], get(&counters.refused_wrong))
    .value(&[("reason", "rate")], get(&counters.refused_rate))
    .value(&[("reason", "other")], get(&counters.refused_other));
    page.metric(
        Counter,
        "provisionerd_audit_refusals_dropped_total",
        "Refused calls that the audit log had no place for.",
    )
    .value(&[], shared.refusals.dropped_ever());
    page.metric(
        Gauge,
        "provisionerd_requests_held_bytes",
        "Bytes of requests that are coming in.",
    )
    .value(&[], shared.held.bytes());
    page.metric(
        Gauge,
        "provisionerd_answers_unread_bytes",
        "Bytes of large messages that peers have not read.",
    )
    .value(&[("to", "daemons")], shared.unsent_to_daemons.bytes())
    .value(&[("to", "clients")], shared.unsent_to_clients.bytes());
    page.metric(
        Gauge,
        "provisionerd_transfers",
        "Open transfers of blob files.",
    )
    .value(&[], shared.blobs.transfers());
    page.metric(
        Counter,
        "provisionerd_control_polls_total",
        "Short calls of daemons whose way here lets no streams through.",
    )
    .value(&[], get(&counters.control_polls));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pools_are_counted_together() {
        let depth = |pool: usize, jobs| PoolDepth {
            tags: format!("{pool:02}"),
            status: Status::Pending,
            jobs,
        };
        let depths = (0..60).map(|pool| depth(pool, 60 - pool as u64));
        let counted = largest(depths.collect());
        assert_eq!(counted.len(), 51);
        assert!(counted.contains(&("49".to_owned(), Status::Pending, 11)));
        // 10 + 9 + … + 1.
        assert!(counted.contains(&("others".to_owned(), Status::Pending, 55)));
    }

    #[test]
    fn what_went_is_counted_by_its_kind() {
        let counters = Counters::default();
        let pruned = Pruned {
            jobs: 3,
            audit: 2,
            ..Pruned::default()
        };
        counters.pruned(&pruned);
        counters.pruned(&pruned);
        let kinds = pruned.by_kind().into_iter().zip(&counters.pruned);
        let counted: Vec<_> = kinds
            .map(|((kind, _), counter)| (kind, get(counter)))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counted, [("jobs", 6), ("audit", 4)]);
    }
}
