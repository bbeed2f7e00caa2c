//! Which engines this host has. Each binary is asked for its version once, through a
//! supervisor, and again only when its file changes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use proto::v1::EngineFacts;

use super::{EngineChoice, EngineName};

mod probe;

pub use probe::Prober;

/// No engine, or one that does not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None on PATH.
    #[error("no engine found: neither terraform nor tofu is on PATH; install one or give --engine")]
    None,
    /// The one that was asked for is not there.
    #[error("the engine `{engine}` was not found; install it or give --engine PATH")]
    Missing {
        /// Name or path.
        engine: String,
    },
    /// A job asks for one that this daemon does not offer.
    #[error("the job needs the engine `{engine}`; this daemon has {offered}")]
    NotOffered {
        /// What the job names.
        engine: String,
        /// What we have.
        offered: String,
    },
    /// It is there and cannot be asked.
    #[error("the engine {path} did not tell its version", path = path.display())]
    Silent {
        /// The binary.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An engine that answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    /// Absolute.
    pub path: PathBuf,
    /// Name and version.
    pub facts: EngineFacts,
}

/// What identifies the content of a binary without reading it.
type Print = (PathBuf, SystemTime, u64);

/// The engines of this daemon; the first one is the default.
#[derive(Debug)]
pub struct Engines {
    offered: Vec<(EngineName, PathBuf)>,
    default_version: String,
    known: Mutex<BTreeMap<Print, EngineFacts>>,
    prober: Prober,
}

impl Engines {
    /// Looks for what `choice` names and asks each for its version.
    ///
    /// # Errors
    /// None is there, or one does not answer.
    pub async fn find(choice: &EngineChoice, prober: Prober) -> Result<Self, Error> {
        let mut engines = Self {
            offered: Vec::new(),
            default_version: String::new(),
            known: Mutex::default(),
            prober,
        };
        for path in candidates(choice)? {
            let facts = engines.facts(&path).await?;
            let name = EngineName::parse(&facts.name).unwrap_or(EngineName::Terraform);
            if engines.offered.is_empty() {
                engines.default_version = facts.version;
            }
            engines.offered.push((name, path));
        }
        Ok(engines)
    }

    /// A daemon that can run nothing.
    #[cfg(test)]
    pub fn none() -> Self {
        Self {
            offered: Vec::new(),
            default_version: String::new(),
            known: Mutex::default(),
            prober: Prober {
                exe: PathBuf::new(),
                jobs: PathBuf::new(),
                timings: proto::timings::Timings::default(),
            },
        }
    }

    /// The engine for a job that names one, or none.
    ///
    /// # Errors
    /// It is not offered, or its binary has gone since.
    pub async fn pick(&self, wanted: &str) -> Result<Engine, Error> {
        let found = self
            .offered
            .iter()
            .find(|(name, _)| wanted.is_empty() || name.as_str() == wanted);
        let Some((_, path)) = found else {
            return Err(Error::NotOffered {
                engine: wanted.to_owned(),
                offered: self.names().join(" and "),
            });
        };
        Ok(Engine {
            path: path.clone(),
            facts: self.facts(path).await?,
        })
    }

    /// Names, the default first.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.offered.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Version of the default engine.
    #[must_use]
    pub fn version(&self) -> String {
        self.default_version.clone()
    }

    async fn facts(&self, path: &Path) -> Result<EngineFacts, Error> {
        let print = print(path)?;
        let known = self.lock().get(&print).cloned();
        if let Some(facts) = known {
            return Ok(facts);
        }
        let facts = self
            .prober
            .ask(path)
            .await
            .map_err(|source| Error::Silent {
                path: path.to_owned(),
                source,
            })?;
        tracing::info!(
            engine.path = %path.display(),
            engine.name = facts.name,
            engine.version = facts.version,
            "engine found"
        );
        self.lock().insert(print, facts.clone());
        Ok(facts)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Print, EngineFacts>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn print(path: &Path) -> Result<Print, Error> {
    let metadata = std::fs::metadata(path)
        .and_then(|metadata| Ok((metadata.modified()?, metadata.len())))
        .map_err(|_| missing(&path.display().to_string()))?;
    Ok((path.to_owned(), metadata.0, metadata.1))
}

fn candidates(choice: &EngineChoice) -> Result<Vec<PathBuf>, Error> {
    match choice {
        EngineChoice::Auto => {
            let found: Vec<PathBuf> = [EngineName::Terraform, EngineName::Tofu]
                .iter()
                .filter_map(|name| which::which(name.as_str()).ok())
                .collect();
            if found.is_empty() {
                return Err(Error::None);
            }
            Ok(found)
        }
        EngineChoice::Named(name) => which::which(name.as_str())
            .map(|path| vec![path])
            .map_err(|_| missing(name.as_str())),
        // A path with a separator is taken as it is, and must be executable.
        EngineChoice::Path(path) => which::which(path)
            .map(|path| vec![std::path::absolute(&path).unwrap_or(path)])
            .map_err(|_| missing(&path.display().to_string())),
    }
}

fn missing(engine: &str) -> Error {
    Error::Missing {
        engine: engine.to_owned(),
    }
}

impl EngineName {
    /// From the wire.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Terraform, Self::Tofu]
            .into_iter()
            .find(|engine| engine.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_not_there_is_one_clear_line() {
        let refused = candidates(&EngineChoice::Path("/nowhere/terraform".into()))
            .expect_err("missing")
            .to_string();
        assert_eq!(
            refused,
            "the engine `/nowhere/terraform` was not found; install it or give --engine PATH"
        );
    }

    #[test]
    fn a_replaced_binary_is_asked_again() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("engine");
        std::fs::write(&path, "one").expect("write");
        let first = print(&path).expect("print");
        std::fs::write(&path, "three").expect("write");
        assert_ne!(first, print(&path).expect("print"));
    }
}
