//! Everything at once, for somebody who has just cloned this: a queue and a daemon in
//! one process on free ports, a template, a workspace. Nothing here is a shortcut: the
//! daemon and the commands reach the queue over gRPC, and supervisor, worker and engine
//! are processes of their own.

mod engine;
mod key;
mod report;
mod room;
mod template;
mod workspace;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proto::tags::Tags;
use proto::timings::Timings;
use proto::v1::{self, ParameterValue, VariableValue};

use crate::analyzer::Analyzer;
use crate::cli::{self, Context, Interrupt, Watched};
use crate::client::Client;
use crate::connect::{ClientTls, Target};
use crate::daemon::{self, EngineChoice, JobMemory, Lifetime, Registry, Trigger};
use crate::failure::{Exit, Failure};
use crate::signals::Signals;

/// Name of the key, the daemon and the built-in template.
const NAME: &str = "quickstart";
/// Jobs at once: enough to try two things at a time.
const SLOTS: u32 = 2;
/// At the queue's port: its own daemon and a few shells beside it, which an ordinary limit on
/// open files has room for.
const CONNECTIONS: u32 = 256;
/// How long a daemon that is told to end may take over its last words.
const DRAIN: Duration = Duration::from_secs(60);

/// What was asked for.
pub struct Options {
    pub directory: Option<PathBuf>,
    pub stay: Stay,
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub parameters: Vec<ParameterValue>,
    pub variables: Vec<VariableValue>,
    pub engine: EngineChoice,
    pub provider_mirrors: Vec<String>,
}

/// What happens when the workspace is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// Queue and daemon end.
    Leave,
    /// They go on serving until a signal.
    Keep,
}

/// Runs it all.
///
/// # Errors
/// The first thing that does not work, with what to do about it.
pub async fn run(context: &Context, options: Options) -> Result<Exit, Failure> {
    engine::check(&options.engine)?;
    room::check(&options.data_dir)?;
    let name = template::name(options.directory.as_deref())?;
    let archive = template::pack(context, options.directory.as_deref()).await?;
    let mut queue = queue::Options::new(options.data_dir.clone(), options.listen);
    let analyzer = Analyzer::new(cli::own_exe()?, options.data_dir.clone());
    queue.analyzer = Some(Arc::new(analyzer));
    queue.edge.connections = CONNECTIONS;
    let mut service = queue::start(queue)
        .await
        .map_err(|error| crate::serve::failure(&error))?;
    let url = format!("http://{}", service.grpc_addr());
    context.say(&format!("queue   {url}"));
    context.say(&format!("data    {}", options.data_dir.display()));
    let target = Target {
        url: url.clone(),
        tls: ClientTls::default(),
    };
    let client = Client::new(&target, service.admin_token(), "default")?;
    let quickstart = Quickstart {
        context,
        client,
        options,
        archive: Some(archive),
        name,
        url,
    };
    let ended = tokio::select! {
        ended = quickstart.with_daemons(target) => ended,
        ended = service.wait() => match ended {
            Ok(()) => Err(Failure::internal("QUEUE_ENDED", "the queue has ended")),
            Err(error) => Err(crate::serve::failure(&error)),
        },
    };
    service.shutdown().await;
    ended
}

struct Quickstart<'a> {
    context: &'a Context,
    client: Client,
    options: Options,
    /// Until it is imported.
    archive: Option<cli::pack::Archive>,
    /// Of the template and of the workspace.
    name: String,
    url: String,
}

/// What came of the work beside one daemon.
enum Came {
    /// All of it is done.
    Ended(Exit),
    /// A job has tags that this daemon does not offer.
    Asks(Waiting),
}

/// A job that waits for a daemon with its tags.
enum Waiting {
    Import(Box<v1::JobView>),
    Build(Box<v1::BuildReply>),
}

impl Waiting {
    fn job(&self) -> Option<&v1::JobView> {
        match self {
            Self::Import(job) => Some(job),
            Self::Build(reply) => reply.job.as_ref(),
        }
    }
}

