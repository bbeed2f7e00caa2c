use super::*;
use crate::job_dir::JobDir;
use crate::link;
use crate::run::spool::Past;
use proto::limits::LOG_BACKLOG;
use proto::v1::{LogLevel, Process};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// What the cursor talks to.
struct Daemon {
    inbox: link::Receiver<FromWorker>,
    signals: Signals,
}

/// A job's directory and the output of its processes.
struct Job {
    dir: JobDir,
    _jobs: tempfile::TempDir,
}

fn wires(spool: Spool, backlog: u64) -> (Daemon, Desk) {
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let (_, sender) = link::split::<FromWorker, FromWorker>(ours, 1 << 26);
    let (inbox, _) = link::split::<FromWorker, FromWorker>(theirs, 1 << 26);
    let (daemon, _) = Outbox::start(sender);
    let signals = Signals::new();
    let desk = Desk {
        daemon,
        signals: signals.clone(),
        spool: Arc::new(spool),
        notices: Notices::default(),
        backlog,
    };
    (Daemon { inbox, signals }, desk)
}

impl Job {
    fn new() -> Self {
        let jobs = tempfile::tempdir().expect("dir");
        let dir = JobDir::create(jobs.path(), "a").expect("job directory");
        Self { dir, _jobs: jobs }
    }

    /// A cursor, and the way to it.
    fn begin(
        &self,
        backlog: u64,
    ) -> (
        Daemon,
        Desk,
        mpsc::UnboundedSender<Segment>,
        JoinHandle<u64>,
    ) {
        let (daemon, desk) = wires(Spool::begin(&self.dir), backlog);
        let (segments, cursor) = start(desk.clone());
        (daemon, desk, segments, cursor)
    }

    /// The same after a crash, from `after` on.
    fn again(&self, after: u64) -> (Daemon, JoinHandle<u64>) {
        let (spool, past) = Spool::again(&self.dir);
        let (daemon, desk) = wires(spool, LOG_BACKLOG);
        let left = Left {
            dir: self.dir.clone(),
            past,
            after,
        };
        (daemon, tokio::spawn(again(desk, left)))
    }

    /// Process `number` has printed `text`, or prints it still.
    fn output(
        &self,
        desk: &Desk,
        number: u32,
        text: &[u8],
        ended: &watch::Receiver<bool>,
    ) -> Segment {
        let process = Process::Apply;
        let opened = |path: std::path::PathBuf, text: &[u8]| {
            std::fs::write(&path, text).expect("output");
            Open {
                file: std::fs::File::open(&path).expect("open"),
                name: path
                    .file_name()
                    .expect("name")
                    .to_string_lossy()
                    .into_owned(),
            }
        };
        let source = desk.spool.source(LineSource {
            phase: Phase::Apply.into(),
            number,
            process: process.into(),
            stdout: true,
            ..LineSource::default()
        });
        Segment::Output(Output {
            source,
            phase: Phase::Apply,
            stdout: Some(opened(self.dir.stdout(number, process), text)),
            stderr: opened(self.dir.stderr(number, process), b""),
            marks: None,
            ended: ended.clone(),
        })
    }
}

impl Daemon {
    /// Takes lines, granting credit for each, until the cursor has ended.
    async fn all(mut self) -> Vec<LogLine> {
        let mut lines = Vec::new();
        while let Some(more) = self.some().await {
            lines.extend(more);
            self.signals.grant(lines.last().map_or(0, |line| line.seq));
        }
        lines
    }

    async fn some(&mut self) -> Option<Vec<LogLine>> {
        let frame = self.inbox.next().await.expect("frame")?;
        let Some(from_worker::Message::Batch(batch)) = frame.message else {
            panic!("no batch");
        };
        Some(batch.lines)
    }
}

fn system(desk: &Desk, text: &str) -> Segment {
    let said = LineSource {
        phase: Phase::Setup.into(),
        level: LogLevel::Info.into(),
        text: text.to_owned(),
        ..LineSource::default()
    };
    Segment::System(desk.spool.source(said.clone()), said)
}

fn event(level: &str, text: &str) -> String {
    format!("{{\"@level\":\"{level}\",\"@message\":\"{text}\",\"type\":\"log\"}}\n")
}

