//! A queue as a file, a file as a queue, and from one database to the other. These
//! commands open the queue's data themselves and ask no running queue.

mod schema;

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar};
use queue::portable::{self, Totals};
use serde_json::{Value, json};

use super::{Context, place};
use crate::failure::{Exit, Failure};

/// The name that stands for stdout and stdin.
const PIPE: &str = "-";

/// A progress line is drawn anew this often.
const TICK: Duration = Duration::from_millis(100);

/// Writes everything that a queue keeps into one file, also while it serves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  provisionerd backup --data-dir /var/lib/provisionerd /backup/queue.tar
  provisionerd backup - | aws s3 cp - s3://backup/queue.tar

The file is of one moment: rows, archives, states and logs. It holds states with their
secrets and hashes of keys and tokens, so keep it as you keep the data directory. The
file admin.token is not in it; a restored queue makes a new one.")]
pub struct Backup {
    #[command(flatten)]
    place: place::Args,
    /// The file, which must not be there yet; `-` writes to stdout.
    file: PathBuf,
}

/// Makes a queue of a backup, on SQLite or PostgreSQL, where none is yet.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  provisionerd restore --data-dir /var/lib/provisionerd /backup/queue.tar
  PROVISIONERD_DATABASE_URL=postgres://user:password@db.example/provisionerd \\
      provisionerd restore --database-ca-file db-ca.pem --blob-url file:///shared/blobs \\
      /backup/queue.tar

Jobs that ran when the backup was made go on where their daemons still have them; what
ended since is told again by its daemon, or stays as the backup knew it.")]
pub struct Restore {
    #[command(flatten)]
    place: place::Args,
    /// The file; `-` reads stdin.
    file: PathBuf,
}

/// Carries a queue from SQLite to PostgreSQL; it must not be served meanwhile. With
/// `--check`, says what this release would do to the schema of a database.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  PROVISIONERD_DATABASE_URL=postgres://user:password@db.example/provisionerd \\
      provisionerd migrate --database-ca-file db-ca.pem --data-dir /var/lib/provisionerd \\
      --blob-url file:///shared/blobs
  provisionerd migrate --check

Blobs stay in the data directory unless --blob-url names another place. The SQLite file
stays as it is: serve with the same --database-url and --blob-url from then on.")]
pub struct Migrate {
    #[command(flatten)]
    place: place::Args,
    /// Changes nothing: says what `serve` of this release would do to the schema, and
    /// whether replicas of the release before could start again afterwards.
    #[arg(long)]
    check: bool,
}

/// Runs `backup`.
///
/// # Errors
/// There is no queue, or the file cannot be written.
pub async fn backup(context: &Context, args: Backup) -> Result<Exit, Failure> {
    let from = args.place.place()?;
    let file = args.file;
    if file.as_os_str() != PIPE && file.exists() {
        let message = format!("{} is there already", file.display());
        return Err(Failure::user("FILE_UNUSABLE", message).hint("backups are never overwritten"));
    }
    let answer = if file.as_os_str() == PIPE {
        Answer::Taken
    } else {
        Answer::Document
    };
    let done = carry(context, answer, "backed up", move |progress| {
        if file.as_os_str() == PIPE {
            return told(portable::backup(&from, std::io::stdout().lock(), progress));
        }
        let part = part(&file);
        let written = write(&part, &file, |out| {
            told(portable::backup(&from, out, progress))
        });
        written.inspect_err(|_| {
            // Without an end it is of no use.
            let _gone = std::fs::remove_file(&part);
        })
    });
    done.await
}

/// Runs `restore`.
///
/// # Errors
/// There is a queue already, or the file is not a whole backup.
pub async fn restore(context: &Context, args: Restore) -> Result<Exit, Failure> {
    let to = args.place.place()?;
    let done = carry(context, Answer::Document, "restored", move |progress| {
        if args.file.as_os_str() == PIPE {
            return told(portable::restore(std::io::stdin().lock(), &to, progress));
        }
        let file = File::open(&args.file);
        let file = file.map_err(|error| Failure::file("read", &args.file, &error))?;
        told(portable::restore(
            std::io::BufReader::new(file),
            &to,
            progress,
        ))
    });
    done.await
}

