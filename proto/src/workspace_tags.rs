//! Evaluates the `coder_workspace_tags` of a template version for one build. Pure.
//!
//! The import parsed them into parts, so that the queue, which never reads a template,
//! only has to join text.

use std::collections::BTreeMap;

use crate::v1::tag_part::Part;
use crate::v1::{ParameterValue, TagPart, TemplateVariable, VariableValue, WorkspaceTag};

/// A tag that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It names a variable that has neither value nor default.
    #[error("a workspace tag needs variable `{0}`, which has no value")]
    Variable(String),
    /// It names a parameter that the build has no value for.
    #[error("a workspace tag needs parameter `{0}`, which has no value")]
    Parameter(String),
    /// A part of a kind that this version does not know.
    #[error("workspace tag `{0}` was made by a newer version")]
    Part(String),
    /// The key came out empty.
    #[error("a workspace tag has an empty key")]
    EmptyKey,
    /// Two tags have the same key.
    #[error("workspace tag `{0}` is given twice")]
    Twice(String),
}

/// What the parts of a tag may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// Declared variables, for their defaults.
    pub variables: &'a [TemplateVariable],
    /// Values given to variables at push.
    pub variable_values: &'a [VariableValue],
    /// Resolved parameters of the build.
    pub parameters: &'a [ParameterValue],
}

/// The tags of one build, to be laid over those of its version.
///
/// # Errors
/// The first tag that cannot be evaluated.
pub fn evaluate(
    tags: &[WorkspaceTag],
    values: Values<'_>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut out = BTreeMap::new();
    for tag in tags {
        let key = join(&tag.key, values)?;
        if key.is_empty() {
            return Err(Error::EmptyKey);
        }
        let value = join(&tag.value, values)?;
        if out.contains_key(&key) {
            return Err(Error::Twice(key));
        }
        out.insert(key, value);
    }
    Ok(out)
}

fn join(parts: &[TagPart], values: Values<'_>) -> Result<String, Error> {
    let mut out = String::new();
    for part in parts {
        match &part.part {
            Some(Part::Literal(text)) => out.push_str(text),
            Some(Part::Variable(name)) => out.push_str(values.variable(name)?),
            Some(Part::Parameter(name)) => out.push_str(values.parameter(name)?),
            None => return Err(Error::Part(out)),
        }
    }
    Ok(out)
}

impl<'a> Values<'a> {
    fn variable(&self, name: &str) -> Result<&'a str, Error> {
        let given = self.variable_values.iter().find(|value| value.name == name);
        let declared = self.variables.iter().find(|variable| variable.name == name);
        match (given, declared) {
            (Some(given), _) => Ok(&given.value),
            (None, Some(declared)) if !declared.required => Ok(&declared.default_value),
            (None, _) => Err(Error::Variable(name.to_owned())),
        }
    }

    fn parameter(&self, name: &str) -> Result<&'a str, Error> {
        let found = self.parameters.iter().find(|value| value.name == name);
        found
            .map(|value| value.value.as_str())
            .ok_or_else(|| Error::Parameter(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_variables_and_parameters_are_joined() {
        let tags = [tag(
            [literal("cluster")],
            [
                literal("eu-"),
                variable("zone"),
                literal("-"),
                parameter("size"),
            ],
        )];
        let parameters = [ParameterValue {
            name: "size".into(),
            value: "big".into(),
        }];
        let variables = [declared("zone", "b", false)];
        let mut values = Values {
            variables: &variables,
            variable_values: &[],
            parameters: &parameters,
        };
        let expected = |text: &str| BTreeMap::from([("cluster".to_owned(), text.to_owned())]);
        assert_eq!(evaluate(&tags, values), Ok(expected("eu-b-big")));
        let given = [VariableValue {
            name: "zone".into(),
            value: "a".into(),
            sensitive: false,
        }];
        values.variable_values = &given;
        assert_eq!(evaluate(&tags, values), Ok(expected("eu-a-big")));
    }

    #[test]
    fn what_has_no_value_is_named() {
        let required = [declared("zone", "", true)];
        let values = Values {
            variables: &required,
            variable_values: &[],
            parameters: &[],
        };
        let one = |part| [tag([literal("k")], [part])];
        assert_eq!(
            evaluate(&one(variable("zone")), values),
            Err(Error::Variable("zone".into()))
        );
        assert_eq!(
            evaluate(&one(parameter("size")), values),
            Err(Error::Parameter("size".into()))
        );
    }

    #[test]
    fn a_key_is_unique_and_not_empty() {
        let values = Values {
            variables: &[],
            variable_values: &[],
            parameters: &[],
        };
        let twice = [
            tag([literal("k")], [literal("a")]),
            tag([literal("k")], [literal("b")]),
        ];
        assert_eq!(evaluate(&twice, values), Err(Error::Twice("k".into())));
        assert_eq!(
            evaluate(&[tag([literal("")], [literal("a")])], values),
            Err(Error::EmptyKey)
        );
        let newer = [tag([TagPart { part: None }], [literal("a")])];
        assert!(matches!(evaluate(&newer, values), Err(Error::Part(_))));
    }

    fn tag(
        key: impl IntoIterator<Item = TagPart>,
        value: impl IntoIterator<Item = TagPart>,
    ) -> WorkspaceTag {
        WorkspaceTag {
            key: key.into_iter().collect(),
            value: value.into_iter().collect(),
        }
    }

    fn literal(text: &str) -> TagPart {
        TagPart {
            part: Some(Part::Literal(text.into())),
        }
    }

    fn variable(name: &str) -> TagPart {
        TagPart {
            part: Some(Part::Variable(name.into())),
        }
    }

    fn parameter(name: &str) -> TagPart {
        TagPart {
            part: Some(Part::Parameter(name.into())),
        }
    }

    fn declared(name: &str, default: &str, required: bool) -> TemplateVariable {
        TemplateVariable {
            name: name.into(),
            default_value: default.into(),
            required,
            ..TemplateVariable::default()
        }
    }
}
