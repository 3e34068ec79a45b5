//! How one inode looks in a listing: a line like that of `ls -l`, or a JSON object.

use std::ffi::{OsStr, OsString};

use serde_json::{Value, json};

use crate::commands::output::{add_bytes, printable};
use crate::types::{Attr, Kind};

/// What a listing shows of one name.
pub struct Line<'a> {
    /// The name or path to show.
    pub name: &'a OsStr,
    /// Its inode.
    pub attr: Attr,
    /// Target of a symbolic link.
    pub target: Option<OsString>,
}

impl Line<'_> {
    /// As `ls -l` does, with numeric owners and the time in UTC.
    pub fn text(&self) -> String {
        let attr = &self.attr;
        let size = match attr.kind {
            Kind::Char | Kind::Block => format!("{}, {}", libc::major(attr.rdev), libc::minor(attr.rdev)),
            _ => attr.size.to_string(),
        };
        let mut line = format!(
            "{} {:>3} {:>5} {:>5} {size:>10} {} {}",
            mode(attr),
            attr.nlink,
            attr.uid,
            attr.gid,
            date(attr.mtime.secs),
            printable(self.name)
        );
        if let Some(target) = &self.target {
            line.push_str(" -> ");
            line.push_str(&printable(target));
        }
        line
    }

    /// An object; `path_hex` and `target_hex` are added where the bytes are not UTF-8.
    pub fn json(&self) -> Value {
        let attr = &self.attr;
        let mut object = json!({
            "type": kind(attr.kind),
            "mode": format!("{:04o}", attr.perm),
            "nlink": attr.nlink,
            "uid": attr.uid,
            "gid": attr.gid,
            "size": attr.size,
            "mtime": attr.mtime.secs,
            "inode": attr.ino,
        });
        add_bytes(&mut object, "path", self.name);
        if let Some(target) = &self.target {
            add_bytes(&mut object, "target", target);
        }
        if let (Kind::Char | Kind::Block, Some(members)) = (attr.kind, object.as_object_mut()) {
            members.insert("major".to_owned(), libc::major(attr.rdev).into());
            members.insert("minor".to_owned(), libc::minor(attr.rdev).into());
        }
        object
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "directory",
        Kind::Symlink => "symlink",
        Kind::Char => "char",
        Kind::Block => "block",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

/// `drwxr-sr-t`, as POSIX ls prints it.
fn mode(attr: &Attr) -> String {
    let letter = match attr.kind {
        Kind::File => '-',
        Kind::Dir => 'd',
        Kind::Symlink => 'l',
        Kind::Char => 'c',
        Kind::Block => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    };
    let mut text = String::from(letter);
    for (shift, special, set, unset) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = attr.perm >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, attr.perm & special != 0) {
            (true, true) => set,
            (false, true) => unset,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// `YYYY-MM-DD HH:MM` in UTC, by the proleptic Gregorian calendar.
pub fn date(seconds: i64) -> String {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", of_day / 3600, of_day / 60 % 60)
}

/// Days since 1970-01-01 to year, month and day. Years are counted from March, so that the leap day comes last; 146,097 days
/// are the 400 years after which the calendar repeats.
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::types::Time;

    fn attr(kind: Kind, perm: u32) -> Attr {
        Attr {
            ino: 1,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: libc::makedev(8, 1),
            size: 5,
            blocks: 1,
            blksize: 4096,
            atime: Time::default(),
            mtime: Time::from_secs(1_700_000_000),
            ctime: Time::default(),
        }
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (-1, "1969-12-31 23:59"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (4_102_444_800, "2100-01-01 00:00"),
            (4_294_967_295, "2106-02-07 06:28"),
            (-2_203_891_200, "1900-03-01 00:00"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn modes_look_as_in_ls() {
        for (kind, perm, text) in [
            (Kind::File, 0o644, "-rw-r--r--"),
            (Kind::Dir, 0o1777, "drwxrwxrwt"),
            (Kind::File, 0o4755, "-rwsr-xr-x"),
            (Kind::File, 0o2644, "-rw-r-Sr--"),
            (Kind::Dir, 0o1000, "d--------T"),
            (Kind::Symlink, 0o777, "lrwxrwxrwx"),
        ] {
            assert_eq!(mode(&attr(kind, perm)), text);
        }
    }

    #[test]
    fn lines_and_objects_show_what_belongs_to_the_kind() {
        let link = Line { name: OsStr::new("l"), attr: attr(Kind::Symlink, 0o777), target: Some("t\n".into()) };
        assert!(link.text().ends_with(" 2023-11-14 22:13 l -> t\\x0a"), "{}", link.text());
        let device = Line { name: OsStr::from_bytes(b"\xff"), attr: attr(Kind::Block, 0o600), target: None };
        assert!(device.text().contains("      8, 1 "), "{}", device.text());
        let object = device.json();
        assert_eq!((&object["type"], &object["major"], &object["path_hex"]), (&json!("block"), &json!(8), &json!("ff")));
        assert_eq!(object["mode"], "0600");
    }
}
