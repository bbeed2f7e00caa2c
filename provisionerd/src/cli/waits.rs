//! The waits of `serve` and `start`: the promised ones, which tests with real processes
//! may shorten a little. Nobody else should: queue and daemons must agree on them.

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
    fn tests_may_divide_the_waits_by_four_and_no_more() {
        assert_eq!(divided(None).expect("none"), Timings::default());
        let quarter = divided(Some("4")).expect("four");
        assert_eq!(quarter, Timings::default().divided(4));
        for wrong in ["0", "5", "-1", "x", ""] {
            assert!(divided(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
