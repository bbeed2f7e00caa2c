//! The conversation on a jail's status socket: orders in, one report or the silence of a
//! successful `execve` out.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use prost::Message;
use proto::frame::{self, Decoder};
use proto::limits;
use proto::timings;
use proto::v1::{JailReport, JailSpec};

/// Largest order: the worker's environment, the daemon's (one frame), names and paths.
const LIMIT: usize = 2 * limits::ENVIRONMENT;

/// The supervisor's side: sends the orders, waits for the answer. `None`: the program was
/// executed.
pub(crate) fn give(stream: &UnixStream, spec: &JailSpec) -> io::Result<Option<JailReport>> {
    stream.set_read_timeout(Some(timings::JAIL))?;
    stream.set_write_timeout(Some(timings::JAIL))?;
    send(stream, spec)?;
    receive(stream)
}

/// The jail's side: the orders.
pub(super) fn orders(stream: &UnixStream) -> io::Result<JailSpec> {
    receive(stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The jail's side: the answer.
pub(super) fn report(stream: &UnixStream, report: &JailReport) -> io::Result<()> {
    send(stream, report)
}

fn send(mut stream: &UnixStream, message: &impl Message) -> io::Result<()> {
    let mut bytes = Vec::new();
    frame::encode(message, &mut bytes);
    stream.write_all(&bytes)
}

fn receive<M: Message + Default>(mut stream: &UnixStream) -> io::Result<Option<M>> {
    let mut decoder = Decoder::new(LIMIT);
    let mut bytes = [0; 16 * 1024];
    loop {
        if let Some(message) = decoder.take_exact().map_err(io::Error::other)? {
            return Ok(Some(message));
        }
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(None),
            Ok(count) => decoder.push(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_larger_than_a_socket_buffer_arrive_and_silence_means_executed() {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let spec = JailSpec {
            program: "x".repeat(900_000),
            ..JailSpec::default()
        };
        let expected = spec.clone();
        let jail = std::thread::spawn(move || {
            assert_eq!(orders(&theirs).expect("orders"), expected);
        });
        assert_eq!(give(&ours, &spec).expect("give"), None);
        jail.join().expect("jail");
    }
}
