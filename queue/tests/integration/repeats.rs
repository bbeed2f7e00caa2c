//! Messages that come twice, late, out of order or under a lease that is nobody's, and a
//! queue that was put back to an older backup: no effect beyond the first, and nothing
//! thrown away.

use std::path::Path;
use std::time::Duration;

use proto::v1;
use tempfile::TempDir;

use crate::harness::*;

/// One message of a daemon about its job.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a handful in a test")]
enum Word {
    Update(v1::UpdateJobRequest),
    Put(String),
    Finish(v1::FinishJobRequest),
}

/// What a message was answered with.
#[derive(Debug, PartialEq)]
enum Answer {
    Update(v1::UpdateVerdict),
    Put,
    Finish(v1::FinishDisposition),
}

/// Everything that anybody can see of a workspace and its build.
#[derive(Debug, PartialEq)]
struct Record {
    status: v1::JobStatus,
    attempt: u32,
    phases: Vec<v1::Phase>,
    lines: Vec<String>,
    states: Vec<(String, u64, bool)>,
    current: String,
    unconfirmed: Vec<String>,
}

fn state(serial: u64) -> String {
    format!(r#"{{"version":4,"serial":{serial},"lineage":"l","resources":[]}}"#)
}

fn checkpoint(serial: u64) -> v1::Checkpoint {
    v1::Checkpoint {
        blob: Some(blob_ref(state(serial).as_bytes())),
        serial,
        lineage: "l".into(),
        ledger_seq: 0,
    }
}

fn entry(seq: u64, event: v1::LedgerEvent) -> v1::LedgerEntry {
    let mut entry = v1::LedgerEntry {
        seq,
        address: "a.one".into(),
        ..v1::LedgerEntry::default()
    };
    entry.set_action(v1::LedgerAction::Create);
    entry.set_event(event);
    entry
}

/// A build that goes well, word by word.
fn words(job: &v1::Job) -> Vec<Word> {
    let news = |counter, phase: v1::Phase, texts: &[&str]| {
        let mut news = update(job, counter);
        news.set_phase(phase);
        news.lines = lines(counter * 2 - 1, texts);
        news
    };
    let gate = v1::UpdateJobRequest {
        gate: true,
        ..news(3, v1::Phase::Apply, &["five", "six"])
    };
    let first = v1::UpdateJobRequest {
        checkpoint: Some(checkpoint(1)),
        ledger: vec![entry(1, v1::LedgerEvent::Started)],
        ..news(4, v1::Phase::Apply, &["seven", "eight"])
    };
    let second = v1::UpdateJobRequest {
        checkpoint: Some(checkpoint(2)),
        ledger: vec![entry(2, v1::LedgerEvent::Complete)],
        ..news(5, v1::Phase::Apply, &["nine", "ten"])
    };
    let last = v1::FinishJobRequest {
        state: Some(checkpoint(3)),
        lines: lines(11, &["eleven", "twelve"]),
        last_seq: 12,
        ..finish(job, v1::Outcome::Succeeded)
    };
    vec![
        Word::Update(news(1, v1::Phase::Init, &["one", "two"])),
        Word::Update(news(2, v1::Phase::Plan, &["three", "four"])),
        Word::Update(gate),
        Word::Put(state(1)),
        Word::Update(first),
        Word::Put(state(2)),
        Word::Update(second),
        Word::Put(state(3)),
        Word::Finish(last),
    ]
}

/// The same word under a lease that nobody was given.
fn forged(word: &Word) -> Word {
    let lease_id = vec![9; 16];
    match word.clone() {
        Word::Update(update) => Word::Update(v1::UpdateJobRequest { lease_id, ..update }),
        Word::Finish(mut finish) => {
            // It can name only what it has put itself.
            if let Some(state) = &mut finish.state {
                let bytes = forgery(&self::state(state.serial));
                state.blob = Some(blob_ref(bytes.as_bytes()));
            }
            Word::Finish(v1::FinishJobRequest { lease_id, ..finish })
        }
        Word::Put(bytes) => Word::Put(forgery(&bytes)),
    }
}

fn forgery(state: &str) -> String {
    state.replace("\"l\"", "\"forged\"")
}

async fn say(daemon: &mut Daemon, job: &v1::Job, word: &Word) -> Answer {
    match word.clone() {
        Word::Update(update) => {
            let reply = daemon.fleet.update_job(update).await.expect("answered");
            Answer::Update(reply.into_inner().verdict())
        }
        Word::Put(bytes) => {
            let bytes = bytes.as_bytes();
            let requests = put_requests(&blob_ref(bytes), Some(job), bytes);
            let put = daemon.fleet.put_blob(tokio_stream::iter(requests)).await;
            put.expect("stored");
            Answer::Put
        }
        Word::Finish(finish) => {
            let reply = daemon.fleet.finish_job(finish).await.expect("answered");
            Answer::Finish(reply.into_inner().disposition())
        }
    }
}

/// A workspace `w`, whose first build is in the hands of its daemon.
async fn building() -> (Queue, Daemon, v1::Job) {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let facts = v1::TemplateFacts::default();
    queue.template("t", facts, &mut daemon).await;
    create(&queue).await;
    let job = daemon.take().await;
    (queue, daemon, job)
}

async fn create(queue: &Queue) {
    let request = v1::CreateWorkspaceRequest {
        name: "w".into(),
        template: "t".into(),
        ..v1::CreateWorkspaceRequest::default()
    };
    let made = queue.admin().create_workspace(request).await;
    made.expect("created");
}

async fn record(queue: &Queue, job: &v1::Job) -> Record {
    let view = queue.job(&job.id).await;
    let history = v1::StateHistoryRequest {
        workspace: "w".into(),
        ..v1::StateHistoryRequest::default()
    };
    let history = queue.admin().state_history(history).await;
    let states = history.expect("history").into_inner().states;
    let show = v1::GetWorkspaceRequest {
        name: "w".into(),
        ..v1::GetWorkspaceRequest::default()
    };
    let workspace = queue.admin().get_workspace(show).await;
    let workspace = workspace.expect("workspace").into_inner();
    let phases = view.phases.iter().map(v1::PhaseTiming::phase);
    let unconfirmed = workspace.unconfirmed.into_iter();
    Record {
        status: view.status(),
        attempt: view.attempt,
        phases: phases.collect(),
        lines: log(queue, job).await,
        states: states
            .into_iter()
            .map(|state| (state.source, state.serial, state.current))
            .collect(),
        current: pull(queue).await,
        unconfirmed: unconfirmed.map(|resource| resource.address).collect(),
    }
}

async fn log(queue: &Queue, job: &v1::Job) -> Vec<String> {
    let request = v1::StreamLogsRequest {
        job_id: job.id.clone(),
        ..v1::StreamLogsRequest::default()
    };
    let stream = queue.admin().stream_logs(request).await.expect("log");
    let mut stream = stream.into_inner();
    let mut texts = Vec::new();
    while let Some(page) = soon(stream.message()).await.expect("page") {
        texts.extend(page.lines.into_iter().filter_map(|it| Some(it.line?.text)));
    }
    texts
}

async fn pull(queue: &Queue) -> String {
    let request = v1::PullStateRequest {
        workspace: "w".into(),
        ..v1::PullStateRequest::default()
    };
    let chunks = queue.admin().pull_state(request).await;
    let mut chunks = chunks.expect("pull").into_inner();
    let mut pulled = Vec::new();
    while let Some(chunk) = soon(chunks.message()).await.expect("chunk") {
        pulled.extend_from_slice(&chunk.data);
    }
    String::from_utf8(pulled).expect("text")
}

/// As it is when every word is said once.
fn once() -> Record {
    let texts = "one two three four five six seven eight nine ten eleven twelve";
    Record {
        status: v1::JobStatus::Succeeded,
        attempt: 1,
        phases: vec![v1::Phase::Init, v1::Phase::Plan, v1::Phase::Apply],
        lines: texts.split(' ').map(str::to_owned).collect(),
        states: vec![("finish".to_owned(), 3, true)],
        current: state(3),
        unconfirmed: Vec::new(),
    }
}

#[tokio::test]
async fn what_is_said_once_has_its_effect() {
    let (queue, mut daemon, job) = building().await;
    for word in words(&job) {
        say(&mut daemon, &job, &word).await;
    }
    assert_eq!(record(&queue, &job).await, once());
}

#[tokio::test]
async fn what_is_said_twice_or_again_after_everything_else_has_no_second_effect() {
    let (queue, mut daemon, job) = building().await;
    let words = words(&job);
    for said in 1..=words.len() {
        // The new word, and then, once more, every word so far, the newest first.
        say(&mut daemon, &job, &words[said - 1]).await;
        for word in words[..said].iter().rev() {
            say(&mut daemon, &job, word).await;
        }
    }
    assert_eq!(record(&queue, &job).await, once());
    let again = say(&mut daemon, &job, words.last().expect("finish")).await;
    assert_eq!(again, Answer::Finish(v1::FinishDisposition::Applied));
}

#[tokio::test]
async fn updates_that_arrive_after_the_finish_bring_their_lines_and_nothing_else() {
    let (queue, mut daemon, job) = building().await;
    let mut words = words(&job);
    let late: Vec<Word> = words.drain(4..=6).collect();
    for word in &words {
        say(&mut daemon, &job, word).await;
    }
    for word in late.iter().rev() {
        let answer = say(&mut daemon, &job, word).await;
        let fenced = Answer::Update(v1::UpdateVerdict::Fenced);
        assert!([Answer::Put, fenced].contains(&answer));
    }
    let mut record = record(&queue, &job).await;
    let mut due = once();
    record.lines.sort();
    due.lines.sort();
    assert_eq!(record, due);
}

#[tokio::test]
async fn an_older_update_that_comes_late_takes_nothing_back() {
    let (queue, mut daemon, job) = building().await;
    let words = words(&job);
    for index in [0, 1, 2, 3, 5, 6] {
        say(&mut daemon, &job, &words[index]).await;
    }
    // Checkpoint 1 arrives after checkpoint 2, and then the daemon is given up.
    let answer = say(&mut daemon, &job, &words[4]).await;
    assert_eq!(answer, Answer::Update(v1::UpdateVerdict::Accepted));
    let request = v1::AbandonJobRequest {
        id: job.id.clone(),
        force: true,
    };
    queue.admin().abandon_job(request).await.expect("abandoned");
    let record = record(&queue, &job).await;
    assert_eq!(record.current, state(2), "{record:?}");
    assert_eq!(record.states[0], ("recovered".to_owned(), 2, true));
}

#[tokio::test]
async fn a_second_finish_with_another_ending_changes_nothing() {
    let (queue, mut daemon, job) = building().await;
    let words = words(&job);
    for word in &words {
        say(&mut daemon, &job, word).await;
    }
    for outcome in [v1::Outcome::Failed, v1::Outcome::Canceled] {
        let other = Word::Finish(v1::FinishJobRequest {
            state: Some(checkpoint(1)),
            ..finish(&job, outcome)
        });
        say(&mut daemon, &job, &other).await;
    }
    let mut release = finish(&job, v1::Outcome::Released);
    release.set_release_reason(v1::ReleaseReason::Drain);
    say(&mut daemon, &job, &Word::Finish(release)).await;
    assert_eq!(record(&queue, &job).await, once());
}

#[tokio::test]
async fn words_under_a_foreign_lease_are_stored_aside_and_change_nothing() {
    let (queue, mut daemon, job) = building().await;
    let mut thief = queue.daemon("thief").await;
    let foreign = v1::Job {
        lease: Some(v1::Lease {
            id: vec![9; 16],
            attempt: 1,
            ..v1::Lease::default()
        }),
        ..job.clone()
    };
    for word in words(&job) {
        let answer = say(&mut thief, &foreign, &forged(&word)).await;
        let aside = [
            Answer::Update(v1::UpdateVerdict::Fenced),
            Answer::Finish(v1::FinishDisposition::Unclaimed),
            Answer::Put,
        ];
        assert!(aside.contains(&answer), "{answer:?}");
        say(&mut daemon, &job, &word).await;
    }
    assert_eq!(record(&queue, &job).await, once());
    let (_, metrics) = queue.http("/metrics").await;
    assert!(metrics.contains("provisionerd_finishes_unclaimed 1"));
}

/// Ends a queue and gives its directory.
async fn ended(queue: Queue) -> TempDir {
    let Queue {
        service,
        channel,
        dir,
    } = queue;
    drop(channel);
    service.shutdown().await;
    // The last connection takes the log along; a copy of one without the other is torn.
    let log = dir.path().join("queue/queue.db-wal");
    let closed = until(async || !log.exists());
    // One that stays belongs to nobody any more, and is copied along.
    let _stays = tokio::time::timeout(Duration::from_secs(2), closed).await;
    dir
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("directory");
    for entry in std::fs::read_dir(from).expect("directory") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copy");
        }
    }
}

