//! Answers on their way to peers that take them when they like.
//!
//! What a connection is given it keeps until its peer makes room. So every message is counted
//! from when it is made until its last byte is written: for the credential that asked, and a
//! large one for all too. One that finds no room is refused instead. A large one is given to
//! the connection in pieces, each a copy, so that what is left of it can be cut when it is
//! taken too slowly.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body as HttpBody, Frame};
use proto::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::{HeaderMap, Response};

use crate::blobs::{Error, Place};
use crate::credentials::Call;
use crate::refusal::Refusal;

/// Bytes that are given to a connection at once. A message of more is a large one.
const PIECE: usize = 16 * 1024;

/// The unit of the counts.
const KIB: u64 = 1024;

/// Bytes of messages that are not written yet. Clones share the count.
#[derive(Debug, Clone)]
pub struct Unsent {
    room: Arc<Semaphore>,
    most: u64,
}

/// A place that an answer was made in, which is free again when its connection has all of that,
/// or when it was cut. Stands in the extensions of the answer.
#[derive(Debug, Clone)]
pub struct Lent {
    _place: Arc<Place>,
}

/// Where the bytes of one answer count, and how long they may take.
#[derive(Debug)]
pub struct Account {
    /// Of the credential that asked.
    pub own: Unsent,
    /// Of all that ask this service, where large ones count too.
    pub all: Unsent,
    /// The time in which a peer must take [`limits::TRANSFER_PACE`] of it.
    pub stall: Duration,
    /// Open until the answer is taken or given up.
    pub _call: Option<Call>,
}

/// The answer, whose messages are counted.
pub fn counted(mut answer: Response<Body>, account: Account) -> Response<Body> {
    let lent = answer.extensions_mut().remove::<Lent>();
    answer.map(|body| match body.is_end_stream() {
        true => body,
        false => Body::new(Answer {
            account,
            lent,
            state: State::Next(body),
        }),
    })
}

impl Unsent {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self {
            room: Arc::new(Semaphore::new(kibibytes(most) as usize)),
            most,
        }
    }

    /// Bytes now, to the next KiB.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.most - self.room.available_permits() as u64 * KIB
    }

    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.room);
        room.try_acquire_many_owned(kibibytes(bytes as u64)).ok()
    }
}

fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX)
}

impl From<Place> for Lent {
    fn from(place: Place) -> Self {
        Self {
            _place: Arc::new(place),
        }
    }
}

impl Account {
    fn take(&self, bytes: usize) -> Result<Counts, Refusal> {
        let full = |whose: &str, count: &Unsent| {
            let most = count.most;
            let message =
                format!("{most} bytes of answers to {whose} wait to be read, which is the limit");
            Refusal::capacity("TOO_MANY_ANSWERS", message)
                .hint("read the answers to open calls, or end those; then try again")
        };
        let own = self.own.take(bytes);
        let own = own.ok_or_else(|| full("who has this credential", &self.own))?;
        if bytes <= PIECE {
            return Ok(Counts { own, all: None });
        }
        let all = self.all.take(bytes);
        let all = all.ok_or_else(|| full("everybody", &self.all))?;
        Ok(Counts {
            own,
            all: Some(all),
        })
    }

    fn time(&self, bytes: usize) -> Duration {
        let paces = (bytes as u64).div_ceil(limits::TRANSFER_PACE).max(1);
        self.stall * u32::try_from(paces).unwrap_or(u32::MAX)
    }
}

struct Answer {
    account: Account,
    lent: Option<Lent>,
    state: State,
}

enum State {
    /// No message is in hand.
    Next(Body),
    Large(Large),
    Ended,
}

/// A message that is taken piece by piece.
struct Large {
    left: Arc<Mutex<Option<Left>>>,
    _taken: DropGuard,
}

/// What is left of it, and the answer behind it.
struct Left {
    bytes: Bytes,
    counts: Counts,
    _lent: Option<Lent>,
    body: Body,
}

/// What some bytes take until they are written.
struct Counts {
    own: OwnedSemaphorePermit,
    all: Option<OwnedSemaphorePermit>,
}

