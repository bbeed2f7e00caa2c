//! The second port of queue and daemon: plain HTTP for machines that watch them. It serves
//! a few connections at once and none for long that stands still, so that whoever reaches
//! it cannot use up the process.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::serve::Listener;
use proto::{limits, timings};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::listen::Seldom;
use crate::listen::places::{Most, Place, Places};

/// What is being answered when the process ends has this time.
const DRAIN: Duration = Duration::from_secs(1);

/// Accepting fails when the process has no file left; only time brings one back.
const NO_FILES: Duration = Duration::from_millis(250);

/// Serves until `stopping`.
pub async fn serve(listener: TcpListener, router: Router, stopping: CancellationToken) {
    let most = Most {
        connections: limits::HTTP_CONNECTIONS,
        per_address: limits::HTTP_CONNECTIONS_PER_ADDRESS,
        handshakes: 1,
    };
    let bounded = Bounded {
        listener,
        places: Places::new(most),
        full: Seldom::default(),
        idle: timings::HTTP_IDLE,
    };
    let stop = stopping.clone();
    let serving = axum::serve(bounded, router)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .into_future();
    // Half a request never ends by itself.
    let over = async {
        stopping.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => if let Err(error) = served {
            tracing::error!(error = %error, "the HTTP port ended");
        },
        () = over => {}
    }
}

struct Bounded {
    listener: TcpListener,
    places: Places,
    full: Seldom,
    idle: Duration,
}

impl Listener for Bounded {
    type Io = Watched;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Watched, SocketAddr) {
        loop {
            let (stream, from) = match TcpListener::accept(&self.listener).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(times) = self.full.again(Instant::now()) {
                        tracing::warn!(error = %error, times, "the HTTP port cannot accept");
                    }
                    tokio::time::sleep(NO_FILES).await;
                    continue;
                }
            };
            match self.places.take(from.ip()) {
                Ok(place) => return (Watched::new(stream, self.idle, place), from),
                Err(limit) => {
                    if let Some(times) = self.full.again(Instant::now()) {
                        tracing::warn!(
                            peer.address = %from.ip(), times,
                            limit.all = limits::HTTP_CONNECTIONS,
                            limit.per_address = limits::HTTP_CONNECTIONS_PER_ADDRESS,
                            limit = %limit,
                            "connections to the HTTP port are refused"
                        );
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that breaks when nothing has moved for a while.
struct Watched {
    stream: TcpStream,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
    _place: Place,
}

impl Watched {
    fn new(stream: TcpStream, idle: Duration, place: Place) -> Self {
        Self {
            stream,
            idle,
            deadline: Box::pin(tokio::time::sleep(idle)),
            _place: place,
        }
    }

    /// Passes on what moved; breaks what did not for too long.
    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        moved: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match moved {
            Poll::Ready(moved) => {
                let next = tokio::time::Instant::now() + self.idle;
                self.deadline.as_mut().reset(next);
                Poll::Ready(moved)
            }
            Poll::Pending if self.deadline.as_mut().poll(cx).is_ready() => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let moved = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.judge(cx, moved)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let moved = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.judge(cx, moved)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
