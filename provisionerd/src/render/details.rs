//! One thing in full, for people: a template, a workspace, what an extraction found.

use proto::account::Names;
use proto::v1::{
    Extraction, JobStatus, Preset, RichParameter, Template, TemplateVariable, TemplateVersion,
    Workspace,
};

use super::outcome::{account, resources};
use super::paint::{Paint, harmless};
use super::tables::{self, Table};
use super::words;

pub fn template(found: &Template, versions: &[TemplateVersion]) -> String {
    let active = found.active_version.as_ref();
    let mut text = format!("template {}\n", found.name);
    let tags = active.map(|version| tables::tags(&version.tags));
    if let Some(tags) = tags.filter(|tags| !tags.is_empty()) {
        text.push_str(&format!("tags {tags}\n"));
    }
    section(&mut text, "versions", &tables::versions(versions));
    let Some(facts) = active.and_then(|version| version.facts.as_ref()) else {
        return text;
    };
    if !facts.variables.is_empty() {
        section(&mut text, "variables", &variables(&facts.variables));
    }
    if let Some(start) = &facts.start {
        if !start.parameters.is_empty() {
            section(&mut text, "parameters", &parameters(&start.parameters));
        }
        if !start.presets.is_empty() {
            section(&mut text, "presets", &presets(&start.presets));
        }
        section(&mut text, "made by start", &resources(&start.resources));
    }
    if let Some(stop) = &facts.stop {
        section(&mut text, "kept by stop", &resources(&stop.resources));
    }
    text
}

pub fn workspace(found: &Workspace) -> String {
    let mut table = Table::bare();
    table.row(["name".to_owned(), found.name.clone()]);
    table.row(["owner".to_owned(), found.owner.clone()]);
    table.row(["template".to_owned(), found.template.clone()]);
    if let Some(build) = &found.latest_build {
        let transition = words::transition(build.transition()).unwrap_or("-");
        let status = words::status(build.status()).unwrap_or("-");
        let text = format!(
            "{} ({transition}, {status}), job {}",
            build.number, build.job_id
        );
        table.row(["last build".to_owned(), text]);
    }
    for parameter in &found.parameters {
        let name = format!("parameter {}", parameter.name);
        table.row([name, harmless(&parameter.value)]);
    }
    let notes = tables::notes(found);
    if !notes.is_empty() {
        table.row(["notes".to_owned(), notes]);
    }
    let mut text = table.to_string();
    section(&mut text, "resources", &resources(&found.resources));
    let build = found.latest_build.as_ref();
    let job =
        build.filter(|build| matches!(build.status(), JobStatus::Failed | JobStatus::Canceled));
    if !found.unconfirmed.is_empty() {
        let names = Names {
            workspace: &found.name,
            job: job.map(|build| build.job_id.as_str()),
        };
        text.push_str(&account(names, &found.unconfirmed, Paint::Plain));
        text.push('\n');
    }
    if found.state_conflict {
        let name = &found.name;
        text.push_str(&format!(
            "\n  a late state waits: its build was given up, then reported after all\n  \
             next: compare both: provisionerd state history {name}\n  \
             next: take it: provisionerd state adopt {name} ID\n  \
             next: or drop it: provisionerd state discard {name} ID\n"
        ));
    }
    text
}

pub fn extraction(found: &Extraction) -> String {
    let mut text = resources(&found.resources);
    if !found.parameters.is_empty() {
        section(&mut text, "parameters", &parameters(&found.parameters));
    }
    if !found.presets.is_empty() {
        section(&mut text, "presets", &presets(&found.presets));
    }
    if !found.modules.is_empty() {
        let mut table = Table::new(&["module", "source", "version"]);
        for module in &found.modules {
            table.row([
                module.key.clone(),
                module.source.clone(),
                module.version.clone(),
            ]);
        }
        section(&mut text, "modules", &table.to_string());
    }
    if found.daily_cost > 0 {
        text.push_str(&format!("\ncost {} a day\n", found.daily_cost));
    }
    text
}

pub fn variables(variables: &[TemplateVariable]) -> String {
    if variables.is_empty() {
        return "no variables\n".to_owned();
    }
    let mut table = Table::new(&["name", "type", "default", "description"]);
    for variable in variables {
        let default = match (variable.required, variable.sensitive) {
            (true, _) => "(required)".to_owned(),
            (false, true) => "••••".to_owned(),
            (false, false) => harmless(&variable.default_value),
        };
        table.row([
            variable.name.clone(),
            variable.r#type.clone(),
            default,
            harmless(&variable.description),
        ]);
    }
    table.to_string()
}

fn parameters(parameters: &[RichParameter]) -> String {
    let mut table = Table::new(&["name", "type", "default", "rules", "description"]);
    for parameter in parameters {
        table.row([
            parameter.name.clone(),
            parameter.r#type.clone(),
            if parameter.required {
                "(required)".to_owned()
            } else {
                harmless(&parameter.default_value)
            },
            harmless(&rules(parameter).join("\n")),
            harmless(&parameter.description),
        ]);
    }
    table.to_string()
}

/// What a value must keep to, one rule a line.
fn rules(parameter: &RichParameter) -> Vec<String> {
    let mut rules = Vec::new();
    let options = parameter.options.iter().map(|option| option.value.as_str());
    let options: Vec<_> = options.collect();
    if !options.is_empty() {
        rules.push(format!("one of {}", options.join(", ")));
    }
    match (parameter.validation_min, parameter.validation_max) {
        (Some(min), Some(max)) => rules.push(format!("{min} to {max}")),
        (Some(min), None) => rules.push(format!("at least {min}")),
        (None, Some(max)) => rules.push(format!("at most {max}")),
        (None, None) => {}
    }
    if !parameter.validation_regex.is_empty() {
        rules.push(format!("matches {}", parameter.validation_regex));
    }
    if !parameter.validation_monotonic.is_empty() {
        rules.push(format!("only {}", parameter.validation_monotonic));
    }
    if !parameter.mutable {
        rules.push("fixed after the first build".to_owned());
    }
    if parameter.ephemeral {
        rules.push("for one build".to_owned());
    }
    rules
}

fn presets(presets: &[Preset]) -> String {
    let mut table = Table::new(&["name", "parameters", "notes"]);
    for preset in presets {
        let values = preset.parameters.iter();
        let values: Vec<_> = values.map(|p| format!("{}={}", p.name, p.value)).collect();
        let mut notes = Vec::new();
        if preset.default {
            notes.push("the default".to_owned());
        }
        if let Some(prebuild) = &preset.prebuild {
            notes.push(format!("{} prebuilt", prebuild.instances));
        }
        table.row([
            harmless(&preset.name),
            harmless(&values.join("\n")),
            notes.join(", "),
        ]);
    }
    table.to_string()
}

fn section(text: &mut String, title: &str, body: &str) {
    text.push_str(&format!("\n{title}\n{body}"));
}
