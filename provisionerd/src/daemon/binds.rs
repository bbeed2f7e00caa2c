//! Host paths that every job sees: a kubeconfig, a shared folder.
//!
//! Without mount namespaces a path can only be shown where it is, or by a link in the
//! job's HOME; anything else is refused when the daemon starts.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use worker::job_dir::JobDir;

use super::{Access, Bind};

/// A bind that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source is not there.
    #[error("--bind {path}: no such path on this host", path = path.display())]
    Missing {
        /// The source.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A place that only a mount could show.
    #[error(
        "--bind {source_path}={destination}: without mount namespaces a path is shown where it \
         is or below ~",
        source_path = source_path.display(),
        destination = destination.display()
    )]
    Elsewhere {
        /// On the host.
        source_path: PathBuf,
        /// In the job.
        destination: PathBuf,
    },
}

/// Checked binds.
#[derive(Debug, Clone, Default)]
pub struct Binds {
    /// Paths that jobs may read.
    pub read: Vec<String>,
    /// Paths that jobs may write.
    pub write: Vec<String>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Binds {
    /// Checks each bind.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn check(binds: &[Bind]) -> Result<Self, Error> {
        let mut checked = Self::default();
        for bind in binds {
            let source = bind
                .source
                .canonicalize()
                .map_err(|source| Error::Missing {
                    path: bind.source.clone(),
                    source,
                })?;
            if let Some(link) = below_home(&bind.destination) {
                checked.links.push((source.clone(), link));
            } else if bind.destination != bind.source {
                return Err(Error::Elsewhere {
                    source_path: bind.source.clone(),
                    destination: bind.destination.clone(),
                });
            }
            let path = source.to_string_lossy().into_owned();
            match bind.access {
                Access::Read => checked.read.push(path),
                Access::Write => checked.write.push(path),
            }
        }
        Ok(checked)
    }

    /// Makes the links in the HOME of a fresh job.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn link(&self, dir: &JobDir) -> io::Result<()> {
        for (source, link) in &self.links {
            let link = dir.home().join(link);
            if let Some(parent) = link.parent() {
                std::fs::create_dir_all(parent)?;
            }
            symlink(source, link)?;
        }
        Ok(())
    }
}

/// The part below `~/`, when that is where the path leads and nowhere else.
fn below_home(destination: &Path) -> Option<PathBuf> {
    let below = destination.strip_prefix("~").ok()?;
    let plain = below.components().count() > 0
        && below
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| below.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &Path, destination: &str) -> Bind {
        Bind {
            source: source.to_owned(),
            destination: destination.into(),
            access: Access::Read,
        }
    }

    #[test]
    fn a_bind_below_home_becomes_a_link() {
        let dir = tempfile::tempdir().expect("dir");
        let config = dir.path().join("config");
        std::fs::write(&config, "kube").expect("write");
        let binds = Binds::check(&[bind(&config, "~/.kube/config")]).expect("binds");
        let job = JobDir::create(dir.path(), "a").expect("job");
        binds.link(&job).expect("link");
        let seen = std::fs::read_to_string(job.home().join(".kube/config")).expect("read");
        assert_eq!(seen, "kube");
        assert_eq!(binds.read.len(), 1);
    }

    #[test]
    fn what_only_a_mount_could_show_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        for destination in ["/elsewhere", "~/../x", "~"] {
            assert!(matches!(
                Binds::check(&[bind(dir.path(), destination)]),
                Err(Error::Elsewhere { .. })
            ));
        }
        assert!(matches!(
            Binds::check(&[bind(Path::new("/not/there"), "/not/there")]),
            Err(Error::Missing { .. })
        ));
    }
}
