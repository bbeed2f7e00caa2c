//! Counts for metrics: read from the indexes of open jobs, so their cost does not grow
//! with history.

use std::collections::BTreeMap;

use super::Snapshot;
use super::codec::{count, word};
use super::rows::values;
use crate::lifecycle::State;
use crate::store::Result;
use crate::store::model::PoolDepth;
use crate::words::{Kind, Status};

impl Snapshot<'_> {
    /// Jobs that have not ended, over all organizations.
    pub(super) fn open_jobs(self) -> Result<BTreeMap<(Status, Kind), u64>> {
        let statement = self.db.prepare(
            "SELECT state, kind, COUNT(*) FROM jobs WHERE state = 'pending' GROUP BY state, kind
             UNION ALL
             SELECT state, kind, COUNT(*) FROM jobs
             WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                 GROUP BY state, kind",
        );
        let rows = statement.all(values![], |row| {
            let state = word(row, 0, State::from_text)?;
            let kind = word(row, 1, Kind::from_text)?;
            Ok((state.status(), kind, count(row.get(2)?)))
        })?;
        let mut counts = BTreeMap::new();
        for (status, kind, jobs) in rows {
            *counts.entry((status, kind)).or_default() += jobs;
        }
        Ok(counts)
    }

    /// Jobs that have not ended, by tags, over all organizations.
    pub(super) fn pool_depths(self) -> Result<Vec<PoolDepth>> {
        let statement = self.db.prepare(
            "SELECT tagsets.tags, open.state, open.jobs FROM
               (SELECT tagset, state, COUNT(*) AS jobs FROM jobs WHERE state = 'pending'
                GROUP BY tagset, state
                UNION ALL
                SELECT tagset, state, COUNT(*) AS jobs FROM jobs
                WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                    GROUP BY tagset, state) AS open
             JOIN tagsets ON tagsets.id = open.tagset",
        );
        statement.all(values![], |row| {
            Ok(PoolDepth {
                tags: row.get(0)?,
                status: word(row, 1, State::from_text)?.status(),
                jobs: count(row.get(2)?),
            })
        })
    }

    /// Kept finishes that belong to no known job or lease.
    pub(super) fn unclaimed_finishes(self) -> Result<u64> {
        let statement = self
            .db
            .prepare("SELECT COUNT(*) FROM finishes WHERE disposition = 'unclaimed'");
        statement.one(values![], |row| Ok(count(row.get(0)?)))
    }
}
