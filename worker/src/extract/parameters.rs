//! What a template asks its users for: parameters, presets of them, external
//! authentication.

use std::collections::{BTreeMap, HashSet};

use proto::v1::{
    ExternalAuthProvider, ParameterOption, ParameterValue, Prebuild, PrebuildSchedule, Preset,
    RichParameter,
};

use super::Error;
use super::records::Records;
use super::values::{self, clamp};

/// All `coder_parameter`, in order of appearance, child modules first.
pub(super) fn parameters(records: &Records) -> Result<Vec<RichParameter>, Error> {
    let mut names = HashSet::new();
    let mut parameters = Vec::new();
    for at in records.data("coder_parameter") {
        let parameter = parameter(at.values()?);
        if !names.insert(parameter.name.clone()) {
            return Err(Error::ParameterDuplicate {
                name: parameter.name,
            });
        }
        parameters.push(parameter);
    }
    Ok(parameters)
}

fn parameter(values: values::Parameter) -> RichParameter {
    let validation = values.validation.into_iter().next().unwrap_or_default();
    let (min, max) = bounds(&validation);
    RichParameter {
        name: values.name,
        description: values.description,
        r#type: values.kind,
        mutable: values.mutable,
        default_value: values.default,
        icon: values.icon,
        options: values
            .option
            .into_iter()
            .map(|option| ParameterOption {
                name: option.name,
                description: option.description,
                value: option.value,
                icon: option.icon,
            })
            .collect(),
        validation_regex: validation.regex,
        validation_error: validation.error,
        validation_min: min,
        validation_max: max,
        validation_monotonic: validation.monotonic,
        required: !values.optional,
        display_name: values.display_name,
        order: clamp(values.order),
        ephemeral: values.ephemeral,
        form_type: values.form_type,
    }
}

/// Providers print 0 for a bound that was not given, and say so beside it. Older ones do
/// not say so: there 0 and 0 can only mean that neither was.
fn bounds(values: &values::Validation) -> (Option<i32>, Option<i32>) {
    let said = values.min_disabled.is_some() || values.max_disabled.is_some();
    let none = !said && values.min.unwrap_or(0) == 0 && values.max.unwrap_or(0) == 0;
    let bound = |value: Option<i64>, disabled: Option<bool>| {
        value.filter(|_| disabled != Some(true) && !none).map(clamp)
    };
    (
        bound(values.min, values.min_disabled),
        bound(values.max, values.max_disabled),
    )
}

/// All `coder_workspace_preset`, in order of appearance.
pub(super) fn presets(
    records: &Records,
    parameters: &[RichParameter],
    warnings: &mut Vec<String>,
) -> Result<Vec<Preset>, Error> {
    let known: HashSet<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
    let mut names = HashSet::new();
    let mut presets = Vec::new();
    for at in records.data("coder_workspace_preset") {
        let values: values::Preset = at.values()?;
        if !names.insert(values.name.clone()) {
            return Err(Error::PresetDuplicate { name: values.name });
        }
        let preset = preset(values, warnings);
        for parameter in &preset.parameters {
            if !known.contains(parameter.name.as_str()) {
                warnings.push(format!(
                    "preset {:?} sets parameter {:?}, which the template does not have",
                    preset.name, parameter.name
                ));
            }
        }
        presets.push(preset);
    }
    let defaults = presets.iter().filter(|preset| preset.default);
    let names: Vec<String> = defaults.map(|preset| preset.name.clone()).collect();
    if names.len() > 1 {
        return Err(Error::PresetDefaultDuplicate { names });
    }
    Ok(presets)
}

fn preset(values: values::Preset, warnings: &mut Vec<String>) -> Preset {
    if values.prebuilds.len() > 1 {
        warnings.push(format!(
            "preset {:?} has {} prebuilds blocks; the first one counts",
            values.name,
            values.prebuilds.len()
        ));
    }
    let sorted: BTreeMap<String, String> = values.parameters.into_iter().collect();
    Preset {
        name: values.name,
        parameters: sorted
            .into_iter()
            .map(|(name, value)| ParameterValue { name, value })
            .collect(),
        prebuild: values.prebuilds.into_iter().next().map(prebuild),
        default: values.default,
        description: values.description,
        icon: values.icon,
    }
}

fn prebuild(values: values::Prebuilds) -> Prebuild {
    let scheduling = values.scheduling.into_iter().next().unwrap_or_default();
    Prebuild {
        instances: clamp(values.instances),
        expiration_ttl_s: values
            .expiration_policy
            .first()
            .map(|policy| clamp(policy.ttl)),
        scheduling_timezone: scheduling.timezone,
        schedules: scheduling
            .schedule
            .into_iter()
            .map(|schedule| PrebuildSchedule {
                cron: schedule.cron,
                instances: clamp(schedule.instances),
            })
            .collect(),
    }
}

/// `coder_git_auth` and `coder_external_auth` by id; the newer one wins.
pub(super) fn external_auth(records: &Records) -> Result<Vec<ExternalAuthProvider>, Error> {
    let mut providers = BTreeMap::new();
    for kind in ["coder_git_auth", "coder_external_auth"] {
        for at in records.data(kind) {
            let values: values::ExternalAuth = at.values()?;
            providers.insert(values.id, values.optional);
        }
    }
    Ok(providers
        .into_iter()
        .map(|(id, optional)| ExternalAuthProvider { id, optional })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> (Option<i32>, Option<i32>) {
        bounds(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_bound_of_zero_counts_only_when_it_was_given() {
        assert_eq!(
            of(r#"{"min":0,"min_disabled":false,"max":0,"max_disabled":true}"#),
            (Some(0), None)
        );
        assert_eq!(
            of(r#"{"min":0,"min_disabled":true,"max":0,"max_disabled":true}"#),
            (None, None)
        );
        assert_eq!(of(r#"{"min":0,"max":0,"regex":"x"}"#), (None, None));
        assert_eq!(of(r#"{"min":0,"max":5}"#), (Some(0), Some(5)));
        assert_eq!(
            of(r#"{"min":-9999999999,"min_disabled":false}"#),
            (Some(i32::MIN), None)
        );
    }
}
