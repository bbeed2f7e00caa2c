//! What is really there: the marks that resources leave, and what a state says.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// One thing in the world: made twice is two things.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thing {
    /// Address of its resource.
    pub address: String,
    /// As the provider named it.
    pub id: String,
}

/// Everything made for a workspace, in the order it was made.
pub fn marks(file: &Path) -> Vec<Thing> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(address, id)| Thing {
            address: address.to_owned(),
            id: id.to_owned(),
        })
        .collect()
}

/// What a state knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// All managed instances.
    pub things: BTreeSet<Thing>,
    /// Those that the engine will replace: their provisioner did not end.
    pub tainted: BTreeSet<Thing>,
    /// Size of the state.
    pub bytes: usize,
}

impl Known {
    /// Reads a raw state.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn of(state: &[u8]) -> serde_json::Result<Self> {
        let mut known = Self {
            bytes: state.len(),
            ..Self::default()
        };
        let state: Value = serde_json::from_slice(state)?;
        for resource in list(&state["resources"]) {
            if resource["mode"] != "managed" {
                continue;
            }
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let base = format!("{}.{}", text(&resource["type"]), text(&resource["name"]));
            for instance in list(&resource["instances"]) {
                let address = match &instance["index_key"] {
                    Value::Null => base.clone(),
                    key => format!("{base}[{key}]"),
                };
                let id = text(&instance["attributes"]["id"]);
                let thing = Thing { address, id };
                if instance["status"] == "tainted" {
                    known.tainted.insert(thing.clone());
                }
                known.things.insert(thing);
            }
        }
        Ok(known)
    }
}

/// The elements of an array, none of anything else.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_with_its_ids_and_what_is_tainted() {
        let state = serde_json::json!({"resources": [
            {"mode": "managed", "type": "a", "name": "b", "instances": [
                {"index_key": 0, "attributes": {"id": "one"}},
                {"index_key": 1, "status": "tainted", "attributes": {"id": "two"}},
            ]},
            {"mode": "data", "type": "a", "name": "c", "instances": [{"attributes": {}}]},
        ]});
        let thing = |address: &str, id: &str| Thing {
            address: address.to_owned(),
            id: id.to_owned(),
        };
        let known = Known::of(state.to_string().as_bytes()).expect("a state");
        let wanted = [thing("a.b[0]", "one"), thing("a.b[1]", "two")];
        assert_eq!(known.things, wanted.iter().cloned().collect());
        assert_eq!(known.tainted, wanted[1..].iter().cloned().collect());
    }
}