impl Quickstart<'_> {
    /// Begins beside a daemon without tags. A template with `coder_workspace_tags` goes on
    /// beside one that has its job's tags, for the import as for the build: there is no
    /// other daemon to wait for.
    async fn with_daemons(mut self, target: Target) -> Result<Exit, Failure> {
        let mut tags = Tags::untagged();
        let mut waiting = None;
        loop {
            match Box::pin(self.beside_daemon(&target, &tags, waiting.take())).await? {
                Came::Ended(exit) => return Ok(exit),
                Came::Asks(asks) => {
                    tags = tags_of(asks.job())?;
                    waiting = Some(asks);
                }
            }
        }
    }

    /// Runs a daemon beside the rest and ends it afterwards.
    async fn beside_daemon(
        &mut self,
        target: &Target,
        tags: &Tags,
        waiting: Option<Waiting>,
    ) -> Result<Came, Failure> {
        let key = key::obtain(&mut self.client, &self.options.data_dir, tags).await?;
        let (trigger, shutdown) = daemon::shutdown();
        let options = self.daemon_options(target.clone(), key, tags)?;
        let daemon = daemon::run(options, shutdown);
        tokio::pin!(daemon);
        let done = tokio::select! {
            done = self.work(tags, waiting, &trigger) => done,
            ended = &mut daemon => return Err(match ended {
                Ok(_) => Failure::internal("DAEMON_ENDED", "the daemon has ended by itself"),
                Err(error) => crate::start::failure(&error),
            }),
        };
        trigger.at_least(daemon::Step::Drain);
        let summary = daemon.await.map_err(|error| crate::start::failure(&error));
        let came = done?;
        summary?;
        Ok(came)
    }

    fn daemon_options(
        &self,
        target: Target,
        key: proto::secret::Secret,
        tags: &Tags,
    ) -> Result<daemon::Options, Failure> {
        let timings = Timings::default();
        Ok(daemon::Options {
            target,
            key,
            name: NAME.to_owned(),
            tags: tags.clone().into_pairs(),
            slots: SLOTS,
            data_dir: self.options.data_dir.join(format!("daemon-{NAME}")),
            engine: self.options.engine.clone(),
            provider_mirrors: self.options.provider_mirrors.clone(),
            direct: Registry::Allowed,
            lifetime: Lifetime::Unlimited,
            drain_deadline: DRAIN,
            cancel_grace: timings.cancel_grace,
            job_memory: JobMemory::Share,
            binds: Vec::new(),
            engine_env: Vec::new(),
            http_listen: None,
            timings,
            exe: cli::own_exe()?,
        })
    }

    /// Import and build, from where the daemon before this one could not go on.
    async fn work(
        &mut self,
        tags: &Tags,
        waiting: Option<Waiting>,
        trigger: &Trigger,
    ) -> Result<Came, Failure> {
        let reply = match waiting {
            Some(Waiting::Build(reply)) => reply,
            Some(Waiting::Import(job)) => return self.import(*job, tags, trigger).await,
            None => match template::import(self).await? {
                template::Import::Started(job) => {
                    self.context.say(&format!("import  template {}", self.name));
                    return self.import(*job, tags, trigger).await;
                }
                template::Import::Known => {
                    self.context
                        .say(&format!("import  template {} is unchanged", self.name));
                    Box::new(self.build().await?)
                }
            },
        };
        self.finish(reply, tags, trigger).await
    }

    /// Waits for the import, and goes on to the build.
    async fn import(
        &mut self,
        job: v1::JobView,
        tags: &Tags,
        trigger: &Trigger,
    ) -> Result<Came, Failure> {
        if !tags.can_run(&BTreeMap::new(), &tags_of(Some(&job))?) {
            return Ok(Came::Asks(Waiting::Import(Box::new(job))));
        }
        match self.follow(job, trigger).await? {
            Some(view) if cli::exit_of(&view) == Exit::Done => {
                let reply = Box::new(self.build().await?);
                self.finish(reply, tags, trigger).await
            }
            Some(view) => self.failed(&view).map(Came::Ended),
            None => Ok(Came::Ended(Exit::Interrupted)),
        }
    }

    /// Waits for the build, shows what exists, and stays if asked to.
    async fn finish(
        &mut self,
        reply: Box<v1::BuildReply>,
        tags: &Tags,
        trigger: &Trigger,
    ) -> Result<Came, Failure> {
        if !tags.can_run(&BTreeMap::new(), &tags_of(reply.job.as_ref())?) {
            return Ok(Came::Asks(Waiting::Build(reply)));
        }
        let job = reply.job.clone().unwrap_or_default();
        let Some(view) = self.follow(job, trigger).await? else {
            return Ok(Came::Ended(Exit::Interrupted));
        };
        if cli::exit_of(&view) != Exit::Done {
            return self.failed(&view).map(Came::Ended);
        }
        self.show(&reply, &view)?;
        if self.options.stay == Stay::Keep {
            let signal = Signals::listen()?.next().await;
            self.context.say(&format!("{}: ending", signal.name()));
        }
        Ok(Came::Ended(Exit::Done))
    }

    /// The job as it ended, or nothing when ^C has ended it before.
    async fn follow(
        &self,
        job: v1::JobView,
        trigger: &Trigger,
    ) -> Result<Option<v1::JobView>, Failure> {
        match cli::follow(self.context, &self.client, job, Interrupt::EndsJob).await? {
            Watched::Ended(view) => Ok(Some(*view)),
            Watched::Interrupted => {
                self.context
                    .say("^C: interrupting the job and saving what it made");
                trigger.at_least(daemon::Step::Cancel);
                Ok(None)
            }
        }
    }
}

fn tags_of(job: Option<&v1::JobView>) -> Result<Tags, Failure> {
    let pairs = job.map(|job| job.tags.clone()).unwrap_or_default();
    Tags::new(pairs).map_err(|error| Failure::usage(error.to_string()))
}
