//! `variable` blocks of a root module.

use std::collections::HashMap;

use proto::v1::TemplateVariable;
use serde_json::Value;

use super::document::{Attribute, Declaration, Given};
use super::literal;

/// Variables by file and line. Override files come last in `files` and replace what they
/// name again.
pub(super) fn collect(files: &[(String, Vec<Declaration>)]) -> Vec<TemplateVariable> {
    let mut variables: Vec<TemplateVariable> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (_, declarations) in files {
        let mut declared: Vec<&Declaration> = declarations
            .iter()
            .filter(|d| d.kind == "variable")
            .collect();
        declared.sort_by_key(|declaration| declaration.line);
        for declaration in declared {
            let Some(name) = declaration.labels.first() else {
                continue;
            };
            let place = *places.entry(name).or_insert_with(|| {
                variables.push(TemplateVariable {
                    name: name.clone(),
                    required: true,
                    ..TemplateVariable::default()
                });
                variables.len() - 1
            });
            merge(&mut variables[place], declaration);
        }
    }
    variables
}

fn merge(variable: &mut TemplateVariable, declaration: &Declaration) {
    if let Some(text) = declaration.attribute("description").and_then(text) {
        variable.description = text;
    }
    if let Some(attribute) = declaration.attribute("type") {
        variable.r#type = type_of(attribute);
    }
    if let Some(attribute) = declaration.attribute("sensitive") {
        // Engines take the word as text too. What cannot be read here hides the value.
        variable.sensitive = match literal::value(&attribute.given) {
            Some(Value::Bool(sensitive)) => sensitive,
            Some(Value::String(text)) => text != "false",
            _ => true,
        };
    }
    if let Some(attribute) = declaration.attribute("default") {
        variable.required = false;
        variable.default_value = match literal::value(&attribute.given) {
            Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            // Constant, since engines take nothing else, but it has to be computed.
            None => attribute.text.clone(),
        };
    }
}

fn text(attribute: &Attribute) -> Option<String> {
    literal::string(&attribute.given)
}

/// As the author wrote it: `list(string)`. Old templates quote it.
fn type_of(attribute: &Attribute) -> String {
    match &attribute.given {
        Given::Native(_) => text(attribute).unwrap_or_else(|| attribute.text.clone()),
        Given::Json(_) => attribute.text.clone(),
    }
}
