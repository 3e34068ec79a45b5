//! Writes archives as the kernel unpacks them into its first file system (Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive in the making.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A directory; those above it come first.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, libc::S_IFDIR | 0o755, &[], 0);
    }

    /// A file that may be executed.
    pub fn file(&mut self, path: &str, contents: &[u8]) {
        self.entry(path, libc::S_IFREG | 0o755, contents, 0);
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, libc::S_IFLNK | 0o777, target.as_bytes(), 0);
    }

    /// The console, which the kernel opens before anything runs.
    pub fn console(&mut self) {
        self.entry("dev/console", libc::S_IFCHR | 0o600, &[], 0x501);
    }

    /// The whole of it.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], 0);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8], device: u32) {
        self.entries += 1;
        let size = u32::try_from(contents.len()).unwrap();
        let name_size = u32::try_from(path.len() + 1).unwrap();
        let (major, minor) = (device >> 8, device & 0xff);
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        fields.iter().for_each(|field| self.bytes.extend_from_slice(format!("{field:08x}").as_bytes()));
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
