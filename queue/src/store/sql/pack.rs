//! Small things in rows, packed. The memory that packing needs is kept by each thread that
//! does it: making it anew costs more than the packing.

use std::cell::RefCell;
use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

use crate::store::{Error, Result};

/// zstd's fastest level: rows are small, and what is in them shrinks with any.
const LEVEL: i32 = 1;

/// Nothing that is packed here is larger: neither lines of one call nor an inline blob.
const LARGEST: usize = 64 << 20;

thread_local! {
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Packs.
pub(super) fn packed(plain: &[u8]) -> Result<Vec<u8>> {
    let packed = PACKER.with_borrow_mut(|packer| {
        let packer = match packer {
            Some(packer) => packer,
            None => packer.insert(Compressor::new(LEVEL)?),
        };
        packer.compress(plain)
    });
    packed.map_err(|source| failed("packed a row", source))
}

/// Unpacks what [`packed`] made, here or in an older release.
pub(super) fn unpacked(packed: &[u8]) -> Result<Vec<u8>> {
    let plain = UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = match unpacker {
            Some(unpacker) => unpacker,
            None => unpacker.insert(Decompressor::new()?),
        };
        unpacker.decompress(packed, size(packed)?)
    });
    plain.map_err(|source| failed("unpacked a row", source))
}

/// Whether a frame that somebody else has packed `plain` bytes into can stand where ours
/// would: alone, with its size at its head, and smaller than they are.
pub(super) fn stands(frame: &[u8], plain: usize) -> bool {
    frame.len() < plain
        && size(frame).is_ok_and(|said| said == plain)
        && find_frame_compressed_size(frame).is_ok_and(|ends| ends == frame.len())
}

/// The size that it says to have had.
fn size(packed: &[u8]) -> io::Result<usize> {
    let said = get_frame_content_size(packed).ok().flatten();
    said.and_then(|size| usize::try_from(size).ok())
        .filter(|size| *size <= LARGEST)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn failed(doing: &'static str, source: io::Error) -> Error {
    Error::Backend {
        doing,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_noise_does_not() {
        for size in [0, 1, 700, 64 * 1024, 2 << 20] {
            let plain: Vec<u8> = (0..=250).cycle().take(size).collect();
            let bytes = packed(&plain).expect("packed");
            assert_eq!(unpacked(&bytes).expect("unpacked"), plain);
        }
        let before = zstd::bulk::compress(b"of an older release", 3).expect("packed");
        assert_eq!(unpacked(&before).expect("unpacked"), b"of an older release");
        assert!(unpacked(b"noise").is_err());
        let bomb = zstd::bulk::compress(&vec![0; LARGEST + 1], 1).expect("packed");
        assert!(unpacked(&bomb).is_err());
    }

    /// Packed in two pieces, so that the packer could not know it before.
    fn of_no_size(plain: &[u8]) -> Vec<u8> {
        let mut packer = zstd::Encoder::new(Vec::new(), 3).expect("memory");
        for part in plain.chunks(plain.len() / 2 + 1) {
            packer.write_all(part).expect("packed");
            packer.flush().expect("packed");
        }
        packer.finish().expect("packed")
    }

    #[test]
    fn another_ones_frame_stands_only_where_it_would_be_read_back() {
        let plain = b"a state of somebody ".repeat(50);
        let frame = zstd::bulk::compress(&plain, 3).expect("packed");
        assert!(stands(&frame, plain.len()));
        assert!(!stands(&frame, plain.len() + 1), "of another size");
        assert!(!stands(&frame[..frame.len() - 1], plain.len()), "cut");
        let empty = zstd::bulk::compress(b"", 3).expect("packed");
        let followed = [frame.as_slice(), &empty].concat();
        assert!(!stands(&followed, plain.len()), "not alone");
        let streamed = of_no_size(&plain);
        assert!(!stands(&streamed, plain.len()), "without its size");
        assert!(!stands(b"noise", 5));
        let short = zstd::bulk::compress(b"ab", 3).expect("packed");
        assert!(!stands(&short, 2), "larger than what is in it");
    }
}
