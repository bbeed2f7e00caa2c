//! Stands before the services: no request is read before its caller is known.
//!
//! ```text
//! headers ──▶ may this address try? ──▶ a good credential? ──▶ body, decoded and answered
//!                 │ no                      │ no
//!                 ▼ TOO_MANY_FAILURES       ▼ unauthenticated; one try less
//! ```
//!
//! What it finds out travels in the request's extensions, where the services take it from.
//! Here too is how large a message of each call may be: a request of a stranger costs its
//! headers, one of a caller what its call needs, and only what a job made may be large.

mod answer;
mod failures;
mod held;

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::task::{Context, Poll};
use std::time::Instant;

use proto::limits;
use proto::v1::fleet_server::FleetServer;
use proto::v1::management_server::ManagementServer;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::auth::{Client, Daemon};
use crate::credentials::Live;
use crate::fleet::FleetService;
use crate::listen::conn::Peer;
use crate::management::ManagementService;
use crate::refusal::{Refusal, shown};
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::{Act, Actor};
use answer::Account;
pub use answer::{Lent, Unsent};
pub use failures::Failures;
pub use held::Held;

/// Who may call a service.
pub trait Caller: Clone + Send + Sync + 'static {
    /// Finds out who calls.
    ///
    /// # Errors
    /// Not a caller of this service.
    fn authenticate<S: Store>(
        shared: &Shared<S>,
        metadata: &MetadataMap,
        peer: &Peer,
    ) -> impl Future<Output = Result<Self, Refusal>> + Send;

    /// What its credential has open.
    fn live(&self) -> &Live;

    /// What its like are answered and have not read.
    fn unsent<S>(shared: &Shared<S>) -> &Unsent;
}

impl Caller for Daemon {
    async fn authenticate<S: Store>(
        shared: &Shared<S>,
        metadata: &MetadataMap,
        peer: &Peer,
    ) -> Result<Self, Refusal> {
        Self::authenticate(shared, metadata, peer).await
    }

    fn live(&self) -> &Live {
        &self.live
    }

    fn unsent<S>(shared: &Shared<S>) -> &Unsent {
        &shared.unsent_to_daemons
    }
}

impl Caller for Client {
    async fn authenticate<S: Store>(
        shared: &Shared<S>,
        metadata: &MetadataMap,
        peer: &Peer,
    ) -> Result<Self, Refusal> {
        Self::authenticate(shared, metadata, peer).await
    }

    fn live(&self) -> &Live {
        &self.live
    }

    fn unsent<S>(shared: &Shared<S>) -> &Unsent {
        &shared.unsent_to_clients
    }
}

/// How the request of a call comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One message.
    Unary,
    /// One message that carries what a job made: all of it in a finish, and in an update
    /// all that was made while the queue was away.
    Report,
    /// Message by message.
    Stream,
}

impl Shape {
    fn of(path: &str) -> Self {
        match path.rsplit('/').next() {
            Some("FinishJob" | "UpdateJob") => Self::Report,
            Some("AcquireJob" | "PutBlob" | "Upload") => Self::Stream,
            Some(_) | None => Self::Unary,
        }
    }
}

/// A service behind its guard: the same one three times, each with its limit on messages.
#[derive(Debug)]
pub struct Guard<S, C, N> {
    shared: Shared<S>,
    unary: N,
    report: N,
    stream: N,
    caller: PhantomData<fn() -> C>,
}

impl<S: Clone, C, N: Clone> Clone for Guard<S, C, N> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            unary: self.unary.clone(),
            report: self.report.clone(),
            stream: self.stream.clone(),
            caller: PhantomData,
        }
    }
}

impl<S: Store, C, N> Guard<S, C, N> {
    fn new(shared: &Shared<S>, service: impl Fn(usize) -> N) -> Self {
        Self {
            shared: shared.clone(),
            unary: service(limits::REQUEST),
            report: service(limits::GRPC_MESSAGE),
            stream: service(limits::STREAM_REQUEST),
            caller: PhantomData,
        }
    }
}

/// The service of daemons.
pub fn fleet<S: Store>(shared: &Shared<S>) -> Guard<S, Daemon, FleetServer<FleetService<S>>> {
    Guard::new(shared, |largest| {
        FleetServer::new(FleetService(shared.clone()))
            .max_decoding_message_size(largest)
            .max_encoding_message_size(limits::GRPC_MESSAGE)
    })
}

/// The service of people and programs.
pub fn management<S: Store>(
    shared: &Shared<S>,
) -> Guard<S, Client, ManagementServer<ManagementService<S>>> {
    Guard::new(shared, |largest| {
        ManagementServer::new(ManagementService(shared.clone()))
            .max_decoding_message_size(largest)
            .max_encoding_message_size(limits::GRPC_MESSAGE)
    })
}

