//! Length-delimited messages on a byte stream: the frames between the processes of a
//! job and the records of their journals. Pure buffers; reading and writing is the
//! caller's.

use std::ops::Range;

use prost::Message;

/// A frame cannot be decoded; the stream has no way back to the next one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sender announced more than this side accepts.
    #[error("frame of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Announced length in bytes.
        size: usize,
        /// What this side accepts.
        limit: usize,
    },
    /// Not a message of the expected type.
    #[error("frame is malformed")]
    Malformed(#[from] prost::DecodeError),
    /// Holds what the expected type would not have written: unknown or repeated fields.
    #[error("frame of {size} bytes holds fields that its type does not have")]
    Inexact {
        /// Length of the frame in bytes.
        size: usize,
    },
}

/// Appends `message` as one frame.
pub fn encode(message: &impl Message, out: &mut Vec<u8>) {
    message
        .encode_length_delimited(out)
        .expect("invariant: a Vec grows as needed");
}

/// Takes frames out of bytes that arrive in any pieces.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    limit: usize,
}

impl Decoder {
    /// A decoder that refuses frames over `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            limit,
        }
    }

    /// Adds bytes that were read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, `None` until more bytes are pushed.
    ///
    /// # Errors
    /// The frame is too large or malformed; the stream must then be given up.
    pub fn take<M: Message + Default>(&mut self) -> Result<Option<M>, Error> {
        Ok(self.take_sized()?.map(|(message, _)| message))
    }

    /// The next whole frame from a peer that is not trusted: it must be exactly what
    /// encoding the message gives, so that nothing rides along unseen. Only for messages
    /// without maps, whose encoding has no fixed order.
    ///
    /// # Errors
    /// As [`Decoder::take`], and when the frame is inexact.
    pub fn take_exact<M: Message + Default>(&mut self) -> Result<Option<M>, Error> {
        let Some((message, body)) = self.take_sized::<M>()? else {
            return Ok(None);
        };
        let size = body.len();
        if message.encode_to_vec() == self.buffer[body] {
            Ok(Some(message))
        } else {
            Err(Error::Inexact { size })
        }
    }

    fn take_sized<M: Message + Default>(&mut self) -> Result<Option<(M, Range<usize>)>, Error> {
        let pending = &self.buffer[self.start..];
        let Some((size, prefix)) = length(pending)? else {
            return Ok(None);
        };
        if size > self.limit {
            return Err(Error::TooLarge {
                size,
                limit: self.limit,
            });
        }
        let Some(body) = pending.get(prefix..prefix + size) else {
            return Ok(None);
        };
        let message = M::decode(body)?;
        let body = self.start + prefix..self.start + prefix + size;
        self.start = body.end;
        Ok(Some((message, body)))
    }

    /// Bytes that belong to a frame which is not whole yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }
}

/// Length and size of the varint before a frame, `None` while the varint is torn.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Error> {
    const LONGEST_VARINT: usize = 10;
    let Some(end) = bytes.iter().position(|byte| byte & 0x80 == 0) else {
        if bytes.len() < LONGEST_VARINT {
            return Ok(None);
        }
        return Err(prost::decode_length_delimiter(bytes)
            .map_or_else(Error::from, |size| Error::TooLarge { size, limit: 0 }));
    };
    let size = prost::decode_length_delimiter(&bytes[..=end])?;
    Ok(Some((size, end + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Credit, LogLine};

    #[test]
    fn frames_arrive_whole_from_single_bytes() {
        let mut wire = Vec::new();
        encode(&line("one"), &mut wire);
        encode(&line(&"x".repeat(300)), &mut wire);
        let mut decoder = Decoder::new(1024);
        let mut seen = Vec::new();
        for byte in wire {
            decoder.push(&[byte]);
            while let Some(line) = decoder.take::<LogLine>().expect("frame") {
                seen.push(line.text.len());
            }
        }
        assert_eq!(seen, [3, 300]);
        assert_eq!(decoder.pending(), 0);
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        let mut decoder = Decoder::new(100);
        decoder.push(&[0xff, 0x7f]);
        let refused = decoder.take::<LogLine>().expect_err("too large");
        assert!(refused.to_string().contains("limit of 100"), "{refused}");
    }

    #[test]
    fn garbage_is_an_error_not_a_panic() {
        let mut decoder = Decoder::new(100);
        decoder.push(&[0xff; 11]);
        assert!(decoder.take::<Credit>().is_err());
        let mut decoder = Decoder::new(100);
        decoder.push(&[2, 0x0f, 0xff]);
        assert!(decoder.take::<Credit>().is_err());
    }

    #[test]
    fn a_frame_with_an_unknown_field_is_not_exact() {
        let mut wire = Vec::new();
        encode(&line("one"), &mut wire);
        let mut decoder = Decoder::new(100);
        decoder.push(&wire);
        assert_eq!(
            decoder.take_exact().expect("exact"),
            Some(line("one")),
            "what the type wrote itself is exact"
        );
        // Field 1000, varint 1.
        let unknown = [0xc0, 0x3e, 0x01];
        wire[0] += u8::try_from(unknown.len()).expect("small");
        wire.extend(unknown);
        decoder.push(&wire);
        assert!(matches!(
            decoder.take_exact::<LogLine>(),
            Err(Error::Inexact { .. })
        ));
    }

    fn line(text: &str) -> LogLine {
        LogLine {
            text: text.to_owned(),
            ..LogLine::default()
        }
    }
}
