use super::*;
use crate::link;
use proto::v1::LogLine;
use std::io::Write;
use tokio::net::UnixStream;

struct Daemon {
    inbox: link::Receiver<FromWorker>,
    credit: watch::Sender<u64>,
}

impl Daemon {
    fn new() -> (Self, mpsc::Sender<Segment>, tokio::task::JoinHandle<u64>) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let (_, sender) = link::split::<FromWorker, FromWorker>(ours, 1 << 26);
        let (inbox, _) = link::split::<FromWorker, FromWorker>(theirs, 1 << 26);
        let (outbox, _) = Outbox::start(sender);
        let (credit, stored) = watch::channel(0);
        let (segments, cursor) = start(outbox, stored, Notices::default());
        (Self { inbox, credit }, segments, cursor)
    }

    /// Takes lines, granting credit for each, until the cursor has ended.
    async fn all(mut self) -> Vec<LogLine> {
        let mut lines = Vec::new();
        while let Some(frame) = self.inbox.next().await.expect("frame") {
            let Some(from_worker::Message::Batch(batch)) = frame.message else {
                panic!("no batch");
            };
            lines.extend(batch.lines);
            let stored = lines.len() as u64;
            self.credit
                .send_modify(|credit| *credit = stored.max(*credit));
        }
        lines
    }
}

fn output(text: &[u8], ended: watch::Receiver<bool>) -> (tempfile::NamedTempFile, Output) {
    let mut file = tempfile::NamedTempFile::new().expect("file");
    file.write_all(text).expect("write");
    let output = Output {
        phase: Phase::Apply,
        stdout: Some(file.reopen().expect("open")),
        stderr: tempfile::tempfile().expect("stderr"),
        ended,
    };
    (file, output)
}

fn system(text: &str) -> Segment {
    Segment::System {
        phase: Phase::Setup,
        level: LogLevel::Info,
        text: text.to_owned(),
    }
}

#[tokio::test]
async fn a_hundred_thousand_lines_arrive_whole_and_in_order() {
    const LINES: usize = 100_000;
    let (daemon, segments, cursor) = Daemon::new();
    let text: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
    let (_end, ended) = watch::channel(true);
    let (_file, output) = output(text.as_bytes(), ended);
    segments.send(Segment::Output(output)).await.expect("sent");
    drop(segments);
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
    let (daemon, segments, _cursor) = Daemon::new();
    let (_end, ended) = watch::channel(true);
    let (_one, first) = output(b"one\n", ended.clone());
    let (_two, second) = output(b"two", ended);
    for segment in [
        system("before"),
        Segment::Output(first),
        system("between"),
        Segment::Output(second),
        system("after"),
    ] {
        segments.send(segment).await.expect("sent");
    }
    drop(segments);
    let texts: Vec<String> = daemon.all().await.into_iter().map(|l| l.text).collect();
    assert_eq!(texts, ["before", "one", "between", "two", "after"]);
}

#[tokio::test]
async fn without_credit_no_more_than_a_window_leaves() {
    let (mut daemon, segments, cursor) = Daemon::new();
    let text = "x\n".repeat(50_000);
    let (_end, ended) = watch::channel(true);
    let (_file, output) = output(text.as_bytes(), ended);
    segments.send(Segment::Output(output)).await.expect("sent");
    drop(segments);
    let mut seen = 0;
    let quiet = Duration::from_millis(300);
    while let Ok(frame) = tokio::time::timeout(quiet, daemon.inbox.next()).await {
        let message = frame.expect("frame").expect("open").message;
        if let Some(from_worker::Message::Batch(batch)) = message {
            seen += batch.lines.len();
        }
    }
    assert!(seen > 0 && seen < 50_000 && !cursor.is_finished(), "{seen}");
    daemon.credit.send_replace(u64::MAX);
    let rest = daemon.all().await.len();
    assert_eq!(seen + rest, 50_000);
}

#[tokio::test]
async fn a_line_over_one_piece_travels_in_pieces_that_join_to_it() {
    let (daemon, segments, _cursor) = Daemon::new();
    let long = "y".repeat(10 << 20);
    let (_end, ended) = watch::channel(true);
    let (_file, output) = output(format!("{long}\nnext\n").as_bytes(), ended);
    segments.send(Segment::Output(output)).await.expect("sent");
    drop(segments);
    let lines = daemon.all().await;
    let (last, pieces) = lines.split_last().expect("lines");
    assert_eq!((last.text.as_str(), last.more), ("next", false));
    let joined: String = pieces.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(joined, long);
    assert_eq!(pieces.iter().filter(|line| !line.more).count(), 1);
}
