//! A way to the queue that loses, delays, repeats and reorders calls as a seed says: a
//! tower service between the daemon's client and the queue's server, which sees whole
//! calls and knows nothing of their content.
//!
//! ```text
//!  daemon ── http/2 ──▶ Faults ─┬─ passed ─▶ channel ──▶ queue
//!                               ├─ lost before     the queue never sees it
//!                               ├─ lost behind     done, and the answer is lost
//!                               ├─ late            a while between call and queue
//!                               ├─ twice           the copy follows at once
//!                               ├─ again           the copy follows when later calls are through
//!                               └─ overtaken       given up here, done behind its own repetition
//! ```
//!
//! Calls whose request is a conversation are lost before, or cut in the middle.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint, Server};

/// Longest delay, and how long a copy may lag behind: several updates leave meanwhile.
const LATE_MS: u64 = 900;
/// Life of a stream that is cut.
const CUT_MS: u64 = 3_000;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    LostBefore,
    LostBehind,
    Late,
    Twice,
    Again,
    Overtaken,
    Cut,
}

const OF_CALLS: [Fault; 6] = [
    Fault::LostBefore,
    Fault::LostBehind,
    Fault::Late,
    Fault::Twice,
    Fault::Again,
    Fault::Overtaken,
];
const OF_STREAMS: [Fault; 3] = [Fault::LostBefore, Fault::Late, Fault::Cut];

/// The proxy; it ends with this value.
pub struct Lossy {
    /// For daemons.
    pub url: String,
    faults: Arc<Mutex<Drawn>>,
    _runtime: tokio::runtime::Runtime,
}

struct Drawn {
    rng: StdRng,
    /// What happens to the next calls of each name.
    next: BTreeMap<String, Vec<Option<Fault>>>,
    counts: BTreeMap<(String, Fault), u32>,
}

impl Drawn {
    /// Of five calls of a name two meet something, the first of them among its first two,
    /// and each fault comes once before any comes again: few calls are enough to see all.
    fn fault(&mut self, call: &str, faults: &[Fault]) -> Option<Fault> {
        let next = self.next.entry(call.to_owned()).or_default();
        if next.is_empty() {
            let mut faults = faults.to_vec();
            faults.shuffle(&mut self.rng);
            for (n, fault) in faults.into_iter().enumerate() {
                let mut calls = vec![None; 1 + n % 2];
                calls.push(Some(fault));
                calls.shuffle(&mut self.rng);
                next.splice(0..0, calls);
            }
        }
        next.pop().expect("just filled")
    }
}

impl Lossy {
    /// Before the queue at `url`.
    pub fn before(url: &str, seed: u64) -> Self {
        Self::of(url, seed, Streams::Faulty)
    }

    /// The same, and no answer that is a stream comes through at all.
    pub fn without_streams(url: &str, seed: u64) -> Self {
        Self::of(url, seed, Streams::HeldBack)
    }

    fn of(url: &str, seed: u64, streams: Streams) -> Self {
        let faults = Arc::new(Mutex::new(Drawn {
            rng: StdRng::seed_from_u64(seed),
            next: BTreeMap::new(),
            counts: BTreeMap::new(),
        }));
        let (url, runtime) = serve(url, |queue| Faults {
            queue,
            faults: faults.clone(),
            streams,
        });
        Self {
            url,
            faults,
            _runtime: runtime,
        }
    }

    /// How often what happened to which call.
    pub fn counts(&self) -> BTreeMap<(String, Fault), u32> {
        self.faults.lock().expect("counts").counts.clone()
    }
}

/// Serves what stands between daemons and the queue at `url`, for as long as the runtime is
/// there; where.
pub(super) fn serve<S>(
    url: &str,
    service: impl FnOnce(Channel) -> S,
) -> (String, tokio::runtime::Runtime)
where
    S: tonic::codegen::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    let entered = runtime.enter();
    let queue = Endpoint::from_shared(url.to_owned()).expect("url");
    let service = service(queue.connect_lazy());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.set_nonblocking(true).expect("socket");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let listener = tokio::net::TcpListener::from_std(listener).expect("socket");
    let server = Server::builder().add_service(service);
    runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    drop(entered);
    (url, runtime)
}

/// What happens to answers that are streams.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Streams {
    Faulty,
    HeldBack,
}

/// See the module.
#[derive(Clone)]
struct Faults {
    queue: Channel,
    faults: Arc<Mutex<Drawn>>,
    streams: Streams,
}

