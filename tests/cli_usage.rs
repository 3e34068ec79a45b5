//! Wrong usage: exit 1 and a line that says what is wrong.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use support::Scratch;

#[test]
fn contradictions_and_unknown_options_are_usage_errors() {
    let scratch = Scratch::with_image();
    for (arguments, words) in [
        (&["mount", "image.sqfs", "mnt", "-o", "frobnicate"][..], "unknown option frobnicate"),
        (&["mount", "image.sqfs", "mnt", "-o", "threads=none"], "option threads=none: expected a number from 1 to 256"),
        (&["mount", "image.sqfs", "mnt", "--upper", "upper"], "--upper needs --work"),
        (&["mount", "image.sqfs", "mnt", "--work", "work"], "--work means nothing without --upper"),
        (&["mount", "none", "mnt", "--lower", "a", "-o", "lowerdir=b"], "--lower and lowerdir="),
        (&["image.sqfs", "mnt", "--upper", "upper"], "unknown flag --; usage: mount.haosfs SPEC DIR"),
    ] {
        scratch.haosfs(arguments).failed(1, words);
    }
}

#[test]
fn clap_refuses_with_exit_1_too() {
    let scratch = Scratch::new();
    for (arguments, words) in [
        (&[][..], "Usage: haosfs <COMMAND>"),
        (&["frobnicate"], "unrecognized subcommand"),
        (&["mount", "x"], "required arguments were not provided"),
        (&["mount", "x", "y", "--offset", "z"], "expected BYTES, with K, M or G"),
        (&["mount", "x", "y", "--backend", "z"], "[possible values: auto, kernel, hybrid, fuse]"),
        (&["image", "extract", "x"], "--directory <DIR>"),
        (&["boot-guard", "--deadline", "18446744073709551615"], "is not in 0..=86400"),
    ] {
        let finished = scratch.haosfs(arguments);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(words), "{words:?} not in {:?}", finished.stderr);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let scratch = Scratch::new();
    assert!(scratch.haosfs(&["--help"]).succeeded().stdout.contains("Usage: haosfs"));
    assert!(scratch.haosfs(&["mount", "--help"]).succeeded().stdout.contains("--upper <DIR>"));
    assert_eq!(scratch.haosfs(&["--version"]).succeeded().stdout.trim(), concat!("haosfs ", env!("CARGO_PKG_VERSION")));
}
