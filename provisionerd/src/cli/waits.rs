//! The waits of `serve` and `start`: the promised ones, which tests with real processes
//! may shorten a little. Nobody else should: queue and daemons must agree on them.

use std::time::Duration;

use proto::limits;
use proto::timings::Timings;

use crate::failure::Failure;

/// For tests: all waits are divided by this number, from 1 to [`LARGEST`].
const VARIABLE: &str = "PROVISIONERD_TEST_TIMINGS_DIVISOR";

/// A machine with other things to do still keeps a quarter of every wait.
const LARGEST: u32 = 4;

/// Every wait of this process.
///
/// # Errors
/// The divisor is not a number from 1 to 4.
pub fn timings() -> Result<Timings, Failure> {
    divided(std::env::var(VARIABLE).ok().as_deref())
}

/// The same with a lease after the gate of so many seconds, where one is given: half of
/// it at least is the daemon's to trust, the rest is for ending its engines.
///
/// # Errors
/// As [`timings`], and a lease that leaves too little.
pub fn with_lease(seconds: Option<u64>) -> Result<Timings, Failure> {
    let timings = timings()?;
    match seconds {
        Some(seconds) => leased(timings, Duration::from_secs(seconds)),
        None => Ok(timings),
    }
}

fn leased(timings: Timings, lease: Duration) -> Result<Timings, Failure> {
    let reserve = timings.lease_interrupt + timings.lease_kill + timings.lease_margin;
    let (shortest, longest) = (reserve * 2, Duration::from_secs(limits::LEASE_SECONDS));
    if lease < shortest || lease > longest {
        return Err(Failure::usage(format!(
            "--lease {}: a lease lasts from {} to {} seconds",
            lease.as_secs(),
            shortest.as_secs(),
            longest.as_secs(),
        )));
    }
    Ok(Timings { lease, ..timings })
}

fn divided(divisor: Option<&str>) -> Result<Timings, Failure> {
    let Some(text) = divisor else {
        return Ok(Timings::default());
    };
    match text.parse::<u32>() {
        Ok(divisor @ 1..=LARGEST) => Ok(Timings::default().divided(divisor)),
        Ok(_) | Err(_) => Err(Failure::usage(format!(
            "{VARIABLE}=`{text}` is no number from 1 to {LARGEST}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_leaves_time_to_end_what_it_held() {
        let whole = Timings::default();
        let given = |seconds| leased(whole.clone(), Duration::from_secs(seconds));
        assert_eq!(given(600).expect("the promised one"), whole);
        let shortest = given(180).expect("twice the reserve");
        assert_eq!(shortest.trusted(), Duration::from_secs(90));
        let refused = given(179).expect_err("too short");
        assert!(refused.message.contains("180"), "{refused:?}");
        assert!(given(86_400).is_ok());
        assert!(given(86_401).is_err());
    }

    #[test]
    fn tests_may_divide_the_waits_by_four_and_no_more() {
        assert_eq!(divided(None).expect("none"), Timings::default());
        let quarter = divided(Some("4")).expect("four");
        assert_eq!(quarter, Timings::default().divided(4));
        for wrong in ["0", "5", "-1", "x", ""] {
            assert!(divided(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
