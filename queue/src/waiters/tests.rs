use super::*;

#[test]
fn a_job_wakes_one_waiter_that_can_take_it() {
    let waiters = Waiters::default();
    let other = waiters.register(domain(&[("env", "dev")]), "a", &[]);
    let first = waiters.register(domain(&[("env", "prod")]), "b", &[]);
    let second = waiters.register(domain(&[("env", "prod")]), "c", &[]);
    waiters.ready(&ready(&[("env", "prod")]));
    assert_eq!(
        [&other, &first, &second].map(is_woken),
        [false, true, false]
    );
}

#[test]
fn the_next_job_wakes_the_next_waiter() {
    let waiters = Waiters::default();
    let first = waiters.register(domain(&[]), "a", &[]);
    let second = waiters.register(domain(&[]), "b", &[]);
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
    let imports = waiters.register(imports, "a", &[]);
    let elsewhere = waiters.register(elsewhere, "a", &[]);
    waiters.ready(&ready(&[]));
    assert_eq!([&imports, &elsewhere].map(is_woken), [false, false]);
}

#[test]
fn a_wake_up_passes_on_when_its_waiter_goes_away() {
    let waiters = Waiters::default();
    let first = waiters.register(domain(&[]), "a", &[]);
    let second = waiters.register(domain(&[]), "b", &[]);
    waiters.ready(&ready(&[]));
    drop(first);
    assert!(is_woken(&second));
}

#[test]
fn a_waiter_that_took_another_job_passes_the_wake_up_on() {
    let waiters = Waiters::default();
    let mut first = waiters.register(domain(&[]), "a", &[]);
    let second = waiters.register(domain(&[]), "b", &[]);
    waiters.ready(&ready(&[]));
    first.begin_to_ask();
    first.took(JobId::generate());
    assert!(is_woken(&second));
}

#[test]
fn a_waiter_that_took_the_job_wakes_nobody() {
    let waiters = Waiters::default();
    let mut first = waiters.register(domain(&[]), "a", &[]);
    let second = waiters.register(domain(&[]), "b", &[]);
    let job = ready(&[]);
    waiters.ready(&job);
    first.begin_to_ask();
    first.took(job.job);
    assert!(!is_woken(&second));
}

#[test]
fn a_job_that_finds_only_woken_waiters_is_not_forgotten() {
    let waiters = Waiters::default();
    let mut gpu = waiters.register(domain(&[("gpu", "yes"), ("env", "prod")]), "a", &[]);
    let job = ready(&[("gpu", "yes")]);
    waiters.ready(&job);
    waiters.ready(&ready(&[("env", "prod")]));
    let prod = waiters.register(domain(&[("env", "prod")]), "b", &[]);
    gpu.begin_to_ask();
    gpu.took(job.job);
    assert!(is_woken(&prod));
}

#[test]
fn jobs_that_are_alike_pass_on_together_and_wake_one_each() {
    let waiters = Waiters::default();
    let mut first = waiters.register(domain(&[]), "a", &[]);
    let jobs = [ready(&[]), ready(&[]), ready(&[]), of_version("v1", "")];
    jobs.iter().for_each(|job| waiters.ready(job));
    let mut second = waiters.register(domain(&[]), "b", &[]);
    first.begin_to_ask();
    first.took(jobs[0].job);
    assert!(is_woken(&second));
    let third = waiters.register(domain(&[]), "c", &[]);
    let fourth = waiters.register(domain(&[]), "d", &[]);
    second.begin_to_ask();
    second.took(jobs[1].job);
    assert_eq!([&third, &fourth].map(is_woken), [true, true]);
    let noted = |waiter: &Waiter| {
        let mut state = waiters.lock();
        let entry = state.entry(&waiter.domain, waiter.id).expect("it waits");
        let jobs = entry.noted.0.iter().flat_map(|alike| alike.jobs.clone());
        jobs.collect::<Vec<_>>()
    };
    assert_eq!(noted(&third), [jobs[2].job]);
    assert_eq!(noted(&fourth), [jobs[3].job]);
}

