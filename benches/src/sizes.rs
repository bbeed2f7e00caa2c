//! The sizes that are promised, end to end: all bytes and lines whole and in order, and
//! the memory that each process of the fleet needs for them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use proto::ids::Digest;
use serde_json::{Value, json};

use crate::fleet::{self, Fleet, path};
use crate::peaks::Peaks;

const MIB: usize = 1024 * 1024;

/// How large.
#[derive(clap::Args)]
pub struct Args {
    /// The product's binary, built with `--release`.
    #[arg(long, default_value = "target/release/provisionerd")]
    binary: PathBuf,
    /// Template directory; a large file is put beside its files.
    #[arg(long, default_value = "testdata/templates/sizes")]
    template: PathBuf,
    /// Engine: a name on PATH or a path.
    #[arg(long, default_value = "terraform")]
    engine: String,
    /// Incompressible file in the archive.
    #[arg(long, default_value_t = 100)]
    archive_mib: usize,
    /// State: resources of two mebibytes.
    #[arg(long, default_value_t = 50)]
    state_mib: usize,
    /// An output, a sensitive output and a warning, each of this size.
    #[arg(long, default_value_t = 10)]
    event_mib: usize,
    /// Lines of one command.
    #[arg(long, default_value_t = 100_000)]
    lines: usize,
}

/// Import, two builds, and every byte read back after each.
pub fn run(args: &Args) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let template = prepare(args, dir.path())?;
    let options = fleet::Options {
        binary: &args.binary,
        engine: &args.engine,
        mirror: None,
        slots: 1,
        tags: &[],
    };
    let fleet = Fleet::start(&options, dir.path())?;
    let ids = fleet.ids();
    let mut steps = Vec::new();
    let variables = [
        format!("state_mib={}", args.state_mib),
        format!("event_mib={}", args.event_mib),
        format!("lines={}", args.lines),
    ];
    let mut push = vec![path(&template)?];
    push.extend(
        variables
            .into_iter()
            .flat_map(|v| ["--variable".to_owned(), v]),
    );
    let commands: [(&str, &[&str], &[String]); 3] = [
        ("import", &["templates", "push", "large", "-d"], &push),
        (
            "first build",
            &["workspaces", "create", "w", "--template", "large"],
            &[],
        ),
        ("next build", &["workspaces", "start", "w"], &[]),
    ];
    for (name, words, more) in commands {
        let peaks = Peaks::watch(ids[0], ids[1]);
        let start = Instant::now();
        let made = fleet.client(words, more)?;
        let wall = start.elapsed();
        let mut step =
            json!({"step": name, "wall_s": wall.as_secs_f64(), "phases": made["job"]["phases"]});
        if words[0] == "workspaces" {
            check_log(args, &fleet, made["job"]["id"].as_str().context("no job")?)?;
            step["state_bytes"] = check_state(args, &fleet)?.into();
        }
        let peaks = peaks.end();
        eprintln!(
            "sizes: {name} {:.1} s, peaks {peaks:?} KiB",
            wall.as_secs_f64()
        );
        step["peak_anonymous_kib"] = json!(peaks);
        steps.push(step);
    }
    Ok(json!({
        "bench": "sizes",
        "archive_mib": args.archive_mib,
        "state_mib": args.state_mib,
        "event_mib": args.event_mib,
        "lines": args.lines,
        "steps": steps,
        "anonymous_kib_queue_daemon_after": fleet.memory_kib(),
    }))
}

/// The template, a large file, and a check by the engine that it arrived whole.
fn prepare(args: &Args, dir: &Path) -> Result<PathBuf> {
    let template = dir.join("large");
    std::fs::create_dir(&template)?;
    std::fs::copy(args.template.join("main.tf"), template.join("main.tf"))?;
    let blob = incompressible(args.archive_mib * MIB);
    let sum = Digest::of(&blob);
    std::fs::write(template.join("blob.bin"), blob)?;
    let check = format!(
        r#"resource "terraform_data" "blob" {{
  lifecycle {{
    precondition {{
      condition     = filesha256("${{path.module}}/blob.bin") == "{sum}"
      error_message = "The archive arrived damaged."
    }}
  }}
}}
"#
    );
    std::fs::write(template.join("blob.tf"), check)?;
    Ok(template)
}

/// Bytes that no compression makes smaller (xorshift).
fn incompressible(bytes: usize) -> Vec<u8> {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    });
    words.take(bytes / 8).flatten().collect()
}

/// The text that the template counts out.
fn counted(first_kib: usize, mib: usize) -> String {
    let mut text = String::with_capacity(mib * MIB);
    for kib in first_kib..first_kib + mib * 1024 {
        let _ = write!(text, "{kib:01024}");
    }
    text
}

fn check_log(args: &Args, fleet: &Fleet, job: &str) -> Result<()> {
    let log = fleet.bytes(&["jobs", "logs", job], &[])?;
    let warning = format!("event {}", counted(0, args.event_mib));
    let (mut next, mut warnings) = (1, 0);
    for line in log
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let line: Value = serde_json::from_slice(line)?;
        let text = line["text"].as_str().unwrap_or_default();
        warnings += usize::from(text == warning);
        if let Some((_, number)) = text.split_once("(local-exec): line ") {
            ensure!(
                number == format!("{next:09}"),
                "line {number} where {next} was due"
            );
            next += 1;
        }
    }
    ensure!(
        next == args.lines + 1,
        "{} of {} lines",
        next - 1,
        args.lines
    );
    ensure!(
        warnings == 2 || args.event_mib == 0,
        "{warnings} of 2 warnings are whole"
    );
    Ok(())
}

/// The bytes of the state, each of which was looked at.
fn check_state(args: &Args, fleet: &Fleet) -> Result<usize> {
    let bytes = fleet.bytes(&["state", "pull", "w"], &[])?;
    let state: Value = serde_json::from_slice(&bytes)?;
    let resources = state["resources"].as_array().context("no resources")?;
    let large = resources.iter().find(|r| r["name"] == "state");
    let instances = large.and_then(|r| r["instances"].as_array());
    let instances = instances.context("no instances")?;
    ensure!(
        instances.len() == args.state_mib / 2,
        "{} instances",
        instances.len()
    );
    for (index, instance) in instances.iter().enumerate() {
        let text = counted(index * 1024, 1);
        for field in ["input", "output"] {
            let value = &instance["attributes"][field]["value"];
            ensure!(
                value == text.as_str(),
                "{field} of instance {index} is damaged"
            );
        }
    }
    let event = counted(0, args.event_mib);
    for output in ["event", "secret"] {
        ensure!(
            state["outputs"][output]["value"] == event.as_str(),
            "output {output}"
        );
    }
    Ok(bytes.len())
}
