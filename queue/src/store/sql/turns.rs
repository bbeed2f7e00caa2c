//! Which lane each of several waiting daemons gets, one after the other. Pure.
//!
//! A lane that has given its first job stays in line with what is then known of its next
//! one: it is no older. Where that would decide, the lanes have to be looked at anew, so
//! that several get what they would have got one by one.

use super::lanes::Lane;
use crate::limit::Limit;
use crate::matching::{self, Turn};
use crate::words::LimitOf;

/// The lanes, as hand-outs change them.
pub(super) struct Turns {
    lanes: Vec<Standing>,
    now: i64,
}

struct Standing {
    lane: Lane,
    /// Its first job has gone.
    passed: bool,
    /// No job is left in it, as far as this hand-out can know.
    over: bool,
}

/// A lane's job for a daemon.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pick {
    /// The daemon's place in line.
    pub who: usize,
    pub lane: usize,
    /// It was counted for the choices behind it.
    counted: bool,
}

/// What is done for those in line at a time.
pub(super) struct Round {
    /// The places of those for whom there is nothing.
    pub in_vain: Vec<usize>,
    pub then: Then,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// All of these are offered together.
    Offer(Vec<Pick>),
    /// This one's limits are held first.
    Limited(Pick),
    /// The lanes are looked at anew.
    Look,
}

/// What a daemon may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The oldest job of this lane.
    Lane(usize),
    /// Nothing.
    Nothing,
    /// That depends on a job that is not known yet.
    Unclear,
}

impl Turns {
    pub(super) fn of(lanes: Vec<Lane>, now: i64) -> Self {
        let standing = |lane| Standing {
            lane,
            passed: false,
            over: false,
        };
        Self {
            lanes: lanes.into_iter().map(standing).collect(),
            now,
        }
    }

    pub(super) fn lane(&self, at: usize) -> &Lane {
        &self.lanes[at].lane
    }

    /// Chooses for as many in line as can be chosen for without knowing what came of it;
    /// `may` tells which lanes a place in line may take from.
    pub(super) fn round(&mut self, line: usize, may: impl Fn(usize, &Lane) -> bool) -> Round {
        let (mut in_vain, mut picks): (Vec<usize>, Vec<Pick>) = (Vec::new(), Vec::new());
        for who in 0..line {
            if let Some(last) = picks.last_mut().filter(|last| !last.counted) {
                if self.lanes[last.lane].passed {
                    // It may have no other one; who comes behind waits for that.
                    break;
                }
                self.gives(last.lane);
                last.counted = true;
            }
            let lane = match self.next(|lane| may(who, lane)) {
                Next::Nothing => {
                    in_vain.push(who);
                    continue;
                }
                Next::Unclear if picks.is_empty() => {
                    let then = Then::Look;
                    return Round { in_vain, then };
                }
                Next::Unclear => break,
                Next::Lane(lane) => lane,
            };
            let pick = Pick {
                who,
                lane,
                counted: false,
            };
            if self.lanes[lane].lane.limits.is_empty() {
                picks.push(pick);
            } else if picks.is_empty() {
                let then = Then::Limited(pick);
                return Round { in_vain, then };
            } else {
                break;
            }
        }
        let then = Then::Offer(picks);
        Round { in_vain, then }
    }

    /// Whether a pick of the last round has given a job.
    pub(super) fn came_of(&mut self, pick: &Pick, gave: bool) {
        match (gave, pick.counted) {
            (true, true) => {}
            (true, false) => self.gives(pick.lane),
            (false, true) => self.gave_none(pick.lane),
            (false, false) => self.is_over(pick.lane),
        }
    }

