//! Where engines may take providers from: a configuration of their command line with an
//! explicit `provider_installation`, so that nothing is looked for in places a template
//! or a host could have filled.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proto::v1::Begin;

/// The configuration file, below `home/`.
pub(super) const CLI_CONFIG: &str = "engine.tfrc";

/// The dependency lock file of engines, below `work/`.
pub(super) const LOCK_FILE: &str = ".terraform.lock.hcl";

/// The text of the configuration: mirrors in order of preference, then, where it is
/// allowed, the registry for what no unpacked mirror has.
pub(super) fn cli_config(begin: &Begin) -> String {
    let mut text = String::from("disable_checkpoint = true\n\nprovider_installation {\n");
    let mut mirrored = BTreeSet::new();
    for mirror in &begin.provider_mirrors {
        let _ = writeln!(
            text,
            "  filesystem_mirror {{\n    path = {}\n  }}",
            quote(mirror)
        );
        mirrored.extend(providers_in(Path::new(mirror)));
    }
    for url in &begin.network_mirrors {
        let _ = writeln!(text, "  network_mirror {{\n    url = {}\n  }}", quote(url));
    }
    if begin.direct {
        let list: Vec<String> = mirrored.iter().map(|source| quote(source)).collect();
        let _ = writeln!(
            text,
            "  direct {{\n    exclude = [{}]\n  }}",
            list.join(", ")
        );
    }
    text.push_str("}\n");
    text
}

/// Source addresses (`host/namespace/type`) that an unpacked or packed mirror has.
fn providers_in(mirror: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for host in names(mirror) {
        for namespace in names(&mirror.join(&host)) {
            for kind in names(&mirror.join(&host).join(&namespace)) {
                found.push(format!("{host}/{namespace}/{kind}"));
            }
        }
    }
    found
}

/// Names of the directories in `dir`; one that cannot be read has none.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

/// An HCL string that stands for exactly `text`.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Doubled, `${` and `%{` are no template.
            '$' | '%' => {
                out.push(c);
            }
            '{' if out.ends_with(['$', '%']) => {
                let sigil = if out.ends_with('$') { '$' } else { '%' };
                out.push(sigil);
                out.push('{');
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_mirrors_and_registry_there_is_no_place_to_take_providers_from() {
        let text = cli_config(&Begin::default());
        assert!(text.ends_with("provider_installation {\n}\n"), "{text}");
    }

    #[test]
    fn the_registry_is_not_asked_for_what_a_mirror_has() {
        let dir = tempfile::tempdir().expect("dir");
        let provider = "registry.terraform.io/coder/coder";
        fs::create_dir_all(dir.path().join(provider).join("2.19.0")).expect("mirror");
        let begin = Begin {
            provider_mirrors: vec![dir.path().to_string_lossy().into_owned()],
            network_mirrors: vec!["https://mirror.test/".to_owned()],
            direct: true,
            ..Begin::default()
        };
        let text = cli_config(&begin);
        assert!(
            text.contains(&format!("exclude = [\"{provider}\"]")),
            "{text}"
        );
        let place = |word| text.find(word).expect(word);
        assert!(place("filesystem_mirror") < place("network_mirror"));
        assert!(place("network_mirror") < place("direct"));
    }

    #[test]
    fn a_path_cannot_leave_its_string() {
        assert_eq!(quote("a\"b\\c\n"), "\"a\\\"b\\\\c\\n\"");
        assert_eq!(quote("${x}%{y}"), "\"$${x}%%{y}\"");
    }
}
