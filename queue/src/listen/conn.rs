//! One connection of the gRPC port that is through its handshake and has shown that its
//! peer speaks HTTP/2. It holds its place until it is dropped, and it ends by itself when no
//! good credential came over it in time, or when too many calls without one did.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use proto::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::places::{Place, canonical};

/// What each HTTP/2 client sends first (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whose connection a request came over; in the request's extensions.
#[derive(Debug, Clone)]
pub struct Peer {
    address: IpAddr,
    exact: IpAddr,
    shown: Arc<Shown>,
}

/// What a connection has shown of its peer.
#[derive(Debug, Default)]
struct Shown {
    introduced: AtomicBool,
    /// Calls that were refused.
    refused: AtomicU32,
}

/// Nobody who may call anything goes on like this.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} calls over this connection were refused before a good credential came, \
     which is the limit",
    limits::CALLS_OF_STRANGERS
)]
struct Stranger;

impl Peer {
    /// A peer that has shown no credential.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self {
            address: canonical(address),
            exact: address,
            shown: Arc::default(),
        }
    }

    /// A peer of a connection that did not come in by the door.
    #[must_use]
    pub fn unknown() -> Self {
        Self::new(std::net::Ipv6Addr::UNSPECIFIED.into())
    }

    /// Its address, as far as peers are told apart.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its whole address, for people to read.
    #[must_use]
    pub fn exact(&self) -> IpAddr {
        self.exact.to_canonical()
    }

    /// A good credential came over the connection.
    pub fn introduce(&self) {
        // Most calls find it done; a store would move the cache line between cores.
        if !self.shown.introduced.load(Ordering::Relaxed) {
            self.shown.introduced.store(true, Ordering::Relaxed);
        }
    }

    /// A call over the connection was refused for its credential.
    pub fn refuse(&self) {
        self.shown.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Bytes with or without TLS.
#[derive(Debug)]
pub enum Io {
    /// Without.
    Plain(TcpStream),
    /// With.
    Tls(Box<TlsStream<TcpStream>>),
}

/// See the module.
#[derive(Debug)]
pub struct Conn {
    io: Io,
    peer: Peer,
    /// Bytes of the preface that are given to the server again.
    replayed: usize,
    /// Until the peer has introduced itself.
    deadline: Option<Pin<Box<Sleep>>>,
    gathering: Gathering,
    _place: Place,
}

/// What is written waits for one turn of the scheduler: frames of other streams whose tasks
/// were woken with this one's then travel in the same TLS record and the same system call,
/// which cost more than all else about a small frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gathering {
    /// The next bytes wait.
    Due,
    /// They have; so has all that follows until it is flushed.
    Done,
}

impl Conn {
    /// A connection whose preface was read.
    #[must_use]
    pub fn new(io: Io, peer: Peer, introduction: Duration, place: Place) -> Self {
        Self {
            io,
            peer,
            replayed: 0,
            deadline: Some(Box::pin(tokio::time::sleep(introduction))),
            gathering: Gathering::Due,
            _place: place,
        }
    }

    fn gather(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.gathering == Gathering::Done {
            return Poll::Ready(());
        }
        self.gathering = Gathering::Done;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(deadline) = &mut self.deadline else {
            return Ok(());
        };
        let shown = &self.peer.shown;
        if shown.introduced.load(Ordering::Relaxed) {
            self.deadline = None;
        } else if shown.refused.load(Ordering::Relaxed) > limits::CALLS_OF_STRANGERS {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, Stranger));
        } else if deadline.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Connected for Conn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &PREFACE[this.replayed..];
        if !rest.is_empty() {
            let taken = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..taken]);
            this.replayed += taken;
            return Poll::Ready(Ok(()));
        }
        this.in_time(cx)?;
        Pin::new(&mut this.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.gather(cx));
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        if flushed.is_ready() {
            this.gathering = Gathering::Due;
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.gather(cx));
        Pin::new(&mut this.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bytes),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::listen::places::{Most, Places};

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn what_is_written_waits_one_turn_and_then_goes_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut peer = TcpStream::connect(address).await.expect("a connection");
        let (accepted, from) = listener.accept().await.expect("a peer");
        let places = Places::new(Most {
            connections: 1,
            per_address: 1,
            handshakes: 1,
        });
        let place = places.take(from.ip()).expect("a place");
        let long = Duration::from_secs(60);
        let mut conn = Conn::new(Io::Plain(accepted), Peer::new(from.ip()), long, place);
        let woken = Arc::new(Woken::default());
        let waker = std::task::Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        for turn in 1..=2 {
            let mut write = |bytes: &[u8]| Pin::new(&mut conn).poll_write(&mut cx, bytes);
            assert!(write(b"first").is_pending());
            assert_eq!(woken.0.load(Ordering::SeqCst), turn, "it is polled again");
            assert!(matches!(write(b"first"), Poll::Ready(Ok(5))));
            // What follows before the flush does not wait again.
            assert!(matches!(write(b" more"), Poll::Ready(Ok(5))));
            assert!(matches!(
                Pin::new(&mut conn).poll_flush(&mut cx),
                Poll::Ready(Ok(()))
            ));
            let mut bytes = [0; 10];
            peer.read_exact(&mut bytes).await.expect("bytes");
            assert_eq!(&bytes, b"first more");
        }
    }
}