    /// The lane whose turn it is, of those that a daemon may take from.
    fn next(&self, may: impl Fn(&Lane) -> bool) -> Next {
        let open = self.lanes.iter().enumerate();
        let open = open.filter(|(_, it)| !it.over && it.lane.has_room() && may(&it.lane));
        let (mut best, mut second): (Option<(Turn, usize)>, Option<Turn>) = (None, None);
        for (at, it) in open {
            let turn = matching::turn(&it.lane.claim, self.now);
            match best {
                Some((before, _)) if before <= turn => {
                    second = Some(second.map_or(turn, |second| second.min(turn)));
                }
                Some((before, _)) => (best, second) = (Some((turn, at)), Some(before)),
                None => best = Some((turn, at)),
            }
        }
        match (best, second) {
            (None, _) => Next::Nothing,
            (Some((best, at)), Some(second))
                if self.lanes[at].passed && best.rests_on_age(second) =>
            {
                Next::Unclear
            }
            (Some((_, at)), _) => Next::Lane(at),
        }
    }

    /// The lane gives its oldest job.
    fn gives(&mut self, at: usize) {
        self.lanes[at].passed = true;
        let now = self.now;
        self.of_same(at, |lane, limit| {
            limit.for_each(|limit| limit.running += 1);
            if let Some(claim) = lane {
                claim.running += 1;
                claim.served_ms = Some(now);
            }
        });
    }

    /// It was thought to, and had none that could be had.
    fn gave_none(&mut self, at: usize) {
        self.lanes[at].over = true;
        self.of_same(at, |lane, limit| {
            limit.for_each(|limit| limit.running = limit.running.saturating_sub(1));
            if let Some(claim) = lane {
                claim.running = claim.running.saturating_sub(1);
            }
        });
    }

    /// Nothing can be had from it.
    pub(super) fn is_over(&mut self, at: usize) {
        self.lanes[at].over = true;
    }

