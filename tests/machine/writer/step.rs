//! Steps: each is one change that a crash must leave undone or done.

/// A change of the tree. Paths are relative.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes a file whole under another name and moves it here, where there may be one already.
    Put {
        /// Where.
        path: String,
        /// What is in it.
        contents: Vec<u8>,
    },
    /// Appends to a file; only the file is made durable.
    Append {
        /// Which.
        path: String,
        /// What.
        line: Vec<u8>,
    },
    /// Cuts a file.
    Cut {
        /// Which.
        path: String,
        /// The bytes that stay.
        len: u64,
    },
    /// Sets the permissions of a file or of a directory.
    Mode {
        /// Which.
        path: String,
        /// To what.
        mode: u32,
    },
    /// Moves a file, or a directory that no lower has.
    Move {
        /// What.
        from: String,
        /// Where to; nothing is there.
        to: String,
    },
    /// Gives a file one more name.
    Link {
        /// Which.
        from: String,
        /// The name.
        to: String,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where.
        path: String,
        /// Where to.
        target: String,
    },
    /// Removes a file or a symbolic link.
    Unlink {
        /// Which.
        path: String,
    },
    /// Makes a directory.
    MakeDir {
        /// Where.
        path: String,
    },
    /// Removes an empty directory.
    RemoveDir {
        /// Which.
        path: String,
    },
}

/// The directory that a path is in.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
