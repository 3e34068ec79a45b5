//! The static program of `cargo static`: in one piece, small, and whole.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "qemu/host.rs"]
#[allow(dead_code)]
mod host;
#[path = "cli/support.rs"]
mod support;

use std::fs;

use support::{Scratch, can_run, has_tool, is_root};

/// Bytes that it may have.
const MOST: u64 = 5_000_000;

/// "Program interpreter" among the kinds of ELF's program headers (elf(5)): the loader of shared libraries.
const PT_INTERP: u32 = 3;

/// Kinds of the program headers of a little-endian ELF file of 64 bits.
fn program_headers(elf: &[u8]) -> Vec<u32> {
    assert_eq!(elf[..6], *b"\x7fELF\x02\x01", "another kind of program");
    let half = |at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()));
    let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap());
    let start = usize::try_from(u64::from_le_bytes(elf[32..40].try_into().unwrap())).unwrap();
    (0..half(56)).map(|number| word(start + number * half(54))).collect()
}

#[test]
fn the_static_program_is_small_and_needs_nothing() {
    let program = host::haosfs();
    let elf = fs::read(program).unwrap();
    println!("{}: {} bytes", program.display(), elf.len());
    assert!(!program_headers(&elf).contains(&PT_INTERP), "it needs a loader");
    assert!(elf.len() as u64 <= MOST, "{} bytes", elf.len());
    let scratch = Scratch::with_image();
    let version = scratch.run(program.to_str().unwrap(), &["--version"]).succeeded().stdout;
    assert_eq!(version.trim(), concat!("haosfs ", env!("CARGO_PKG_VERSION")));
    scratch.run(program.to_str().unwrap(), &["image", "verify", "image.sqfs"]).succeeded();
    if can_run("the_static_program_is_small_and_needs_nothing", is_root() && has_tool("mount"), "needs root and mount") {
        let program = program.to_str().unwrap();
        scratch.run(program, &["mount", "image.sqfs", "mnt", "--upper", "upper", "--work", "work"]).succeeded();
        assert_eq!(fs::read_to_string(scratch.path("mnt/hello")).unwrap(), "hello\n");
        fs::write(scratch.path("mnt/new"), "").unwrap();
        scratch.run(program, &["umount", "mnt"]).succeeded();
    }
}
