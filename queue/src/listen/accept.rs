//! The accept loop of the gRPC port.
//!
//! ```text
//! accept ──▶ a place? ──▶ a turn of its address ──▶ TLS ──▶ HTTP/2 preface ──▶ the server
//!               │ no                                  └────── 10 s ──────┘
//!               ▼ closed                                        ▼ closed
//! ```
//!
//! Each connection has a task of its own up to the server, so that one that stands still
//! holds up nobody; the loop itself only accepts. It ends with the queue.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::conn::{Conn, Io, PREFACE, Peer};
use super::places::{Full, Place, Places};
use super::seldom::Seldom;
use super::tls::Certificates;

/// Connections that are ready and not yet taken by the server.
const READY: usize = 64;

/// Accepting fails when the process has no file left; only time brings one back.
const NO_FILES: Duration = Duration::from_millis(250);

/// Said to a browser or probe that came to the wrong port.
const WRONG_PORT: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
content-type: text/plain\r\nconnection: close\r\n\r\n\
this port speaks gRPC over HTTP/2; health and metrics have one of their own\n";

/// What guards the port. Clones share it.
#[derive(Debug, Clone)]
pub struct Door {
    /// How many may come in.
    pub places: Places,
    /// With TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// From a connection's turn to the end of its HTTP/2 preface.
    pub handshake: Duration,
    /// From there to its first good credential.
    pub introduction: Duration,
    /// Ends everything.
    pub stopping: CancellationToken,
}

/// Connections for the server.
pub type Incoming = ReceiverStream<Result<Conn, Infallible>>;

/// Accepts until the queue stops; the second part is the loop, to be spawned.
pub fn accept(listener: TcpListener, door: Door) -> (Incoming, impl Future<Output = ()>) {
    let (ready, incoming) = mpsc::channel(READY);
    let accepting = async move {
        let mut full = Seldom::default();
        let mut failing = Seldom::default();
        loop {
            // Both branches are cancel safe.
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = door.stopping.cancelled() => return,
            };
            match accepted {
                Ok((stream, from)) => match door.places.take(from.ip()) {
                    Ok(place) => enter(door.clone(), stream, from, place, ready.clone()),
                    Err(limit) => refuse(&mut full, from, limit),
                },
                Err(error) => {
                    if is_of_the_peer(&error) {
                        continue;
                    }
                    if let Some(times) = failing.again(Instant::now()) {
                        tracing::error!(error = %error, times, "connections cannot be accepted");
                    }
                    tokio::time::sleep(NO_FILES).await;
                }
            }
        }
    };
    (ReceiverStream::new(incoming), accepting)
}

/// Whether only the one connection broke.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

fn refuse(full: &mut Seldom, from: SocketAddr, limit: Full) {
    if let Some(times) = full.again(Instant::now()) {
        tracing::warn!(peer.address = %from.ip(), times, limit = %limit, "connections are refused");
    }
}

fn enter(
    door: Door,
    stream: TcpStream,
    from: SocketAddr,
    place: Place,
    ready: mpsc::Sender<Result<Conn, Infallible>>,
) {
    tokio::spawn(async move {
        let entered = tokio::select! {
            entered = door.enter(stream, from, place) => entered,
            () = door.stopping.cancelled() => return,
        };
        match entered {
            Ok(conn) => {
                let _stopping = ready.send(Ok(conn)).await;
            }
            Err(error) => {
                tracing::debug!(peer.address = %from, error = %error, "a connection did not come through");
            }
        }
    });
}

impl Door {
    async fn enter(&self, stream: TcpStream, from: SocketAddr, place: Place) -> io::Result<Conn> {
        let turns = Arc::clone(&place.turns);
        let turn = turns.acquire_owned().await;
        let shaken = tokio::time::timeout(self.handshake, self.shake(stream));
        let io = shaken.await.map_err(|_| io::ErrorKind::TimedOut)??;
        drop(turn);
        let peer = Peer::new(from.ip());
        Ok(Conn::new(io, peer, self.introduction, place))
    }

    async fn shake(&self, stream: TcpStream) -> io::Result<Io> {
        stream.set_nodelay(true)?;
        let mut io = match &self.certificates {
            Some(certificates) => {
                let acceptor = TlsAcceptor::from(certificates.current());
                Io::Tls(Box::new(acceptor.accept(stream).await?))
            }
            None => Io::Plain(stream),
        };
        preface(&mut io).await?;
        Ok(io)
    }
}

/// Reads the preface and not a byte more; leaves at the first byte that differs.
async fn preface(io: &mut Io) -> io::Result<()> {
    let mut read = [0; PREFACE.len()];
    let mut known = 0;
    while known < read.len() {
        let count = io.read(&mut read[known..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        known += count;
        if read[..known] != PREFACE[..known] {
            if read[..known].iter().all(u8::is_ascii) {
                io.write_all(WRONG_PORT).await?;
                io.shutdown().await?;
            }
            return Err(io::Error::other("it does not speak HTTP/2"));
        }
    }
    Ok(())
}
