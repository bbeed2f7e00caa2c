//! The flags of `start`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::limits;
use proto::secret::Secret;

use super::exposed::Opened;
use super::pairs::{self, Pair};
use super::{Context, Tls, connection};
use crate::connect::{ClientTls, Target};
use crate::daemon::{
    Access, Bind, EngineChoice, EngineName, JobMemory, Lifetime, Options, Registry,
};
use crate::failure::{Exit, Failure};
use crate::logging;

/// Runs a provisioner daemon: takes jobs from a queue and runs them here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  provisionerd start --key-file eu.key --tag region=eu --slots 4
  provisionerd start --url https://queue.example.org --key-file eu.key --engine tofu
  provisionerd start --key-file k --engine-env AWS_PROFILE=prod --bind ~/.aws=~/.aws

SIGTERM, SIGHUP: finish jobs and take no more. SIGINT, SIGQUIT: interrupt jobs and save what
they made. A second signal goes one step further: drain, cancel, kill.")]
pub struct Args {
    /// The queue's gRPC address.
    #[arg(long, default_value = "http://127.0.0.1:7080")]
    pub url: String,
    /// File with the provisioner key, as `keys create` printed it.
    #[arg(long, value_name = "FILE", required = true)]
    pub key_file: PathBuf,
    /// Unique among the daemons of the key; by default this host's name.
    #[arg(long)]
    pub name: Option<String>,
    /// Tag of this daemon; a job runs here if all of its tags are among them.
    #[arg(long, value_name = "K=V", value_parser = pairs::parse)]
    pub tag: Vec<Pair>,
    /// Jobs at once.
    #[arg(long, default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::SLOTS)))]
    pub slots: u32,
    #[command(flatten)]
    pub lifetime: Lifetime,
    /// Seconds from a drain to the end of the last job, uploads included.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub drain_deadline: u64,
    /// Seconds from the interrupt to the kill of a canceled job [default: 600].
    #[arg(long, value_name = "SECONDS")]
    pub cancel_grace: Option<u64>,
    /// Memory that one job may hold before its engine is interrupted and its state saved:
    /// bytes, or like 512M and 4G; 0 is no limit. By default the jobs share 80 % of what
    /// this daemon may use; none gets less than 1G, nor more than those 80 %.
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub job_memory: Option<JobMemory>,
    /// Engine of jobs that name none: terraform, tofu or a path; else the first on PATH.
    #[arg(long, value_name = "terraform|tofu|PATH")]
    pub engine: Option<String>,
    /// Filesystem mirror of providers (a directory) or https URL of a network mirror, in
    /// this order.
    #[arg(long, value_name = "DIR|URL")]
    pub provider_mirror: Vec<String>,
    /// Never ask a registry for a provider that no mirror has.
    #[arg(long)]
    pub mirrors_only: bool,
    /// Environment of engines and providers: `NAME=VALUE`, `NAME=@FILE`, or `NAME` to
    /// pass this process's own value on.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub engine_env: Vec<String>,
    /// Host path that every job sees, read-only unless `:rw`; `~` in DST is the job's HOME.
    #[arg(long, value_name = "SRC[=DST][:rw]", value_parser = bind)]
    pub bind: Vec<Bind>,
    /// Where this daemon keeps its jobs; by default ~/.local/share/provisionerd.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of a plain HTTP port: health, readiness, metrics. It shows counts only.
    #[arg(long, value_name = "ADDRESS")]
    pub http_listen: Option<SocketAddr>,
    /// Seconds between two tries of streams, where something on the way to the queue lets
    /// none through and short calls are used instead [default: 600].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub stream_retry: Option<u64>,
    #[command(flatten)]
    pub tls: Tls,
    #[command(flatten)]
    pub logging: logging::Observed,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let service = "provisionerd-daemon";
    let telemetry = logging::start(context.log.as_deref(), &args.logging, service)?;
    let ended = match options(args) {
        Ok(options) => Box::pin(crate::start::run(context, options)).await,
        Err(failure) => Err(failure),
    };
    telemetry.end().await;
    ended
}

