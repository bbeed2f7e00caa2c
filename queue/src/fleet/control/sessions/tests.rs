use std::time::Duration;

use proto::v1::control_event::Event as Tell;
use proto::v1::{Alive, ControlEvent, DrainDaemonEvent};
use tokio::sync::mpsc;

use super::*;
use crate::matching::Tags;
use crate::store::model::DaemonRef;

type Told = mpsc::Receiver<Result<ControlEvent, Status>>;

#[test]
fn a_stream_says_alive_first_and_then_what_was_missed_once() {
    let controls = Controls::default();
    let (ticket, mut told) = open(&controls, "one", "i");
    let cancel = CancelJob {
        job_id: "job".into(),
        kind: Cancel::Cancel.into(),
    };
    let opened = Opened {
        drain: Drain::On,
        cancels: vec![cancel.clone()],
    };
    controls.settle(&ticket, &opened);
    controls.drain(&name(&contact("one", "i")));
    let all = [
        alive(0),
        Tell::Drain(DrainDaemonEvent {}),
        Tell::Cancel(cancel),
    ];
    for expected in all {
        assert_eq!(next(&mut told), Some(expected));
    }
    assert_eq!(next(&mut told), None);
}

#[test]
fn only_the_last_stream_of_an_instance_is_the_last() {
    let controls = Controls::default();
    let (first, _one) = open(&controls, "one", "i");
    let (second, _two) = open(&controls, "one", "i");
    let (other, _three) = open(&controls, "one", "another");
    assert_eq!(controls.close(&first), Last::No);
    assert_eq!(controls.close(&second), Last::Yes);
    assert_eq!(controls.close(&other), Last::Yes);
    assert!(controls.lock().daemons.is_empty());
}

#[test]
fn a_daemon_is_held_once_the_store_knows_and_while_it_says_the_same() {
    let controls = Controls::default();
    let (ticket, _told) = open(&controls, "one", "i");
    assert!(controls.held(&contact("one", "i")).is_none());
    controls.settle(&ticket, &Opened::default());
    assert!(controls.held(&contact("one", "i")).is_some());
    let more = DaemonContact {
        slots: 9,
        ..contact("one", "i")
    };
    assert!(controls.held(&more).is_none());
    assert!(controls.held(&contact("one", "another")).is_none());
}

#[test]
fn a_look_tells_what_no_event_told() {
    let controls = Controls::default();
    let (one, mut told) = open(&controls, "one", "i");
    controls.settle(&one, &Opened::default());
    let (_two, _silent) = open(&controls, "two", "i");
    let of = |daemon: &str| (name(&contact(daemon, "i")), "i".to_owned());
    let found = Attendance {
        draining: vec![of("one"), of("elsewhere")],
        busy: Vec::new(),
        lost: vec![of("two"), of("elsewhere")],
    };
    let (lost, draining) = controls.attend(&found);
    assert_eq!(draining, [of("one").0]);
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].name, of("two").0);
    assert_eq!(next(&mut told), Some(alive(0)));
    assert_eq!(next(&mut told), Some(Tell::Drain(DrainDaemonEvent {})));
    let strays = controls.without_stream(vec![of("one"), of("gone")]);
    assert_eq!(strays, [of("gone")]);
}

#[test]
fn alive_is_said_often_only_while_a_job_is_in_hand() {
    let timings = Timings::default();
    let controls = Controls::default();
    let [mut idle, mut busy] = idle_and_busy(&controls);
    // 200 seconds, of five and of sixty each, ± 20 %, and what both said when they opened.
    let begun = Instant::now();
    for round in 1..=400 {
        controls.say_alive(begun + Duration::from_millis(500) * round, &timings);
    }
    let count = |told: &mut Told| std::iter::from_fn(|| next(told)).count();
    let (idle, busy) = (count(&mut idle), count(&mut busy));
    assert!((3..=5).contains(&idle), "{idle}");
    assert!((33..=52).contains(&busy), "{busy}");
}

