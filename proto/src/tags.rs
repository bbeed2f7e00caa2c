//! Provisioner tags and the rule by which a daemon may run a job. Pure; the one place
//! of the rule.
//!
//! A job's tags are a subset of the daemon's, except that a job with exactly
//! `{scope: organization, owner: ""}` goes only to a daemon with exactly those: a
//! daemon that was tagged is kept for jobs that ask for it. Facts of these names ([`FACTS`])
//! count as tags of the daemon, but that exact rule does not see them. A fact may list
//! several values with commas between them; it has each of them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::limits;

/// Key of the tag that says for whom: `organization` or `user`.
pub const SCOPE: &str = "scope";
/// Key of the tag that names the user of scope `user`, else empty.
pub const OWNER: &str = "owner";

/// Facts that a job may ask for like tags. No others: a daemon says its facts without leave
/// of its key.
pub const FACTS: [&str; 3] = ["engine", "engine_version", "sandbox"];

const ORGANIZATION: &str = "organization";
const USER: &str = "user";

/// Tags that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `=` in it, or nothing before it.
    #[error("tag `{0}` is not of the form key=value")]
    Form(String),
    /// A NUL byte, which no environment and no database text carries.
    #[error("tag `{0}` contains a NUL byte")]
    Nul(String),
    /// Key or value is too long.
    #[error("tag `{key}` is longer than {} bytes", limits::TAG)]
    TooLong {
        /// Its first bytes.
        key: String,
    },
    /// More tags than fit.
    #[error("{count} tags are more than {}", limits::TAGS)]
    TooMany {
        /// How many were given.
        count: usize,
    },
    /// The same key was given two values.
    #[error("tag `{0}` is given twice")]
    Twice(String),
    /// A scope that does not exist.
    #[error("tag scope is `{0}`, not organization or user")]
    Scope(String),
}

/// Tags of a job or a daemon, always with `scope` and `owner`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// Checks `pairs` and completes them: scope `organization` when there is none, and
    /// an owner only with scope `user`.
    ///
    /// # Errors
    /// The first pair that breaks a rule, by name.
    pub fn new<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error>
    where
        K: Into<String>,
        V: Into<String>,
    {
        let mut tags = checked(pairs)?;
        let scope = tags
            .entry(SCOPE.to_owned())
            .or_insert_with(|| ORGANIZATION.to_owned());
        match scope.as_str() {
            ORGANIZATION => {
                tags.insert(OWNER.to_owned(), String::new());
            }
            USER => {
                tags.entry(OWNER.to_owned()).or_default();
            }
            other => return Err(Error::Scope(other.to_owned())),
        }
        Ok(Self(tags))
    }

    /// The tags of a job that asks for nothing.
    #[must_use]
    pub fn untagged() -> Self {
        Self(BTreeMap::from([
            (SCOPE.to_owned(), ORGANIZATION.to_owned()),
            (OWNER.to_owned(), String::new()),
        ]))
    }

    /// Reads `key=value` arguments.
    ///
    /// # Errors
    /// As [`Tags::new`], and a text without `=`.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, Error> {
        Self::new(parse_pairs(texts)?)
    }

    /// These tags with those of `over` laid over them.
    ///
    /// # Errors
    /// As [`Tags::new`].
    pub fn overlaid<K, V>(&self, over: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error>
    where
        K: Into<String>,
        V: Into<String>,
    {
        let mut tags = self.0.clone();
        tags.extend(checked(over)?);
        Self::new(tags)
    }

    /// Whether a daemon with these tags and `facts` may run a job tagged `job`.
    #[must_use]
    pub fn can_run(&self, facts: &BTreeMap<String, String>, job: &Tags) -> bool {
        can_run(&self.0, facts, &job.0)
    }

    /// The pairs of `job` that a daemon with these tags and `facts` does not have.
    #[must_use]
    pub fn missing_for<'a>(
        &self,
        facts: &BTreeMap<String, String>,
        job: &'a Tags,
    ) -> Vec<(&'a str, &'a str)> {
        missing(&self.0, facts, &job.0)
    }

    /// Exactly `{scope: organization, owner: ""}`.
    #[must_use]
    pub fn is_untagged(&self) -> bool {
        is_untagged(&self.0)
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All pairs, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// As they travel.
    #[must_use]
    pub fn to_map(&self) -> HashMap<String, String> {
        self.0.clone().into_iter().collect()
    }

    /// As they are stored.
    #[must_use]
    pub fn into_pairs(self) -> BTreeMap<String, String> {
        self.0
    }
}

