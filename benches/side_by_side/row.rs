//! The rows of the table.

/// Which of its plans a row works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Once on the fresh mount, then again.
    ColdAndAgain,
    /// Once on the fresh mount.
    Cold,
    /// Mounting itself.
    Mount,
    /// Mounting an image of a million inodes.
    MountMillion,
}

/// One row, with what haosfs shall reach of the kernel's time: cold (or only), again; 0 where there is no bar.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// For the command line and the JSON.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// How it is measured.
    pub kind: Kind,
    /// Bars of haosfs as root, as ratios to the kernel's time (of mounts: seconds).
    pub bars: [f64; 2],
    /// The same for an ordinary user, where they differ.
    pub user_factor: f64,
}

const fn both(name: &'static str, title: &'static str, bars: [f64; 2]) -> Row {
    Row { name, title, kind: Kind::ColdAndAgain, bars, user_factor: 1.0 }
}

const fn cold(name: &'static str, title: &'static str, bar: f64) -> Row {
    Row { name, title, kind: Kind::Cold, bars: [bar, 0.0], user_factor: 1.0 }
}

const fn write(name: &'static str, title: &'static str, bar: f64) -> Row {
    Row { name, title, kind: Kind::Cold, bars: [bar, 0.0], user_factor: 2.0 }
}

const fn mount(name: &'static str, title: &'static str, kind: Kind, bar: f64) -> Row {
    Row { name, title, kind, bars: [bar, 0.0], user_factor: 1.0 }
}

/// Names looked up, opened or read in rows that speak of 20,000.
pub const NAMES: usize = 20_000;
/// Reads of the big file.
pub const PREADS: usize = 5_000;
/// Files copied up or removed.
pub const CHANGES: usize = 3_000;
/// Readers of the whole tree at the same time.
pub const READERS: usize = 4;
/// Files made.
pub const CREATED: usize = 10_000;
/// Bytes written at once to a new file.
pub const WRITTEN: u64 = 512 << 20;

/// MiB of the daemon, resident and anonymous.
pub const MEMORY: [u64; 2] = [48, 32];

/// All rows, in the order of the table.
pub const ALL: [Row; 21] = [
    both("find", "find -printf of the whole tree", [0.75, 1.15]),
    both("lstat", "20,000 random lstat", [0.25, 1.05]),
    both("absent", "20,000 absent names", [0.03, 1.1]),
    both("open", "20,000 random open + read 1 byte + close", [0.5, 1.5]),
    both("tar", "tar of the whole tree", [0.5, 1.3]),
    both("sequential", "big file, 1 MiB at a time", [0.45, 1.05]),
    both("random", "5,000 random 4 KiB preads of it", [1.0, 1.0]),
    cold("mapped", "touching every page of it mapped", 0.8),
    cold("readers", "4 readers cat the whole tree, each in an order of its own", 0.45),
    cold("cat4", "4 readers cat the whole tree, in step", 0.45),
    write("chmod", "chmod of 3,000 lower files", 1.05),
    write("append", "append 1 byte to 3,000 lower files", 1.05),
    write("copy-up", "open the big file O_RDWR, write 1 byte", 0.8),
    write("unlink", "unlink 3,000 lower files", 1.2),
    write("create", "create 10,000 empty files", 1.5),
    write("create-4k", "create 10,000 files of 4 KiB", 4.0),
    write("write", "write 512 MiB + fsync", 1.05),
    write("overwrite", "20,000 random 4 KiB overwrites + fsync", 2.5),
    write("untar", "untar /usr/include", 2.5),
    mount("mount", "mount to first listing", Kind::Mount, 0.020),
    mount("mount-1m", "the same, image of 1,000,000 inodes", Kind::MountMillion, 0.030),
];

/// The row of this name.
pub fn named(name: &str) -> Option<Row> {
    ALL.into_iter().find(|row| row.name == name)
}
