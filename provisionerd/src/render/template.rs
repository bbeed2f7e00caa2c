//! JSON documents of templates and their versions.

use proto::v1::tag_part::Part;
use proto::v1::{
    TagPart, Template, TemplateFacts, TemplateVariable, TemplateVersion, VariableValue,
    WorkspaceTag,
};
use serde_json::{Value, json};

use super::extraction::{document, parameters, presets, resources};
use super::time::rfc3339;
use super::words::{self, filled};

pub fn template(template: &Template) -> Value {
    json!({
        "id": template.id,
        "name": template.name,
        "created_at": rfc3339(template.created_at_ms),
        "active_version": template.active_version.as_ref().map(version),
        "versions": template.versions,
        "workspaces": template.workspaces,
    })
}

/// A template with its versions and what the active one declares and would make.
pub fn shown(found: &Template, versions: &[TemplateVersion]) -> Value {
    let active = found.active_version.as_ref();
    let facts = active.and_then(|version| version.facts.as_ref());
    let start = facts.and_then(|facts| facts.start.as_ref());
    let stop = facts.and_then(|facts| facts.stop.as_ref());
    let mut shown = template(found);
    let details = json!({
        "versions": versions.iter().map(version).collect::<Value>(),
        "tags": active.map(|version| &version.tags),
        "parameters": start.map(|found| parameters(&found.parameters)),
        "presets": start.map(|found| presets(&found.presets)),
        "workspace_tags": facts.map(|facts| workspace_tags(&facts.workspace_tags)),
        "variables": active.map(|version| variables(facts, &version.variables)),
        "start_resources": start.map(|found| resources(&found.resources)),
        "stop_resources": stop.map(|found| resources(&found.resources)),
        "start": start.map(document),
        "readme": facts.map(|facts| String::from_utf8_lossy(&facts.readme)),
    });
    if let (Value::Object(shown), Value::Object(details)) = (&mut shown, details) {
        shown.extend(details);
    }
    shown
}

pub fn version(version: &TemplateVersion) -> Value {
    let blob = version.archive.as_ref();
    let digest = blob.and_then(|b| proto::ids::Digest::try_from(b.sha256.as_slice()).ok());
    json!({
        "id": version.id,
        "template": version.template,
        "number": version.number,
        "created_at": rfc3339(version.created_at_ms),
        "active": version.active,
        "engine": filled(&version.engine),
        "tags": version.tags,
        "import_status": words::status(version.import_status()),
        "import_job_id": filled(&version.import_job_id),
        "archive": blob.map(|blob| json!({
            "sha256": digest.map(|digest| digest.to_string()),
            "size": blob.size,
        })),
    })
}

/// Declared variables with the value each was given; a sensitive one is `null`.
fn variables(facts: Option<&TemplateFacts>, given: &[VariableValue]) -> Value {
    let declared = facts.map_or(&[][..], |facts| &facts.variables);
    declared.iter().map(|v| variable(v, given)).collect()
}

/// Variables as a template directory declares them.
pub fn declared(variables: &[TemplateVariable]) -> Value {
    variables.iter().map(|found| variable(found, &[])).collect()
}

/// Tags of `coder_workspace_tags`, each side joined from its parts.
pub fn workspace_tags(tags: &[WorkspaceTag]) -> Value {
    tags.iter()
        .map(|tag| json!({ "key": parts(&tag.key), "value": parts(&tag.value) }))
        .collect()
}

fn parts(parts: &[TagPart]) -> String {
    parts
        .iter()
        .map(|part| match &part.part {
            Some(Part::Literal(text)) => text.clone(),
            Some(Part::Variable(name)) => format!("${{var.{name}}}"),
            Some(Part::Parameter(name)) => format!("${{parameter.{name}}}"),
            None => String::new(),
        })
        .collect()
}

fn variable(declared: &TemplateVariable, given: &[VariableValue]) -> Value {
    let value = given.iter().find(|value| value.name == declared.name);
    let open = value.filter(|value| !declared.sensitive && !value.sensitive);
    json!({
        "name": declared.name,
        "description": declared.description,
        "type": declared.r#type,
        "default_value": (!declared.sensitive).then_some(&declared.default_value),
        "required": declared.required,
        "sensitive": declared.sensitive,
        "given": value.is_some(),
        "value": open.map(|value| &value.value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensitive_variable_shows_neither_value_nor_default() {
        let declared = TemplateVariable {
            name: "password".to_owned(),
            default_value: "hunter1".to_owned(),
            sensitive: true,
            ..TemplateVariable::default()
        };
        let given = VariableValue {
            name: "password".to_owned(),
            value: "hunter2".to_owned(),
            sensitive: false,
        };
        let shown = variable(&declared, &[given]);
        assert!(!shown.to_string().contains("hunter"), "{shown}");
        assert_eq!(shown["given"], true);
    }
}
