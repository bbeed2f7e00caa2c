//! The modules that init installed.

use std::borrow::Cow;

use proto::v1::Module;
use serde::Deserialize;

use super::Error;

#[derive(Deserialize)]
struct Manifest<'a> {
    #[serde(borrow, default, rename = "Modules")]
    modules: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default, rename = "Key")]
    key: Cow<'a, str>,
    #[serde(borrow, default, rename = "Source")]
    source: Cow<'a, str>,
    #[serde(borrow, default, rename = "Version")]
    version: Cow<'a, str>,
    #[serde(borrow, default, rename = "Dir")]
    dir: Cow<'a, str>,
}

/// Reads `.terraform/modules/modules.json`, the root module left out.
pub fn modules(modules_json: &[u8]) -> Result<Vec<Module>, Error> {
    let manifest: Manifest =
        serde_json::from_slice(modules_json).map_err(|source| Error::Json {
            document: "modules",
            source,
        })?;
    Ok(manifest
        .modules
        .into_iter()
        .filter(|entry| !entry.key.is_empty())
        .map(|entry| Module {
            source: entry.source.into_owned(),
            version: entry.version.into_owned(),
            key: entry.key.into_owned(),
            dir: entry.dir.into_owned(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_module_is_not_listed() {
        let json = br#"{"Modules":[{"Key":"","Source":"","Dir":"."},
            {"Key":"a.b","Source":"./b","Dir":"a/b"},
            {"Key":"ide","Source":"registry.coder.com/x","Version":"1.2.3","Dir":".terraform/modules/ide"}]}"#;
        let keys: Vec<_> = modules(json)
            .unwrap()
            .into_iter()
            .map(|m| (m.key, m.version))
            .collect();
        let expected = [("a.b", ""), ("ide", "1.2.3")];
        assert_eq!(keys, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
