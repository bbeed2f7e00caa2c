//! What is left to do for a job whose finish is in the journal: the end of its log, and
//! the end of its processes. Neither holds a slot.

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use worker::launch;

use super::super::context::{Context, Lease};
use super::super::deliver::Parcel;
use super::super::last_lines::{LastLines, read_again};
use super::super::links::Peers;
use super::super::log::Log;
use super::sweep;

/// Where the lines are that the queue does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// The worker hands them over as fast as they are stored.
    Coming,
    /// All were handed over.
    Ended,
    /// In the output files of a worker that will not speak any more.
    Left,
}

/// What the loop of a job leaves.
pub(super) struct Last {
    pub peers: Peers,
    pub log: Log,
    pub lines: Lines,
    /// CPU of engines and all they started.
    pub engine_cpu: Duration,
}

/// See the module.
pub(super) struct Left {
    pub job: v1::Job,
    pub process: Arc<launch::Supervisor>,
    pub last: Last,
}

impl Left {
    /// Sees the log and the processes to their ends. What the queue lacks then of the log
    /// goes with the finish. Dropped at any point nothing is lost: the next start begins
    /// here again.
    pub async fn wind_up(self, parcel: &mut Parcel) {
        let Last {
            mut peers,
            log,
            lines,
            engine_cpu,
        } = self.last;
        let context = parcel.context.clone();
        let counter = parcel.heartbeat;
        let mut last = LastLines::new(&context, &parcel.lease, &parcel.journal, log, counter);
        let told = match lines {
            Lines::Ended => true,
            Lines::Left => false,
            Lines::Coming => match last.listen(&mut peers).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(error = super::chain(&error), "a worker's log broke off");
                    false
                }
            },
        };
        close(&context, parcel, &self.process, &peers).await;
        tell_cpu(&parcel.lease, &self.process, engine_cpu);
        let (mut log, counter) = last.end();
        parcel.heartbeat = counter;
        if !told && let Some((again, counter)) = read_again(parcel, &self.job, log.seq()).await {
            log = again;
            parcel.heartbeat = counter;
        }
        parcel.finish.lines = log.end();
        parcel.finish.last_seq = log.seq();
    }
}

/// Ends worker and supervisor; what hangs is killed.
async fn close(context: &Context, parcel: &Parcel, process: &launch::Supervisor, peers: &Peers) {
    peers.end();
    let timings = &context.options.timings;
    if tokio::time::timeout(timings.lease_kill, process.ended())
        .await
        .is_ok()
    {
        return;
    }
    tracing::warn!(
        process.pid = process.pid(),
        "supervisor does not end; it is killed"
    );
    process.kill();
    let ended = process.ended().await;
    sweep(&parcel.dir, timings.lease_kill).await;
    if let Err(error) = ended {
        tracing::warn!(error = %error, "supervisor cannot be waited for");
    }
}

/// What the job took: engines with all they started, and our own two processes.
fn tell_cpu(lease: &Lease, process: &launch::Supervisor, engines: Duration) {
    let all = process.cpu().unwrap_or_default();
    // JSON logs write a u128 as text.
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(
        job.id = lease.job_id,
        cpu.engine_us = micros(engines),
        cpu.worker_and_supervisor_us = micros(all.saturating_sub(engines)),
        "all processes of the job have ended"
    );
}
