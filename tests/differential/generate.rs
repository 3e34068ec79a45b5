//! Histories from a seed: steps chosen by what is there at the moment, so that most of them succeed. Few names, so that they meet.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use rustix::fs::{FallocateFlags, OFlags, XattrFlags};

use super::act::NODES;
use super::landscape::{Landscape, Shape};
use super::layers::{CAP_NET_RAW, Rights};
use super::step::{Action, Actor, OTHER, Step, TEAM};
use crate::history::op::Op;
use crate::history::target::Replace;

/// Steps between two comparisons.
pub const BATCH: usize = 50;
/// Steps between two handovers of the uppers, and, between those, between two plain remounts.
const HAND_OVER: usize = 500;

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "odd \n\u{7f}ü", "l1"];
const MODES: [u32; 12] = [0o644, 0o600, 0o755, 0o777, 0o4755, 0o2755, 0o2644, 0o6711, 0o1777, 0o000, 0o444, 0o2770];
const XATTRS: [&str; 11] = [
    "user.x",
    "user.y",
    "user.overlay.foo",
    "user.overlay.opaque",
    "trusted.x",
    "trusted.overlay.foo",
    "trusted.overlay.opaque",
    "trusted.overlay.overlay.z",
    "security.x",
    "security.capability",
    "bogus.x",
];
pub const ACCESS: &str = "system.posix_acl_access";
pub const DEFAULT: &str = "system.posix_acl_default";

/// More names than this, and steps that remove are preferred.
const CROWDED: usize = 130;

/// Makes steps.
pub struct Generator {
    rng: Rng,
    rights: Rights,
    number: usize,
    waiting: VecDeque<Step>,
}

impl Generator {
    /// The same seed makes the same steps of the same landscapes.
    pub fn new(seed: u64, rights: Rights) -> Self {
        Self { rng: Rng::with_seed(seed), rights, number: 0, waiting: VecDeque::new() }
    }

    /// The next step.
    pub fn next(&mut self, landscape: impl FnOnce() -> Landscape) -> Step {
        self.number += 1;
        let itself = |action| Step { actor: Actor::Itself, action };
        match self.number {
            n if n % HAND_OVER == HAND_OVER / 2 => return itself(Action::HandOver),
            n if n % HAND_OVER == 0 => return itself(Action::Remount),
            n if n % BATCH == 0 => return itself(Action::Compare),
            _ => {}
        }
        if self.waiting.is_empty() {
            let landscape = landscape();
            self.choose(&landscape);
        }
        self.waiting.pop_front().unwrap()
    }

