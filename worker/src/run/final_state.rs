//! The state after an apply, however it ended: the engine's file when it is whole, what
//! the engine could not save there (`errored.tfstate`) when that is newer, else the
//! newest checkpoint. An empty or torn file is never reported.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use proto::ids::Digest;
use proto::state_file::{self, Header};
use proto::v1::{JobError, LocalCheckpoint};

use super::checkpoint::{self, COPY, STATE_FILE, Saved, describe, serial};
use super::files::{self, Durability};
use super::state_index::StateIndex;

/// Where an engine puts a state that it cannot save in its place.
const ERRORED_FILE: &str = "errored.tfstate";

/// The reported state, below `keep/`.
const FINAL_FILE: &str = "final.tfstate";

/// The engine's own file where there is no room for a copy of it, below `keep/`. Begins as
/// all copies do, so that a collector finds it.
const MOVED_FILE: &str = "checkpoint-moved.tfstate";

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
    /// Why the engine's good file could not be kept, and an older state is reported.
    pub(super) lost: Option<JobError>,
    /// When the reported file was written.
    pub(super) written_at: SystemTime,
}

impl Final {
    /// What the reported state shows: the engine's own, else the copy below `keep`. Blocks.
    pub(super) fn index(&self, keep: &Path, limit: u64) -> Option<StateIndex> {
        if let Some(bytes) = &self.bytes {
            return StateIndex::of(bytes).ok();
        }
        let copy = files::read(keep, &self.report.as_ref()?.file, limit).ok()?;
        StateIndex::of(&copy).ok()
    }

    /// The engine left no file at all.
    pub(super) fn is_missing(&self) -> bool {
        self.bytes.is_none() && self.notice.is_none() && self.lost.is_none()
    }

    /// What an engine left that said that all went well, and that cannot be reported: no
    /// success, for the next build would make everything again.
    pub(super) fn unusable(&self) -> Option<JobError> {
        if self.lost.is_some() || self.bytes.is_some() {
            return self.lost.clone();
        }
        let notice = self.notice.as_deref().unwrap_or("there is no such file");
        let message = format!("the engine succeeded and left no state that can be kept: {notice}");
        Some(
            JobError::internal("FINAL_STATE_UNUSABLE", message)
                .hint("The job lists what it made and its state does not hold."),
        )
    }
}

/// A usable file.
struct Read {
    /// Below `work/`.
    file: &'static str,
    header: Header,
    bytes: Vec<u8>,
    written_at: SystemTime,
}

impl Candidates {
    /// Chooses and saves. Blocks.
    pub(super) fn choose(&self) -> Final {
        let mut notice = None;
        let mut best: Option<Read> = None;
        for file in [STATE_FILE, ERRORED_FILE] {
            match self.read(file) {
                Ok(Some(read)) => {
                    let newer = |best: &Read| read.header.serial > best.header.serial;
                    if best.as_ref().is_none_or(newer) {
                        best = Some(read);
                    }
                }
                Ok(None) => {}
                Err(reason) => notice = Some(format!("{file} is not used: {reason}")),
            }
        }
        let saved_serial = self.newest.as_ref().map(|saved| serial(&saved.told));
        match best {
            Some(read) if Some(read.header.serial) >= saved_serial => self.report(read, notice),
            Some(read) => self.fall_back(notice.or_else(|| {
                let serial = read.header.serial;
                Some(format!(
                    "its serial {serial} is lower than that of a checkpoint"
                ))
            })),
            None => self.fall_back(notice),
        }
    }

