//! Times and durations: RFC 3339 in UTC for programs, short words for people.

use std::time::Duration;

/// RFC 3339 with milliseconds, UTC. A time no calendar has is `null`.
pub fn rfc3339(unix_ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(unix_ms).ok()?;
    Some(format!("{time:.3}"))
}

/// The same without fractions, for tables.
pub fn short(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms)
        .map_or_else(|_| "-".to_owned(), |time| format!("{time:.0}"))
}

/// `340 ms`, `4.2 s`, `3 min 05 s`, `2 h 07 min`.
pub fn elapsed(duration: Duration) -> String {
    let ms = duration.as_millis();
    let s = duration.as_secs();
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", s, (ms % 1000) / 100),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, (s / 60) % 60),
    }
}

/// How long ago `then` was, both in Unix milliseconds.
pub fn ago(now_ms: i64, then_ms: i64) -> String {
    let ms = u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0);
    if ms < 1000 {
        return "now".to_owned();
    }
    format!(
        "{} ago",
        elapsed(Duration::from_secs(ms / 1000)).replace(".0 s", " s")
    )
}

/// Now, in Unix milliseconds.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        // `date -u -d @1795361400`
        assert_eq!(
            rfc3339(1_795_361_400_250).as_deref(),
            Some("2026-11-22T15:30:00.250Z")
        );
        assert_eq!(short(1_795_361_400_250), "2026-11-22T15:30:00Z");
        assert_eq!(rfc3339(i64::MAX), None);
    }

    #[test]
    fn durations_read_well_at_every_size() {
        let shown = |ms| elapsed(Duration::from_millis(ms));
        assert_eq!(shown(340), "340 ms");
        assert_eq!(shown(4_250), "4.2 s");
        assert_eq!(shown(185_000), "3 min 05 s");
        assert_eq!(shown(7_620_000), "2 h 07 min");
        assert_eq!(ago(10_000, 7_500), "2 s ago");
        assert_eq!(ago(10_000, 20_000), "now");
    }
}
