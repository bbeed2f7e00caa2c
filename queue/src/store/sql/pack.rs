//! Small things in rows, packed. The memory that packing needs is kept by each thread that
//! does it: making it anew costs more than the packing.

use std::cell::RefCell;
use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::get_frame_content_size;

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
}
