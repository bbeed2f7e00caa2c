use super::*;
use State::{Canceled, Canceling, Failed, Offered, Pending, Running, Succeeded};

const SIDES: [Side; 2] = [Side::BeforeGate, Side::AfterGate];

fn standing(state: State, side: Side) -> Standing {
    Standing {
        state,
        side,
        attempts: Attempts::default(),
        asked: Asked::Person,
    }
}

fn before(state: State, event: Event) -> Result<Next, Refused> {
    next(standing(state, Side::BeforeGate), event)
}

fn after(state: State, event: Event) -> Result<Next, Refused> {
    next(standing(state, Side::AfterGate), event)
}

fn events() -> Vec<Event> {
    let mut all = vec![
        Event::Offer,
        Event::Confirm,
        Event::Withdraw,
        Event::Undelivered,
        Event::Cancel,
        Event::OpenGate,
        Event::Lost,
        Event::Abandon,
        Event::QueueDeadline,
        Event::RunDeadline,
    ];
    for &outcome in Outcome::ALL {
        all.push(Event::Finish(outcome, None));
        for &reason in ReleaseReason::ALL {
            all.push(Event::Finish(outcome, Some(reason)));
        }
    }
    all
}

fn released(reason: ReleaseReason) -> Event {
    Event::Finish(Outcome::Released, Some(reason))
}

fn requeued(counted: u32, uncounted: u32) -> Result<Next, Refused> {
    Ok(Next::Requeue(Attempts { counted, uncounted }))
}

#[test]
fn nothing_moves_a_job_that_has_ended() {
    for state in [Succeeded, Canceled, Failed] {
        for side in SIDES {
            for event in events() {
                assert_eq!(next(standing(state, side), event), Err(Refused));
            }
        }
    }
}

#[test]
fn a_verdict_is_always_terminal_and_a_move_never_is() {
    for state in State::ALL {
        for side in SIDES {
            for event in events() {
                match next(standing(state, side), event) {
                    Ok(Next::End(end, _)) => assert!(end.is_terminal()),
                    Ok(Next::Move(to)) => assert!(!to.is_terminal()),
                    Ok(Next::Stay | Next::GateOpens | Next::Requeue(_)) | Err(Refused) => {}
                }
            }
        }
    }
}

#[test]
fn nothing_that_may_have_changed_the_world_is_run_again() {
    for state in State::ALL {
        for event in events() {
            if matches!(event, Event::Withdraw | Event::Undelivered) {
                continue; // An unconfirmed offer cannot be behind the gate.
            }
            let next = after(state, event);
            assert!(!matches!(next, Ok(Next::Requeue(_))), "{state:?} {event:?}");
        }
    }
}

#[test]
fn the_way_of_a_job_that_goes_well() {
    assert_eq!(before(Pending, Event::Offer), Ok(Next::Move(Offered)));
    assert_eq!(before(Offered, Event::Confirm), Ok(Next::Move(Running)));
    assert_eq!(before(Running, Event::OpenGate), Ok(Next::GateOpens));
    assert_eq!(
        after(Running, Event::Finish(Outcome::Succeeded, None)),
        Ok(Next::End(Succeeded, Reason::Reported))
    );
}

#[test]
fn a_pending_or_offered_job_is_canceled_at_once() {
    let ended = Ok(Next::End(Canceled, Reason::Canceled));
    assert_eq!(before(Pending, Event::Cancel), ended);
    assert_eq!(before(Offered, Event::Cancel), ended);
}

#[test]
fn the_gate_stays_shut_once_a_cancel_was_asked_for() {
    assert_eq!(before(Canceling, Event::OpenGate), Err(Refused));
    assert_eq!(after(Canceling, Event::OpenGate), Ok(Next::Stay));
}

#[test]
fn asking_for_an_open_gate_again_changes_nothing() {
    assert_eq!(after(Running, Event::OpenGate), Ok(Next::Stay));
}

#[test]
fn a_success_stands_although_a_cancel_was_asked_for() {
    for side in SIDES {
        assert_eq!(
            next(
                standing(Canceling, side),
                Event::Finish(Outcome::Succeeded, None)
            ),
            Ok(Next::End(Succeeded, Reason::Reported))
        );
    }
}

#[test]
fn canceled_comes_from_our_token_and_failed_from_anything_else() {
    assert_eq!(
        after(Canceling, Event::Finish(Outcome::Canceled, None)),
        Ok(Next::End(Canceled, Reason::Reported))
    );
    assert_eq!(
        after(Canceling, Event::Finish(Outcome::Failed, None)),
        Ok(Next::End(Failed, Reason::Reported))
    );
}

