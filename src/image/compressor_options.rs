//! The options an image was packed with, as far as they are not the defaults: a metadata block behind the superblock
//! (`struct gzip_comp_opts` and its like, squashfs-tools *_wrapper.h). Reading blocks does not need them.

use std::fmt;

use super::compressor::Compressor;
use super::map::Map;
use super::superblock::{Flags, SUPERBLOCK_SIZE, Superblock};
use crate::error::{Error, Result};

const STRUCTURE: &str = "compressor options";
/// The only version of the lz4 format, as the kernel's lz4_wrapper.c has it.
const LZ4_LEGACY: u32 = 1;

/// How blocks were compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressorOptions {
    /// gzip.
    Gzip {
        /// 1 to 9.
        level: u32,
        /// log2 of the window in bytes, 8 to 15.
        window: u16,
        /// Bit set of zlib strategies that were tried; 0 for the default only.
        strategies: u16,
    },
    /// lzo.
    Lzo {
        /// 0 to 4: lzo1x_1, 1_11, 1_12, 1_15, 999.
        algorithm: u32,
        /// 1 to 9, for lzo1x_999.
        level: u32,
    },
    /// xz.
    Xz {
        /// Bytes of the dictionary.
        dictionary: u32,
        /// Bit set of filters that were tried: x86, powerpc, ia64, arm, armthumb, sparc.
        filters: u32,
    },
    /// lz4.
    Lz4 {
        /// Whether it was packed by the slower, denser variant.
        high: bool,
    },
    /// zstd.
    Zstd {
        /// 1 to 22.
        level: u32,
    },
}

impl CompressorOptions {
    /// Reads the options of `map`; `None` where the image has none, so that they are the defaults.
    ///
    /// # Errors
    /// `Damage` where they cannot be read; `Unsupported` for an lz4 format that nobody has written yet.
    pub fn read(map: &Map, superblock: &Superblock) -> Result<Option<Self>> {
        if !superblock.flags.has(Flags::COMPRESSOR_OPTIONS) {
            return Ok(None);
        }
        let at = SUPERBLOCK_SIZE as u64;
        // They are never compressed, whatever the bit in their length says.
        let len = u16::from_le_bytes(map.array(STRUCTURE, at)?) & 0x7fff;
        let need = match superblock.compressor {
            Compressor::Zstd => 4,
            _ => 8,
        };
        if len != need {
            return Err(map.damage(STRUCTURE, at, format!("they have {len} bytes instead of {need}")));
        }
        let first = u32::from_le_bytes(map.array(STRUCTURE, at + 2)?);
        let second = || -> Result<[u8; 4]> { map.array(STRUCTURE, at + 6) };
        Ok(Some(match superblock.compressor {
            Compressor::Gzip => {
                let [a, b, c, d] = second()?;
                let (window, strategies) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                Self::Gzip { level: first, window, strategies }
            }
            Compressor::Lzo => Self::Lzo { algorithm: first, level: u32::from_le_bytes(second()?) },
            Compressor::Xz => Self::Xz { dictionary: first, filters: u32::from_le_bytes(second()?) },
            Compressor::Lz4 if first != LZ4_LEGACY => {
                let name = map.name().display();
                return Err(Error::Unsupported(format!("{name}: version {first} of the lz4 format is not supported")));
            }
            Compressor::Lz4 => Self::Lz4 { high: u32::from_le_bytes(second()?) & 1 == 1 },
            Compressor::Zstd => Self::Zstd { level: first },
        }))
    }
}

impl fmt::Display for CompressorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Gzip { level, window, strategies: 0 } => write!(f, "level {level}, window {window}"),
            Self::Gzip { level, window, strategies } => {
                write!(f, "level {level}, window {window}, strategies ")?;
                list(f, u32::from(strategies), &["default", "filtered", "huffman_only", "run_length_encoded", "fixed"])
            }
            Self::Lzo { algorithm, level } => {
                let names = ["lzo1x_1", "lzo1x_1_11", "lzo1x_1_12", "lzo1x_1_15", "lzo1x_999"];
                let name = usize::try_from(algorithm).ok().and_then(|n| names.get(n)).unwrap_or(&"unknown");
                write!(f, "algorithm {name}, level {level}")
            }
            Self::Xz { dictionary, filters: 0 } => write!(f, "dictionary {dictionary}"),
            Self::Xz { dictionary, filters } => {
                write!(f, "dictionary {dictionary}, filters ")?;
                list(f, filters, &["x86", "powerpc", "ia64", "arm", "armthumb", "sparc"])
            }
            Self::Lz4 { high } => f.write_str(if high { "high compression" } else { "fast" }),
            Self::Zstd { level } => write!(f, "level {level}"),
        }
    }
}

/// Writes the names of the set bits with commas between.
fn list(f: &mut fmt::Formatter<'_>, bits: u32, names: &[&str]) -> fmt::Result {
    let set = names.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
    for (n, (_, name)) in set.enumerate() {
        write!(f, "{}{name}", if n > 0 { "," } else { "" })?;
    }
    Ok(())
}
