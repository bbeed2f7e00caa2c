//! Defaults of `coder_parameter`, where they are written out: before an engine has
//! planned, workspace tags that name a parameter have no other value.

use std::collections::BTreeMap;

use proto::v1::ParameterValue;
use serde_json::Value;

use super::document::{Attribute, Declaration, Given};
use super::literal;

/// The data source.
const KIND: &str = "coder_parameter";

/// What one parameter's declarations say.
#[derive(Default)]
struct Found<'a> {
    name: Option<&'a Attribute>,
    default: Option<&'a Attribute>,
}

/// Name and default of each parameter that has both written out. Override files come
/// last in `files` and replace what they name again.
pub(super) fn collect(files: &[(String, Vec<Declaration>)]) -> Vec<ParameterValue> {
    let mut found: BTreeMap<&str, Found<'_>> = BTreeMap::new();
    let declarations = files.iter().flat_map(|(_, declarations)| declarations);
    for declaration in declarations.filter(|declaration| declaration.is_data(KIND)) {
        let Some(label) = declaration.labels.get(1) else {
            continue;
        };
        let known = found.entry(label).or_default();
        known.name = declaration.attribute("name").or(known.name);
        known.default = declaration.attribute("default").or(known.default);
    }
    let values = found.into_values().filter_map(|found| {
        Some(ParameterValue {
            name: text(found.name?)?,
            value: text(found.default?)?,
        })
    });
    values.collect()
}

/// As the provider reads it: everything is text.
fn text(attribute: &Attribute) -> Option<String> {
    match literal::value(&attribute.given)? {
        Value::String(text) => match attribute.given {
            // A string of JSON configuration is a template.
            Given::Json(_) if text.contains("${") || text.contains("%{") => None,
            Given::Json(_) | Given::Native(_) => Some(text),
        },
        value @ (Value::Bool(_) | Value::Number(_)) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
