//! Our own log lines, on stderr. Jobs' logs go to the queue and never here.

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;
use crate::render::paint::Paint;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging with `filter` (default `info`). To be called once.
///
/// # Errors
/// The filter cannot be understood.
pub fn start(filter: Option<&str>, format: Format) -> Result<(), Failure> {
    let text = filter.unwrap_or("info");
    let filter = EnvFilter::try_new(text).map_err(|error| {
        Failure::usage(format!("--log `{text}`: {error}"))
            .hint("a filter is a level or a list such as `info,queue=debug`")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(Paint::stderr() == Paint::Colours);
    match format {
        Format::Text => builder.init(),
        Format::Json => builder.json().init(),
    }
    Ok(())
}
