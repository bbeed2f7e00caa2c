//! Frames between daemon and worker and from worker to supervisor, on inherited stream
//! sockets, for processes that have a runtime. The supervisor has none and reads its
//! frames itself.

use std::io;
use std::marker::PhantomData;

use prost::Message;
use proto::frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes asked of the socket at once.
const READ: usize = 64 * 1024;

/// The link is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket failed.
    #[error("the link broke")]
    Io(#[from] io::Error),
    /// The peer sent no frame of the expected kind.
    #[error("the peer sent a bad frame")]
    Frame(#[from] frame::Error),
    /// The peer went away inside a frame.
    #[error("the link ended inside a frame, {pending} bytes of it had arrived")]
    Torn {
        /// Bytes of the unfinished frame.
        pending: usize,
    },
    /// Refused here, since the peer would give up the link over it.
    #[error("a frame of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Encoded size.
        size: usize,
        /// What the peer accepts.
        limit: usize,
    },
}

/// Both directions of a link whose frames hold at most `limit` bytes.
#[must_use]
pub fn split<In, Out>(stream: UnixStream, limit: usize) -> (Receiver<In>, Sender<Out>) {
    let (read, write) = stream.into_split();
    let receiver = Receiver {
        stream: read,
        decoder: frame::Decoder::new(limit),
        frames: PhantomData,
    };
    let sender = Sender {
        stream: write,
        buffer: Vec::new(),
        limit,
        frames: PhantomData,
    };
    (receiver, sender)
}

/// The frames that arrive.
#[derive(Debug)]
pub struct Receiver<In> {
    stream: OwnedReadHalf,
    decoder: frame::Decoder,
    frames: PhantomData<fn() -> In>,
}

impl<In: Message + Default> Receiver<In> {
    /// The next frame, `None` when the peer closed the link. Cancel safe: bytes that
    /// were read stay for the next call.
    ///
    /// # Errors
    /// The socket failed, or the peer sent something else; the link is then of no use.
    pub async fn next(&mut self) -> Result<Option<In>, Error> {
        loop {
            if let Some(message) = self.decoder.take()? {
                return Ok(Some(message));
            }
            let mut bytes = Vec::with_capacity(READ);
            match self.stream.read_buf(&mut bytes).await {
                Ok(0) if self.decoder.pending() == 0 => return Ok(None),
                Ok(0) => {
                    return Err(Error::Torn {
                        pending: self.decoder.pending(),
                    });
                }
                Ok(_) => self.decoder.push(&bytes),
                // Frames of a peer that died unread on its side: closed, not broken.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The frames that leave. Dropping it closes this direction.
#[derive(Debug)]
pub struct Sender<Out> {
    stream: OwnedWriteHalf,
    buffer: Vec<u8>,
    limit: usize,
    frames: PhantomData<fn(&Out)>,
}

impl<Out: Message> Sender<Out> {
    /// Writes one frame. Not cancel safe: a call that is dropped half way leaves a torn
    /// frame on the wire.
    ///
    /// # Errors
    /// The frame is too large, or the socket failed.
    pub async fn send(&mut self, message: &Out) -> Result<(), Error> {
        let size = message.encoded_len();
        if size > self.limit {
            return Err(Error::TooLarge {
                size,
                limit: self.limit,
            });
        }
        self.buffer.clear();
        frame::encode(message, &mut self.buffer);
        self.stream.write_all(&self.buffer).await?;
        // One outcome of 40 MiB must not stay in memory for the life of the link.
        self.buffer.shrink_to(READ);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{Credit, LogLine};

    fn pair(limit: usize) -> (Receiver<LogLine>, Sender<LogLine>) {
        let (left, right) = UnixStream::pair().expect("pair");
        let (receiver, _) = split::<LogLine, Credit>(left, limit);
        let (_, sender) = split::<Credit, LogLine>(right, limit);
        (receiver, sender)
    }

    fn line(bytes: usize) -> LogLine {
        LogLine {
            text: "x".repeat(bytes),
            ..LogLine::default()
        }
    }

    #[tokio::test]
    async fn frames_of_any_size_arrive_in_order_and_then_the_end() {
        let (mut receiver, mut sender) = pair(8 * 1024 * 1024);
        let sizes = [1, 5_000_000, 3];
        let sending = tokio::spawn(async move {
            for size in sizes {
                sender.send(&line(size)).await.expect("send");
            }
        });
        for size in sizes {
            let line = receiver.next().await.expect("frame").expect("line");
            assert_eq!(line.text.len(), size);
        }
        sending.await.expect("sender");
        assert!(receiver.next().await.expect("end").is_none());
    }

    #[tokio::test]
    async fn a_dropped_next_loses_no_bytes() {
        let (left, mut right) = UnixStream::pair().expect("pair");
        let (mut receiver, _sender) = split::<LogLine, Credit>(left, 1024);
        let mut wire = Vec::new();
        frame::encode(&line(100), &mut wire);
        for piece in wire.chunks(7) {
            right.write_all(piece).await.expect("write");
            let polled = tokio::time::timeout(std::time::Duration::ZERO, receiver.next()).await;
            if let Ok(arrived) = polled {
                assert_eq!(arrived.expect("frame"), Some(line(100)));
                return;
            }
        }
        assert_eq!(receiver.next().await.expect("frame"), Some(line(100)));
    }

    #[tokio::test]
    async fn an_oversized_frame_is_refused_on_both_sides() {
        let (mut receiver, mut sender) = pair(100);
        let error = sender.send(&line(200)).await.expect_err("too large");
        assert!(error.to_string().contains("limit of 100"), "{error}");
        sender.limit = 1_000;
        sender.send(&line(200)).await.expect("send");
        assert!(matches!(receiver.next().await, Err(Error::Frame(_))));
    }

    #[tokio::test]
    async fn an_end_inside_a_frame_is_told_from_a_clean_one() {
        let (left, mut right) = UnixStream::pair().expect("pair");
        let (mut receiver, _sender) = split::<LogLine, Credit>(left, 1024);
        let mut wire = Vec::new();
        frame::encode(&line(100), &mut wire);
        right.write_all(&wire[..50]).await.expect("write");
        drop(right);
        let error = receiver.next().await.expect_err("torn");
        assert!(matches!(error, Error::Torn { pending: 50 }), "{error}");
    }
}