    /// All lanes that a hand-out from this one counts for: the claims of its owner's, and
    /// the limits that are the same.
    fn of_same(
        &mut self,
        at: usize,
        mut change: impl FnMut(Option<&mut matching::Claim>, &mut dyn Iterator<Item = &mut Limit>),
    ) {
        let lane = &self.lanes[at].lane;
        let (owner, template) = (lane.owner.clone(), lane.template.clone());
        for Standing { lane, .. } in &mut self.lanes {
            let (same_owner, same_template) = (lane.owner == owner, lane.template == template);
            let mut limits = lane.limits.iter_mut().filter(|limit| match limit.of {
                LimitOf::Owner => same_owner,
                LimitOf::Template => same_template,
            });
            change(same_owner.then_some(&mut lane.claim), &mut limits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::Claim;
    use crate::words::{Kind, Priority};

    const NOW: i64 = 10_000_000;

    /// A lane of an owner with so many jobs in hand.
    fn lane(owner: &str, running: u32, row: i64) -> Lane {
        Lane {
            tagset: 1,
            engine: String::new(),
            kind: Kind::WorkspaceBuild,
            priority: Priority::Interactive,
            owner: owner.to_owned(),
            template: "t".to_owned(),
            claim: Claim {
                row,
                priority: Priority::Interactive,
                created_ms: NOW - 1_000,
                running,
                served_ms: None,
            },
            limits: Vec::new(),
        }
    }

    fn all(_: &Lane) -> bool {
        true
    }

    /// Owners in the order in which they get a job; ends where that is unclear.
    fn order(mut turns: Turns, count: usize) -> Vec<String> {
        let mut owners = Vec::new();
        while owners.len() < count {
            let Next::Lane(at) = turns.next(all) else {
                break;
            };
            owners.push(turns.lane(at).owner.clone());
            turns.gives(at);
        }
        owners
    }

    #[test]
    fn each_gets_what_is_due_after_the_one_before() {
        let turns = Turns::of(vec![lane("a", 0, 5), lane("b", 2, 1), lane("c", 1, 9)], NOW);
        // `a` and `c` have as many then, and `c` was not served now.
        assert_eq!(order(turns, 3), ["a", "c", "a"]);
    }

    #[test]
    fn two_that_differ_in_age_only_are_looked_at_anew_once_one_has_given() {
        let mut turns = Turns::of(vec![lane("a", 0, 5), lane("b", 0, 7)], NOW);
        assert_eq!(turns.next(all), Next::Lane(0));
        turns.gives(0);
        assert_eq!(turns.next(all), Next::Lane(1), "it has fewer");
        turns.gives(1);
        // Both have one and were served now: the age of the next jobs decides.
        assert_eq!(turns.next(all), Next::Unclear);
        assert_eq!(
            turns.next(|lane| lane.owner == "b"),
            Next::Lane(1),
            "it alone"
        );
    }

    #[test]
    fn an_automatic_job_that_waited_long_tells_nothing_of_the_one_behind_it() {
        let mut due = lane("a", 9, 1);
        due.priority = Priority::Automatic;
        due.claim.priority = Priority::Automatic;
        due.claim.created_ms = 0;
        let mut turns = Turns::of(vec![due, lane("b", 0, 7)], NOW);
        assert_eq!(turns.next(all), Next::Lane(0));
        turns.gives(0);
        assert_eq!(turns.next(all), Next::Unclear);
        turns.gave_none(0);
        assert_eq!(turns.next(all), Next::Lane(1));
    }

    fn picked(round: Round) -> Vec<(usize, usize)> {
        match round.then {
            Then::Offer(picks) => picks.iter().map(|pick| (pick.who, pick.lane)).collect(),
            then => panic!("not offered: {then:?}"),
        }
    }

    #[test]
    fn a_round_ends_where_what_came_of_it_matters() {
        let mut turns = Turns::of(vec![lane("a", 0, 5), lane("b", 4, 7)], NOW);
        // `a` has given its first job then; whether it has a second one is not known.
        assert_eq!(picked(turns.round(4, |_, _| true)), [(0, 0), (1, 0)]);
        let mut turns = Turns::of(vec![lane("a", 0, 5), lane("b", 4, 7)], NOW);
        let round = turns.round(3, |who, lane| (who > 1) == (lane.owner == "b"));
        assert_eq!(picked(round), [(0, 0), (1, 0)], "the third has to wait");
        let round = turns.round(2, |who, lane| who == 1 && lane.owner == "b");
        assert_eq!(round.in_vain, [0]);
        assert_eq!(picked(round), [(1, 1)]);
    }

    #[test]
    fn a_job_under_a_limit_is_chosen_alone() {
        let mut limited = lane("b", 1, 7);
        limited.limits = vec![Limit {
            of: LimitOf::Owner,
            name: "b".to_owned(),
            running: 1,
            most: 2,
        }];
        let mut turns = Turns::of(vec![lane("a", 0, 5), limited], NOW);
        let round = turns.round(2, |who, lane| (who == 1) == (lane.owner == "b"));
        assert_eq!(picked(round), [(0, 0)]);
        let round = turns.round(1, |_, lane| lane.owner == "b");
        assert!(matches!(
            round.then,
            Then::Limited(Pick {
                who: 0,
                lane: 1,
                ..
            })
        ));
    }

    #[test]
    fn what_is_given_counts_against_the_limits_of_all_lanes() {
        let limit = |of, name: &str| Limit {
            of,
            name: name.to_owned(),
            running: 0,
            most: 1,
        };
        let mut first = lane("a", 0, 1);
        first.limits = vec![limit(LimitOf::Owner, "a"), limit(LimitOf::Template, "t")];
        let mut same_owner = lane("a", 0, 2);
        same_owner.template = "other".to_owned();
        same_owner.limits = vec![limit(LimitOf::Owner, "a")];
        let mut same_template = lane("b", 0, 3);
        same_template.limits = vec![limit(LimitOf::Template, "t")];
        let mut free = lane("c", 5, 4);
        free.template = "other".to_owned();
        let mut turns = Turns::of(vec![first, same_owner, same_template, free], NOW);
        assert_eq!(turns.next(all), Next::Lane(0));
        turns.gives(0);
        assert_eq!(turns.next(all), Next::Lane(3), "the others are full");
        turns.gave_none(0);
        assert_eq!(turns.next(all), Next::Lane(2), "nothing was given");
        turns.is_over(2);
        turns.is_over(1);
        turns.is_over(3);
        assert_eq!(turns.next(all), Next::Nothing);
    }
}
