//! Traces for others to see: one trace per job, from submit to state commit, sent by
//! OTLP over gRPC.
//!
//! Spans are those of `tracing` whose target is [`TARGET`], and the spans of our own
//! log lines. They wait in a bounded queue and leave in batches from a thread of their
//! own: a collector that is slow, absent or gone costs spans, never a job, and never
//! delays a start.

use std::time::Duration;

use opentelemetry::propagation::Injector;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tonic::metadata::{MetadataKey, MetadataMap};
use tracing::{Level, Metadata, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::connect;
use crate::failure::Failure;

/// Target of spans that are made for traces alone; no log filter selects it.
pub const TARGET: &str = "trace";

/// Spans that wait for the collector; what comes on top is dropped and counted by the
/// exporter. A build of thousands of resources fits.
const WAITING: usize = 16_384;
/// The end of the process waits this long for the last batch.
const LAST_BATCH: Duration = Duration::from_secs(2);
/// One batch that takes longer is given up.
const BATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where traces go and under which name.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// `http://host:4317` or `https://…`.
    pub endpoint: &'a str,
    /// `service.name`, unless `OTEL_SERVICE_NAME` says otherwise.
    pub service: &'static str,
}

/// The way to the collector. Without [`Telemetry::end`] the last batch is lost.
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// No traces.
    pub fn none() -> Self {
        Self(None)
    }

    /// Sends what still waits, for at most [`LAST_BATCH`].
    pub async fn end(self) {
        let Some(provider) = self.0 else { return };
        // The exporter's thread needs this runtime meanwhile.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_BATCH));
        if let Ok(Err(error)) = ended.await {
            tracing::debug!(error = %error, "the last spans may not have arrived");
        }
    }
}

/// Builds the exporter; dials nothing. To be called once, inside the runtime.
///
/// # Errors
/// The endpoint is no URL, or its roots cannot be read.
pub fn start<S>(export: Export<'_>) -> Result<(Telemetry, impl Layer<S>), Failure>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let exporter = exporter(export.endpoint)?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(WAITING)
        .build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource(export.service))
        .with_span_processor(
            BatchSpanProcessor::builder(exporter)
                .with_batch_config(batches)
                .build(),
        )
        .build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(provider.clone());
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("provisionerd"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_ours));
    Ok((Telemetry(Some(provider)), layer))
}

/// Spans of ours; exporting a trace must not make spans of its own.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    const OWN: [&str; 4] = [TARGET, "provisionerd", "queue", "worker"];
    let target = metadata.target().split("::").next().unwrap_or_default();
    metadata.is_span() && *metadata.level() <= Level::INFO && OWN.contains(&target)
}

fn exporter(endpoint: &str) -> Result<SpanExporter, Failure> {
    let unusable = |error: ExporterBuildError| {
        Failure::usage(format!("--otlp-endpoint `{endpoint}`: {error}"))
            .hint("give the gRPC address of an OTLP collector, such as http://127.0.0.1:4317")
    };
    let scheme = endpoint.split_once("://").map(|(scheme, _)| scheme);
    let builder = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(BATCH_TIMEOUT);
    match scheme {
        Some("http") => builder.build().map_err(unusable),
        Some("https") => {
            let tls = connect::system_tls()
                .map_err(|error| Failure::usage(format!("--otlp-endpoint: {error}")))?;
            builder.with_tls_config(tls).build().map_err(unusable)
        }
        Some(_) | None => Err(Failure::usage(format!(
            "--otlp-endpoint `{endpoint}` must begin with http:// or https://"
        ))),
    }
}

fn resource(service: &'static str) -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let builder = Resource::builder().with_attribute(version);
    if std::env::var_os("OTEL_SERVICE_NAME").is_some() {
        return builder.build();
    }
    builder.with_service_name(service).build()
}

/// Puts the current span's context into request metadata; nothing without a trace.
pub fn inject(metadata: &mut MetadataMap) {
    let context = tracing::Span::current().context();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Outgoing(metadata));
    });
}

/// Makes `span` a part of the trace that a job carries.
pub fn join(span: &tracing::Span, trace_context: &std::collections::HashMap<String, String>) {
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(trace_context));
    // Refused only where no layer takes spans, or after the span was entered.
    let _ = span.set_parent(parent);
}

struct Outgoing<'a>(&'a mut MetadataMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = MetadataKey::from_bytes(key.as_bytes());
        if let (Ok(key), Ok(value)) = (key, value.parse()) {
            self.0.insert(key, value);
        }
    }
}
