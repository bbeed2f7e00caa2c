//! A job whose worker or supervisor was lost after the gate: what they left is read before
//! the verdict is given.

use proto::v1::journal_record::Record;
use proto::v1::{End, LedgerEntries, to_supervisor};

use super::super::collector::{self, Left};
use super::super::{keep_lease, reserve};
use super::Ending;
use super::pump::{Gate, Pump};

impl Pump {
    /// The ending, with what a collector found when the job was lost after the gate.
    pub(super) async fn with_what_is_left(&mut self, ending: Ending) -> Ending {
        let Ending::Lost(why) = ending else {
            return ending;
        };
        if self.gate != Gate::Open {
            return Ending::Lost(why);
        }
        self.end_everything().await;
        reserve::give_back(&self.dir);
        let left = Left {
            job: &self.job,
            dir: &self.dir,
            engine: self.engine.facts.clone(),
            ledger: &self.ledger,
            checkpoint: self.checkpoint.as_ref(),
        };
        // However long it takes, the job stays ours.
        let mut counter = self.counter;
        let reading = collector::run(&self.context, &left);
        let found = keep_lease::during(&self.context, &self.lease, &mut counter, reading).await;
        self.counter = counter;
        match found {
            Ok(found) => {
                if !found.ledger.is_empty() {
                    self.try_record(Record::Ledger(LedgerEntries {
                        entries: found.ledger.clone(),
                    }));
                    self.ledger.extend_from_slice(&found.ledger);
                    self.log.outbox.ledger(found.ledger);
                }
                Ending::Collected(Box::new(found.outcome), why)
            }
            Err(error) => {
                self.unread = !matches!(error, collector::Error::NoApply);
                tracing::error!(
                    error = super::chain(&error),
                    "what a lost worker left is not read"
                );
                Ending::Lost(why)
            }
        }
    }

    /// Supervisor and whatever it started are dead after this.
    async fn end_everything(&self) {
        self.tell_supervisor(to_supervisor::Message::End(End {}));
        let patience = self.context.options.timings.lease_kill;
        if tokio::time::timeout(patience, self.process.ended())
            .await
            .is_err()
        {
            self.process.kill();
            // It was killed: the end comes, or was taken by whoever waited before.
            let _ = self.process.ended().await;
        }
        super::sweep(&self.dir, patience).await;
    }
}
