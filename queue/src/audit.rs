//! Who did what, from the call to the log. A change is noted by its own transaction, through
//! a store that knows for whom it acts ([`Shared::by`]). A refusal changes nothing and comes
//! from anybody: refusals that are alike are put together, what is kept of them has a
//! budget, and they are written a few seconds later, so that who is refused all day can
//! neither fill the disk nor hold up a writer. What is over the budget is counted.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::limits;
use tonic::{Code, Status};

use crate::auth::Client;
use crate::refusal::CODE;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::{Act, Actor, AuditEntry};

/// Between two writings of what was refused.
pub const EVERY: Duration = Duration::from_secs(2);

/// The outcome under which refusals stand that the log has no place for.
const DROPPED: &str = "dropped";

/// Refusals that wait to be written.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<Alike, AuditEntry>,
    /// Of those whose credential is known, and of all others.
    budgets: [Option<Budget>; 2],
    dropped: u64,
    dropped_ever: u64,
}

/// What refusals have in common that are one line.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Alike {
    organization: String,
    actor: Actor,
    /// Empty for strangers: to them all calls are one.
    call: Cow<'static, str>,
    peer: String,
    outcome: String,
}

/// Lines that may still be made; refilled over an hour.
#[derive(Debug)]
struct Budget {
    left: f64,
    seen: Instant,
}

impl Budget {
    fn take(this: &mut Option<Self>, most: u32, now: Instant) -> bool {
        let full = f64::from(most);
        let budget = this.get_or_insert(Self {
            left: full,
            seen: now,
        });
        let waited = now.saturating_duration_since(budget.seen).as_secs_f64();
        budget.left = (budget.left + full * waited / 3_600.0).min(full);
        budget.seen = now;
        let taken = budget.left >= 1.0;
        if taken {
            budget.left -= 1.0;
        }
        taken
    }
}

impl Refusals {
    /// Somebody was refused something.
    pub fn add(&self, act: Act, outcome: &str, now: Instant) {
        let known = act.actor != Actor::Unknown;
        let alike = Alike {
            organization: act.organization.clone(),
            actor: act.actor.clone(),
            call: if known {
                act.call.clone()
            } else {
                Cow::Borrowed("")
            },
            peer: act.peer.clone(),
            outcome: outcome.to_owned(),
        };
        let mut state = self.lock();
        if let Some(entry) = state.waiting.get_mut(&alike) {
            entry.times += 1;
            return;
        }
        let most = if known {
            limits::AUDITED_REFUSALS
        } else {
            limits::AUDITED_STRANGERS
        };
        if !Budget::take(&mut state.budgets[usize::from(known)], most, now) {
            state.dropped += 1;
            state.dropped_ever += 1;
            return;
        }
        let entry = AuditEntry {
            act,
            job: None,
            outcome: outcome.to_owned(),
            times: 1,
        };
        state.waiting.insert(alike, entry);
    }

    /// All that waits to be written.
    pub fn take(&self) -> Vec<AuditEntry> {
        let mut state = self.lock();
        let mut all: Vec<_> = std::mem::take(&mut state.waiting).into_values().collect();
        let dropped = std::mem::take(&mut state.dropped);
        if dropped > 0 && !all.is_empty() {
            all.push(AuditEntry {
                act: Act::of_queue("", "", ""),
                job: None,
                outcome: DROPPED.to_owned(),
                times: dropped,
            });
        } else {
            // No line of its own for nothing else: the budget is what bounds all lines.
            state.dropped = dropped;
        }
        all
    }

    /// So many could not be written.
    fn lost(&self, times: u64) {
        let mut state = self.lock();
        state.dropped += times;
        state.dropped_ever += times;
    }