    /// A usable state, `None` when there is no such file, or why it is not usable.
    fn read(&self, file: &'static str) -> Result<Option<Read>, String> {
        let open = match files::open(&self.work, file) {
            Ok(open) => open,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let bytes = files::read_open(&open, &self.work.join(file), self.limit)
            .map_err(|error| error.to_string())?;
        let written_at = open.metadata().and_then(|meta| meta.modified());
        let header = state_file::header(&bytes).map_err(|error| error.to_string())?;
        match &self.base {
            Some(base) if base.header.lineage != header.lineage => Err(format!(
                "its lineage {} is not {}, that of the workspace",
                header.lineage, base.header.lineage
            )),
            Some(base) if base.header.serial > header.serial => Err(format!(
                "its serial {} is lower than {}, that of the workspace",
                header.serial, base.header.serial
            )),
            _ => Ok(Some(Read {
                file,
                header,
                bytes,
                written_at: written_at.unwrap_or(SystemTime::UNIX_EPOCH),
            })),
        }
    }

    /// A disk that takes no more costs what the engine did last, never what was saved
    /// before: the newest checkpoint is reported then, and why.
    fn report(&self, read: Read, notice: Option<String>) -> Final {
        let digest = Digest::of(&read.bytes);
        let base = self.base.as_ref();
        let changed = base.is_none_or(|base| base.digest != digest.as_bytes());
        let mut report = None;
        if changed {
            let file = match self.place(&digest, &read) {
                Ok(file) => file,
                Err(error) => {
                    return Final {
                        lost: Some(error.into()),
                        ..self.fall_back(notice)
                    };
                }
            };
            let size = read.bytes.len();
            report = Some(describe(file, &read.header, digest, size, self.ledger_seq));
        }
        Final {
            report,
            bytes: Some(read.bytes),
            proved_seq: self.ledger_seq,
            notice,
            lost: None,
            written_at: read.written_at,
        }
    }

    /// The file below `keep/` that holds this state: the newest checkpoint as a rule.
    fn place(&self, digest: &Digest, read: &Read) -> Result<String, files::Error> {
        let kept = self.newest.as_ref().map(|saved| &saved.told);
        if let Some(told) = kept.filter(|told| checkpoint::digest(told) == digest.as_bytes()) {
            return Ok(told.file.clone());
        }
        let copy = || files::write(&self.keep.join(FINAL_FILE), &read.bytes, Durability::Synced);
        let Err(error) = copy() else {
            return Ok(FINAL_FILE.to_owned());
        };
        tracing::warn!(%error, "no room for a copy of the last state; its file is moved");
        if self.move_aside(read.file).is_ok() {
            return Ok(MOVED_FILE.to_owned());
        }
        self.forget_older_copies();
        copy()?;
        Ok(FINAL_FILE.to_owned())
    }

    /// The engine has ended: its file has no writer any more, and its place costs nothing.
    /// Kernels before 5.19 let no jail move a file into another directory.
    fn move_aside(&self, file: &str) -> std::io::Result<()> {
        let moved = self.keep.join(MOVED_FILE);
        std::fs::rename(self.work.join(file), &moved)?;
        // Its bytes were read and stay what they are; the world that a dead host leaves is
        // told by the ledger.
        let synced = std::fs::File::open(&moved).and_then(|file| file.sync_all());
        if let Err(error) = synced {
            tracing::warn!(%error, "the last state is not known to be on the disk");
        }
        Ok(())
    }

    /// Copies that are older than the newest one are worth less than the last state.
    fn forget_older_copies(&self) {
        let newest = self.newest.as_ref().map(|saved| saved.told.file.as_str());
        let names = std::fs::read_dir(&self.keep)
            .into_iter()
            .flatten()
            .flatten();
        for entry in names {
            let name = entry.file_name();
            let older = name.to_string_lossy().starts_with(COPY)
                && Some(&*name.to_string_lossy()) != newest;
            if older {
                let _ = files::remove(&entry.path());
            }
        }
    }

    fn fall_back(&self, notice: Option<String>) -> Final {
        let report = self.newest.as_ref().map(|saved| saved.told.clone());
        let proved = report.as_ref().and_then(|it| it.checkpoint.as_ref());
        Final {
            proved_seq: proved.map_or(0, |it| it.ledger_seq),
            report,
            bytes: None,
            notice,
            lost: None,
            written_at: SystemTime::UNIX_EPOCH,
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
            self.candidates(base).choose()
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

        /// A checkpoint of `text` that proves two entries.
        fn saved(&self, text: &str) -> Saved {
            let header = state_file::header(text.as_bytes()).expect("state");
            let digest = Digest::of(text.as_bytes());
            let file = "checkpoint-1.tfstate".to_owned();
            Saved {
                told: describe(file, &header, digest, text.len(), 2),
            }
        }

        /// A write to `keep/` fails as on a full disk.
        fn fill_disk(&self) {
            fs::remove_dir(self.0.path().join("keep")).expect("keep");
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
        let report = candidates.choose().report.expect("report");
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

    #[test]
    fn a_full_disk_costs_the_last_state_and_not_the_newest_checkpoint() {
        let place = Place::new();
        place.put(STATE_FILE, &state(3));
        place.fill_disk();
        let mut candidates = place.candidates(None);
        candidates.newest = Some(place.saved(&state(2)));
        let chosen = candidates.choose();
        let error = chosen.unusable().expect("error");
        assert_eq!(error.code, "WORKER_IO");
        assert!(error.message.contains(FINAL_FILE), "{}", error.message);
        assert_eq!(chosen.proved_seq, 2);
        let report = chosen.report.expect("report");
        assert_eq!(report.file, "checkpoint-1.tfstate");
        assert_eq!(report.checkpoint.expect("checkpoint").serial, 2);
    }

    #[test]
    fn a_state_without_room_for_a_copy_is_moved_and_reported() {
        let place = Place::new();
        place.put(STATE_FILE, &state(3));
        // A directory in its way: the copy fails, and a file of another name does not.
        let blocked = place.0.path().join("keep").join(FINAL_FILE).join("x");
        fs::create_dir_all(blocked).expect("directory");
        let mut candidates = place.candidates(None);
        candidates.newest = Some(place.saved(&state(2)));
        let chosen = candidates.choose();
        assert!(chosen.unusable().is_none() && chosen.lost.is_none());
        let report = chosen.report.expect("report");
        assert_eq!(report.checkpoint.as_ref().expect("checkpoint").serial, 3);
        assert_eq!(chosen.proved_seq, 4);
        let kept = fs::read(place.0.path().join("keep").join(&report.file)).expect("moved");
        assert_eq!(kept, state(3).as_bytes());
    }

    #[test]
    fn what_a_copy_shows_is_known_when_the_engines_file_is_torn() {
        let place = Place::new();
        place.put(STATE_FILE, "");
        let resource =
            r#"{"mode":"managed","type":"a","name":"x","instances":[{"attributes":{"id":"i-1"}}]}"#;
        let kept = state(2).replace("[]", &format!("[{resource}]"));
        let mut candidates = place.candidates(None);
        candidates.newest = Some(place.saved(&kept));
        fs::write(candidates.keep.join("checkpoint-1.tfstate"), kept).expect("copy");
        let chosen = candidates.choose();
        let index = chosen.index(&candidates.keep, 1024).expect("index");
        assert!(index.holds("a.x", "i-1") && !index.holds("a.y", ""));
    }

    #[test]
    fn a_full_disk_costs_nothing_when_the_last_state_is_a_checkpoint_already() {
        let place = Place::new();
        place.put(STATE_FILE, &state(3));
        place.fill_disk();
        let mut candidates = place.candidates(None);
        candidates.newest = Some(place.saved(&state(3)));
        let chosen = candidates.choose();
        assert!(chosen.unusable().is_none() && chosen.bytes.is_some());
        assert_eq!(chosen.report.expect("report").file, "checkpoint-1.tfstate");
    }

    #[test]
    fn a_state_older_than_the_workspaces_is_not_taken() {
        let place = Place::new();
        place.put(STATE_FILE, &state(3));
        let header = state_file::header(state(4).as_bytes()).expect("state");
        let chosen = place.choose(Some((&header, b"")));
        assert!(chosen.report.is_none());
        assert!(chosen.notice.expect("notice").contains("serial 3 is lower"));
    }

    #[test]
    fn a_success_that_left_no_state_at_all_is_none() {
        let error = Place::new().choose(None).unusable().expect("error");
        assert_eq!(error.code, "FINAL_STATE_UNUSABLE");
    }
}
