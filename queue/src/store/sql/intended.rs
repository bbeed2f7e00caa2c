//! What an attempt was going to change: stored as its gate opens, because nothing else may
//! ever be heard of it; dropped with the verdict, which names what nobody has heard of.

use prost::Message;
use proto::unconfirmed;
use proto::v1::{self, UnconfirmedResource};

use super::Tx;
use super::codec::{Intended, count, message, signed};
use super::job_row::JobRow;
use super::rows::values;
use crate::store::Result;
use crate::store::model::Plan;

impl Tx<'_> {
    /// Keeps what the plan is going to change, with the opening of the gate.
    pub(super) fn keep_intended(&self, job: &JobRow, plan: &Plan) -> Result<()> {
        if plan.changes.is_empty() && plan.left_out == 0 {
            return Ok(());
        }
        let list = plan.changes.clone();
        self.db
            .prepare("INSERT INTO intended VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")
            .run(values![
                job.row,
                job.attempt,
                Intended { list }.encode_to_vec(),
                signed(plan.left_out, "changes left out")?
            ])
    }

    /// What the attempt in hand was about to do and its ledger says nothing of.
    pub(super) fn never_heard_of(
        &self,
        job: &JobRow,
        ledger: &[v1::LedgerEntry],
    ) -> Result<Vec<UnconfirmedResource>> {
        let statement = self.db.prepare(
            "SELECT i.changes, i.left_out, COALESCE(j.last_update_at, 0) FROM intended i
             JOIN jobs j ON j.row = i.job WHERE i.job = ?1 AND i.attempt = ?2",
        );
        let found = statement.first(values![job.row, job.attempt], |row| {
            let changes = message::<Intended>(row, 0)?.list;
            Ok((changes, count(row.get(1)?), row.get::<i64>(2)?))
        })?;
        Ok(found.map_or_else(Vec::new, |(changes, left_out, heard)| {
            unconfirmed::intended(&changes, left_out, ledger, &clock_text(heard))
        }))
    }

    /// A verdict has said what became of it.
    pub(super) fn drop_intended(&self, job: &JobRow) -> Result<()> {
        self.db
            .prepare("DELETE FROM intended WHERE job = ?1")
            .run(values![job.row])
    }
}

/// A time of the store in words.
fn clock_text(ms: i64) -> String {
    let second = jiff::Timestamp::from_second(ms.div_euclid(1_000));
    second.map_or_else(|_| format!("{ms} ms"), |time| time.to_string())
}
