//! A daemon as a process of its own: signals become steps of its shutdown.

use std::error::Error as _;
use std::io;

use crate::cli::Context;
use crate::daemon::{self, Options, Step, Summary, Trigger};
use crate::failure::{Exit, Failure};
use crate::render::words;
use crate::signals::{Signal, Signals};

const MAPPING: &str = "SIGTERM, SIGHUP: finish jobs, take no more (drain); SIGINT, SIGQUIT: \
interrupt jobs and save what they made (cancel); a second signal goes one step further: \
drain, cancel, kill";

/// Runs a daemon until a signal, its lifetime or the queue ends it.
///
/// # Errors
/// The daemon cannot start or the queue refuses it for good.
pub async fn run(context: &Context, options: Options) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    queue::raise_file_limit();
    context.say(&format!(
        "daemon {}: {}, queue {}",
        options.name,
        words::count(u64::from(options.slots), "slot"),
        options.target.url
    ));
    context.say(MAPPING);
    let (trigger, shutdown) = daemon::shutdown();
    let daemon = daemon::run(options, shutdown);
    tokio::pin!(daemon);
    let summary = loop {
        tokio::select! {
            ended = &mut daemon => break ended.map_err(|e| failure(&e))?,
            signal = signals.next() => pass_on(context, &trigger, signal),
        }
    };
    say(context, &summary);
    Ok(Exit::Done)
}

fn pass_on(context: &Context, trigger: &Trigger, signal: Signal) {
    let step = match signal {
        Signal::Terminate | Signal::Hangup => Step::Drain,
        Signal::Interrupt | Signal::Quit => Step::Cancel,
    };
    let doing = match trigger.signal(step) {
        Step::Run => "going on",
        Step::Drain => "finishing jobs, taking no more",
        Step::Cancel => "interrupting jobs",
        Step::Kill => "killing jobs",
    };
    context.say(&format!("{}: {doing}", signal.name()));
}

fn say(context: &Context, summary: &Summary) {
    context.say(&format!(
        "ended; {} finished",
        words::count(summary.finished, "job")
    ));
    if summary.unsent > 0 {
        context.warn(&format!(
            "{} not at the queue yet: the next start on this data directory sends what is missing",
            words::count(summary.unsent, "result")
        ));
    }
}

/// A daemon's failure as a command's.
pub fn failure(error: &daemon::Error) -> Failure {
    let mut message = error.to_string();
    let mut kind = None;
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        kind = kind.or_else(|| cause.downcast_ref().map(io::Error::kind));
        source = cause.source();
    }
    match error {
        daemon::Error::Connect(_) | daemon::Error::Slots { .. } | daemon::Error::Bind(_) => {
            Failure::usage(message)
        }
        daemon::Error::Listen { .. } if kind == Some(io::ErrorKind::AddrInUse) => {
            Failure::user("ADDRESS_IN_USE", message)
                .hint("choose another --http-listen (port 0 takes a free one)")
        }
        daemon::Error::Listen { .. } => {
            Failure::user("LISTEN_FAILED", message).hint("choose an address of this machine")
        }
        daemon::Error::DataDir(daemon::DataDirError::TooSmall { .. }) => {
            Failure::capacity("DATA_DIR_TOO_SMALL", message)
                .hint("choose a --data-dir on a larger file system")
        }
        daemon::Error::DataDir(_) => data_dir(kind, message),
        // An engine that was asked for its version had nowhere to write.
        daemon::Error::Engine(_) if kind == Some(io::ErrorKind::StorageFull) => {
            data_dir(kind, message)
        }
        daemon::Error::Engine(_) => Failure::internal("ENGINE_MISSING", message)
            .hint("install Terraform or OpenTofu, or name one with --engine PATH"),
        daemon::Error::Subreaper(_) => Failure::internal("SUBREAPER_REFUSED", message)
            .hint("allow prctl(PR_SET_CHILD_SUBREAPER) where the daemon runs"),
        daemon::Error::Refused(_) => not_allowed("DAEMON_REFUSED", message)
            .hint("check the key file, the name and the tags against `provisionerd keys list`"),
        daemon::Error::Retained(_) => Failure::capacity("TOO_MUCH_RETAINED", message)
            .hint("bring the states in with `provisionerd state push` where they are newer"),
        daemon::Error::KeyRevoked => not_allowed("KEY_REVOKED", message)
            .hint("make a new key with `provisionerd keys create NAME`"),
    }
}

fn data_dir(kind: Option<io::ErrorKind>, message: String) -> Failure {
    match kind {
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            Failure::capacity("DISK_FULL", message).hint("free some space and try again")
        }
        Some(_) => Failure::user("DATA_DIR_NOT_WRITABLE", message)
            .hint("make it writable for this user or choose another --data-dir"),
        None => Failure::user("DATA_DIR_UNUSABLE", message).hint("choose another --data-dir"),
    }
}

fn not_allowed(code: &str, message: String) -> Failure {
    Failure {
        exit: Exit::NotAllowed,
        ..Failure::user(code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_without_room_for_its_answer_is_not_called_missing() {
        let of = |kind| {
            let error = daemon::EngineError::Silent {
                path: "/bin/terraform".into(),
                source: io::Error::from(kind),
            };
            failure(&daemon::Error::Engine(error)).code
        };
        assert_eq!(of(io::ErrorKind::StorageFull), "DISK_FULL");
        assert_eq!(of(io::ErrorKind::NotFound), "ENGINE_MISSING");
    }
}
