//! A queue in a temporary directory, and the peers that talk to it.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use proto::ids::Digest;
use proto::timings::Timings;
use proto::v1::acquire_reply::Message as Reply;
use proto::v1::acquire_request::Message as Ask;
use proto::v1::fleet_client::FleetClient;
use proto::v1::management_client::ManagementClient;
use proto::v1::put_blob_request::Message as Put;
use proto::v1::{self, AcquireReply, AcquireRequest, PutBlobRequest};
use queue::{Options, Service};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// Nothing here takes longer; a wait that reaches it has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What is quick is quicker than any tick behind it: looks at all lanes are 8 s apart.
pub const AT_ONCE: Duration = Duration::from_secs(6);

pub type Client = ManagementClient<InterceptedService<Channel, Identity>>;
pub type Fleet = FleetClient<InterceptedService<Channel, Identity>>;

/// Metadata of one peer.
#[derive(Clone, Default)]
pub struct Identity(MetadataMap);

impl Identity {
    pub fn new(pairs: &[(&'static str, &str)]) -> Self {
        let mut metadata = MetadataMap::new();
        for (key, value) in pairs {
            metadata.insert(*key, value.parse().expect("metadata"));
        }
        Self(metadata)
    }
}

impl Interceptor for Identity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        *request.metadata_mut() = self.0.clone();
        Ok(request)
    }
}

/// A running queue; its directory goes when it is dropped.
pub struct Queue {
    pub service: Service,
    pub channel: Channel,
    pub dir: TempDir,
}

/// Waits of a quarter, but no tick and no timeout that a test did not ask for.
pub fn timings() -> Timings {
    Timings {
        acquire_min: Duration::from_secs(60),
        acquire_max: Duration::from_secs(90),
        confirm: Duration::from_secs(15),
        lease_pending: Duration::from_secs(60),
        control_grace: Duration::from_secs(60),
        ..Timings::default().divided(4)
    }
}

pub fn options(dir: &TempDir) -> Options {
    let mut options = Options::new(dir.path().to_owned(), loopback());
    options.http_listen = Some(loopback());
    options.timings = timings();
    // Tables of wrong credentials all come from one address.
    options.edge.wrong_credentials = 100_000;
    options
}

pub fn loopback() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

impl Queue {
    pub async fn start() -> Self {
        Self::start_with(timings()).await
    }

