//! The transitions, written once for both databases.
//!
//! A transition is a plain function over [`rows`]: it reads rows, asks the pure modules
//! (`lifecycle`, `lease`, `matching`, `swap`, `proto::unconfirmed`) what follows, and writes
//! rows. It takes the time from its transaction, holds the rows it decides about
//! (`Tx::hold_job`, `Tx::hold_workspace`) and collects what is to be told after COMMIT.
//! A database ([`Database`]) runs it in one transaction, again from the start when that
//! could not be committed. Rows are held in one order (daemon, limits, job,
//! workspace, template), so that no two transitions wait for each other.
//!
//! The database is the one place that knows threads and connections; nothing in here
//! waits for anything but a statement.

mod acquire;
mod aside;
pub mod asked;
mod audit;
mod blobs;
mod census;
pub(crate) mod codec;
mod contact;
mod control;
mod daemons;
mod doubts;
mod expire;
mod explain;
mod finish;
mod handout;
mod identity;
mod intended;
mod job_row;
mod known;
mod lanes;
mod late;
mod limits;
mod logs;
mod may_build;
mod offer;
mod outlook;
mod pack;
mod presence;
mod prune;
mod reports;
pub mod rows;
mod states;
mod submit;
mod submitted;
mod sweep;
mod templates;
mod transitions;
mod turns;
mod update;
mod verdict;
mod views;
mod workspace_views;
mod workspaces;

use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use proto::ids::JobId;
use proto::timings::Timings;
use tokio::sync::broadcast;

use super::model::Act;
use super::{Event, Latency, Result};
use crate::lease::Settle;
use rows::Db;

/// What runs transitions. Whatever is one of these is a [`Store`](super::Store).
pub trait Database: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Its name, as `GetInfo` shows it.
    const NAME: &'static str;

    /// Runs a command in one transaction and answers after COMMIT, or does nothing and
    /// says why. The command is run again when its transaction was not committed.
    fn write<T, F>(&self, command: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static;

    /// The same for a command that is harmless to repeat after it was committed: nobody
    /// has to find out whether it was.
    fn write_again<T, F>(&self, command: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static;

    /// One of the two, for what comes from many callers at a time: in a transaction with
    /// others, where that spares the database work.
    fn write_together<T, F>(
        &self,
        again: Again,
        command: F,
    ) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static;

    /// The same as [`Database::write_again`], but a database that cannot be reached is an
    /// error at once.
    fn write_now<T, F>(&self, command: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static;

    /// Runs a query in one snapshot.
    fn read<T, F>(&self, query: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: FnMut(Snapshot<'_>) -> Result<T> + Send + 'static;

    /// The same for a small query that calls of others wait for: it never waits behind pages
    /// of logs and lists.
    fn glance<T, F>(&self, query: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: FnMut(Snapshot<'_>) -> Result<T> + Send + 'static;

    /// The same for a query that looks a few rows up by their keys, as transitions do, for
    /// many callers at a time. It may have no snapshot: then each of its statements sees
    /// what was committed before that one.
    fn peek<T, F>(&self, query: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: FnMut(Snapshot<'_>) -> Result<T> + Send + 'static;

    /// What is told after COMMIT.
    fn events(&self) -> &broadcast::Sender<Event>;

    /// The time of its transactions, in Unix milliseconds.
    fn now_ms(&self) -> i64;

    /// Returns once it can do nothing any more. Cancel safe.
    fn closed(&self) -> impl Future<Output = ()> + Send;

    /// All waits.
    fn timings(&self) -> &Timings;

    /// How long transactions have taken.
    fn latency(&self) -> &Latency;

    /// Whether leases may be held against their holders.
    fn settle(&self) -> &Mutex<Settle>;

    /// The same database, for what somebody is about to do.
    fn acting(&self, act: Arc<Act>) -> Self;

    /// What that is, if it was said.
    fn act(&self) -> Option<Arc<Act>>;
}

/// Whether a command may be repeated after it was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It changes nothing more.
    Harmless,
    /// It must not be done twice.
    Harmful,
}

/// What every query needs.
#[derive(Clone, Copy)]
pub struct Snapshot<'c> {
    pub(super) db: &'c dyn Db,
    pub(super) now: i64,
    pub(super) timings: &'c Timings,
}

/// One command's part of a transaction: reads like a snapshot, and collects what is to
/// be told after COMMIT.
pub struct Tx<'c> {
    pub(super) snapshot: Snapshot<'c>,
    pub(super) events: Vec<Event>,
    /// For whom it is run, if for anybody who is to be noted.
    pub(super) act: Option<Arc<Act>>,
    /// The job it has made.
    pub(super) made: Option<JobId>,
}

impl<'c> Tx<'c> {
    pub(super) fn new(snapshot: Snapshot<'c>) -> Self {
        Self {
            snapshot,
            events: Vec::new(),
            act: None,
            made: None,
        }
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// A query, as what transactions are run of.
pub(super) fn looking<T>(
    mut query: impl FnMut(Snapshot<'_>) -> Result<T>,
) -> impl FnMut(&mut Tx<'_>) -> Result<T> {
    move |tx| query(**tx)
}

impl<'c> Deref for Tx<'c> {
    type Target = Snapshot<'c>;

    fn deref(&self) -> &Snapshot<'c> {
        &self.snapshot
    }
}
