//! Which values of an instance are sensitive, as engines mark them: beside `values` a tree
//! of the same shape with `true` in the sensitive places, in a state file a list of paths.
//!
//! A sensitive text is told as [`MASK`] and nothing of it goes further: whoever needs the
//! value itself reads the state. What cannot be followed is masked from there on.

use proto::secret::MASK;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Attributes by which instances find each other. They are ids; an agent's token is among
/// them because providers mark it, and it is shown nowhere.
const NEEDED: [&str; 6] = [
    "id",
    "token",
    "agent_id",
    "subagent_id",
    "resource_id",
    "instance_id",
];

/// The marks of one instance, still as text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Marks<'a> {
    /// There are none.
    #[default]
    None,
    /// `sensitive_values` of `show -json`.
    Mirror(&'a RawValue),
    /// `sensitive_attributes` of a state file.
    Paths(&'a RawValue),
}

/// A step of a path: an attribute, or a key or number.
#[derive(Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
enum Step {
    GetAttr(String),
    Index(Key),
}

#[derive(Deserialize)]
struct Key {
    value: Value,
}

impl<'a> Marks<'a> {
    /// As `show -json` has them.
    pub(super) fn mirror(marks: Option<&'a RawValue>) -> Self {
        marks.map_or(Self::None, Self::Mirror)
    }

    /// As a state file has them.
    pub(super) fn paths(marks: Option<&'a RawValue>) -> Self {
        marks.map_or(Self::None, Self::Paths)
    }

    /// `values` with what is sensitive masked; `None` when nothing is.
    pub(super) fn masked(self, values: &RawValue) -> Option<serde_json::Result<Value>> {
        let text = match self {
            Self::None => return None,
            Self::Mirror(marks) | Self::Paths(marks) => marks.get(),
        };
        if ["{}", "[]", "null", "false"].contains(&text) {
            return None;
        }
        let masked = || {
            let mut values = serde_json::from_str(values.get())?;
            match self {
                Self::None => {}
                Self::Mirror(_) => {
                    follow_mirror(&mut values, &serde_json::from_str(text)?, Depth::Top)
                }
                Self::Paths(_) => {
                    let paths: Vec<Vec<Step>> = serde_json::from_str(text)?;
                    let paths = paths
                        .iter()
                        .filter(|path| !path.first().is_some_and(Step::is_needed));
                    paths.for_each(|path| follow_path(&mut values, path));
                }
            }
            Ok(values)
        };
        Some(masked())
    }
}

/// Whether keys are names of attributes, of which some are needed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Top,
    Below,
}

fn follow_mirror(value: &mut Value, mark: &Value, depth: Depth) {
    match (value, mark) {
        (value, Value::Bool(true)) => mask(value),
        (Value::Object(values), Value::Object(marks)) => {
            for (key, mark) in marks {
                let needed = depth == Depth::Top && NEEDED.contains(&key.as_str());
                if let (Some(value), false) = (values.get_mut(key), needed) {
                    follow_mirror(value, mark, Depth::Below);
                }
            }
        }
        (Value::Array(values), Value::Array(marks)) => {
            for (value, mark) in values.iter_mut().zip(marks) {
                follow_mirror(value, mark, Depth::Below);
            }
        }
        (_, _) => {}
    }
}

/// An element of a set is named by its value and not found: then the whole set is masked.
fn follow_path(value: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else {
        return mask(value);
    };
    let inner = match value {
        Value::Object(map) => step.name().and_then(|name| map.get_mut(name)),
        Value::Array(list) => step.index().and_then(|index| list.get_mut(index)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    match inner {
        Some(inner) => follow_path(inner, rest),
        None => mask(value),
    }
}

impl Step {
    fn name(&self) -> Option<&str> {
        match self {
            Self::GetAttr(name) => Some(name),
            Self::Index(key) => key.value.as_str(),
        }
    }

    fn index(&self) -> Option<usize> {
        match self {
            Self::GetAttr(_) => None,
            Self::Index(key) => usize::try_from(key.value.as_u64()?).ok(),
        }
    }

    fn is_needed(&self) -> bool {
        matches!(self, Self::GetAttr(name) if NEEDED.contains(&name.as_str()))
    }
}

/// Texts become the mask, the keys of a map that is sensitive as a whole too.
fn mask(value: &mut Value) {
    match value {
        Value::String(text) => MASK.clone_into(text),
        Value::Array(list) => list.iter_mut().for_each(mask),
        Value::Object(map) if !map.is_empty() => {
            *value = serde_json::json!({ MASK: MASK });
        }
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VALUES: &str =
        r#"{"id":"i-1","order":7,"env":{"A":"a","B":"b"},"items":[{"value":"x"},{"value":"y"}]}"#;

    fn masked(marks: impl FnOnce(&RawValue) -> Option<Value>) -> Option<Value> {
        marks(&RawValue::from_string(VALUES.to_owned()).expect("JSON"))
    }

    fn mirror(marks: &str) -> Option<Value> {
        let marks = RawValue::from_string(marks.to_owned()).expect("JSON");
        masked(|values| Some(Marks::mirror(Some(&marks)).masked(values)?.expect("masked")))
    }

    fn paths(marks: &str) -> Option<Value> {
        let marks = RawValue::from_string(marks.to_owned()).expect("JSON");
        masked(|values| Some(Marks::paths(Some(&marks)).masked(values)?.expect("masked")))
    }

    #[test]
    fn a_mirror_masks_what_it_marks_and_nothing_else() {
        let expected = json!({
            "id": "i-1", "order": 7, "env": { "A": "a", "B": "***" },
            "items": [{ "value": "x" }, { "value": "***" }],
        });
        let marks = r#"{"id":true,"order":true,"env":{"B":true},"items":[{},{"value":true}]}"#;
        assert_eq!(mirror(marks), Some(expected));
        assert_eq!(mirror("{}"), None);
    }

    #[test]
    fn a_path_masks_what_it_leads_to() {
        let marks = r#"[
            [{"type":"get_attr","value":"env"},{"type":"index","value":{"value":"B","type":"string"}}],
            [{"type":"get_attr","value":"items"},{"type":"index","value":{"value":1,"type":"number"}},{"type":"get_attr","value":"value"}],
            [{"type":"get_attr","value":"id"}]
        ]"#;
        let expected = json!({
            "id": "i-1", "order": 7, "env": { "A": "a", "B": "***" },
            "items": [{ "value": "x" }, { "value": "***" }],
        });
        assert_eq!(paths(marks), Some(expected));
        assert_eq!(paths("[]"), None);
    }

    #[test]
    fn a_map_that_is_sensitive_as_a_whole_shows_no_key() {
        let shown = mirror(r#"{"env":true}"#).expect("masked");
        assert_eq!(shown["env"], json!({ "***": "***" }));
    }

    #[test]
    fn a_path_that_cannot_be_followed_masks_all_from_there_on() {
        let marks = r#"[[{"type":"get_attr","value":"items"},{"type":"index","value":{"value":{"value":"x"},"type":["object",{"value":"string"}]}}]]"#;
        let shown = paths(marks).expect("masked");
        assert_eq!(shown["items"], json!([{ "***": "***" }, { "***": "***" }]));
    }
}
