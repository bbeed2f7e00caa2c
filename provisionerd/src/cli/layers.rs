//! Flags win over the environment, the environment over the file. One walk over the
//! command tree gives every flag its environment variable and its key in the TOML
//! file, so that neither list can fall behind the flags.
//!
//! A key at the top of the file counts for every command that has the flag; in a table
//! named after a command (`[start]`, `[templates.push]`) for that command only.
//! Flags that may be repeated take one value per line from the environment (tags also
//! one per comma) and an array from the file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};

use super::nearest::nearest;
use crate::failure::{Exit, Failure};

const PREFIX: &str = "PROVISIONERD_";

/// Own variables that are no flags: they steer tests, which have their own names.
const FOREIGN_PREFIXES: [&str; 1] = ["PROVISIONERD_TEST_"];

/// Tables of credentials for jobs, which this version does not hand out.
const PROFILES: [&str; 2] = ["profile", "use"];

/// The two layers below the flags.
pub struct Layers {
    environment: Vec<(String, String)>,
    file: toml::Table,
    /// Where `file` was read from.
    pub path: Option<PathBuf>,
}

impl Layers {
    /// Reads the configuration file that `args` or the environment name, or the first
    /// one that exists in the usual places.
    ///
    /// # Errors
    /// A named file cannot be read, or the file is no TOML.
    pub fn load(args: &[String]) -> Result<Self, Failure> {
        let environment: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        let named = named_file(args, &environment);
        let path = named.or_else(|| usual_files().into_iter().find(|path| path.is_file()));
        let file = path.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(Self {
            environment,
            file,
            path,
        })
    }

    /// Refuses a file that gives jobs credentials: an operator who wrote them must not be
    /// left to believe that any job gets them.
    ///
    /// # Errors
    /// There is a `[profile.NAME]` or a `[[use]]`, at the top or in `[start]`.
    pub fn refuse_profiles(&self) -> Result<(), Failure> {
        let start = self.file.get("start").and_then(toml::Value::as_table);
        let tables = [Some(&self.file), start].into_iter().flatten();
        let mut found =
            tables.flat_map(|table| PROFILES.iter().filter(|key| table.contains_key(**key)));
        let Some(key) = found.next() else {
            return Ok(());
        };
        let file = self.path.as_deref().unwrap_or(Path::new(""));
        let message = format!(
            "{} has `{key}`, but this version gives no profile to any job",
            file.display()
        );
        Err(Failure {
            exit: Exit::Usage,
            ..Failure::user("PROFILES_UNSUPPORTED", message)
        }
        .hint("take it out; pass credentials to engines with --engine-env and --bind"))
    }

    /// The command tree with both layers put below its flags, and a warning for each
    /// name that no flag has.
    pub fn apply(&self, command: Command) -> (Command, Vec<String>) {
        let mut known = Known::default();
        let command = self.descend(command, &mut Vec::new(), &mut known);
        let mut warnings = self.unknown_variables(&known);
        self.unknown_keys(&self.file, &mut Vec::new(), &known, &mut warnings);
        (command, warnings)
    }

    fn descend(&self, command: Command, path: &mut Vec<String>, known: &mut Known) -> Command {
        let command = command.mut_args(|arg| self.layer(arg, path, known));
        command.mut_subcommands(|child| {
            path.push(child.get_name().to_owned());
            known.tables.insert(path.join("."));
            let child = self.descend(child, path, known);
            path.pop();
            child
        })
    }

