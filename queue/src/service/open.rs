//! Opening what a queue keeps: its directory, its store, its blobs, its first token.

use std::path::PathBuf;
use std::sync::Arc;

use proto::credential::{Credential, hash};
use proto::secret::Secret;

use crate::auth::DEFAULT_ORGANIZATION;
use crate::blobs::{Blobs, Used, place};
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::options::Options;
use crate::store::model::{Act, NewToken, Role};
use crate::store::postgres::{self, Postgres};
use crate::store::sqlite::{self, Sqlite};
use crate::store::{self, Store};

/// Name and owner of the first token.
const ADMIN: &str = "admin";

/// Opens directory and store on a thread that may block.
pub(super) async fn embedded(options: &Options) -> Result<(DataDir, Sqlite), Error> {
    let root = options.data_dir.clone();
    let timings = options.timings.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let directory = DataDir::open(&root)?;
        let database = directory.database();
        let store = Sqlite::open(&database, timings, sqlite::TimeSource::System)
            .map_err(|error| Error::store(database, error))?;
        Ok((directory, store))
    });
    opened.await.map_err(Error::Panicked)?
}

/// The directory holds only what is this replica's own.
pub(super) async fn shared(
    options: &Options,
    database: &postgres::Options,
) -> Result<(DataDir, Postgres), Error> {
    let root = options.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || DataDir::open(&root));
    let directory = opened.await.map_err(Error::Panicked)??;
    let timings = options.timings.clone();
    let store = Postgres::open(database, timings, postgres::TimeSource::Server);
    Ok((directory, store.await.map_err(Error::Database)?))
}

pub(super) fn blob_dir(options: &Options, directory: &DataDir) -> PathBuf {
    let given = options.blob_dir.clone();
    given.unwrap_or_else(|| directory.blobs())
}

/// Refuses a directory that holds the blobs of another database, or none of this one's.
pub(super) async fn check_place(store: &Postgres, path: PathBuf) -> Result<(), Error> {
    let asked = path.clone();
    let found = tokio::task::spawn_blocking(move || place::id(&asked));
    let found = found.await.map_err(Error::Panicked)?;
    let own = found.map_err(|source| Error::data_dir(&path, source))?;
    let known = store.blob_place(own.clone()).await;
    let known = known.map_err(|error| Error::Database(postgres::OpenError::Store(error)))?;
    if known == own {
        Ok(())
    } else {
        Err(Error::BlobPlace { path })
    }
}

pub(super) async fn blobs<S: Store>(
    store: &S,
    path: PathBuf,
    used: Used,
) -> Result<Blobs<S>, Error> {
    let store = store.clone();
    let opened = tokio::task::spawn_blocking(move || {
        Blobs::open(store, path.clone(), used).map_err(|source| Error::data_dir(&path, source))
    });
    opened.await.map_err(Error::Panicked)?
}

/// The first token: read from its file, or made.
pub(super) async fn admin_token<S: Store>(
    directory: &DataDir,
    store: &S,
    used: Used,
) -> Result<Option<Secret>, Error> {
    let failed = |error| match used {
        Used::Alone => Error::store(directory.database(), error),
        Used::ByReplicas => Error::Database(postgres::OpenError::Store(error)),
    };
    let written = directory.admin_token()?;
    if let Some(token) = &written
        && store
            .find_token(hash(token))
            .await
            .map_err(failed)?
            .is_some()
    {
        return Ok(written);
    }
    let act = Act::of_queue(DEFAULT_ORGANIZATION, "CreateToken", ADMIN);
    let by_queue = store.acting(Arc::new(act));
    match used {
        // A file that the operator deleted is made anew, which is how a lost admin token
        // comes back.
        Used::Alone => {
            match store.delete_token(ADMIN.to_owned()).await {
                Ok(()) | Err(store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
            let token = Credential::Token.generate();
            directory.write_admin_token(&token)?;
            by_queue.create_token(admin(&token)).await.map_err(failed)?;
            Ok(Some(token))
        }
        // The first replica makes it, by its file if it has one, and the others leave
        // it alone.
        Used::ByReplicas => {
            let token = written.unwrap_or_else(|| Credential::Token.generate());
            directory.write_admin_token(&token)?;
            match by_queue.create_token(admin(&token)).await {
                Ok(_) => Ok(Some(token)),
                Err(store::Error::Exists { .. }) => {
                    directory.remove_admin_token()?;
                    Ok(None)
                }
                Err(error) => Err(failed(error)),
            }
        }
    }
}

fn admin(token: &Secret) -> NewToken {
    NewToken {
        organization: None,
        name: ADMIN.to_owned(),
        owner: ADMIN.to_owned(),
        role: Role::Admin,
        hash: hash(token),
    }
}
