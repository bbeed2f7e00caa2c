//! Resource instances, from whichever document holds them. Values stay the borrowed text
//! they came as until somebody asks for one resource's: a large state is read once and
//! copied never.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Error;
use super::address;
use super::sensitive::Marks;

/// Managed by the engine or only read by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    Managed,
    Data,
    /// Exists only while the engine runs.
    Ephemeral,
}

/// One instance of a resource or data source.
#[derive(Debug)]
pub(super) struct Instance<'a> {
    pub(super) address: Cow<'a, str>,
    /// Address of the enclosing module, keys included; empty for the root.
    pub(super) module: Cow<'a, str>,
    pub(super) mode: Mode,
    pub(super) kind: Cow<'a, str>,
    pub(super) name: Cow<'a, str>,
    /// `0` or `"key"`, as JSON; empty without `count` and `for_each`.
    pub(super) key: &'a str,
    pub(super) label: String,
    pub(super) values: Option<&'a RawValue>,
    /// Which of them are nobody's to see.
    pub(super) sensitive: Marks<'a>,
    /// Labels of what it depends on, as a state records them.
    pub(super) depends_on: Vec<Cow<'a, str>>,
}

impl Instance<'_> {
    /// Is it a managed resource of this type?
    pub(super) fn is_managed(&self, kind: &str) -> bool {
        self.mode == Mode::Managed && self.kind == kind
    }

    /// Reads its values, of which absent and null ones are the default and sensitive ones
    /// are masked. Data sources are read as they are: defaults of parameters are among
    /// them, and builds need those.
    pub(super) fn values<T: DeserializeOwned + Default>(&self) -> Result<T, Error> {
        let Some(raw) = self.values else {
            return Ok(T::default());
        };
        let read = match (self.mode, self.sensitive.masked(raw)) {
            (Mode::Managed, Some(masked)) => masked.and_then(serde_json::from_value),
            (Mode::Managed | Mode::Data | Mode::Ephemeral, _) => serde_json::from_str(raw.get()),
        };
        read.map_err(|source| Error::Values {
            address: self.address.to_string(),
            source,
        })
    }

    /// Its values as text, to look for an exact string in.
    pub(super) fn text(&self) -> &str {
        self.values.map_or("", RawValue::get)
    }
}

/// `values` of `show -json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Values<'a> {
    #[serde(borrow)]
    root_module: Option<Module<'a>>,
}

#[derive(Debug, Deserialize)]
struct Module<'a> {
    #[serde(borrow, default)]
    address: Cow<'a, str>,
    #[serde(borrow, default)]
    resources: Vec<Resource<'a>>,
    #[serde(borrow, default)]
    child_modules: Vec<Module<'a>>,
}

#[derive(Debug, Deserialize)]
struct Resource<'a> {
    #[serde(borrow)]
    address: Cow<'a, str>,
    mode: Mode,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    values: Option<&'a RawValue>,
    #[serde(borrow)]
    sensitive_values: Option<&'a RawValue>,
    #[serde(borrow, default)]
    depends_on: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    deposed_key: Option<&'a RawValue>,
}

/// Instances in order of appearance, child modules first; one for each address.
#[derive(Debug, Default)]
pub(super) struct Records<'a> {
    pub(super) all: Vec<Instance<'a>>,
    seen: HashSet<String>,
}

impl<'a> Records<'a> {
    /// Adds what `show -json` lists, only data sources if so asked.
    pub(super) fn add_values(&mut self, values: Values<'a>, only: Option<Mode>) {
        if let Some(root) = values.root_module {
            self.add_module(root, only);
        }
    }

    fn add_module(&mut self, module: Module<'a>, only: Option<Mode>) {
        for child in module.child_modules {
            self.add_module(child, only);
        }
        let path = address::label(&module.address);
        for resource in module.resources {
            // A deposed object waits to be destroyed beside the one that replaced it.
            if resource.deposed_key.is_some() || only.is_some_and(|mode| mode != resource.mode) {
                continue;
            }
            self.add(Instance {
                label: join(&path, resource.mode, &resource.kind, &resource.name),
                address: resource.address,
                module: module.address.clone(),
                mode: resource.mode,
                kind: resource.kind,
                name: resource.name,
                key: resource.index.map_or("", RawValue::get),
                values: resource.values,
                sensitive: Marks::mirror(resource.sensitive_values),
                depends_on: resource.depends_on,
            });
        }
    }

    /// Adds an instance unless its address is known already.
    pub(super) fn add(&mut self, instance: Instance<'a>) {
        if self.seen.insert(instance.address.to_string()) {
            self.all.push(instance);
        }
    }

    /// Managed instances of one type, by address.
    pub(super) fn managed(&self, kind: &str) -> Vec<&Instance<'a>> {
        let mut found: Vec<_> = self.all.iter().filter(|i| i.is_managed(kind)).collect();
        found.sort_by(|a, b| a.address.cmp(&b.address));
        found
    }

    /// Data sources of one type, in order of appearance.
    pub(super) fn data<'s>(&'s self, kind: &'s str) -> impl Iterator<Item = &'s Instance<'a>> {
        self.all
            .iter()
            .filter(move |i| i.mode == Mode::Data && i.kind == kind)
    }
}

/// The label, or with a module address the address, of a resource without its key.
pub(super) fn join(module: &str, mode: Mode, kind: &str, name: &str) -> String {
    let dot = if module.is_empty() { "" } else { "." };
    let mode = match mode {
        Mode::Managed => "",
        Mode::Data => "data.",
        Mode::Ephemeral => "ephemeral.",
    };
    format!("{module}{dot}{mode}{kind}.{name}")
}
