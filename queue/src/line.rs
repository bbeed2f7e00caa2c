//! A line of callers who are served together: whoever serves takes all that stand in it, at
//! most [`TOGETHER`], again and again until nobody does. Who finds nobody serving has to
//! begin, and waits for nobody. Those who are held up hold up whom they are served with, and
//! others no longer than [`PATIENCE`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// How many are served together at most: what they are given lies in memory, and those behind
/// them wait for it.
pub const TOGETHER: usize = 64;

/// Where several were served together a moment ago others are about to come: who begins then
/// lets them, for so long.
const GATHER: Duration = Duration::from_millis(1);

/// How long ago that may be.
const MOMENT: Duration = Duration::from_millis(50);

/// Who has stood in line for so long, and nobody was served meanwhile, does not wait for
/// whoever is being served.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// How many serve at a time, when those before are held up.
pub const AT_ONCE: usize = 4;

/// See the module. Clones share it.
#[derive(Debug)]
pub struct Line<T>(Arc<Mutex<Standing<T>>>);

#[derive(Debug)]
struct Standing<T> {
    waiting: VecDeque<T>,
    /// [`PATIENCE`], but in tests.
    patience: Duration,
    /// How many serve them.
    serving: usize,
    /// When somebody was served last.
    served: Option<Instant>,
    /// When several were.
    several: Option<Instant>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Standing {
            waiting: VecDeque::new(),
            patience: PATIENCE,
            serving: 0,
            served: None,
            several: None,
        })))
    }
}

impl<T> Clone for Line<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Line<T> {
    /// Stands in line until there is an answer; `serve` is told when somebody has to serve.
    /// Cancel safe: who goes away is served all the same, and the answer is dropped.
    ///
    /// # Errors
    /// Whoever served has dropped the other end, which only one who panics does.
    pub async fn stand<A>(
        &self,
        one: T,
        mut told: oneshot::Receiver<A>,
        serve: impl Fn(Serving<T>),
    ) -> Result<A, oneshot::error::RecvError> {
        let mut serving = self.join(one);
        let patience = self.lock().patience;
        loop {
            if let Some(serving) = serving {
                serve(serving);
            }
            match tokio::time::timeout(patience, &mut told).await {
                Ok(answer) => return answer,
                Err(_) => serving = self.overdue(),
            }
        }
    }

    /// Joins the line; who finds nobody serving has to.
    pub fn join(&self, one: T) -> Option<Serving<T>> {
        let mut line = self.lock();
        line.waiting.push_back(one);
        (line.serving == 0).then(|| self.begin(&mut line))
    }

    /// One more has to serve: those in line wait too long.
    pub fn overdue(&self) -> Option<Serving<T>> {
        let mut line = self.lock();
        let moves = line.served.is_some_and(|at| at.elapsed() < line.patience);
        let needed = !moves && !line.waiting.is_empty() && line.serving < AT_ONCE;
        needed.then(|| self.begin(&mut line))
    }

    /// For tests in which those in line stand until they are let go, however long it takes.
    #[cfg(test)]
    pub fn have_patience(&self, patience: Duration) {
        self.lock().patience = patience;
    }

    /// How many stand in it.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn begin(&self, line: &mut Standing<T>) -> Serving<T> {
        line.serving += 1;
        line.served = Some(Instant::now());
        Serving {
            line: self.clone(),
            ended: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing<T>> {
        // Every change is complete before the guard goes, also in a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who serves a line. When it panics others are served by the next one who begins.
#[derive(Debug)]
pub struct Serving<T> {
    line: Line<T>,
    ended: bool,
}

impl<T> Serving<T> {
    /// Lets those come who are about to, where it is likely that there are any. To be waited
    /// for before the first are served. Cancel safe.
    pub async fn gather(&self) {
        let several = self.line.lock().several;
        if several.is_some_and(|at| at.elapsed() < MOMENT) {
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Those who are served next, first the one who came first. When nobody is left this one
    /// has ended: who comes then finds it gone.
    pub fn next(&mut self) -> Option<Vec<T>> {
        let mut line = self.line.lock();
        let count = line.waiting.len().min(TOGETHER);
        if count == 0 {
            line.serving -= 1;
            self.ended = true;
            return None;
        }
        line.served = Some(Instant::now());
        if count > 1 {
            line.several = line.served;
        }
        Some(line.waiting.drain(..count).collect())
    }

    /// Puts those back, in front, who were not served.
    pub fn again(&self, left: Vec<T>) {
        let mut line = self.line.lock();
        for one in left.into_iter().rev() {
            line.waiting.push_front(one);
        }
    }
}

impl<T> Drop for Serving<T> {
    fn drop(&mut self) {
        if !self.ended {
            self.line.lock().serving -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn gathers(line: &Line<u8>) -> bool {
        let serving = line.join(0).expect("nobody serves");
        let begun = Instant::now();
        serving.gather().await;
        let mut serving = serving;
        while serving.next().is_some() {}
        begun.elapsed() >= GATHER
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_waits_only_where_several_came_a_moment_ago() {
        let line = Line::default();
        assert!(!gathers(&line).await);
        assert!(!gathers(&line).await, "one at a time");
        let mut serving = line.join(1).expect("nobody serves");
        assert!(line.join(2).is_none());
        assert_eq!(serving.next(), Some(vec![1, 2]));
        assert_eq!(serving.next(), None);
        assert!(gathers(&line).await);
        tokio::time::advance(MOMENT).await;
        assert!(!gathers(&line).await, "that was long ago");
    }
}