    pub async fn start_with(timings: Timings) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let options = Options {
            timings,
            ..options(&dir)
        };
        Self::start_in(dir, options).await
    }

    /// A queue in `dir`, which `options` name.
    pub async fn start_in(dir: TempDir, options: Options) -> Self {
        let service = queue::start(options).await.expect("queue");
        let channel = connect(&service).await;
        Self {
            service,
            channel,
            dir,
        }
    }

    pub fn admin(&self) -> Client {
        self.client(self.service.admin_token().expect("an admin token").expose())
    }

    pub fn client(&self, token: &str) -> Client {
        client_on(self.channel.clone(), token)
    }

    /// A token of a member named `owner`.
    pub async fn member(&self, owner: &str) -> Client {
        let token = self.member_token(owner).await;
        self.client(&token)
    }

    /// The same on a connection of its own.
    pub async fn member_apart(&self, owner: &str) -> Client {
        let token = self.member_token(owner).await;
        client_on(connect(&self.service).await, &token)
    }

    async fn member_token(&self, owner: &str) -> String {
        self.token(owner, "member").await
    }

    /// Another admin, on a connection of its own.
    pub async fn admin_apart(&self, owner: &str) -> Client {
        let token = self.token(owner, "admin").await;
        client_on(connect(&self.service).await, &token)
    }

    pub async fn token(&self, owner: &str, role: &str) -> String {
        let request = v1::CreateTokenRequest {
            name: format!("{owner}-token"),
            owner: owner.into(),
            role: role.into(),
        };
        let reply = self.admin().create_token(request).await.expect("token");
        reply.into_inner().token
    }

    pub async fn key(&self, name: &str, tags: &[(&str, &str)]) -> String {
        let request = v1::CreateKeyRequest {
            name: name.into(),
            tags: map(tags),
        };
        let reply = self.admin().create_key(request).await.expect("key");
        reply.into_inner().key
    }

    /// A daemon without tags, with a key of its own.
    pub async fn daemon(&self, name: &str) -> Daemon {
        let key = self.key(&format!("key-of-{name}"), &[]).await;
        self.daemon_with(name, "instance-1", &key, &[])
    }

    pub fn daemon_with(
        &self,
        name: &str,
        instance: &str,
        key: &str,
        tags: &[(&str, &str)],
    ) -> Daemon {
        let bearer = format!("Bearer {key}");
        let identity = Identity::new(&[
            ("authorization", &bearer),
            ("x-daemon-name", name),
            ("x-daemon-instance", instance),
        ]);
        Daemon {
            fleet: FleetClient::with_interceptor(self.channel.clone(), identity),
            tags: map(tags),
            facts: HashMap::new(),
            holds: Vec::new(),
        }
    }

    /// Uploads `bytes` as a client.
    pub async fn upload(&self, bytes: &[u8]) -> v1::BlobRef {
        let blob = blob_ref(bytes);
        let requests = tokio_stream::iter(put_requests(&blob, None, bytes));
        let reply = self.admin().upload(requests).await;
        reply.expect("upload");
        blob
    }

    /// Pushes a template; its import waits for a daemon.
    pub async fn push(&self, name: &str, tags: &[(&str, &str)]) -> v1::JobView {
        let request = v1::PushTemplateRequest {
            name: name.into(),
            archive: Some(self.upload(format!("archive of {name}").as_bytes()).await),
            tags: map(tags),
            activate: true,
            ..v1::PushTemplateRequest::default()
        };
        let reply = self.admin().push_template(request).await.expect("push");
        reply.into_inner().job.expect("job")
    }

    /// A template whose import found `facts`, done by `daemon`.
    pub async fn template(&self, name: &str, facts: v1::TemplateFacts, daemon: &mut Daemon) {
        self.push(name, &[]).await;
        let job = daemon.take().await;
        let finish = v1::FinishJobRequest {
            facts: Some(facts),
            ..finish(&job, v1::Outcome::Succeeded)
        };
        daemon.fleet.finish_job(finish).await.expect("finish");
    }

    pub async fn job(&self, id: &str) -> v1::JobView {
        let request = v1::GetJobRequest { id: id.into() };
        self.admin()
            .get_job(request)
            .await
            .expect("job")
            .into_inner()
    }

    /// One GET on the HTTP port: status and body.
    pub async fn http(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let address = self.service.http_addr().expect("http");
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("http");
        let request = format!("GET {path} HTTP/1.1\r\nHost: queue\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("request");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("response");
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        (status.expect("status"), body.unwrap_or_default())
    }

    /// Waits until so many acquire streams wait for a job.
    pub async fn waiting(&self, count: usize) {
        let line = format!("provisionerd_acquires_waiting {count}");
        until(async || self.http("/metrics").await.1.contains(&line)).await;
    }
}

fn client_on(channel: Channel, token: &str) -> Client {
    let bearer = format!("Bearer {token}");
    let identity = Identity::new(&[("authorization", &bearer)]);
    ManagementClient::with_interceptor(channel, identity)
}

pub async fn connect(service: &Service) -> Channel {
    let url = format!("http://{}", service.grpc_addr());
    let endpoint = Endpoint::from_shared(url).expect("url");
    endpoint.connect().await.expect("connect")
}

/// A daemon played by a test.
pub struct Daemon {
    pub fleet: Fleet,
    pub tags: HashMap<String, String>,
    pub facts: HashMap<String, String>,
    pub holds: Vec<String>,
}

/// An open acquire stream.
#[derive(Debug)]
pub struct Acquiring {
    pub requests: mpsc::Sender<AcquireRequest>,
    pub replies: Streaming<AcquireReply>,
}

impl Daemon {
    pub async fn acquire(&mut self) -> Acquiring {
        self.try_acquire().await.expect("stream")
    }

    pub async fn try_acquire(&mut self) -> Result<Acquiring, Status> {
        let (requests, stream) = mpsc::channel(4);
        let acquire = v1::Acquire {
            tags: self.tags.clone(),
            facts: self.facts.clone(),
            slots: 1,
            version: "1.0".into(),
            holds: self.holds.clone(),
            ..v1::Acquire::default()
        };
        requests
            .send(ask(Ask::Acquire(acquire)))
            .await
            .expect("queued");
        let replies = self.fleet.acquire_job(ReceiverStream::new(stream)).await?;
        Ok(Acquiring {
            requests,
            replies: replies.into_inner(),
        })
    }

    /// Acquires and confirms a job that is or will be there.
    pub async fn take(&mut self) -> v1::Job {
        let mut acquiring = self.acquire().await;
        let job = acquiring.job().await;
        acquiring.confirm(&job).await;
        job
    }

