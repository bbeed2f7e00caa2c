use super::*;
use crate::limit::Limit;
use crate::matching::{Claim, Tags, turn};
use crate::store::model::{Crew, InHand, Standing};
use crate::words::{Kind, LimitOf, Priority, Transition};

const NOW: i64 = 1_000_000_000;

fn tags(extra: &[(&str, &str)]) -> Tags {
    let own = [("scope", "organization"), ("owner", "")];
    let all = own.iter().chain(extra);
    all.map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn standing(owner: &str, priority: Priority) -> Standing {
    Standing {
        tags: tags(&[]),
        engine: String::new(),
        kind: Kind::WorkspaceBuild,
        priority,
        owner: owner.to_owned(),
        template: "aws".to_owned(),
    }
}

fn queued(owner: &str, rows: &[i64]) -> Queued {
    Queued {
        standing: standing(owner, Priority::Interactive),
        jobs: rows.len() as u64,
        due: 0,
        rows: (rows[0], rows[rows.len() - 1]),
        served_ms: None,
    }
}

fn place(owner: &str, row: i64, ahead: Option<u64>) -> Place {
    Place {
        standing: standing(owner, Priority::Interactive),
        row,
        created_ms: NOW,
        ahead,
    }
}

fn crew(extra: &[(&str, &str)], slots: u32) -> Crew {
    Crew {
        tags: tags(extra),
        facts: Tags::new(),
        daemons: 1,
        slots,
    }
}

fn work(transition: Transition) -> Work {
    Work {
        template: "aws".to_owned(),
        kind: Kind::WorkspaceBuild,
        transition: Some(transition),
    }
}

fn in_hand(owner: &str, since: i64) -> InHand {
    InHand {
        crew: Some(0),
        owner: owner.to_owned(),
        work: work(Transition::Start),
        since_ms: NOW - since,
    }
}

fn limit(of: LimitOf, name: &str, running: u32, most: u32) -> (Limit, String) {
    let limit = Limit {
        of,
        name: name.to_owned(),
        running,
        most,
    };
    (limit, name.to_owned())
}

/// One crew of two slots whose jobs take a minute.
fn outlook() -> Outlook {
    Outlook {
        now_ms: NOW,
        crews: vec![crew(&[], 2)],
        runs: vec![(work(Transition::Start), 60_000)],
        ..Outlook::default()
    }
}

fn start(outlook: Outlook, place: &Place) -> Option<i64> {
    Forecast::new(outlook).of(place).start_ms.map(|at| at - NOW)
}

#[test]
fn an_idle_fleet_starts_a_job_now_and_a_busy_one_when_a_slot_is_free() {
    let next = place("ann", 1, None);
    assert_eq!(start(outlook(), &next), Some(0));
    let mut busy = outlook();
    busy.in_hand = vec![in_hand("bob", 50_000), in_hand("bob", 20_000)];
    assert_eq!(start(busy.clone(), &next), Some(10_000));
    let said = Forecast::new(busy.clone()).of(&next).waiting_for;
    let all = "all 2 slots of the 1 daemons that may take it are busy";
    assert_eq!(said.as_deref(), Some(all));
    // Three ahead: at 10, 40, 70 s; then the slot that was free at 40.
    busy.queued = vec![queued("ann", &[1, 2, 3])];
    assert_eq!(start(busy, &place("ann", 4, Some(3))), Some(100_000));
}

#[test]
fn a_job_that_runs_longer_than_usual_is_expected_to_end_now() {
    let mut busy = outlook();
    busy.in_hand = vec![in_hand("bob", 90_000), in_hand("bob", 10_000)];
    assert_eq!(start(busy, &place("ann", 1, None)), Some(0));
}

#[test]
fn without_history_nothing_is_said_of_the_start() {
    let mut new = outlook();
    new.runs.clear();
    assert_eq!(start(new.clone(), &place("ann", 1, None)), Some(0));
    new.queued = vec![queued("ann", &[1])];
    assert_eq!(start(new.clone(), &place("ann", 2, Some(1))), None);
    new.queued.clear();
    new.in_hand = vec![in_hand("bob", 0)];
    assert_eq!(start(new.clone(), &place("ann", 2, None)), None);
    // A stop says nothing of how long a start takes.
    new.runs = vec![(work(Transition::Stop), 5_000)];
    assert_eq!(start(new, &place("ann", 2, None)), None);
}

#[test]
fn newer_runs_weigh_more() {
    let mut slower = outlook();
    slower.runs = [10_000; 10]
        .map(|ms| (work(Transition::Start), ms))
        .to_vec();
    slower.runs.push((work(Transition::Start), 110_000));
    slower.in_hand = vec![in_hand("bob", 0), in_hand("bob", 0)];
    // 10 s and three tenths of the hundred more.
    assert_eq!(start(slower, &place("ann", 1, None)), Some(40_000));
}

#[test]
fn a_job_that_nobody_can_run_says_so_and_names_no_start() {
    let mut elsewhere = place("ann", 1, None);
    elsewhere.standing.tags = tags(&[("region", "eu")]);
    let said = Forecast::new(outlook()).of(&elsewhere);
    assert_eq!(said.start_ms, None);
    let reason = said.waiting_for.expect("a reason");
    assert!(reason.contains("`region=eu`"), "{reason}");
    let nobody = Forecast::new(Outlook::default()).of(&elsewhere);
    assert_eq!(
        nobody.waiting_for.as_deref(),
        Some("no daemon is connected")
    );
}

#[test]
fn a_limit_is_named_and_waited_for() {
    let mut limited = outlook();
    limited.crews[0].slots = 10;
    limited.in_hand = vec![in_hand("ann", 45_000), in_hand("ann", 30_000)];
    limited.limits = vec![limit(LimitOf::Owner, "ann", 2, 2)];
    let said = Forecast::new(limited.clone()).of(&place("ann", 1, None));
    let named = "owner `ann` runs 2 of at most 2 jobs";
    assert_eq!(said.waiting_for.as_deref(), Some(named));
    assert_eq!(said.start_ms, Some(NOW + 15_000));
    // Others are not kept by it, nor does what it keeps stand before them.
    limited.queued = vec![queued("ann", &[1, 2, 3])];
    let said = Forecast::new(limited.clone()).of(&place("bob", 4, None));
    assert_eq!((said.position, said.waiting_for), (0, None));
    assert_eq!(said.start_ms, Some(NOW));
    // Lowered below what runs: the first end frees nothing.
    limited.queued.clear();
    limited.limits = vec![limit(LimitOf::Template, "aws", 2, 1)];
    assert_eq!(start(limited.clone(), &place("bob", 4, None)), Some(30_000));
    limited.limits = vec![limit(LimitOf::Template, "aws", 2, 0)];
    assert_eq!(start(limited, &place("bob", 4, None)), None);
}

#[test]
fn a_limit_of_billions_costs_no_more_than_one_of_a_few() {
    let mut wide = outlook();
    wide.in_hand = vec![in_hand("ann", 45_000)];
    wide.limits = vec![limit(LimitOf::Owner, "ann", 1, u32::MAX)];
    assert_eq!(start(wide, &place("ann", 1, None)), Some(0));
}

#[test]
fn jobs_that_no_daemon_of_this_one_could_take_are_not_ahead_of_it() {
    let mut two = outlook();
    two.crews.push(crew(&[("gpu", "yes")], 1));
    let mut on_gpu = queued("bob", &[1, 2, 3]);
    on_gpu.standing.tags = tags(&[("gpu", "yes")]);
    two.queued = vec![on_gpu.clone(), queued("eve", &[4])];
    let forecast = Forecast::new(two);
    assert_eq!(forecast.of(&place("ann", 9, None)).position, 1);
    let fourth = Place {
        standing: on_gpu.standing,
        ..place("bob", 9, Some(3))
    };
    assert_eq!(forecast.of(&fourth).position, 3);
}

#[test]
fn priority_classes_go_one_after_the_other() {
    let mut mixed = outlook();
    let mut cron = queued("cron", &[1, 2, 3, 4]);
    cron.standing.priority = Priority::Automatic;
    cron.due = 2;
    mixed.queued = vec![cron, queued("ann", &[5, 6])];
    let forecast = Forecast::new(mixed);
    // Two that are due go before whoever is interactive, two go behind.
    assert_eq!(forecast.of(&place("ann", 6, Some(1))).position, 3);
    let mut last = place("cron", 4, Some(3));
    last.standing.priority = Priority::Automatic;
    assert_eq!(forecast.of(&last).position, 2 + 2 + 1);
    last.created_ms = NOW - 600_000;
    last.ahead = Some(1);
    assert_eq!(forecast.of(&last).position, 1);
}

#[test]
fn an_owner_with_many_templates_has_no_more_turns_than_one_with_one() {
    let mut spread = outlook();
    for (row, template) in (1..).zip(["a", "b", "c", "d"]) {
        let mut one = queued("bob", &[row]);
        one.standing.template = template.to_owned();
        spread.queued.push(one);
    }
    let forecast = Forecast::new(spread);
    assert_eq!(forecast.of(&place("ann", 9, None)).position, 1);
    assert_eq!(forecast.of(&place("ann", 9, Some(0))).position, 1);
}

/// A linear congruence: enough to shuffle small numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % below
    }
}

