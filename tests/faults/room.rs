//! A real lack of space: nothing is lost, and it goes on once there is some again.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use rustix::io::Errno;

use crate::copies::append;
use crate::mounted::scratch::{Fs, Scratch, open_temp_dir};
use crate::mounted::union::{Driver, Lower, Union};
use crate::tree::compare::{Tolerance, assert_same};
use crate::tree::snapshot::Snapshot;

/// Bytes of the upper's file system, and of the file that needs room.
const ROOM: u64 = 8 << 20;
const LARGE: usize = 2 << 20;

pub fn fill_and_free() {
    for fs in [Fs::Ext4, Fs::Tmpfs] {
        let (scratch, lower) = (Scratch::with_size(fs, ROOM), open_temp_dir());
        fs::write(lower.path().join("large"), vec![7; LARGE]).unwrap();
        let home = scratch.dir("home");
        let union = Union::new(Driver::Haosfs, &[Lower::Dir(lower.path().to_path_buf())], &home);
        let before = Snapshot::read(union.path()).unwrap();
        fill(&scratch.path().join("filler"));
        for _ in 0..2 {
            let answer = append(&union.path().join("large")).unwrap_err();
            assert_eq!(answer.raw_os_error(), Some(Errno::NOSPC.raw_os_error()), "{fs:?}");
            assert_same(fs.name(), &before, &Snapshot::read(union.path()).unwrap(), Tolerance::default());
            assert_eq!(fs::read_dir(home.join("work/work")).unwrap().count(), 0, "{fs:?}");
        }
        fs::remove_file(scratch.path().join("filler")).unwrap();
        append(&union.path().join("large")).unwrap();
        assert!(fs::read(home.join("upper/large")).unwrap() == [&[7; LARGE][..], b"appended"].concat(), "{fs:?}");
    }
}

/// Writes until there is no room, and gives a quarter of what the file needs back.
fn fill(filler: &Path) {
    let mut file = File::create(filler).unwrap();
    while file.write_all(&[1; 64 << 10]).and_then(|()| file.sync_data()).is_ok() {}
    let len = file.metadata().unwrap().len();
    file.set_len(len - LARGE as u64 / 4).unwrap();
    file.sync_all().unwrap();
}
