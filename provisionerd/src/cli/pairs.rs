//! `k=v` arguments. A value `@FILE` is read from a file, so that nothing secret has to
//! stand in argv; `@@` stands for a value that begins with `@`.

use std::collections::HashMap;
use std::path::Path;

use proto::limits;
use proto::v1::{ParameterValue, VariableValue};

use crate::failure::Failure;

/// One `k=v` as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Before the first `=`.
    pub name: String,
    /// After it, `@FILE` not read yet.
    pub value: String,
}

/// Parses `k=v` for clap.
///
/// # Errors
/// There is no `=` or nothing before it.
pub fn parse(text: &str) -> Result<Pair, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Pair {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        Some(_) | None => Err("must be NAME=VALUE".to_owned()),
    }
}

/// Pairs as a map, for tags; a name given twice with two values is refused.
///
/// # Errors
/// Names the pair that is given twice.
pub fn map(what: &str, pairs: Vec<Pair>) -> Result<HashMap<String, String>, Failure> {
    let mut found = HashMap::new();
    for Pair { name, value } in pairs {
        let before = found.insert(name.clone(), value.clone());
        if before.is_some_and(|before| before != value) {
            return Err(Failure::usage(format!(
                "{what} `{name}` is given twice with different values"
            )));
        }
    }
    Ok(found)
}

/// Pairs as parameter values; the last of a name counts.
///
/// # Errors
/// A file cannot be read.
pub fn parameters(pairs: Vec<Pair>) -> Result<Vec<ParameterValue>, Failure> {
    let values = resolve("parameter", pairs)?;
    Ok(values
        .into_iter()
        .map(|(name, value)| ParameterValue { name, value })
        .collect())
}

/// Variables of tfvars files, then of pairs; the last of a name counts.
///
/// # Errors
/// A file cannot be read or is no tfvars file.
pub fn variables(
    files: &[std::path::PathBuf],
    pairs: Vec<Pair>,
) -> Result<Vec<VariableValue>, Failure> {
    let mut all = Vec::new();
    for file in files {
        for (name, value) in super::tfvars::read(file)? {
            put(&mut all, name, value);
        }
    }
    for (name, value) in resolve("variable", pairs)? {
        put(&mut all, name, value);
    }
    Ok(all
        .into_iter()
        .map(|(name, value)| VariableValue {
            name,
            value,
            sensitive: false,
        })
        .collect())
}

fn resolve(what: &str, pairs: Vec<Pair>) -> Result<Vec<(String, String)>, Failure> {
    let mut all = Vec::new();
    for Pair { name, value } in pairs {
        let value = read(what, &name, value)?;
        put(&mut all, name, value);
    }
    Ok(all)
}

fn put(all: &mut Vec<(String, String)>, name: String, value: String) {
    match all.iter_mut().find(|(known, _)| *known == name) {
        Some(known) => known.1 = value,
        None => all.push((name, value)),
    }
}

/// The value itself: one line end at the end of a file does not belong to it.
fn read(what: &str, name: &str, value: String) -> Result<String, Failure> {
    let Some(rest) = value.strip_prefix('@') else {
        return Ok(value);
    };
    if rest.starts_with('@') {
        return Ok(rest.to_owned());
    }
    let path = Path::new(rest);
    let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
    if size > limits::PLAN_JSON {
        return Err(Failure::user(
            "VALUE_TOO_LARGE",
            format!("{what} `{name}`: {rest} has {size} bytes"),
        )
        .hint("write @@ for a value that begins with @"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::file(
            &format!("read the value of {what} `{name}` from"),
            path,
            &error,
        )
        .hint("write @@ for a value that begins with @")
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(text: &str) -> Pair {
        parse(text).expect("pair")
    }

    #[test]
    fn a_value_may_hold_equals_signs_and_a_name_may_not_be_empty() {
        assert_eq!(pair("a=b=c").value, "b=c");
        assert_eq!(pair("a=").value, "");
        assert!(parse("a").is_err());
        assert!(parse("=a").is_err());
    }

    #[test]
    fn a_value_at_file_is_the_file_without_its_last_line_end() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("secret");
        std::fs::write(&path, "one\ntwo\n").expect("write");
        let given = vec![pair(&format!("a=@{}", path.display())), pair("b=@@user")];
        let values = parameters(given).expect("values");
        assert_eq!(values[0].value, "one\ntwo");
        assert_eq!(values[1].value, "@user");
    }

    #[test]
    fn a_missing_value_file_names_the_parameter() {
        let refused = parameters(vec![pair("a=@/no/such")]).expect_err("missing");
        assert!(refused.message.contains("parameter `a`"), "{refused}");
    }

    #[test]
    fn flags_win_over_variable_files() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.tfvars");
        std::fs::write(&path, "x = 1\ny = 2\n").expect("write");
        let all = variables(&[path], vec![pair("x=3")]).expect("values");
        let all: Vec<_> = all.iter().map(|v| (&*v.name, &*v.value)).collect();
        assert_eq!(all, [("x", "3"), ("y", "2")]);
    }

    #[test]
    fn a_tag_with_two_values_is_refused() {
        assert!(map("tag", vec![pair("a=1"), pair("a=1")]).is_ok());
        assert!(map("tag", vec![pair("a=1"), pair("a=2")]).is_err());
    }
}
