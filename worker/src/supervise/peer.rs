//! Frames to and from one peer of a process without a runtime: sockets that never block.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use prost::Message;
use proto::frame::{self, Decoder};
use proto::limits;

/// Bytes read per turn of the loop: a peer that floods does not starve the others.
const READ: usize = 64 * 1024;

/// A peer that lets this much lie unread is taken for lost. Its answers are small: this
/// is thousands of them.
const BACKLOG: usize = 4 * limits::SUPERVISOR_FRAME;

/// Why a peer is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Gone {
    #[error("it closed its end")]
    Closed,
    #[error("it reads nothing: {0} bytes wait for it")]
    Stuck(usize),
    #[error("its socket failed")]
    Io(#[from] io::Error),
    #[error("it sent a bad frame")]
    Frame(#[from] frame::Error),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peer<In> {
    stream: UnixStream,
    decoder: Decoder,
    unsent: VecDeque<u8>,
    frames: PhantomData<fn() -> In>,
}

impl<In: Message + Default> Peer<In> {
    /// Takes the socket over.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            decoder: Decoder::new(limits::SUPERVISOR_FRAME),
            unsent: VecDeque::new(),
            frames: PhantomData,
        })
    }

    /// What has arrived, and whether that was the last. Whole frames before an end or an
    /// error still count.
    pub(super) fn receive(&mut self) -> (Vec<In>, Result<(), Gone>) {
        let read = self.read();
        let mut frames = Vec::new();
        loop {
            match self.decoder.take_exact() {
                Ok(Some(message)) => frames.push(message),
                Ok(None) => return (frames, read),
                Err(error) => return (frames, Err(error.into())),
            }
        }
    }

    fn read(&mut self) -> Result<(), Gone> {
        let mut bytes = vec![0; READ];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(Gone::Closed),
            Ok(count) => {
                self.decoder.push(&bytes[..count]);
                Ok(())
            }
            Err(error) if transient(&error) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Gone::Closed),
            Err(error) => Err(error.into()),
        }
    }

    /// Queues one frame and sends what goes at once.
    pub(super) fn send(&mut self, message: &impl Message) -> Result<(), Gone> {
        let mut bytes = Vec::new();
        frame::encode(message, &mut bytes);
        self.unsent.extend(bytes);
        self.flush()?;
        if self.unsent.len() > BACKLOG {
            return Err(Gone::Stuck(self.unsent.len()));
        }
        Ok(())
    }

    /// Sends what goes without blocking.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent.as_slices().0) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if transient(&error) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(Gone::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends everything, waiting at most `patience` for each piece.
    pub(super) fn drain(&mut self, patience: Duration) -> Result<(), Gone> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(patience))?;
        self.flush()
    }

    /// Whether the loop must wait for room as well.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }
}

impl<In> AsFd for Peer<In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use proto::v1::{Heartbeat, ToSupervisorFromWorker, to_supervisor_from_worker::Message as M};

    use super::*;

    fn heartbeat() -> ToSupervisorFromWorker {
        ToSupervisorFromWorker {
            message: Some(M::Heartbeat(Heartbeat {})),
        }
    }

    fn pair() -> (Peer<ToSupervisorFromWorker>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        (Peer::new(ours).expect("peer"), theirs)
    }

    #[test]
    fn frames_before_the_end_still_count() {
        let (mut peer, mut theirs) = pair();
        let mut wire = Vec::new();
        frame::encode(&heartbeat(), &mut wire);
        frame::encode(&heartbeat(), &mut wire);
        theirs.write_all(&wire).expect("write");
        drop(theirs);
        let (frames, rest) = peer.receive();
        assert_eq!(frames, [heartbeat(), heartbeat()]);
        assert!(rest.is_ok());
        assert!(matches!(peer.receive().1, Err(Gone::Closed)));
    }

    #[test]
    fn a_peer_that_reads_nothing_is_lost_and_never_blocks_us() {
        let (mut peer, _theirs) = pair();
        let lost = (0..1_000_000).find_map(|_| peer.send(&heartbeat()).err());
        assert!(matches!(lost, Some(Gone::Stuck(_))), "{lost:?}");
        assert!(peer.has_unsent());
    }

    #[test]
    fn a_frame_over_the_limit_ends_the_link() {
        let (mut peer, mut theirs) = pair();
        theirs.write_all(&[0xff, 0xff, 0x7f]).expect("write");
        assert!(matches!(peer.receive().1, Err(Gone::Frame(_))));
    }
}
