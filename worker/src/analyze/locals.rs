//! What local values refer to. Plans do not say it.

use hcl_edit::expr::{Expression, ForExpr, Traversal, TraversalOperator};
use hcl_edit::template::ForDirective;
use hcl_edit::visit::{self, Visit};
use serde_json::Value;

use super::document::{self, Declaration, Given};
use crate::extract::LocalHint;

/// Hints from the files of one module.
pub(super) fn collect(module: &str, files: &[(String, Vec<Declaration>)]) -> Vec<LocalHint> {
    files
        .iter()
        .flat_map(|(_, declarations)| declarations)
        .filter(|declaration| declaration.kind == "locals")
        .flat_map(|declaration| &declaration.attributes)
        .map(|attribute| LocalHint {
            module: module.to_owned(),
            name: attribute.name.clone(),
            references: references(&attribute.given),
        })
        .filter(|hint| !hint.references.is_empty())
        .collect()
}

fn references(given: &Given) -> Vec<String> {
    let mut references = References::default();
    match given {
        Given::Native(expression) => references.visit_expr(expression),
        Given::Json(value) => references.json(value),
    }
    references.found.sort_unstable();
    references.found.dedup();
    references.found
}

/// Collects traversals that do not start at a name bound by a `for`.
#[derive(Default)]
struct References {
    found: Vec<String>,
    bound: Vec<String>,
}

impl References {
    fn json(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                if let Some(template) = document::template(text) {
                    self.visit_template(&template);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.json(item)),
            Value::Object(map) => map.values().for_each(|item| self.json(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

impl Visit for References {
    fn visit_traversal(&mut self, traversal: &Traversal) {
        if let Expression::Variable(root) = &traversal.expr
            && !self.bound.iter().any(|bound| bound == root.as_str())
        {
            self.found.push(written(root.as_str(), traversal));
        }
        visit::visit_traversal(self, traversal);
    }

    fn visit_for_expr(&mut self, expression: &ForExpr) {
        let outer = self.bound.len();
        let intro = &expression.intro;
        let names = intro.key_var.iter().chain([&intro.value_var]);
        self.bound
            .extend(names.map(|name| name.as_str().to_owned()));
        visit::visit_for_expr(self, expression);
        self.bound.truncate(outer);
    }

    fn visit_for_directive(&mut self, directive: &ForDirective) {
        let outer = self.bound.len();
        let intro = &directive.for_expr;
        let names = intro.key_var.iter().chain([&intro.value_var]);
        self.bound
            .extend(names.map(|name| name.as_str().to_owned()));
        visit::visit_for_directive(self, directive);
        self.bound.truncate(outer);
    }
}

/// As plans write references; an index that is not known in advance is `[*]`.
fn written(root: &str, traversal: &Traversal) -> String {
    let mut text = root.to_owned();
    for operator in &traversal.operators {
        match &**operator {
            TraversalOperator::GetAttr(name) => {
                text.push('.');
                text.push_str(name.as_str());
            }
            TraversalOperator::Index(_) | TraversalOperator::LegacyIndex(_) => text.push_str("[*]"),
            TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => break,
        }
    }
    text
}
