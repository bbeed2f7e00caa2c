//! What a large answer holds until its peer has taken it: its own bytes, and the place
//! that it was made in. A peer that does not take it in time has neither any more, and an
//! answer that is cut.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body as HttpBody, Frame};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::Response;

use crate::blobs::{Error, Place};

/// Bytes that are given to a connection at once: what it has it sends when its peer likes.
const PIECE: usize = 16 * 1024;

/// Stands in the extensions of an answer; see the module.
#[derive(Debug, Clone)]
pub struct Lent {
    _place: Arc<Place>,
    time: Duration,
}

impl Lent {
    /// A place to be given back when the answer is sent, or after this time.
    #[must_use]
    pub fn until_sent(place: Place, time: Duration) -> Self {
        Self {
            _place: Arc::new(place),
            time,
        }
    }
}

/// The answer, which holds what it was lent.
pub fn kept(mut answer: Response<Body>) -> Response<Body> {
    let Some(lent) = answer.extensions_mut().remove::<Lent>() else {
        return answer;
    };
    let (head, body) = answer.into_parts();
    Response::from_parts(head, Body::new(Kept::new(body, lent)))
}

struct Kept {
    sends: Arc<Mutex<Option<Sends>>>,
    time: Duration,
    _sent: DropGuard,
}

/// What is left to be sent.
struct Sends {
    body: Body,
    rest: Bytes,
    _lent: Lent,
}

impl Kept {
    fn new(body: Body, lent: Lent) -> Self {
        let time = lent.time;
        let sends = Arc::new(Mutex::new(Some(Sends {
            body,
            rest: Bytes::new(),
            _lent: lent,
        })));
        let sent = CancellationToken::new();
        let (over, left) = (sent.clone(), Arc::clone(&sends));
        tokio::spawn(async move {
            tokio::select! {
                () = over.cancelled() => {}
                () = tokio::time::sleep(time) => drop(lock(&left).take()),
            }
        });
        Self {
            sends,
            time,
            _sent: sent.drop_guard(),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(lock(&self.sends).take());
    }
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let stall = self.time;
        let mut sends = lock(&self.sends);
        let Some(sends) = sends.as_mut() else {
            return Poll::Ready(Some(Err(Error::Stalled { stall }.into())));
        };
        if sends.rest.is_empty() {
            match Pin::new(&mut sends.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => sends.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return ended,
            }
        }
        let piece = sends.rest.split_to(sends.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

fn lock(sends: &Mutex<Option<Sends>>) -> MutexGuard<'_, Option<Sends>> {
    // A poll that panicked leaves an answer that is not sent any more.
    sends.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::{Caller, Places};

    const SIZE: usize = 100_000;

    async fn answer(time: Duration) -> (Body, Places) {
        let places = Places::default();
        let place = places.take(Caller::Queue).await;
        let mut answer = Response::new(Body::new("7".repeat(SIZE)));
        answer
            .extensions_mut()
            .insert(Lent::until_sent(place, time));
        (kept(answer).into_body(), places)
    }

    async fn next(body: &mut Body) -> Option<Result<Bytes, Status>> {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        Some(frame.map(|frame| frame.into_data().expect("data")))
    }

    #[tokio::test]
    async fn an_answer_that_is_taken_gives_its_place_back() {
        let (mut body, places) = answer(Duration::from_secs(60)).await;
        assert_eq!(places.taken(), 1);
        let mut whole = Vec::new();
        while let Some(piece) = next(&mut body).await {
            let piece = piece.expect("in time");
            assert!(piece.len() <= PIECE);
            whole.extend_from_slice(&piece);
        }
        assert_eq!(whole, "7".repeat(SIZE).into_bytes());
        drop(body);
        assert_eq!(places.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_taken_is_cut() {
        let (mut body, places) = answer(Duration::from_secs(60)).await;
        next(&mut body).await.expect("a piece").expect("in time");
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(places.taken(), 0, "although its peer has the connection");
        let cut = next(&mut body).await.expect("an end").expect_err("slow");
        assert!(cut.message().contains("moved less"), "{cut:?}");
    }
}