    fn choose(&mut self, landscape: &Landscape) {
        let actor = if self.rights == Rights::Root && self.rng.u8(0..6) == 0 { Actor::Other } else { Actor::Itself };
        let crowd = if landscape.len() > CROWDED { 40 } else { 0 };
        let actions = match self.rng.u8(0..100) {
            n if n < crowd || n >= 96 => self.clearing(landscape),
            n if n < 60 => vec![self.on_names(landscape)],
            n if n < 78 => vec![self.on_data(landscape)],
            _ => vec![self.on_attributes(landscape)],
        };
        self.waiting.extend(actions.into_iter().map(|action| Step { actor, action }));
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(0..from.len())]
    }

    fn existing(&mut self, landscape: &Landscape, wanted: Option<Shape>) -> PathBuf {
        let wanted = if self.rng.u8(0..12) == 0 { None } else { wanted };
        let names = landscape.names(wanted);
        if names.is_empty() { PathBuf::from("a") } else { self.pick(&names).to_path_buf() }
    }

    fn any(&mut self, landscape: &Landscape) -> PathBuf {
        // Directories and special files are fewer than files, and as interesting.
        let wanted = self.pick(&[None, None, Some(Shape::Dir), Some(Shape::File), Some(Shape::Special), Some(Shape::Symlink)]);
        self.existing(landscape, wanted)
    }

    fn file(&mut self, landscape: &Landscape) -> PathBuf {
        self.existing(landscape, Some(Shape::File))
    }

    /// A name that may be free, in a directory that is there.
    fn new_name(&mut self, landscape: &Landscape) -> PathBuf {
        let mut dirs = landscape.names(Some(Shape::Dir));
        dirs.push(Path::new(""));
        if self.rng.u8(0..30) == 0 {
            return self.existing(landscape, None).join("below");
        }
        self.pick(&dirs).join(self.pick(&NAMES))
    }

    fn destination(&mut self, landscape: &Landscape) -> PathBuf {
        match self.rng.u8(0..8) {
            0..5 => self.new_name(landscape),
            5 => self.existing(landscape, Some(Shape::Dir)),
            6 => self.any(landscape),
            _ => self.existing(landscape, None),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = if self.rng.u8(0..8) == 0 { self.rng.usize(1..20_000) } else { self.rng.usize(1..40) };
        vec![self.rng.u8(..); len]
    }

    fn offset(&mut self) -> u64 {
        match self.rng.u8(0..6) {
            0..4 => self.rng.u64(0..64),
            4 => self.rng.u64(4000..4200),
            _ => self.rng.u64(0..150_000),
        }
    }

    fn on_names(&mut self, landscape: &Landscape) -> Action {
        match self.rng.u8(0..60) {
            0..6 => Action::Model(Op::Create(self.new_name(landscape))),
            6..9 => {
                let flags = self.pick(&[OFlags::EXCL, OFlags::TRUNC, OFlags::APPEND, OFlags::empty()]);
                Action::Open(self.new_name(landscape), flags | OFlags::CREATE | OFlags::RDWR, self.pick(&MODES))
            }
            9..13 => Action::Model(Op::Mkdir(self.new_name(landscape))),
            13..17 => Action::Mkdir(self.new_name(landscape), self.pick(&MODES)),
            17..20 => {
                let (kind, device) = self.pick(&NODES);
                let device = if self.rng.u8(0..8) == 0 { 0 } else { device };
                Action::Mknod(self.new_name(landscape), kind, self.pick(&MODES), device)
            }
            20..23 => Action::Model(Op::Symlink(self.pick(&["nowhere", "no/where/else"]), self.new_name(landscape))),
            23..29 => Action::Model(Op::Unlink(self.any(landscape))),
            29..32 => Action::Model(Op::Rmdir(self.existing(landscape, Some(Shape::Dir)))),
            32..50 => {
                let replace = self.pick(&[Replace::Yes, Replace::Yes, Replace::Yes, Replace::No, Replace::Exchange]);
                Action::Model(Op::Rename(self.any(landscape), self.destination(landscape), replace))
            }
            50 => Action::RenameWhiteout(self.any(landscape), self.new_name(landscape)),
            _ => Action::Model(Op::Link(self.any(landscape), self.new_name(landscape))),
        }
    }

    fn on_data(&mut self, landscape: &Landscape) -> Action {
        let path = self.file(landscape);
        match self.rng.u8(0..20) {
            0..5 => Action::Model(Op::Write(path, self.offset(), self.bytes())),
            5..8 => Action::Append(path, self.bytes()),
            8..10 => Action::Model(Op::Truncate(path, self.offset())),
            10 => Action::Open(path, OFlags::WRONLY | OFlags::TRUNC, 0),
            11 => Action::Open(path, self.pick(&[OFlags::RDWR, OFlags::WRONLY, OFlags::RDONLY, OFlags::DIRECTORY]), 0),
            12..14 => Action::MapWrite(path, self.rng.usize(0..300_000), self.rng.u8(..)),
            14..17 => {
                let keep = FallocateFlags::KEEP_SIZE;
                let modes = [
                    FallocateFlags::empty(),
                    keep,
                    FallocateFlags::PUNCH_HOLE | keep,
                    FallocateFlags::ZERO_RANGE,
                    FallocateFlags::ZERO_RANGE | keep,
                ];
                Action::Allocate(path, self.pick(&modes), self.offset(), self.rng.u64(1..30_000))
            }
            17 => {
                let range = (self.offset(), self.offset(), self.rng.usize(1..60_000));
                Action::CopyRange(path, self.file(landscape), range)
            }
            _ => Action::Read(path, self.offset(), self.rng.usize(0..70_000)),
        }
    }

    fn on_attributes(&mut self, landscape: &Landscape) -> Action {
        let path = self.any(landscape);
        match self.rng.u8(0..34) {
            0..5 => Action::Model(Op::Chmod(path, self.pick(&MODES))),
            5..10 => Action::Chown(path, self.owner(), self.owner()),
            10..13 => {
                Action::Model(Op::SetMtime(path, (self.rng.i64(1_000_000_000..1_500_000_000), self.rng.u32(0..1_000_000_000))))
            }
            13 => Action::Touch(path),
            14 => Action::Access(path, self.rng.u32(0..8)),
            15..21 => self.set_xattr(path),
            21..24 => Action::RemoveXattr(path, self.pick(&XATTRS)),
            24..26 => Action::GetXattr(path, self.pick(&XATTRS)),
            26..29 => Action::SetXattr(path, ACCESS, self.acl(), XattrFlags::empty()),
            29..32 => {
                let dir = self.existing(landscape, Some(Shape::Dir));
                Action::SetXattr(dir, DEFAULT, self.acl(), XattrFlags::empty())
            }
            32 => Action::RemoveXattr(path, self.pick(&[ACCESS, DEFAULT])),
            _ => Action::GetXattr(path, self.pick(&[ACCESS, DEFAULT])),
        }
    }

    fn owner(&mut self) -> Option<u32> {
        self.pick(&[None, Some(0), Some(OTHER), Some(TEAM)])
    }

    fn set_xattr(&mut self, path: PathBuf) -> Action {
        let name = self.pick(&XATTRS);
        let flags = self.pick(&[XattrFlags::empty(), XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE]);
        let value = match name {
            "security.capability" => CAP_NET_RAW.to_vec(),
            // Of itself `y` is refused at the next look-up (SEMANTICS.md, "Without privilege").
            "user.overlay.opaque" => b"yes".to_vec(),
            _ => vec![self.rng.u8(..); self.rng.usize(0..60)],
        };
        Action::SetXattr(path, name, value, flags)
    }

    /// An ACL by `linux/posix_acl_xattr.h`: the owner, mostly [`OTHER`], the group, the mask, others. Now and then a damaged one.
    fn acl(&mut self) -> Vec<u8> {
        let mut acl = 2_u32.to_le_bytes().to_vec();
        let extended = self.rng.u8(0..4) > 0;
        for (tag, id) in [(1_u16, u32::MAX), (2, OTHER), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)] {
            if extended || !matches!(tag, 2 | 0x10) {
                let id = if tag == 2 && self.rights == Rights::Namespace { 0 } else { id };
                let bits = u16::from(self.rng.u8(0..8)).to_le_bytes();
                acl.extend(tag.to_le_bytes().into_iter().chain(bits).chain(id.to_le_bytes()));
            }
        }
        if self.rng.u8(0..12) == 0 {
            acl.truncate(acl.len() - 3);
        }
        acl
    }

    /// Empties a directory, then removes it, and often puts something else in its place.
    fn clearing(&mut self, landscape: &Landscape) -> Vec<Action> {
        let dir = self.existing(landscape, Some(Shape::Dir));
        let removed = landscape.what_is_below(&dir).into_iter().filter(|(path, _)| *path != dir);
        let mut actions: Vec<Action> = removed
            .map(|(path, shape)| match shape {
                Shape::Dir => Action::Model(Op::Rmdir(path.to_path_buf())),
                _ => Action::Model(Op::Unlink(path.to_path_buf())),
            })
            .collect();
        let source = self.existing(landscape, Some(Shape::Dir));
        match self.rng.u8(0..8) {
            0 => actions.push(Action::Model(Op::Rename(source, dir, Replace::Yes))),
            1 => actions.push(Action::Model(Op::Rename(dir, source, Replace::Yes))),
            2 => actions.push(Action::Model(Op::Rename(dir, source, Replace::Exchange))),
            3 => actions.push(Action::Mkdir(dir.join(self.pick(&NAMES)), self.pick(&MODES))),
            n => {
                actions.push(Action::Model(Op::Rmdir(dir.clone())));
                match n {
                    4 => actions.push(Action::Model(Op::Mkdir(dir))),
                    5 => actions.push(Action::Model(Op::Create(dir))),
                    6 => actions.push(Action::Model(Op::Rename(self.file(landscape), dir, Replace::Yes))),
                    _ => {}
                }
            }
        }
        actions
    }
}
