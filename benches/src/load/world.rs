//! A queue with its store, certificates and credentials: what a scenario begins with.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proto::v1::CreateKeyRequest;
use provisionerd::connect::Target;

use super::crew::{Crew, Recruits};
use super::hub::Hub;
use super::job::Work;
use super::probes::Probes;
use super::serve::{self, Serve};
use super::store::{Backend, Postgres, Statements};
use super::tls::Tls;
use super::usage::{Look, Spent};
use super::{Args, work};
use crate::fleet::anonymous_kib;
use crate::sim::Client;

/// The tag of daemons that shall get jobs, and of their template.
const POOL: (&str, &str) = ("pool", "load");

/// How many tags there are that a template may ask for and no daemon has.
pub const FAR: usize = 10;

/// Connections that the queue takes: more than the largest fleet has.
const CONNECTIONS: &str = "18000";

/// One scenario on one store.
pub struct Run<'a> {
    /// As given.
    pub args: &'a Args,
    /// Which store.
    pub store: Backend,
    /// Of this command.
    pub probes: &'a Probes,
}

/// See the module. Its parts end in this order.
pub struct World {
    /// The queue; at least one.
    pub replicas: Vec<Serve>,
    /// Its database, when that is not in its directory.
    pub postgres: Option<Postgres>,
    tls: Tls,
    token: String,
    key: String,
    /// What has happened to jobs.
    pub hub: Arc<Hub>,
    /// Its data.
    pub dir: tempfile::TempDir,
}

impl World {
    /// A queue that answers, with nothing in it.
    pub async fn empty(run: &Run<'_>, replicas: usize, statements: Statements) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("load-")
            .tempdir_in(&run.args.dir)?;
        let statements = if run.args.statements {
            Statements::Counted
        } else {
            statements
        };
        let postgres = match run.store {
            Backend::Sqlite => None,
            Backend::Postgres => Some(tokio::task::block_in_place(|| Postgres::start(statements))?),
        };
        let tls = Tls::write(dir.path())?;
        let mut world = Self {
            replicas: Vec::new(),
            postgres,
            tls,
            token: String::new(),
            key: String::new(),
            hub: Arc::default(),
            dir,
        };
        for number in 0..replicas {
            let replica = world.replica(run, number).await?;
            world.replicas.push(replica);
        }
        let token = world.replicas[0].data.join("admin.token");
        let token = std::fs::read_to_string(token).context("the admin's token")?;
        world.token = token.trim().to_owned();
        let request = CreateKeyRequest {
            name: "load".to_owned(),
            // What daemons of this key may say of themselves.
            tags: pool().into_iter().chain((0..FAR).map(far)).collect(),
        };
        let made = world.client()?.management.create_key(request).await?;
        world.key = made.into_inner().key;
        Ok(world)
    }

    /// The same with the template that daemons of the pool can build, imported.
    pub async fn ready(run: &Run<'_>) -> Result<Self> {
        let world = Self::empty(run, 1, Statements::Uncounted).await?;
        world.import().await?;
        Ok(world)
    }

    /// Imports the template.
    pub async fn import(&self) -> Result<()> {
        work::import(self, work::TEMPLATE, &pool()).await
    }

    async fn replica(&self, run: &Run<'_>, number: usize) -> Result<Serve> {
        let mut flags = self.tls.listen_flags();
        // The whole fleet has this host's address.
        for flag in ["--connections", "--connections-per-address"] {
            flags.extend([flag.to_owned(), CONNECTIONS.to_owned()]);
        }
        flags.extend(run.args.serve_arg.iter().cloned());
        if self.postgres.is_some() {
            let blobs = self.dir.path().join("blobs").display().to_string();
            flags.extend(["--blob-url".to_owned(), format!("file://{blobs}")]);
        }
        let options = serve::Options {
            binary: &run.args.binary,
            dir: self.dir.path(),
            name: &format!("queue-{number}"),
            flags,
            database: self.postgres.as_ref().map(Postgres::url),
            log: &run.args.serve_log,
        };
        Serve::start(options).await
    }

    /// Where the queue is, as daemons are told: one or several.
    pub fn targets(&self) -> Vec<Target> {
        let target = |replica: &Serve| Target {
            url: replica.url.clone(),
            tls: self.tls.client(),
        };
        self.replicas.iter().map(target).collect()
    }

    /// An admin on a connection of its own, with the last replica.
    pub fn client(&self) -> Result<Client> {
        let target = self.targets().pop().context("no replica")?;
        Client::over(target.channel()?, &self.token)
    }

    /// Key of the daemons.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Flags with which `start` reaches the queue.
    pub fn dial_flags(&self) -> Vec<String> {
        let mut flags = vec!["--url".to_owned(), self.replicas[0].url.clone()];
        flags.extend(self.tls.dial_flags());
        flags
    }

    /// So many daemons that serve, and do `work` with what they get.
    pub async fn crew(&self, name: &str, count: usize, work: Work) -> Result<Crew> {
        let recruits = Recruits {
            count,
            name: name.to_owned(),
            tags: pool(),
            work,
        };
        let crew = Crew::enlist(self, &recruits);
        crew.all_serve(Duration::from_secs(300)).await?;
        Ok(crew)
    }

    /// A look at what was spent so far.
    pub fn look(&self) -> Look {
        let queues: Vec<u32> = self.replicas.iter().map(Serve::pid).collect();
        let postmaster = self.postgres.as_ref().map(|postgres| postgres.postmaster);
        Look::at(&queues, postmaster)
    }

    /// What was spent since.
    pub fn spent(&self, since: Look) -> Spent {
        self.look().since(since)
    }

    /// Anonymous memory of all replicas, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let pids = self.replicas.iter().map(Serve::pid);
        pids.map(anonymous_kib).sum()
    }

    /// That nothing went wrong which the figures do not show.
    pub fn check(&self) -> Result<()> {
        let wrong = self.hub.wrong();
        let complaints: Vec<String> = self.replicas.iter().flat_map(Serve::complaints).collect();
        if !complaints.is_empty() {
            eprintln!("load: the queue logged: {complaints:#?}");
        }
        ensure!(wrong.is_empty(), "{wrong:?}");
        Ok(())
    }
}

/// A tag that no daemon of a crew has.
pub fn far(number: usize) -> (String, String) {
    (format!("far-{number}"), "yes".to_owned())
}

/// Tags of the pool.
pub fn pool() -> Vec<(String, String)> {
    vec![(POOL.0.to_owned(), POOL.1.to_owned())]
}
