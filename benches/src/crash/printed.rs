//! What engines print in their applies, read from their own output files by a thread of
//! ours while they run: which resources were complete, by the engine's own clock.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::world::Thing;
use crate::journal;

/// Far below the second after which a line counts, and what a kill at the gate is late by.
const POLL: Duration = Duration::from_millis(5);

/// A resource whose `apply_complete` was printed.
#[derive(Debug, Clone, PartialEq)]
pub struct Complete {
    /// What.
    pub thing: Thing,
    /// When, by the clock of the engine.
    pub at: jiff::Timestamp,
}

/// What was seen so far.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// A plan was being read.
    pub planned: Option<Instant>,
    /// A daemon was about to ask for the gate.
    pub gate_asked: Option<Instant>,
    /// The first apply began to print.
    pub apply_began: Option<Instant>,
    /// In the order they were printed.
    pub complete: Vec<Complete>,
}

/// Reads until it is ended.
pub struct Follower {
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Follows every apply of the jobs in `jobs`.
    pub fn start(jobs: &Path) -> Self {
        let (seen, end) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (jobs, seen, end) = (jobs.to_owned(), seen.clone(), end.clone());
            move || {
                let mut files = HashMap::new();
                while !end.load(Ordering::Relaxed) {
                    turn(&jobs, &mut files, &seen);
                    std::thread::sleep(POLL);
                }
            }
        });
        Self {
            seen,
            end,
            thread: Some(thread),
        }
    }

    /// What was printed so far.
    pub fn seen(&self) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics on nothing, and a case goes on without it.
            let _ = thread.join();
        }
    }
}

struct Tail {
    file: File,
    rest: Vec<u8>,
}

fn turn(jobs: &Path, files: &mut HashMap<PathBuf, Tail>, seen: &Mutex<Seen>) {
    let asked = || {
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .gate_asked
    };
    if asked().is_none() && entries(jobs).any(|job| journal::asks(&job.join("journal"))) {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.gate_asked = Some(Instant::now());
    }
    if !outputs(jobs, "-show.stdout").is_empty() {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.planned.get_or_insert_with(Instant::now);
    }
    for path in outputs(jobs, "-apply.stdout") {
        if files.contains_key(&path) {
            continue;
        }
        if let Ok(file) = File::open(&path) {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.apply_began.get_or_insert_with(Instant::now);
            let rest = Vec::new();
            files.insert(path, Tail { file, rest });
        }
    }
    for tail in files.values_mut() {
        if tail.file.read_to_end(&mut tail.rest).unwrap_or(0) == 0 {
            continue;
        }
        let Some(end) = tail.rest.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        let lines: Vec<u8> = tail.rest.drain(..=end).collect();
        let complete = lines.split(|byte| *byte == b'\n').filter_map(complete);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.complete.extend(complete);
    }
}

/// The outputs of this kind of every job.
fn outputs(jobs: &Path, ending: &str) -> Vec<PathBuf> {
    entries(jobs)
        .flat_map(|job| entries(&job.join("out")))
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect()
}

fn entries(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn complete(line: &[u8]) -> Option<Complete> {
    let event: Value = serde_json::from_slice(line).ok()?;
    if event["type"] != "apply_complete" || event["hook"]["action"] != "create" {
        return None;
    }
    Some(Complete {
        thing: Thing {
            address: event["hook"]["resource"]["addr"].as_str()?.to_owned(),
            id: event["hook"]["id_value"].as_str()?.to_owned(),
        },
        at: event["@timestamp"].as_str()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_read_with_its_id_and_its_time() {
        let line = r#"{"@level":"info","@message":"a.b[1]: Creation complete after 1s [id=x]","@timestamp":"2026-01-02T03:04:05.678901Z","hook":{"resource":{"addr":"a.b[1]"},"action":"create","id_key":"id","id_value":"x","elapsed_seconds":1},"type":"apply_complete"}"#;
        let found = complete(line.as_bytes()).expect("a completion");
        assert_eq!(
            (found.thing.address.as_str(), found.thing.id.as_str()),
            ("a.b[1]", "x")
        );
        assert_eq!(found.at.as_millisecond(), 1_767_323_045_678);
        assert!(complete(&line.replace("apply_complete", "apply_start").into_bytes()).is_none());
    }
}