    /// How many the log had no place for.
    pub fn dropped_ever(&self) -> u64 {
        self.lock().dropped_ever
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before the guard goes, also in a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Shared<S> {
    /// The store, for what this client is about to do.
    pub fn by(&self, client: &Client) -> S {
        match client.act() {
            Some(act) => self.store.acting(act.clone()),
            None => self.store.clone(),
        }
    }

    /// Notes that this client is shown something, before it is: what is not noted is not
    /// shown.
    ///
    /// # Errors
    /// The store's.
    pub async fn note_done(&self, client: &Client) -> Result<(), crate::store::Error> {
        let Some(act) = client.act() else {
            return Ok(());
        };
        let entry = AuditEntry {
            act: Act::clone(act),
            job: None,
            outcome: Act::DONE.to_owned(),
            times: 1,
        };
        self.store.note(vec![entry]).await
    }

    /// Notes what a client was refused: of what would have changed something every refusal,
    /// of the rest those for want of a right.
    pub fn refused(&self, client: &Client, call: &'static str, status: &Status) {
        let act = match (client.act(), status.code()) {
            (_, Code::Internal | Code::Unavailable) => return,
            (Some(act), _) => Act::clone(act),
            (None, Code::PermissionDenied) => client.act_of(spelled(call), ""),
            (None, _) => return,
        };
        let code = status.metadata().get(CODE);
        let outcome = code
            .and_then(|code| code.to_str().ok())
            .unwrap_or("refused");
        self.refusals.add(act, outcome, Instant::now());
    }

    /// Writes what was refused. What the store does not take is counted as dropped.
    ///
    /// # Errors
    /// The store's.
    pub async fn write_refusals(&self) -> Result<(), crate::store::Error> {
        let entries = self.refusals.take();
        if entries.is_empty() {
            return Ok(());
        }
        let times = entries.iter().map(|entry| entry.times).sum();
        let written = self.store.note(entries).await;
        written.inspect_err(|_| self.refusals.lost(times))
    }
}

/// The name of a call as the contract spells it: `create_key` is `CreateKey`.
pub fn spelled(method: &'static str) -> Cow<'static, str> {
    let mut name = String::with_capacity(method.len());
    for word in method.split('_') {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    Cow::Owned(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(actor: Actor, call: &'static str, peer: &str) -> Act {
        Act {
            organization: String::new(),
            actor,
            call: Cow::Borrowed(call),
            object: "thing".to_owned(),
            peer: peer.to_owned(),
        }
    }

    fn ann() -> Actor {
        Actor::Token {
            name: "ci".to_owned(),
            owner: "ann".to_owned(),
        }
    }

    #[test]
    fn refusals_that_are_alike_are_one_line() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        for _ in 0..3 {
            refusals.add(act(ann(), "CreateKey", "::1"), "ADMIN_ONLY", now);
            refusals.add(
                act(Actor::Unknown, "GetJob", "::1"),
                "WRONG_CREDENTIAL",
                now,
            );
            refusals.add(
                act(Actor::Unknown, "ListJobs", "::1"),
                "WRONG_CREDENTIAL",
                now,
            );
        }
        refusals.add(act(ann(), "DeleteKey", "::1"), "ADMIN_ONLY", now);
        let mut times: Vec<_> = refusals.take().iter().map(|entry| entry.times).collect();
        times.sort_unstable();
        assert_eq!(times, [1, 3, 6]);
        assert!(refusals.take().is_empty());
    }

    #[test]
    fn a_flood_of_strangers_is_counted_and_takes_no_place_from_who_is_known() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let most = u64::from(limits::AUDITED_STRANGERS);
        for peer in 0..most * 100 {
            let stranger = act(Actor::Unknown, "GetJob", &peer.to_string());
            refusals.add(stranger, "WRONG_CREDENTIAL", now);
        }
        refusals.add(act(ann(), "CreateKey", "::1"), "ADMIN_ONLY", now);
        let noted = refusals.take();
        let of = |kind: &'static str| {
            let is_it = move |it: &&AuditEntry| it.act.actor.kind() == kind;
            noted.iter().filter(is_it)
        };
        assert_eq!(of("unknown").count() as u64, most);
        assert_eq!(of("token").count(), 1);
        let dropped: Vec<_> = of("queue").map(|it| (&*it.outcome, it.times)).collect();
        assert_eq!(dropped, [("dropped", most * 99)]);
        assert_eq!(refusals.dropped_ever(), most * 99);
        // The budget comes back with time, and no line is made for what is over it alone.
        refusals.add(act(Actor::Unknown, "GetJob", "x"), "WRONG_CREDENTIAL", now);
        assert!(refusals.take().is_empty());
        let later = now + Duration::from_hours(1);
        refusals.add(
            act(Actor::Unknown, "GetJob", "x"),
            "WRONG_CREDENTIAL",
            later,
        );
        let again: Vec<_> = refusals.take().iter().map(|it| it.times).collect();
        assert_eq!(again, [1, 1], "and the one that was dropped before");
    }

    #[test]
    fn calls_are_spelled_as_in_the_contract() {
        assert_eq!(
            spelled("promote_template_version"),
            "PromoteTemplateVersion"
        );
        assert_eq!(spelled("upload"), "Upload");
    }
}
