use super::super::grab::GRABBED_FILE;
use super::*;
use crate::link;
use crate::run::ledger::Ledger;
use std::fs;
use std::sync::Mutex;
use tokio::net::UnixStream;

fn state(serial: u64, lineage: &str) -> String {
    format!(r#"{{"version":4,"serial":{serial},"lineage":"{lineage}","resources":[]}}"#)
}

struct Place {
    dir: tempfile::TempDir,
    ledger: SharedLedger,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        fs::create_dir(dir.path().join("work")).expect("work");
        fs::create_dir(dir.path().join("keep")).expect("keep");
        let ledger = Mutex::new(Ledger::default());
        Self { dir, ledger }
    }

    fn checkpoints(&self) -> Checkpoints {
        let (work, keep) = (self.dir.path().join("work"), self.dir.path().join("keep"));
        Checkpoints::new(work, keep, 1 << 20, Habit::EachResource, None)
    }

    fn put(&self, text: &str) {
        fs::write(self.dir.path().join("work").join(STATE_FILE), text).expect("write");
    }

    fn kept(&self) -> usize {
        fs::read_dir(self.dir.path().join("keep"))
            .expect("keep")
            .count()
    }
}

/// A daemon, and what it is told.
fn daemon() -> (Outbox<FromWorker>, link::Receiver<FromWorker>) {
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let (_, sender) = link::split::<FromWorker, FromWorker>(ours, 1 << 20);
    let (told, _) = link::split::<FromWorker, FromWorker>(theirs, 1 << 20);
    (Outbox::start(sender).0, told)
}

/// One look and its judgement.
async fn save(checkpoints: &mut Checkpoints, place: &Place) -> Option<LocalCheckpoint> {
    checkpoints.grab().await;
    checkpoints.judge(&place.ledger).await
}

#[tokio::test]
async fn a_good_state_is_kept_whole_and_named_by_its_digest() {
    let place = Place::new();
    let mut checkpoints = place.checkpoints();
    place.put(&state(1, "l"));
    let told = save(&mut checkpoints, &place).await.expect("told");
    let kept = fs::read(place.dir.path().join("keep").join(&told.file)).expect("kept");
    assert_eq!(kept, state(1, "l").as_bytes());
    assert_eq!(digest(&told), Digest::of(&kept).as_bytes());
}

#[tokio::test]
async fn empty_torn_foreign_and_older_states_are_not_kept() {
    let place = Place::new();
    let mut checkpoints = place.checkpoints();
    place.put(&state(5, "l"));
    save(&mut checkpoints, &place).await.expect("told");
    for text in ["", "{\"version\":4", &state(6, "other"), &state(4, "l")] {
        place.put(text);
        assert_eq!(save(&mut checkpoints, &place).await, None, "{text}");
    }
    assert_eq!(
        checkpoints.newest().map(|saved| serial(&saved.told)),
        Some(5)
    );
}

#[tokio::test]
async fn only_the_newest_copies_stay() {
    let place = Place::new();
    let mut checkpoints = place.checkpoints();
    for serial in 1..10 {
        place.put(&state(serial, "l"));
        save(&mut checkpoints, &place).await.expect("told");
    }
    assert_eq!(place.kept(), COPIES);
}

#[tokio::test]
async fn the_daemon_hears_of_each_state_while_an_apply_runs() {
    let place = Place::new();
    let (outbox, mut told) = daemon();
    let (end, ended) = watch::channel(false);
    let mut checkpoints = place.checkpoints();
    let following = checkpoints.follow(&place.ledger, (ended, None), &outbox);
    let writing = async {
        for expected in 1..=3 {
            place.put(&state(expected, "l"));
            let message = told.next().await.expect("frame").expect("open").message;
            let Some(from_worker::Message::Checkpoint(checkpoint)) = message else {
                panic!("{message:?}");
            };
            assert_eq!(serial(&checkpoint), expected);
        }
        end.send_replace(true);
    };
    tokio::join!(following, writing);
}

#[tokio::test]
async fn a_state_that_was_written_before_the_first_look_is_told() {
    let place = Place::new();
    let (outbox, mut told) = daemon();
    let (end, ended) = watch::channel(false);
    let mut checkpoints = place.checkpoints();
    // A quick engine: it was started, and nobody has followed it yet.
    place.put(&state(1, "l"));
    let following = checkpoints.follow(&place.ledger, (ended, None), &outbox);
    let hearing = async {
        told.next().await.expect("frame").expect("open");
        end.send_replace(true);
    };
    let both = async { tokio::join!(following, hearing) };
    let heard = tokio::time::timeout(Duration::from_secs(20), both).await;
    assert!(heard.is_ok(), "it was taken for the state before");
}