/// An owner of the played hand-outs.
struct Player {
    running: u32,
    served: Option<i64>,
    rows: Vec<i64>,
}

/// Rows in the order in which they are handed out, when nothing ends.
fn played(mut players: Vec<Player>) -> Vec<i64> {
    let mut order = Vec::new();
    let mut now = NOW;
    loop {
        let waiting = players.iter_mut().filter(|player| !player.rows.is_empty());
        let next = waiting.min_by_key(|player| {
            let claim = Claim {
                row: player.rows[0],
                priority: Priority::Interactive,
                created_ms: NOW,
                running: player.running,
                served_ms: player.served,
            };
            turn(&claim, NOW)
        });
        let Some(next) = next else { return order };
        order.push(next.rows.remove(0));
        next.running += 1;
        next.served = Some(now);
        now += 1;
    }
}

#[test]
fn a_position_is_what_hand_outs_that_are_played_through_come_to() {
    let mut dice = Dice(2026);
    for round in 0..300 {
        let mut players: Vec<_> = (0..4)
            .map(|_| Player {
                running: u32::try_from(dice.roll(4)).expect("small"),
                served: (dice.roll(2) == 0)
                    .then(|| NOW - i64::try_from(dice.roll(50)).expect("small")),
                rows: Vec::new(),
            })
            .collect();
        for row in 1..=i64::try_from(dice.roll(12)).expect("small") + 1 {
            let owner = usize::try_from(dice.roll(4)).expect("small");
            players[owner].rows.push(row);
        }
        let mut outlook = outlook();
        for (owner, player) in players.iter().enumerate() {
            for _ in 0..player.running {
                outlook.in_hand.push(in_hand(&owner.to_string(), 0));
            }
            if !player.rows.is_empty() {
                outlook.queued.push(Queued {
                    served_ms: player.served,
                    ..queued(&owner.to_string(), &player.rows)
                });
            }
        }
        let forecast = Forecast::new(outlook);
        let mut foreseen = Vec::new();
        for (owner, player) in players.iter().enumerate() {
            for (ahead, &row) in player.rows.iter().enumerate() {
                let place = place(&owner.to_string(), row, Some(ahead as u64));
                foreseen.push((forecast.of(&place).position, row));
            }
        }
        foreseen.sort_unstable();
        let expected = played(players).into_iter();
        let expected: Vec<_> = (0..).zip(expected).collect();
        assert_eq!(foreseen, expected, "round {round}");
    }
}

#[test]
fn ten_thousand_owners_are_one_pass() {
    let mut crowd = outlook();
    crowd.queued = (0..10_000)
        .map(|owner| queued(&owner.to_string(), &[owner, owner + 10_000]))
        .collect();
    let forecast = Forecast::new(crowd);
    // All have their first job before anybody's second.
    assert_eq!(forecast.of(&place("0", 10_000, Some(1))).position, 10_000);
    assert_eq!(forecast.of(&place("new", 20_001, None)).position, 10_000);
}
