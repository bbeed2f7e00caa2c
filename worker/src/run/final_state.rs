//! The state after an apply, however it ended: the engine's file when it is whole, what
//! the engine could not save there (`errored.tfstate`) when that is newer, else the
//! newest checkpoint. An empty or torn file is never reported.

use std::path::PathBuf;

use proto::ids::Digest;
use proto::state_file::{self, Header};
use proto::v1::{JobError, LocalCheckpoint};

use super::checkpoint::{self, STATE_FILE, Saved, describe, serial};
use super::files::{self, Durability};

/// Where an engine puts a state that it cannot save in its place.
const ERRORED_FILE: &str = "errored.tfstate";

/// The reported state, below `keep/`.
const FINAL_FILE: &str = "final.tfstate";

/// What to choose from.
#[derive(Debug)]
pub(super) struct Candidates {
    pub(super) work: PathBuf,
    pub(super) keep: PathBuf,
    pub(super) limit: u64,
    /// The state the build started from.
    pub(super) base: Option<Base>,
    pub(super) newest: Option<Saved>,
    /// Entries that the engine's own last state proves.
    pub(super) ledger_seq: u64,
}

/// The state a build starts from.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) header: Header,
    pub(super) digest: Vec<u8>,
}

/// The final state.
#[derive(Debug)]
pub(super) struct Final {
    /// To report; `None` when it is the state the build started from, or there is none.
    pub(super) report: Option<LocalCheckpoint>,
    /// Its bytes, `None` when there is no state or only a checkpoint.
    pub(super) bytes: Option<Vec<u8>>,
    /// Entries that it proves.
    pub(super) proved_seq: u64,
    /// What was wrong with the engine's file, for the log.
    pub(super) notice: Option<String>,
}

impl Final {
    /// What an engine left that said that all went well, and that cannot be reported: no
    /// success, for the next build would make everything again.
    pub(super) fn unusable(&self) -> Option<JobError> {
        let notice = self.notice.as_ref().filter(|_| self.bytes.is_none())?;
        let message = format!("the engine succeeded and left no state that can be kept: {notice}");
        Some(
            JobError::internal("FINAL_STATE_UNUSABLE", message)
                .hint("The job lists what it made and its state does not hold."),
        )
    }
}

impl Candidates {
    /// Chooses and saves. Blocks.
    pub(super) fn choose(&self) -> Result<Final, files::Error> {
        let mut notice = None;
        let mut best: Option<(Header, Vec<u8>)> = None;
        for file in [STATE_FILE, ERRORED_FILE] {
            match self.read(file) {
                Ok(Some((header, bytes))) => {
                    let newer = best.as_ref().is_none_or(|(b, _)| header.serial > b.serial);
                    if newer {
                        best = Some((header, bytes));
                    }
                }
                Ok(None) => {}
                Err(reason) => notice = Some(format!("{file} is not used: {reason}")),
            }
        }
        let saved_serial = self.newest.as_ref().map(|saved| serial(&saved.told));
        match best {
            Some((header, bytes)) if Some(header.serial) >= saved_serial => {
                self.report(&header, bytes, notice)
            }
            _ => Ok(self.fall_back(notice)),
        }
    }

