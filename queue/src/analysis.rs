//! What the queue asks of whoever can read a template.
//!
//! An import has to reach a daemon before any worker has seen the template, so the tags
//! that the template asks for must be known before there is a job. The queue itself
//! parses nothing that a template wrote: it hands the archive out and takes values back.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use proto::v1::{JobError, ParameterValue, TemplateVariable, WorkspaceTag};
use tokio::sync::mpsc;

use crate::blobs;

/// Reads templates for the queue, in a process of its own.
pub trait Analyzer: Debug + Send + Sync {
    /// What the template in `archive` says by itself. Takes a bounded time; dropping the
    /// future leaves nothing behind.
    fn analyze(&self, archive: Archive) -> Analyzing<'_>;
}

/// An analysis under way.
pub type Analyzing<'a> = Pin<Box<dyn Future<Output = Result<Findings, Failure>> + Send + 'a>>;

/// What a template says by itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// Variables of the root module, for their defaults.
    pub variables: Vec<TemplateVariable>,
    /// All its workspace tags.
    pub workspace_tags: Vec<WorkspaceTag>,
    /// Defaults of parameters, where they are known without an engine.
    pub parameters: Vec<ParameterValue>,
}

/// Why there are no findings.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// No job would take this archive.
    #[error("{}", .0.message)]
    Refused(JobError),
    /// Something stood in the way; the import tells what is wrong with the template.
    #[error("{}", .0.message)]
    Unreadable(JobError),
}

/// The bytes of a template archive, in order.
#[derive(Debug)]
pub struct Archive(mpsc::Receiver<Result<Bytes, blobs::Error>>);

impl Archive {
    pub(crate) fn new(chunks: mpsc::Receiver<Result<Bytes, blobs::Error>>) -> Self {
        Self(chunks)
    }

    /// The next bytes, `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// The queue could not read them.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.0.recv().await.transpose().map_err(io::Error::other)
    }
}

impl From<Vec<u8>> for Archive {
    fn from(bytes: Vec<u8>) -> Self {
        let (chunks, received) = mpsc::channel(1);
        let _fits = chunks.try_send(Ok(Bytes::from(bytes)));
        Self(received)
    }
}
