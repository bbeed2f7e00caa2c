//! The control streams that are open in this process, by daemon: what each was told, and
//! what it is still to be told.

mod session;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ids::JobId;
use proto::timings::Timings;
use proto::v1::CancelJob;
use tokio::time::Instant;
use tonic::Status;

use crate::credentials::Live;
use crate::store::model::{Attendance, DaemonContact, DaemonName, Drain, Opened};
use crate::words::Cancel;
use session::{Goes, Known, Replies, Session, Work};

/// Between two daemons that come back. Handshakes, two streams and the store's note of one
/// take a processor about as long; a slower queue falls behind by a few seconds only.
const RETURN: Duration = Duration::from_micros(1_500);

/// Looks at the idle ones in the time between two words to one of them.
const ROUNDS: u32 = 6;

/// See the module. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Controls(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    daemons: HashMap<DaemonName, Vec<Session>>,
    /// Those that were last seen with a job in hand.
    busy: HashSet<DaemonName>,
    /// When the idle ones are looked at next.
    next_round: Option<Instant>,
    /// Streams whose daemons have gone over to short calls, until they are closed.
    superseded: HashSet<u64>,
}

/// Names a session.
#[derive(Debug)]
pub struct Ticket {
    name: DaemonName,
    instance: String,
    id: u64,
}

/// Whether it was the last stream of its daemon instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// None is left.
    Yes,
    /// Another one stands, or none is wanted.
    No,
}

/// A daemon that this process holds.
#[derive(Debug)]
pub struct Held {
    /// Equal to what was asked for.
    pub contact: Arc<DaemonContact>,
    /// Whether it drains.
    pub drain: Drain,
}

impl Controls {
    /// Takes a stream in; `alive` is the first that it says.
    #[must_use]
    pub fn open(&self, contact: Arc<DaemonContact>, live: Live, replies: Replies) -> Ticket {
        let name = name(&contact);
        let instance = contact.daemon.instance.clone();
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let within = state.returning();
        let session = Session::new(id, (contact, live), replies, within);
        state.daemons.entry(name.clone()).or_default().push(session);
        Ticket { name, instance, id }
    }

    /// The store has noted the stream and answered what was missed.
    pub fn settle(&self, ticket: &Ticket, opened: &Opened) {
        let mut state = self.lock();
        state.each(&ticket.name, |session| {
            if session.id != ticket.id {
                return Goes::On;
            }
            session.standing.store = Known::Yes;
            session.told(opened.drain, &opened.cancels)
        });
        // Its key may have been deleted before the stream was in here. That of others has
        // nothing to do with it: ten thousand come at a time.
        state.each(&ticket.name, Session::end_if_revoked);
    }

    /// Ends the streams of a daemon instance that has gone over to short calls: their end
    /// says nothing about it any more.
    pub fn supersede(&self, contact: &DaemonContact) {
        let status = Status::aborted("the daemon has gone over to short calls");
        let mut superseded = Vec::new();
        let mut state = self.lock();
        state.each(&name(contact), |session| {
            if session.contact.daemon.instance != contact.daemon.instance {
                return Goes::On;
            }
            superseded.push(session.id);
            session.end(&status)
        });
        state.superseded.extend(superseded);
    }

    /// A stream has ended.
    #[must_use]
    pub fn close(&self, ticket: &Ticket) -> Last {
        let mut state = self.lock();
        if state.superseded.remove(&ticket.id) {
            return Last::No;
        }
        state.each(&ticket.name, |session| {
            if session.id == ticket.id {
                Goes::Away
            } else {
                Goes::On
            }
        });
        let same = |session: &Session| session.contact.daemon.instance == ticket.instance;
        let left = state.daemons.get(&ticket.name);
        if left.is_some_and(|sessions| sessions.iter().any(same)) {
            Last::No
        } else {
            Last::Yes
        }
    }

    /// The daemon that says exactly this of itself, when the store knows that it is held
    /// here: it has nothing to tell the store.
    #[must_use]
    pub fn held(&self, contact: &DaemonContact) -> Option<Held> {
        let state = self.lock();
        let sessions = state.daemons.get(&name(contact))?;
        let session = sessions
            .iter()
            .find(|it| it.standing.store == Known::Yes && *it.contact == *contact)?;
        Some(Held {
            contact: Arc::clone(&session.contact),
            drain: session.standing.drain,
        })
    }

    /// A job of this daemon must stop.
    pub fn cancel(&self, name: &DaemonName, job: JobId, kind: Cancel) {
        let cancel = CancelJob {
            job_id: job.to_string(),
            kind: kind.into(),
        };
        self.lock()
            .each(name, |session| session.cancel(cancel.clone()));
    }

    /// This daemon drains.
    pub fn drain(&self, name: &DaemonName) {
        self.lock().each(name, Session::drain);
    }

