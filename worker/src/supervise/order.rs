//! What a worker asks for, checked field by field. The worker reads hostile input, so
//! nothing it says is believed: names are shapes, environment names are on a list,
//! and a field that its command does not have is an error, not noise.

use proto::limits;
use proto::v1::{EnvPair, Process, StartProcess};

use super::argv::{Command, Goal, InitOutput};

/// Longest file name a worker may give.
const FILE_NAME: usize = 1_024;

/// Longest name of one directory entry (`NAME_MAX`).
const FILE_COMPONENT: usize = 255;

/// Longest name of an environment variable.
const ENV_NAME: usize = 256;

/// All of this prefix belong to the contract with Coder templates.
const ENV_PREFIX: &str = "CODER_";

/// Every other variable a worker may set. Not on it, on purpose: what loads code
/// (`LD_PRELOAD`), what changes a command line (`TF_CLI_ARGS`), what names credentials:
/// those come from the daemon.
const ENV_NAMES: &[&str] = &[
    "CHECKPOINT_DISABLE",
    "GIT_TERMINAL_PROMPT",
    "HOME",
    "LANG",
    "LC_ALL",
    "PATH",
    "TF_APPEND_USER_AGENT",
    "TF_CLI_CONFIG_FILE",
    "TF_DATA_DIR",
    "TF_IGNORE",
    "TF_INPUT",
    "TF_IN_AUTOMATION",
    "TF_LOG",
    "TF_LOG_CORE",
    "TF_LOG_PROVIDER",
    "TF_PLUGIN_CACHE_DIR",
    "TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE",
    "TF_REATTACH_PROVIDERS",
    "TF_REGISTRY_CLIENT_TIMEOUT",
    "TF_REGISTRY_DISCOVERY_RETRY",
    "TF_WORKSPACE",
    "TMPDIR",
    "TRACEPARENT",
    "TRACESTATE",
    "TZ",
];

/// A request that was understood whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// The worker's number for it.
    pub number: u32,
    /// As on the wire.
    pub process: Process,
    /// With everything it needs.
    pub command: Command,
    /// Allowed names only, each once.
    pub env: Vec<EnvPair>,
}

/// Environments come in parts when they do not fit one frame.
#[derive(Debug, Default)]
pub(super) struct Parts {
    env: Vec<EnvPair>,
    size: usize,
}

impl Parts {
    /// Keeps a part for the next start. A worker that goes on past the limit costs no more
    /// memory: one part over it stays, by which the start is refused.
    pub(super) fn add(&mut self, part: Vec<EnvPair>) {
        if self.size <= limits::ENVIRONMENT {
            self.size += size(&part);
            self.env.extend(part);
        }
    }

    /// All parts with the last one; the next start begins anew.
    pub(super) fn complete(&mut self, last: Vec<EnvPair>) -> Vec<EnvPair> {
        self.add(last);
        self.size = 0;
        std::mem::take(&mut self.env)
    }
}

/// With what the kernel and the wire add to each pair, so that empty ones count too.
fn size(env: &[EnvPair]) -> usize {
    env.iter()
        .map(|pair| pair.name.len() + pair.value.len() + 16)
        .sum()
}

/// Why a request is no order.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    #[error("there is no process kind {0}")]
    Process(i32),
    #[error("field `{field}` does not belong to {process:?}")]
    Surplus {
        field: &'static str,
        process: Process,
    },
    #[error("{process:?} needs field `{field}`")]
    Missing {
        field: &'static str,
        process: Process,
    },
    #[error("`{name}` is no file name below the work directory: {why}")]
    FileName { name: String, why: &'static str },
    #[error("environment variable `{name}` may not be set by a worker")]
    EnvName { name: String },
    #[error("the environment has {size} bytes, over the limit of {limit}")]
    EnvironmentTooLarge { size: usize, limit: usize },
    #[error("environment variable `{name}` is set twice")]
    EnvTwice { name: String },
    #[error("environment variable `{name}` holds a NUL byte")]
    EnvNul { name: String },
    #[error(
        "environment variable `{name}` has {size} bytes with its name, over the limit of {limit}"
    )]
    EnvTooLong {
        name: String,
        size: usize,
        limit: usize,
    },
}

impl Order {
    /// What a probe runs, without being asked.
    pub(super) fn probe() -> Self {
        Self {
            number: 0,
            process: Process::Version,
            command: Command::Version,
            env: Vec::new(),
        }
    }

