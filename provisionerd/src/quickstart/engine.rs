//! The engine of a quickstart: looked for before anything is made, so that a machine
//! without one gets one clear line and no failed job.

use crate::daemon::EngineChoice;
use crate::failure::Failure;

/// Says at once what would otherwise fail the first job.
///
/// # Errors
/// There is no such engine here.
pub(super) fn check(choice: &EngineChoice) -> Result<(), Failure> {
    let found = match choice {
        EngineChoice::Auto => ["terraform", "tofu"]
            .iter()
            .any(|name| which::which(name).is_ok()),
        EngineChoice::Named(name) => which::which(name.as_str()).is_ok(),
        EngineChoice::Path(path) => which::which(path).is_ok(),
    };
    if found {
        return Ok(());
    }
    let what = match choice {
        EngineChoice::Auto => "neither terraform nor tofu is on PATH".to_owned(),
        EngineChoice::Named(name) => format!("{} is not on PATH", name.as_str()),
        EngineChoice::Path(path) => format!("{} is no program", path.display()),
    };
    Err(Failure::internal("ENGINE_MISSING", what)
        .hint("install Terraform or OpenTofu, or name one with --engine PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_engine_is_one_clear_line() {
        let choice = EngineChoice::Path("/no/such/engine".into());
        let failure = check(&choice).expect_err("missing");
        assert_eq!(failure.code, "ENGINE_MISSING");
        assert_eq!(failure.message, "/no/such/engine is no program");
    }
}
