//! Rules of template parameters, checked before any engine runs. Pure.
//!
//! The rules are those of the `coder_parameter` data source, with the template author's
//! own error text. A value comes from, in this order: what was given, what the previous
//! build had (never for an ephemeral one), the default.
//!
//! The provider plugin checks again during plan: where its regex dialect (Go) and ours
//! differ, a pattern that does not compile here is left to it.

mod value;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::v1::{ParameterValue, RichParameter};

/// What is wrong with one parameter, for the person who gave it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter `{parameter}`: {message}")]
pub struct Problem {
    /// Its name.
    pub parameter: String,
    /// What is wrong, in the author's words where there are some.
    pub message: String,
}

/// Which values must keep to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// All: a start or a dry run.
    All,
    /// Those that were given: a stop or delete must not fail because of an old value.
    GivenOnly,
}

/// Values of one build, to be resolved against the parameters of its version.
#[derive(Debug, Clone, Copy)]
pub struct Resolve<'a> {
    /// The version's parameters.
    pub rules: &'a [RichParameter],
    /// Given with the request.
    pub given: &'a [ParameterValue],
    /// Of the previous build; empty for a first one.
    pub previous: &'a [ParameterValue],
    /// Which values must keep to the rules.
    pub check: Check,
}

impl Resolve<'_> {
    /// One value for every parameter of the version, in its order.
    ///
    /// # Errors
    /// Every problem, not just the first.
    pub fn resolve(&self) -> Result<Vec<ParameterValue>, Vec<Problem>> {
        let mut problems = self.unknown_or_twice();
        let given = by_name(self.given);
        let previous = by_name(self.previous);
        let mut values = Vec::with_capacity(self.rules.len());
        for rule in self.rules {
            let name = rule.name.as_str();
            match self.one(rule, given.get(name).copied(), previous.get(name).copied()) {
                Ok(Some(value)) => values.push(ParameterValue {
                    name: rule.name.clone(),
                    value: value.to_owned(),
                }),
                Ok(None) => {}
                Err(message) => problems.push(problem(name, message)),
            }
        }
        if problems.is_empty() {
            Ok(values)
        } else {
            Err(problems)
        }
    }

    fn unknown_or_twice(&self) -> Vec<Problem> {
        let known: BTreeSet<&str> = self.rules.iter().map(|rule| rule.name.as_str()).collect();
        let mut seen = BTreeSet::new();
        let mut problems = Vec::new();
        for ParameterValue { name, .. } in self.given {
            if !known.contains(name.as_str()) {
                problems.push(problem(name, unknown(&known)));
            } else if !seen.insert(name.as_str()) {
                problems.push(problem(name, "is given twice".to_owned()));
            }
        }
        problems
    }

    /// The value of one parameter; `None` when a stop or delete has none.
    fn one<'v>(
        &self,
        rule: &'v RichParameter,
        given: Option<&'v str>,
        previous: Option<&'v str>,
    ) -> Result<Option<&'v str>, String> {
        let carried = previous.filter(|_| !rule.ephemeral);
        let must_hold = given.is_some() || self.check == Check::All;
        if let (Some(given), Some(carried)) = (given, carried)
            && !rule.mutable
            && given != carried
        {
            return Err(format!(
                "cannot be changed after the workspace was created (it is \"{carried}\")"
            ));
        }
        let Some(value) = given.or(carried) else {
            return match (rule.required, self.check) {
                (true, Check::All) => Err("is required and has no default".to_owned()),
                (true, Check::GivenOnly) => Ok(None),
                (false, _) => checked(rule, &rule.default_value, carried, must_hold),
            };
        };
        checked(rule, value, carried, must_hold)
    }
}

fn checked<'v>(
    rule: &RichParameter,
    value: &'v str,
    previous: Option<&str>,
    must_hold: bool,
) -> Result<Option<&'v str>, String> {
    if must_hold {
        value::check(rule, value, previous)?;
    }
    Ok(Some(value))
}

fn unknown(known: &BTreeSet<&str>) -> String {
    if known.is_empty() {
        return "the template has no parameters".to_owned();
    }
    let names: Vec<&str> = known.iter().copied().collect();
    format!(
        "the template has no such parameter (it has: {})",
        names.join(", ")
    )
}

fn by_name(values: &[ParameterValue]) -> BTreeMap<&str, &str> {
    values
        .iter()
        .map(|value| (value.name.as_str(), value.value.as_str()))
        .collect()
}

fn problem(parameter: &str, message: String) -> Problem {
    Problem {
        parameter: parameter.to_owned(),
        message,
    }
}