    /// Ends the streams whose key was deleted.
    pub fn end_revoked(&self) {
        self.lock().each_of_all(Session::end_if_revoked);
    }

    /// Ends all streams with this status.
    pub fn end_all(&self, status: &Status) {
        self.lock().each_of_all(|session| session.end(status));
    }

    /// What a look at the store has found; answers whom this process holds although the
    /// store has them as lost, and who drains without having been told.
    pub fn attend(&self, found: &Attendance) -> (Vec<Ticket>, Vec<DaemonName>) {
        let mut state = self.lock();
        for name in std::mem::take(&mut state.busy) {
            state.each(&name, |session| {
                session.standing.work = Work::Idle;
                Goes::On
            });
        }
        for (name, cancel) in &found.busy {
            state.busy.insert(name.clone());
            state.each(name, |session| {
                session.standing.work = Work::Busy;
                match cancel {
                    Some(cancel) => session.cancel(cancel.clone()),
                    None => Goes::On,
                }
            });
        }
        let mut untold = Vec::new();
        for (name, instance) in &found.draining {
            state.each(name, |session| {
                if session.contact.daemon.instance != *instance {
                    return Goes::On;
                }
                if session.standing.drain == Drain::Off {
                    untold.push(name.clone());
                }
                session.drain()
            });
        }
        (state.tickets(&found.lost), untold)
    }

    /// What a ticket's daemon says of itself, while its stream is open.
    #[must_use]
    pub fn contact(&self, ticket: &Ticket) -> Option<DaemonContact> {
        let state = self.lock();
        let sessions = state.daemons.get(&ticket.name)?;
        let session = sessions.iter().find(|it| it.id == ticket.id)?;
        Some(DaemonContact::clone(&session.contact))
    }

    /// Those of `held` that no stream here is of.
    #[must_use]
    pub fn without_stream(&self, held: Vec<(DaemonName, String)>) -> Vec<(DaemonName, String)> {
        let state = self.lock();
        let mut held = held;
        held.retain(|one| state.tickets(std::slice::from_ref(one)).is_empty());
        held
    }

    /// Says `alive` to those whose turn it is. Idle ones are many and in no hurry: a look
    /// at all of them is rare.
    pub fn say_alive(&self, now: Instant, timings: &Timings) {
        let mut state = self.lock();
        let within = state.returning().min(timings.reconnect_max);
        if state.next_round.is_none_or(|next| next <= now) {
            state.next_round = Some(now + timings.control_idle / ROUNDS);
            return state.each_of_all(|session| session.say_alive(now, timings, within));
        }
        let busy = std::mem::take(&mut state.busy);
        for name in &busy {
            state.each(name, |session| session.say_alive(now, timings, within));
        }
        state.busy = busy;
    }

    /// Says `alive` to an idle daemon that is being told on its connection, now, that there
    /// is no job: the two travel together, and the next one has time. Nobody else's stream
    /// is filled by it, whatever name was called.
    pub fn say_alive_beside(&self, contact: &DaemonContact, now: Instant, timings: &Timings) {
        let mut state = self.lock();
        let within = state.returning().min(timings.reconnect_max);
        state.each(&name(contact), |session| {
            if *session.contact != *contact {
                return Goes::On;
            }
            session.say_alive_beside(now, timings, within)
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before the guard goes, also in a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Within which they all come back if this process goes away.
    fn returning(&self) -> Duration {
        let count = u32::try_from(self.daemons.len()).unwrap_or(u32::MAX);
        RETURN.saturating_mul(count)
    }

    fn each(&mut self, name: &DaemonName, mut act: impl FnMut(&mut Session) -> Goes) {
        if let Some(sessions) = self.daemons.get_mut(name) {
            sessions.retain_mut(|session| act(session) == Goes::On);
            if sessions.is_empty() {
                self.daemons.remove(name);
            }
        }
    }

    fn each_of_all(&mut self, mut act: impl FnMut(&mut Session) -> Goes) {
        self.daemons.retain(|_, sessions| {
            sessions.retain_mut(|session| act(session) == Goes::On);
            !sessions.is_empty()
        });
    }

    /// The newest stream here of each of these instances that has one.
    fn tickets(&self, of: &[(DaemonName, String)]) -> Vec<Ticket> {
        of.iter()
            .filter_map(|(name, instance)| {
                let sessions = self.daemons.get(name)?.iter().rev();
                let session = { sessions }.find(|it| it.contact.daemon.instance == *instance)?;
                Some(Ticket {
                    name: name.clone(),
                    instance: instance.clone(),
                    id: session.id,
                })
            })
            .collect()
    }
}

fn name(contact: &DaemonContact) -> DaemonName {
    DaemonName {
        organization: contact.daemon.organization.clone(),
        name: contact.daemon.name.clone(),
    }
}

#[cfg(test)]
mod tests;
