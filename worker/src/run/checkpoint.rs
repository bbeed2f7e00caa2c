//! Good copies of the state while an engine rewrites it. Terraform truncates and writes
//! the file in place after each resource, so a reader often meets an empty or torn one:
//! only what was not touched while it was read, parses whole, has the right lineage and
//! no lower serial is kept, by rename below `keep/`, and told to the daemon.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proto::ids::Digest;
use proto::state_file::{self, Header};
use proto::v1::{BlobRef, Checkpoint, FromWorker, LocalCheckpoint, from_worker};
use tokio::sync::watch;

use super::files::{self, Durability};
use super::final_state::Base;
use super::grab::{self, Found, Grab, Stamp};
use super::notices::Notice;
use super::pace::Pace;
use super::proof::{self, Habit, Reading};
use super::state_index::StateIndex;
use super::watch::{SharedLedger, lock};
use super::wire::Outbox;

/// The engine's state file, below `work/`.
pub(super) const STATE_FILE: &str = "terraform.tfstate";

/// How the copies of a worker begin, below `keep/`.
pub(super) const COPY: &str = "checkpoint-";

/// Copies left below `keep/`: the daemon may still be reading an older one.
const COPIES: usize = 3;

/// After a copy that took D nothing is copied for this many D, so that large states that
/// change often cost a bounded part of a disk.
const REST_FACTOR: u32 = 3;

/// After a judgement of CPU time D none is made for this many D: 6 % of a core. What is
/// whole lies below `keep/` meanwhile.
const JUDGE_REST: u32 = 15;

/// Between two copies, and between two judgements, at least: a small state that changes
/// every few milliseconds is worth ten copies a second, and no more.
const LEAST_REST: Duration = Duration::from_millis(100);

/// Between two looks at least. A large state is torn most of the time that its engine
/// writes; a look costs a stat and a few bytes, and misses no moment in which it is whole.
const GAP: Duration = Duration::from_millis(5);

/// Saves checkpoints of one apply.
#[derive(Debug)]
pub(super) struct Checkpoints {
    work: PathBuf,
    keep: PathBuf,
    limit: u64,
    habit: Habit,
    /// Of the state the build started from, or of the first one seen.
    lineage: Option<String>,
    /// Of the state the build started from, which the queue has.
    base: Vec<u8>,
    /// Of the state the build started from: nothing older is its successor.
    base_serial: u64,
    newest: Option<Saved>,
    /// When the reading of what was judged last began.
    judged_at: Option<Instant>,
    /// The file as it was when it last stood still.
    seen: Option<Stamp>,
    /// To be judged.
    grabbed: Option<Grab>,
    /// It waits below `keep/`, too.
    put_down: bool,
    /// How many times longer than the work of judging the rest after it is.
    rest: u32,
    copies: VecDeque<PathBuf>,
    count: u32,
}

/// The newest good state.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    /// As it travels; `ledger_seq` is what it was last told with.
    pub(super) told: LocalCheckpoint,
}

/// A copy could not be written; the log says why.
#[derive(Debug)]
struct NotKept;

/// A whole state.
struct Look {
    grab: Grab,
    header: Header,
    index: StateIndex,
    digest: Digest,
}

impl Look {
    /// `None` when it is no state, whatever its end looks like.
    fn of(grab: Grab) -> Option<Box<Self>> {
        Some(Box::new(Self {
            header: state_file::header(&grab.bytes).ok()?,
            index: StateIndex::of(&grab.bytes).ok()?,
            digest: Digest::of(&grab.bytes),
            grab,
        }))
    }
}

impl Checkpoints {
    /// For the state file in `work`, with copies in `keep`, before the engine starts. `base`
    /// is the state the build starts from.
    pub(super) fn new(
        work: PathBuf,
        keep: PathBuf,
        limit: u64,
        habit: Habit,
        base: Option<&Base>,
    ) -> Self {
        Self {
            // Before the engine starts: what it writes from then on is new.
            seen: Stamp::of(&work.join(STATE_FILE)),
            work,
            keep,
            limit,
            habit,
            lineage: base.map(|base| base.header.lineage.clone()),
            base: base.map_or_else(Vec::new, |base| base.digest.clone()),
            base_serial: base.map_or(0, |base| base.header.serial),
            newest: None,
            judged_at: None,
            grabbed: None,
            put_down: false,
            rest: JUDGE_REST,
            copies: VecDeque::new(),
            count: 0,
        }
    }

