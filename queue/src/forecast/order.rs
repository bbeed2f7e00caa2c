//! How many jobs go before one, without playing the hand-outs through.
//!
//! Within a class the next job is of the owner with the least in hand, of equal ones of
//! the owner who was served longest ago. An owner with `base` in hand gets the job at
//! `base`, then that at `base + 1`, and so on: one *level* after the other. A job at level
//! `L` of its owner goes behind all lower levels of the others. At the same level the owner
//! goes first who had more in hand to begin with, for the other one was served meanwhile;
//! of owners that began equal, the one who was served longest ago, level after level.
//!
//! Jobs behind a limit are counted as far as the limit lets them pass now.

use std::collections::HashMap;

use crate::lease::millis;
use crate::matching::AUTOMATIC_WAITS;
use crate::store::model::{Outlook, Place, Queued};
use crate::words::{LimitOf, Priority};

/// Jobs of one entry of the queue that go first.
#[derive(Debug, Clone)]
pub(super) struct Ahead<'o> {
    pub queued: &'o Queued,
    pub jobs: u64,
}

/// Which of an owner's jobs a job is among.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Due,
    Interactive,
    Automatic,
}

/// What an owner has in a class, and before it.
#[derive(Default)]
struct Party {
    /// In hand now, and of earlier classes.
    base: u64,
    jobs: u64,
    served_ms: Option<i64>,
    oldest: i64,
    /// Those of its jobs whose entries have been looked at.
    spread: u64,
}

/// Jobs of an entry in a class.
struct Share<'o> {
    queued: &'o Queued,
    class: Class,
    jobs: u64,
}

/// See the module. `rivals` are what daemons could take instead.
pub(super) fn ahead<'o>(
    place: &Place,
    rivals: &[&'o Queued],
    outlook: &Outlook,
    running: &HashMap<String, u64>,
) -> Vec<Ahead<'o>> {
    let own = class_of(place, outlook.now_ms);
    let shares = shares(place, rivals, outlook);
    let of_share = |share: &Share<'o>, jobs| Ahead {
        queued: share.queued,
        jobs,
    };
    let before = shares.iter().filter(|it| it.class < own);
    let mut ahead: Vec<_> = before.map(|it| of_share(it, it.jobs)).collect();
    let same: Vec<_> = shares.iter().filter(|it| it.class == own).collect();
    match own {
        Class::Due => ahead.extend(same.iter().map(|it| of_share(it, older(it, place)))),
        Class::Interactive | Class::Automatic => {
            let (mine, others): (Vec<&Share<'_>>, Vec<_>) =
                same.into_iter().partition(|it| is_own(it.queued, place));
            let mine: Vec<_> = mine
                .iter()
                .map(|it| of_share(it, older(it, place)))
                .collect();
            let parties = parties(&shares, own, running);
            let me = Me::of(
                place,
                &parties,
                running,
                mine.iter().map(|it| it.jobs).sum(),
            );
            ahead.extend(mine);
            ahead.extend(in_turn(&me, &others, parties));
        }
    }
    ahead.retain(|it| it.jobs > 0);
    ahead
}

/// The owner of the job in question.
struct Me {
    base: u64,
    /// The job's.
    level: u64,
    served_ms: Option<i64>,
    oldest: i64,
}

impl Me {
    /// With so many older jobs of the same class.
    fn of(
        place: &Place,
        parties: &HashMap<&str, Party>,
        running: &HashMap<String, u64>,
        older: u64,
    ) -> Self {
        let owner = place.standing.owner.as_str();
        let party = parties.get(owner);
        let base = party.map_or_else(|| in_hand(running, owner), |it| it.base);
        Self {
            base,
            level: base + older,
            served_ms: party.and_then(|it| it.served_ms),
            oldest: party.map_or(place.row, |it| it.oldest.min(place.row)),
        }
    }

    /// How many jobs of this party go first.
    fn lets_pass(&self, party: &Party) -> u64 {
        let longer = (party.served_ms, party.oldest) < (self.served_ms, self.oldest);
        let first = party.base > self.base || (party.base == self.base && longer);
        let levels = (self.level + u64::from(first)).saturating_sub(party.base);
        levels.min(party.jobs)
    }
}

