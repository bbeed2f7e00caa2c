//! Our own log lines, on stderr. Jobs' logs go to the queue and never here.

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::failure::Failure;
use crate::render::paint::Paint;
use crate::telemetry::{self, Export, Telemetry};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What a process that serves says of itself.
#[derive(Debug, Clone, clap::Args)]
pub struct Observed {
    /// How our own log lines look on stderr.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub log_format: Format,
    /// OTLP collector (gRPC) that gets one trace per job, such as http://127.0.0.1:4317;
    /// by default what `OTEL_EXPORTER_OTLP_ENDPOINT` says, else none.
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

impl Observed {
    fn endpoint(&self) -> Option<String> {
        let usual = || {
            [
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            ]
            .into_iter()
            .find_map(|name| std::env::var(name).ok())
        };
        let endpoint = self.otlp_endpoint.clone().or_else(usual);
        endpoint.filter(|endpoint| !endpoint.is_empty())
    }
}

/// Starts logging with `filter` (default `info`), and tracing where a collector is named;
/// `service` is the process's name there. To be called once, inside the runtime.
///
/// # Errors
/// The filter or the collector's address cannot be understood.
pub fn start(
    filter: Option<&str>,
    args: &Observed,
    service: &'static str,
) -> Result<Telemetry, Failure> {
    let text = filter.unwrap_or("info");
    let filter = EnvFilter::try_new(widened(text)).map_err(|error| {
        Failure::usage(format!("--log `{text}`: {error}"))
            .hint("a filter is a level or a list such as `info,queue=debug`")
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(Paint::stderr() == Paint::Colours);
    let lines = match args.log_format {
        Format::Text => lines.with_filter(filter).boxed(),
        Format::Json => lines.json().with_filter(filter).boxed(),
    };
    let (telemetry, spans) = match args.endpoint() {
        Some(endpoint) => {
            let export = Export {
                endpoint: &endpoint,
                service,
            };
            let (telemetry, spans) = telemetry::start(export)?;
            (telemetry, Some(spans))
        }
        None => (Telemetry::none(), None),
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(spans)
        .init();
    Ok(telemetry)
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