    /// The newest good copy.
    pub(super) fn newest(&self) -> Option<&Saved> {
        self.newest.as_ref()
    }

    /// Watches until `ended`, telling the daemon of each good state; the kernel may say
    /// when the file moved. What is whole is grabbed at once; judging it waits for the end of the rest.
    pub(super) async fn follow(
        &mut self,
        ledger: &SharedLedger,
        (mut ended, notice): (watch::Receiver<bool>, Option<Notice>),
        daemon: &Outbox<FromWorker>,
    ) {
        let mut pace = Pace::new(notice, GAP);
        let mut rested = Instant::now();
        while !*ended.borrow_and_update() {
            let began = Instant::now();
            let now = self.stamp();
            let moved = now.is_some() && now != self.seen;
            let judge = began >= rested;
            let mut pause = Duration::ZERO;
            if moved || (judge && self.may_prove_more(ledger)) {
                let took = self.grab().await;
                if took.is_some() && !judge {
                    self.put_down().await;
                    pause = (began.elapsed() * REST_FACTOR).max(LEAST_REST);
                }
            }
            if judge && self.grabbed.is_some() {
                let cpu_before = cpu();
                if let Some(told) = self.judge(ledger).await {
                    tell(daemon, told).await;
                }
                let work = cpu().saturating_sub(cpu_before);
                rested = Instant::now() + (work * self.rest).max(LEAST_REST);
            }
            // Cancel safe: all only wait.
            tokio::select! {
                biased;
                changed = ended.changed() => if changed.is_err() { break },
                () = tokio::time::sleep_until(rested.into()), if self.grabbed.is_some() => {}
                () = async {
                    tokio::time::sleep(pause).await;
                    pace.next(moved).await;
                } => {}
            }
        }
        if let Some(told) = self.judge(ledger).await {
            tell(daemon, told).await;
        }
    }

    /// An entry that was heard of after the last judgement, or that had not settled then,
    /// may be proved by the state as it is. Each costs one more judgement at most.
    fn may_prove_more(&self, ledger: &SharedLedger) -> bool {
        let (Some(saved), Some(judged)) = (&self.newest, self.judged_at) else {
            return false;
        };
        let proved = ledger_seq(&saved.told);
        let ledger = lock(ledger);
        ledger
            .seen()
            .find(|(entry, _)| entry.seq > proved)
            .is_some_and(|(_, seen)| {
                self.habit == Habit::EachResource
                    && seen.elapsed() >= proof::SETTLE
                    && judged < seen + proof::SETTLE
            })
    }

    /// Takes the file as it is, when it is whole.
    async fn grab(&mut self) -> Option<Stamp> {
        let (work, limit) = (self.work.clone(), self.limit);
        let found = tokio::task::spawn_blocking(move || grab::grab(&work, limit));
        match found.await {
            Ok(Found::Whole(grab)) => {
                self.seen = Some(grab.stamp);
                self.grabbed = Some(grab);
                self.seen
            }
            Ok(Found::Unusable(stamp)) => {
                self.seen = Some(stamp);
                None
            }
            Ok(Found::Moving) | Err(_) => None,
        }
    }

    /// Keeps what was grabbed for the case that this worker dies before it is judged.
    async fn put_down(&mut self) {
        let Some(grab) = self.grabbed.take() else {
            return;
        };
        let keep = self.keep.clone();
        let put = tokio::task::spawn_blocking(move || (grab.put_down(&keep), grab));
        if let Ok((put, grab)) = put.await {
            self.put_down = put.is_ok();
            self.grabbed = Some(grab);
        }
    }