    pub async fn control(&mut self, running: Vec<v1::RunningJob>) -> Streaming<v1::ControlEvent> {
        let request = v1::ControlRequest {
            running,
            tags: self.tags.clone(),
            facts: self.facts.clone(),
            slots: 1,
            version: "1.0".into(),
            draining: false,
        };
        self.fleet
            .control(request)
            .await
            .expect("control")
            .into_inner()
    }
}

impl Acquiring {
    pub async fn reply(&mut self) -> Result<Reply, Status> {
        let reply = soon(self.replies.message()).await?;
        Ok(reply.expect("a reply").message.expect("a message"))
    }

    pub async fn job(&mut self) -> v1::Job {
        match self.reply().await.expect("a job") {
            Reply::Job(job) => *job,
            other => panic!("not a job: {other:?}"),
        }
    }

    pub async fn none(&mut self) -> String {
        match self.reply().await.expect("none") {
            Reply::None(none) => none.reason,
            other => panic!("not none: {other:?}"),
        }
    }

    pub async fn confirm(&mut self, job: &v1::Job) -> v1::Lease {
        let confirm = v1::Confirm {
            job_id: job.id.clone(),
            lease_id: lease_id(job),
        };
        self.requests
            .send(ask(Ask::Confirm(confirm)))
            .await
            .expect("sent");
        match self.reply().await.expect("confirmed") {
            Reply::Confirmed(confirmed) => confirmed.lease.expect("lease"),
            other => panic!("not confirmed: {other:?}"),
        }
    }
}

pub fn ask(message: Ask) -> AcquireRequest {
    AcquireRequest {
        message: Some(message),
    }
}

pub fn lease_id(job: &v1::Job) -> Vec<u8> {
    job.lease.as_ref().expect("lease").id.clone()
}

pub fn update(job: &v1::Job, counter: u64) -> v1::UpdateJobRequest {
    v1::UpdateJobRequest {
        job_id: job.id.clone(),
        lease_id: lease_id(job),
        counter,
        ..v1::UpdateJobRequest::default()
    }
}

pub fn finish(job: &v1::Job, outcome: v1::Outcome) -> v1::FinishJobRequest {
    v1::FinishJobRequest {
        job_id: job.id.clone(),
        lease_id: lease_id(job),
        attempt: job.lease.as_ref().expect("lease").attempt,
        outcome: outcome.into(),
        ..v1::FinishJobRequest::default()
    }
}

pub fn lines(from: u64, texts: &[&str]) -> Vec<v1::LogLine> {
    let line = |(index, text): (usize, &&str)| v1::LogLine {
        seq: from + index as u64,
        time_ms: 1,
        phase: v1::Phase::Init.into(),
        source: v1::LogSource::Engine.into(),
        level: v1::LogLevel::Info.into(),
        text: (*text).to_owned(),
        more: false,
    };
    texts.iter().enumerate().map(line).collect()
}

pub fn blob_ref(bytes: &[u8]) -> v1::BlobRef {
    v1::BlobRef {
        sha256: Digest::of(bytes).as_bytes().to_vec(),
        size: bytes.len() as u64,
    }
}

/// The messages of one put, for a lease or as a client.
pub fn put_requests(
    blob: &v1::BlobRef,
    job: Option<&v1::Job>,
    bytes: &[u8],
) -> Vec<PutBlobRequest> {
    let header = v1::PutBlobHeader {
        blob: Some(blob.clone()),
        job_id: job.map(|job| job.id.clone()).unwrap_or_default(),
        lease_id: job.map(lease_id).unwrap_or_default(),
    };
    let chunks = bytes.chunks(proto::limits::BLOB_CHUNK);
    let data = chunks.map(|chunk| Put::Data(bytes::Bytes::copy_from_slice(chunk)));
    let messages = std::iter::once(Put::Header(header)).chain(data);
    messages
        .map(|message| PutBlobRequest {
            message: Some(message),
        })
        .collect()
}

pub fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// The stable name of a refusal.
pub fn code(status: &Status) -> &str {
    let code = status.metadata().get("x-error-code");
    code.and_then(|code| code.to_str().ok()).unwrap_or("none")
}

/// Waits, but not for ever.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, future).await;
    waited.expect("nothing came before the deadline")
}

/// Waits for a condition.
pub async fn until(mut condition: impl AsyncFnMut() -> bool) {
    soon(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Bytes that do not compress.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..size).map(step).collect()
}
