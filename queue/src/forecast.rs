//! When a pending job's turn comes: how many go before it, when it may start, and what
//! keeps it. Pure; an estimate, never a promise.
//!
//! The order is that of [`matching::turn`], played on as if no job ended and no other came:
//! due automatic jobs by age, then interactive and then automatic ones, each time of the
//! owner with the least in hand. That need not be played job by job (`order`). The start
//! is the moment at which the daemons that may take the job, or its limits, have come so
//! far, by how long jobs of the same template and transition ran lately (`starts`). Where
//! one of those is not known, nothing is said.

mod order;
mod starts;

use std::collections::HashMap;

use crate::matching::{self, Needs, Offer};
use crate::store::model::{Outlook, Place, Queued, Work};

use order::Ahead;
use starts::Times;

/// What is foreseen of a pending job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prospect {
    /// Jobs that go before it.
    pub position: u32,
    /// When it may start, in Unix milliseconds.
    pub start_ms: Option<i64>,
    /// What keeps it from running, in plain words.
    pub waiting_for: Option<String>,
}

/// A snapshot of an organization, prepared to be asked about any of its jobs.
#[derive(Debug)]
pub struct Forecast {
    outlook: Outlook,
    times: Times,
    /// How many jobs each owner has in hand.
    running: HashMap<String, u64>,
    /// Which crews may take the jobs of each entry of the queue.
    takers: Vec<Vec<bool>>,
}

impl Forecast {
    /// Prepares it.
    #[must_use]
    pub fn new(outlook: Outlook) -> Self {
        let mut running = HashMap::new();
        for job in &outlook.in_hand {
            *running.entry(job.owner.clone()).or_default() += 1;
        }
        let mut known: HashMap<_, Vec<bool>> = HashMap::new();
        let takers = outlook.queued.iter().map(|queued| {
            let standing = &queued.standing;
            let pool = (&standing.tags, &standing.engine);
            let takers = known
                .entry(pool)
                .or_insert_with(|| takers(&outlook, standing.needs()));
            takers.clone()
        });
        let takers = takers.collect();
        Self {
            times: Times::new(&outlook.runs),
            running,
            takers,
            outlook,
        }
    }

    /// What is foreseen of a job.
    #[must_use]
    pub fn of(&self, place: &Place) -> Prospect {
        let needs = place.standing.needs();
        let able = takers(&self.outlook, needs);
        let ahead = self.ahead(place, &able);
        let position = ahead.iter().map(|it| it.jobs).sum::<u64>();
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        let obstacle = self.obstacle(needs);
        Prospect {
            position,
            start_ms: match obstacle {
                None => self.start(place, &able, &ahead),
                Some(_) => None,
            },
            waiting_for: obstacle
                .or_else(|| self.full_limit(place))
                .or_else(|| self.all_busy(&able)),
        }
    }

    /// Entries of the queue with how many of their jobs go first. Those that no daemon
    /// could take instead of this job are not in its way.
    fn ahead(&self, place: &Place, able: &[bool]) -> Vec<Ahead<'_>> {
        let pool = |queued: &Queued| {
            let standing = &queued.standing;
            (&standing.tags, &standing.engine) == (&place.standing.tags, &place.standing.engine)
        };
        let rivals = self.outlook.queued.iter().zip(&self.takers);
        let rivals = rivals.filter(|(queued, takers)| {
            let shared = takers.iter().zip(able).any(|(takes, able)| *takes && *able);
            shared || pool(queued)
        });
        let rivals: Vec<_> = rivals.map(|(queued, _)| queued).collect();
        order::ahead(place, &rivals, &self.outlook, &self.running)
    }

    fn obstacle(&self, needs: Needs<'_>) -> Option<String> {
        let offers: Vec<Offer<'_>> = self.outlook.crews.iter().map(|it| it.offer()).collect();
        matching::obstacle(&offers, needs)
    }

    fn full_limit(&self, place: &Place) -> Option<String> {
        let limits = self.limits_on(place);
        let mut full = limits.filter(|(limit, _)| limit.is_full());
        full.next().map(|(limit, _)| limit.to_string())
    }

    fn limits_on<'f>(
        &'f self,
        place: &'f Place,
    ) -> impl Iterator<Item = &'f (crate::limit::Limit, String)> {
        let (owner, template) = (&place.standing.owner, &place.standing.template);
        let limits = self.outlook.limits.iter();
        limits.filter(|(limit, subject)| limit.counts(subject, owner, template))
    }

    fn all_busy(&self, able: &[bool]) -> Option<String> {
        let crews = self.outlook.crews.iter().zip(able);
        let crews: Vec<_> = crews
            .filter_map(|(crew, able)| able.then_some(crew))
            .collect();
        let slots: u32 = crews.iter().map(|crew| crew.slots).sum();
        let daemons: u32 = crews.iter().map(|crew| crew.daemons).sum();
        let busy = self.held_by(able).count();
        (busy >= slots as usize).then(|| {
            format!("all {slots} slots of the {daemons} daemons that may take it are busy")
        })
    }

    /// What these crews have in hand: the work, and since when.
    fn held_by<'f>(&'f self, able: &'f [bool]) -> impl Iterator<Item = (&'f Work, i64)> {
        let held = self.outlook.in_hand.iter();
        let held = held.filter(|job| job.crew.is_some_and(|crew| able[crew]));
        held.map(|job| (&job.work, job.since_ms))
    }

    /// When slots and limits have come so far.
    fn start(&self, place: &Place, able: &[bool], ahead: &[Ahead<'_>]) -> Option<i64> {
        let now = self.outlook.now_ms;
        let crews = self.outlook.crews.iter().zip(able);
        let slots = crews.map(|(crew, able)| if *able { crew.slots } else { 0 });
        let wanted = ahead.iter().map(|it| it.jobs).sum::<u64>() + 1;
        let held = self.held_by(able);
        let free = self.times.free(slots.sum(), held, now, wanted)?;
        let mut start = self.times.start(&free, ahead)?;
        for (limit, subject) in self.limits_on(place) {
            let counts = |owner: &str, work: &Work| limit.counts(subject, owner, &work.template);
            let held = self.outlook.in_hand.iter();
            let held = held.filter(|job| counts(&job.owner, &job.work));
            let held = held.map(|job| (&job.work, job.since_ms));
            let free = self.times.free(limit.most, held, now, wanted)?;
            let ahead = ahead.iter().filter(|it| {
                let standing = &it.queued.standing;
                limit.counts(subject, &standing.owner, &standing.template)
            });
            let ahead: Vec<_> = ahead.cloned().collect();
            start = start.max(self.times.start(&free, &ahead)?);
        }
        Some(start)
    }
}

/// Which crews may take what needs this.
fn takers(outlook: &Outlook, needs: Needs<'_>) -> Vec<bool> {
    let crews = outlook.crews.iter();
    crews.map(|crew| crew.offer().may_take(needs)).collect()
}

#[cfg(test)]
mod tests;