#[tokio::test]
async fn the_state_the_build_started_from_is_no_checkpoint() {
    let place = Place::new();
    let text = state(5, "l");
    let base = Base {
        header: state_file::header(text.as_bytes()).expect("state"),
        digest: Digest::of(text.as_bytes()).as_bytes().to_vec(),
    };
    let (work, keep) = (place.dir.path().join("work"), place.dir.path().join("keep"));
    let mut checkpoints = Checkpoints::new(work, keep, 1 << 20, Habit::EachResource, Some(&base));
    place.put(&text);
    assert!(save(&mut checkpoints, &place).await.is_none());
    assert_eq!(place.kept(), 0);
    place.put(&state(6, "l"));
    let told = save(&mut checkpoints, &place).await.expect("told");
    assert_eq!(serial(&told), 6);
    // Back to what it was: now it is one, since the newest differs.
    place.put(&state(5, "l"));
    assert!(save(&mut checkpoints, &place).await.is_none(), "older");
}

#[tokio::test]
async fn a_state_older_than_the_one_the_build_started_from_is_not_kept() {
    let place = Place::new();
    let text = state(7, "l");
    let base = Base {
        header: state_file::header(text.as_bytes()).expect("state"),
        digest: Digest::of(b"another writing of it").as_bytes().to_vec(),
    };
    let (work, keep) = (place.dir.path().join("work"), place.dir.path().join("keep"));
    let mut checkpoints = Checkpoints::new(work, keep, 1 << 20, Habit::EachResource, Some(&base));
    place.put(&state(6, "l"));
    assert_eq!(save(&mut checkpoints, &place).await, None);
    place.put(&state(7, "l"));
    assert!(save(&mut checkpoints, &place).await.is_some());
}

#[tokio::test]
async fn a_copy_that_could_not_be_written_is_tried_again_though_the_state_stands_still() {
    let place = Place::new();
    let keep = place.dir.path().join("keep");
    let mut checkpoints = place.checkpoints();
    fs::remove_dir(&keep).expect("no room");
    place.put(&state(1, "l"));
    assert_eq!(save(&mut checkpoints, &place).await, None);
    assert_eq!(checkpoints.seen, None, "to be looked at again");
    fs::create_dir(&keep).expect("room");
    assert!(save(&mut checkpoints, &place).await.is_some());
}

#[tokio::test]
async fn a_state_that_waits_for_its_turn_lies_below_keep_until_it_is_a_checkpoint() {
    let place = Place::new();
    let mut checkpoints = place.checkpoints();
    place.put(&state(3, "l"));
    checkpoints.grab().await;
    checkpoints.put_down().await;
    let waiting = place.dir.path().join("keep").join(GRABBED_FILE);
    let bytes = fs::read(&waiting).expect("it lies there");
    assert_eq!(bytes, state(3, "l").as_bytes());
    // Torn by the engine's next write: what was taken before is not lost.
    place.put("");
    checkpoints.grab().await;
    let told = checkpoints.judge(&place.ledger).await.expect("told");
    assert_eq!(serial(&told), 3);
    assert!(!waiting.exists(), "it has become a checkpoint");
}

#[tokio::test]
async fn the_last_whole_state_of_a_killed_engine_is_kept_however_soon_it_came() {
    let place = Place::new();
    let (outbox, mut told) = daemon();
    let (end, ended) = watch::channel(false);
    let mut checkpoints = place.checkpoints();
    // Longer than the test: the second state comes in the rest after the first.
    checkpoints.rest = 1_000_000;
    let waiting = place.dir.path().join("keep").join(GRABBED_FILE);
    let killing = async {
        place.put(&state(1, "l"));
        told.next().await.expect("frame").expect("open");
        place.put(&state(2, "l"));
        while !waiting.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        place.put("");
        end.send_replace(true);
    };
    let following = checkpoints.follow(&place.ledger, (ended, None), &outbox);
    let both = async { tokio::join!(following, killing) };
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, both)
        .await
        .expect("it is taken");
    let newest = checkpoints.newest().map(|saved| serial(&saved.told));
    assert_eq!(newest, Some(2));
}
