//! One statement for many rows of parameters.
//!
//! Where transitions are run side by side they send the same statements, each with
//! parameters of its own. What a statement costs is for the most part that it begins and
//! ends; so their parameters are sent as arrays, with one statement for all of them:
//!
//! ```text
//!   SELECT a FROM t WHERE k = $1 …      SELECT asked.n, answer.* FROM unnest($1) WITH ORDINALITY
//!                                           AS asked (p1, n) CROSS JOIN LATERAL (…) AS answer
//!   INSERT INTO t VALUES ($1, $2)       INSERT INTO t SELECT p1, p2 FROM unnest($1, $2) …
//!   UPDATE t SET a = $2 WHERE k = $1    UPDATE t SET a = p2 FROM unnest($1, $2) …
//!                                           WHERE k = ANY($1) AND k = p1
//! ```
//!
//! What does not read like one of these goes by itself.

use std::fmt::Write as _;

/// What a statement for many rows does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// It asks. The first column of an answer is the number, from 1, of whom it answers.
    Asks,
    /// It adds rows, each by itself.
    Adds,
    /// It changes, for each row of parameters, the rows that its first one names: those must
    /// differ, since nothing is changed twice by one statement.
    Changes,
}

/// The text for many rows of so many parameters that does what `text` (as PostgreSQL reads
/// it) does for one, if there is one.
pub(super) fn many(text: &str, parameters: usize) -> Option<(String, Does)> {
    if parameters == 0 {
        return None;
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let asked = Asked::of(parameters);
    if text.starts_with("SELECT ") {
        return Some((asks(&text, &asked), Does::Asks));
    }
    if text.starts_with("INSERT INTO ") {
        return adds(&text, &asked);
    }
    let (head, which) = split_at_word(&text, " WHERE ")?;
    if let Some(table) = head.strip_prefix("DELETE FROM ") {
        let rows = format!("DELETE FROM {} USING {}", word(table)?, asked.rows());
        return Some((format!("{rows} WHERE {}", named(which)?), Does::Changes));
    }
    let (table, set) = head.strip_prefix("UPDATE ")?.split_once(" SET ")?;
    if split_at_word(set, " FROM ").is_some() {
        return None;
    }
    let (table, set) = (word(table)?, of_row(set));
    let rows = format!("UPDATE {table} SET {set} FROM {}", asked.rows());
    Some((format!("{rows} WHERE {}", named(which)?), Does::Changes))
}

/// The table whose rows a query holds until the end of its transaction, if it does.
pub(super) fn held_by(text: &str) -> Option<&str> {
    if !(text.starts_with("SELECT ") && text.contains(" FOR NO KEY UPDATE")) {
        return None;
    }
    let (_, from) = split_at_word(text, " FROM ")?;
    from.split_whitespace().next()
}

fn asks(text: &str, asked: &Asked) -> String {
    // A subquery that holds rows is planned by itself, and so is one with an offset: never is
    // a table walked along first.
    let apart = if held_by(text).is_some() {
        ""
    } else {
        " OFFSET 0"
    };
    let rows = &asked.numbered();
    let one = of_row(text);
    format!("SELECT asked.n, answer.* FROM {rows} CROSS JOIN LATERAL ({one}{apart}) AS answer")
}

fn adds(text: &str, asked: &Asked) -> Option<(String, Does)> {
    let (into, rest) = split_at_word(text, " VALUES (")?;
    let end = closing(rest)?;
    let (values, behind) = (of_row(&rest[..end]), &rest[end + 1..]);
    let does = match behind {
        "" => Does::Adds,
        _ if behind.contains('$') || behind.contains(" RETURNING ") => return None,
        _ if behind.starts_with(" ON CONFLICT DO NOTHING") => Does::Adds,
        // Keyed by the first parameter, or the database refuses it.
        _ if behind.starts_with(" ON CONFLICT (") => Does::Changes,
        _ => return None,
    };
    let rows = asked.rows();
    Some((format!("{into} SELECT {values} FROM {rows}{behind}"), does))
}

/// A condition that names rows by the first parameter: rows are looked up by all of them,
/// and matched with theirs.
fn named(which: &str) -> Option<String> {
    if split_at_word(which, " OR ").is_some() || split_at_word(which, " RETURNING ").is_some() {
        return None;
    }
    let key = which.split(" AND ").find_map(|condition| {
        let (key, value) = condition.split_once(" = ")?;
        (value == "$1").then(|| word(key)).flatten()
    })?;
    Some(format!("{key} = ANY($1) AND {}", of_row(which)))
}

/// Rows of parameters.
struct Asked {
    arrays: String,
    names: String,
}

impl Asked {
    fn of(parameters: usize) -> Self {
        let list = |prefix: &str| {
            let all = (1..=parameters).map(|number| format!("{prefix}{number}"));
            all.collect::<Vec<_>>().join(", ")
        };
        Self {
            arrays: list("$"),
            names: list("p"),
        }
    }

    fn rows(&self) -> String {
        format!("unnest({}) AS asked ({})", self.arrays, self.names)
    }

    fn numbered(&self) -> String {
        let (arrays, names) = (&self.arrays, &self.names);
        format!("unnest({arrays}) WITH ORDINALITY AS asked ({names}, n)")
    }
}

/// A part of a statement with a row's column for each parameter.
fn of_row(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut parts = text.split('$');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        // Writing to a String does not fail.
        let _ = write!(out, "asked.p{part}");
    }
    out
}

