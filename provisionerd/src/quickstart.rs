//! Everything at once, for somebody who has just cloned this: a queue and a daemon in
//! one process on free ports, a template, a workspace. Nothing here is a shortcut: the
//! daemon and the commands reach the queue over gRPC, and supervisor, worker and engine
//! are processes of their own.

mod key;
mod report;
mod template;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proto::tags::Tags;
use proto::timings::Timings;
use proto::v1::{self, ParameterValue, Priority, Transition, VariableValue};

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
    check_engine(&options.engine)?;
    let name = template::name(options.directory.as_deref())?;
    let archive = template::pack(context, options.directory.as_deref()).await?;
    let mut queue = queue::Options::new(options.data_dir.clone(), options.listen);
    let analyzer = Analyzer::new(cli::own_exe()?, options.data_dir.clone());
    queue.analyzer = Some(Arc::new(analyzer));
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
    /// The build has tags that this daemon does not offer.
    Asks(Box<v1::BuildReply>),
}

impl Quickstart<'_> {
    /// Imports beside a daemon without tags. A template with `coder_workspace_tags` is
    /// built beside one that has the build's tags: there is no other to wait for.
    async fn with_daemons(mut self, target: Target) -> Result<Exit, Failure> {
        let mut tags = Tags::untagged();
        let mut build = None;
        loop {
            match Box::pin(self.beside_daemon(&target, &tags, build.take())).await? {
                Came::Ended(exit) => return Ok(exit),
                Came::Asks(reply) => {
                    tags = tags_of(&reply)?;
                    build = Some(reply);
                }
            }
        }
    }

    /// Runs a daemon beside the rest and ends it afterwards.
    async fn beside_daemon(
        &mut self,
        target: &Target,
        tags: &Tags,
        build: Option<Box<v1::BuildReply>>,
    ) -> Result<Came, Failure> {
        let key = key::obtain(&mut self.client, &self.options.data_dir, tags).await?;
        let (trigger, shutdown) = daemon::shutdown();
        let options = self.daemon_options(target.clone(), key, tags)?;
        let daemon = daemon::run(options, shutdown);
        tokio::pin!(daemon);
        let done = tokio::select! {
            done = self.work(tags, build, &trigger) => done,
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
            timings,
            exe: cli::own_exe()?,
        })
    }

    async fn work(
        &mut self,
        tags: &Tags,
        build: Option<Box<v1::BuildReply>>,
        trigger: &Trigger,
    ) -> Result<Came, Failure> {
        let reply = match build {
            Some(reply) => reply,
            None => {
                if let Some(exit) = self.import(trigger).await? {
                    return Ok(Came::Ended(exit));
                }
                Box::new(self.build().await?)
            }
        };
        let asked = tags_of(&reply)?;
        if !tags.can_run(&BTreeMap::new(), &asked) {
            return Ok(Came::Asks(reply));
        }
        self.finish(*reply, trigger).await.map(Came::Ended)
    }

    /// Imports the template; an exit when that is the end of it.
    async fn import(&mut self, trigger: &Trigger) -> Result<Option<Exit>, Failure> {
        let job = match template::import(self).await? {
            template::Import::Known => {
                self.context
                    .say(&format!("import  template {} is unchanged", self.name));
                return Ok(None);
            }
            template::Import::Started(job) => job,
        };
        self.context.say(&format!("import  template {}", self.name));
        match self.follow(*job, trigger).await? {
            Some(view) if cli::exit_of(&view) == Exit::Done => Ok(None),
            Some(view) => self.failed(&view).map(Some),
            None => Ok(Some(Exit::Interrupted)),
        }
    }

    /// Waits for the build, shows what exists, and stays if asked to.
    async fn finish(&mut self, reply: v1::BuildReply, trigger: &Trigger) -> Result<Exit, Failure> {
        let job = reply.job.clone().unwrap_or_default();
        let Some(view) = self.follow(job, trigger).await? else {
            return Ok(Exit::Interrupted);
        };
        if cli::exit_of(&view) != Exit::Done {
            return self.failed(&view);
        }
        self.show(&reply, &view)?;
        if self.options.stay == Stay::Keep {
            let signal = Signals::listen()?.next().await;
            self.context.say(&format!("{}: ending", signal.name()));
        }
        Ok(Exit::Done)
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

    /// Makes the workspace, or updates the one of the last run.
    async fn build(&mut self) -> Result<v1::BuildReply, Failure> {
        let request = v1::GetWorkspaceRequest {
            name: self.name.clone(),
            owner: String::new(),
        };
        let known = match self.client.get_workspace(request).await {
            Ok(workspace) => !workspace.deleted,
            Err(failure) if failure.code.ends_with("NOT_FOUND") => false,
            Err(failure) => return Err(failure),
        };
        let parameters = self.options.parameters.clone();
        if known {
            self.context
                .say(&format!("update  workspace {}", self.name));
            let request = v1::BuildWorkspaceRequest {
                name: self.name.clone(),
                transition: Transition::Start.into(),
                parameters,
                update: true,
                priority: Priority::Interactive.into(),
                ..v1::BuildWorkspaceRequest::default()
            };
            return self.client.build_workspace(request).await;
        }
        self.context
            .say(&format!("create  workspace {}", self.name));
        let request = v1::CreateWorkspaceRequest {
            name: self.name.clone(),
            template: self.name.clone(),
            owner: String::new(),
            parameters,
            priority: Priority::Interactive.into(),
            ..v1::CreateWorkspaceRequest::default()
        };
        self.client.create_workspace(request).await
    }
}

fn tags_of(reply: &v1::BuildReply) -> Result<Tags, Failure> {
    let job = reply.job.as_ref();
    let pairs = job.map(|job| job.tags.clone()).unwrap_or_default();
    Tags::new(pairs).map_err(|error| Failure::usage(error.to_string()))
}

/// Says at once what would otherwise fail the first job.
fn check_engine(choice: &EngineChoice) -> Result<(), Failure> {
    let found = match choice {
        EngineChoice::Auto => ["terraform", "tofu"]
            .iter()
            .any(|name| which::which(name).is_ok()),
        EngineChoice::Named(name) => which::which(name.as_str()).is_ok(),
        EngineChoice::Path(path) => which::which(path).is_ok(),
    };
    if found {
        return Ok(());
    }
    let what = match choice {
        EngineChoice::Auto => "neither terraform nor tofu is on PATH".to_owned(),
        EngineChoice::Named(name) => format!("{} is not on PATH", name.as_str()),
        EngineChoice::Path(path) => format!("{} is no program", path.display()),
    };
    Err(Failure::internal("ENGINE_MISSING", what)
        .hint("install Terraform or OpenTofu, or name one with --engine PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_engine_is_one_clear_line() {
        let choice = EngineChoice::Path("/no/such/engine".into());
        let failure = check_engine(&choice).expect_err("missing");
        assert_eq!(failure.code, "ENGINE_MISSING");
        assert_eq!(failure.message, "/no/such/engine is no program");
    }
}