    fn layer(&self, arg: Arg, path: &[String], known: &mut Known) -> Arg {
        let Some(long) = arg.get_long().map(str::to_owned) else {
            return arg;
        };
        let key = long.replace('-', "_");
        let variable = format!("{PREFIX}{}", key.to_uppercase());
        known.keys.insert(key.clone());
        known.variables.insert(variable.clone());
        let repeats = matches!(arg.get_action(), ArgAction::Append);
        let arg = match arg.get_action() {
            ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
            _ => arg,
        };
        let below = match self.variable(&variable).filter(|_| repeats) {
            Some(text) => Some(pieces(&key, text)),
            None => self.value_in_file(path, &key),
        };
        let arg = match below {
            Some(values) => arg.required(false).default_values(values),
            None => arg,
        };
        if repeats && self.variable(&variable).is_some() {
            return arg;
        }
        arg.env(variable).hide_env_values(true)
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    /// The value of `key` from the innermost table that has it.
    fn value_in_file(&self, path: &[String], key: &str) -> Option<Vec<String>> {
        let mut found = lookup(&self.file, key);
        let mut table = &self.file;
        for name in path {
            let Some(toml::Value::Table(inner)) = table.get(name) else {
                break;
            };
            table = inner;
            found = lookup(table, key).or(found);
        }
        found.map(texts)
    }

    fn unknown_variables(&self, known: &Known) -> Vec<String> {
        let names = self.environment.iter().map(|(name, _)| name);
        names
            .filter(|name| !known.variables.contains(*name))
            .filter(|name| !FOREIGN_PREFIXES.iter().any(|own| name.starts_with(own)))
            .map(|name| {
                let meant = nearest(name, known.variables.iter().map(String::as_str));
                unknown("environment variable", name, meant)
            })
            .collect()
    }

    fn unknown_keys(
        &self,
        table: &toml::Table,
        path: &mut Vec<String>,
        known: &Known,
        warnings: &mut Vec<String>,
    ) {
        let file = self.path.as_deref().unwrap_or(Path::new(""));
        for (key, value) in table {
            path.push(key.clone());
            let here = path.join(".");
            if let (toml::Value::Table(inner), true) = (value, known.tables.contains(&here)) {
                self.unknown_keys(inner, path, known, warnings);
            } else if path.len() == 1 && PROFILES.contains(&key.as_str()) {
                warnings.push(format!("{here} in {} is not read", file.display()));
            } else if !known.keys.contains(&key.replace('-', "_")) {
                let names = known.keys.iter().chain(&known.tables).map(String::as_str);
                let what = format!("key in {}", file.display());
                warnings.push(unknown(&what, &here, nearest(key, names)));
            }
            path.pop();
        }
    }
}

/// Every name that means something.
#[derive(Default)]
struct Known {
    keys: BTreeSet<String>,
    variables: BTreeSet<String>,
    tables: BTreeSet<String>,
}

fn unknown(what: &str, name: &str, meant: Option<&str>) -> String {
    match meant {
        Some(meant) => format!("unknown {what}: {name} (did you mean {meant}?)"),
        None => format!("unknown {what}: {name}"),
    }
}

fn lookup<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    let value = table
        .get(key)
        .or_else(|| table.get(&key.replace('_', "-")))?;
    (!value.is_table()).then_some(value)
}

fn texts(value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::Array(items) => items.iter().flat_map(texts).collect(),
        toml::Value::String(text) => vec![text.clone()],
        other @ (toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Table(_)) => vec![other.to_string()],
    }
}

fn pieces(key: &str, text: &str) -> Vec<String> {
    let commas = key == "tag";
    text.split(|c| c == '\n' || (commas && c == ','))
        .map(str::trim)
        .filter(|piece| !piece.is_empty())
        .map(str::to_owned)
        .collect()
}

fn named_file(args: &[String], environment: &[(String, String)]) -> Option<PathBuf> {
    let mut args = args.iter().take_while(|arg| *arg != "--");
    while let Some(arg) = args.next() {
        if arg == "--config" {
            return args.next().map(PathBuf::from);
        }
        if let Some(path) = arg.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    let variable = environment
        .iter()
        .find(|(name, _)| name == "PROVISIONERD_CONFIG")?;
    Some(PathBuf::from(&variable.1))
}

fn usual_files() -> Vec<PathBuf> {
    let home = std::env::home_dir().map(|home| home.join(".config"));
    let own = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let own = own.filter(|path| path.is_absolute()).or(home);
    let own = own.map(|dir| dir.join("provisionerd/config.toml"));
    own.into_iter()
        .chain([PathBuf::from("/etc/provisionerd/config.toml")])
        .collect()
}

fn read(path: &Path) -> Result<toml::Table, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].lines().count().max(1));
        Failure::usage(format!("{}:{line}: {}", path.display(), error.message()))
    })
}

#[cfg(test)]
#[path = "layers/tests.rs"]
mod tests;
