//! The kernel's word on files of the job: one inotify instance per worker, on `out/` and
//! `work/`, so that what is at rest costs nothing. A user may have only so many instances:
//! without one the followers look by themselves (`pace`).

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::checkpoint::STATE_FILE;
use crate::job_dir::JobDir;
use crate::launch;

/// Between two readings of the kernel's queue: a template that writes without pause below
/// `work/` must not keep this process busy.
const REST: Duration = Duration::from_millis(10);

/// Bytes of events read at once: hundreds, whatever their names.
const EVENTS: usize = 16 * 1024;

/// Hears that files of one kind moved.
#[derive(Debug)]
pub(super) struct Notice(watch::Receiver<u64>);

impl Notice {
    /// Waits for the next movement; `false` when none will be told any more. Cancel safe.
    pub(super) async fn moved(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    #[cfg(test)]
    pub(super) fn pair() -> (watch::Sender<u64>, Self) {
        let (sender, receiver) = watch::channel(0);
        (sender, Self(receiver))
    }
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Notices(Option<Told>);

#[derive(Debug, Clone)]
struct Told {
    output: watch::Receiver<u64>,
    state: watch::Receiver<u64>,
}

impl Notices {
    /// Starts listening; where the kernel does not take part, nothing is ever told.
    pub(super) fn start(dir: &JobDir) -> Self {
        let listening = Ear::open(dir).and_then(|ear| {
            let queue = launch::readable(ear.queue.try_clone()?)?;
            Ok((ear, queue))
        });
        match listening {
            Ok((ear, queue)) => {
                let told = Told {
                    output: ear.output.1.subscribe(),
                    state: ear.state.1.subscribe(),
                };
                tokio::spawn(ear.listen(queue));
                Self(Some(told))
            }
            Err(error) => {
                tracing::debug!(%error, "files are looked at by the clock");
                Self::default()
            }
        }
    }

    /// Of what engines print.
    pub(super) fn output(&self) -> Option<Notice> {
        self.0.as_ref().map(|told| Notice(told.output.clone()))
    }

    /// Of the engine's state file.
    pub(super) fn state(&self) -> Option<Notice> {
        self.0.as_ref().map(|told| Notice(told.state.clone()))
    }
}

/// Reads the kernel's queue. Each watch has its number and who hears of it.
struct Ear {
    queue: OwnedFd,
    output: (i32, watch::Sender<u64>),
    state: (i32, watch::Sender<u64>),
}

impl Ear {
    fn open(dir: &JobDir) -> std::io::Result<Self> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let written = WatchFlags::MODIFY | WatchFlags::ONLYDIR;
        let output = inotify::add_watch(&queue, dir.out(), written)?;
        // An engine may also put a new file in the old one's place.
        let replaced = written | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let state = inotify::add_watch(&queue, dir.work(), replaced)?;
        Ok(Self {
            queue,
            output: (output, watch::Sender::new(0)),
            state: (state, watch::Sender::new(0)),
        })
    }

    /// Until nobody listens any more.
    async fn listen(self, readable: AsyncFd<OwnedFd>) {
        loop {
            tokio::select! {
                ready = readable.readable() => match ready {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_) => return,
                },
                () = self.output.1.closed() => return,
            }
            self.pass_on();
            tokio::time::sleep(REST).await;
        }
    }

    /// Takes all there is; each listener hears of it once.
    fn pass_on(&self) {
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut events = Reader::new(&self.queue, &mut buffer);
        let (mut output, mut state) = (false, false);
        // An empty queue is an error to the reader, and any other ends this turn too: the
        // followers look by the clock as well.
        while let Ok(event) = events.next() {
            let lost = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
            output |= lost || event.wd() == self.output.0;
            let its_name = event
                .file_name()
                .is_some_and(|it| it.to_bytes() == STATE_FILE.as_bytes());
            state |= lost || (event.wd() == self.state.0 && its_name);
        }
        for (moved, listeners) in [(output, &self.output.1), (state, &self.state.1)] {
            if moved {
                listeners.send_modify(|count| *count += 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skip::skip;

    const SOON: Duration = Duration::from_secs(10);

    fn job() -> (tempfile::TempDir, JobDir) {
        let jobs = tempfile::tempdir().expect("jobs");
        let dir = JobDir::create(jobs.path(), "job").expect("job");
        (jobs, dir)
    }

    async fn heard(notice: &mut Notice) {
        let moved = tokio::time::timeout(SOON, notice.moved()).await;
        assert_eq!(moved, Ok(true));
    }

    #[tokio::test]
    async fn output_and_state_are_told_apart_and_other_files_are_nobodys() {
        let (_jobs, dir) = job();
        let notices = Notices::start(&dir);
        let (Some(mut output), Some(mut state)) = (notices.output(), notices.state()) else {
            return skip("notices", "no inotify instance is left for this user");
        };
        std::fs::write(dir.out().join("1-apply.stdout"), "line\n").expect("output");
        heard(&mut output).await;
        std::fs::write(dir.work().join("other"), "x").expect("other");
        std::fs::write(dir.out().join("1-apply.stderr"), "line\n").expect("output");
        heard(&mut output).await;
        assert!(!state.0.has_changed().expect("open"), "not its file");
        std::fs::write(dir.work().join("new"), "{}").expect("state");
        std::fs::rename(dir.work().join("new"), dir.work().join(STATE_FILE)).expect("rename");
        heard(&mut state).await;
    }

    #[tokio::test]
    async fn without_a_directory_to_watch_nothing_is_told() {
        let (_jobs, dir) = job();
        dir.remove().expect("remove");
        assert!(Notices::start(&dir).output().is_none());
    }
}