impl NamedService for Faults {
    const NAME: &'static str = "provisionerd.v1.Fleet";
}

impl tonic::codegen::Service<Request<Body>> for Faults {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let faults = self.clone();
        Box::pin(async move {
            let answered = faults.answer(request).await;
            Ok(answered.unwrap_or_else(Status::into_http))
        })
    }
}

impl Faults {
    /// What happens to a call, and how long it takes.
    fn draw(&self, call: &str) -> (Option<Fault>, Duration) {
        let faults: &[Fault] = match call {
            "UpdateJob" | "FinishJob" | "PutBlob" => &OF_CALLS,
            "AcquireNow" | "ConfirmJob" | "GetBlobPart" | "PutBlobPart" | "ControlNow" => &OF_CALLS,
            _ => &OF_STREAMS,
        };
        let mut drawn = self.faults.lock().expect("draw");
        let fault = drawn.fault(call, faults);
        let while_ = match fault {
            Some(Fault::Cut) => CUT_MS,
            _ => LATE_MS,
        };
        let while_ = Duration::from_millis(drawn.rng.random_range(0..while_));
        if let Some(fault) = fault {
            *drawn.counts.entry((call.to_owned(), fault)).or_default() += 1;
        }
        (fault, while_)
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let path = request.uri().path();
        let call = path.rsplit('/').next().unwrap_or_default().to_owned();
        let is_stream = ["AcquireJob", "Control", "GetBlob"].contains(&call.as_str());
        if is_stream && self.streams == Streams::HeldBack {
            let _never = self.pass(request).await?;
            return std::future::pending().await;
        }
        let (fault, while_) = self.draw(&call);
        match fault {
            None => self.pass(request).await,
            Some(Fault::LostBefore) => Err(lost()),
            Some(Fault::Late) => {
                tokio::time::sleep(while_).await;
                self.pass(request).await
            }
            Some(Fault::Cut) => Ok(cut(self.pass(request).await?, while_)),
            Some(Fault::LostBehind) => {
                whole(self.pass(request).await?).await?;
                Err(lost())
            }
            Some(Fault::Twice) => {
                let (request, copy) = copied(request).await?;
                let answer = self.pass(request).await;
                self.later(copy, Duration::ZERO);
                answer
            }
            Some(Fault::Again) => {
                let (request, copy) = copied(request).await?;
                let answer = self.pass(request).await;
                self.later(copy, while_);
                answer
            }
            Some(Fault::Overtaken) => {
                let (request, _) = copied(request).await?;
                self.later(request, while_);
                Err(lost())
            }
        }
    }

    async fn pass(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        pass(&self.queue, request).await
    }

    /// Nobody waits for this answer.
    fn later(&self, request: Request<Body>, after: Duration) {
        let faults = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Ok(answer) = faults.pass(request).await {
                let _refused = whole(answer).await;
            }
        });
    }
}

/// The queue's answer.
pub(super) async fn pass(
    queue: &Channel,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    use tonic::codegen::Service as _;
    let mut queue = queue.clone();
    let ready = std::future::poll_fn(|context| queue.poll_ready(context)).await;
    let answer = match ready {
        Ok(()) => queue.call(request).await,
        Err(error) => Err(error),
    };
    answer.map_err(|error| Status::unavailable(error.to_string()))
}

fn lost() -> Status {
    Status::unavailable("lost on the way")
}

/// The answer once the queue has said its last word.
async fn whole(answer: Response<Body>) -> Result<(), Status> {
    answer.into_body().collect().await.map(drop)
}

/// A call and its copy.
async fn copied(request: Request<Body>) -> Result<(Request<Body>, Request<Body>), Status> {
    let (head, body) = request.into_parts();
    let bytes: Bytes = body.collect().await?.to_bytes();
    let call = || Request::from_parts(head.clone(), Body::new(Full::new(bytes.clone())));
    Ok((call(), call()))
}

/// The answer, which breaks after a while.
pub(super) fn cut(answer: Response<Body>, after: Duration) -> Response<Body> {
    let (head, mut body) = answer.into_parts();
    let (frames, rest) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
    tokio::spawn(async move {
        let end = tokio::time::sleep(after);
        tokio::pin!(end);
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = frames.closed() => return,
                () = &mut end => Some(Err(lost())),
            };
            let Some(frame) = frame else { return };
            let broken = frame.is_err();
            if frames.send(frame).await.is_err() || broken {
                return;
            }
        }
    });
    Response::from_parts(head, Body::new(StreamBody::new(ReceiverStream::new(rest))))
}