fn options(args: Args) -> Result<Options, Failure> {
    let name = args.name.map_or_else(host_name, Ok)?;
    let data_dir = connection::data_dir(args.data_dir)?.join(format!("daemon-{name}"));
    let engine = engine(args.engine.as_deref())?;
    let opened = Opened::by_engine(&engine)
        .with_binds(&args.bind)
        .with_mirrors(&args.provider_mirror);
    opened.refuse("the key file", &args.key_file)?;
    opened.refuse("the data directory", &data_dir)?;
    let mut timings = super::waits::timings()?;
    if let Some(seconds) = args.stream_retry {
        timings.stream_retry = Duration::from_secs(seconds);
    }
    Ok(Options {
        target: Target {
            url: args.url,
            tls: ClientTls::from(&args.tls),
        },
        key: read_key(&args.key_file)?,
        name,
        tags: pairs::map("tag", args.tag)?.into_iter().collect(),
        slots: args.slots,
        data_dir,
        engine,
        provider_mirrors: args.provider_mirror,
        direct: if args.mirrors_only {
            Registry::Refused
        } else {
            Registry::Allowed
        },
        lifetime: args.lifetime,
        drain_deadline: Duration::from_secs(args.drain_deadline),
        cancel_grace: args
            .cancel_grace
            .map_or(timings.cancel_grace, Duration::from_secs),
        job_memory: args.job_memory.unwrap_or(JobMemory::Share),
        binds: args.bind,
        engine_env: engine_env(args.engine_env)?,
        http_listen: args.http_listen,
        timings,
        exe: own_exe()?,
    })
}

/// This binary, for the processes of jobs.
///
/// # Errors
/// The system does not tell where it is.
pub fn own_exe() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::internal("NO_EXE", format!("cannot find this binary: {error}")))
}

/// How this binary was called, for the commands that we suggest.
pub fn own_name() -> String {
    let name = std::env::args().next();
    name.unwrap_or_else(|| "provisionerd".to_owned())
}

fn read_key(path: &Path) -> Result<Secret, Failure> {
    let make_one = "make one with `provisionerd keys create NAME > FILE`";
    let text = std::fs::read_to_string(path).map_err(|error| {
        let failure = Failure::file("read the key", path, &error);
        match error.kind() {
            ErrorKind::NotFound => failure.hint(make_one),
            _ => failure,
        }
    })?;
    let key = text.trim();
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(Failure::user(
            "KEY_INVALID",
            format!("{} holds no provisioner key", path.display()),
        )
        .hint(make_one));
    }
    Ok(Secret::new(key.to_owned()))
}

fn host_name() -> Result<String, Failure> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    name.map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Failure::usage("this host has no name; pass --name"))
}

/// A name, or a path to a binary that exists.
pub fn engine(asked: Option<&str>) -> Result<EngineChoice, Failure> {
    match asked {
        None => Ok(EngineChoice::Auto),
        Some("terraform") => Ok(EngineChoice::Named(EngineName::Terraform)),
        Some("tofu") => Ok(EngineChoice::Named(EngineName::Tofu)),
        Some(path) if path.contains('/') => {
            let path = PathBuf::from(path);
            let absolute = std::path::absolute(&path);
            absolute
                .map(EngineChoice::Path)
                .map_err(|error| Failure::file("find", &path, &error))
        }
        Some(other) => Err(Failure::usage(format!(
            "--engine `{other}` is neither terraform nor tofu nor a path"
        ))),
    }
}

fn engine_env(given: Vec<String>) -> Result<Vec<(String, Secret)>, Failure> {
    given
        .into_iter()
        .map(|text| {
            if let Ok(pair) = pairs::parse(&text) {
                let resolved = pairs::parameters(vec![pair])?.remove(0);
                return Ok((resolved.name, Secret::new(resolved.value)));
            }
            let value = std::env::var(&text).map_err(|_| {
                Failure::usage(format!(
                    "--engine-env {text}: this process has no such variable"
                ))
            })?;
            Ok((text, Secret::new(value)))
        })
        .collect()
}