/// What stands before and behind the first place of `word` that is in no parentheses.
fn split_at_word<'t>(text: &'t str, word: &str) -> Option<(&'t str, &'t str)> {
    let mut depth = 0_u32;
    for (at, byte) in text.bytes().enumerate() {
        if depth == 0 && text.as_bytes()[at..].starts_with(word.as_bytes()) {
            return Some((&text[..at], &text[at + word.len()..]));
        }
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Where the parenthesis ends that has just begun.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1_u32;
    text.bytes().position(|byte| {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}

/// It, if it is a name and nothing else.
fn word(text: &str) -> Option<&str> {
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!text.is_empty() && text.chars().all(named)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_answers_each_row_of_parameters() {
        let (text, does) = many("SELECT a FROM t WHERE k = $1 AND l > $2", 2).expect("a text");
        assert_eq!(does, Does::Asks);
        assert_eq!(
            text,
            "SELECT asked.n, answer.* FROM unnest($1, $2) WITH ORDINALITY AS asked (p1, p2, n) \
             CROSS JOIN LATERAL (SELECT a FROM t WHERE k = asked.p1 AND l > asked.p2 OFFSET 0) \
             AS answer"
        );
        let (held, _) = many("SELECT a FROM t WHERE k = $1 FOR NO KEY UPDATE", 1).expect("a text");
        assert!(held.ends_with("(SELECT a FROM t WHERE k = asked.p1 FOR NO KEY UPDATE) AS answer"));
    }

    #[test]
    fn rows_are_added_and_changed_together() {
        let all = [
            (
                "INSERT INTO t (a, b)\n     VALUES ($1, (SELECT c FROM u WHERE d = $2))",
                "INSERT INTO t (a, b) SELECT asked.p1, (SELECT c FROM u WHERE d = asked.p2) \
                 FROM unnest($1, $2) AS asked (p1, p2)",
                Does::Adds,
            ),
            (
                "INSERT INTO t VALUES ($1, $2) ON CONFLICT DO NOTHING",
                "INSERT INTO t SELECT asked.p1, asked.p2 \
                 FROM unnest($1, $2) AS asked (p1, p2) ON CONFLICT DO NOTHING",
                Does::Adds,
            ),
            (
                "INSERT INTO t VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
                "INSERT INTO t SELECT asked.p1, asked.p2 FROM unnest($1, $2) \
                 AS asked (p1, p2) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
                Does::Changes,
            ),
            (
                "UPDATE t SET a = COALESCE(a, $2)\n WHERE k = $1 AND l IS NULL",
                "UPDATE t SET a = COALESCE(a, asked.p2) FROM unnest($1, $2) AS asked (p1, p2) \
                 WHERE k = ANY($1) AND k = asked.p1 AND l IS NULL",
                Does::Changes,
            ),
            (
                "DELETE FROM t WHERE l = $2 AND k = $1",
                "DELETE FROM t USING unnest($1, $2) AS asked (p1, p2) \
                 WHERE k = ANY($1) AND l = asked.p2 AND k = asked.p1",
                Does::Changes,
            ),
        ];
        for (one, text, does) in all {
            assert_eq!(many(one, 2), Some((text.to_owned(), does)));
        }
    }

    #[test]
    fn what_cannot_be_told_apart_goes_by_itself() {
        for one in [
            "UPDATE t SET a = $1 WHERE k = $2",
            "UPDATE t SET a = $2 WHERE k = $1 OR l = $2",
            "UPDATE t SET a = b FROM u WHERE k = $1",
            "UPDATE t SET a = (SELECT b FROM u WHERE c = $2)",
            "UPDATE t SET a = $2 WHERE k = $1 RETURNING a",
            "UPDATE t AS u SET a = $2 WHERE k = $1",
            "DELETE FROM t WHERE k > $1",
            "INSERT INTO t SELECT $1 FROM u",
            "INSERT INTO t VALUES ($1) ON CONFLICT DO NOTHING RETURNING a",
            "INSERT INTO t VALUES ($1) ON CONFLICT (a) DO UPDATE SET b = $2",
            "WITH a AS (SELECT 1) SELECT $1",
            "LOCK TABLE t",
        ] {
            assert_eq!(many(one, 2), None, "{one}");
        }
        assert_eq!(many("SELECT 1", 0), None);
    }

    #[test]
    fn rows_that_are_held_are_those_of_the_query_itself() {
        let held = "SELECT t.a, (SELECT COUNT(*) FROM u WHERE b = $2) FROM t JOIN v ON v.c = t.c \
                    WHERE t.d = $1 FOR NO KEY UPDATE";
        assert_eq!(held_by(held), Some("t"));
        assert_eq!(held_by("SELECT a FROM t WHERE d = $1"), None);
    }
}
