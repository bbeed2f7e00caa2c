//! The supervisor's two peers. A peer that cannot be told something is lost; what
//! follows from that is the job's to decide, which sees that the link is gone.

use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::{fmt, io};

use proto::v1::from_supervisor::Message as ToDaemon;
use proto::v1::to_worker_from_supervisor::Message as ToWorker;
use proto::v1::{FromSupervisor, ToSupervisor, ToSupervisorFromWorker, ToWorkerFromSupervisor};

use super::peer::{Gone, Peer};

/// See the module.
#[derive(Debug)]
pub(super) struct Links {
    /// For the log.
    job_id: String,
    /// `None`: it is lost.
    pub daemon: Option<Peer<ToSupervisor>>,
    /// `None`: not started, or lost.
    pub worker: Option<Peer<ToSupervisorFromWorker>>,
}

impl Links {
    pub(super) fn new(job_id: &str, daemon: UnixStream) -> io::Result<Self> {
        Ok(Self {
            job_id: job_id.to_owned(),
            daemon: Some(Peer::new(daemon)?),
            worker: None,
        })
    }

    pub(super) fn meet_worker(&mut self, link: UnixStream) -> io::Result<()> {
        self.worker = Some(Peer::new(link)?);
        Ok(())
    }

    pub(super) fn tell_daemon(&mut self, message: ToDaemon) {
        let frame = FromSupervisor {
            message: Some(message),
        };
        if let Some(Err(gone)) = self.daemon.as_mut().map(|peer| peer.send(&frame)) {
            self.lose_daemon(&gone);
        }
    }

    pub(super) fn tell_worker(&mut self, message: ToWorker) {
        let frame = ToWorkerFromSupervisor {
            message: Some(message),
        };
        if let Some(Err(gone)) = self.worker.as_mut().map(|peer| peer.send(&frame)) {
            self.lose_worker(&gone);
        }
    }

    pub(super) fn flush(&mut self) {
        if let Some(Err(gone)) = self.daemon.as_mut().map(Peer::flush) {
            self.lose_daemon(&gone);
        }
        if let Some(Err(gone)) = self.worker.as_mut().map(Peer::flush) {
            self.lose_worker(&gone);
        }
    }

    /// The last frames leave, also when that takes waiting.
    pub(super) fn farewell(&mut self, patience: Duration) {
        if let Some(Err(gone)) = self.daemon.as_mut().map(|peer| peer.drain(patience)) {
            self.lose_daemon(&gone);
        }
    }

    pub(super) fn lose_daemon(&mut self, gone: &Gone) {
        self.daemon = None;
        self.lost("daemon", gone);
    }

    pub(super) fn lose_worker(&mut self, gone: &Gone) {
        self.worker = None;
        self.lost("worker", gone);
    }

    /// One line for whoever reads `processes.log`.
    pub(super) fn complain(&self, what: impl fmt::Display) {
        eprintln!("supervisor of {}: {what}", self.job_id);
    }

    fn lost(&self, who: &str, gone: &Gone) {
        match gone {
            Gone::Closed => {}
            Gone::Stuck(_) | Gone::Io(_) | Gone::Frame(_) => {
                let cause = std::error::Error::source(gone);
                let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                self.complain(format!("the {who} is given up, {gone}{cause}"));
            }
        }
    }
}