/// Takes the caller that the guard has found out of the request.
///
/// # Errors
/// The request did not come through the guard.
pub fn caller<C: Caller, T>(request: &mut tonic::Request<T>) -> Result<C, Status> {
    let caller = request.extensions_mut().remove::<C>();
    caller.ok_or_else(|| Status::unauthenticated("nobody has looked at this request"))
}

impl<S, C, N: NamedService> NamedService for Guard<S, C, N> {
    const NAME: &'static str = N::NAME;
}

impl<S, C, N> Service<Request<Body>> for Guard<S, C, N>
where
    S: Store,
    C: Caller,
    N: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    N::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    /// The services behind are always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shape = Shape::of(request.uri().path());
        let mut service = match shape {
            Shape::Unary => self.unary.clone(),
            Shape::Report => self.report.clone(),
            Shape::Stream => self.stream.clone(),
        };
        let shared = self.shared.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let metadata = MetadataMap::from_headers(std::mem::take(&mut parts.headers));
            let peer = parts.extensions.get::<Peer>().cloned();
            let peer = peer.unwrap_or_else(Peer::unknown);
            let caller = match admit::<S, C>(&shared, &metadata, &peer).await {
                Ok(caller) => caller,
                Err(refusal) => {
                    peer.refuse();
                    note(&shared, parts.uri.path(), &peer, &refusal);
                    return Ok(Status::from(refusal).into_http());
                }
            };
            let most = shared.calls_per_credential;
            let call = match shape {
                // What a job has to say is said however much else is open.
                Shape::Report => None,
                Shape::Unary | Shape::Stream => match caller.live().call(most) {
                    Some(call) => Some(call),
                    None => {
                        shared.counters.refused(Code::ResourceExhausted);
                        return Ok(Status::from(busy(most)).into_http());
                    }
                },
            };
            let account = Account {
                own: caller.live().unsent().clone(),
                all: C::unsent(&shared).clone(),
                stall: shared.blobs.stall(),
                _call: call,
            };
            parts.extensions.insert(caller);
            parts.headers = metadata.into_headers();
            let body = match shape {
                Shape::Unary | Shape::Report => Body::new(shared.held.count(body)),
                Shape::Stream => body,
            };
            let answer = service.call(Request::from_parts(parts, body)).await?;
            Ok(answer::counted(answer, account))
        })
    }
}

fn busy(most: u32) -> Refusal {
    let message = format!(
        "{most} calls of this credential are open, which is the limit (--calls-per-credential)"
    );
    Refusal::capacity("TOO_MANY_CALLS", message)
        .hint("end some, or use a key or token for each part of the fleet")
}

async fn admit<S: Store, C: Caller>(
    shared: &Shared<S>,
    metadata: &MetadataMap,
    peer: &Peer,
) -> Result<C, Refusal> {
    let credential = metadata.get("authorization");
    let credential = credential.map_or(&[][..], |value| value.as_bytes());
    let (address, failures) = (peer.address(), &shared.failures);
    if let Err(limit) = failures.may_try(address, credential, Instant::now()) {
        shared.counters.refused(Code::ResourceExhausted);
        tracing::debug!(peer.address = %address, limit = %limit, "a caller is not looked up");
        let refusal = Refusal::capacity("TOO_MANY_FAILURES", limit.to_string());
        return Err(refusal.hint("wait a minute, and give a credential that is known"));
    }
    let found = C::authenticate(shared, metadata, peer).await;
    match &found {
        Ok(_) => {
            failures.good(credential);
            peer.introduce();
        }
        Err(refusal) => {
            shared.counters.refused(refusal.status());
            // Who shows nothing has guessed nothing, and the store was not asked.
            if refusal.status() == Code::Unauthenticated && !credential.is_empty() {
                failures.wrong(address, Instant::now());
                tracing::info!(peer.address = %address, "a wrong credential was refused");
            }
        }
    }
    found
}

/// Notes a wrong credential, and a good one where it does not count. Who shows nothing is
/// nobody's business, and what is over the limit of an address was not even looked at.
fn note<S: Store>(shared: &Shared<S>, path: &str, peer: &Peer, refusal: &Refusal) {
    let (organization, actor) = match refusal.who() {
        Some((organization, actor)) => (organization.clone(), actor.clone()),
        None if refusal.code() == "WRONG_CREDENTIAL" => (String::new(), Actor::Unknown),
        None => return,
    };
    let call = path.rsplit('/').next().unwrap_or_default();
    let act = Act {
        organization,
        actor,
        call: Cow::Owned(shown(call)),
        object: String::new(),
        peer: peer.exact().to_string(),
    };
    shared.refusals.add(act, refusal.code(), Instant::now());
}
