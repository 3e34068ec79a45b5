//! mount(8)'s way of calling: `haosfs SPEC DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]`, without a subcommand. mount.fuse3(8) calls a
//! file system's program like this for `mount -t fuse.haosfs`.

use std::ffi::{OsStr, OsString};

/// The subcommands, and what clap answers to by itself.
const SUBCOMMANDS: [&str; 9] = ["mount", "umount", "status", "doctor", "check", "config", "image", "demo", "help"];

/// Turns mount(8)'s way of calling into `haosfs mount`; leaves everything else as it is.
pub fn rewrite(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut given = arguments.iter().skip(1);
    let (Some(spec), Some(dir)) = (given.next(), given.next()) else { return arguments };
    if SUBCOMMANDS.iter().any(|name| spec == name) || is_flag(spec) || is_flag(dir) {
        return arguments;
    }
    let mut rewritten: Vec<OsString> = arguments.first().cloned().into_iter().collect();
    rewritten.extend(["mount".into(), spec.clone(), dir.clone()]);
    while let Some(flag) = given.next() {
        match flag.to_str() {
            Some("-n" | "-v") => {}
            // mount(8) enters the namespace itself before it calls.
            Some("-t" | "-N") => {
                given.next();
            }
            Some("-s") => rewritten.push("--sloppy".into()),
            Some("-f") => rewritten.push("--dry-run".into()),
            _ => rewritten.push(flag.clone()),
        }
    }
    rewritten
}

fn is_flag(argument: &OsStr) -> bool {
    argument.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let arguments = rewrite(line.split(' ').map(OsString::from).collect());
        arguments.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn only_calls_without_a_subcommand_change() {
        for (given, expected) in [
            ("haosfs /img /mnt -o rw,dev,suid", "haosfs mount /img /mnt -o rw,dev,suid"),
            ("haosfs none /mnt -n -v -t fuse.haosfs -o ro", "haosfs mount none /mnt -o ro"),
            ("haosfs none /mnt -s -o ro", "haosfs mount none /mnt --sloppy -o ro"),
            ("haosfs /img /mnt -N /proc/7/ns/mnt -o ro", "haosfs mount /img /mnt -o ro"),
            ("haosfs /img /mnt -f -o ro", "haosfs mount /img /mnt --dry-run -o ro"),
            ("haosfs mount /img /mnt -f", "haosfs mount /img /mnt -f"),
            ("haosfs umount /mnt", "haosfs umount /mnt"),
            ("haosfs image ls x", "haosfs image ls x"),
            ("haosfs check u w", "haosfs check u w"),
            ("haosfs config show x", "haosfs config show x"),
            ("haosfs demo", "haosfs demo"),
            ("haosfs --help", "haosfs --help"),
            ("haosfs typo", "haosfs typo"),
        ] {
            assert_eq!(rewritten(given), expected);
        }
    }
}
