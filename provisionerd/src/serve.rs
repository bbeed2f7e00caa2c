//! The queue as a process of its own: start, serve until a signal, end in order.

use crate::cli::Context;
use crate::daemon;
use crate::failure::{Exit, Failure};
use crate::signals::{Signal, Signals};

/// Serves until a signal.
///
/// # Errors
/// The queue cannot start, or ends by itself.
pub async fn run(context: &Context, options: queue::Options) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    // What an analysis leaves behind when its supervisor is killed is ours to end.
    worker::launch::become_subreaper()
        .map_err(|error| crate::start::failure(&daemon::Error::Subreaper(error)))?;
    let data_dir = options.data_dir.clone();
    let scheme = if options.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let mut service = queue::start(options).await.map_err(|e| failure(&e))?;
    context.say(&format!("queue: {scheme}://{}", service.grpc_addr()));
    if let Some(address) = service.http_addr() {
        context.say(&format!("health and metrics: http://{address}"));
    }
    context.say(&format!("data: {}", data_dir.display()));
    context.say("SIGTERM, SIGINT and SIGQUIT end it; jobs go on at their daemons");
    context.say("SIGHUP reads the TLS files again");
    let ended = loop {
        // Both branches are cancel safe.
        let signal = tokio::select! {
            signal = signals.next() => signal,
            ended = service.wait() => break Some(ended),
        };
        match signal {
            Signal::Hangup => reload(context, &service).await,
            Signal::Terminate | Signal::Interrupt | Signal::Quit => {
                context.say(&format!("{}: ending", signal.name()));
                break None;
            }
        }
    };
    match ended {
        None | Some(Ok(())) => {
            service.shutdown().await;
            Ok(Exit::Done)
        }
        Some(Err(error)) => Err(failure(&error)),
    }
}

async fn reload(context: &Context, service: &queue::Service) {
    match service.reload().await {
        Ok(()) => context.say("SIGHUP: TLS files read"),
        Err(error) => {
            let failure = failure(&error);
            context.warn(&format!(
                "SIGHUP: the old TLS files stay in use: {}",
                failure.message
            ));
        }
    }
}

/// A queue's failure as a command's.
pub fn failure(error: &queue::Error) -> Failure {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let failure = match error {
        queue::Error::DiskFull { .. } => Failure::capacity(error.code(), message),
        queue::Error::Server(_)
        | queue::Error::Store { .. }
        | queue::Error::StoreEnded
        | queue::Error::Panicked(_) => Failure::internal(error.code(), message),
        queue::Error::Database(_) | queue::Error::BlobPlace { .. } => {
            Failure::user(error.code(), message)
        }
        queue::Error::Locked { .. }
        | queue::Error::DataDir { .. }
        | queue::Error::AddressInUse { .. }
        | queue::Error::Listen { .. }
        | queue::Error::Insecure { .. }
        | queue::Error::Tls(_) => Failure::user(error.code(), message),
    };
    failure.hint(error.hint())
}
