use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proto::v1::Lease;
use tokio::sync::Semaphore;

use super::*;
use crate::line::{AT_ONCE, PATIENCE, TOGETHER};
use crate::store::conformance::world::contact;

/// Gives what it is told to, a batch for each permit.
#[derive(Clone)]
struct Scripted {
    permits: Arc<Semaphore>,
    answer: fn(&Acquire) -> Option<store::Result<Acquired>>,
    batches: Arc<Mutex<Vec<usize>>>,
    back: Arc<AtomicUsize>,
}

impl Scripted {
    fn new(answer: fn(&Acquire) -> Option<store::Result<Acquired>>) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(0)),
            answer,
            batches: Arc::default(),
            back: Arc::default(),
        }
    }

    fn batches(&self) -> Vec<usize> {
        self.batches.lock().expect("no panic").clone()
    }
}

impl Gives for Scripted {
    async fn give(&self, asks: Vec<Acquire>) -> store::Result<HandedOut> {
        let has = |name: &str| asks.iter().any(|ask| ask.contact.daemon.name == name);
        if has("held up") {
            std::future::pending::<()>().await;
        }
        self.permits.acquire().await.expect("open").forget();
        self.batches.lock().expect("no panic").push(asks.len());
        assert!(!has("panics"), "told to panic");
        if has("closed") {
            return Err(store::Error::Closed);
        }
        if has("fails") {
            return Err(store::Error::Backend {
                doing: "was told to fail",
                source: "scripted".into(),
            });
        }
        Ok(asks.iter().map(self.answer).collect())
    }

    async fn take_back(&self, _: JobId, _: LeaseId) -> store::Result<()> {
        self.back.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn ask(name: &str) -> Acquire {
    Acquire {
        contact: contact(name),
        kinds: Vec::new(),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "an answer of a script")]
fn job(_: &Acquire) -> Option<store::Result<Acquired>> {
    Some(Ok(Acquired::Job(Box::new(Job {
        id: JobId::generate().to_string(),
        lease: Some(Lease {
            id: LeaseId::generate().as_bytes().to_vec(),
            ..Lease::default()
        }),
        ..Job::default()
    }))))
}

/// Joins so many; who has to serve does it.
fn join(line: &HandOuts, from: &Scripted, names: &[&str]) -> Vec<Told> {
    let join = |name: &&str| {
        let (asking, told) = Asking::new(ask(name));
        if let Some(serving) = line.0.join(asking) {
            tokio::spawn(all(serving, from.clone()));
        }
        told
    };
    names.iter().map(join).collect()
}

async fn begun(from: &Scripted, batches: usize) {
    while from.batches().len() < batches {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_asks_meanwhile_is_served_with_the_next() {
    let (line, from) = (HandOuts::default(), Scripted::new(job));
    let first = join(&line, &from, &["one"]);
    tokio::task::yield_now().await;
    let others = join(&line, &from, &["two", "three", "four"]);
    from.permits.add_permits(2);
    for told in first.into_iter().chain(others) {
        let answer = told.await.expect("an answer").expect("a job");
        assert!(matches!(answer, Acquired::Job(_)));
    }
    assert_eq!(from.batches(), [1, 3]);
    // The line is empty and nobody serves: the next one does.
    from.permits.add_permits(1);
    let told = join(&line, &from, &["five"]).pop().expect("one");
    assert!(told.await.expect("an answer").is_ok());
}

#[tokio::test]
async fn who_was_not_looked_at_is_in_front_of_the_next() {
    fn later(ask: &Acquire) -> Option<store::Result<Acquired>> {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let again = ask.contact.daemon.name == "late" && ASKED.fetch_add(1, Ordering::SeqCst) < 2;
        (!again).then_some(Ok(Acquired::Nothing))
    }
    let (line, from) = (HandOuts::default(), Scripted::new(later));
    let told = join(&line, &from, &["late", "two"]);
    from.permits.add_permits(4);
    for told in told {
        assert_eq!(told.await.expect("an answer").ok(), Some(Acquired::Nothing));
    }
    assert_eq!(
        from.batches().iter().sum::<usize>(),
        4,
        "one of them thrice"
    );
}

#[tokio::test]
async fn no_more_are_served_together_than_so_many() {
    let (line, from) = (HandOuts::default(), Scripted::new(job));
    let told = join(&line, &from, &["one"; TOGETHER + 3]);
    from.permits.add_permits(2);
    for told in told {
        assert!(told.await.expect("an answer").is_ok());
    }
    assert_eq!(from.batches(), [TOGETHER, 3]);
}

#[tokio::test]
async fn what_fails_for_one_is_told_to_that_one() {
    let (line, from) = (HandOuts::default(), Scripted::new(job));
    let told = join(&line, &from, &["one", "fails", "three"]);
    from.permits.add_permits(4);
    let mut answers = Vec::new();
    for told in told {
        answers.push(told.await.expect("an answer").is_ok());
    }
    assert_eq!(answers, [true, false, true]);
    assert_eq!(from.batches(), [3, 1, 1, 1]);
}

#[tokio::test]
async fn what_is_given_to_nobody_goes_back() {
    let (line, from) = (HandOuts::default(), Scripted::new(job));
    drop(join(&line, &from, &["gone"]));
    from.permits.add_permits(1);
    while from.back.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_held_up_does_not_hold_up_all() {
    let (line, from) = (HandOuts::default(), Scripted::new(job));
    from.permits.add_permits(1);
    let mut held_up = join(&line, &from, &["held up"]);
    tokio::task::yield_now().await;
    let next = join(&line, &from, &["next"]).pop().expect("one");
    assert!(line.0.overdue().is_none(), "it has not waited yet");
    tokio::time::advance(PATIENCE).await;
    tokio::spawn(all(line.0.overdue().expect("one more"), from.clone()));
    assert!(next.await.expect("an answer").is_ok());

    for _ in 1..AT_ONCE {
        held_up.extend(join(&line, &from, &["held up"]));
        tokio::time::advance(PATIENCE).await;
        tokio::spawn(all(line.0.overdue().expect("one more"), from.clone()));
        tokio::task::yield_now().await;
    }
    let next = join(&line, &from, &["next"]);
    tokio::time::advance(PATIENCE).await;
    assert!(line.0.overdue().is_none(), "no more than so many");
    drop((next, held_up));
}

#[tokio::test]
async fn all_are_told_when_the_store_fails_and_when_it_panics() {
    let (line, from) = (HandOuts::default(), Scripted::new(job));
    let failed = join(&line, &from, &["1", "2", "closed", "4"]);
    from.permits.add_permits(1);
    for told in failed {
        assert!(told.await.expect("an answer").is_err());
    }
    let panicked = join(&line, &from, &["1", "panics"]);
    from.permits.add_permits(1);
    for told in panicked {
        assert!(told.await.is_err(), "nobody is left to answer");
    }
    begun(&from, 2).await;
    let told = join(&line, &from, &["again"]).pop().expect("one");
    from.permits.add_permits(1);
    assert!(told.await.expect("an answer").is_ok());
}