#[tokio::test]
async fn a_hundred_thousand_lines_arrive_whole_and_in_order() {
    const LINES: usize = 100_000;
    let job = Job::new();
    let (daemon, desk, segments, cursor) = job.begin(LOG_BACKLOG);
    let text: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
    let (_end, ended) = watch::channel(true);
    let output = job.output(&desk, 1, text.as_bytes(), &ended);
    segments.send(output).expect("sent");
    drop((segments, desk));
    let lines = daemon.all().await;
    assert_eq!(lines.len(), LINES);
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(
            (line.seq, line.text.as_str()),
            (n as u64 + 1, format!("line {n}").as_str())
        );
    }
    assert_eq!(cursor.await.expect("cursor"), LINES as u64);
}

#[tokio::test]
async fn our_lines_stand_between_the_outputs_they_were_said_between() {
    let job = Job::new();
    let (daemon, desk, segments, _cursor) = job.begin(LOG_BACKLOG);
    let (_end, ended) = watch::channel(true);
    for segment in [
        system(&desk, "before"),
        job.output(&desk, 1, b"one\n", &ended),
        system(&desk, "between"),
        job.output(&desk, 2, b"two", &ended),
        system(&desk, "after"),
    ] {
        segments.send(segment).expect("sent");
    }
    drop((segments, desk));
    let texts: Vec<String> = daemon.all().await.into_iter().map(|l| l.text).collect();
    assert_eq!(texts, ["before", "one", "between", "two", "after"]);
}

#[tokio::test]
async fn without_credit_no_more_than_a_window_leaves() {
    let job = Job::new();
    let (mut daemon, desk, segments, cursor) = job.begin(LOG_BACKLOG);
    let text = "x\n".repeat(50_000);
    let (_end, ended) = watch::channel(true);
    let output = job.output(&desk, 1, text.as_bytes(), &ended);
    segments.send(output).expect("sent");
    drop((segments, desk));
    let mut seen = 0;
    let quiet = Duration::from_millis(300);
    while let Ok(lines) = tokio::time::timeout(quiet, daemon.some()).await {
        seen += lines.expect("open").len();
    }
    assert!(seen > 0 && seen < 50_000 && !cursor.is_finished(), "{seen}");
    daemon.signals.grant(u64::MAX);
    let rest = daemon.all().await.len();
    assert_eq!(seen + rest, 50_000);
}

#[tokio::test]
async fn a_line_over_one_piece_travels_in_pieces_that_join_to_it() {
    let job = Job::new();
    let (daemon, desk, segments, _cursor) = job.begin(LOG_BACKLOG);
    let long = "y".repeat(10 << 20);
    let (_end, ended) = watch::channel(true);
    let output = job.output(&desk, 1, format!("{long}\nnext\n").as_bytes(), &ended);
    segments.send(output).expect("sent");
    drop((segments, desk));
    let lines = daemon.all().await;
    let (last, pieces) = lines.split_last().expect("lines");
    assert_eq!((last.text.as_str(), last.more), ("next", false));
    let joined: String = pieces.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(joined, long);
    assert_eq!(pieces.iter().filter(|line| !line.more).count(), 1);
}

/// A log with every kind of source: what is said, long lines, lines of many pieces, plain
/// lines, standard error and an end without a line feed.
fn everything(job: &Job, desk: &Desk, segments: &mpsc::UnboundedSender<Segment>) {
    let (_end, ended) = watch::channel(true);
    let plan: String = (0..700)
        .map(|n| event("info", &format!("plan {n}")))
        .collect();
    let mut apply: String = (0..2_000).map(|n| format!("apply {n}\n")).collect();
    apply.push_str(&format!("{}\n", "é".repeat(150_000)));
    apply.push_str(&event("info", "two\\nlines"));
    apply.push_str("the end");
    for segment in [
        system(desk, "begin\nin two lines"),
        job.output(desk, 1, plan.as_bytes(), &ended),
        system(desk, "between"),
        job.output(desk, 2, apply.as_bytes(), &ended),
        system(desk, "after"),
    ] {
        segments.send(segment).expect("sent");
    }
    std::fs::write(
        job.dir.stderr(2, Process::Apply),
        "complaint 1\ncomplaint 2\n",
    )
    .expect("stderr");
}