/// Bytes of their own, and what they take.
struct Piece {
    bytes: Box<[u8]>,
    _counts: Option<Counts>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Piece {
    /// A copy: the connection that holds it holds nothing else.
    fn of(bytes: &[u8], counts: Option<Counts>) -> Bytes {
        Bytes::from_owner(Self {
            bytes: bytes.into(),
            _counts: counts,
        })
    }
}

impl Counts {
    /// The part that some of the bytes take.
    fn split(&mut self, bytes: usize) -> Option<Self> {
        let units = kibibytes(bytes as u64) as usize;
        Some(Self {
            own: self.own.split(units)?,
            all: self.all.as_mut().and_then(|all| all.split(units)),
        })
    }
}

type Polled = Option<Result<Frame<Bytes>, Status>>;

impl Answer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if let State::Next(body) = &mut self.state {
            let frame = match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                ended => return Poll::Ready(ended),
            };
            let bytes = match frame.into_data() {
                Ok(bytes) => bytes,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            let lent = self.lent.take();
            let counts = match self.account.take(bytes.len()) {
                Ok(counts) => counts,
                Err(refusal) => {
                    self.state = State::Ended;
                    return Poll::Ready(Some(last_word(&refusal.into())));
                }
            };
            if bytes.len() <= PIECE {
                let piece = Piece::of(&bytes, Some(counts));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let time = self.account.time(bytes.len());
            if let State::Next(body) = std::mem::replace(&mut self.state, State::Ended) {
                let left = Left {
                    bytes,
                    counts,
                    _lent: lent,
                    body,
                };
                self.state = State::Large(Large::new(left, time));
            }
        }
        let State::Large(large) = &self.state else {
            return Poll::Ready(None);
        };
        match large.piece() {
            Some((piece, None)) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            Some((piece, Some(body))) => {
                self.state = State::Next(body);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            None => {
                self.state = State::Ended;
                let stall = self.account.stall;
                Poll::Ready(Some(Err(Error::Stalled { stall }.into())))
            }
        }
    }
}

/// What ends an answer of which no message is under way.
fn last_word(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        self.get_mut().poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Next(body) => body.is_end_stream(),
            State::Large(_) => false,
            State::Ended => true,
        }
    }
}

impl Large {
    fn new(left: Left, time: Duration) -> Self {
        let left = Arc::new(Mutex::new(Some(left)));
        let taken = CancellationToken::new();
        let (over, late) = (taken.clone(), Arc::clone(&left));
        // While the peer makes no room nobody asks for the next piece.
        tokio::spawn(async move {
            tokio::select! {
                () = over.cancelled() => {}
                () = tokio::time::sleep(time) => drop(lock(&late).take()),
            }
        });
        Self {
            left,
            _taken: taken.drop_guard(),
        }
    }

    /// The next piece, with the last one what follows the message; none when it was cut.
    fn piece(&self) -> Option<(Bytes, Option<Body>)> {
        let mut held = lock(&self.left);
        let left = held.as_mut()?;
        if left.bytes.len() > PIECE {
            let counts = left.counts.split(PIECE);
            let piece = Piece::of(&left.bytes.split_to(PIECE), counts);
            return Some((piece, None));
        }
        let left = held.take()?;
        let piece = Piece::of(&left.bytes, Some(left.counts));
        Some((piece, Some(left.body)))
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        drop(lock(&self.left).take());
    }
}

