//! One configuration file, native or JSON, as the same few declarations.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

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
    /// Of the file it stands in.
    pub(super) lines: Rc<Lines>,
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
        line: 1 + content[..error.valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count(),
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
    let lines = Rc::new(Lines::of(text));
    Ok(body
        .blocks()
        .filter_map(|block| native(text, &lines, block))
        .collect())
}

fn native(text: &str, lines: &Rc<Lines>, block: &Block) -> Option<Declaration> {
    let (kind, labels) = KINDS.into_iter().find(|(kind, _)| block.has_ident(kind))?;
    if block.labels.len() != labels {
        return None;
    }
    Some(Declaration {
        kind,
        labels: block
            .labels
            .iter()
            .map(|label| label.as_str().to_owned())
            .collect(),
        line: lines.at(block.span()),
        attributes: block
            .body
            .attributes()
            .map(|attribute| Attribute {
                name: attribute.key.as_str().to_owned(),
                line: lines.at(attribute.span()),
                text: attribute
                    .value
                    .span()
                    .and_then(|span| text.get(span))
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
                given: Given::Native(attribute.value.clone()),
                lines: Rc::clone(lines),
            })
            .collect(),
    })
}

fn json(text: &str) -> Result<Vec<Declaration>, Unreadable> {
    let root: Value = serde_json::from_str(text).map_err(|error| Unreadable {
        line: error.line(),
        reason: error.to_string(),
    })?;
    let lines = Rc::new(Lines::of(text));
    let mut reader = Json {
        keys: lines.of_strings(text),
        lines,
        labels: Vec::new(),
        declarations: Vec::new(),
    };
    for (kind, labels) in KINDS {
        for body in objects(&root) {
            for found in body.get(kind).into_iter().flat_map(objects) {
                reader.labelled(kind, labels, found);
            }
        }
    }
    Ok(reader.declarations)
}

/// Reads declarations of JSON configuration, in which labels are keys.
struct Json<'t> {
    /// The first line of each string, quotes included; the parser keeps no places.
    keys: HashMap<&'t str, usize>,
    lines: Rc<Lines>,
    labels: Vec<String>,
    declarations: Vec<Declaration>,
}

impl Json<'_> {
    fn labelled(&mut self, kind: &'static str, missing: usize, body: &Map<String, Value>) {
        if missing == 0 {
            return self.declaration(kind, body);
        }
        for (label, value) in body {
            self.labels.push(label.clone());
            for body in objects(value) {
                self.labelled(kind, missing - 1, body);
            }
            self.labels.pop();
        }
    }

    fn declaration(&mut self, kind: &'static str, body: &Map<String, Value>) {
        let line = self.labels.last().map_or(1, |label| self.line_of(label));
        let attributes = body
            .iter()
            .map(|(name, value)| Attribute {
                name: name.clone(),
                line: line.max(self.line_of(name)),
                text: match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                },
                given: Given::Json(value.clone()),
                lines: Rc::clone(&self.lines),
            })
            .collect();
        self.declarations.push(Declaration {
            kind,
            labels: self.labels.clone(),
            line,
            attributes,
        });
    }

    fn line_of(&self, key: &str) -> usize {
        let quoted = Value::String(key.to_owned()).to_string();
        self.keys.get(quoted.as_str()).copied().unwrap_or(1)
    }
}

/// JSON configuration may wrap any body in arrays.
fn objects(value: &Value) -> Vec<&Map<String, Value>> {
    match value {
        Value::Object(map) => vec![map],
        Value::Array(items) => items.iter().flat_map(objects).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// A string of JSON configuration, which is a template.
pub(super) fn template(text: &str) -> Option<Template> {
    text.parse().ok()
}

/// Where the lines of a file end.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line on which a span starts, from 1.
    pub(super) fn at(&self, span: Option<Range<usize>>) -> usize {
        let start = span.map_or(0, |span| span.start);
        1 + self.0.partition_point(|newline| *newline < start)
    }

    /// The first line of each JSON string, keyed by its text with quotes.
    fn of_strings<'t>(&self, text: &'t str) -> HashMap<&'t str, usize> {
        let mut found = HashMap::new();
        let (mut start, mut escaped) = (None, false);
        for (at, byte) in text.bytes().enumerate() {
            match (start, byte) {
                (Some(_), _) if escaped => escaped = false,
                (Some(_), b'\\') => escaped = true,
                (Some(open), b'"') => {
                    found
                        .entry(&text[open..=at])
                        .or_insert_with(|| self.at(Some(open..at)));
                    start = None;
                }
                (None, b'"') => start = Some(at),
                (Some(_) | None, _) => {}
            }
        }
        found
    }
}
