//! Values of a `.tfvars` or `.tfvars.json` file. A string travels as it is, everything
//! else as JSON, which is what template variables expect.

use std::path::Path;

use hcl_edit::expr::{Expression, ObjectKey};
use hcl_edit::structure::{Body, Structure};
use hcl_edit::template::Element;
use serde_json::Value;

use crate::failure::Failure;

/// Names and values in the order of the file; `null` stands for "not given".
///
/// # Errors
/// The file cannot be read, is no tfvars file or computes a value.
pub fn read(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    let json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let values = if json {
        from_json(&text)
    } else {
        from_hcl(&text)
    };
    let values = values.map_err(|reason| {
        Failure::user(
            "VARIABLE_FILE_INVALID",
            format!("{}: {reason}", path.display()),
        )
        .hint("a tfvars file holds `name = value` lines with literal values")
    })?;
    Ok(values
        .into_iter()
        .filter_map(|(name, value)| Some((name, text_of(value)?)))
        .collect())
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Some(other.to_string())
        }
    }
}

fn from_json(text: &str) -> Result<Vec<(String, Value)>, String> {
    let values: serde_json::Map<String, Value> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(values.into_iter().collect())
}

fn from_hcl(text: &str) -> Result<Vec<(String, Value)>, String> {
    let body: Body = text
        .parse()
        .map_err(|error: hcl_edit::parser::Error| format!("line {}", error.location().line()))?;
    body.into_iter()
        .map(|structure| match structure {
            Structure::Attribute(attribute) => {
                let name = attribute.key.to_string().trim().to_owned();
                let value = literal(&attribute.value).map_err(|what| format!("`{name}` {what}"))?;
                Ok((name, value))
            }
            Structure::Block(block) => Err(format!("block `{}`", block.ident.as_str())),
        })
        .collect()
}

fn literal(expression: &Expression) -> Result<Value, String> {
    match expression {
        Expression::Null(_) => Ok(Value::Null),
        Expression::Bool(value) => Ok(Value::Bool(*value.value())),
        Expression::Number(number) => {
            serde_json::from_str(&number.value().to_string()).map_err(|error| error.to_string())
        }
        Expression::String(text) => Ok(Value::String(text.value().clone())),
        Expression::Array(items) => items.iter().map(literal).collect(),
        Expression::Object(object) => object
            .iter()
            .map(|(key, value)| Ok((key_of(key)?, literal(value.expr())?)))
            .collect::<Result<serde_json::Map<_, _>, String>>()
            .map(Value::Object),
        Expression::HeredocTemplate(heredoc) => template(heredoc.template.iter()),
        Expression::StringTemplate(parts) => template(parts.iter()),
        Expression::Parenthesis(inner) => literal(inner.inner()),
        Expression::UnaryOp(_) => negative(expression),
        Expression::Variable(_)
        | Expression::Conditional(_)
        | Expression::FuncCall(_)
        | Expression::Traversal(_)
        | Expression::BinaryOp(_)
        | Expression::ForExpr(_) => Err("is no literal value".to_owned()),
    }
}

fn template<'a>(parts: impl Iterator<Item = &'a Element>) -> Result<Value, String> {
    parts
        .map(|part| match part {
            Element::Literal(text) => Ok(text.value().as_str()),
            Element::Interpolation(_) | Element::Directive(_) => {
                Err("holds an interpolation".to_owned())
            }
        })
        .collect::<Result<String, _>>()
        .map(Value::String)
}

/// `-1` is an operator on a number.
fn negative(expression: &Expression) -> Result<Value, String> {
    serde_json::from_str::<serde_json::Number>(expression.to_string().trim())
        .map(Value::Number)
        .map_err(|_| "is no literal value".to_owned())
}

fn key_of(key: &ObjectKey) -> Result<String, String> {
    match key {
        ObjectKey::Ident(name) => Ok(name.as_str().to_owned()),
        ObjectKey::Expression(expression) => match literal(expression)? {
            Value::String(text) => Ok(text),
            other => Ok(other.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str, text: &str) -> Result<Vec<(String, String)>, Failure> {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("write");
        read(&path)
    }

    #[test]
    fn strings_stay_and_the_rest_is_json() {
        let text = "region = \"eu\"\ncount = -3\nzones = [\"a\", \"b\"]\n# comment\nports = { web = 80, \"x y\" = true }\nnone = null\n";
        let found = values("a.tfvars", text).expect("values");
        let found: Vec<_> = found.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(
            found,
            [
                ("region", "eu"),
                ("count", "-3"),
                ("zones", r#"["a","b"]"#),
                ("ports", r#"{"web":80,"x y":true}"#),
            ]
        );
    }

    #[test]
    fn json_files_say_the_same() {
        let found = values("a.tfvars.json", r#"{"a": "x", "b": {"c": 1}}"#).expect("values");
        assert_eq!(found[1], ("b".to_owned(), r#"{"c":1}"#.to_owned()));
    }

    #[test]
    fn a_heredoc_is_text() {
        let found = values("a.tfvars", "key = <<EOT\none\ntwo\nEOT\n").expect("values");
        assert_eq!(found[0].1, "one\ntwo\n");
    }

    #[test]
    fn computed_values_and_blocks_are_refused_by_name() {
        let refused = values("a.tfvars", "a = upper(\"x\")\n").expect_err("call");
        assert!(refused.message.contains("`a` is no literal"), "{refused}");
        assert!(values("a.tfvars", "a = \"${b}\"\n").is_err());
        assert!(values("a.tfvars", "resource \"x\" \"y\" {}\n").is_err());
        assert!(values("a.tfvars", "a = \n").is_err());
    }
}
