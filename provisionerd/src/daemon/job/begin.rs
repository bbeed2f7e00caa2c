//! The first steps of a job: its directory, its journal, its engine, its supervisor.

use std::path::Path;
use std::sync::Arc;

use proto::limits;
use proto::secret::Secret;
use proto::v1::journal_record::Record;
use proto::v1::{Begin, Configure, EnvPair, Job, MarkSensitive, VariableValue};
use serde_json::Value;
use worker::job_dir::JobDir;
use worker::launch::{self, Launch};

use super::super::Registry;
use super::super::context::Context;
use super::super::engines::Engine;
use super::super::journal::Journal;
use super::super::redact::{self, Redactor};
use super::NotBegun;

/// A job whose supervisor runs.
pub(super) struct Started {
    pub process: Arc<launch::Supervisor>,
    pub supervisor: tokio::net::UnixStream,
    pub worker: tokio::net::UnixStream,
    pub engine: Engine,
    pub redactor: Redactor,
}

/// Where a job lives on this host.
pub(super) struct Place {
    pub dir: JobDir,
    pub journal: Journal,
}

/// The directory and the first record: from here on a restart finds the job.
pub(super) fn journal(context: &Context, job: &Job) -> Result<Place, NotBegun> {
    if job.archive.is_none() {
        return Err(NotBegun::Incomplete("archive"));
    }
    let dir = context.data.create_job(&job.id)?;
    let journal = Journal::create(&dir.journal())
        .and_then(|journal| {
            journal.append(Record::Job(job.clone()))?;
            Ok(journal)
        })
        .map_err(NotBegun::Journal);
    if journal.is_err() {
        // Nothing in it is worth keeping, and the job goes back.
        let _ = dir.remove();
    }
    Ok(Place {
        journal: journal?,
        dir,
    })
}

/// Picks the engine and starts the supervisor.
pub(super) async fn start(context: &Context, job: &Job, dir: &JobDir) -> Result<Started, NotBegun> {
    let engine = context.engines.pick(&job.engine).await?;
    let redactor = redactor(context, job, &[])?;
    context.binds.link(dir).map_err(NotBegun::Bind)?;
    let launch = Launch {
        exe: context.options.exe.clone(),
        job_dir: dir.clone(),
        job_id: job.id.clone(),
        namespace: launch::Namespace::Best,
    };
    let launched = tokio::task::spawn_blocking(move || launch::launch(&launch))
        .await
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(NotBegun::Launch)?;
    let stream = |stream| tokio::net::UnixStream::from_std(stream).map_err(NotBegun::Launch);
    Ok(Started {
        process: Arc::new(launched.process),
        supervisor: stream(launched.supervisor)?,
        worker: stream(launched.worker)?,
        engine,
        redactor,
    })
}

/// The first frame to the supervisor.
pub(super) fn configure(context: &Context, engine: &Engine, dir: &JobDir) -> Configure {
    let options = &context.options;
    let tmpdir = EnvPair {
        name: "TMPDIR".to_owned(),
        value: context.data.tmpdir(dir).to_string_lossy().into_owned(),
    };
    let (directories, _) = mirrors(&options.provider_mirrors);
    Configure {
        timings: Some((&options.timings).into()),
        engine_path: engine.path.to_string_lossy().into_owned(),
        engine_env: options
            .engine_env
            .iter()
            .map(|(name, value)| EnvPair {
                name: name.clone(),
                value: value.expose().to_owned(),
            })
            .chain([tmpdir])
            .collect(),
        read_paths: context
            .binds
            .read
            .iter()
            .cloned()
            .chain(directories)
            .collect(),
        write_paths: context.binds.write.clone(),
        nofile: limits::ENGINE_NOFILE,
        memory_limit_bytes: context.job_memory.unwrap_or(0),
        ..Configure::default()
    }
}

/// The first frame to the worker, once archive and state are in place.
pub(super) fn begin(context: &Context, job: &Job, engine: &Engine) -> Begin {
    let options = &context.options;
    let (provider_mirrors, network_mirrors) = mirrors(&options.provider_mirrors);
    Begin {
        job: Some(job.clone()),
        timings: Some((&options.timings).into()),
        engine: Some(engine.facts.clone()),
        provider_mirrors,
        network_mirrors,
        direct: options.direct == Registry::Allowed,
        limits: Some(limits::for_worker()),
        has_state: job.state.is_some(),
        collect: None,
        reread: None,
        analysis: false,
    }
}