/// The queue on a copy of what it is now, to be put back later.
async fn backed_up(queue: Queue) -> (Queue, TempDir) {
    let dir = ended(queue).await;
    let backup = tempfile::tempdir().expect("backup");
    copy(dir.path(), backup.path());
    let options = options(&dir);
    (Queue::start_in(dir, options).await, backup)
}

async fn restored(queue: Queue, backup: TempDir) -> Queue {
    ended(queue).await;
    let options = options(&backup);
    Queue::start_in(backup, options).await
}

/// A queue and the key of its daemon `one`, which outlives each of its processes.
async fn with_key() -> (Queue, String) {
    let queue = Queue::start().await;
    let key = queue.key("kept", &[]).await;
    let mut daemon = queue.daemon_with("one", "i", &key, &[]);
    let facts = v1::TemplateFacts::default();
    queue.template("t", facts, &mut daemon).await;
    (queue, key)
}

fn daemon(queue: &Queue, key: &str) -> Daemon {
    queue.daemon_with("one", "i", key, &[])
}

#[tokio::test]
async fn a_restored_queue_takes_the_rest_of_a_build_that_it_remembers_before_the_gate() {
    let (queue, key) = with_key().await;
    create(&queue).await;
    let job = daemon(&queue, &key).take().await;
    let words = words(&job);
    let mut one = daemon(&queue, &key);
    for word in &words[..2] {
        say(&mut one, &job, word).await;
    }
    let (queue, backup) = backed_up(queue).await;
    let mut one = daemon(&queue, &key);
    for word in &words[2..7] {
        say(&mut one, &job, word).await;
    }
    let queue = restored(queue, backup).await;
    let mut one = daemon(&queue, &key);
    // The gate is asked for with each update after it was opened.
    let mut going_on = update(&job, 6);
    going_on.gate = true;
    going_on.set_phase(v1::Phase::Apply);
    let reply = one.fleet.update_job(going_on).await.expect("answered");
    let reply = reply.into_inner();
    assert_eq!(reply.verdict(), v1::UpdateVerdict::Accepted);
    assert!(reply.gate_open);
    for word in &words[7..] {
        say(&mut one, &job, word).await;
    }
    let record = record(&queue, &job).await;
    assert_eq!(record.status, v1::JobStatus::Succeeded);
    assert_eq!(record.states, [("finish".to_owned(), 3, true)]);
    assert_eq!(record.current, state(3));
    // What was acknowledged after the backup went with it; the rest is there.
    let kept = ["one", "two", "three", "four", "eleven", "twelve"];
    assert_eq!(record.lines, kept);
}

