use super::*;

fn redactor(secrets: &[&str]) -> Redactor {
    let secrets: Vec<Secret> = secrets
        .iter()
        .map(|secret| Secret::new((*secret).to_owned()))
        .collect();
    Redactor::new(secrets).expect("redactor")
}

/// `text` cut into pieces of `size` bytes, as the worker would send it.
fn pieces(text: &str, size: usize) -> Vec<LogLine> {
    let mut lines: Vec<LogLine> = text
        .as_bytes()
        .chunks(size)
        .zip(1..)
        .map(|(piece, seq)| LogLine {
            seq,
            text: String::from_utf8(piece.to_vec()).expect("ascii"),
            more: true,
            ..LogLine::default()
        })
        .collect();
    if let Some(last) = lines.last_mut() {
        last.more = false;
    }
    lines
}

#[test]
fn a_secret_is_masked_wherever_a_line_is_cut() {
    let text = "token=correct-horse, again correct-horse.";
    for size in 1..=text.len() {
        let mut redactor = redactor(&["correct-horse"]);
        let out: Vec<LogLine> = pieces(text, size)
            .into_iter()
            .flat_map(|piece| redactor.line(piece))
            .collect();
        let joined: String = out.iter().map(|line| line.text.as_str()).collect();
        assert!(
            !joined.contains("corr") && !joined.contains("orse"),
            "{joined}"
        );
        assert!(joined.starts_with("token=") && joined.contains(", again "));
        assert!(out.iter().all(|line| line.text.len() <= size.max(1)));
        let seqs: Vec<u64> = out.iter().map(|line| line.seq).collect();
        let pieces = u64::try_from(text.len().div_ceil(size)).expect("few");
        assert_eq!(seqs, (1..=pieces).collect::<Vec<_>>());
        assert!(redactor.rest().is_empty());
    }
}

#[test]
fn a_secret_longer_than_several_pieces_is_masked() {
    let secret = "s3cr3t-".repeat(30);
    let mut redactor = redactor(&[&secret]);
    let text = format!("begin {secret} end");
    let joined: String = pieces(&text, 16)
        .into_iter()
        .flat_map(|piece| redactor.line(piece))
        .map(|line| line.text)
        .collect();
    assert!(!joined.contains("cr3t"), "{joined}");
    assert!(
        joined.starts_with("begin *") && joined.ends_with(" end"),
        "{joined}"
    );
}

#[test]
fn whole_lines_are_never_held_back() {
    let mut redactor = redactor(&["correct-horse"]);
    let line = LogLine {
        text: "ends like corr".into(),
        ..LogLine::default()
    };
    assert_eq!(redactor.line(line.clone()), [line]);
}

#[test]
fn overlapping_secrets_leave_nothing_of_either() {
    let redactor = redactor(&["abcdef", "defghi", "cdef"]);
    assert_eq!(redactor.text("x abcdefghi y"), "x *** y");
}

#[test]
fn each_line_and_the_escaped_form_of_a_secret_are_masked() {
    let key = "-----BEGIN KEY-----\nMIIEpAIBAAKC\n-----END KEY-----\n";
    let redactor = redactor(&[key, "pass\"word\\1"]);
    assert_eq!(redactor.text("  MIIEpAIBAAKC"), "  ***");
    assert_eq!(redactor.text(r#"{"v":"pass\"word\\1"}"#), r#"{"v":"***"}"#);
    assert_eq!(
        redactor.text(r"-----BEGIN KEY-----\nMIIEpAIBAAKC\n-----END KEY-----\n"),
        "***"
    );
}

#[test]
fn short_secrets_and_plain_words_are_left_alone() {
    let redactor = redactor(&["abc", "true", "null", ""]);
    assert_eq!(redactor.text("abc true null"), "abc true null");
}

#[test]
fn a_line_never_grows() {
    let redactor = redactor(&["1234"]);
    assert_eq!(redactor.text("1234 1234"), "*** ***");
}

#[test]
fn pieces_that_wait_come_out_at_the_end() {
    let mut redactor = redactor(&["correct-horse"]);
    let piece = LogLine {
        text: "ends inside corr".into(),
        more: true,
        ..LogLine::default()
    };
    assert!(redactor.line(piece.clone()).is_empty());
    assert_eq!(redactor.rest(), [piece]);
}

#[test]
fn what_is_learnt_later_is_masked_from_then_on_and_in_what_waits() {
    let mut redactor = redactor(&["an-early-secret"]);
    let mut two = pieces("a late-secret here", 6).into_iter();
    let mut out = redactor.line(two.next().expect("piece"));
    assert!(out.is_empty(), "it waits");
    let late = Secret::new("late-secret".to_owned());
    redactor.learn(vec![late]).expect("learnt");
    out.extend(two.flat_map(|piece| redactor.line(piece)));
    let joined: String = out.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(joined, "a *** here");
    assert_eq!(redactor.text("an-early-secret late-secret"), "*** ***");
}

#[test]
fn the_first_secret_may_come_when_lines_were_shown_already() {
    let mut redactor = redactor(&[]);
    assert_eq!(redactor.line(pieces("early", 9).remove(0)).len(), 1);
    let late = Secret::new("late-secret".to_owned());
    redactor.learn(vec![late]).expect("learnt");
    let out = redactor.line(pieces("late-secret", 20).remove(0));
    assert_eq!(out[0].text, "***");
}
