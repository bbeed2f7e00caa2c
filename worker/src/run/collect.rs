//! A collector: what a dead worker left of an apply is read by a fresh one, after
//! everything of the job has ended. It starts no process.
//!
//! The ledger goes on where the daemon's ends, with what the engine's output still holds.
//! The state is the engine's own file when that is whole, else the newest good copy that
//! the dead worker saved, also one that it told nobody of.

use proto::ids::Digest;
use proto::state_file;
use proto::v1::{
    Batch, Collect, FromWorker, JobError, LedgerEntry, LineSource, LinesPunched, LocalCheckpoint,
    Phase, Process, from_worker,
};

use super::checkpoint::{COPY, Saved, describe, serial};
use super::files;
use super::final_state::{Base, Candidates};
use super::proof::Habit;
use super::session::{Session, Stop, blocking};
use super::spool::{Past, Which};
use super::tail::{Piece, Tail, Writer};
use super::watch::lock;
use super::{clock, events};

impl Session {
    /// Reads everything. Succeeds when the apply did and its state is there.
    pub(super) async fn collect_left(&mut self, left: Collect) -> Result<(), Stop> {
        self.gate_open = true;
        self.enter(Phase::Cleanup).await;
        let base = self.read_base().await?;
        lock(&self.ledger).restore(left.ledger);
        self.read_rest_of_ledger(left.number).await?;
        let bytes = self.choose_state(base, left.exit_code).await?;
        let succeeded = left.exit_code == Some(0);
        let Some(bytes) = bytes.filter(|_| succeeded) else {
            self.show_what_exists(None).await;
            return Err(JobError::internal("WORKER_LOST", "the apply did not succeed").into());
        };
        self.product.extraction = Some(self.extract_state(bytes).await?);
        Ok(())
    }

    /// Records the events that the dead worker did not tell of.
    async fn read_rest_of_ledger(&mut self, number: u32) -> Result<(), Stop> {
        let path = self.dir.stdout(number, Process::Apply);
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let file = match files::open(&self.dir.out(), &name) {
            Ok(file) => file,
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) => return Err(JobError::from(error).into()),
        };
        let told = lock(&self.ledger).last_seq();
        let punched = self.punched(number);
        let fresh = blocking(move || {
            let tail = Tail::at(file, punched.offset);
            unknown_events(tail, punched.ledger_seq, told)
        })
        .await?;
        if let Some(error) = &fresh.unread {
            tracing::error!(%error, "events of an apply cannot be read");
            self.product.incomplete = true;
        }
        let entries: Vec<LedgerEntry> = {
            let mut ledger = lock(&self.ledger);
            let now = clock::now_ms();
            let events = fresh.events.iter();
            events
                .filter_map(|event| ledger.record(event, now))
                .collect()
        };
        if !entries.is_empty() {
            let batch = Batch {
                phase: Phase::Cleanup.into(),
                lines: Vec::new(),
                ledger: entries,
            };
            let message = Some(from_worker::Message::Batch(batch));
            self.daemon.send(FromWorker { message }).await;
        }
        Ok(())
    }

    /// What the dead worker gave back of the apply's output, all of which was told.
    fn punched(&self, number: u32) -> LinesPunched {
        let past = Past::read(&self.dir);
        let apply = |source: &LineSource| source.number == number;
        let source = past.sources.iter().position(apply);
        let which = source.map(|source| Which {
            source: u32::try_from(source).unwrap_or(u32::MAX),
            stderr: false,
        });
        let punched = which.and_then(|which| past.punched.get(&which));
        punched.copied().unwrap_or_default()
    }

    /// Decides on the state to report; its bytes when it is the engine's own.
    async fn choose_state(
        &mut self,
        base: Option<Base>,
        exit: Option<i32>,
    ) -> Result<Option<Vec<u8>>, Stop> {
        let (work, keep) = (self.dir.work(), self.dir.keep());
        let (limit, ledger_seq) = (self.limits.state_bytes, lock(&self.ledger).last_seq());
        let (mut found, index) = blocking(move || {
            let candidates = Candidates {
                newest: newest_copy(&keep, limit, base.as_ref()),
                work,
                keep: keep.clone(),
                limit,
                base,
                ledger_seq,
            };
            let found = candidates.choose();
            let doubted = exit != Some(0) || found.bytes.is_none();
            let index = doubted.then(|| found.index(&keep, limit)).flatten();
            (found, index)
        })
        .await?;
        if let Some(index) = index {
            let habit = match exit {
                Some(_) => Habit::AtItsEnd,
                None => self.habit(),
            };
            self.doubt(&mut found, &index, habit);
        }
        self.product.incomplete |= found.lost.is_some();
        self.product.state = found.report;
        self.product.proved_seq = found.proved_seq;
        Ok(found.bytes)
    }
}

