//! `coder_workspace_tags`: what must be known before a job can be handed out, so before
//! any engine runs. Each tag becomes parts that the queue joins at every build.

use std::collections::HashMap;

use hcl_edit::Span;
use hcl_edit::expr::{Expression, ObjectKey, Traversal, TraversalOperator};
use hcl_edit::template::{Element, Template};
use proto::limits::TAGS;
use proto::v1::tag_part::Part;
use proto::v1::{TagPart, WorkspaceTag};
use serde_json::Value;

use super::Error;
use super::document::{self, Attribute, Declaration, Given};
use super::literal;

/// The data source.
pub(super) const KIND: &str = "coder_workspace_tags";

/// All tags of a root module, in order.
pub(super) fn collect(files: &[(String, Vec<Declaration>)]) -> Result<Vec<WorkspaceTag>, Error> {
    let parameters = parameter_names(files);
    let mut tags = Vec::new();
    for (file, declarations) in files {
        for declaration in declarations.iter().filter(|d| d.is_data(KIND)) {
            let Some(attribute) = declaration.attribute("tags") else {
                continue;
            };
            let reader = Reader {
                file,
                line: attribute.line,
                parameters: &parameters,
            };
            reader.add(attribute, &mut tags)?;
        }
    }
    Ok(tags)
}

/// Names of parameters by their labels, where they are written out.
fn parameter_names(files: &[(String, Vec<Declaration>)]) -> HashMap<&str, Option<String>> {
    files
        .iter()
        .flat_map(|(_, declarations)| declarations)
        .filter(|declaration| declaration.is_data("coder_parameter"))
        .filter_map(|declaration| {
            let name = declaration.attribute("name");
            let label = declaration.labels.get(1)?;
            Some((
                label.as_str(),
                name.and_then(|name| literal::string(&name.given)),
            ))
        })
        .collect()
}

struct Reader<'a> {
    file: &'a str,
    line: usize,
    parameters: &'a HashMap<&'a str, Option<String>>,
}

