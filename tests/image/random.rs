//! Reproducible pseudo-random numbers (splitmix64).

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Bytes that no compressor shrinks.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len).collect()
    }

    /// Bytes that shrink to about a third.
    pub fn text(&mut self, len: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "union", "upper", "lower", "layer", "block", "inode", "entry", "whiteout", "opaque", "mount", "image", "rename",
            "link", "cache", "span", "hole",
        ];
        let mut text = String::with_capacity(len + 32);
        while text.len() < len {
            let word = WORDS[self.below(16) as usize];
            text.push_str(word);
            text.push_str(&(self.below(100)).to_string());
            text.push(' ');
        }
        text.truncate(len);
        text.into_bytes()
    }
}
