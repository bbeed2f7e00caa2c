//! Bytes of unary requests that are held at once, which many callers could make many.
//!
//! A unary request is decoded when it is there whole, so it is held until then. Each is
//! counted as it comes, all together have a limit, and one that does not come to its end in
//! time is given up. Streams of requests are consumed message by message and not counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

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
    time: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl Held {
    /// Counts what comes of `body`.
    #[must_use]
    pub fn count(&self, body: Body) -> Counted {
        self.count_within(body, limits::REQUESTS_HELD, timings::REQUEST)
    }

    fn count_within(&self, body: Body, most: u64, time: Duration) -> Counted {
        Counted {
            body,
            held: self.clone(),
            own: 0,
            most,
            time,
            deadline: Box::pin(tokio::time::sleep(time)),
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
                    return Poll::Ready(Some(Err(too_slow(this.time))));
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

fn too_slow(time: Duration) -> Status {
    let message = format!(
        "the request did not arrive within {} s, which is the limit",
        time.as_secs()
    );
    Refusal::capacity("REQUEST_TOO_SLOW", message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(body: &mut Counted) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    /// One frame of so many bytes, then nothing more.
    struct Once(Option<Bytes>);

    impl HttpBody for Once {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => Poll::Pending,
            }
        }
    }

    fn body(bytes: usize) -> Body {
        Body::new(Once(Some(vec![7; bytes].into())))
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_is_given_up() {
        let held = Held::default();
        let mut slow = held.count_within(body(60), 100, Duration::from_millis(20));
        next(&mut slow).await.expect("a frame").expect("in time");
        let refused = next(&mut slow).await.expect("an end").expect_err("slow");
        assert!(
            refused.message().contains("did not arrive within"),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn requests_over_the_limit_are_refused_until_others_are_gone() {
        let held = Held::default();
        let mut first = held.count_within(body(60), 100, timings::REQUEST);
        next(&mut first).await.expect("a frame").expect("it fits");
        assert_eq!(held.bytes(), 60);
        let mut second = held.count_within(body(60), 100, timings::REQUEST);
        let refused = next(&mut second).await.expect("a frame");
        let refused = refused.expect_err("over the limit");
        assert!(refused.message().contains("100 bytes"), "{refused:?}");
        drop((first, second));
        assert_eq!(held.bytes(), 0);
        let mut third = held.count_within(body(60), 100, timings::REQUEST);
        next(&mut third).await.expect("a frame").expect("it fits");
    }
}