#[tokio::test]
async fn a_restored_queue_says_which_blob_it_misses_and_takes_it_again() {
    let (queue, key) = with_key().await;
    create(&queue).await;
    let job = daemon(&queue, &key).take().await;
    let words = words(&job);
    let mut one = daemon(&queue, &key);
    for word in &words[..3] {
        say(&mut one, &job, word).await;
    }
    let (queue, backup) = backed_up(queue).await;
    say(&mut daemon(&queue, &key), &job, &words[7]).await;
    let queue = restored(queue, backup).await;
    let mut one = daemon(&queue, &key);
    let Some(Word::Finish(finish)) = words.last() else {
        panic!("the last word is the finish");
    };
    let refused = one.fleet.finish_job(finish.clone()).await;
    assert_eq!(code(&refused.expect_err("missing")), "BLOB_MISSING");
    for word in &words[7..] {
        say(&mut one, &job, word).await;
    }
    assert_eq!(record(&queue, &job).await.current, state(3));
}

#[tokio::test]
async fn a_restored_queue_that_forgot_a_job_or_its_hand_out_keeps_the_finish_whole() {
    for forgets_the_job in [false, true] {
        let (mut queue, key) = with_key().await;
        if !forgets_the_job {
            create(&queue).await;
        }
        let (again, backup) = backed_up(queue).await;
        queue = again;
        if forgets_the_job {
            create(&queue).await;
        }
        let job = daemon(&queue, &key).take().await;
        let words = words(&job);
        let mut one = daemon(&queue, &key);
        for word in &words[..5] {
            say(&mut one, &job, word).await;
        }
        let queue = restored(queue, backup).await;
        let mut one = daemon(&queue, &key);
        let answer = say(&mut one, &job, &words[6]).await;
        let verdict = match forgets_the_job {
            true => v1::UpdateVerdict::UnknownJob,
            false => v1::UpdateVerdict::Fenced,
        };
        assert_eq!(answer, Answer::Update(verdict));
        for _ in 0..2 {
            assert_eq!(say(&mut one, &job, &words[7]).await, Answer::Put);
            let answer = say(&mut one, &job, &words[8]).await;
            assert_eq!(answer, Answer::Finish(v1::FinishDisposition::Unclaimed));
        }
        let (_, metrics) = queue.http("/metrics").await;
        assert!(metrics.contains("provisionerd_finishes_unclaimed 1"));
    }
}