#[test]
fn daemons_hear_how_long_their_return_takes_as_they_become_many() {
    let timings = Timings::default();
    let controls = Controls::default();
    let mut many: Vec<_> = (0..2_000)
        .map(|number| open(&controls, &format!("d-{number}"), "i"))
        .collect();
    let said = |told: &mut Told| std::iter::from_fn(|| next(told)).collect::<Vec<_>>();
    // The last one hears it as it comes, the first one with the next look.
    assert_eq!(said(&mut many[1_999].1), [alive(2_998)]);
    assert_eq!(said(&mut many[0].1), [alive(0)]);
    let begun = Instant::now();
    let round = |number: u32| begun + timings.control_idle / ROUNDS * number;
    for number in 0..3 {
        controls.say_alive(round(number), &timings);
    }
    assert_eq!(said(&mut many[0].1), [alive(3_000)]);
    // No daemon is kept away for longer than it would stay away by itself.
    many.extend((2_000..20_000).map(|number| open(&controls, &format!("d-{number}"), "i")));
    controls.say_alive(round(3), &timings);
    assert_eq!(said(&mut many[0].1), [alive(20_000)]);
}

#[test]
fn an_idle_daemon_hears_alive_beside_its_renewals_and_then_hardly_in_between() {
    let timings = Timings::default();
    let controls = Controls::default();
    let [mut idle, mut busy] = idle_and_busy(&controls);
    let begun = Instant::now();
    let mut heard = 0;
    for second in 1..=600 {
        let now = begun + Duration::from_secs(second);
        controls.say_alive(now, &timings);
        if second % timings.acquire_max.as_secs() == 0 {
            controls.say_alive_beside(&contact("idle", "i"), now, &timings);
            controls.say_alive_beside(&contact("busy", "i"), now, &timings);
            heard += std::iter::from_fn(|| next(&mut idle)).count();
            while next(&mut busy).is_some() {}
        }
    }
    // Its opening, and ten renewals.
    assert_eq!(heard, 11);
    controls.say_alive_beside(&contact("busy", "i"), begun, &timings);
    assert_eq!(next(&mut busy), None);
}

#[test]
fn another_one_that_calls_itself_the_same_fills_nobodys_stream() {
    let controls = Controls::default();
    let (_ticket, mut told) = open(&controls, "one", "i");
    assert_eq!(next(&mut told), Some(alive(0)));
    let (now, timings) = (Instant::now(), Timings::default());
    let mut of_another_key = contact("one", "i");
    of_another_key.key_hash = [2; 32];
    for _ in 0..100 {
        controls.say_alive_beside(&contact("one", "another"), now, &timings);
        controls.say_alive_beside(&of_another_key, now, &timings);
    }
    assert_eq!(next(&mut told), None);
    controls.say_alive_beside(&contact("one", "i"), now, &timings);
    assert_eq!(next(&mut told), Some(alive(1)));
}

#[test]
fn a_stream_that_is_too_slow_for_its_events_ends() {
    let controls = Controls::default();
    let (replies, _told) = mpsc::channel(2);
    let daemon = Arc::new(contact("one", "i"));
    let ticket = controls.open(daemon, Live::default(), replies);
    for _ in 0..3 {
        let job = JobId::generate();
        controls.cancel(&ticket.name, job, Cancel::Cancel);
    }
    assert!(controls.lock().daemons.is_empty());
}

fn open(controls: &Controls, daemon: &str, instance: &str) -> (Ticket, Told) {
    let (replies, told) = mpsc::channel(64);
    let contact = Arc::new(contact(daemon, instance));
    (controls.open(contact, Live::default(), replies), told)
}

/// Two daemons, of which the second has a job.
fn idle_and_busy(controls: &Controls) -> [Told; 2] {
    let (_idle, idle) = open(controls, "idle", "i");
    let (_busy, busy) = open(controls, "busy", "i");
    let found = Attendance {
        busy: vec![(name(&contact("busy", "i")), None)],
        ..Attendance::default()
    };
    controls.attend(&found);
    [idle, busy]
}

fn alive(return_within_ms: u64) -> Tell {
    Tell::Alive(Alive { return_within_ms })
}

fn next(told: &mut Told) -> Option<Tell> {
    told.try_recv().ok()?.expect("an event").event
}

fn contact(daemon: &str, instance: &str) -> DaemonContact {
    DaemonContact {
        daemon: DaemonRef {
            organization: "default".into(),
            key: "key".into(),
            name: daemon.into(),
            instance: instance.into(),
        },
        key_hash: [1; 32],
        version: "1".into(),
        slots: 1,
        tags: Tags::new(),
        facts: Tags::new(),
    }
}
