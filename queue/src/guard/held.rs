//! Bytes of unary requests that are held at once, which many callers could make many.
//!
//! A unary request is decoded when it is there whole, so it is held until then. Each is
//! counted as it comes, all together have a limit, and one that does not come to its end in
//! time is given up. Streams of requests are consumed message by message and not counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http_body::{Body as HttpBody, Frame};
use proto::{limits, timings};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

use crate::refusal::Refusal;

/// The count. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<AtomicU64>);

/// A body whose bytes are counted until it is dropped.
#[derive(Debug)]
pub struct Counted {
    body: Body,
    held: Held,
    own: u64,
    most: u64,
    deadline: Pin<Box<Sleep>>,
}

impl Held {
    /// Counts what comes of `body`.
    #[must_use]
    pub fn count(&self, body: Body) -> Counted {
        self.count_up_to(body, limits::REQUESTS_HELD)
    }

    fn count_up_to(&self, body: Body, most: u64) -> Counted {
        Counted {
            body,
            held: self.clone(),
            own: 0,
            most,
            deadline: Box::pin(tokio::time::sleep(timings::REQUEST)),
        }
    }

    /// Bytes now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counted {
    fn add(&mut self, bytes: u64) -> Result<(), Status> {
        self.own += bytes;
        let before = self.held.0.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= self.most {
            return Ok(());
        }
        let message = format!(
            "the queue holds {} bytes of requests, which is the limit",
            self.most
        );
        let refusal = Refusal::capacity("TOO_MANY_REQUESTS", message);
        Err(refusal.hint("try again in a moment").into())
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let added = this.add(bytes as u64);
                Poll::Ready(Some(added.map(|()| frame)))
            }
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => {
                if this.deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(Err(too_slow())));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.own, Ordering::Relaxed);
    }
}

fn too_slow() -> Status {
    let message = format!(
        "the request did not arrive within {} s, which is the limit",
        timings::REQUEST.as_secs()
    );
    Refusal::capacity("REQUEST_TOO_SLOW", message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(body: &mut Counted) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    /// One frame of so many bytes.
    fn body(bytes: usize) -> Body {
        struct Once(Option<Bytes>);
        impl HttpBody for Once {
            type Data = Bytes;
            type Error = Status;

            fn poll_frame(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
                Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
            }
        }
        Body::new(Once(Some(vec![7; bytes].into())))
    }

    #[tokio::test]
    async fn requests_over_the_limit_are_refused_until_others_are_gone() {
        let held = Held::default();
        let mut first = held.count_up_to(body(60), 100);
        next(&mut first).await.expect("a frame").expect("it fits");
        assert_eq!(held.bytes(), 60);
        let mut second = held.count_up_to(body(60), 100);
        let refused = next(&mut second).await.expect("a frame");
        let refused = refused.expect_err("over the limit");
        assert!(refused.message().contains("100 bytes"), "{refused:?}");
        drop((first, second));
        assert_eq!(held.bytes(), 0);
        let mut third = held.count_up_to(body(60), 100);
        next(&mut third).await.expect("a frame").expect("it fits");
    }
}