type Line = (u64, String, i32, i32, bool);

fn facts(lines: &[LogLine]) -> Vec<Line> {
    let fact = |it: &LogLine| (it.seq, it.text.clone(), it.source, it.level, it.more);
    lines.iter().map(fact).collect()
}

#[tokio::test]
async fn a_log_that_is_read_again_from_any_place_is_the_same_log() {
    let whole = {
        let job = Job::new();
        let (daemon, desk, segments, _cursor) = job.begin(LOG_BACKLOG);
        everything(&job, &desk, &segments);
        drop((segments, desk));
        facts(&daemon.all().await)
    };
    assert_eq!(whole.len(), 2 + 700 + 1 + 2_000 + 5 + 2 + 1 + 2 + 1);
    for (taken, stored) in [
        (0, 0),
        (1, 1),
        (1, 0),
        (3, 410),
        (8, 1_500),
        (usize::MAX, 2_700),
    ] {
        let job = Job::new();
        let (mut daemon, desk, segments, cursor) = job.begin(LOG_BACKLOG);
        everything(&job, &desk, &segments);
        drop((segments, desk));
        let mut seen = Vec::new();
        for _ in 0..taken {
            match daemon.some().await {
                Some(lines) => seen.extend(lines),
                None => break,
            }
        }
        cursor.abort();
        let _ = cursor.await;
        let seen = facts(&seen);
        assert_eq!(
            seen,
            whole[..seen.len()],
            "before the crash, {taken} batches"
        );
        let (daemon, cursor) = job.again(stored);
        let behind = usize::try_from(stored).expect("small");
        assert_eq!(
            facts(&daemon.all().await),
            whole[behind..],
            "behind {stored}"
        );
        assert_eq!(cursor.await.expect("cursor"), whole.len() as u64);
        // And once more, after a crash of whoever read it again.
        let (daemon, _cursor) = job.again(stored + 7);
        assert_eq!(facts(&daemon.all().await), whole[behind + 7..]);
    }
}

