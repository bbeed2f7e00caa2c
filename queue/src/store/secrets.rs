//! What is secret of a template version and of what its jobs found, and how it looks
//! from outside: empty. Pure.
//!
//! Which variables are sensitive is known once the version's import has succeeded. Until
//! then all of its values count as sensitive.

use proto::v1;

/// Values as a hand-out carries them: marked by what the import found. Before that they
/// are as the client gave them, and the worker that reads the template marks them.
#[must_use]
pub fn marked(
    mut values: Vec<v1::VariableValue>,
    facts: Option<&v1::TemplateFacts>,
) -> Vec<v1::VariableValue> {
    let Some(facts) = facts else { return values };
    for value in &mut values {
        let declared = facts.variables.iter().find(|it| it.name == value.name);
        // Of a name that nothing declares, nothing says that it may be shown.
        value.sensitive |= declared.is_none_or(|declared| declared.sensitive);
    }
    values
}

/// Values as clients see them: sensitive ones are empty.
#[must_use]
pub fn shown_values(
    values: Vec<v1::VariableValue>,
    facts: Option<&v1::TemplateFacts>,
) -> Vec<v1::VariableValue> {
    let mut values = marked(values, facts);
    for value in &mut values {
        value.sensitive |= facts.is_none();
        if value.sensitive {
            value.value.clear();
        }
    }
    values
}

/// Empties agent tokens and sensitive metadata.
#[must_use]
pub fn shown_extraction(mut extraction: v1::Extraction) -> v1::Extraction {
    extraction.resources = shown_resources(extraction.resources);
    extraction
}

/// The same for resources alone.
#[must_use]
pub fn shown_resources(mut resources: Vec<v1::Resource>) -> Vec<v1::Resource> {
    for resource in &mut resources {
        for item in resource.metadata.iter_mut().filter(|item| item.sensitive) {
            item.value.clear();
        }
        for agent in &mut resource.agents {
            if let Some(v1::agent::Auth::Token(token)) = &mut agent.auth {
                token.clear();
            }
        }
    }
    resources
}

/// The same for both plans of an import; defaults of sensitive variables are emptied.
#[must_use]
pub fn shown_facts(mut facts: v1::TemplateFacts) -> v1::TemplateFacts {
    facts.start = facts.start.map(shown_extraction);
    facts.stop = facts.stop.map(shown_extraction);
    for variable in facts.variables.iter_mut().filter(|it| it.sensitive) {
        variable.default_value.clear();
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, sensitive: bool) -> v1::VariableValue {
        v1::VariableValue {
            name: name.to_owned(),
            value: "hunter2".to_owned(),
            sensitive,
        }
    }

    fn facts() -> v1::TemplateFacts {
        let variable = |name: &str, sensitive| v1::TemplateVariable {
            name: name.to_owned(),
            sensitive,
            ..v1::TemplateVariable::default()
        };
        v1::TemplateFacts {
            variables: vec![variable("password", true), variable("region", false)],
            ..v1::TemplateFacts::default()
        }
    }

    #[test]
    fn values_are_marked_by_the_imports_facts() {
        let given = ["password", "region", "unknown"].map(|name| value(name, false));
        let marked = marked(given.to_vec(), Some(&facts()));
        let marks: Vec<bool> = marked.iter().map(|value| value.sensitive).collect();
        assert_eq!(marks, [true, false, true]);
        assert!(marked.iter().all(|value| value.value == "hunter2"));
    }

    #[test]
    fn a_value_that_its_giver_called_sensitive_stays_so() {
        let marked = marked(vec![value("region", true)], Some(&facts()));
        assert!(marked[0].sensitive);
    }

    #[test]
    fn before_an_import_has_succeeded_no_value_is_shown() {
        let shown = shown_values(vec![value("region", false)], None);
        assert!(shown[0].sensitive && shown[0].value.is_empty());
    }

    #[test]
    fn after_it_only_sensitive_ones_are_hidden() {
        let given = vec![value("password", false), value("region", false)];
        let shown = shown_values(given, Some(&facts()));
        let texts: Vec<&str> = shown.iter().map(|value| value.value.as_str()).collect();
        assert_eq!(texts, ["", "hunter2"]);
    }
}
