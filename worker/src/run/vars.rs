//! Values of template variables as a variable file, which engines apply last. A value is
//! text; what it means depends on the variable's type, by the engines' own rule for
//! `-var`: text for primitive types, an expression without references for all others.

use hcl_edit::expr::{Expression, ObjectKey, UnaryOperator};
use proto::v1::{JobError, MarkSensitive, TemplateVariable, VariableValue};
use serde_json::{Map, Value};

/// The variable file, below `work/`. Engines load no such name by themselves.
pub(super) const VAR_FILE: &str = ".provisionerd.tfvars.json";

/// A variable file and what was left out of it.
#[derive(Debug, PartialEq)]
pub(super) struct VarFile {
    /// JSON text.
    pub(super) content: Vec<u8>,
    /// Names of values that the template declares no variable for.
    pub(super) undeclared: Vec<String>,
}

/// Refuses a job that lacks the value of a required variable, naming all of them.
pub(super) fn check_required(
    declared: &[TemplateVariable],
    values: &[VariableValue],
) -> Result<(), JobError> {
    let missing: Vec<&str> = declared
        .iter()
        .filter(|variable| variable.required)
        .map(|variable| variable.name.as_str())
        .filter(|name| !values.iter().any(|value| value.name == *name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("the template requires values for: {}", missing.join(", "));
    Err(JobError::user("REQUIRED_TEMPLATE_VARIABLES", message)
        .hint("Pass each as --variable NAME=VALUE, or in a file with --variable-file."))
}

/// What of the template's variables must not show in the job's log.
pub(super) fn sensitive(declared: &[TemplateVariable], values: &[VariableValue]) -> MarkSensitive {
    let mut mark = MarkSensitive::default();
    for variable in declared.iter().filter(|variable| variable.sensitive) {
        mark.names.push(variable.name.clone());
        let given = values.iter().find(|value| value.name == variable.name);
        let texts = given.map(|given| &given.value).into_iter();
        for text in texts.chain([&variable.default_value]) {
            match typed(variable, text) {
                Ok(value) => leaves(&value, &mut mark.values),
                // The engine will refuse it, and may quote it.
                Err(_) => mark.values.push(text.clone()),
            }
        }
    }
    // Of a name that nothing declares, nothing says that it may be shown.
    let unknown = |value: &&VariableValue| declared.iter().all(|it| it.name != value.name);
    let unknown = values.iter().filter(unknown);
    mark.names.extend(unknown.map(|value| value.name.clone()));
    mark.values.retain(|value| !value.is_empty());
    mark
}

/// The texts and numbers in a value; engines print them one by one.
fn leaves(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => into.push(number.to_string()),
        Value::String(text) => into.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, into)),
        Value::Object(items) => items.values().for_each(|item| leaves(item, into)),
    }
}

/// Builds the variable file.
///
/// # Errors
/// `VARIABLE_INVALID`: a value of a complex type is neither JSON nor a literal.
pub(super) fn var_file(
    declared: &[TemplateVariable],
    values: &[VariableValue],
) -> Result<VarFile, JobError> {
    let mut map = Map::new();
    let mut undeclared = Vec::new();
    for value in values {
        match declared.iter().find(|variable| variable.name == value.name) {
            Some(variable) => {
                map.insert(value.name.clone(), typed(variable, &value.value)?);
            }
            None => undeclared.push(value.name.clone()),
        }
    }
    Ok(VarFile {
        content: Value::Object(map).to_string().into_bytes(),
        undeclared,
    })
}

fn typed(variable: &TemplateVariable, text: &str) -> Result<Value, JobError> {
    // Engines turn text into numbers and booleans themselves and complain in their own
    // words when they cannot.
    if matches!(variable.r#type.trim(), "" | "string" | "number" | "bool") {
        return Ok(Value::String(text.to_owned()));
    }
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let literal = hcl_edit::parser::parse_expr(text.trim())
        .ok()
        .and_then(|expression| literal(&expression));
    literal.ok_or_else(|| {
        let message = format!(
            "the value of variable `{}` is no literal of type {}",
            variable.name, variable.r#type
        );
        JobError::user("VARIABLE_INVALID", message)
            .hint("Write it as JSON or as in a .tfvars file, without references and functions.")
    })
}

