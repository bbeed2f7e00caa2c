//! What a simulated daemon does with a job: what a real one tells the queue of it.

use std::cell::RefCell;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use proto::ids::Digest;
use proto::v1::finish_job_request::Brought;
use proto::v1::{
    BlobRef, Checkpoint, FinishDisposition, FinishJobRequest, Job, JobKind, Outcome, Phase,
    TemplateFacts, UpdateJobRequest, UpdateVerdict,
};
use provisionerd::connect::{self, Retry};
use tokio::sync::watch;
use tonic::{Response, Status};
use zstd::bulk::Compressor;

use crate::sim::{SimDaemon, line};

/// A call is repeated for so long, as daemons do it.
const INSIST: Duration = Duration::from_secs(60);
/// Between two repetitions.
const AGAIN: Duration = Duration::from_millis(300);
/// Between two heartbeats of a job that is held.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// What is done with each job.
#[derive(Debug, Clone)]
pub struct Work {
    /// Lines of its one update.
    pub lines: u64,
    /// Bytes of the state that its finish brings; none with 0.
    pub state: usize,
    /// It is held, with heartbeats, until this says so.
    pub held_until: Option<watch::Receiver<bool>>,
}

impl Work {
    /// Nothing but the finish.
    pub const NONE: Self = Self {
        lines: 0,
        state: 0,
        held_until: None,
    };

    /// A whole cycle, as the specification counts it.
    pub const WHOLE: Self = Self {
        lines: 20,
        state: 8 * 1024,
        held_until: None,
    };
}

/// How a daemon reaches the queue: with several replicas, by another one when one fails.
pub trait Way: Send + Sync {
    /// By the way that is thought good now.
    fn daemon(&self) -> Result<SimDaemon>;
    /// It was not.
    fn failed(&self);
}

/// One connection to one replica.
impl Way for SimDaemon {
    fn daemon(&self) -> Result<SimDaemon> {
        Ok(self.clone())
    }

    fn failed(&self) {}
}

/// Sees a confirmed job to its stored end.
pub async fn run(daemon: &impl Way, job: &Job, work: &mut Work) -> Result<()> {
    let lease = job.lease.as_ref().context("job without lease")?;
    let build = job.kind() == JobKind::WorkspaceBuild;
    let mut update = UpdateJobRequest {
        job_id: job.id.clone(),
        lease_id: lease.id.clone(),
        counter: 1,
        phase: Phase::Apply.into(),
        lines: (1..=work.lines).map(line).collect(),
        // The state changes only behind it.
        gate: build && work.state > 0,
        ..UpdateJobRequest::default()
    };
    if work.lines > 0 || work.state > 0 {
        send(daemon, &update).await?;
    }
    if let Some(until) = &mut work.held_until {
        update.lines.clear();
        while !*until.borrow_and_update() {
            update.counter += 1;
            send(daemon, &update).await?;
            // The sender lives as long as the scenario.
            let _ = tokio::time::timeout(HEARTBEAT, until.changed()).await;
        }
    }
    let mut finish = FinishJobRequest {
        job_id: job.id.clone(),
        lease_id: lease.id.clone(),
        attempt: lease.attempt,
        outcome: Outcome::Succeeded.into(),
        last_seq: work.lines,
        ..FinishJobRequest::default()
    };
    if job.kind() == JobKind::TemplateImport {
        finish.facts = Some(TemplateFacts::default());
    }
    if build && work.state > 0 {
        let (state, bytes) = state_of(job, work.state);
        finish.state = Some(state);
        finish.brought = Some(Brought::StateZstd(packed(&bytes)?));
    }
    let reply = insist(daemon, |mut daemon| {
        let finish = finish.clone();
        async move { daemon.fleet.finish_job(finish).await }
    });
    let disposition = reply.await?.disposition();
    ensure!(
        disposition == FinishDisposition::Applied,
        "the finish of {} was {disposition:?}",
        job.id
    );
    Ok(())
}

async fn send(daemon: &impl Way, update: &UpdateJobRequest) -> Result<()> {
    let reply = insist(daemon, |mut daemon| {
        let update = update.clone();
        async move { daemon.fleet.update_job(update).await }
    });
    match reply.await?.verdict() {
        UpdateVerdict::Accepted => Ok(()),
        verdict => bail!(
            "an update of {} was answered with {verdict:?}",
            update.job_id
        ),
    }
}

/// As daemons pack what a finish brings.
fn packed(state: &[u8]) -> Result<Vec<u8>> {
    thread_local! {
        static PACKER: RefCell<Compressor<'static>> =
            RefCell::new(Compressor::new(1).expect("memory"));
    }
    Ok(PACKER.with_borrow_mut(|packer| packer.compress(state))?)
}

/// A state of its own for each job, as Terraform writes them: small enough for its finish to
/// bring it.
fn state_of(job: &Job, size: usize) -> (Checkpoint, Vec<u8>) {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    // Higher than that of any job before, so that each continues its workspace's last one.
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let metadata = job.metadata.as_ref();
    let lineage = metadata.map_or("none", |it| it.workspace_id.as_str());
    let state = state(serial, lineage, size);
    let blob = BlobRef {
        sha256: Digest::of(&state).as_bytes().to_vec(),
        size: state.len() as u64,
    };
    let checkpoint = Checkpoint {
        blob: Some(blob),
        serial,
        lineage: lineage.to_owned(),
        ledger_seq: 0,
    };
    (checkpoint, state)
}

/// A state of about `size` bytes: mostly ids, which hardly compress.
fn state(serial: u64, lineage: &str, size: usize) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut text = format!(
        r#"{{"version":4,"terraform_version":"1.11.4","serial":{serial},"lineage":"{lineage}","outputs":{{}},"resources":["#
    );
    let mut word = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while text.len() + 170 < size {
        let mut id = [0; 2];
        for part in &mut id {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            *part = word;
        }
        let comma = if text.ends_with('[') { "" } else { "," };
        let _ = write!(
            text,
            r#"{comma}{{"mode":"managed","type":"terraform_data","name":"m","instances":[{{"attributes":{{"id":"{:016x}{:016x}"}}}}]}}"#,
            id[0], id[1]
        );
    }
    text.push_str("]}");
    text.into_bytes()
}

/// Repeats a call for as long as another try may help.
async fn insist<T, F>(way: &impl Way, mut call: impl FnMut(SimDaemon) -> F) -> Result<T>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let start = Instant::now();
    loop {
        match call(way.daemon()?).await {
            Ok(reply) => return Ok(reply.into_inner()),
            Err(status) if connect::retry(&status) == Retry::Later && start.elapsed() < INSIST => {
                way.failed();
                tokio::time::sleep(AGAIN).await;
            }
            Err(status) => return Err(status.into()),
        }
    }
}
