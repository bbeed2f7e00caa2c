//! How messages become bytes on a stream: as prost does it, with small buffers.
//!
//! tonic reserves its buffers when a stream opens, 8 KiB for each direction, and keeps them
//! for as long as it is open. A queue holds two streams of each idle daemon, on which
//! hardly anything is ever said.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Reserved for each direction of a stream; a longer message makes it grow.
const RESERVED: usize = 256;

/// Messages that are ready together travel together up to this size.
const TOGETHER: usize = 32 * 1024;

/// See the module.
#[derive(Debug, Clone)]
pub struct Lean<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Lean<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Lean<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(RESERVED, TOGETHER))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(RESERVED, TOGETHER))
    }
}
