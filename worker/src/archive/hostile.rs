//! Writes tar blocks by hand, so that tests can say what no honest tool would.

use std::io::Write;

/// A header as raw fields; [`Header::bytes`] adds the checksum.
pub(super) struct Header<'a> {
    pub(super) name: &'a [u8],
    pub(super) flag: u8,
    pub(super) mode: u32,
    pub(super) size: u64,
}

impl Header<'_> {
    pub(super) fn bytes(&self) -> [u8; 512] {
        let mut block = [0; 512];
        block[..self.name.len()].copy_from_slice(self.name);
        block[100..108].copy_from_slice(format!("{:07o}\0", self.mode).as_bytes());
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{:011o}\0", self.size).as_bytes());
        block[136..148].copy_from_slice(b"00000000000\0");
        block[156] = self.flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// An archive under construction.
#[derive(Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(name.as_bytes(), b'0', 0o644, content)
    }

    pub(super) fn directory(self, name: &str) -> Self {
        self.entry(name.as_bytes(), b'5', 0o755, b"")
    }

    pub(super) fn entry(self, name: &[u8], flag: u8, mode: u32, content: &[u8]) -> Self {
        let size = content.len() as u64;
        self.header(&Header {
            name,
            flag,
            mode,
            size,
        })
        .content(content)
    }

    pub(super) fn header(self, header: &Header) -> Self {
        self.raw(&header.bytes())
    }

    pub(super) fn content(self, content: &[u8]) -> Self {
        let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
        self.raw(content).raw(&padding)
    }

    pub(super) fn pax(self, flag: u8, records: &[(&str, &[u8])]) -> Self {
        let body: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
        self.entry(b"pax", flag, 0o644, &body)
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() > rest.to_string().len() {
        length += 1;
    }
    let mut bytes = format!("{length} {key}=").into_bytes();
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
    bytes
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("compress");
    encoder.finish().expect("compress")
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("compress")
}