/// What the output holds that was not told.
#[derive(Debug, Default)]
struct Unknown {
    events: Vec<events::Event>,
    /// Why there may be more.
    unread: Option<std::io::Error>,
}

/// Events of the output that are not told: those behind entry `told`, where entry `before`
/// is the last one in front of `tail`. Each telling of the ledger is one event, in order.
fn unknown_events(mut tail: Tail, before: u64, told: u64) -> Unknown {
    let mut unknown = Unknown::default();
    let mut scratch = super::ledger::Ledger::default();
    loop {
        let piece = match tail.next(Writer::Ended) {
            Ok(Some(piece)) => piece,
            Ok(None) => return unknown,
            Err(error) => {
                unknown.unread = Some(error);
                return unknown;
            }
        };
        let Piece::Line(line) = piece else { continue };
        let event = events::parse(&line);
        if let Some(entry) = scratch.record(&event, 0)
            && before + entry.seq > told
        {
            unknown.events.push(event);
        }
    }
}

/// The newest whole state among the dead worker's copies.
fn newest_copy(keep: &std::path::Path, limit: u64, base: Option<&Base>) -> Option<Saved> {
    let names = std::fs::read_dir(keep).ok()?.flatten();
    let copies = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(COPY))
        .filter_map(|name| read_copy(keep, name, limit, base));
    let newest = copies.max_by_key(serial)?;
    Some(Saved { told: newest })
}

/// What it proves is what it shows: when it was read is not known any more.
fn read_copy(
    keep: &std::path::Path,
    name: String,
    limit: u64,
    base: Option<&Base>,
) -> Option<LocalCheckpoint> {
    let bytes = files::read(keep, &name, limit).ok()?;
    let header = state_file::header(&bytes).ok()?;
    let ours = base.is_none_or(|base| base.header.lineage == header.lineage);
    ours.then(|| describe(name, &header, Digest::of(&bytes), bytes.len(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, address: &str) -> String {
        format!(
            r#"{{"type":"{kind}","@message":"m","hook":{{"resource":{{"addr":"{address}","resource_type":"a"}},"action":"create"}}}}"#
        )
    }

    fn output(text: &str) -> (tempfile::TempDir, std::fs::File) {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("out");
        std::fs::write(&path, text).expect("file");
        (dir, std::fs::File::open(&path).expect("file"))
    }

    #[test]
    fn only_what_was_not_told_is_recorded_and_other_lines_are_skipped() {
        let mut text = "half a line\n".to_owned();
        for (kind, address) in [
            ("apply_start", "a.x"),
            ("apply_complete", "a.x"),
            ("apply_start", "a.y"),
        ] {
            text.push_str(&line(kind, address));
            text.push('\n');
        }
        let (_dir, file) = output(&text);
        let unknown = unknown_events(Tail::new(file), 0, 1);
        assert_eq!(unknown.events.len(), 2);
        assert!(unknown.unread.is_none());
    }

    #[test]
    fn an_event_that_looks_like_one_in_a_hole_is_another() {
        // Replaced: deleted in the part that was given back, and told; then made anew.
        let hole = "\0".repeat(4096);
        let (_dir, file) = output(&format!("{hole}{}\n", line("apply_start", "a.x")));
        assert_eq!(unknown_events(Tail::at(file, 4096), 2, 2).events.len(), 1);
    }

    #[test]
    fn events_that_cannot_be_read_are_not_taken_for_their_end() {
        let dir = tempfile::tempdir().expect("dir");
        // Opens, and fails to be read.
        let file = std::fs::File::open(dir.path()).expect("open");
        assert!(unknown_events(Tail::new(file), 0, 0).unread.is_some());
    }

    #[test]
    fn a_torn_copy_is_passed_over() {
        let dir = tempfile::tempdir().expect("dir");
        let state = |serial: u32| {
            format!(r#"{{"version":4,"serial":{serial},"lineage":"l","resources":[]}}"#)
        };
        std::fs::write(dir.path().join("checkpoint-1.tfstate"), state(3)).expect("file");
        std::fs::write(dir.path().join("checkpoint-2.tfstate"), state(4)).expect("file");
        std::fs::write(dir.path().join("checkpoint-3.tfstate"), "{").expect("file");
        let newest = newest_copy(dir.path(), 1024, None).expect("a copy");
        assert_eq!(newest.told.file, "checkpoint-2.tfstate");
    }
}
