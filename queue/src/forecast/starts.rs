//! How long work takes, and when the next place of several is free.

use std::collections::HashMap;

use super::order::Ahead;
use crate::store::model::Work;

/// Weight of the newest run in a mean; what came before it shares the rest.
const NEWEST: f64 = 0.3;

/// Estimates are whole seconds: what follows a job is not told of less.
const STEP_MS: i64 = 1_000;

/// Mean run times, in milliseconds.
#[derive(Debug)]
pub(super) struct Times(HashMap<Work, f64>);

impl Times {
    /// From single runs, the oldest first.
    pub(super) fn new(runs: &[(Work, i64)]) -> Self {
        let mut means = HashMap::new();
        for (work, ms) in runs {
            let ms = whole(*ms).max(1.0);
            // Of a build that waits it is not known what it does: those of its template.
            let told = work.transition.is_some().then(|| work.clone());
            for work in told.into_iter().chain([untold(work)]) {
                let mean = means.entry(work).or_insert(ms);
                *mean += NEWEST * (ms - *mean);
            }
        }
        Self(means)
    }

    /// When each of so many places is free, in order; `None` when that of one that is held
    /// cannot be told. Of those that are free now no more than `wanted`.
    pub(super) fn free<'w>(
        &self,
        places: u32,
        held: impl Iterator<Item = (&'w Work, i64)>,
        now_ms: i64,
        wanted: u64,
    ) -> Option<Vec<i64>> {
        let ends = held.map(|(work, since)| {
            let mean = self.0.get(work)?;
            Some(since.saturating_add(rounded(*mean)).max(now_ms))
        });
        let mut free = ends.collect::<Option<Vec<_>>>()?;
        free.sort_unstable();
        // Where more are held than there are places, the first of them to end free none.
        let places = places as usize;
        let idle = places.saturating_sub(free.len());
        let later = free.split_off(free.len().saturating_sub(places));
        let idle = idle.min(usize::try_from(wanted).unwrap_or(usize::MAX));
        Some([vec![now_ms; idle], later].concat())
    }

    /// When the next one starts after those ahead, each of which takes its mean; `None`
    /// when there is no place, or a mean is not known.
    pub(super) fn start(&self, free: &[i64], ahead: &[Ahead<'_>]) -> Option<i64> {
        let first = *free.first()?;
        let jobs: u64 = ahead.iter().map(|it| it.jobs).sum();
        if jobs == 0 {
            return Some(stepped(first));
        }
        let mut total = 0.0;
        for it in ahead {
            let work = Work {
                template: it.queued.standing.template.clone(),
                kind: it.queued.standing.kind,
                transition: None,
            };
            total += self.0.get(&work)? * many(it.jobs);
        }
        let each = rounded(total / many(jobs)).max(1);
        Some(stepped(nth(free, each, jobs)))
    }
}

/// The moment at which `before` jobs of equal length have started and one more can: the
/// earliest by which the places have begun more than `before`.
fn nth(free: &[i64], each_ms: i64, before: u64) -> i64 {
    let begun = |by: i64| -> u64 {
        let of_place = |free: &i64| {
            let since = by.saturating_sub(*free);
            if since < 0 {
                0
            } else {
                since.unsigned_abs() / each_ms.unsigned_abs() + 1
            }
        };
        free.iter().map(of_place).sum()
    };
    let mut low = free.first().copied().unwrap_or_default();
    let turns = i64::try_from(before).unwrap_or(i64::MAX);
    let mut high = low.saturating_add(each_ms.saturating_mul(turns));
    while low < high {
        let middle = low + (high - low) / 2;
        if begun(middle) > before {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

fn untold(work: &Work) -> Work {
    Work {
        transition: None,
        ..work.clone()
    }
}

fn stepped(ms: i64) -> i64 {
    ms.saturating_add(STEP_MS - 1) / STEP_MS * STEP_MS
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn whole(ms: i64) -> f64 {
    ms as f64
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn many(jobs: u64) -> f64 {
    jobs as f64
}

#[allow(clippy::cast_possible_truncation, reason = "an estimate")]
fn rounded(ms: f64) -> i64 {
    ms.round() as i64
}
