//! One supervisor per job: starts, watches and ends every process of it.
//!
//! Tiny, trusted, single-threaded: one poll loop over two sockets, SIGCHLD and one timer.
//! It parses frames and nothing else; nothing a template wrote ever reaches it as text.
//! It goes on without its daemon for as long as an engine may have a state to save.
//!
//! The module map: `job` is what happens when; `order`, `argv`, `settings` are what may be
//! asked; `start`, `spawn`, `inherited`, `namespace`, `cgroup` make processes; `reap`, `tree` end them;
//! `latch`, `clock`, `pressure`, `exits`, `links`, `peer` are what their names say.

mod argv;
pub(crate) mod cgroup;
mod clock;
pub(crate) mod exits;
pub(crate) mod identity;
pub(crate) mod inherited;
mod job;
mod latch;
mod links;
pub(crate) mod namespace;
mod order;
mod peer;
mod pressure;
pub(crate) mod reap;
mod settings;
pub(crate) mod spawn;
mod start;
pub(crate) mod tree;

use std::io;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use proto::timings;

use crate::job_dir::JobDir;
use cgroup::JobCgroup;
use clock::{Instant, Timer};
use exits::Exits;
use job::{Job, Means};
use links::Links;
use namespace::Outside;
use pressure::Gauge;
use start::Starter;

/// Runs as `supervise JOB-ID`, before any thread exists.
#[must_use]
pub fn main(job_id: &str) -> ExitCode {
    match run(job_id) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("supervisor of {job_id}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(job_id: &str) -> io::Result<()> {
    let daemon = inherited::take_socket(inherited::FIRST)?;
    let workers_daemon = inherited::take(inherited::FIRST + 1)?;
    // Held, not used: its flock says that this supervisor lives.
    let lock = inherited::take(inherited::FIRST + 2)?;
    let signals = settle_in()?;
    let timer = Timer::new()?;
    let dir = JobDir::open(std::env::current_dir()?).map_err(io::Error::other)?;
    let cgroup = JobCgroup::of_this_supervisor(&dir);
    // The daemon's numbers: read while `/proc` still is the daemon's.
    identity::sign(&lock, cgroup.as_ref())?;
    let gauge = Gauge::new(&dir, cgroup.as_ref())?;
    let outside = Outside::leave()?;
    let means = Means {
        starter: Starter::new(dir.clone(), job_id, cgroup, outside)?,
        exits: Exits::open(&dir.exits())?,
        gauge,
    };
    let links = Links::new(job_id, daemon)?;
    let mut job = Job::new(means, links, workers_daemon, Instant::now());
    while !job.is_over() {
        timer.set(job.wake_at())?;
        let ready = wait(job.links(), &signals, &timer)?;
        turn(&mut job, ready, &signals)?;
    }
    job.links().farewell(timings::FAREWELL);
    Ok(())
}

/// What this process is before it starts anything.
fn settle_in() -> io::Result<SignalFd> {
    umask(Mode::from_bits_truncate(0o077));
    // Frames bring credentials: nobody traces this process or reads its core.
    prctl::set_dumpable(false)?;
    // What an engine leaves behind becomes a child of this process, to be ended by it.
    prctl::set_child_subreaper(true)?;
    // A terminal, an init system or a user who means the daemon: an engine at work must
    // not lose its supervisor to them. Blocked and never read is as good as ignored, and
    // unlike that not inherited by engines.
    let mut mask = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGCHLD,
    ] {
        mask.add(signal);
    }
    mask.thread_block()?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&children, flags)?)
}

/// Who has something to say.
#[derive(Debug, Clone, Copy)]
struct Ready {
    daemon: bool,
    worker: bool,
}

/// Waits for the peers, an ended child or the timer.
fn wait(links: &Links, signals: &SignalFd, timer: &Timer) -> io::Result<Ready> {
    let interest = |unsent| {
        if unsent {
            PollFlags::POLLIN | PollFlags::POLLOUT
        } else {
            PollFlags::POLLIN
        }
    };
    let mut fds = vec![
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        PollFd::new(timer.as_fd(), PollFlags::POLLIN),
    ];
    let daemon = links.daemon.as_ref().map(|peer| {
        fds.push(PollFd::new(peer.as_fd(), interest(peer.has_unsent())));
        fds.len() - 1
    });
    let worker = links.worker.as_ref().map(|peer| {
        fds.push(PollFd::new(peer.as_fd(), interest(peer.has_unsent())));
        fds.len() - 1
    });
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let readable = |index: Option<usize>| {
        let events = index.and_then(|index| fds[index].revents());
        events.is_some_and(|events| events.intersects(!PollFlags::POLLOUT))
    };
    Ok(Ready {
        daemon: readable(daemon),
        worker: readable(worker),
    })
}

/// One turn of the loop: notes what happened, then brings about what follows.
fn turn(job: &mut Job, ready: Ready, signals: &SignalFd) -> io::Result<()> {
    while signals.read_signal()?.is_some() {}
    let now = Instant::now();
    job.on_children(now);
    job.links().flush();
    if ready.daemon
        && let Some((frames, rest)) = job.links().daemon.as_mut().map(peer::Peer::receive)
    {
        job.on_daemon(frames, rest, now);
    }
    if ready.worker
        && let Some((frames, rest)) = job.links().worker.as_mut().map(peer::Peer::receive)
    {
        job.on_worker(frames, rest, now);
    }
    job.turn(now);
    Ok(())
}