/// Parses a size: bytes, or with K, M, G or T for powers of 1024.
fn memory(text: &str) -> Result<JobMemory, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        Some(_) | None => (text, 0),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a size is a number, or one with K, M, G or T".to_owned())?;
    match number.checked_mul(1 << shift) {
        None => Err("larger than any memory".to_owned()),
        Some(0) => Ok(JobMemory::Unlimited),
        Some(bytes) => Ok(JobMemory::Limit(bytes)),
    }
}

/// Parses `SRC[=DST][:rw]`.
fn bind(text: &str) -> Result<Bind, String> {
    let (paths, access) = match text.strip_suffix(":rw") {
        Some(paths) => (paths, Access::Write),
        None => (text, Access::Read),
    };
    let (source, destination) = paths.split_once('=').unwrap_or((paths, ""));
    let source = home(source)?;
    if !source.is_absolute() {
        return Err("SRC must be an absolute path".to_owned());
    }
    let destination = match destination {
        "" => source.clone(),
        path if path == "~" || path.starts_with("~/") || path.starts_with('/') => path.into(),
        _ => return Err("DST must begin with / or ~/".to_owned()),
    };
    Ok(Bind {
        source,
        destination,
        access,
    })
}

/// A shell does not expand `~` inside `SRC=DST`, so it is done here for SRC.
fn home(path: &str) -> Result<PathBuf, String> {
    let Some(rest) = path.strip_prefix('~') else {
        return Ok(path.into());
    };
    let home = std::env::home_dir().ok_or("HOME is not set")?;
    match rest.strip_prefix('/') {
        Some(rest) => Ok(home.join(rest)),
        None if rest.is_empty() => Ok(home),
        None => Err("only ~/ is expanded".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_is_read_only_unless_it_says_otherwise() {
        let plain = bind("/srv/share").expect("bind");
        assert_eq!(plain.access, Access::Read);
        assert_eq!(plain.destination, plain.source);
        let full = bind("/root/.kube=~/.kube:rw").expect("bind");
        assert_eq!(full.access, Access::Write);
        assert_eq!(full.destination, PathBuf::from("~/.kube"));
        assert!(bind("relative").is_err());
        assert!(bind("/a=relative").is_err());
    }

    #[test]
    fn a_memory_limit_is_bytes_or_has_a_unit() {
        for (text, expected) in [
            ("1000", JobMemory::Limit(1_000)),
            ("512M", JobMemory::Limit(536_870_912)),
            ("4g", JobMemory::Limit(4_294_967_296)),
            ("0", JobMemory::Unlimited),
        ] {
            assert_eq!(memory(text), Ok(expected), "{text}");
        }
        for text in ["", "G", "4GB", "-1", "99999999T"] {
            assert!(memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_file_holds_what_keys_create_prints_and_a_missing_one_says_how_to_make_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("eu.key");
        let missing = read_key(&file).expect_err("no file");
        assert_eq!(missing.code, "FILE_NOT_FOUND");
        let hint = missing.hint.expect("a next step");
        assert!(hint.contains("keys create"), "{hint}");
        std::fs::write(&file, "secret\n").expect("write");
        assert_eq!(read_key(&file).expect("a key").expose(), "secret");
    }

    #[test]
    fn an_engine_is_a_known_name_or_a_path() {
        assert_eq!(engine(None).expect("auto"), EngineChoice::Auto);
        assert_eq!(
            engine(Some("tofu")).expect("tofu"),
            EngineChoice::Named(EngineName::Tofu)
        );
        assert!(matches!(
            engine(Some("/bin/tofu")),
            Ok(EngineChoice::Path(_))
        ));
        assert!(engine(Some("pulumi")).is_err());
    }
}