    /// Checks `request`.
    pub(super) fn parse(request: StartProcess) -> Result<Self, Invalid> {
        let process =
            Process::try_from(request.process).map_err(|_| Invalid::Process(request.process))?;
        let mut fields = Fields::new(process, &request)?;
        let command = match process {
            Process::Unspecified => return Err(Invalid::Process(request.process)),
            Process::Version => Command::Version,
            Process::Init => Command::Init {
                output: if fields.flag("plain") {
                    InitOutput::Plain
                } else {
                    InitOutput::Json
                },
            },
            Process::Plan => Command::Plan {
                plan_file: fields.required_name("plan_file")?,
                var_file: fields.name("var_file"),
                goal: if fields.flag("destroy") {
                    Goal::Destroy
                } else {
                    Goal::Template
                },
            },
            Process::Show => Command::Show {
                plan_file: fields.name("plan_file"),
            },
            Process::Apply => Command::Apply {
                plan_file: fields.required_name("plan_file")?,
            },
        };
        fields.all_taken()?;
        check_env(&request.env)?;
        Ok(Self {
            number: request.number,
            process,
            command,
            env: request.env,
        })
    }
}

/// Fields of a request that no command has taken yet.
struct Fields {
    process: Process,
    names: Vec<(&'static str, String)>,
    flags: Vec<&'static str>,
}

impl Fields {
    fn new(process: Process, request: &StartProcess) -> Result<Self, Invalid> {
        let mut names = Vec::new();
        for (field, name) in [
            ("plan_file", &request.plan_file),
            ("var_file", &request.var_file),
        ] {
            if !name.is_empty() {
                check_file_name(name)?;
                names.push((field, name.clone()));
            }
        }
        let flags = [("destroy", request.destroy), ("plain", request.plain)];
        let flags = flags.iter().filter(|(_, set)| *set).map(|(name, _)| *name);
        Ok(Self {
            process,
            names,
            flags: flags.collect(),
        })
    }

    fn name(&mut self, field: &'static str) -> Option<String> {
        let index = self.names.iter().position(|(name, _)| *name == field)?;
        Some(self.names.remove(index).1)
    }

    fn required_name(&mut self, field: &'static str) -> Result<String, Invalid> {
        self.name(field).ok_or(Invalid::Missing {
            field,
            process: self.process,
        })
    }

    fn flag(&mut self, field: &'static str) -> bool {
        let before = self.flags.len();
        self.flags.retain(|name| *name != field);
        self.flags.len() < before
    }

    fn all_taken(&self) -> Result<(), Invalid> {
        let names = self.names.iter().map(|(name, _)| *name);
        match names.chain(self.flags.iter().copied()).next() {
            None => Ok(()),
            Some(field) => Err(Invalid::Surplus {
                field,
                process: self.process,
            }),
        }
    }
}

/// A relative path that cannot leave its directory by its text and cannot be taken for an
/// option. Links are the jail's business: the engine may write where it stands anyway.
fn check_file_name(name: &str) -> Result<(), Invalid> {
    let refuse = |why| {
        Err(Invalid::FileName {
            name: name.chars().take(FILE_COMPONENT).collect(),
            why,
        })
    };
    if name.len() > FILE_NAME {
        return refuse("it is longer than 1024 bytes");
    }
    if name.chars().any(char::is_control) {
        return refuse("it holds a control character");
    }
    for component in name.split('/') {
        match component {
            "" => return refuse("it has an empty component"),
            "." | ".." => return refuse("it holds `.` or `..`"),
            _ if component.starts_with('-') => return refuse("a component begins with `-`"),
            _ if component.len() > FILE_COMPONENT => {
                return refuse("a component is longer than 255 bytes");
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_env(env: &[EnvPair]) -> Result<(), Invalid> {
    let (size, limit) = (size(env), limits::ENVIRONMENT);
    if size > limit {
        return Err(Invalid::EnvironmentTooLarge { size, limit });
    }
    let mut seen = std::collections::HashSet::new();
    for EnvPair { name, value } in env {
        let shown = || name.chars().take(ENV_NAME).collect();
        if !allowed(name) {
            return Err(Invalid::EnvName { name: shown() });
        }
        if !seen.insert(name) {
            return Err(Invalid::EnvTwice { name: shown() });
        }
        if value.contains('\0') {
            return Err(Invalid::EnvNul { name: shown() });
        }
        let size = name.len() + 1 + value.len();
        if size > limits::ENV_STRING {
            return Err(Invalid::EnvTooLong {
                name: shown(),
                size,
                limit: limits::ENV_STRING,
            });
        }
    }
    Ok(())
}

fn allowed(name: &str) -> bool {
    let printable = name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'=');
    let of_contract = name.len() > ENV_PREFIX.len() && name.starts_with(ENV_PREFIX);
    printable && name.len() <= ENV_NAME && (of_contract || ENV_NAMES.contains(&name))
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
