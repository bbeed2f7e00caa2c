//! A null build (start of a workspace that is up to date) through queue, daemon,
//! supervisor and worker, against bare `init` + `plan` + `apply` of the same files on the
//! same mirror, in alternation.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
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
    /// `name=value` parameters of the workspace.
    #[arg(long)]
    parameter: Vec<String>,
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
    for _ in 0..args.rounds {
        theirs.push(bare.build()?);
        let start = Instant::now();
        let job = fleet.client(&["workspaces", "start", "bench"], &[])?;
        ours.push(start.elapsed());
        cycle.push(job_duration(&job)?);
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
        "ratio_median": ratio(0.5),
        "ratio_min": ratio(0.0),
    }))
}

/// The same files with the engine alone.
struct Bare {
    engine: String,
    dir: PathBuf,
    config: PathBuf,
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
        })
    }

    /// What a person would run, from a directory without `.terraform`.
    fn build(&self) -> Result<Duration> {
        let _ = std::fs::remove_dir_all(self.dir.join(".terraform"));
        let start = Instant::now();
        self.engine(&["init", "-input=false"])?;
        self.engine(&["plan", "-input=false", "-out=plan"])?;
        self.engine(&["apply", "-input=false", "plan"])?;
        Ok(start.elapsed())
    }

    fn engine(&self, args: &[&str]) -> Result<()> {
        let output = Command::new(&self.engine)
            .args(args)
            .current_dir(&self.dir)
            .env("TF_CLI_CONFIG_FILE", &self.config)
            .env("CHECKPOINT_DISABLE", "1")
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
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
