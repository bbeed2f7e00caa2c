//! Log lines: whole, in order, once.

use proto::v1::{self, UpdateVerdict};

use super::world::{Held, ORG, World, line, lines};
use crate::store::Store;
use crate::store::model::{Gate, LogPage, Update};
use crate::words::{Outcome, Phase};

async fn page<S: Store>(world: &World<S>, held: &Held, after: u64, limit: u32) -> LogPage {
    let page = world
        .store
        .logs_after(ORG.to_owned(), held.id, after, limit)
        .await;
    page.expect("a page")
}

fn texts(page: &LogPage) -> Vec<&str> {
    let lines = page.lines.iter().filter_map(|stored| stored.line.as_ref());
    lines.map(|line| line.text.as_str()).collect()
}

async fn send<S: Store>(
    world: &World<S>,
    held: &Held,
    counter: u64,
    lines: Vec<v1::LogLine>,
) -> u64 {
    let update = Update {
        lines,
        ..held.update(counter)
    };
    world.tell(update).await.stored_seq
}

pub(crate) async fn lines_are_stored_once_whatever_is_repeated<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    assert_eq!(send(&world, &held, 1, lines(1..=3)).await, 3);
    assert_eq!(send(&world, &held, 1, lines(1..=3)).await, 3);
    assert_eq!(send(&world, &held, 2, lines(2..=5)).await, 5);
    let mut finish = held.finish(Outcome::Succeeded);
    finish.report.lines = lines(4..=6);
    world.done(&finish).await;
    world.done(&finish).await;
    let page = page(&world, &held, 0, 100).await;
    let expected: Vec<_> = (1..=6).map(|seq| format!("line {seq}")).collect();
    assert_eq!(texts(&page), expected);
    let public: Vec<_> = page.lines.iter().map(|line| line.seq).collect();
    assert_eq!(public, [1, 2, 3, 4, 5, 6]);
    assert!(page.ended);
}

pub(crate) async fn a_hole_is_filled_and_told<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    assert_eq!(send(&world, &held, 1, lines(1..=2)).await, 2);
    assert_eq!(send(&world, &held, 2, lines(5..=6)).await, 2);
    assert_eq!(send(&world, &held, 3, lines(9..=9)).await, 2);
    assert_eq!(send(&world, &held, 4, lines(2..=7)).await, 7);
    assert_eq!(send(&world, &held, 5, lines(8..=8)).await, 9);
    let page = page(&world, &held, 0, 100).await;
    let mut seqs: Vec<_> = page
        .lines
        .iter()
        .filter_map(|it| it.line.as_ref())
        .map(|it| it.seq)
        .collect();
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(page.end, 9);
}

pub(crate) async fn a_hundred_thousand_lines_are_whole_and_in_order<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    for (counter, first) in (1..).zip((1..=100_000).step_by(1_000)) {
        let stored = send(&world, &held, counter, lines(first..=first + 999)).await;
        assert_eq!(stored, first + 999);
    }
    let mut after = 0;
    loop {
        let page = page(&world, &held, after, 5_000).await;
        assert_eq!(page.end, 100_000);
        if page.lines.is_empty() {
            break;
        }
        for stored in page.lines {
            after += 1;
            let line = stored.line.expect("a line");
            assert_eq!((stored.seq, line.seq), (after, after));
            assert_eq!(line.text, format!("line {after}"));
        }
    }
    assert_eq!(after, 100_000);
}

pub(crate) async fn lines_of_a_fenced_attempt_are_kept_and_nothing_else<S: Store>(world: World<S>) {
    world.push("template").await;
    let old = world.take("one").await;
    send(&world, &old, 1, lines(1..=1)).await;
    world.pass(10).await;
    let new = world.take("two").await;
    send(&world, &new, 1, vec![line(1, "of the second")]).await;
    let fenced = Update {
        lines: lines(1..=2),
        phase: Some(Phase::Apply),
        gate: Gate::Asked,
        ..old.update(9)
    };
    let reply = world.tell(fenced).await;
    assert_eq!(reply.verdict(), UpdateVerdict::Fenced);
    assert_eq!(reply.stored_seq, 2);
    let job = world.job(new.id).await;
    assert!(!job.gate_open);
    assert_eq!(job.phase(), v1::Phase::Unspecified);
    let page = page(&world, &new, 0, 100).await;
    assert_eq!(texts(&page), ["line 1", "of the second", "line 2"]);
    let attempts: Vec<_> = page.lines.iter().map(|line| line.attempt).collect();
    assert_eq!(attempts, [1, 2, 1]);
}

pub(crate) async fn long_lines_come_back_as_they_went_in<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    let pieces: Vec<_> = (1..=160)
        .map(|seq| v1::LogLine {
            more: seq < 160,
            ..line(seq, &"x".repeat(proto::limits::LOG_PIECE))
        })
        .collect();
    for (counter, part) in (1..).zip(pieces.chunks(40)) {
        send(&world, &held, counter, part.to_vec()).await;
    }
    let mut got = Vec::new();
    while got.len() < pieces.len() {
        let page = page(&world, &held, got.len() as u64, 1_000).await;
        // Two pieces have the text of one message.
        assert_eq!(page.lines.len(), 2, "after {}", got.len());
        got.extend(page.lines.into_iter().filter_map(|stored| stored.line));
    }
    assert!(got == pieces);
}

pub(crate) async fn a_page_ends_at_its_limit_and_goes_on_from_there<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    send(&world, &held, 1, lines(1..=50)).await;
    let first = page(&world, &held, 0, 20).await;
    assert_eq!((first.lines.len(), first.end), (20, 50));
    let second = page(&world, &held, 20, 100).await;
    assert_eq!((second.lines.len(), second.lines[0].seq), (30, 21));
    assert!(!second.ended);
    assert_eq!(page(&world, &held, 50, 100).await.lines, []);
}
