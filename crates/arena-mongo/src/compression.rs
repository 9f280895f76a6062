//! Compressed messages (`OP_COMPRESSED`), as both sides agreed in `hello`. A
//! message may not grow to more than its stated size, which is limited as if it
//! had come uncompressed.

use std::io::{Read, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::wire::{HEADER_BYTES, Header, WireError};

pub(crate) const OP_COMPRESSED: i32 = 2012;
/// Zstandard's quickest of the usual levels: answers go over a room's network.
const ZSTD_LEVEL: i32 = 1;
/// The original operation, its size and the compressor.
const INNER_HEADER_BYTES: usize = 9;

/// How a message is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compressor {
    Snappy,
    Zlib,
    Zstd,
}

impl Compressor {
    const ALL: [(Self, u8, &'static str); 3] = [
        (Self::Snappy, 1, "snappy"),
        (Self::Zlib, 2, "zlib"),
        (Self::Zstd, 3, "zstd"),
    ];

    /// Returns the one of this name, if we have it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find_map(|(compressor, _, other)| (other == name).then_some(compressor))
    }

    pub(crate) fn name(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find_map(|(other, _, name)| (other == self).then_some(name))
            .unwrap_or_default()
    }

    fn with_number(number: u8) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find_map(|(compressor, other, _)| (other == number).then_some(compressor))
    }

    fn number(self) -> u8 {
        let mut all = Self::ALL.into_iter();
        all.find_map(|(other, number, _)| (other == self).then_some(number))
            .unwrap_or_default()
    }
}

/// A message as it was before it was compressed.
pub(crate) struct Inflated {
    pub(crate) header: Header,
    pub(crate) payload: Bytes,
    pub(crate) compressor: Compressor,
}

/// How long what follows a header is, or says that it is once it is inflated, whichever is more.
pub(crate) fn inflated_length(header: &Header, payload: &[u8]) -> usize {
    let stated = payload
        .get(4..8)
        .filter(|_| header.op_code == OP_COMPRESSED);
    let stated = stated.map(|mut stated| stated.get_i32_le());
    stated
        .and_then(|stated| usize::try_from(stated).ok())
        .map_or(payload.len(), |stated| stated.max(payload.len()))
}

/// Reads what follows the header of a compressed message.
pub(crate) fn inflate(
    header: &Header,
    mut payload: Bytes,
    length_max: usize,
) -> Result<Inflated, WireError> {
    if payload.len() < INNER_HEADER_BYTES {
        return Err(WireError::Truncated);
    }
    let op_code = payload.get_i32_le();
    let stated = payload.get_i32_le();
    let compressor = Compressor::with_number(payload.get_u8()).ok_or(WireError::Compression)?;
    let length = usize::try_from(stated).map_err(|_| WireError::Length(stated.into()))?;
    if length > length_max - HEADER_BYTES || op_code == OP_COMPRESSED {
        return Err(WireError::Length(stated.into()));
    }
    let inflated = match compressor {
        Compressor::Snappy => inflate_snappy(&payload, length),
        Compressor::Zlib => inflate_zlib(&payload, length),
        Compressor::Zstd => inflate_zstd(&payload, length),
    };
    Ok(Inflated {
        header: Header {
            length: length + HEADER_BYTES,
            op_code,
            ..*header
        },
        payload: inflated.ok_or(WireError::Compression)?.into(),
        compressor,
    })
}

fn inflate_zlib(compressed: &[u8], length: usize) -> Option<Vec<u8>> {
    let limit = u64::try_from(length).ok()?.checked_add(1)?;
    let mut inflated = Vec::new();
    ZlibDecoder::new(compressed)
        .take(limit)
        .read_to_end(&mut inflated)
        .ok()?;
    (inflated.len() == length).then_some(inflated)
}

fn inflate_snappy(compressed: &[u8], length: usize) -> Option<Vec<u8>> {
    // The length inside is checked before memory is taken for it.
    if snap::raw::decompress_len(compressed).ok()? != length {
        return None;
    }
    snap::raw::Decoder::new().decompress_vec(compressed).ok()
}

fn inflate_zstd(compressed: &[u8], length: usize) -> Option<Vec<u8>> {
    // Decoded straight into place, so that the window a frame asks for takes no memory. Pages of what is only
    // stated are not touched; what does not fit is an error.
    let inflated = zstd::bulk::decompress(compressed, length).ok()?;
    (inflated.len() == length).then_some(inflated)
}

