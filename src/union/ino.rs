//! Inode numbers of the union: unique over all layers, the same from lookup to unmount.
//!
//! As the kernel's xino (inode.c, `ovl_map_dev_ino`): numbers of the upper stay as they are, those of lower `n` get `n + 1` above
//! bit 32. Numbers too long for that move to the top byte.

/// Bits of a number that every layer may use as it is.
const SHORT: u64 = 32;
/// Where the layer goes for numbers with more bits than [`SHORT`].
const LONG: u64 = 56;
/// Layers told apart for long numbers; the last stands for the upper.
const UPPER: u64 = 0x7f;

/// The union's number for an inode of the upper.
#[must_use]
pub const fn of_upper(ino: u64) -> u64 {
    if ino >> SHORT == 0 { ino } else { (UPPER << LONG) | (ino & ((1 << LONG) - 1)) }
}

/// The union's number for an inode of a lower; 0 is the topmost.
#[must_use]
pub const fn of_lower(layer: usize, ino: u64) -> u64 {
    let layer = layer as u64 + 1;
    if ino >> SHORT == 0 { (layer << (SHORT + 1)) | ino } else { ((layer % UPPER) << LONG) | (ino & ((1 << LONG) - 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers() {
        assert_eq!(of_lower(0, 4), 0x2_0000_0004);
        assert_eq!(of_upper(4), 4);
    }

    #[test]
    fn layers_do_not_share_numbers() {
        for ino in [1, 0xffff_ffff, 0x1_0000_0000, 0x2_0000_0004] {
            let all = [of_upper(ino), of_lower(0, ino), of_lower(1, ino), of_lower(2, ino)];
            for (i, a) in all.iter().enumerate() {
                assert!(all.iter().skip(i + 1).all(|b| a != b), "{all:x?}");
            }
        }
        assert_ne!(of_lower(0, 4), of_upper(0x2_0000_0004));
    }
}