#[tokio::test]
async fn stored_bytes_are_given_back_and_a_log_is_read_again_without_them() {
    use std::os::unix::fs::MetadataExt as _;
    const LINES: u64 = 40_000;
    let job = Job::new();
    let (mut daemon, desk, segments, cursor) = job.begin(LOG_BACKLOG);
    let (_end, ended) = watch::channel(false);
    let text: String = (1..=LINES)
        .map(|n| format!("{n} {}\n", "x".repeat(200)))
        .collect();
    let output = job.output(&desk, 1, text.as_bytes(), &ended);
    segments.send(output).expect("sent");
    let mut stored = 0;
    while stored < LINES {
        stored = daemon
            .some()
            .await
            .expect("lines")
            .last()
            .expect("a line")
            .seq;
        daemon.signals.grant(stored - 100);
    }
    let path = job.dir.stdout(1, Process::Apply);
    let wait = async {
        while std::fs::metadata(&path).expect("output").blocks() * 512 > text.len() as u64 / 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("space is given back");
    cursor.abort();
    let _ = cursor.await;
    assert_eq!(
        std::fs::metadata(&path).expect("output").len(),
        text.len() as u64
    );
    assert!(!Past::read(&job.dir).punched.is_empty());
    let (daemon, _cursor) = job.again(LINES - 100);
    let lines = daemon.all().await;
    let expected: Vec<u64> = (LINES - 99..=LINES).collect();
    assert_eq!(
        lines.iter().map(|line| line.seq).collect::<Vec<_>>(),
        expected
    );
    for line in &lines {
        assert!(
            line.text.starts_with(&format!("{} x", line.seq)),
            "{}",
            line.text
        );
    }
}

#[tokio::test]
async fn bytes_that_the_ledger_needs_stay_although_they_are_stored() {
    let job = Job::new();
    let (mut daemon, desk, segments, _cursor) = job.begin(LOG_BACKLOG);
    let (_end, ended) = watch::channel(false);
    let text = "x\n".repeat(4 << 20);
    let marks = Marks::default();
    let Segment::Output(mut output) = job.output(&desk, 1, text.as_bytes(), &ended) else {
        panic!("an output");
    };
    output.marks = Some(marks.clone());
    // The ledger is told up to here, its journal lacks the last entry.
    marks.set(2 << 20, 1);
    marks.set(4 << 20, 2);
    daemon.signals.journal(1);
    segments.send(Segment::Output(output)).expect("sent");
    let mut stored = 0;
    while stored < 3 << 20 {
        stored = daemon
            .some()
            .await
            .expect("lines")
            .last()
            .expect("a line")
            .seq;
        daemon.signals.grant(stored);
    }
    let punched = Past::read(&job.dir).punched;
    let offsets: Vec<(u64, u64)> = punched
        .values()
        .map(|it| (it.offset, it.ledger_seq))
        .collect();
    assert_eq!(offsets, [(2 << 20, 1)]);
}

/// Mebibytes of debug lines, an info line after each 74 KiB, and a warning at the end.
fn chatter() -> (String, usize) {
    let debug = event("debug", &"d".repeat(900));
    let mut text = String::new();
    let mut lines = 0;
    for part in 0..64 {
        for _ in 0..80 {
            text.push_str(&debug);
            lines += 1;
        }
        text.push_str(&event("info", &format!("info {part}")));
        lines += 1;
    }
    text.push_str(&event("warn", "at last"));
    (text, lines + 1)
}

#[tokio::test]
async fn past_the_backlog_debug_lines_go_first_are_counted_and_their_bytes_given_back() {
    use std::os::unix::fs::MetadataExt as _;
    const LIMIT: u64 = 1 << 20;
    let (text, printed) = chatter();
    let job = Job::new();
    let (mut daemon, desk, segments, cursor) = job.begin(LIMIT);
    let (_end, ended) = watch::channel(true);
    // Fills the window, so that the chatter waits.
    let first = job.output(&desk, 1, "x\n".repeat(8_000).as_bytes(), &ended);
    let second = job.output(&desk, 2, text.as_bytes(), &ended);
    for segment in [first, second] {
        segments.send(segment).expect("sent");
    }
    drop((segments, desk));
    let whole = Duration::from_secs(10);
    let path = job.dir.stdout(2, Process::Apply);
    let half = text.len() as u64 / 2;
    let thinned = async {
        let thinned = || Past::read(&job.dir).thinned;
        let to = || thinned().values().flatten().map(|it| it.to).max();
        let blocks = || std::fs::metadata(&path).expect("output").blocks();
        while to() != Some(text.len() as u64) || blocks() * 512 > half {
            let _ = tokio::time::timeout(LOOK, daemon.some()).await;
        }
    };
    tokio::time::timeout(whole, thinned)
        .await
        .expect("it is thinned while it waits");
    // Live, and again after a crash, the log is the same.
    let (again, _cursor) = {
        cursor.abort();
        let _ = cursor.await;
        job.again(8_000)
    };
    let lines = again.all().await;
    let gaps: Vec<&LogLine> = lines
        .iter()
        .filter(|it| it.source() == LogSource::Gap)
        .collect();
    let left_out: usize = gaps
        .iter()
        .map(|gap| {
            gap.text
                .split(' ')
                .next()
                .expect("a word")
                .parse::<usize>()
                .expect("a count")
        })
        .sum();
    assert_eq!(lines.len() - gaps.len() + left_out, printed);
    let debug = lines
        .iter()
        .filter(|it| it.level() == LogLevel::Debug)
        .count() as u64;
    let whole_lines = LIMIT / 950;
    assert!(
        debug > whole_lines - 100 && debug < whole_lines + 100,
        "{debug}"
    );
    let infos = lines
        .iter()
        .filter(|it| it.text.starts_with("info "))
        .count();
    assert!(
        infos > 20 && infos < 64,
        "past twice the limit they go too: {infos}"
    );
    assert_eq!(lines.last().expect("a line").text, "at last");
    assert!(gaps.len() <= 2, "one for each part: {gaps:#?}");
}
