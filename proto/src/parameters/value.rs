//! One value against the rules of its parameter.

use regex::RegexBuilder;

use crate::limits;
use crate::v1::RichParameter;

/// `CODER_PARAMETER_`, 64 hex digits of the name's hash and `=`.
const ENV_NAME: usize = 16 + 64 + 1;

/// A compiled pattern larger than this is left to the provider.
const REGEX_SIZE: usize = 1024 * 1024;

/// Checks `value`; `previous` is that of the build before, if there was one.
///
/// # Errors
/// What is wrong, without the parameter's name.
pub fn check(rule: &RichParameter, value: &str, previous: Option<&str>) -> Result<(), String> {
    fits(value)?;
    if value.is_empty() && !rule.required && rule.default_value.is_empty() {
        return Ok(());
    }
    has_type(rule, value)?;
    is_an_option(rule, value)?;
    matches(rule, value)?;
    if rule.r#type == "number" {
        in_range(rule, value)?;
        keeps_direction(rule, value, previous)?;
    }
    Ok(())
}

/// Values travel as environment strings.
fn fits(value: &str) -> Result<(), String> {
    let limit = limits::ENV_STRING - ENV_NAME;
    if value.len() > limit {
        return Err(format!(
            "{} bytes are more than the {limit} that an environment variable can carry (PARAMETER_TOO_LARGE)",
            value.len()
        ));
    }
    if value.contains('\0') {
        return Err("contains a NUL byte".to_owned());
    }
    Ok(())
}

fn has_type(rule: &RichParameter, value: &str) -> Result<(), String> {
    match rule.r#type.as_str() {
        "number" => number(value).map(drop),
        "bool" if !matches!(value, "true" | "false") => {
            Err(format!("\"{}\" is not true or false", shown(value)))
        }
        "list(string)" => list(value).map(drop),
        // Types of later versions are the provider's to judge.
        _ => Ok(()),
    }
}

/// One of the options; with the form type `multi-select` a list of some of them.
fn is_an_option(rule: &RichParameter, value: &str) -> Result<(), String> {
    if rule.options.is_empty() {
        return Ok(());
    }
    let known = |value: &str| rule.options.iter().any(|option| option.value == value);
    let chosen = if rule.r#type == "list(string)" && rule.form_type == "multi-select" {
        list(value)?
    } else {
        vec![value.to_owned()]
    };
    match chosen.iter().find(|value| !known(value)) {
        None => Ok(()),
        Some(value) => {
            let options: Vec<&str> = rule.options.iter().map(|o| o.value.as_str()).collect();
            Err(format!(
                "\"{}\" is none of the options ({})",
                shown(value),
                options.join(", ")
            ))
        }
    }
}

fn matches(rule: &RichParameter, value: &str) -> Result<(), String> {
    if rule.validation_regex.is_empty() {
        return Ok(());
    }
    let pattern = RegexBuilder::new(&rule.validation_regex)
        .size_limit(REGEX_SIZE)
        .build();
    let Ok(pattern) = pattern else {
        return Ok(());
    };
    if pattern.is_match(value) {
        return Ok(());
    }
    let detail = format!(
        "\"{}\" does not match {}",
        shown(value),
        rule.validation_regex
    );
    Err(match rule.validation_error.as_str() {
        "" => detail,
        author => format!("{} ({detail})", placeholders(rule, author, value)),
    })
}

fn in_range(rule: &RichParameter, value: &str) -> Result<(), String> {
    let number = number(value)?;
    let low = rule.validation_min.filter(|min| number < f64::from(*min));
    let high = rule.validation_max.filter(|max| number > f64::from(*max));
    let detail = match (low, high) {
        (Some(min), _) => format!("{value} is less than the minimum {min}"),
        (None, Some(max)) => format!("{value} is more than the maximum {max}"),
        (None, None) => return Ok(()),
    };
    Err(author_or(rule, value, detail))
}

fn keeps_direction(
    rule: &RichParameter,
    value: &str,
    previous: Option<&str>,
) -> Result<(), String> {
    let Some((previous, before)) = previous.and_then(|text| Some((text, number(text).ok()?)))
    else {
        return Ok(());
    };
    let now = number(value)?;
    let detail = match rule.validation_monotonic.as_str() {
        "increasing" if now < before => {
            format!("{value} is less than the previous {previous}; it may only grow")
        }
        "decreasing" if now > before => {
            format!("{value} is more than the previous {previous}; it may only shrink")
        }
        _ => return Ok(()),
    };
    Err(author_or(rule, value, detail))
}

fn author_or(rule: &RichParameter, value: &str, detail: String) -> String {
    match rule.validation_error.as_str() {
        "" => detail,
        author => placeholders(rule, author, value),
    }
}

/// The author's text with `{min}`, `{max}` and `{value}` filled in.
fn placeholders(rule: &RichParameter, author: &str, value: &str) -> String {
    let bound = |bound: Option<i32>| bound.map(|bound| bound.to_string()).unwrap_or_default();
    author
        .replace("{min}", &bound(rule.validation_min))
        .replace("{max}", &bound(rule.validation_max))
        .replace("{value}", &shown(value))
}

fn number(value: &str) -> Result<f64, String> {
    value
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
        .ok_or_else(|| format!("\"{}\" is not a number", shown(value)))
}

fn list(value: &str) -> Result<Vec<String>, String> {
    serde_json::from_str(value)
        .map_err(|_| format!("\"{}\" is not a JSON list of strings", shown(value)))
}

/// A value short enough for a message.
fn shown(value: &str) -> String {
    const SHOWN: usize = 80;
    match value.char_indices().nth(SHOWN) {
        None => value.to_owned(),
        Some((cut, _)) => format!("{}…", &value[..cut]),
    }
}
