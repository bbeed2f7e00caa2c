use super::*;

#[test]
fn a_job_wakes_one_waiter_that_can_take_it() {
    let waiters = Waiters::default();
    let other = waiters.register(domain(&[("env", "dev")]), "a");
    let first = waiters.register(domain(&[("env", "prod")]), "b");
    let second = waiters.register(domain(&[("env", "prod")]), "c");
    waiters.ready(&ready(&[("env", "prod")]));
    assert_eq!(
        [&other, &first, &second].map(is_woken),
        [false, true, false]
    );
}

#[test]
fn the_next_job_wakes_the_next_waiter() {
    let waiters = Waiters::default();
    let first = waiters.register(domain(&[]), "a");
    let second = waiters.register(domain(&[]), "b");
    waiters.ready(&ready(&[]));
    waiters.ready(&ready(&[]));
    assert_eq!([&first, &second].map(is_woken), [true, true]);
}

#[test]
fn kinds_and_organizations_are_respected() {
    let waiters = Waiters::default();
    let mut imports = domain(&[]);
    imports.kinds = vec![Kind::TemplateImport];
    let mut elsewhere = domain(&[]);
    elsewhere.organization = "other".into();
    let imports = waiters.register(imports, "a");
    let elsewhere = waiters.register(elsewhere, "a");
    waiters.ready(&ready(&[]));
    assert_eq!([&imports, &elsewhere].map(is_woken), [false, false]);
}

#[test]
fn a_wake_up_passes_on_when_its_waiter_goes_away() {
    let waiters = Waiters::default();
    let first = waiters.register(domain(&[]), "a");
    let second = waiters.register(domain(&[]), "b");
    waiters.ready(&ready(&[]));
    drop(first);
    assert!(is_woken(&second));
}

#[test]
fn a_waiter_that_took_another_job_passes_the_wake_up_on() {
    let waiters = Waiters::default();
    let mut first = waiters.register(domain(&[]), "a");
    let second = waiters.register(domain(&[]), "b");
    waiters.ready(&ready(&[]));
    first.begin_to_ask();
    first.took(JobId::generate());
    assert!(is_woken(&second));
}

#[test]
fn a_waiter_that_took_the_job_wakes_nobody() {
    let waiters = Waiters::default();
    let mut first = waiters.register(domain(&[]), "a");
    let second = waiters.register(domain(&[]), "b");
    let job = ready(&[]);
    waiters.ready(&job);
    first.begin_to_ask();
    first.took(job.job);
    assert!(!is_woken(&second));
}

#[test]
fn a_job_that_finds_only_woken_waiters_is_not_forgotten() {
    let waiters = Waiters::default();
    let mut gpu = waiters.register(domain(&[("gpu", "yes"), ("env", "prod")]), "a");
    let job = ready(&[("gpu", "yes")]);
    waiters.ready(&job);
    waiters.ready(&ready(&[("env", "prod")]));
    let prod = waiters.register(domain(&[("env", "prod")]), "b");
    gpu.begin_to_ask();
    gpu.took(job.job);
    assert!(is_woken(&prod));
}

#[test]
fn asking_makes_room_for_the_next_wake_up() {
    let waiters = Waiters::default();
    let mut only = waiters.register(domain(&[]), "a");
    waiters.ready(&ready(&[]));
    assert!(is_woken(&only));
    only.begin_to_ask();
    only.found_nothing();
    assert!(!is_woken(&only));
    waiters.ready(&ready(&[]));
    assert!(is_woken(&only));
}

#[test]
fn nothing_is_left_of_waiters_that_went() {
    let waiters = Waiters::default();
    let one = waiters.register(domain(&[]), "a");
    assert_eq!(waiters.len(), 1);
    drop(one);
    assert_eq!(waiters.len(), 0);
    assert!(waiters.lock().domains.is_empty());
}

#[test]
fn a_daemon_is_woken_by_name() {
    let waiters = Waiters::default();
    let one = waiters.register(domain(&[]), "a");
    let two = waiters.register(domain(&[]), "b");
    waiters.wake_daemon("default", "b");
    assert_eq!([&one, &two].map(is_woken), [false, true]);
}

#[test]
fn a_job_wakes_a_waiter_that_offers_its_engine() {
    let waiters = Waiters::default();
    let offering = |engine: &str, name| {
        let mut domain = domain(&[]);
        domain.facts.insert("engine".into(), engine.into());
        waiters.register(domain, name)
    };
    let terraform = offering("terraform", "a");
    let both = offering("terraform,tofu", "b");
    let job = Ready {
        engine: "tofu".into(),
        ..ready(&[])
    };
    waiters.ready(&job);
    assert_eq!([&terraform, &both].map(is_woken), [false, true]);
}

fn is_woken(waiter: &Waiter) -> bool {
    waiter
        .waiters
        .lock()
        .entry(&waiter.domain, waiter.id)
        .is_some_and(|entry| entry.woken)
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    let tags = proto::tags::Tags::new(pairs.iter().copied());
    tags.expect("tags").into_pairs()
}

fn domain(pairs: &[(&str, &str)]) -> Domain {
    Domain {
        organization: "default".into(),
        tags: tags(pairs),
        facts: Tags::new(),
        kinds: Vec::new(),
    }
}

fn ready(pairs: &[(&str, &str)]) -> Ready {
    Ready {
        job: JobId::generate(),
        organization: "default".into(),
        tags: tags(pairs),
        engine: String::new(),
        kind: Kind::WorkspaceBuild,
    }
}
