//! Transitions that come from many callers at a time, several in one transaction: beginning
//! and ending one costs the server as much as what most of them do. Those that come while a
//! transaction runs stand in line for the next ([`crate::line`]), in which they are run side
//! by side ([`super::side_by_side`]).
//!
//! Nothing is told of before COMMIT. Where the transaction fails nothing of it is left. Who
//! is to blame is run by itself then, and fails or waits for itself alone; the others are
//! run together again. Where nobody knows who it was, halves of them are: what the database
//! refuses of one must not cost all others a transaction each. Where somebody was waited for
//! (a row, the server), each is run by itself, and waits for itself.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Postgres;
use super::fate::{self, Fate};
use super::opening::Mode;
use super::runs::Run;
use super::session::{Commit, Session};
use super::side_by_side::{self, Ended, Failure, Member};
use crate::line::{Line, Serving};
use crate::store::sql::Tx;
use crate::store::{Error, Result};

/// Who stands in line.
#[derive(Debug, Default)]
pub(super) struct Company(Line<Calling>);

#[cfg(test)]
impl Company {
    pub(super) fn waiting(&self) -> usize {
        self.0.waiting()
    }

    pub(super) fn have_patience(&self, patience: std::time::Duration) {
        self.0.have_patience(patience);
    }
}

/// A transition and who waits for it.
struct Call<T, F> {
    command: F,
    result: Option<Result<T>>,
    tell: oneshot::Sender<Told<T, F>>,
}

/// What is told to who waits.
enum Told<T, F> {
    /// What it came to.
    Answer(Result<T>),
    /// It is to be run by itself.
    Alone(F),
}

trait Calls: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Its last run stands.
    fn answer(self: Box<Self>);
    /// It does not.
    fn alone(self: Box<Self>);
    /// Nobody knows whether it does.
    fn fails(self: Box<Self>, why: Arc<Error>);
}

impl<T, F> Calls for Call<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Result<T> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let result = (self.command)(tx);
        let good = result.is_ok();
        self.result = Some(result);
        good
    }

    fn answer(self: Box<Self>) {
        // Who went away does not want it.
        let _gone = self.tell.send(match self.result {
            Some(result) => Told::Answer(result),
            None => Told::Alone(self.command),
        });
    }

    fn alone(self: Box<Self>) {
        let _gone = self.tell.send(Told::Alone(self.command));
    }

    fn fails(self: Box<Self>, why: Arc<Error>) {
        let source = Box::new(why);
        let _gone = self
            .tell
            .send(Told::Answer(Err(Error::Unreachable { source })));
    }
}

struct Calling(Box<dyn Calls>);

impl std::fmt::Debug for Calling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Calling")
    }
}

impl Member for Calling {
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        self.0.run(tx)
    }
}

/// What became of a transaction.
enum End {
    Committed,
    Failed(Failure),
    /// COMMIT of the one with this mark got no answer.
    Unknown(String),
}

impl Postgres {
    /// Runs `command` in one transaction with others that stand in line, or as `run` tells
    /// where that fails.
    pub(super) async fn together<T, F>(&self, run: Run, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let call = Calling(Box::new(Call {
            command,
            result: None,
            tell,
        }));
        let serve = |serving| drop(tokio::spawn(self.clone().serve(serving)));
        match self.inner.company.0.stand(call, told, serve).await {
            Ok(Told::Answer(answer)) => answer,
            Ok(Told::Alone(command)) => self.run(run, command).await,
            Err(source) => Err(Error::Backend {
                doing: "ran a transition",
                source: Box::new(source),
            }),
        }
    }

    async fn serve(self, mut serving: Serving<Calling>) {
        while let Some(calls) = serving.next() {
            self.serve_some(calls).await;
        }
    }

    async fn serve_some(&self, calls: Vec<Calling>) {
        let mut parties = vec![calls];
        while let Some(calls) = parties.pop() {
            let Ok(client) = self.inner.pool.get().await else {
                calls.into_iter().for_each(|call| call.0.alone());
                continue;
            };
            let (store, runtime) = (self.clone(), Handle::current());
            let transaction = move || store.transaction(client, runtime, calls);
            // A panic drops the calls, which tells their callers.
            if let Ok((ended, end)) = tokio::task::spawn_blocking(transaction).await {
                parties.extend(self.tell(ended, end).await);
            }
        }
    }

    /// Tells callers what became of their transaction; those that are to be run together
    /// again.
    async fn tell(&self, ended: Vec<Ended<Calling>>, end: End) -> Vec<Vec<Calling>> {
        let stands = match end {
            End::Committed => Ok(true),
            End::Unknown(mark) => self.was_committed(mark).await.map_err(Arc::new),
            End::Failed(Failure::Blamed(blamed)) => {
                tracing::debug!(?blamed, of = ended.len(), "run again without these");
                let all = ended.into_iter();
                let (blamed, others): (Vec<_>, Vec<_>) =
                    all.partition(|one| blamed.contains(&one.place));
                blamed.into_iter().for_each(|one| one.member.0.alone());
                return parties([others]);
            }
            End::Failed(Failure::Unknown(error)) => {
                tracing::debug!(%error, of = ended.len(), "run apart");
                if ended.len() > 1 && fate::of(&error) == Fate::Answer {
                    let mut half = ended;
                    let other = half.split_off(half.len() / 2);
                    return parties([half, other]);
                }
                Ok(false)
            }
        };
        for Ended { member, events, .. } in ended {
            match &stands {
                Ok(true) => {
                    self.done((), events);
                    member.0.answer();
                }
                Ok(false) => member.0.alone(),
                Err(why) => member.0.fails(why.clone()),
            }
        }
        Vec::new()
    }

    fn transaction(
        &self,
        client: deadpool_postgres::Object,
        runtime: Handle,
        calls: Vec<Calling>,
    ) -> (Vec<Ended<Calling>>, End) {
        let travel = self.inner.travel.clone();
        let texts = travel.texts.clone();
        let session = Session::begin(
            client,
            runtime,
            travel,
            Mode::Together,
            self.inner.clock.fresh(),
        );
        let session = match session {
            Ok(session) => session,
            Err(error) => {
                let calls = calls.into_iter().enumerate();
                return (calls.map(Ended::of).collect(), End::failed(error));
            }
        };
        let now = if session.asked {
            self.inner.clock.said(session.begun_ms)
        } else {
            session.begun_ms
        };
        let timings: &Arc<_> = &self.inner.timings;
        let outcome = side_by_side::run(
            &session,
            calls,
            (now, timings),
            (&texts, &self.inner.stacks),
        );
        let last = match outcome.last {
            Ok(last) => last,
            Err(failure) => {
                session.rollback();
                return (outcome.ended, End::Failed(failure));
            }
        };
        let mark = uuid::Uuid::new_v4().to_string();
        let end = match session.commit_with(side_by_side::items(&last), Some(&mark)) {
            Commit::Done => End::Committed,
            Commit::Refused(error) => End::failed(error),
            Commit::Unknown(_) => End::Unknown(mark),
        };
        (outcome.ended, end)
    }
}

/// Those of these that are not empty.
fn parties<const N: usize>(all: [Vec<Ended<Calling>>; N]) -> Vec<Vec<Calling>> {
    let all = all.into_iter().filter(|ended| !ended.is_empty());
    all.map(|ended| ended.into_iter().map(|one| one.member).collect())
        .collect()
}

impl End {
    fn failed(error: Error) -> Self {
        Self::Failed(Failure::Unknown(error))
    }
}
