//! A state, as `show -json` prints it or as the engine keeps it in its file.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Error;
use super::address;
use super::records::{Instance, Mode, Records, Values, join};
use super::sensitive::Marks;

/// The only version of state files that engines still write.
const FILE_VERSION: u64 = 4;

#[derive(Deserialize)]
struct Shown<'a> {
    #[serde(borrow)]
    format_version: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    values: Values<'a>,
    version: Option<u64>,
    #[serde(borrow, default)]
    resources: Vec<FileResource<'a>>,
}

#[derive(Deserialize)]
struct FileResource<'a> {
    #[serde(borrow, default)]
    module: Cow<'a, str>,
    mode: Mode,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    instances: Vec<FileInstance<'a>>,
}

#[derive(Deserialize)]
struct FileInstance<'a> {
    #[serde(borrow)]
    index_key: Option<&'a RawValue>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
    #[serde(borrow)]
    sensitive_attributes: Option<&'a RawValue>,
    #[serde(borrow, default)]
    dependencies: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    deposed: Option<&'a RawValue>,
}

/// Reads either form; no bytes at all are a state in which nothing exists.
pub(super) fn read(json: &[u8]) -> Result<Records<'_>, Error> {
    let mut records = Records::default();
    if json.is_empty() {
        return Ok(records);
    }
    let state: Shown = serde_json::from_slice(json).map_err(|source| Error::Json {
        document: "state",
        source,
    })?;
    match (state.format_version, state.version) {
        (Some(version), _) if is_known(&version) => records.add_values(state.values, None),
        (None, Some(FILE_VERSION)) => {
            for resource in state.resources {
                add_file_resource(&mut records, resource);
            }
        }
        (version, number) => {
            return Err(Error::Format {
                document: "state",
                version: version.map_or_else(
                    || number.map_or_else(String::new, |n| n.to_string()),
                    Cow::into_owned,
                ),
            });
        }
    }
    Ok(records)
}

/// Engines promise that only a new major version breaks readers.
pub(super) fn is_known(format_version: &str) -> bool {
    matches!(format_version.split('.').next(), Some("0" | "1"))
}

fn add_file_resource<'a>(records: &mut Records<'a>, resource: FileResource<'a>) {
    let path = address::label(&resource.module);
    let label = join(&path, resource.mode, &resource.kind, &resource.name);
    let bare = join(
        &resource.module,
        resource.mode,
        &resource.kind,
        &resource.name,
    );
    for instance in resource.instances {
        if instance.deposed.is_some() {
            continue;
        }
        let key = instance.index_key.map_or("", RawValue::get);
        let address = if key.is_empty() {
            bare.clone()
        } else {
            format!("{bare}[{key}]")
        };
        records.add(Instance {
            address: Cow::Owned(address),
            module: resource.module.clone(),
            mode: resource.mode,
            kind: resource.kind.clone(),
            name: resource.name.clone(),
            key,
            label: label.clone(),
            values: instance.attributes,
            sensitive: Marks::paths(instance.sensitive_attributes),
            depends_on: instance.dependencies,
        });
    }
}
