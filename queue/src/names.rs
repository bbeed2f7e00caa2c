//! Names that people give: organizations, templates, workspaces, keys, tokens, owners,
//! daemons.

use proto::limits;

use crate::refusal::{Refusal, shown};

/// Accepts letters, digits, `-`, `_`, `.` and `@` (owners may be e-mail addresses), at
/// most [`limits::NAME`] bytes, beginning with a letter or digit: names stand in command
/// lines, URLs and environment variables.
///
/// # Errors
/// The name, what it was for, and the rule.
pub fn check(what: &'static str, name: &str) -> Result<(), Refusal> {
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    if first && name.bytes().all(plain) && name.len() <= limits::NAME {
        return Ok(());
    }
    let message = format!("`{}` cannot be the name of a {what}", shown(name));
    Err(Refusal::invalid("INVALID_NAME", message).hint(format!(
        "use 1 to {} letters, digits, - _ . or @, beginning with a letter or digit",
        limits::NAME
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "dev-1", "ann@example.com", "A.b_c"] {
            assert!(check("workspace", good).is_ok(), "{good}");
        }
        let long = "x".repeat(limits::NAME + 1);
        for bad in ["", "-a", "a b", "a/b", "ä", "a\0", &long] {
            assert!(check("workspace", bad).is_err(), "{bad}");
        }
    }
}