/// The JSON of an expression without references, functions and operators.
fn literal(expression: &Expression) -> Option<Value> {
    match expression {
        Expression::Null(_) => Some(Value::Null),
        Expression::Bool(value) => Some(Value::Bool(*value.value())),
        Expression::Number(number) => serde_json::from_str(&number.value().to_string()).ok(),
        Expression::String(text) => Some(Value::String(text.value().clone())),
        Expression::Array(items) => items
            .iter()
            .map(literal)
            .collect::<Option<_>>()
            .map(Value::Array),
        Expression::Object(items) => items
            .iter()
            .map(|(key, value)| Some((object_key(key)?, literal(value.expr())?)))
            .collect::<Option<_>>()
            .map(Value::Object),
        Expression::Parenthesis(inner) => literal(inner.inner()),
        Expression::UnaryOp(operation) if *operation.operator.value() == UnaryOperator::Neg => {
            let Value::Number(number) = literal(&operation.expr)? else {
                return None;
            };
            serde_json::from_str(&format!("-{number}")).ok()
        }
        Expression::HeredocTemplate(_)
        | Expression::StringTemplate(_)
        | Expression::Variable(_)
        | Expression::Conditional(_)
        | Expression::FuncCall(_)
        | Expression::Traversal(_)
        | Expression::UnaryOp(_)
        | Expression::BinaryOp(_)
        | Expression::ForExpr(_) => None,
    }
}

fn object_key(key: &ObjectKey) -> Option<String> {
    match key {
        ObjectKey::Ident(ident) => Some(ident.value().to_string()),
        ObjectKey::Expression(expression) => match expression {
            Expression::Variable(ident) => Some(ident.value().to_string()),
            other => literal(other)?.as_str().map(str::to_owned),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(kind: &str, text: &str) -> Result<Value, JobError> {
        let declared = [TemplateVariable {
            name: "v".to_owned(),
            r#type: kind.to_owned(),
            ..TemplateVariable::default()
        }];
        let file = var_file(&declared, &[value("v", text)])?;
        let json: Value = serde_json::from_slice(&file.content).expect("json");
        Ok(json["v"].clone())
    }

    fn value(name: &str, text: &str) -> VariableValue {
        VariableValue {
            name: name.to_owned(),
            value: text.to_owned(),
            sensitive: false,
        }
    }

    #[test]
    fn text_stays_text_for_primitive_types() {
        for kind in ["", "string", "number", "bool"] {
            assert_eq!(file(kind, "[1]").expect("value"), json!("[1]"));
        }
        assert_eq!(
            file("string", "${x}\"\n").expect("value"),
            json!("${x}\"\n")
        );
    }

    #[test]
    fn complex_types_take_json_and_literals() {
        assert_eq!(
            file("list(string)", r#"["a"]"#).expect("json"),
            json!(["a"])
        );
        assert_eq!(
            file("object({a = number})", "{ a = -1.5, \"b\" : [true, null] }").expect("hcl"),
            json!({"a": -1.5, "b": [true, null]})
        );
        assert_eq!(file("any", "7").expect("number"), json!(7));
    }

    #[test]
    fn an_expression_with_references_is_refused_by_name() {
        for text in ["[var.x]", "file(\"/etc/passwd\")", "{", "plain words"] {
            let refused = file("list(string)", text).expect_err(text);
            assert_eq!(refused.code, "VARIABLE_INVALID");
            assert!(refused.message.contains("`v`"));
        }
    }

    #[test]
    fn a_value_without_a_variable_is_left_out_and_named() {
        let file = var_file(&[], &[value("old", "x")]).expect("file");
        assert_eq!(file.undeclared, ["old"]);
        assert_eq!(file.content, b"{}");
    }

    #[test]
    fn a_sensitive_variable_brings_its_value_its_default_and_their_parts() {
        let variable = |name: &str, kind: &str, default: &str, sensitive| TemplateVariable {
            name: name.to_owned(),
            r#type: kind.to_owned(),
            default_value: default.to_owned(),
            sensitive,
            ..TemplateVariable::default()
        };
        let declared = [
            variable("plain", "string", "shown", false),
            variable("password", "string", "hunter1", true),
            variable("keys", "map(string)", "", true),
        ];
        let values = [
            value("password", "hunter2"),
            value("keys", r#"{ a = "hunter3", b = "hunter4" }"#),
            value("unknown", "hunter5"),
        ];
        let mark = sensitive(&declared, &values);
        assert_eq!(mark.names, ["password", "keys", "unknown"]);
        assert_eq!(mark.values, ["hunter2", "hunter1", "hunter3", "hunter4"]);
    }

    #[test]
    fn all_missing_required_variables_are_named_at_once() {
        let required = |name: &str| TemplateVariable {
            name: name.to_owned(),
            required: true,
            ..TemplateVariable::default()
        };
        let declared = [required("a"), required("b"), required("c")];
        let refused = check_required(&declared, &[value("b", "")]).expect_err("missing");
        assert_eq!(refused.code, "REQUIRED_TEMPLATE_VARIABLES");
        assert!(refused.message.ends_with("a, c"), "{}", refused.message);
    }
}
