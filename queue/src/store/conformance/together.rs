//! Several daemons that are served in one transaction.

use proto::ids::JobId;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::world::{ORG, World, contact, replica, submission, tags};
use crate::store::model::{
    Acquire, Acquired, DaemonContact, Drain, SetLimit, Submission, VersionRow,
};
use crate::store::{Error, Store};
use crate::words::{LimitOf, Priority};

fn ask(contact: DaemonContact) -> Acquire {
    Acquire {
        contact,
        kinds: Vec::new(),
    }
}

/// A daemon of one half of the fleet.
fn daemon(half: &str, number: usize) -> DaemonContact {
    let mut contact = contact(&format!("{half} {number}"));
    contact.tags = tags(&[("scope", "organization"), ("owner", ""), ("half", half)]);
    contact
}

/// Job numbers in the order in which they are submitted, by job id.
struct Half<'w, S> {
    world: &'w World<S>,
    name: &'static str,
    jobs: Vec<JobId>,
}

impl<S: Store> Half<'_, S> {
    async fn submit(&mut self, version: &VersionRow, owner: u32, priority: Priority) {
        let of = Submission {
            owner: format!("{} {owner}", self.name),
            tags: tags(&[
                ("scope", "organization"),
                ("owner", ""),
                ("half", self.name),
            ]),
            priority,
            ..submission("")
        };
        let submitted = self.world.plan(version, of).await;
        self.jobs.push(submitted);
    }

    fn number(&self, acquired: Acquired) -> Option<usize> {
        let job = acquired.job()?;
        let at = self.jobs.iter().position(|id| id.to_string() == job.id);
        Some(at.expect("of this half"))
    }
}

pub(crate) async fn several_get_what_they_would_get_one_by_one<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let half = |name| Half {
        world: &world,
        name,
        jobs: Vec::new(),
    };
    let (mut one, mut all) = (half("one"), half("all"));
    let mut random = StdRng::seed_from_u64(20_261_130);
    let mut several = 0;
    for round in 0..60 {
        for _ in 0..random.random_range(0..8) {
            let owner = random.random_range(0..4);
            let priority = match random.random_range(0..4) {
                0 => Priority::Automatic,
                _ => Priority::Interactive,
            };
            one.submit(&version, owner, priority).await;
            all.submit(&version, owner, priority).await;
        }
        // Now and then an automatic job becomes due.
        world.pass(random.random_range(0..200)).await;
        let count = random.random_range(1..7);
        let mut one_by_one = Vec::new();
        for number in 0..count {
            let acquired = world.store.acquire(ask(daemon("one", number))).await;
            one_by_one.push(one.number(acquired.expect("an answer")));
        }
        let asks = (0..count).map(|number| ask(daemon("all", number)));
        let answers = world.store.acquire_all(asks.collect()).await;
        let answers = answers.expect("answers").into_iter();
        let together: Vec<_> = answers
            .map(|answer| all.number(answer.expect("looked at").expect("an answer")))
            .collect();
        assert_eq!(together, one_by_one, "round {round}");
        several += usize::from(together.iter().flatten().count() > 1);
    }
    assert!(several > 5, "hardly ever several got a job");
}

pub(crate) async fn who_is_refused_keeps_nobody_from_a_job<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    for _ in 0..2 {
        world.plan(&version, submission("ann")).await;
    }
    let mut stranger = contact("stranger");
    stranger.key_hash = [9; 32];
    let mut impostor = contact("taken");
    "another instance".clone_into(&mut impostor.daemon.instance);
    for name in ["drains", "taken"] {
        let opened = world.store.open_control(contact(name), replica()).await;
        opened.expect("opened");
    }
    let drains = world
        .store
        .set_drain(ORG.to_owned(), "drains".to_owned(), Drain::On);
    drains.await.expect("drains");
    let asks = [
        stranger,
        contact("first"),
        impostor,
        contact("drains"),
        contact("second"),
    ];
    let answers = world.store.acquire_all(asks.map(ask).to_vec()).await;
    let mut answers = answers.expect("answers").into_iter().flatten();
    let mut next = || answers.next().expect("an answer");
    assert!(matches!(next(), Err(Error::NotFound { .. })));
    assert!(matches!(next(), Ok(Acquired::Job(_))));
    assert!(matches!(next(), Err(Error::DaemonNameTaken { .. })));
    assert!(matches!(next(), Ok(Acquired::Draining)));
    assert!(matches!(next(), Ok(Acquired::Job(_))));
}

pub(crate) async fn a_limit_holds_for_several_at_once<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let limit = SetLimit {
        organization: ORG.to_owned(),
        of: LimitOf::Owner,
        name: "ann".to_owned(),
        most: Some(2),
    };
    world.store.set_limit(limit).await.expect("a limit");
    for owner in ["ann", "ann", "ann", "bob"] {
        world.plan(&version, submission(owner)).await;
    }
    let mut asks: Vec<Acquire> = { 0..5 }
        .map(|number| ask(contact(&format!("worker {number}"))))
        .collect();
    let (mut given, mut turns) = (0, 0);
    while !asks.is_empty() {
        turns += 1;
        let answers = world.store.acquire_all(asks.clone()).await;
        let mut left = Vec::new();
        for (ask, answer) in asks.into_iter().zip(answers.expect("answers")) {
            match answer {
                Some(answer) => given += usize::from(answer.expect("an answer").job().is_some()),
                None => left.push(ask),
            }
        }
        asks = left;
        assert!(turns < 6, "no end");
    }
    assert_eq!(given, 3, "two of hers and the other one's");
}
