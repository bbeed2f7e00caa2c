//! Which resource instances a raw state file holds, with their ids: the proof that what
//! the ledger tells has been recorded. Attributes other than `id` are not kept.

use std::collections::HashMap;
use std::io::Read;

use serde::Deserialize;
use serde_json::Value;

/// Ids by address; an address has several while old objects of it wait to be destroyed.
#[derive(Debug, Clone, Default)]
pub struct StateIndex(HashMap<String, Vec<String>>);

impl StateIndex {
    /// Reads a state that is known to be whole.
    ///
    /// # Errors
    /// It is no state after all.
    pub fn of(state: &[u8]) -> serde_json::Result<Self> {
        Ok(Self::from_file(serde_json::from_slice(state)?))
    }

    /// The same of a state that is read piece by piece.
    ///
    /// # Errors
    /// As [`Self::of`]; a reader that fails is an I/O error.
    pub fn from_reader(state: impl Read) -> serde_json::Result<Self> {
        Ok(Self::from_file(serde_json::from_reader(state)?))
    }

    fn from_file(file: File) -> Self {
        let mut index = Self::default();
        for resource in file.resources {
            let base = resource.base();
            for instance in resource.instances {
                let address = format!("{base}{}", key(instance.index_key.as_ref()));
                index.add(address, id(instance.attributes.id));
            }
        }
        index
    }

    fn add(&mut self, address: String, id: String) {
        self.0.entry(address).or_default().push(id);
    }

    /// The state has an object of this address; with `id`, one with this id.
    #[must_use]
    pub fn holds(&self, address: &str, id: &str) -> bool {
        self.0
            .get(address)
            .is_some_and(|ids| id.is_empty() || ids.iter().any(|held| held == id))
    }
}

impl FromIterator<(String, String)> for StateIndex {
    /// Of objects by address and id.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(objects: I) -> Self {
        let mut index = Self::default();
        for (address, id) in objects {
            index.add(address, id);
        }
        index
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    module: String,
    #[serde(default)]
    mode: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
struct Instance {
    #[serde(default)]
    index_key: Option<Value>,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Deserialize, Default)]
struct Attributes {
    #[serde(default)]
    id: Option<Value>,
}

impl Resource {
    fn base(&self) -> String {
        let dot = if self.module.is_empty() { "" } else { "." };
        let data = if self.mode == "data" { "data." } else { "" };
        format!("{}{dot}{data}{}.{}", self.module, self.kind, self.name)
    }
}

fn key(key: Option<&Value>) -> String {
    match key {
        None | Some(Value::Null) => String::new(),
        // As in the language of templates, where these begin a template in a text.
        Some(Value::String(text)) => {
            let text = text.replace("${", "$${").replace("%{", "%%{");
            format!("[{}]", Value::String(text))
        }
        Some(key) => format!("[{key}]"),
    }
}

fn id(id: Option<Value>) -> String {
    match id {
        Some(Value::String(text)) => text,
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_event_stream() {
        let index = StateIndex::of(
            br#"{"resources":[
              {"mode":"managed","type":"a","name":"b","instances":[
                {"index_key":0,"attributes":{"id":"i-0"}},{"index_key":"k","attributes":{"id":7}}]},
              {"module":"module.m[0]","mode":"managed","type":"a","name":"c","instances":[{"attributes":{}}]},
              {"mode":"managed","type":"a","name":"f","instances":[{"index_key":"${x}%{y}","attributes":{"id":"z"}}]},
              {"mode":"data","type":"d","name":"e","instances":[{"attributes":{"id":"x"}}]}]}"#,
        )
        .expect("state");
        assert!(index.holds("a.b[0]", "i-0"));
        assert!(index.holds("a.b[\"k\"]", "7"));
        assert!(index.holds("module.m[0].a.c", ""));
        assert!(index.holds("a.f[\"$${x}%%{y}\"]", "z"));
        assert!(index.holds("data.d.e", "x"));
        assert!(!index.holds("a.b[0]", "i-1") && !index.holds("a.b", ""));
    }
}
