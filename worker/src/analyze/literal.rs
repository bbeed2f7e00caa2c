//! Values that are written out, so that they are known without evaluating anything.

use hcl_edit::expr::{Expression, ObjectKey, UnaryOperator};
use hcl_edit::template::{Element, Template};
use serde_json::{Map, Number, Value};

use super::document::Given;

/// The value, if it is written out in full.
pub(super) fn value(given: &Given) -> Option<Value> {
    match given {
        Given::Native(expression) => of_expression(expression),
        Given::Json(value) => Some(value.clone()),
    }
}

/// The string, if it is one and written out in full.
pub(super) fn string(given: &Given) -> Option<String> {
    match value(given)? {
        Value::String(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

fn of_expression(expression: &Expression) -> Option<Value> {
    match expression {
        Expression::Null(_) => Some(Value::Null),
        Expression::Bool(value) => Some(Value::Bool(**value)),
        Expression::Number(number) => number_of(number),
        Expression::String(text) => Some(Value::String(text.to_string())),
        Expression::StringTemplate(template) => literal_template(template),
        Expression::HeredocTemplate(heredoc) => {
            let mut heredoc = heredoc.clone();
            heredoc.dedent();
            literal_template(&heredoc.template)
        }
        Expression::Parenthesis(inner) => of_expression(inner.inner()),
        Expression::UnaryOp(operation) => {
            match (*operation.operator, of_expression(&operation.expr)?) {
                (UnaryOperator::Neg, Value::Number(number)) => negative(&number),
                (UnaryOperator::Not, Value::Bool(value)) => Some(Value::Bool(!value)),
                _ => None,
            }
        }
        Expression::Array(items) => items.iter().map(of_expression).collect(),
        Expression::Object(object) => {
            let mut map = Map::new();
            for (key, item) in object {
                map.insert(key_of(key)?, of_expression(item.expr())?);
            }
            Some(Value::Object(map))
        }
        Expression::Variable(_)
        | Expression::Conditional(_)
        | Expression::FuncCall(_)
        | Expression::Traversal(_)
        | Expression::BinaryOp(_)
        | Expression::ForExpr(_) => None,
    }
}

fn key_of(key: &ObjectKey) -> Option<String> {
    match key {
        ObjectKey::Ident(ident) => Some(ident.as_str().to_owned()),
        ObjectKey::Expression(Expression::Variable(ident)) => Some(ident.as_str().to_owned()),
        ObjectKey::Expression(expression) => match of_expression(expression)? {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        },
    }
}

fn literal_template(template: &Template) -> Option<Value> {
    let mut text = String::new();
    for element in template {
        match element {
            Element::Literal(literal) => text.push_str(literal),
            Element::Interpolation(_) | Element::Directive(_) => return None,
        }
    }
    Some(Value::String(text))
}

fn number_of(number: &hcl_edit::Number) -> Option<Value> {
    if let Some(whole) = number.as_i64() {
        return Some(whole.into());
    }
    if let Some(whole) = number.as_u64() {
        return Some(whole.into());
    }
    Number::from_f64(number.as_f64()?).map(Value::Number)
}

fn negative(number: &Number) -> Option<Value> {
    if let Some(whole) = number.as_i64().and_then(i64::checked_neg) {
        return Some(whole.into());
    }
    Number::from_f64(-number.as_f64()?).map(Value::Number)
}
