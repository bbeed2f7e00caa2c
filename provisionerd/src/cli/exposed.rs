//! Secrets must not lie where jails let engines read: what an operator granted to every
//! job is open to every template. Checked before anything starts, for a jail cannot take
//! back a part of what it grants.

use std::path::{Path, PathBuf};

use crate::daemon::{Bind, EngineChoice};
use crate::failure::Failure;

/// Paths that engines may read, each with who opened it.
#[derive(Debug)]
pub struct Opened(Vec<(PathBuf, &'static str)>);

impl Opened {
    /// What is open to the engines of any daemon on this host.
    pub fn by_default() -> Self {
        Self::by_engine(&EngineChoice::Auto)
    }

    /// The same, for a daemon that runs this engine.
    pub fn by_engine(engine: &EngineChoice) -> Self {
        let program = match engine {
            EngineChoice::Path(path) => Some(path.as_path()),
            EngineChoice::Auto | EngineChoice::Named(_) => None,
        };
        let paths = worker::jail::open_to_engines(program);
        Self(
            paths
                .into_iter()
                .map(|path| (resolved(&path), "open to every engine"))
                .collect(),
        )
    }

    /// And these binds.
    pub fn with_binds(mut self, binds: &[Bind]) -> Self {
        let paths = binds.iter().map(|bind| resolved(&bind.source));
        self.0
            .extend(paths.map(|path| (path, "given to every job by --bind")));
        self
    }

    /// And those mirrors that are directories.
    pub fn with_mirrors(mut self, mirrors: &[String]) -> Self {
        let paths = mirrors.iter().filter(|mirror| !mirror.contains("://"));
        let paths = paths.map(|path| resolved(Path::new(path)));
        self.0
            .extend(paths.map(|path| (path, "given to every job by --provider-mirror")));
        self
    }

    /// Refuses `path`, which holds `what`, where an engine could read it.
    ///
    /// # Errors
    /// `SECRETS_EXPOSED`, naming both paths.
    pub fn refuse(&self, what: &str, path: &Path) -> Result<(), Failure> {
        let real = resolved(path);
        let Some((open, why)) = self.0.iter().find(|(open, _)| real.starts_with(open)) else {
            return Ok(());
        };
        let message = format!(
            "{what} {} lies below {}, which is {why}: templates could read it",
            path.display(),
            open.display()
        );
        Err(Failure::user("SECRETS_EXPOSED", message)
            .hint("Keep it in a directory that no job is given."))
    }
}

/// Without links, as far as the path exists; what does not yet is taken as it is.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for known in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (known.canonicalize(), absolute.strip_prefix(known)) {
            return real.join(rest);
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Access;

    #[test]
    fn a_secret_in_a_directory_of_the_system_is_refused_by_name() {
        let opened = Opened::by_default();
        let refused = opened.refuse("the key file", Path::new("/usr/local/etc/k.key"));
        let refused = refused.expect_err("exposed");
        assert_eq!(refused.code, "SECRETS_EXPOSED");
        assert!(refused.message.contains("/usr/local/etc/k.key"));
        // Where distributions keep certificates that all may read.
        for key in ["/etc/ssl/certs/k.key", "/etc/pki/tls/certs/k.key"] {
            let refused = opened.refuse("the private key", Path::new(key));
            refused.expect_err("exposed");
        }
        for usual in ["/etc/ssl/private/k.key", "/etc/provisionerd/k.key"] {
            opened
                .refuse("the private key", Path::new(usual))
                .expect("closed");
        }
        let usual = opened.refuse("the data directory", Path::new("/var/lib/provisionerd"));
        assert!(usual.is_ok());
    }

    #[test]
    fn a_secret_below_a_bind_or_a_mirror_is_refused_also_through_a_link() {
        let dir = tempfile::tempdir().expect("dir");
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::create_dir(&real).expect("directory");
        std::os::unix::fs::symlink(&real, &link).expect("link");
        let bind = Bind {
            source: link.clone(),
            destination: link.clone(),
            access: Access::Read,
        };
        let secret = real.join("not/yet/made");
        let bound = Opened::by_default().with_binds(&[bind]);
        bound
            .refuse("the data directory", &secret)
            .expect_err("bind");
        let mirrors = ["https://mirror".to_owned(), link.display().to_string()];
        let mirrored = Opened::by_default().with_mirrors(&mirrors);
        mirrored
            .refuse("the key file", &secret)
            .expect_err("mirror");
        let beside = dir.path().join("really");
        mirrored
            .refuse("the key file", &beside)
            .expect("its neighbour");
    }
}
