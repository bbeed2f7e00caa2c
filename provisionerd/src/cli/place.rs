//! Where a queue is kept: the flags that `serve`, `backup`, `restore` and `migrate` share.

use std::path::PathBuf;

use super::connection;
use crate::failure::Failure;

/// A data directory, or a database and the blobs that belong to it.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Where the store and the blobs live; by default ~/.local/share/provisionerd.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL instead of SQLite in the data directory, for one replica or many. It
    /// holds a password: give it as PROVISIONERD_DATABASE_URL or in the file.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Authorities that vouch for the database server, as PEM; makes TLS a must.
    #[arg(long, value_name = "FILE")]
    pub database_ca_file: Option<PathBuf>,
    /// Where archives and states above 64 KiB live: file:///DIR, shared by all replicas;
    /// by default in the data directory.
    #[arg(long, value_name = "URL")]
    pub blob_url: Option<String>,
}

impl Args {
    /// Refuses authorities of no database. clap's own `requires` would not count what the
    /// file says.
    pub fn check(&self) -> Result<(), Failure> {
        match (&self.database_ca_file, &self.database_url) {
            (Some(_), None) => Err(Failure::usage(
                "--database-ca-file goes with --database-url",
            )),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// The data directory.
    pub fn data_dir(&self) -> Result<PathBuf, Failure> {
        connection::data_dir(self.data_dir.clone())
    }

    /// The database.
    pub fn database(&self) -> queue::Database {
        let Some(url) = &self.database_url else {
            return queue::Database::Embedded;
        };
        let mut options = queue::store::postgres::Options::new(url.clone());
        options.ca.clone_from(&self.database_ca_file);
        queue::Database::Postgres(options)
    }

    /// The directory of blobs, if one was given.
    pub fn blob_dir(&self) -> Result<Option<PathBuf>, Failure> {
        self.blob_url.as_deref().map(directory).transpose()
    }

    /// All of it.
    pub fn place(&self) -> Result<queue::portable::Place, Failure> {
        self.check()?;
        Ok(queue::portable::Place {
            data_dir: self.data_dir()?,
            database: self.database(),
            blob_dir: self.blob_dir()?,
        })
    }
}

/// The directory of a `file://` URL.
fn directory(url: &str) -> Result<PathBuf, Failure> {
    match url.strip_prefix("file://") {
        Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
        Some(_) | None => Err(Failure::usage(format!(
            "--blob-url {url}: write file:///DIR, the only kind there is yet"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_go_to_a_whole_path_or_nowhere() {
        let dir = directory("file:///srv/blobs").expect("a directory");
        assert_eq!(dir, PathBuf::from("/srv/blobs"));
        for url in ["file://srv/blobs", "/srv/blobs", "s3://bucket"] {
            assert!(directory(url).is_err(), "{url}");
        }
    }
}