#[test]
fn what_the_run_deadline_ended_is_failed_and_not_canceled() {
    let overdue = |side| Standing {
        asked: Asked::Deadline,
        ..standing(Canceling, side)
    };
    let failed = Ok(Next::End(Failed, Reason::RunDeadline));
    assert_eq!(
        before(Running, Event::RunDeadline),
        Ok(Next::Move(Canceling))
    );
    for side in SIDES {
        let canceled = Event::Finish(Outcome::Canceled, None);
        assert_eq!(next(overdue(side), canceled), failed);
        let succeeded = Event::Finish(Outcome::Succeeded, None);
        assert_eq!(
            next(overdue(side), succeeded),
            Ok(Next::End(Succeeded, Reason::Reported))
        );
    }
    for event in [Event::Lost, Event::Abandon, released(ReleaseReason::Drain)] {
        assert_eq!(next(overdue(Side::BeforeGate), event), failed);
    }
    assert_eq!(
        next(overdue(Side::AfterGate), Event::Lost),
        Ok(Next::End(Failed, Reason::WorkerLost))
    );
}

#[test]
fn only_a_pending_job_misses_its_queue_deadline() {
    assert_eq!(
        before(Pending, Event::QueueDeadline),
        Ok(Next::End(Failed, Reason::QueueDeadline))
    );
    for state in [Offered, Running, Canceling] {
        assert_eq!(before(state, Event::QueueDeadline), Err(Refused));
    }
}

#[test]
fn lost_before_the_gate_waits_again_and_counts() {
    assert_eq!(before(Running, Event::Lost), requeued(1, 0));
}

#[test]
fn lost_before_the_gate_is_canceled_if_that_was_asked_for() {
    assert_eq!(
        before(Canceling, Event::Lost),
        Ok(Next::End(Canceled, Reason::Canceled))
    );
}

#[test]
fn lost_after_the_gate_is_failed_even_when_canceling() {
    for state in [Running, Canceling] {
        assert_eq!(
            after(state, Event::Lost),
            Ok(Next::End(Failed, Reason::WorkerLost))
        );
    }
}

#[test]
fn releases_count_only_when_the_job_may_be_at_fault() {
    assert_eq!(
        before(Running, released(ReleaseReason::Drain)),
        requeued(0, 1)
    );
    assert_eq!(
        before(Running, released(ReleaseReason::NeverStarted)),
        requeued(0, 1)
    );
    assert_eq!(
        before(Running, released(ReleaseReason::WorkerLost)),
        requeued(1, 0)
    );
    assert_eq!(
        before(Running, released(ReleaseReason::DaemonRestarted)),
        requeued(1, 0)
    );
}

#[test]
fn an_unconfirmed_hand_out_does_not_count() {
    assert_eq!(before(Offered, Event::Withdraw), requeued(0, 1));
    assert_eq!(
        before(Offered, released(ReleaseReason::NeverStarted)),
        requeued(0, 1)
    );
}

#[test]
fn a_release_after_the_gate_is_a_loss() {
    assert_eq!(
        after(Running, released(ReleaseReason::Drain)),
        Ok(Next::End(Failed, Reason::WorkerLost))
    );
}

#[test]
fn the_third_counted_attempt_is_the_last() {
    let mut running = standing(Running, Side::BeforeGate);
    running.attempts.counted = 2;
    assert_eq!(
        next(running, Event::Lost),
        Ok(Next::End(Failed, Reason::AttemptsExhausted))
    );
    assert_eq!(
        next(running, released(ReleaseReason::Drain)),
        requeued(2, 1)
    );
}

#[test]
fn the_twentieth_uncounted_attempt_is_the_last() {
    let mut offered = standing(Offered, Side::BeforeGate);
    offered.attempts.uncounted = 18;
    assert_eq!(next(offered, Event::Withdraw), requeued(0, 19));
    offered.attempts.uncounted = 19;
    assert_eq!(
        next(offered, Event::Withdraw),
        Ok(Next::End(Failed, Reason::AttemptsExhausted))
    );
    // Its stream broke: that uses nothing up.
    assert_eq!(next(offered, Event::Undelivered), requeued(0, 19));
}

#[test]
fn only_a_job_in_someones_hands_can_be_abandoned() {
    assert_eq!(before(Pending, Event::Abandon), Err(Refused));
    assert_eq!(before(Offered, Event::Abandon), Err(Refused));
    assert_eq!(
        before(Running, Event::Abandon),
        Ok(Next::End(Failed, Reason::Abandoned))
    );
    assert_eq!(
        after(Running, Event::Abandon),
        Ok(Next::End(Failed, Reason::WorkerLost))
    );
}

#[test]
fn a_repeated_confirm_is_harmless() {
    assert_eq!(before(Running, Event::Confirm), Ok(Next::Stay));
    assert_eq!(before(Canceling, Event::Confirm), Ok(Next::Stay));
    assert_eq!(before(Pending, Event::Confirm), Err(Refused));
}

#[test]
fn every_state_has_a_text_of_its_own() {
    for state in State::ALL {
        assert_eq!(State::from_text(state.as_str()), Some(state));
    }
}