/// What goes first of other owners, spread evenly over the entries of each.
fn in_turn<'o>(
    me: &Me,
    others: &[&Share<'o>],
    mut parties: HashMap<&str, Party>,
) -> Vec<Ahead<'o>> {
    let mut ahead = Vec::new();
    for share in others {
        let Some(party) = parties.get_mut(share.queued.standing.owner.as_str()) else {
            continue;
        };
        let pass = me.lets_pass(party);
        let before = part(party.spread, pass, party.jobs);
        party.spread += share.jobs;
        ahead.push(Ahead {
            queued: share.queued,
            jobs: part(party.spread, pass, party.jobs) - before,
        });
    }
    ahead
}

fn is_own(queued: &Queued, place: &Place) -> bool {
    queued.standing.owner == place.standing.owner
}

fn in_hand(running: &HashMap<String, u64>, owner: &str) -> u64 {
    running.get(owner).copied().unwrap_or_default()
}

fn class_of(place: &Place, now_ms: i64) -> Class {
    let due = now_ms - place.created_ms >= millis(AUTOMATIC_WAITS);
    match place.standing.priority {
        Priority::Interactive => Class::Interactive,
        Priority::Automatic if due => Class::Due,
        Priority::Automatic => Class::Automatic,
    }
}

/// The entries by class, no more of each than limits let pass; a job's own are not cut.
fn shares<'o>(place: &Place, rivals: &[&'o Queued], outlook: &Outlook) -> Vec<Share<'o>> {
    let mut room: HashMap<(LimitOf, &str), u64> = HashMap::new();
    for (limit, subject) in &outlook.limits {
        let left = limit.most.saturating_sub(limit.running);
        room.insert((limit.of, subject), left.into());
    }
    let mut shares = Vec::new();
    for queued in rivals {
        let standing = &queued.standing;
        let normal = match standing.priority {
            Priority::Interactive => Class::Interactive,
            Priority::Automatic => Class::Automatic,
        };
        for (class, jobs) in [(Class::Due, queued.due), (normal, queued.jobs - queued.due)] {
            let mut jobs = jobs;
            if !is_own(queued, place) {
                let limits = [
                    (LimitOf::Owner, standing.owner.as_str()),
                    (LimitOf::Template, standing.template.as_str()),
                ];
                for left in limits.iter().filter_map(|limit| room.get(limit)) {
                    jobs = jobs.min(*left);
                }
                for limit in &limits {
                    if let Some(left) = room.get_mut(limit) {
                        *left -= jobs;
                    }
                }
            }
            shares.push(Share {
                queued,
                class,
                jobs,
            });
        }
    }
    shares
}

/// Owners as this class finds them.
fn parties<'o>(
    shares: &[Share<'o>],
    own: Class,
    running: &HashMap<String, u64>,
) -> HashMap<&'o str, Party> {
    let mut parties: HashMap<&str, Party> = HashMap::new();
    for share in shares.iter().filter(|it| it.class <= own) {
        let owner = share.queued.standing.owner.as_str();
        let party = parties.entry(owner).or_insert_with(|| Party {
            base: in_hand(running, owner),
            jobs: 0,
            served_ms: share.queued.served_ms,
            oldest: i64::MAX,
            spread: 0,
        });
        if share.class < own && share.jobs > 0 {
            party.base += share.jobs;
            party.served_ms = Some(i64::MAX);
        } else if share.jobs > 0 {
            party.jobs += share.jobs;
            party.oldest = party.oldest.min(share.queued.rows.0);
        }
    }
    parties
}

/// Jobs of a share that are older than this one: as counted for its own entry, else by
/// even steps from the oldest of the entry to its newest.
fn older(share: &Share<'_>, place: &Place) -> u64 {
    let queued = share.queued;
    let (oldest, newest) = queued.rows;
    let counted = place.ahead.filter(|_| queued.standing == place.standing);
    let older = counted.unwrap_or_else(|| {
        if place.row <= oldest {
            0
        } else if place.row > newest {
            queued.jobs
        } else if place.row == newest {
            queued.jobs - 1
        } else {
            part(
                place.row.abs_diff(oldest),
                queued.jobs,
                newest.abs_diff(oldest),
            )
        }
    });
    // Those that are due are the oldest of an entry.
    let in_class = match share.class {
        Class::Due => older,
        Class::Interactive | Class::Automatic => older.saturating_sub(queued.due),
    };
    in_class.min(share.jobs)
}

/// `jobs`, as far as `part` is of `whole`.
fn part(part: u64, jobs: u64, whole: u64) -> u64 {
    let jobs = u128::from(part) * u128::from(jobs) / u128::from(whole.max(1));
    u64::try_from(jobs).unwrap_or(u64::MAX)
}
