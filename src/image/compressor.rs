//! The compressors of squashfs: one block in, one block out, with the working memory kept per thread.

use std::cell::RefCell;
use std::fmt;

use super::map::Map;
use crate::error::{Error, Result};

/// How an image's blocks are compressed (`SQUASHFS_COMP_*`); blocks that do not shrink are stored in any image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compressor {
    /// zlib streams.
    Gzip,
    /// LZO1X.
    Lzo,
    /// xz streams, with or without a BCJ filter.
    Xz,
    /// Raw LZ4 blocks.
    Lz4,
    /// Zstandard frames.
    Zstd,
}

/// Memory a hostile xz block may make the decoder allocate, in bytes. mksquashfs allows dictionaries up to the block size, 1 MiB.
const XZ_MEMORY: u64 = 16 << 20;

thread_local! {
    static GZIP: RefCell<libdeflater::Decompressor> = RefCell::new(libdeflater::Decompressor::new());
    static ZSTD: RefCell<Option<zstd_safe::DCtx<'static>>> = const { RefCell::new(None) };
}

impl Compressor {
    /// Reads the number a superblock gives its compressor.
    ///
    /// # Errors
    /// `Unsupported` for lzma, `Damage` for numbers that mean nothing.
    pub fn from_id(id: u16, map: &Map) -> Result<Self> {
        Ok(match id {
            1 => Self::Gzip,
            2 => {
                let name = map.name().display();
                let text = format!("{name}: lzma compression is not supported; pack the image again with -comp xz or zstd");
                return Err(Error::Unsupported(text));
            }
            3 => Self::Lzo,
            4 => Self::Xz,
            5 => Self::Lz4,
            6 => Self::Zstd,
            _ => return Err(map.damage("superblock", 0, format!("no compressor has the number {id}"))),
        })
    }

    /// Decompresses the one block `input` to the front of `output` and answers its length.
    ///
    /// # Errors
    /// What is wrong with `input`, in words; also when it holds more than `output` takes.
    pub fn decompress(self, input: &[u8], output: &mut [u8]) -> Result<usize, String> {
        match self {
            Self::Gzip => GZIP.with_borrow_mut(|gzip| gzip.zlib_decompress(input, output)).map_err(|e| e.to_string()),
            Self::Lzo => lzokay::decompress::decompress(input, output).map_err(|e| format!("{e:?}")),
            Self::Xz => decompress_xz(input, output),
            Self::Lz4 => lz4_flex::block::decompress_into(input, output).map_err(|e| e.to_string()),
            Self::Zstd => decompress_zstd(input, output),
        }
    }
}

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Lzo => "lzo",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

fn decompress_xz(input: &[u8], output: &mut [u8]) -> Result<usize, String> {
    use liblzma::stream::{Action, Status, Stream};
    let mut stream = Stream::new_stream_decoder(XZ_MEMORY, 0).map_err(|e| e.to_string())?;
    loop {
        let (read, written) = (stream.total_in(), stream.total_out());
        let rest = usize::try_from(read).ok().and_then(|n| input.get(n..)).unwrap_or_default();
        let room = usize::try_from(written).ok().and_then(|n| output.get_mut(n..)).unwrap_or_default();
        match stream.process(rest, room, Action::Finish).map_err(|e| e.to_string())? {
            Status::StreamEnd => return usize::try_from(stream.total_out()).map_err(|e| e.to_string()),
            // The end of the block and the index behind it may still be unread when the output is full.
            _ if (stream.total_in(), stream.total_out()) == (read, written) => {
                return Err("the xz stream does not end where the block does".into());
            }
            _ => {}
        }
    }
}

fn decompress_zstd(input: &[u8], output: &mut [u8]) -> Result<usize, String> {
    ZSTD.with_borrow_mut(|context| {
        if context.is_none() {
            *context = zstd_safe::DCtx::try_create();
        }
        let context = context.as_mut().ok_or("no memory for a zstd context")?;
        context.decompress(output, input).map_err(|code| zstd_safe::get_error_name(code).into())
    })
}