/// Runs `migrate`.
///
/// # Errors
/// The queue is served, there is one at the other place, or a database fails.
pub async fn migrate(context: &Context, args: Migrate) -> Result<Exit, Failure> {
    let to = args.place.place()?;
    if args.check {
        return schema::check(context, &to).await;
    }
    if matches!(to.database, queue::Database::Embedded) {
        let message = "no --database-url: where to?";
        return Err(Failure::usage(message)
            .hint("for another data directory, `backup` and `restore` do it"));
    }
    let from = portable::Place {
        data_dir: to.data_dir.clone(),
        database: queue::Database::Embedded,
        blob_dir: None,
    };
    let done = carry(context, Answer::Document, "carried over", move |progress| {
        told(portable::migrate(&from, &to, progress))
    });
    done.await
}

/// Does the work on a thread that may block, and says what came of it.
async fn carry(
    context: &Context,
    answer: Answer,
    done: &str,
    work: impl FnOnce(portable::Progress<'_>) -> Result<Totals, Failure> + Send + 'static,
) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let line = context.shows_progress().then(ProgressBar::new_spinner);
    if let Some(line) = &line {
        line.enable_steady_tick(TICK);
    }
    let shown = line.clone();
    let worked = tokio::task::spawn_blocking(move || {
        work(&mut |totals| {
            if let Some(line) = &shown {
                line.set_message(words(totals));
            }
        })
    });
    let totals = worked
        .await
        .map_err(|error| Failure::internal("SERVER_ENDED", error.to_string()))?;
    if let Some(line) = line {
        line.finish_and_clear();
    }
    let totals = totals?;
    context.say(&format!("{done}: {}", words(&totals)));
    match answer {
        Answer::Document => context.document(&document(&totals, begun.elapsed()), String::new)?,
        Answer::Taken => {}
    }
    Ok(Exit::Done)
}

/// Whether stdout is free for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Document,
    /// The backup itself went there.
    Taken,
}

fn told(carried: Result<Totals, portable::Error>) -> Result<Totals, Failure> {
    carried.map_err(|error| {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        let failure = match error {
            portable::Error::Store(_) => Failure::internal(error.code(), message),
            portable::Error::Io { .. } if error.code() == "DISK_FULL" => {
                Failure::capacity(error.code(), message)
            }
            portable::Error::Open(_)
            | portable::Error::NoQueue { .. }
            | portable::Error::NotEmpty { .. }
            | portable::Error::Archive { .. }
            | portable::Error::Release { .. }
            | portable::Error::RowTooLarge { .. }
            | portable::Error::Blob(_)
            | portable::Error::Io { .. } => Failure::user(error.code(), message),
        };
        failure.hint(error.hint())
    })
}

/// The name of a backup that has no end yet.
fn part(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Writes a private file that has its name only when it is whole and on disk.
fn write(
    part: &Path,
    file: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<Totals, Failure>,
) -> Result<Totals, Failure> {
    let failed = |error| Failure::file("write", file, &error);
    let opened = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(part);
    let mut out = BufWriter::new(opened.map_err(failed)?);
    let totals = fill(&mut out)?;
    let out = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    out.sync_all().map_err(failed)?;
    // A link and no rename: what came under this name meanwhile stays.
    std::fs::hard_link(part, file).map_err(failed)?;
    std::fs::remove_file(part).map_err(failed)?;
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = File::open(parent.unwrap_or(Path::new(".")));
    parent
        .and_then(|parent| parent.sync_all())
        .map_err(failed)?;
    Ok(totals)
}

fn words(totals: &Totals) -> String {
    format!(
        "{} rows, {} blobs ({})",
        HumanCount(totals.rows),
        HumanCount(totals.blobs),
        HumanBytes(totals.blob_bytes)
    )
}

fn document(totals: &Totals, took: Duration) -> Value {
    json!({
        "rows": totals.rows,
        "blobs": totals.blobs,
        "blob_bytes": totals.blob_bytes,
        "duration_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    })
}
