//! One trace per job, seen by a collector that speaks OTLP over gRPC.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::harness::{Fleet, LONG, Ran, command, template, wait_for};

type Spans = Arc<Mutex<Vec<Span>>>;

/// What a pipeline hands down: trace id, span id, sampled.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|r| r.scope_spans);
        let mut spans = self.0.lock().expect("spans");
        spans.extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector on a free port; it ends with the returned runtime.
fn collector() -> (tokio::runtime::Runtime, SocketAddr, Spans) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("runtime");
    let spans = Spans::default();
    let service = TraceServiceServer::new(Collector(spans.clone()));
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .expect("a port");
    let address = listener.local_addr().expect("address");
    runtime.spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (runtime, address, spans)
}

/// A fleet whose queue and daemons read `endpoint` from the configuration file.
fn traced(endpoint: &str) -> Fleet {
    let mut fleet = Fleet::start();
    let config = fleet.dir().join(".config/provisionerd");
    std::fs::create_dir_all(&config).expect("directory");
    let text = format!("otlp_endpoint = \"{endpoint}\"\n");
    std::fs::write(config.join("config.toml"), text).expect("configuration");
    fleet.restart_queue();
    fleet
}

/// A first build whose client was given a trace.
fn create_in_trace(fleet: &Fleet) -> String {
    let mut client = command(fleet.dir());
    client
        .args(["workspaces", "create", "w", "--template", "slow"])
        .args(["--output", "json"])
        .env("PROVISIONERD_URL", &fleet.url)
        .env("PROVISIONERD_DATA_DIR", fleet.dir().join("q"))
        .env("TRACEPARENT", PARENT);
    let output = client.output().expect("the binary starts");
    let made = Ran::new("workspaces create".to_owned(), &output)
        .exits(0)
        .json();
    made["job"]["id"].as_str().expect("id").to_owned()
}

fn text(span: &Span, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let found = span.attributes.iter().find(|pair| pair.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

#[test]
fn one_trace_leads_from_the_pipeline_to_the_commit_of_the_state() {
    let (_runtime, address, spans) = collector();
    let fleet = traced(&format!("http://{address}"));
    let _daemon = fleet.daemon("one", &[]);
    let variable = ["--variable", "seconds=0", "--variable", "resources=2"];
    fleet.push("slow", &template("slow"), &variable).exits(0);
    let job = create_in_trace(&fleet);

    let trace = PARENT.split('-').nth(1).expect("trace id");
    let trace = (0..16).map(|at| u8::from_str_radix(&trace[at * 2..at * 2 + 2], 16).expect("hex"));
    let trace: Vec<u8> = trace.collect();
    let of_trace = || -> HashMap<String, Span> {
        let spans = spans.lock().expect("spans");
        let ours = spans.iter().filter(|span| span.trace_id == trace);
        ours.map(|span| (span.name.clone(), span.clone())).collect()
    };
    let seen = wait_for("the whole trace", LONG, || {
        let seen = of_trace();
        let whole = seen.contains_key("commit state") && seen.contains_key("job");
        whole.then_some(seen)
    });
    let parent = |of: &str| {
        let id = &seen
            .get(of)
            .unwrap_or_else(|| panic!("no span {of}"))
            .parent_span_id;
        let found = seen.values().find(|span| span.span_id == *id);
        found.map_or_else(|| "elsewhere".to_owned(), |span| span.name.clone())
    };
    let expected = [
        ("submit", "elsewhere"),
        ("queue wait", "submit"),
        ("job", "submit"),
        ("setup", "job"),
        ("init", "job"),
        ("plan", "job"),
        ("gate", "job"),
        ("apply", "job"),
        ("terraform_data.slow[0]", "apply"),
        ("terraform_data.slow[1]", "apply"),
        ("deliver", "job"),
        ("commit state", "deliver"),
    ];
    for (span, above) in expected {
        assert_eq!(parent(span), above, "parent of {span}");
    }
    assert_eq!(
        seen["submit"].parent_span_id,
        [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]
    );
    assert_eq!(text(&seen["job"], "job.id"), Some(job));
    for (name, span) in &seen {
        assert!(
            span.start_time_unix_nano <= span.end_time_unix_nano,
            "{name}"
        );
    }
}

#[test]
fn a_collector_that_is_not_there_costs_neither_start_nor_job_nor_end() {
    // Bound and never accepted from: connections are taken by the kernel and not answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("address");
    let fleet = traced(&format!("http://{address}"));
    let mut daemon = fleet.daemon("one", &[]);
    let variable = ["--variable", "seconds=0"];
    fleet.push("slow", &template("slow"), &variable).exits(0);
    let job = fleet.create("w", "slow");
    assert_eq!(fleet.ended(&job)["status"], "succeeded");
    let asked = Instant::now();
    daemon.process.signal(Signal::SIGTERM);
    assert!(daemon.process.ended(LONG).success());
    assert!(asked.elapsed().as_secs() < 10, "{:?}", asked.elapsed());
}

#[test]
fn an_endpoint_that_is_no_url_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("directory");
    let mut serve = command(dir.path());
    serve.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--otlp-endpoint",
        "collector:4317",
    ]);
    let ran = Ran::new("serve".to_owned(), &serve.output().expect("starts"));
    let ran = ran.exits(2);
    assert!(
        ran.stderr
            .contains("--otlp-endpoint `collector:4317` must begin with http")
    );
}
