use std::time::Duration;

use super::*;

fn line(seq: u64, bytes: usize) -> LogLine {
    LogLine {
        seq,
        text: "x".repeat(bytes),
        ..LogLine::default()
    }
}

fn outbox() -> (Outbox, Instant) {
    let now = Instant::now();
    (Outbox::new(&Timings::default(), now), now)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn steady_lines_leave_by_the_age_of_the_oldest() {
    let (mut outbox, start) = outbox();
    for seq in 1..=10 {
        outbox.line(line(seq, 1), start + ms(seq * 100));
        assert_eq!(outbox.due(), start + ms(350), "line {seq}");
    }
    let batch = outbox.take(start + ms(350));
    outbox.stored(&batch);
    assert_eq!(batch.lines.len(), 10);
    assert_eq!(outbox.due(), start + ms(3_350));
}

#[test]
fn size_and_count_flush_at_once() {
    let (mut outbox, start) = outbox();
    for seq in 1..=200 {
        assert!(outbox.due() > start, "line {seq}");
        outbox.line(line(seq, 1), start);
    }
    assert!(outbox.due() <= start);
    let (mut outbox, start) = self::outbox();
    outbox.line(line(1, 64 * 1024), start);
    assert!(outbox.due() <= start);
}

#[test]
fn a_silent_job_sends_heartbeats() {
    let (mut outbox, start) = outbox();
    assert_eq!(outbox.due(), start + ms(3_000));
    outbox.take(start + ms(3_000));
    assert_eq!(outbox.due(), start + ms(6_000));
}

#[test]
fn the_ledger_and_a_checkpoint_do_not_wait() {
    let (mut outbox, start) = outbox();
    outbox.ledger([LedgerEntry::default()]);
    assert!(outbox.due() <= start);
    let (mut outbox, start) = self::outbox();
    outbox.checkpoint(Checkpoint::default());
    assert!(outbox.due() <= start);
}

#[test]
fn an_update_keeps_to_its_limits_and_loses_nothing() {
    let (mut outbox, start) = outbox();
    for seq in 1..=5_000 {
        outbox.line(line(seq, 1_500), start);
    }
    let mut seen = Vec::new();
    while outbox.bytes() > 0 {
        let batch = outbox.take(start);
        let bytes: usize = batch.lines.iter().map(|line| line.text.len()).sum();
        assert!(batch.lines.len() <= limits::UPDATE_LINES && bytes <= limits::UPDATE_BYTES);
        seen.extend(batch.lines.iter().map(|line| line.seq));
        outbox.stored(&batch);
    }
    assert_eq!(seen, (1..=5_000).collect::<Vec<_>>());
    assert_eq!(outbox.bytes(), 0);
}

#[test]
fn what_was_not_stored_is_sent_again() {
    let (mut outbox, start) = outbox();
    outbox.line(line(1, 1), start);
    let lost = outbox.take(start);
    outbox.line(line(2, 1), start);
    let again = outbox.take(start);
    assert_eq!(lost.lines.len(), 1);
    assert_eq!(again.lines.len(), 2);
    outbox.stored(&lost);
    assert_eq!(outbox.take(start).lines[0].seq, 2);
}

#[test]
fn a_checkpoint_that_came_meanwhile_stays() {
    let (mut outbox, start) = outbox();
    outbox.checkpoint(Checkpoint {
        serial: 1,
        ..Checkpoint::default()
    });
    let batch = outbox.take(start);
    outbox.checkpoint(Checkpoint {
        serial: 2,
        ..Checkpoint::default()
    });
    outbox.stored(&batch);
    assert_eq!(outbox.take(start).checkpoint.expect("newer").serial, 2);
}