/// Directories and URLs, told apart.
fn mirrors(mirrors: &[String]) -> (Vec<String>, Vec<String>) {
    let (urls, directories): (Vec<String>, Vec<String>) = mirrors
        .iter()
        .cloned()
        .partition(|mirror| mirror.starts_with("https://"));
    let absolute = |path: String| {
        Path::new(&path)
            .canonicalize()
            .map_or(path, |path| path.to_string_lossy().into_owned())
    };
    (directories.into_iter().map(absolute).collect(), urls)
}

/// All that must not show in the job's logs.
fn secrets(context: &Context, job: &Job) -> Vec<Secret> {
    let metadata = job.metadata.as_ref();
    let tokens = metadata.into_iter().flat_map(|metadata| {
        [
            &metadata.owner_session_token,
            &metadata.owner_oidc_access_token,
            &metadata.owner_ssh_private_key,
        ]
    });
    let variables = job
        .variables
        .iter()
        .filter(|variable| variable.sensitive)
        .flat_map(|variable| parts(&variable.value));
    let agents = metadata
        .into_iter()
        .flat_map(|metadata| &metadata.running_agent_tokens)
        .map(|agent| &agent.token);
    let external = job.external_auth.iter().map(|token| &token.access_token);
    tokens
        .chain(external)
        .chain(agents)
        .filter(|secret| !secret.is_empty())
        .map(|secret| Secret::new(secret.clone()))
        .chain(variables)
        .chain(
            context
                .options
                .engine_env
                .iter()
                .map(|(_, value)| value.clone()),
        )
        .chain([context.options.key.clone()])
        .collect()
}

/// Knows the secrets of `job`, those in `marks` included.
pub(in crate::daemon) fn redactor(
    context: &Context,
    job: &Job,
    marks: &[MarkSensitive],
) -> Result<Redactor, redact::Error> {
    let found = marks.iter().flat_map(|mark| marked(job, mark.clone()));
    Redactor::new(secrets(context, job).into_iter().chain(found).collect())
}

/// What the worker found to be secret: values that the job carries, by name, and what
/// only the template knows.
pub(super) fn marked(job: &Job, mark: MarkSensitive) -> Vec<Secret> {
    let named = |value: &&VariableValue| mark.names.contains(&value.name);
    let values = job.variables.iter().filter(named);
    let values = values.flat_map(|value| parts(&value.value));
    values
        .chain(mark.values.into_iter().map(Secret::new))
        .collect()
}

/// A value and, when it is JSON, the texts and numbers in it: engines print those one
/// by one.
fn parts(value: &str) -> Vec<Secret> {
    let mut parts = vec![Secret::new(value.to_owned())];
    if let Ok(json) = serde_json::from_str(value) {
        leaves(json, &mut parts);
    }
    parts
}

fn leaves(json: Value, into: &mut Vec<Secret>) {
    match json {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => into.push(Secret::new(number.to_string())),
        Value::String(text) => into.push(Secret::new(text)),
        Value::Array(items) => items.into_iter().for_each(|item| leaves(item, into)),
        Value::Object(items) => items.into_iter().for_each(|(_, item)| leaves(item, into)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_told_apart_by_their_scheme() {
        let (directories, urls) =
            mirrors(&["https://mirror/".to_owned(), "/srv/mirror".to_owned()]);
        assert_eq!(directories, ["/srv/mirror"]);
        assert_eq!(urls, ["https://mirror/"]);
    }
    #[test]
    fn a_mark_covers_named_values_their_parts_and_what_comes_with_it() {
        let value = |name: &str, value: &str| VariableValue {
            name: name.to_owned(),
            value: value.to_owned(),
            sensitive: false,
        };
        let job = Job {
            variables: vec![value("plain", "shown"), value("keys", r#"{"a":"hunter2"}"#)],
            ..Job::default()
        };
        let mark = MarkSensitive {
            names: vec!["keys".to_owned()],
            values: vec!["default".to_owned()],
        };
        let secrets = marked(&job, mark);
        let texts: Vec<&str> = secrets.iter().map(Secret::expose).collect();
        assert_eq!(texts, [r#"{"a":"hunter2"}"#, "hunter2", "default"]);
    }
}
