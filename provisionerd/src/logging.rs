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
    let filter = EnvFilter::try_new(widened(text)).map_err(|error| {
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

/// A bare level counts for our own crates; libraries then say only what is wrong.
fn widened(text: &str) -> String {
    match text.trim().parse::<tracing::Level>() {
        Ok(level) if level > tracing::Level::WARN => {
            format!("warn,provisionerd={level},queue={level},worker={level}")
        }
        Ok(_) | Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_does_not_let_libraries_talk() {
        assert_eq!(
            widened("debug"),
            "warn,provisionerd=DEBUG,queue=DEBUG,worker=DEBUG"
        );
        assert_eq!(widened("error"), "error");
        assert_eq!(widened("info,h2=debug"), "info,h2=debug");
    }
}