#[test]
fn asking_makes_room_for_the_next_wake_up() {
    let waiters = Waiters::default();
    let mut only = waiters.register(domain(&[]), "a", &[]);
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
    let one = waiters.register(domain(&[]), "a", &[]);
    assert_eq!(waiters.len(), 1);
    drop(one);
    assert_eq!(waiters.len(), 0);
    assert!(waiters.lock().domains.is_empty());
    let holder = waiters.register(domain(&[]), "a", &holding("v1"));
    drop(holder);
    assert!(waiters.lock().holders.is_empty());
}

#[test]
fn a_job_wakes_an_idle_holder_of_its_version_before_one_of_its_providers() {
    let waiters = Waiters::default();
    let stranger = waiters.register(domain(&[]), "a", &[]);
    let providers = waiters.register(domain(&[]), "b", &holding("p"));
    let other = waiters.register(domain(&[]), "c", &holding("v2"));
    let version = waiters.register(domain(&[]), "d", &holding("v1"));
    let all = [&stranger, &providers, &other, &version];
    let job = of_version("v1", "p");
    waiters.ready(&job);
    assert_eq!(all.map(is_woken), [false, false, false, true]);
    waiters.ready(&of_version("v1", "p"));
    assert_eq!(all.map(is_woken), [false, true, false, true]);
    // None of those waits any more: it goes to who has waited longest.
    waiters.ready(&of_version("v1", "p"));
    assert_eq!(all.map(is_woken), [true, true, false, true]);
}

#[test]
fn a_holder_that_cannot_take_the_job_is_not_woken_for_it() {
    let waiters = Waiters::default();
    let holder = waiters.register(domain(&[("gpu", "yes")]), "a", &holding("v1"));
    let able = waiters.register(domain(&[]), "b", &[]);
    waiters.ready(&of_version("v1", ""));
    assert_eq!([&holder, &able].map(is_woken), [false, true]);
}

#[test]
fn a_wake_up_that_passes_on_prefers_a_holder_too() {
    let waiters = Waiters::default();
    let first = waiters.register(domain(&[]), "a", &holding("v1"));
    let stranger = waiters.register(domain(&[]), "b", &[]);
    let second = waiters.register(domain(&[]), "c", &holding("v1"));
    waiters.ready(&of_version("v1", ""));
    drop(first);
    assert_eq!([&stranger, &second].map(is_woken), [false, true]);
}

#[test]
fn a_version_without_providers_is_nobodys_by_them() {
    let waiters = Waiters::default();
    let first = waiters.register(domain(&[]), "a", &[]);
    let second = waiters.register(domain(&[]), "b", &holding("v2"));
    waiters.ready(&of_version("v1", ""));
    assert_eq!([&first, &second].map(is_woken), [true, false]);
    assert_eq!(Hold::of(""), None);
}

#[test]
fn a_job_wakes_the_waiter_with_the_fewest_tags_that_it_did_not_ask_for() {
    let waiters = Waiters::default();
    // In the order of domains the special ones come first.
    let many = waiters.register(
        domain(&[("arch", "arm"), ("env", "x"), ("gpu", "y")]),
        "a",
        &[],
    );
    let two = waiters.register(domain(&[("arch", "arm"), ("env", "x")]), "b", &[]);
    let one = waiters.register(domain(&[("env", "x")]), "c", &[]);
    let all = [&many, &two, &one];
    for expected in [
        [false, false, true],
        [false, true, true],
        [true, true, true],
    ] {
        waiters.ready(&ready(&[("env", "x")]));
        assert_eq!(all.map(is_woken), expected);
    }
}

fn holding(name: &str) -> Vec<Hold> {
    Hold::of(name).into_iter().collect()
}

fn of_version(version: &str, providers: &str) -> Ready {
    Ready {
        affinity: Affinity {
            version: version.to_owned(),
            providers: providers.to_owned(),
        },
        ..ready(&[])
    }
}

#[test]
fn a_daemon_is_woken_by_name() {
    let waiters = Waiters::default();
    let one = waiters.register(domain(&[]), "a", &[]);
    let two = waiters.register(domain(&[]), "b", &[]);
    waiters.wake_daemon("default", "b");
    assert_eq!([&one, &two].map(is_woken), [false, true]);
}

#[test]
fn a_job_wakes_a_waiter_that_offers_its_engine() {
    let waiters = Waiters::default();
    let offering = |engine: &str, name| {
        let mut domain = domain(&[]);
        domain.facts.insert("engine".into(), engine.into());
        waiters.register(domain, name, &[])
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
        affinity: Affinity::default(),
    }
}