    /// Makes a checkpoint of what was grabbed: what there is to tell of it.
    async fn judge(&mut self, ledger: &SharedLedger) -> Option<LocalCheckpoint> {
        let grab = self.grabbed.take()?;
        let look = tokio::task::spawn_blocking(move || Look::of(grab));
        let look = look.await.ok().flatten()?;
        self.judged_at = Some(look.grab.read_at);
        if !self.accepts(&look.header) {
            return None;
        }
        let reading = Reading {
            index: &look.index,
            habit: self.habit,
            read_at: look.grab.read_at,
            written_at: look.grab.written_at,
        };
        let ledger_seq = reading.proved_seq(&lock(ledger));
        let told = self.keep(*look, ledger_seq).await;
        if told.is_err() {
            // The next look tries again, also when the engine writes no more.
            self.seen = None;
        } else if std::mem::take(&mut self.put_down) {
            // A copy that stays is as good as the checkpoint: it does no harm.
            let _ = grab::pick_up(&self.keep);
        }
        told.ok().flatten()
    }

    fn accepts(&self, header: &Header) -> bool {
        let lineage = self
            .lineage
            .as_ref()
            .is_none_or(|own| *own == header.lineage);
        let newest = self.newest.as_ref().map_or(0, |saved| serial(&saved.told));
        lineage && header.serial >= newest.max(self.base_serial)
    }

    /// Copies a state that is new; one that is known is only told with what it proves.
    /// What there is to tell, or that it could not be kept.
    async fn keep(&mut self, look: Look, proved: u64) -> Result<Option<LocalCheckpoint>, NotKept> {
        if let Some(saved) = &mut self.newest
            && digest(&saved.told) == look.digest.as_bytes()
        {
            let more = proved > ledger_seq(&saved.told);
            if more && let Some(checkpoint) = &mut saved.told.checkpoint {
                checkpoint.ledger_seq = proved;
            }
            return Ok(more.then(|| saved.told.clone()));
        }
        // Engines rewrite a state in which nothing changed, too.
        if self.newest.is_none() && self.base == look.digest.as_bytes() {
            return Ok(None);
        }
        self.count += 1;
        let file = format!("{COPY}{}.tfstate", self.count);
        let path = self.keep.join(&file);
        let told = describe(
            file,
            &look.header,
            look.digest,
            look.grab.bytes.len(),
            proved,
        );
        let write = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || {
                files::write(&path, &look.grab.bytes, Durability::Synced)
            })
        };
        if let Err(error) = write.await.map_err(|_| NotKept)? {
            tracing::warn!(%error, "cannot save a checkpoint");
            return Err(NotKept);
        }
        self.lineage.get_or_insert(look.header.lineage);
        self.newest = Some(Saved { told: told.clone() });
        self.forget_old(path);
        Ok(Some(told))
    }

    fn forget_old(&mut self, newest: PathBuf) {
        self.copies.push_back(newest);
        while self.copies.len() > COPIES {
            if let Some(oldest) = self.copies.pop_front() {
                let _ = files::remove(&oldest);
            }
        }
    }

    fn stamp(&self) -> Option<Stamp> {
        Stamp::of(&self.work.join(STATE_FILE))
    }
}

/// The message that names a state below `keep/`.
pub(super) fn describe(
    file: String,
    header: &Header,
    digest: Digest,
    size: usize,
    ledger_seq: u64,
) -> LocalCheckpoint {
    LocalCheckpoint {
        file,
        checkpoint: Some(Checkpoint {
            blob: Some(BlobRef {
                sha256: digest.as_bytes().to_vec(),
                size: size as u64,
            }),
            serial: header.serial,
            lineage: header.lineage.clone(),
            ledger_seq,
        }),
    }
}

/// Serial of a told state.
pub(super) fn serial(told: &LocalCheckpoint) -> u64 {
    told.checkpoint.as_ref().map_or(0, |it| it.serial)
}

fn ledger_seq(told: &LocalCheckpoint) -> u64 {
    told.checkpoint.as_ref().map_or(0, |it| it.ledger_seq)
}

/// Digest of a told state.
pub(super) fn digest(told: &LocalCheckpoint) -> &[u8] {
    let blob = told.checkpoint.as_ref().and_then(|it| it.blob.as_ref());
    blob.map_or(&[], |blob| &blob.sha256)
}

async fn tell(daemon: &Outbox<FromWorker>, checkpoint: LocalCheckpoint) {
    let message = Some(from_worker::Message::Checkpoint(checkpoint));
    daemon.send(FromWorker { message }).await;
}

/// User and system time of this process. What other tasks take meanwhile makes the rest
/// longer, which is as well.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests;
