use proto::secret::Secret;
use proto::timings::Timings;

use super::*;

fn log() -> Log {
    let redactor = Redactor::new(vec![Secret::new("hunter2".into())]).expect("redactor");
    Log::after(
        0,
        redactor,
        Outbox::new(&Timings::default(), Instant::now()),
    )
}

fn line(seq: u64, bytes: usize) -> LogLine {
    LogLine {
        seq,
        text: "x".repeat(bytes),
        ..LogLine::default()
    }
}

#[test]
fn a_hole_or_a_repeat_in_a_sequence_is_a_foul() {
    assert_eq!(in_order("line", 3, 2), Ok(()));
    for got in [0, 2, 4] {
        let foul = in_order("line", got, 2).expect_err("foul");
        assert_eq!(
            foul.to_string(),
            format!("it sent line {got} where 3 was due")
        );
    }
}

#[test]
fn a_line_over_the_limit_and_more_than_the_credit_are_fouls() {
    let mut log = log();
    assert!(log.take(vec![line(1, limits::LOG_PIECE)]).is_ok());
    let foul = log.take(vec![line(2, limits::LOG_PIECE + 1)]);
    assert!(matches!(foul, Err(Foul::Line { .. })), "{foul:?}");
    let most = u64::try_from(outbox::OVERFLOW / limits::LOG_PIECE).expect("small");
    for seq in 2..=most {
        assert!(log.take(vec![line(seq, limits::LOG_PIECE)]).is_ok());
    }
    let foul = log.take(vec![line(most + 1, 1)]);
    assert!(matches!(foul, Err(Foul::Credit { .. })), "{foul:?}");
}

#[test]
fn while_updates_go_nothing_is_left_out_however_much_waits() {
    let mut log = log();
    for seq in 1..=5_000 {
        log.take(vec![line(seq, 1_500)]).expect("taken");
    }
    let lines = log.end();
    assert_eq!(lines.len(), 5_000);
    assert!(lines.iter().all(|line| line.source() != LogSource::Gap));
}

#[test]
fn what_a_closed_queue_does_not_take_is_counted_in_the_place_of_its_last_line() {
    for (count, bytes) in [(5_000_u64, 10_usize), (5_000, 1_500)] {
        let mut log = log();
        // A part of it waited already when the queue closed.
        for seq in 1..=count {
            if seq == count - 100 {
                log.close();
            }
            log.take(vec![line(seq, bytes)]).expect("taken");
        }
        let mut lines = log.end();
        assert!(lines.len() <= limits::UPDATE_LINES);
        let text: usize = lines.iter().map(|line| line.text.len()).sum();
        assert!(text <= limits::UPDATE_BYTES);
        let gap = lines.pop().expect("a gap line");
        assert_eq!((gap.source(), gap.seq), (LogSource::Gap, count));
        let left = count - u64::try_from(lines.len()).expect("small");
        let words = format!("{left} lines ({} bytes) were left out", left * bytes as u64);
        assert!(gap.text.starts_with(&words), "{}", gap.text);
        for (line, seq) in lines.iter().zip(1..) {
            assert_eq!(line.seq, seq);
        }
    }
}

#[test]
fn pieces_that_wait_for_their_secret_to_end_come_with_the_end() {
    let mut log = log();
    let piece = |seq, text: &str, more| LogLine {
        seq,
        text: text.into(),
        more,
        ..LogLine::default()
    };
    log.take(vec![piece(1, "say hunt", true)]).expect("taken");
    log.take(vec![piece(2, "er2", true)]).expect("taken");
    let texts: Vec<String> = log.end().into_iter().map(|line| line.text).collect();
    assert_eq!(texts, ["say ***", ""]);
}

#[test]
fn a_log_is_read_again_from_the_end_of_a_whole_line() {
    let batch = |lines: &[(u64, bool)]| Batch {
        lines: lines
            .iter()
            .map(|(seq, more)| LogLine {
                seq: *seq,
                more: *more,
                ..LogLine::default()
            })
            .collect(),
        ..Batch::default()
    };
    assert_eq!(Log::whole_lines(&batch(&[])), None);
    assert_eq!(Log::whole_lines(&batch(&[(4, true), (5, true)])), None);
    let cut = batch(&[(4, false), (5, false), (6, true)]);
    assert_eq!(Log::whole_lines(&cut), Some(5));
}
