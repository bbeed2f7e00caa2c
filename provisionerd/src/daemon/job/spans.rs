//! A job's part of its trace: its phases, the wait for the gate, and each resource that
//! the engine touched, with the engine's own times.
//!
//! ```text
//!   job ─┬─ setup, init, plan, apply ── one span per resource
//!        ├─ gate
//!        └─ deliver ── (queue) commit state
//! ```
//!
//! Without a collector nothing is kept here.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Span as _, SpanBuilder, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{KeyValue, global};
use proto::v1::{FinishJobRequest, LedgerAction, LedgerEntry, LedgerEvent, Outcome, Phase};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::telemetry::TARGET;

/// What is open of one job's trace.
pub(super) struct Spans {
    job: Span,
    traced: Traced,
    phase: Option<Span>,
    gate: Option<Span>,
    started: HashMap<String, LedgerEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traced {
    Yes,
    No,
}

impl Spans {
    /// Of the job whose span is the current one; its first phase begins.
    pub fn begin() -> Self {
        let job = Span::current();
        let traced = if job.context().span().span_context().is_sampled() {
            Traced::Yes
        } else {
            Traced::No
        };
        let mut spans = Self {
            job,
            traced,
            phase: None,
            gate: None,
            started: HashMap::new(),
        };
        spans.phase(Phase::Setup);
        spans
    }

    /// A phase begins, and the one before it ends.
    pub fn phase(&mut self, phase: Phase) {
        if self.traced == Traced::No {
            return;
        }
        let name = phase
            .as_str_name()
            .trim_start_matches("PHASE_")
            .to_lowercase();
        self.phase = None;
        self.phase = Some(self.open(&name));
    }

    /// The gate is asked for.
    pub fn gate_asked(&mut self) {
        if self.traced == Traced::Yes {
            self.gate = Some(self.open("gate"));
        }
    }

    /// The queue has answered.
    pub fn gate_answered(&mut self) {
        self.gate = None;
    }

    fn open(&self, name: &str) -> Span {
        tracing::info_span!(target: TARGET, parent: &self.job, "step", otel.name = name)
    }

    /// What the engine did to resources.
    pub fn ledger(&mut self, entries: &[LedgerEntry]) {
        if self.traced == Traced::No {
            return;
        }
        for entry in entries {
            match entry.event() {
                LedgerEvent::Started => {
                    self.started.insert(entry.address.clone(), entry.clone());
                }
                LedgerEvent::Complete => self.resource(entry, Status::Unset),
                LedgerEvent::Errored => self.resource(entry, Status::error("errored")),
                LedgerEvent::Unspecified
                | LedgerEvent::ProvisionStarted
                | LedgerEvent::ProvisionComplete
                | LedgerEvent::ProvisionErrored => {}
            }
        }
    }

    fn resource(&mut self, end: &LedgerEntry, status: Status) {
        let start = self.started.remove(&end.address);
        let start = start.map_or_else(
            || end.time_ms - i64::try_from(end.elapsed_ms).unwrap_or(0),
            |start| start.time_ms,
        );
        self.emit(end, start, end.time_ms, status);
    }

    fn emit(&self, entry: &LedgerEntry, start_ms: i64, end_ms: i64, status: Status) {
        let parent = self.phase.as_ref().unwrap_or(&self.job).context();
        let tracer = global::tracer("provisionerd");
        let attributes = vec![
            KeyValue::new("resource.address", entry.address.clone()),
            KeyValue::new("resource.type", entry.resource_type.clone()),
            KeyValue::new("resource.action", action(entry.action())),
        ];
        let builder = SpanBuilder::from_name(entry.address.clone())
            .with_start_time(time(start_ms))
            .with_attributes(attributes);
        let mut span = tracer.build_with_context(builder, &parent);
        span.set_status(status);
        span.end_with_timestamp(time(end_ms.max(start_ms)));
    }

    /// The job has its verdict. Resources without an end get one that says so.
    pub fn end(&mut self, finish: &FinishJobRequest) {
        if self.traced == Traced::No {
            return;
        }
        for entry in std::mem::take(&mut self.started).into_values() {
            let now = jiff::Timestamp::now().as_millisecond();
            self.emit(&entry, entry.time_ms, now, Status::error("unconfirmed"));
        }
        self.gate = None;
        self.phase = None;
        let outcome = finish.outcome();
        self.job.set_attribute("job.outcome", outcome.as_str_name());
        if let Some(error) = &finish.error {
            self.job.set_attribute("error.type", error.code.clone());
            if outcome == Outcome::Failed {
                self.job.set_status(Status::error(error.code.clone()));
            }
        }
    }
}

fn action(action: LedgerAction) -> &'static str {
    match action {
        LedgerAction::Unspecified => "unknown",
        LedgerAction::Create => "create",
        LedgerAction::Update => "update",
        LedgerAction::Delete => "delete",
        LedgerAction::Replace => "replace",
        LedgerAction::Read => "read",
    }
}

fn time(ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
