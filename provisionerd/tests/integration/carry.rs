//! A queue as a file and back, and from SQLite to PostgreSQL: what it knew it still knows,
//! and the fleet goes on.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Fleet, Ran, Waits, command, database, template};

/// More than fits into a row, so that the template's archive is a file.
const PADDING: usize = 300_000;

/// A fleet with a workspace, and what is asked of it before and after.
struct Known {
    state: String,
    log: Vec<Value>,
}

impl Known {
    fn of(fleet: &Fleet, job: &str) -> Self {
        Self {
            state: fleet.run(&["state", "pull", "w"]).exits(0).stdout,
            log: fleet.lines(job),
        }
    }

    #[track_caller]
    fn assert_still(&self, fleet: &Fleet, job: &str) {
        let now = Self::of(fleet, job);
        assert_eq!(now.state, self.state);
        assert_eq!(now.log, self.log);
    }
}

/// Pushes a template with a large archive and builds a workspace from it.
fn build(fleet: &Fleet) -> String {
    let directory = fleet.dir().join("template");
    std::fs::create_dir(&directory).expect("directory");
    for file in std::fs::read_dir(template("quickstart")).expect("directory") {
        let file = file.expect("entry");
        std::fs::copy(file.path(), directory.join(file.file_name())).expect("copied");
    }
    std::fs::write(directory.join("padding.bin"), noise(PADDING)).expect("file");
    fleet.push("t", &directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    assert_eq!(fleet.ended(&job)["status"], "succeeded");
    job
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let next = |seed: &u64| Some(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    let numbers = std::iter::successors(Some(7_u64), next);
    numbers
        .map(|number| number.to_be_bytes()[0])
        .take(length)
        .collect()
}

/// A command on the queue's data, with the database that `url` names, if any.
fn carry(fleet: &Fleet, arguments: &[&str], data: &Path, url: Option<&str>) -> Ran {
    let mut run = command(fleet.dir());
    run.args(arguments).arg("--data-dir").arg(data);
    if let Some(url) = url {
        run.env("PROVISIONERD_DATABASE_URL", url);
    }
    Ran::new(
        arguments.join(" "),
        &run.output().expect("the binary starts"),
    )
}

fn text(path: &Path) -> &str {
    path.to_str().expect("invariant: test paths are text")
}

/// Ends the queue and puts its data aside.
fn put_aside(fleet: &mut Fleet) -> PathBuf {
    fleet.kill_queue();
    let (live, aside) = (fleet.dir().join("q"), fleet.dir().join("aside"));
    std::fs::rename(&live, &aside).expect("renamed");
    live
}

#[test]
fn a_backup_of_a_serving_queue_is_a_queue_again() {
    let mut fleet = Fleet::with(Waits::Short);
    let mut daemon = fleet.daemon("one", &[]);
    let job = build(&fleet);
    let before = Known::of(&fleet, &job);
    let file = fleet.dir().join("backup.tar");
    let made = carry(
        &fleet,
        &["backup", text(&file), "--output", "json"],
        &fleet.dir().join("q"),
        None,
    );
    let made = made.exits(0).json();
    assert_eq!(made["blobs"], 1, "the archive is a file: {made:#}");
    // What came after the backup is not in it.
    fleet.run(&["keys", "create", "later"]).exits(0);

    let live = put_aside(&mut fleet);
    carry(&fleet, &["restore", text(&file)], &live, None).exits(0);
    fleet.start_queue();
    before.assert_still(&fleet, &job);
    let keys = fleet.json(&["keys", "list"]);
    assert_eq!(keys.as_array().map(Vec::len), Some(1), "{keys:#}");
    // The daemon's key is known, the archive is there, numbers go on where they were.
    fleet.run(&["workspaces", "stop", "w"]).exits(0);
    fleet.run(&["workspaces", "delete", "w"]).exits(0);
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_queue_moves_from_sqlite_to_postgresql_and_back() {
    let Some(database) = database() else { return };
    let url = database.url();
    let mut fleet = Fleet::with(Waits::Short);
    let mut daemon = fleet.daemon("one", &[]);
    let job = build(&fleet);
    let before = Known::of(&fleet, &job);
    let live = fleet.dir().join("q");
    let shared = format!("file://{}", fleet.dir().join("blobs").display());
    let migrate = ["migrate", "--blob-url", &shared];

    let check = |url| {
        let look = ["migrate", "--check", "--output", "json"];
        carry(&fleet, &look, &live, url).exits(0).json()["verdict"].clone()
    };
    assert_eq!(check(None), "current", "beside a queue that serves");
    assert_eq!(check(Some(url.as_str())), "would_migrate");

    let refused = carry(&fleet, &migrate, &live, Some(&url)).exits(1);
    assert!(
        refused.stderr.contains("DATA_DIR_IN_USE"),
        "{}",
        refused.stderr
    );
    fleet.kill_queue();
    carry(&fleet, &migrate, &live, Some(&url)).exits(0);
    let again = carry(&fleet, &migrate, &live, Some(&url)).exits(1);
    assert!(again.stderr.contains("QUEUE_NOT_EMPTY"), "{}", again.stderr);
    fleet.start_queue_with(|serve| {
        serve.env("PROVISIONERD_DATABASE_URL", &url);
        serve.args(["--blob-url", &shared]);
    });
    before.assert_still(&fleet, &job);
    fleet.run(&["workspaces", "stop", "w"]).exits(0);

    let file = fleet.dir().join("backup.tar");
    let other = format!("file://{}", live.join("queue/blobs").display());
    let elsewhere = ["backup", text(&file), "--blob-url", &other];
    let refused = carry(&fleet, &elsewhere, &live, Some(&url)).exits(1);
    assert!(
        refused.stderr.contains("BLOBS_NOT_SHARED"),
        "{}",
        refused.stderr
    );
    let backup = ["backup", text(&file), "--blob-url", &shared];
    carry(&fleet, &backup, &live, Some(&url)).exits(0);
    let stopped = Known::of(&fleet, &job);
    let live = put_aside(&mut fleet);
    carry(&fleet, &["restore", text(&file)], &live, None).exits(0);
    fleet.start_queue();
    stopped.assert_still(&fleet, &job);
    fleet.run(&["workspaces", "start", "w"]).exits(0);
    fleet.run(&["workspaces", "delete", "w"]).exits(0);
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_restore_that_is_killed_leaves_no_queue_and_the_next_one_is_whole() {
    let mut fleet = Fleet::with(Waits::Short);
    let mut daemon = fleet.daemon("one", &[]);
    let job = build(&fleet);
    let before = Known::of(&fleet, &job);
    let (file, pipe) = (fleet.dir().join("backup.tar"), fleet.dir().join("pipe"));
    let queue = fleet.dir().join("q");
    carry(&fleet, &["backup", text(&file)], &queue, None).exits(0);
    let whole = std::fs::read(&file).expect("the backup");
    let live = put_aside(&mut fleet);
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for quarters in 0..4 {
        let mut restore = command(fleet.dir());
        restore
            .args(["restore", text(&pipe)])
            .arg("--data-dir")
            .arg(&live);
        let mut restoring = restore.spawn().expect("the binary starts");
        // It reads as it comes: what does not fit into the pipe was taken.
        let mut feed = std::fs::File::options()
            .write(true)
            .open(&pipe)
            .expect("a reader");
        feed.write_all(&whole[..whole.len() / 4 * quarters])
            .expect("taken");
        restoring.kill().expect("killed");
        restoring.wait().expect("waited for");
        assert!(!live.join("queue/queue.db").exists(), "{quarters} quarters");
    }
    carry(&fleet, &["restore", text(&file)], &live, None).exits(0);
    fleet.start_queue();
    before.assert_still(&fleet, &job);
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_torn_or_damaged_backup_leaves_nothing_behind() {
    let fleet = Fleet::with(Waits::Short);
    let _daemon = fleet.daemon("one", &[]);
    build(&fleet);
    let file = fleet.dir().join("backup.tar");
    carry(
        &fleet,
        &["backup", text(&file)],
        &fleet.dir().join("q"),
        None,
    )
    .exits(0);
    let whole = std::fs::read(&file).expect("the backup");
    let again = carry(
        &fleet,
        &["backup", text(&file)],
        &fleet.dir().join("q"),
        None,
    );
    assert!(
        again.exits(1).stderr.contains("already"),
        "never overwritten"
    );

    let cut = fleet.dir().join("cut.tar");
    let padding = whole.len() / 2;
    let mut damaged = whole.clone();
    // In the middle of the archive's file, the largest part of all.
    damaged[PADDING / 2] ^= 0x55;
    for (bytes, code) in [
        (&whole[..whole.len() - 2_048], "BACKUP_INVALID"),
        (&whole[..padding], "BACKUP_INVALID"),
        (b"not a backup at all".as_slice(), "BACKUP_INVALID"),
        (damaged.as_slice(), "BLOB_DAMAGED"),
    ] {
        std::fs::write(&cut, bytes).expect("file");
        // A new place for each: a blob that came whole before would be found there.
        let new = fleet.dir().join(format!("new-{}", bytes.len()));
        let _again = std::fs::remove_dir_all(&new);
        let refused = carry(&fleet, &["restore", text(&cut)], &new, None).exits(1);
        assert!(refused.stderr.contains(code), "{code}: {}", refused.stderr);
        assert!(!new.join("queue/queue.db").exists(), "{code}");
        assert!(!new.join("queue/queue.db.new").exists(), "{code}");
    }
    let gone = carry(
        &fleet,
        &["backup", text(&cut)],
        &fleet.dir().join("none"),
        None,
    );
    let gone = gone.exits(1);
    assert!(gone.stderr.contains("already"), "{}", gone.stderr);
    let other = fleet.dir().join("other.tar");
    let gone = carry(
        &fleet,
        &["backup", text(&other)],
        &fleet.dir().join("none"),
        None,
    );
    assert!(gone.exits(1).stderr.contains("QUEUE_MISSING"));
    let new = fleet.dir().join("new");
    carry(&fleet, &["restore", text(&file)], &new, None).exits(0);
}
