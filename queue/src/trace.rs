//! The queue's part of a job's trace: the submit, the wait for a daemon, the commit of
//! the end. The context of the submit travels with the job; requests that end one bring
//! their own. Nothing is made where no collector is.

use std::collections::HashMap;
use std::time::SystemTime;

use opentelemetry::global;
use opentelemetry::trace::{Span as _, SpanBuilder, TraceContextExt as _, Tracer as _};
use proto::ids::JobId;
use tonic::metadata::MetadataMap;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Target of spans that are made for traces alone; no log filter selects it.
const TARGET: &str = "trace";

/// W3C trace context of a request.
pub fn of_request(metadata: &MetadataMap) -> HashMap<String, String> {
    const LONGEST: usize = 512;
    let read = |key: &'static str| {
        let value = metadata.get(key)?.to_str().ok()?;
        (value.len() <= LONGEST).then(|| (key.to_owned(), value.to_owned()))
    };
    ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(read)
        .collect()
}

/// The span of a submit, below what the client sent, and the context for its job.
pub fn submit(client: &HashMap<String, String>) -> (Span, HashMap<String, String>) {
    let span = tracing::info_span!(target: TARGET, "submit");
    join(&span, client);
    let mut own = HashMap::new();
    let context = span.context();
    global::get_text_map_propagator(|to| to.inject_context(&context, &mut own));
    if own.is_empty() {
        // No traces here; the client's may still be wanted at the daemon.
        own.clone_from(client);
    }
    (span, own)
}

/// The span of a request that is part of a job's trace; disabled without one.
pub fn request(name: &'static str, metadata: &MetadataMap) -> Span {
    let context = of_request(metadata);
    if context.is_empty() {
        return Span::none();
    }
    let span = tracing::info_span!(target: TARGET, "request", otel.name = name);
    join(&span, &context);
    span
}

/// A job has waited since it was submitted and is in a daemon's hands for the first time.
/// Later attempts waited for other reasons and show as gaps.
pub fn waited(context: &HashMap<String, String>, job: JobId) {
    let parent = global::get_text_map_propagator(|from| from.extract(context));
    let (Some(submitted), true) = (job.made_at(), parent.span().span_context().is_sampled()) else {
        return;
    };
    let builder = SpanBuilder::from_name("queue wait").with_start_time(submitted);
    let mut span = global::tracer("queue").build_with_context(builder, &parent);
    span.end_with_timestamp(SystemTime::now());
}

fn join(span: &Span, context: &HashMap<String, String>) {
    let parent = global::get_text_map_propagator(|from| from.extract(context));
    // Refused only where no layer takes spans.
    let _ = span.set_parent(parent);
}
