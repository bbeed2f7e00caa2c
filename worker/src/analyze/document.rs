//! One configuration file, native or JSON, as the same few declarations.

use hcl_edit::Span;
use hcl_edit::expr::Expression;
use hcl_edit::structure::{Block, Body};
use hcl_edit::template::Template;
use serde_json::{Map, Value};

/// A declared value: an expression of the native syntax, or a JSON value in whose
/// strings templates stand.
#[derive(Debug, Clone)]
pub(super) enum Given {
    Native(Expression),
    Json(Value),
}

/// An attribute of a declaration, its source text, and where it is.
#[derive(Debug, Clone)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) given: Given,
    pub(super) text: String,
    pub(super) line: usize,
}

impl Attribute {
    /// Where the value starts in its file, for native syntax.
    pub(super) fn given_start(&self) -> usize {
        match &self.given {
            Given::Native(expression) => expression.span().map_or(0, |span| span.start),
            Given::Json(_) => 0,
        }
    }
}

/// `variable "x"`, `data "t" "n"` or `locals`, with its attributes.
#[derive(Debug, Clone)]
pub(super) struct Declaration {
    pub(super) kind: &'static str,
    pub(super) labels: Vec<String>,
    pub(super) line: usize,
    pub(super) attributes: Vec<Attribute>,
}

impl Declaration {
    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }

    pub(super) fn is_data(&self, kind: &str) -> bool {
        self.kind == "data" && self.labels.first().is_some_and(|label| label == kind)
    }
}

/// Why a file cannot be read here, though an engine might.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// The block types that are read, and how many labels they have.
const KINDS: [(&str, usize); 3] = [("variable", 1), ("data", 2), ("locals", 0)];

/// Reads a file by its name and content.
pub(super) fn read(name: &str, content: &[u8]) -> Result<Vec<Declaration>, Unreadable> {
    let text = std::str::from_utf8(content).map_err(|error| Unreadable {
        line: line_at(content, error.valid_up_to()),
        reason: "it is not UTF-8".to_owned(),
    })?;
    if name.ends_with(".json") {
        return json(text);
    }
    let body: Body = text
        .parse()
        .map_err(|error: hcl_edit::parser::Error| Unreadable {
            line: error.location().line(),
            reason: error.message().to_owned(),
        })?;
    Ok(body
        .blocks()
        .filter_map(|block| native(text, block))
        .collect())
}

fn native(text: &str, block: &Block) -> Option<Declaration> {
    let (kind, labels) = KINDS.into_iter().find(|(kind, _)| block.has_ident(kind))?;
    if block.labels.len() != labels {
        return None;
    }
    let place = |span: Option<std::ops::Range<usize>>| {
        let span = span.unwrap_or(0..0);
        (
            line_at(text.as_bytes(), span.start),
            text.get(span).unwrap_or_default().trim(),
        )
    };
    Some(Declaration {
        kind,
        labels: block
            .labels
            .iter()
            .map(|label| label.as_str().to_owned())
            .collect(),
        line: place(block.span()).0,
        attributes: block
            .body
            .attributes()
            .map(|attribute| Attribute {
                name: attribute.key.as_str().to_owned(),
                line: place(attribute.span()).0,
                text: place(attribute.value.span()).1.to_owned(),
                given: Given::Native(attribute.value.clone()),
            })
            .collect(),
    })
}

fn json(text: &str) -> Result<Vec<Declaration>, Unreadable> {
    let root: Value = serde_json::from_str(text).map_err(|error| Unreadable {
        line: error.line(),
        reason: error.to_string(),
    })?;
    let mut declarations = Vec::new();
    for (kind, labels) in KINDS {
        for body in objects(&root) {
            for found in body.get(kind).into_iter().flat_map(objects) {
                labelled(
                    text,
                    kind,
                    labels,
                    &mut Vec::new(),
                    found,
                    &mut declarations,
                );
            }
        }
    }
    Ok(declarations)
}

fn labelled(
    text: &str,
    kind: &'static str,
    missing: usize,
    labels: &mut Vec<String>,
    body: &Map<String, Value>,
    into: &mut Vec<Declaration>,
) {
    if missing > 0 {
        for (label, value) in body {
            labels.push(label.clone());
            for body in objects(value) {
                labelled(text, kind, missing - 1, labels, body, into);
            }
            labels.pop();
        }
        return;
    }
    let line = labels.last().map_or(1, |label| line_of_key(text, label));
    into.push(Declaration {
        kind,
        labels: labels.clone(),
        line,
        attributes: body
            .iter()
            .map(|(name, value)| Attribute {
                name: name.clone(),
                line: line.max(line_of_key(text, name)),
                text: match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                },
                given: Given::Json(value.clone()),
            })
            .collect(),
    });
}

/// JSON configuration may wrap any body in arrays.
fn objects(value: &Value) -> Vec<&Map<String, Value>> {
    match value {
        Value::Object(map) => vec![map],
        Value::Array(items) => items.iter().flat_map(objects).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// The first line with this key; the parser does not keep places.
fn line_of_key(text: &str, key: &str) -> usize {
    let quoted = Value::String(key.to_owned()).to_string();
    line_at(text.as_bytes(), text.find(&quoted).unwrap_or(0))
}

fn line_at(text: &[u8], at: usize) -> usize {
    1 + text[..at.min(text.len())]
        .iter()
        .filter(|b| **b == b'\n')
        .count()
}

/// A string of JSON configuration, which is a template.
pub(super) fn template(text: &str) -> Option<Template> {
    text.parse().ok()
}
