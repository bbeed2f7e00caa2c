//! `migrate --check`: a look at the schema of a database, before a release serves on it.

use queue::portable::Place;
use queue::store::schema::{Check, Verdict, check as look};
use serde_json::{Value, json};

use super::super::Context;
use crate::failure::{Exit, Failure};

/// Says what this release would do.
///
/// # Errors
/// The database cannot be reached.
pub async fn check(context: &Context, place: &Place) -> Result<Exit, Failure> {
    let looked = look(&place.data_dir, &place.database).await;
    let found = looked.map_err(|error| {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        let hint = match &place.database {
            queue::Database::Embedded => {
                "is --data-dir right, and may this user read it?".to_owned()
            }
            queue::Database::Postgres(_) => queue::Error::Database(error).hint(),
        };
        Failure::internal("STORE_UNREACHABLE", message).hint(hint)
    })?;
    context.document(&document(&found), || words(&found))?;
    Ok(match found.verdict() {
        Verdict::Current | Verdict::Older | Verdict::Newer => Exit::Done,
        Verdict::TooNew => Exit::Failed,
    })
}

fn document(check: &Check) -> Value {
    json!({
        "schema": check.found.version,
        "compatible_from": check.found.compatible_from,
        "known": check.known,
        "verdict": match check.verdict() {
            Verdict::Current => "current",
            Verdict::Older => "would_migrate",
            Verdict::Newer => "compatible",
            Verdict::TooNew => "refused",
        },
        "old_replicas_may_restart": match check.verdict() {
            Verdict::Older => check.spares_the_old(),
            Verdict::Current | Verdict::Newer | Verdict::TooNew => true,
        },
    })
}

fn words(check: &Check) -> String {
    let (version, known) = (check.found.version, check.known);
    match check.verdict() {
        Verdict::Current => format!("The schema is at version {version}: nothing to do.\n"),
        Verdict::Older if version == 0 => {
            format!("There is no queue yet: `serve` makes schema version {known}.\n")
        }
        Verdict::Older if check.spares_the_old() => format!(
            "The schema is at version {version}: `serve` brings it to {known}. Replicas of the \
             release before go on, and may start again.\n"
        ),
        Verdict::Older => format!(
            "The schema is at version {version}: `serve` brings it to {known}. Replicas of the \
             release before go on, but are refused when they start again: replace them soon.\n"
        ),
        Verdict::Newer => format!(
            "The schema is at version {version}, of a newer release than this one, which knows \
             {known}: it is used as it is.\n"
        ),
        Verdict::TooNew => format!(
            "The schema is at version {version}, which releases may use that know {} or more. This \
             one knows {known}: `serve` refuses it.\n",
            check.found.compatible_from
        ),
    }
}

#[cfg(test)]
mod tests {
    use queue::store::schema::Found;

    use super::*;

    #[test]
    fn each_verdict_has_its_word_and_says_what_becomes_of_old_replicas() {
        let check = |version, compatible_from| Check {
            found: Found {
                version,
                compatible_from,
            },
            known: 5,
            then_compatible_from: 4,
        };
        for (version, from, verdict, old, text) in [
            (5, 4, "current", true, "nothing to do"),
            (4, 4, "would_migrate", true, "may start again"),
            (
                3,
                3,
                "would_migrate",
                false,
                "refused when they start again",
            ),
            (7, 5, "compatible", true, "used as it is"),
            (7, 6, "refused", true, "know 6 or more"),
            (0, 0, "would_migrate", false, "no queue yet"),
        ] {
            let found = check(version, from);
            let document = document(&found);
            assert_eq!(document["verdict"], verdict, "{version}");
            assert_eq!(document["old_replicas_may_restart"], old, "{version}");
            assert!(words(&found).contains(text), "{}", words(&found));
        }
    }
}
