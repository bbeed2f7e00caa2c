//! A proxy between daemons and the queue that does not think much of streams, as some load
//! balancers and inspecting firewalls do not: it holds each answer back until its end, or
//! cuts each call after a while.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::transport::Channel;

use super::lossy::{cut, pass, serve};

/// What it lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lets {
    /// Everything.
    All,
    /// Answers that have come to their end.
    WholeAnswers,
    /// Calls that take no longer than this, and what there is of others until then.
    Short(Duration),
}

/// The proxy; it ends with this value.
pub struct Strict {
    /// For daemons.
    pub url: String,
    lets: Arc<Mutex<Lets>>,
    _runtime: tokio::runtime::Runtime,
}

impl Strict {
    /// Before the queue at `url`.
    pub fn before(url: &str, lets: Lets) -> Self {
        let lets = Arc::new(Mutex::new(lets));
        let (url, runtime) = serve(url, |queue| Passes {
            queue,
            lets: lets.clone(),
        });
        Self {
            url,
            lets,
            _runtime: runtime,
        }
    }

    /// Changes what it lets through, of calls that come from now on.
    pub fn lets(&self, lets: Lets) {
        *self.lets.lock().expect("lets") = lets;
    }
}

#[derive(Clone)]
struct Passes {
    queue: Channel,
    lets: Arc<Mutex<Lets>>,
}

impl NamedService for Passes {
    const NAME: &'static str = "provisionerd.v1.Fleet";
}

impl Service<Request<Body>> for Passes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (queue, lets) = (self.queue.clone(), *self.lets.lock().expect("lets"));
        Box::pin(async move {
            let answered = match lets {
                Lets::All => pass(&queue, request).await,
                Lets::WholeAnswers => {
                    // It goes on holding the queue's stream when its caller has gone.
                    let holding = async move { whole(pass(&queue, request).await).await };
                    let held = tokio::spawn(holding).await;
                    held.unwrap_or_else(|_| Err(Status::unavailable("the proxy ends")))
                }
                Lets::Short(time) => short(&queue, request, time).await,
            };
            Ok(answered.unwrap_or_else(Status::into_http))
        })
    }
}

async fn whole(answer: Result<Response<Body>, Status>) -> Result<Response<Body>, Status> {
    let (head, body) = answer?.into_parts();
    let body = body.collect().await?;
    Ok(Response::from_parts(head, Body::new(body)))
}

async fn short(
    queue: &Channel,
    request: Request<Body>,
    time: Duration,
) -> Result<Response<Body>, Status> {
    let begun = Instant::now();
    let answer = timeout(time, pass(queue, request)).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::unavailable("504 of a proxy")))?;
    Ok(cut(answer, time.saturating_sub(begun.elapsed())))
}
