//! Reads templates for the queue of this process, without this process parsing a byte
//! of them: a supervisor that may start no engine, and a worker in its jail, which has
//! no network, executes nothing and sees only its own directory.
//!
//! ```text
//!  queue ── archive ──▶ <data>/analysis/X/keep/archive
//!        ── begin ───▶ worker: unpack, read ── findings ──▶ queue; X is removed
//! ```

mod exchange;

#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto::v1::JobError;
use queue::analysis::{Analyzing, Archive, Failure, Findings};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{OnceCell, Semaphore};
use worker::job_dir::JobDir;
use worker::launch::{self, Launch, Launched};

/// How long one may take. Templates are read in milliseconds, a large archive is
/// unpacked in a few seconds, and somebody waits for the answer of their push.
const PATIENCE: Duration = Duration::from_secs(10);

/// At once. Each may hold as much memory and disk as a template may have configuration
/// and files, and the queue has other things to do.
const AT_ONCE: usize = 2;

/// How long a supervisor whose links are closed may take to end its worker and itself.
const CLOSING: Duration = Duration::from_secs(2);

/// How long what was killed may take to be gone.
const DYING: Duration = Duration::from_secs(5);

/// Reads templates in processes of its own. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Analyzer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    exe: PathBuf,
    data_dir: PathBuf,
    /// The directory of analyses, once what an earlier process left in it is gone.
    directory: OnceCell<PathBuf>,
    permits: Semaphore,
    patience: Duration,
}

impl Analyzer {
    /// `exe` knows `supervise` and `worker`; `data_dir` is the queue's, which is locked
    /// whenever something is analysed.
    pub fn new(exe: PathBuf, data_dir: PathBuf) -> Self {
        Self::with_patience(exe, data_dir, PATIENCE)
    }

    fn with_patience(exe: PathBuf, data_dir: PathBuf, patience: Duration) -> Self {
        Self(Arc::new(Inner {
            exe,
            data_dir,
            directory: OnceCell::new(),
            permits: Semaphore::new(AT_ONCE),
            patience,
        }))
    }
}

impl queue::analysis::Analyzer for Analyzer {
    fn analyze(&self, archive: Archive) -> Analyzing<'_> {
        let inner = Arc::clone(&self.0);
        // A task of its own: whoever asked may leave, the cleaning up may not.
        let task = tokio::spawn(async move { inner.analyze(archive).await });
        Box::pin(async move {
            task.await
                .unwrap_or_else(|error| Err(broken("was lost", &error)))
        })
    }
}

impl Inner {
    async fn analyze(&self, archive: Archive) -> Result<Findings, Failure> {
        let _permit = self
            .permits
            .acquire()
            .await
            .expect("invariant: the semaphore is never closed");
        let dir = self
            .create()
            .await
            .map_err(|error| broken("has no directory", &error))?;
        let result = self.analyze_in(&dir, archive).await;
        if let Err(error) = blocking(move || dir.remove().map_err(io::Error::other)).await {
            tracing::error!(error = %error, "the directory of an analysis stays");
        }
        result
    }

    async fn analyze_in(&self, dir: &JobDir, archive: Archive) -> Result<Findings, Failure> {
        let until = tokio::time::Instant::now() + self.patience;
        let fetched = tokio::time::timeout_at(until, fetch(dir, archive)).await;
        fetched
            .map_err(|_| self.too_long())?
            .map_err(|error| broken("could not read the archive", &error))?;
        let launched = self
            .launch(dir)
            .await
            .map_err(|error| broken("could not be started", &error))?;
        let Launched {
            process,
            supervisor,
            worker,
        } = launched;
        let asked = tokio::time::timeout_at(until, exchange::ask(supervisor, worker)).await;
        end(&process, dir).await;
        asked.map_err(|_| self.too_long())?
    }

    async fn launch(&self, dir: &JobDir) -> io::Result<Launched> {
        let launch = Launch {
            exe: self.exe.clone(),
            job_dir: dir.clone(),
            job_id: "analysis".to_owned(),
            namespace: launch::Namespace::Best,
        };
        blocking(move || launch::launch(&launch)).await
    }

    async fn create(&self) -> io::Result<JobDir> {
        let root = self.directory.get_or_try_init(|| {
            let directory = self.data_dir.join("analysis");
            blocking(move || prepare(&directory))
        });
        let root = root.await?.clone();
        let name = uuid::Uuid::new_v4().simple().to_string();
        blocking(move || JobDir::create(&root, &name).map_err(io::Error::other)).await
    }

    fn too_long(&self) -> Failure {
        let limit = self.patience.as_secs();
        Failure::Unreadable(JobError::internal(
            "ANALYSIS_TIMEOUT",
            format!("reading the template took longer than the limit of {limit} seconds"),
        ))
    }
}

/// Makes the directory and ends and removes what an earlier process left in it, whose
/// lock on the data directory is ours now.
fn prepare(directory: &Path) -> io::Result<PathBuf> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let directory = directory.canonicalize()?;
    for entry in std::fs::read_dir(&directory)? {
        let Ok(dir) = JobDir::open(entry?.path()) else {
            continue;
        };
        launch::outlive_supervisor(&dir, DYING)?;
        launch::sweep(&dir, DYING)?;
        dir.remove().map_err(io::Error::other)?;
    }
    Ok(directory)
}

async fn fetch(dir: &JobDir, mut archive: Archive) -> io::Result<()> {
    let mut file = tokio::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(dir.archive())
        .await?;
    while let Some(bytes) = archive.next().await? {
        file.write_all(&bytes).await?;
    }
    file.flush().await
}

/// Waits for the supervisor, whose links are closed: it ends its worker and then itself.
/// One that does not is killed.
async fn end(process: &launch::Supervisor, dir: &JobDir) {
    let ended = match tokio::time::timeout(CLOSING, process.ended()).await {
        Ok(ended) => ended,
        Err(_) => {
            process.kill();
            process.ended().await
        }
    };
    if let Err(error) = ended {
        tracing::error!(error = %error, "the supervisor of an analysis cannot be waited for");
    }
    let dir = dir.clone();
    if let Err(error) = blocking(move || launch::sweep(&dir, DYING)).await {
        tracing::error!(error = %error, "processes of an analysis live on");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

/// It is about us, not about the template.
fn broken(what: &str, error: &dyn std::error::Error) -> Failure {
    let mut message = format!("the analysis {what}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Failure::Unreadable(JobError::internal("ANALYSIS_FAILED", message))
}