fn lock(left: &Mutex<Option<Left>>) -> MutexGuard<'_, Option<Left>> {
    // A poll that panicked leaves an answer that is not sent any more.
    left.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::blobs::{Caller, Places};

    const SIZE: usize = 100_000;
    /// Of the same in whole KiB.
    const COUNTED: u64 = 98 * 1024;

    fn account() -> Account {
        of(&Unsent::new(150 * KIB), &Unsent::new(250 * KIB))
    }

    fn of(own: &Unsent, all: &Unsent) -> Account {
        Account {
            own: own.clone(),
            all: all.clone(),
            stall: Duration::from_secs(60),
            _call: None,
        }
    }

    fn counts(account: &Account) -> [u64; 2] {
        [account.own.bytes(), account.all.bytes()]
    }

    /// An answer of this size, made in a place where one is given.
    fn answer(size: usize, account: &Account, place: Option<Place>) -> Body {
        message("7".repeat(size).into(), account, place)
    }

    fn message(message: Bytes, account: &Account, place: Option<Place>) -> Body {
        let mut answer = Response::new(Body::new(Once(Some(message))));
        if let Some(place) = place {
            answer.extensions_mut().insert(Lent::from(place));
        }
        counted(answer, of(&account.own, &account.all)).into_body()
    }

    /// A body of one message.
    struct Once(Option<Bytes>);

    impl HttpBody for Once {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Polled> {
            Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    async fn frame(body: &mut Body) -> Polled {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    async fn data(body: &mut Body) -> Option<Bytes> {
        let frame = frame(body).await?.expect("in time");
        Some(frame.into_data().expect("data"))
    }

    #[tokio::test]
    async fn a_large_message_comes_in_pieces_and_counts_until_each_is_gone() {
        let account = account();
        let mut body = answer(SIZE, &account, None);
        let mut pieces = Vec::new();
        while let Some(piece) = data(&mut body).await {
            assert!(piece.len() <= PIECE);
            pieces.push(piece);
            assert_eq!(counts(&account), [COUNTED; 2], "whatever was taken over");
        }
        assert_eq!(pieces.concat(), "7".repeat(SIZE).into_bytes());
        drop(body);
        for left in [82, 66, 50, 34, 18, 2, 0] {
            pieces.remove(0);
            assert_eq!(counts(&account), [left * KIB; 2]);
        }
    }

    #[tokio::test]
    async fn a_small_one_counts_for_its_credential() {
        let account = account();
        let mut body = answer(PIECE, &account, None);
        let piece = data(&mut body).await.expect("all");
        assert_eq!(counts(&account), [16 * KIB, 0]);
        assert!(frame(&mut body).await.is_none());
        drop(piece);
        assert_eq!(counts(&account), [0; 2]);
    }

    async fn is_refused(mut body: Body, limit: &str) {
        let trailers = frame(&mut body).await.expect("a word").expect("no error");
        let trailers = trailers.into_trailers().expect("the last word");
        let status = Status::from_header_map(&trailers).expect("a status");
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(status.message().contains(limit), "{status:?}");
        assert!(frame(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn what_a_credential_leaves_unread_is_limited_and_so_is_what_all_do() {
        let one = account();
        let another = || of(&account().own, &one.all);
        let mut first = answer(SIZE, &one, None);
        data(&mut first).await.expect("a piece");
        is_refused(answer(SIZE, &one, None), "153600 bytes").await;
        let mut second = answer(SIZE, &another(), None);
        data(&mut second).await.expect("a piece");
        is_refused(answer(SIZE, &another(), None), "256000 bytes").await;
        let mut small = answer(PIECE, &another(), None);
        data(&mut small).await.expect("others are answered");
        drop((first, second));
        assert_eq!(counts(&one), [0; 2]);
        let mut again = answer(SIZE, &one, None);
        data(&mut again).await.expect("there is room");
    }

    #[tokio::test]
    async fn an_answer_gives_its_place_back_with_its_last_piece() {
        for (size, pieces) in [(SIZE, 7), (1, 1)] {
            let (account, places) = (account(), Places::default());
            let place = places.take(Caller::Queue).await;
            let mut body = answer(size, &account, Some(place));
            for left in (0..pieces).rev() {
                assert_eq!(places.taken(), 1, "{left} to come");
                data(&mut body).await.expect("a piece");
            }
            assert_eq!(places.taken(), 0, "although it has not ended");
        }
    }

    /// Bytes that tell when nobody holds them.
    struct Watched(Vec<u8>, Arc<AtomicBool>);

    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            self.1.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_taken_is_cut_and_nothing_of_it_is_held_but_a_piece() {
        let (account, gone) = (account(), Arc::new(AtomicBool::new(false)));
        let places = Places::default();
        let place = places.take(Caller::Queue).await;
        let bytes = Bytes::from_owner(Watched(vec![7; SIZE], Arc::clone(&gone)));
        let mut body = message(bytes, &account, Some(place));
        let piece = data(&mut body).await.expect("a piece");
        assert!(!gone.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert!(gone.load(Ordering::Relaxed), "although a piece is there");
        assert_eq!(places.taken(), 0, "although its peer has the connection");
        assert_eq!(counts(&account), [16 * KIB; 2]);
        let cut = frame(&mut body).await.expect("an end").expect_err("slow");
        assert!(cut.message().contains("moved less"), "{cut:?}");
        assert!(frame(&mut body).await.is_none());
        drop(piece);
        assert_eq!(counts(&account), [0; 2]);
    }

    #[test]
    fn a_larger_one_has_more_time() {
        let account = account();
        let minutes = |bytes| account.time(bytes).as_secs() / 60;
        assert_eq!([0, 1, 256 << 10, 64 << 20].map(minutes), [1, 1, 1, 256]);
    }
}
