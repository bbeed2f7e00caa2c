//! A daemon on a scripted queue.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use proto::limits;
use proto::secret::Secret;
use proto::timings::Timings;
use proto::v1::fleet_server::FleetServer;
use proto::v1::{BlobRef, Job, Lease};
use tokio::sync::{Semaphore, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use super::super::context::{Context, Counts, Jobs};
use super::super::data_dir::DataDir;
use super::super::engines::Engines;
use super::super::leave::Order;
use super::super::tasks::Tasks;
use super::super::{
    EngineChoice, JobMemory, Lifetime, Options, Registry, binds, comeback, shutdown,
};
use super::super::{lately, seen, way};
use super::{Script, Served};
use crate::connect::{ClientTls, Credentials, Target};

/// A daemon's context on a scripted queue, in a directory of its own.
pub struct Bench {
    pub script: Arc<Script>,
    pub context: Arc<Context>,
    pub dir: tempfile::TempDir,
}

/// Serves `script` and connects a daemon to it.
pub async fn bench(slots: u32) -> Bench {
    let script = Arc::new(Script::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let server = tonic::transport::Server::builder()
        .add_service(FleetServer::new(Served(script.clone())))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    let dir = tempfile::tempdir().expect("dir");
    let context = context(options(url, slots, dir.path()));
    Bench {
        script,
        context,
        dir,
    }
}

pub fn options(url: String, slots: u32, data_dir: &std::path::Path) -> Options {
    Options {
        target: Target {
            url,
            tls: ClientTls::default(),
        },
        key: Secret::new("key".into()),
        name: "scripted".into(),
        tags: [("region".to_owned(), "test".to_owned())].into(),
        slots,
        data_dir: data_dir.to_owned(),
        engine: EngineChoice::Auto,
        provider_mirrors: Vec::new(),
        direct: Registry::Refused,
        lifetime: Lifetime::Unlimited,
        drain_deadline: Duration::from_secs(60),
        cancel_grace: Duration::from_secs(60),
        job_memory: JobMemory::Unlimited,
        binds: Vec::new(),
        engine_env: Vec::new(),
        http_listen: None,
        timings: Timings::default().divided(4),
        exe: "/nowhere/provisionerd".into(),
    }
}

/// A context that can start no processes.
pub fn context(options: Options) -> Arc<Context> {
    let (trigger, _) = shutdown::channel();
    let credentials = Credentials::daemon(&options.key, &options.name, "i").expect("header");
    let client = || credentials.fleet(options.target.channel().expect("channel"));
    Arc::new(Context {
        client: client(),
        bulk: client(),
        data: DataDir::open(&options.data_dir).expect("data directory"),
        engines: Engines::none(),
        sandbox: String::new(),
        job_memory: None,
        binds: binds::Binds::default(),
        jobs: Jobs::default(),
        lately: lately::Lately::default(),
        slots: Arc::new(Semaphore::new(usize::try_from(options.slots).expect("few"))),
        collectors: Semaphore::new(limits::COLLECTORS),
        orders: watch::channel(Order::Work).1,
        tasks: Tasks::new(trigger.clone()),
        work: Tasks::new(trigger.clone()),
        trigger,
        seen: seen::Seen::default(),
        comeback: comeback::Comeback::default(),
        counts: Counts::default(),
        closing: CancellationToken::new(),
        revoked: AtomicBool::new(false),
        unpacks: AtomicBool::new(false),
        takes_states: AtomicBool::new(false),
        way: way::Way::new(&options.timings),
        options,
    })
}

/// A job under a lease.
pub fn job() -> Job {
    Job {
        id: proto::ids::JobId::generate().to_string(),
        lease: Some(Lease {
            id: vec![7; 16],
            attempt: 1,
            ttl_ms: 10_000,
            trusted_ms: 10_000,
        }),
        archive: Some(BlobRef::default()),
        ..Job::default()
    }
}

/// Waits for a condition, at most ten seconds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain: {what}");
}