    /// A usable state, `None` when there is no such file, or why it is not usable.
    fn read(&self, file: &str) -> Result<Option<(Header, Vec<u8>)>, String> {
        let bytes = match files::read(&self.work, file, self.limit) {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let header = state_file::header(&bytes).map_err(|error| error.to_string())?;
        match &self.base {
            Some(base) if base.header.lineage != header.lineage => Err(format!(
                "its lineage {} is not {}, that of the workspace",
                header.lineage, base.header.lineage
            )),
            _ => Ok(Some((header, bytes))),
        }
    }

    fn report(
        &self,
        header: &Header,
        bytes: Vec<u8>,
        notice: Option<String>,
    ) -> Result<Final, files::Error> {
        let digest = Digest::of(&bytes);
        let base = self.base.as_ref();
        let changed = base.is_none_or(|base| base.digest != digest.as_bytes());
        let mut report = None;
        if changed {
            let file = self.place(&digest, &bytes)?;
            report = Some(describe(file, header, digest, bytes.len(), self.ledger_seq));
        }
        Ok(Final {
            report,
            bytes: Some(bytes),
            proved_seq: self.ledger_seq,
            notice,
        })
    }

    /// The file below `keep/` that holds this state: the newest checkpoint as a rule.
    fn place(&self, digest: &Digest, bytes: &[u8]) -> Result<String, files::Error> {
        let kept = self.newest.as_ref().map(|saved| &saved.told);
        if let Some(told) = kept.filter(|told| checkpoint::digest(told) == digest.as_bytes()) {
            return Ok(told.file.clone());
        }
        files::write(&self.keep.join(FINAL_FILE), bytes, Durability::Synced)?;
        Ok(FINAL_FILE.to_owned())
    }

    fn fall_back(&self, notice: Option<String>) -> Final {
        let report = self.newest.as_ref().map(|saved| saved.told.clone());
        let proved = report.as_ref().and_then(|it| it.checkpoint.as_ref());
        Final {
            proved_seq: proved.map_or(0, |it| it.ledger_seq),
            report,
            bytes: None,
            notice,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn state(serial: u64) -> String {
        format!(r#"{{"version":4,"serial":{serial},"lineage":"l","resources":[]}}"#)
    }

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("dir");
            fs::create_dir(dir.path().join("keep")).expect("keep");
            fs::create_dir(dir.path().join("work")).expect("work");
            Self(dir)
        }

        fn put(&self, file: &str, text: &str) {
            fs::write(self.0.path().join("work").join(file), text).expect("write");
        }

        fn choose(&self, base: Option<(&Header, &[u8])>) -> Final {
            self.candidates(base).choose().expect("chosen")
        }

        fn candidates(&self, base: Option<(&Header, &[u8])>) -> Candidates {
            Candidates {
                work: self.0.path().join("work"),
                keep: self.0.path().join("keep"),
                limit: 1024,
                base: base.map(|(header, digest)| Base {
                    header: header.clone(),
                    digest: digest.to_vec(),
                }),
                newest: None,
                ledger_seq: 4,
            }
        }
    }

    #[test]
    fn a_changed_state_is_reported_and_kept() {
        let place = Place::new();
        place.put(STATE_FILE, &state(3));
        let chosen = place.choose(None);
        let report = chosen.report.expect("report");
        assert_eq!(report.checkpoint.expect("checkpoint").serial, 3);
        assert!(place.0.path().join("keep").join(report.file).exists());
    }

    #[test]
    fn a_state_that_did_not_change_is_not_reported() {
        let place = Place::new();
        place.put(STATE_FILE, &state(3));
        let header = state_file::header(state(3).as_bytes()).expect("state");
        let digest = Digest::of(state(3).as_bytes());
        let chosen = place.choose(Some((&header, digest.as_bytes())));
        assert!(chosen.report.is_none() && chosen.bytes.is_some());
    }

    #[test]
    fn a_state_that_is_the_newest_checkpoint_is_not_written_again() {
        let place = Place::new();
        place.put(STATE_FILE, &state(3));
        let text = state(3);
        let header = state_file::header(text.as_bytes()).expect("state");
        let digest = Digest::of(text.as_bytes());
        let told = describe("checkpoint-1".to_owned(), &header, digest, text.len(), 1);
        let candidates = Candidates {
            newest: Some(Saved { told }),
            ..place.candidates(None)
        };
        let report = candidates.choose().expect("chosen").report.expect("report");
        assert_eq!(report.file, "checkpoint-1");
        assert_eq!(report.checkpoint.expect("checkpoint").ledger_seq, 4);
        assert!(!place.0.path().join("keep").join(FINAL_FILE).exists());
    }

    #[test]
    fn an_empty_or_torn_file_is_never_reported() {
        for text in ["", "{\"version\":4,"] {
            let place = Place::new();
            place.put(STATE_FILE, text);
            let chosen = place.choose(None);
            assert!(chosen.report.is_none() && chosen.notice.is_some(), "{text}");
        }
    }

    #[test]
    fn a_state_over_the_limit_is_named_with_it() {
        let place = Place::new();
        place.put(STATE_FILE, &"x".repeat(1025));
        let chosen = place.choose(None);
        let error = chosen.unusable().expect("error");
        assert_eq!(error.code, "FINAL_STATE_UNUSABLE");
        assert!(error.message.contains("1025 bytes, the limit is 1024"));
    }

    #[test]
    fn a_state_the_engine_could_not_save_in_place_is_taken_when_newer() {
        let place = Place::new();
        place.put(STATE_FILE, &state(3));
        place.put(ERRORED_FILE, &state(5));
        let report = place.choose(None).report.expect("report");
        assert_eq!(report.checkpoint.expect("checkpoint").serial, 5);
    }

    #[test]
    fn a_state_of_another_lineage_is_not_taken() {
        let place = Place::new();
        place.put(STATE_FILE, &state(9));
        let mut header = state_file::header(state(3).as_bytes()).expect("state");
        header.lineage = "other".to_owned();
        let chosen = place.choose(Some((&header, b"")));
        assert!(chosen.report.is_none());
        assert!(chosen.notice.expect("notice").contains("lineage"));
    }
}