impl Default for Tags {
    fn default() -> Self {
        Self::untagged()
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

/// What a provisioner key allows: exact pairs, or any value of a key by `*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed(BTreeMap<String, String>);

impl Allowed {
    /// Checks the pairs of a key; unlike [`Tags`] they are not completed.
    ///
    /// # Errors
    /// The first pair that breaks a rule, by name.
    pub fn new<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error>
    where
        K: Into<String>,
        V: Into<String>,
    {
        checked(pairs).map(Self)
    }

    /// As they travel.
    #[must_use]
    pub fn to_map(&self) -> HashMap<String, String> {
        self.0.clone().into_iter().collect()
    }

    /// As they are stored.
    #[must_use]
    pub fn into_pairs(self) -> BTreeMap<String, String> {
        self.0
    }
}

/// The first tag of `tags` that a key with these pairs ([`Allowed`], as they are stored) does
/// not allow. Scope `organization` and an empty owner need no permission.
#[must_use]
pub fn outside<'a>(
    allowed: &BTreeMap<String, String>,
    tags: &'a Tags,
) -> Option<(&'a str, &'a str)> {
    tags.iter().find(|(key, value)| {
        let common =
            (*key == SCOPE && *value == ORGANIZATION) || (*key == OWNER && value.is_empty());
        let allowed = allowed.get(*key);
        !common && !allowed.is_some_and(|allowed| allowed == "*" || allowed == value)
    })
}

/// [`Tags::can_run`] on stored pairs, which were checked and completed before.
#[must_use]
pub fn can_run(
    daemon: &BTreeMap<String, String>,
    facts: &BTreeMap<String, String>,
    job: &BTreeMap<String, String>,
) -> bool {
    if is_untagged(job) {
        return is_untagged(daemon);
    }
    missing(daemon, facts, job).is_empty()
}

/// [`Tags::missing_for`] on stored pairs.
#[must_use]
pub fn missing<'a>(
    daemon: &BTreeMap<String, String>,
    facts: &BTreeMap<String, String>,
    job: &'a BTreeMap<String, String>,
) -> Vec<(&'a str, &'a str)> {
    job.iter()
        .filter(|(key, value)| match daemon.get(*key) {
            Some(own) => own != *value,
            None => !(FACTS.contains(&key.as_str()) && has_fact(facts, key, value)),
        })
        .map(|(key, value)| (&**key, &**value))
        .collect()
}

/// Whether the facts of a daemon have each of the values that `wanted` lists.
#[must_use]
pub fn has_fact(facts: &BTreeMap<String, String>, key: &str, wanted: &str) -> bool {
    let Some(fact) = facts.get(key) else {
        return false;
    };
    wanted
        .split(',')
        .all(|wanted| fact.split(',').any(|value| value == wanted))
}

/// [`Tags::is_untagged`] on stored pairs.
#[must_use]
pub fn is_untagged(tags: &BTreeMap<String, String>) -> bool {
    tags.len() == 2
        && tags.get(SCOPE).is_some_and(|scope| scope == ORGANIZATION)
        && tags.get(OWNER).is_some_and(String::is_empty)
}

/// Reads `key=value` arguments without completing them.
///
/// # Errors
/// A text without `=` or key, or a key that is given twice.
pub fn parse_pairs<S: AsRef<str>>(texts: &[S]) -> Result<BTreeMap<String, String>, Error> {
    let mut pairs = BTreeMap::new();
    for text in texts {
        let text = text.as_ref();
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Error::Form(shown(text)))?;
        if pairs.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Error::Twice(shown(key)));
        }
    }
    Ok(pairs)
}

fn checked<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<BTreeMap<String, String>, Error>
where
    K: Into<String>,
    V: Into<String>,
{
    let mut tags = BTreeMap::new();
    for (key, value) in pairs {
        let (key, value) = (key.into(), value.into());
        if key.is_empty() {
            return Err(Error::Form(format!("={}", shown(&value))));
        }
        if key.contains('\0') || value.contains('\0') {
            return Err(Error::Nul(shown(&key)));
        }
        if key.len() > limits::TAG || value.len() > limits::TAG {
            return Err(Error::TooLong { key: shown(&key) });
        }
        tags.insert(key, value);
    }
    if tags.len() > limits::TAGS {
        return Err(Error::TooMany { count: tags.len() });
    }
    Ok(tags)
}

/// A text short and plain enough for a message.
fn shown(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut out: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().count() > SHOWN {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests;
