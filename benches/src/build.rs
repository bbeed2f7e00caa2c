//! A null build (start of a workspace that is up to date) through queue, daemon,
//! supervisor and worker, against bare `init` + `plan` + `apply` of the same files on the
//! same mirror, in alternation.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use proto::ids::Digest;
use serde_json::{Value, json};

use crate::fleet::{self, Fleet, path};
use crate::stats::Series;

/// What to compare.
#[derive(clap::Args)]
pub struct Args {
    /// The product's binary, built with `--release`.
    #[arg(long, default_value = "target/release/provisionerd")]
    binary: PathBuf,
    /// Template directory.
    #[arg(long, default_value = "testdata/templates/quickstart")]
    template: PathBuf,
    /// Engine: a name on PATH or a path.
    #[arg(long, default_value = "terraform")]
    engine: String,
    /// Unpacked provider mirror, for templates that need providers.
    #[arg(long)]
    mirror: Option<PathBuf>,
    /// `name=value` parameters of the workspace, for the bare engine too.
    #[arg(long)]
    parameter: Vec<String>,
    /// `name=value` tags of the daemon, for templates with `coder_workspace_tags`.
    #[arg(long)]
    tag: Vec<String>,
    /// Pairs of builds.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

/// Runs the comparison.
pub fn run(args: &Args) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let fleet = Fleet::start(
        &fleet::Options {
            binary: &args.binary,
            engine: &args.engine,
            mirror: args.mirror.as_deref(),
            slots: 1,
            tags: &args.tag,
        },
        dir.path(),
    )?;
    fleet.client(
        &["templates", "push", "bench", "-d"],
        &[path(&args.template)?],
    )?;
    let parameters: Vec<String> = args
        .parameter
        .iter()
        .flat_map(|pair| ["--parameter".to_owned(), pair.clone()])
        .collect();
    let mut create = vec!["--template".to_owned(), "bench".to_owned()];
    create.extend(parameters);
    fleet.client(&["workspaces", "create", "bench"], &create)?;
    let bare = Bare::prepare(args, dir.path())?;
    bare.build()?;
    let (mut ours, mut theirs, mut cycle) =
        (Series::default(), Series::default(), Series::default());
    let mut changes = [String::new(), String::new()];
    for _ in 0..args.rounds {
        let start = Instant::now();
        let printed = bare.build()?;
        theirs.push(start.elapsed());
        let start = Instant::now();
        let job = fleet.client(&["workspaces", "start", "bench"], &[])?;
        ours.push(start.elapsed());
        cycle.push(job_duration(&job)?);
        changes = [log_changes(&fleet, &job)?, summary(&printed)?];
        ensure!(
            changes[0] == changes[1],
            "not the same work: the fleet {}, bare {}",
            changes[0],
            changes[1]
        );
    }
    let ratio = |fraction: f64| {
        ours.quantile(fraction).as_secs_f64() / theirs.quantile(fraction).as_secs_f64()
    };
    eprintln!(
        "build: {:.2} x bare (median), {:.2} x (min)",
        ratio(0.5),
        ratio(0.0)
    );
    Ok(json!({
        "bench": "build",
        "template": args.template,
        "engine": args.engine,
        "fleet_command": ours.summary(),
        "fleet_job_started_to_completed": cycle.summary(),
        "bare_init_plan_apply": theirs.summary(),
        "last_change_fleet": changes[0],
        "last_change_bare": changes[1],
        "ratio_median": ratio(0.5),
        "ratio_min": ratio(0.0),
    }))
}

/// The same files with the engine alone.
struct Bare {
    engine: String,
    dir: PathBuf,
    config: PathBuf,
    env: Vec<(String, String)>,
}

impl Bare {
    fn prepare(args: &Args, dir: &Path) -> Result<Self> {
        let work = dir.join("bare");
        copy(&args.template, &work)?;
        let config = dir.join("bare.tfrc");
        let mirror = match &args.mirror {
            Some(mirror) => format!(
                "provider_installation {{\n  filesystem_mirror {{ path = \"{}\" }}\n}}\n",
                mirror.canonicalize()?.display()
            ),
            None => String::new(),
        };
        std::fs::write(&config, mirror)?;
        Ok(Self {
            engine: args.engine.clone(),
            dir: work,
            config,
            env: coder_environment(&args.parameter)?,
        })
    }

    /// What a person would run, from a directory without `.terraform`; what the apply
    /// printed.
    fn build(&self) -> Result<String> {
        let _ = std::fs::remove_dir_all(self.dir.join(".terraform"));
        self.engine(&["init", "-input=false"])?;
        self.engine(&["plan", "-input=false", "-out=plan"])?;
        self.engine(&["apply", "-input=false", "-no-color", "plan"])
    }

    fn engine(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.engine)
            .args(args)
            .current_dir(&self.dir)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("TF_CLI_CONFIG_FILE", &self.config)
            .env("CHECKPOINT_DISABLE", "1")
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What the coder provider reads: the same workspace in every round, or each bare build
/// would replace what depends on its id.
fn coder_environment(parameters: &[String]) -> Result<Vec<(String, String)>> {
    const ID: &str = "0b3c0000-0000-4000-8000-000000000001";
    let fixed = [
        ("CODER_AGENT_URL", "http://127.0.0.1:7080"),
        ("CODER_WORKSPACE_TRANSITION", "start"),
        ("CODER_WORKSPACE_NAME", "bench"),
        ("CODER_WORKSPACE_ID", ID),
        ("CODER_WORKSPACE_BUILD_ID", ID),
        ("CODER_WORKSPACE_TEMPLATE_ID", ID),
        ("CODER_WORKSPACE_TEMPLATE_NAME", "bench"),
        ("CODER_WORKSPACE_TEMPLATE_VERSION", "1"),
        ("CODER_WORKSPACE_OWNER", "bench"),
        ("CODER_WORKSPACE_OWNER_ID", ID),
        ("CODER_WORKSPACE_OWNER_EMAIL", "bench@localhost"),
    ];
    let mut env: Vec<(String, String)> = fixed
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for pair in parameters {
        let (name, value) = pair.split_once('=').context("a parameter is name=value")?;
        let name = format!("CODER_PARAMETER_{}", Digest::of(name.as_bytes()));
        env.push((name, value.to_owned()));
    }
    Ok(env)
}

/// The engine's own count of what the last build of the fleet changed.
fn log_changes(fleet: &Fleet, made: &Value) -> Result<String> {
    let job = made["job"]["id"].as_str().context("no job")?;
    let log = fleet.bytes(&["jobs", "logs", job], &[])?;
    summary(&String::from_utf8_lossy(&log))
}

/// `0 added, 0 changed, 0 destroyed`.
fn summary(printed: &str) -> Result<String> {
    let (_, rest) = printed
        .split_once("Apply complete! Resources: ")
        .context("the apply printed no summary")?;
    Ok(rest.split('.').next().unwrap_or_default().to_owned())
}

fn job_duration(reply: &Value) -> Result<Duration> {
    let total: f64 = reply["job"]["phases"]
        .as_array()
        .context("no phases")?
        .iter()
        .filter_map(|phase| phase["duration_ms"].as_f64())
        .sum();
    Ok(Duration::from_secs_f64(total / 1e3))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
