//! Lines out of a file that another process appends to. Any line length: what does not
//! fit into one piece is handed out in pieces; a line that stays below [`EVENT_LINE`]
//! comes whole, so that events can be parsed. No byte is skipped and none comes twice.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use proto::limits::MIB;

/// Longest line that is kept whole for parsing: an `output` of tens of mebibytes is one
/// event. A longer one is shown as raw pieces and not parsed.
pub(super) const EVENT_LINE: usize = 64 * MIB as usize;

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// A piece of output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A whole line without its line feed, or the last one of a file that has ended.
    Line(Vec<u8>),
    /// A part of a line over [`EVENT_LINE`]; the line goes on.
    Part(Vec<u8>),
}

/// A cursor in a growing file.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    /// Next byte to read.
    read: u64,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed out.
    taken: usize,
    /// Bytes of `buffer` behind `taken` that hold no line feed.
    scanned: usize,
    line_limit: usize,
}

/// Whether the writer may still append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Alive,
    Ended,
}

impl Tail {
    /// From the start of `file`.
    pub(super) fn new(file: File) -> Self {
        Self::at(file, 0)
    }

    /// From `offset` on, where a piece begins.
    pub(super) fn at(file: File, offset: u64) -> Self {
        Self::with_line_limit(file, offset, EVENT_LINE)
    }

    fn with_line_limit(file: File, offset: u64, line_limit: usize) -> Self {
        Self {
            file,
            read: offset,
            buffer: Vec::new(),
            taken: 0,
            scanned: 0,
            line_limit,
        }
    }

    /// The next piece, `None` when there is none yet. After the writer has ended, a last
    /// line without line feed is handed out too, and `None` means the end.
    pub(super) fn next(&mut self, writer: Writer) -> io::Result<Option<Piece>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(Piece::Line(line)));
            }
            if self.pending() >= self.line_limit {
                // Of one size whenever it is read: a log that is read again has the same.
                return Ok(Some(Piece::Part(self.take(self.line_limit, 0))));
            }
            if self.fill()? == 0 {
                let rest = self.pending();
                let last = writer == Writer::Ended && rest > 0;
                return Ok(last.then(|| Piece::Line(self.take(rest, 0))));
            }
        }
    }

    /// Offset of the first byte that was not handed out.
    pub(super) fn offset(&self) -> u64 {
        self.read - self.pending() as u64
    }

    /// Where the file ends now.
    pub(super) fn end(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The file once more.
    pub(super) fn reopen(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    fn pending(&self) -> usize {
        self.buffer.len() - self.taken
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let unseen = &self.buffer[self.taken + self.scanned..];
        let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.pending();
            return None;
        };
        let length = self.scanned + at;
        Some(self.take(length, 1))
    }

    /// Hands out `length` bytes and drops `skip` more.
    fn take(&mut self, length: usize, skip: usize) -> Vec<u8> {
        let bytes = self.buffer[self.taken..self.taken + length].to_vec();
        self.taken += length + skip;
        self.scanned = 0;
        bytes
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        // One event of tens of mebibytes must not stay in memory for the rest of the job.
        self.buffer.shrink_to(self.buffer.len() + CHUNK);
        let start = self.buffer.len();
        self.buffer.resize(start + CHUNK, 0);
        let read = self.file.read_at(&mut self.buffer[start..], self.read);
        self.buffer.truncate(start + *read.as_ref().unwrap_or(&0));
        let read = read?;
        self.read += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn growing() -> (tempfile::NamedTempFile, Tail) {
        let file = tempfile::NamedTempFile::new().expect("file");
        let tail = Tail::with_line_limit(file.reopen().expect("open"), 0, CHUNK * 2);
        (file, tail)
    }

    fn line(text: &str) -> Option<Piece> {
        Some(Piece::Line(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_torn_line_waits_for_its_end() {
        let (mut file, mut tail) = growing();
        file.write_all(b"one\ntw").expect("write");
        assert_eq!(tail.next(Writer::Alive).expect("read"), line("one"));
        assert_eq!(tail.next(Writer::Alive).expect("read"), None);
        assert_eq!(tail.offset(), 4);
        file.write_all(b"o\n").expect("write");
        assert_eq!(tail.next(Writer::Alive).expect("read"), line("two"));
        assert_eq!(tail.next(Writer::Ended).expect("read"), None);
    }

    #[test]
    fn the_last_line_needs_no_line_feed_once_the_writer_ended() {
        let (mut file, mut tail) = growing();
        file.write_all(b"\nend").expect("write");
        assert_eq!(tail.next(Writer::Ended).expect("read"), line(""));
        assert_eq!(tail.next(Writer::Ended).expect("read"), line("end"));
        assert_eq!(tail.next(Writer::Ended).expect("read"), None);
        assert_eq!(tail.offset(), tail.end().expect("meta"));
    }

    #[test]
    fn a_line_over_the_limit_comes_in_parts_and_whole() {
        let (mut file, mut tail) = growing();
        let long = vec![b'x'; CHUNK * 5 + 3];
        file.write_all(&long).expect("write");
        file.write_all(b"\nnext\n").expect("write");
        let mut seen = 0;
        while let Some(Piece::Part(part)) = tail.next(Writer::Alive).expect("read") {
            seen += part.len();
        }
        assert_eq!(seen, CHUNK * 4);
        assert_eq!(tail.next(Writer::Ended).expect("read"), line("next"));
    }

    #[test]
    fn lines_across_chunks_are_whole() {
        let (mut file, mut tail) = growing();
        let expected: Vec<String> = (0..50_000).map(|n| format!("line number {n}")).collect();
        file.write_all(expected.join("\n").as_bytes())
            .expect("write");
        let mut seen = Vec::new();
        while let Some(Piece::Line(line)) = tail.next(Writer::Ended).expect("read") {
            seen.push(String::from_utf8(line).expect("text"));
        }
        assert_eq!(seen, expected);
    }
}