impl Reader<'_> {
    fn add(&self, attribute: &Attribute, tags: &mut Vec<WorkspaceTag>) -> Result<(), Error> {
        match &attribute.given {
            Given::Native(Expression::Object(object)) => {
                for (key, value) in object {
                    let line = self.line.max(attribute.lines.at(key.span()));
                    let reader = Reader { line, ..*self };
                    let shown = key_text(key);
                    let tag = WorkspaceTag {
                        key: reader.key(key, &shown)?,
                        value: reader.expression(value.expr(), &shown)?,
                    };
                    reader.push(tag, &shown, tags)?;
                }
                Ok(())
            }
            Given::Json(Value::Object(map)) => {
                for (key, value) in map {
                    let tag = WorkspaceTag {
                        key: self.json_string(key, key)?,
                        value: self.json(value, key)?,
                    };
                    self.push(tag, key, tags)?;
                }
                Ok(())
            }
            Given::Native(_) | Given::Json(_) => {
                Err(self.unsupported("tags", "the tags must be written as { key = value, … }"))
            }
        }
    }

    fn push(
        &self,
        tag: WorkspaceTag,
        shown: &str,
        tags: &mut Vec<WorkspaceTag>,
    ) -> Result<(), Error> {
        if tags.iter().any(|known| known.key == tag.key) {
            return Err(Error::WorkspaceTagDuplicate {
                file: self.file.to_owned(),
                line: self.line,
                tag: shown.to_owned(),
            });
        }
        if tags.len() >= TAGS {
            return Err(self.unsupported(shown, &format!("a job has at most {TAGS} tags")));
        }
        tags.push(tag);
        Ok(())
    }

    fn key(&self, key: &ObjectKey, shown: &str) -> Result<Vec<TagPart>, Error> {
        match key {
            ObjectKey::Ident(ident) => Ok(vec![text(ident.as_str())]),
            // Without parentheses a name is only text.
            ObjectKey::Expression(Expression::Variable(ident)) => Ok(vec![text(ident.as_str())]),
            ObjectKey::Expression(expression) => self.expression(expression, shown),
        }
    }

    fn expression(&self, expression: &Expression, tag: &str) -> Result<Vec<TagPart>, Error> {
        match expression {
            Expression::String(string) => Ok(vec![text(string)]),
            Expression::Number(number) => Ok(vec![text(&number.to_string())]),
            Expression::Bool(value) => Ok(vec![text(if **value { "true" } else { "false" })]),
            Expression::StringTemplate(template) => self.template(template, tag),
            Expression::Parenthesis(inner) => self.expression(inner.inner(), tag),
            Expression::Traversal(traversal) => {
                self.reference(traversal, tag).map(|part| vec![part])
            }
            Expression::Null(_)
            | Expression::Array(_)
            | Expression::Object(_)
            | Expression::HeredocTemplate(_)
            | Expression::Variable(_)
            | Expression::Conditional(_)
            | Expression::FuncCall(_)
            | Expression::UnaryOp(_)
            | Expression::BinaryOp(_)
            | Expression::ForExpr(_) => Err(self.unsupported(
                tag,
                "only text, variables and parameters can be evaluated before a job runs",
            )),
        }
    }

    fn template(&self, template: &Template, tag: &str) -> Result<Vec<TagPart>, Error> {
        let mut parts = Vec::new();
        for element in template {
            match element {
                Element::Literal(literal) => parts.push(text(literal)),
                Element::Interpolation(inner) => parts.extend(self.expression(&inner.expr, tag)?),
                Element::Directive(_) => {
                    return Err(self.unsupported(tag, "%{ } cannot be evaluated before a job runs"));
                }
            }
        }
        Ok(parts)
    }

    fn reference(&self, traversal: &Traversal, tag: &str) -> Result<TagPart, Error> {
        let path = attribute_path(traversal);
        match path.as_deref() {
            Some(["var", name]) => Ok(part(Part::Variable((*name).to_owned()))),
            Some(["data", "coder_parameter", label, "value"]) => match self.parameters.get(label) {
                Some(Some(name)) => Ok(part(Part::Parameter(name.clone()))),
                Some(None) => Err(self.unsupported(
                    tag,
                    &format!("the name of data.coder_parameter.{label} is not written out"),
                )),
                None => Err(self.unsupported(
                    tag,
                    &format!("the template has no data.coder_parameter.{label}"),
                )),
            },
            Some(path) => Err(self.unsupported(
                tag,
                &format!("{} is not known before a job runs", path.join(".")),
            )),
            None => Err(self.unsupported(tag, "it is not known before a job runs")),
        }
    }

    fn json(&self, value: &Value, tag: &str) -> Result<Vec<TagPart>, Error> {
        match value {
            Value::String(string) => self.json_string(string, tag),
            Value::Bool(_) | Value::Number(_) => Ok(vec![text(&value.to_string())]),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                Err(self.unsupported(tag, "a tag is one piece of text"))
            }
        }
    }

    fn json_string(&self, string: &str, tag: &str) -> Result<Vec<TagPart>, Error> {
        match document::template(string) {
            Some(template) => self.template(&template, tag),
            None => Err(self.unsupported(tag, "it cannot be read as a template string")),
        }
    }

    fn unsupported(&self, tag: &str, reason: &str) -> Error {
        Error::WorkspaceTag {
            file: self.file.to_owned(),
            line: self.line,
            tag: tag.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// `a.b.c`, if it is nothing but names.
fn attribute_path(traversal: &Traversal) -> Option<Vec<&str>> {
    let Expression::Variable(root) = &traversal.expr else {
        return None;
    };
    let names = traversal
        .operators
        .iter()
        .map(|operator| match &**operator {
            TraversalOperator::GetAttr(name) => Some(name.as_str()),
            TraversalOperator::AttrSplat(_)
            | TraversalOperator::FullSplat(_)
            | TraversalOperator::Index(_)
            | TraversalOperator::LegacyIndex(_) => None,
        });
    std::iter::once(Some(root.as_str())).chain(names).collect()
}

fn key_text(key: &ObjectKey) -> String {
    match key {
        ObjectKey::Ident(ident) => ident.as_str().to_owned(),
        ObjectKey::Expression(expression) => expression.to_string().trim().to_owned(),
    }
}

fn text(text: &str) -> TagPart {
    part(Part::Literal(text.to_owned()))
}

fn part(part: Part) -> TagPart {
    TagPart { part: Some(part) }
}
