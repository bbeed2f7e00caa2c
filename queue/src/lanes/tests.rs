use proto::ids::JobId;

use super::*;
use crate::matching::Affinity;

#[test]
fn nothing_is_known_before_the_first_look() {
    let lanes = Lanes::default();
    assert!(lanes.may_have(&domain("prod")));
    lanes.learn(lanes.ask(), []);
    assert!(!lanes.may_have(&domain("prod")));
}

#[test]
fn a_lane_is_there_for_those_who_can_take_from_it() {
    let lanes = known();
    lanes.ready(&ready("prod"));
    assert!(lanes.may_have(&domain("prod")));
    assert!(!lanes.may_have(&domain("dev")));
    let elsewhere = Domain {
        organization: "other".into(),
        ..domain("prod")
    };
    assert!(!lanes.may_have(&elsewhere));
}

#[test]
fn a_question_in_vain_ends_what_was_told_before_it_only() {
    let lanes = known();
    lanes.ready(&ready("prod"));
    lanes.ready(&ready("dev"));
    let asked = lanes.ask();
    lanes.found_nothing(asked, &domain("prod"));
    assert!(!lanes.may_have(&domain("prod")));
    assert!(lanes.may_have(&domain("dev")));
    let asked = lanes.ask();
    lanes.ready(&ready("dev"));
    lanes.found_nothing(asked, &domain("dev"));
    assert!(
        lanes.may_have(&domain("dev")),
        "it came during the question"
    );
}

#[test]
fn a_look_replaces_what_was_told_before_it() {
    let lanes = known();
    lanes.ready(&ready("old"));
    let asked = lanes.ask();
    lanes.ready(&ready("new"));
    lanes.learn(asked, [ready("seen")]);
    let has = |env| lanes.may_have(&domain(env));
    assert_eq!([has("old"), has("seen"), has("new")], [false, true, true]);
}

#[test]
fn after_lost_events_everybody_asks_until_the_next_look() {
    let lanes = known();
    let before = lanes.ask();
    lanes.forget();
    assert!(lanes.may_have(&domain("prod")));
    lanes.learn(before, []);
    assert!(lanes.may_have(&domain("prod")), "it began before the loss");
    lanes.learn(lanes.ask(), []);
    assert!(!lanes.may_have(&domain("prod")));
}

#[test]
fn nothing_is_left_of_lanes_that_were_emptied() {
    let lanes = known();
    lanes.ready(&ready("prod"));
    lanes.learn(lanes.ask(), []);
    assert!(lanes.lock().lanes.is_empty());
}

fn known() -> Lanes {
    let lanes = Lanes::default();
    lanes.learn(lanes.ask(), []);
    lanes
}

#[test]
fn a_lane_of_a_named_engine_is_there_for_those_who_offer_it() {
    let lanes = known();
    let of = |engine: &str| Domain {
        facts: Tags::from([("engine".to_owned(), engine.to_owned())]),
        ..domain("prod")
    };
    let tofu = Ready {
        engine: "tofu".into(),
        ..ready("prod")
    };
    lanes.ready(&tofu);
    assert!(lanes.may_have(&of("terraform,tofu")));
    assert!(!lanes.may_have(&of("terraform")));
    // It does not stand in for the lane of any engine, nor that one for it.
    lanes.ready(&ready("prod"));
    lanes.found_nothing(lanes.ask(), &of("terraform"));
    assert!(!lanes.may_have(&of("terraform")));
    assert!(lanes.may_have(&of("tofu")));
}

fn tags(env: &str) -> Tags {
    let tags = proto::tags::Tags::new([("env", env)]);
    tags.expect("tags").into_pairs()
}

fn domain(env: &str) -> Domain {
    Domain {
        organization: "default".into(),
        tags: tags(env),
        facts: Tags::new(),
        kinds: Vec::new(),
    }
}

fn ready(env: &str) -> Ready {
    Ready {
        job: JobId::generate(),
        organization: "default".into(),
        tags: tags(env),
        engine: String::new(),
        kind: Kind::WorkspaceBuild,
        affinity: Affinity::default(),
    }
}
