//! Whether a log has every line its engine printed: once, in order, without a hole.

use anyhow::{Result, ensure};

/// The scripted engine counts its lines and says at its end how many there were.
///
/// # Errors
/// A line is missing, twice or out of order; or the end, where all is due.
pub fn steady(texts: &[&str], whole: bool) -> Result<()> {
    let numbers: Vec<u64> = texts
        .iter()
        .filter_map(|text| text.strip_prefix("steady ")?.parse().ok())
        .collect();
    ensure!(counts_up(&numbers), "numbers of lines: {numbers:?}");
    if whole {
        let end = format!("steady ended after {}", numbers.len());
        ensure!(texts.contains(&end.as_str()), "no line `{end}`");
    }
    Ok(())
}

/// The lines of a story that is told once, whatever attempt it falls to.
///
/// # Errors
/// A line is missing, twice or out of order.
pub fn once(texts: &[&str], word: &str, count: u64) -> Result<()> {
    let numbers: Vec<u64> = texts
        .iter()
        .filter_map(|text| text.strip_prefix(word)?.trim_start().parse().ok())
        .collect();
    let all = numbers.len() as u64 == count && counts_up(&numbers);
    ensure!(all, "of {count} lines `{word}`: {numbers:?}");
    Ok(())
}

/// How many lines the scripted engine has printed, as its output file tells it, in which
/// what was acknowledged is punched out.
#[must_use]
pub fn printed(output: &[u8]) -> u64 {
    const SIGN: &str = "\"steady ";
    let text = String::from_utf8_lossy(output);
    let number = |rest: &str| rest.split('"').next()?.parse::<u64>().ok();
    let rests = text.split(SIGN).skip(1);
    rests.filter_map(number).max().unwrap_or_default()
}

/// Each resource of the real apply counts its ticks and says with each how many are due.
///
/// # Errors
/// As [`steady`].
pub fn ticks(texts: &[&str], resources: usize, whole: bool) -> Result<()> {
    for index in 0..resources {
        // The error of an interrupted provisioner repeats all it printed, without this.
        let prefix = format!("(local-exec): slow {index}: tick ");
        let ticks: Vec<(u64, u64)> = texts
            .iter()
            .filter_map(|text| text.split_once(&prefix))
            .filter_map(|(_, tick)| tick.split_once(" of "))
            .filter_map(|(tick, of)| Some((tick.parse().ok()?, of.parse().ok()?)))
            .collect();
        let numbers: Vec<u64> = ticks.iter().map(|(tick, _)| *tick).collect();
        ensure!(counts_up(&numbers), "ticks of {index}: {numbers:?}");
        let due = ticks.first().map(|(_, of)| *of);
        let last = numbers.last().copied();
        ensure!(
            !whole || (due.is_some() && last == due),
            "of {index} tick {last:?} is the last of {due:?}"
        );
    }
    Ok(())
}

fn counts_up(numbers: &[u64]) -> bool {
    numbers.iter().zip(1..).all(|(number, due)| *number == due)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_a_repeat_and_a_missing_end_are_seen() {
        let whole = ["steady 1", "else", "steady 2", "steady ended after 2"];
        assert!(steady(&whole, true).is_ok());
        assert!(steady(&whole[..3], true).is_err());
        assert!(steady(&whole[..3], false).is_ok());
        assert!(steady(&["steady 1", "steady 3"], false).is_err());
        assert!(steady(&["steady 1", "steady 1"], false).is_err());
    }

    #[test]
    fn what_is_told_twice_or_not_at_all_is_seen() {
        assert!(once(&["applied 1", "x", "applied 2"], "applied", 2).is_ok());
        assert!(once(&["applied 1"], "applied", 2).is_err());
        assert!(once(&["applied 1", "applied 1"], "applied", 2).is_err());
    }

    #[test]
    fn an_output_file_tells_how_far_its_engine_has_come() {
        let file = b"\0\0\0{\"@message\":\"steady 7\"}\n{\"@message\":\"steady 8\"}\n{\"@mess";
        assert_eq!(printed(file), 8);
        assert_eq!(printed(b"\0\0"), 0);
    }

    #[test]
    fn every_resource_has_all_its_ticks() {
        let line = |index, tick| {
            format!("terraform_data.slow[{index}]: (local-exec): slow {index}: tick {tick} of 2")
        };
        let all: Vec<String> = [(0, 1), (1, 1), (1, 2), (0, 2)]
            .map(|(index, tick)| line(index, tick))
            .into();
        let texts: Vec<&str> = all.iter().map(String::as_str).collect();
        assert!(ticks(&texts, 2, true).is_ok());
        assert!(ticks(&texts[..3], 2, true).is_err());
        assert!(ticks(&texts[..3], 2, false).is_ok());
        assert!(ticks(&texts[1..], 2, false).is_err());
    }
}