/// Returns a whole message compressed; as it is where that fails.
pub(crate) fn deflate(message: BytesMut, compressor: Compressor) -> BytesMut {
    let Some((head, payload)) = message.split_at_checked(HEADER_BYTES) else {
        return message;
    };
    let compressed = match compressor {
        Compressor::Snappy => snap::raw::Encoder::new().compress_vec(payload).ok(),
        Compressor::Zlib => deflate_zlib(payload),
        Compressor::Zstd => zstd::bulk::compress(payload, ZSTD_LEVEL).ok(),
    };
    let length = |bytes: usize| i32::try_from(bytes).ok();
    let framed = compressed.and_then(|compressed| {
        let whole = length(HEADER_BYTES + INNER_HEADER_BYTES + compressed.len())?;
        let mut framed = BytesMut::new();
        framed.put_i32_le(whole);
        framed.put_slice(&head[4..12]);
        framed.put_i32_le(OP_COMPRESSED);
        framed.put_slice(&head[12..]);
        framed.put_i32_le(length(payload.len())?);
        framed.put_u8(compressor.number());
        framed.put_slice(&compressed);
        Some(framed)
    });
    framed.unwrap_or(message)
}

fn deflate_zlib(payload: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(payload).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(length: usize) -> Header {
        Header {
            length,
            request_id: 7,
            op_code: OP_COMPRESSED,
        }
    }

    fn message(payload: &[u8]) -> BytesMut {
        let mut message = BytesMut::new();
        for number in [i32::try_from(payload.len() + 16).unwrap(), 7, 9, 2013] {
            message.put_i32_le(number);
        }
        message.put_slice(payload);
        message
    }

    #[test]
    fn what_was_compressed_reads_back() {
        let payload = b"some text that repeats, some text that repeats".repeat(50);
        for (compressor, _, name) in Compressor::ALL {
            assert_eq!(Compressor::named(name), Some(compressor));
            let compressed = deflate(message(&payload), compressor);
            assert!(compressed.len() < payload.len() / 2);
            let whole = Bytes::copy_from_slice(&compressed[HEADER_BYTES..]);
            let read = inflate(&header(compressed.len()), whole, 100_000).unwrap();
            assert_eq!(read.payload, payload);
            assert_eq!((read.header.op_code, read.compressor), (2013, compressor));
        }
    }

    /// What is said to be small is read all the same, before the lie is seen.
    #[test]
    fn a_message_is_as_long_as_it_says_or_longer() {
        let stating = |length: i32| [2013_i32.to_le_bytes(), length.to_le_bytes(), [2; 4]].concat();
        let length = |stated| inflated_length(&header(0), &stating(stated));
        assert_eq!([length(1_000), length(3), length(-1)], [1_000, 12, 12]);
        let plain = Header {
            op_code: 2013,
            ..header(0)
        };
        assert_eq!(inflated_length(&plain, &stating(1_000)), 12);
    }

    #[test]
    fn a_bomb_and_a_lying_size_are_refused() {
        let payload = vec![0; 1_000_000];
        for (compressor, ..) in Compressor::ALL {
            let compressed = deflate(message(&payload), compressor);
            let whole = Bytes::copy_from_slice(&compressed[HEADER_BYTES..]);
            assert!(inflate(&header(0), whole.clone(), 100_000).is_err());
            assert!(inflate(&header(0), whole.clone(), 2_000_000).is_ok());
            for lie in [0_i32, 10, 999_999, 1_000_001, -1, i32::MAX] {
                let mut lying = BytesMut::from(&whole[..]);
                lying[4..8].copy_from_slice(&lie.to_le_bytes());
                let read = inflate(&header(0), lying.freeze(), 2_000_000);
                assert!(read.is_err(), "{compressor:?} {lie}");
            }
        }
    }

    /// As drivers write that do not know the size before: a window far larger than the message, and no size.
    #[test]
    fn a_zstandard_frame_of_unknown_size_is_read() {
        let payload = b"some text that repeats, some text that repeats".repeat(50);
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 19).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.window_log(26).unwrap();
        for part in payload.chunks(100) {
            encoder.write_all(part).unwrap();
        }
        let frame = encoder.finish().unwrap();
        assert_eq!(inflate_zstd(&frame, payload.len()).unwrap(), payload);
        for lie in [0, payload.len() - 1, payload.len() + 1, 40_000_000] {
            assert!(inflate_zstd(&frame, lie).is_none(), "{lie}");
        }
        assert!(inflate_zstd(&frame[..frame.len() - 1], payload.len()).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(number in 0_u8..5, stated in 0_i32..5_000, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut payload = BytesMut::new();
            payload.put_i32_le(2013);
            payload.put_i32_le(stated);
            payload.put_u8(number);
            payload.put_slice(&bytes);
            let _ = inflate(&header(0), payload.freeze(), 100_000);
        }
    }
}
