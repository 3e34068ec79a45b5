//! The walk through an upper: directory by directory, each opened anew by its way from the root, so that neither depth nor width
//! costs descriptors or stack.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::below::{Layers, Parts, Under, pure};
use super::defect::NameDefect;
use super::facts::{Facts, Object, Twin};
use super::repair::At;
use super::{Bench, judge};
use crate::error::{Errno, Error, Result};
use crate::ovl::foreign::ForeignName;
use crate::ovl::mark::{Reader, Says};
use crate::ovl::redirect::Redirect;
use crate::ovl::xattr::Namespace;
use crate::sys::dir::{self, RawEntry};
use crate::sys::spot::{SetTime, Spot, Stat, open_beneath};
use crate::types::Kind;

/// Longest way from the root that is walked, in bytes: sixteen times what a program can name in one call (`PATH_MAX`).
const WAY_MAX: usize = 65536;

/// Longest part of a way that is opened in one call.
const STRETCH: usize = 4000;

/// The name spaces in which marks were met that names or content depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) trusted: bool,
    pub(super) user: bool,
}

/// A directory still to be looked at: its parent's way, its name there, and where the parent goes on in the lowers.
struct Waiting {
    parent: Arc<Path>,
    name: OsString,
    parts: Arc<Parts>,
}

/// One directory while it is looked at.
struct Here {
    way: Arc<Path>,
    path: PathBuf,
    fd: Arc<OwnedFd>,
    stat: Stat,
    facts: Facts,
    /// What each name is; only where there are foreign names among them.
    kinds: HashMap<OsString, Twin>,
    changed: bool,
}

struct Walk<'a, 'b, 'c> {
    bench: &'a mut Bench<'b, 'c>,
    layers: &'a Layers,
    top: &'a Path,
    root: &'a Arc<OwnedFd>,
    root_stat: Stat,
    waiting: Vec<Waiting>,
    /// The directory that was looked at last; the next is often in it.
    last: Option<(Arc<Path>, Arc<OwnedFd>)>,
    seen: Seen,
    told_of_metacopy: bool,
}

/// Looks at everything below the root of an upper.
pub(super) fn check(bench: &mut Bench<'_, '_>, layers: &Layers, top: &Path, root: &Arc<OwnedFd>) -> Result<Seen> {
    let root_stat = Spot::Fd(Arc::clone(root)).stat().map_err(|e| Error::sys("stat", top, e))?;
    let mut walk = Walk {
        bench,
        layers,
        top,
        root,
        root_stat,
        waiting: Vec::new(),
        last: None,
        seen: Seen::default(),
        told_of_metacopy: false,
    };
    walk.directory(Path::new("").into(), None)?;
    while let Some(next) = walk.waiting.pop() {
        let way: Arc<Path> = next.parent.join(&next.name).into();
        if way.as_os_str().len() > WAY_MAX {
            let path = top.join(&way);
            walk.bench.tell(path, NameDefect::TooDeep)?;
            continue;
        }
        walk.directory(way, Some(&next))?;
    }
    Ok(walk.seen)
}

impl Walk<'_, '_, '_> {
    /// One directory: its own marks, then its names. `place` is `None` for the root.
    fn directory(&mut self, way: Arc<Path>, place: Option<&Waiting>) -> Result<()> {
        let path = self.top.join(&way);
        let (mut here, entries) = match self.enter(&way, place, &path) {
            Ok(found) => found,
            Err(Errno::ENOENT) => return Ok(()),
            Err(e) => return self.bench.unchecked(path, "read", place.map_or(OsStr::new(""), |place| &place.name), e),
        };
        self.note(&here.facts);
        let parts = Arc::new(self.marks_of(&mut here, place, &entries)?);
        let mut inner = Vec::new();
        for entry in &entries {
            let is_mark = ForeignName::parse(&entry.name) == Some(ForeignName::Opaque);
            let Some(object) = self.object(&here, &entry.name)? else { continue };
            if object.facts.kind.is_dir() {
                inner.push(Waiting { parent: Arc::clone(&here.way), name: object.name, parts: Arc::clone(&parts) });
            } else if !is_mark || !object.is_empty_file() {
                self.entry(&mut here, &object, &parts)?;
            }
        }
        self.waiting.extend(inner.into_iter().rev());
        self.last = Some((way, Arc::clone(&here.fd)));
        if here.changed && self.bench.work.is_some() {
            let stamps = here.stat.attr;
            // Repairs are no change that a program made; where the times cannot be set they stay as they are.
            let _best_effort = Spot::Fd(here.fd).set_times(SetTime::At(stamps.atime), SetTime::At(stamps.mtime));
        }
        Ok(())
    }

    fn enter(&self, way: &Arc<Path>, place: Option<&Waiting>, path: &Path) -> Result<(Here, Vec<RawEntry>), Errno> {
        let fd = match (&self.last, place) {
            (Some((last, fd)), Some(place)) if Arc::ptr_eq(last, &place.parent) => open_beneath(fd, place.name.as_ref())?,
            _ => open_way(self.root, way)?,
        };
        let spot = Spot::Fd(Arc::clone(&fd));
        let stat = spot.stat()?;
        let facts = Facts::read(&spot, &stat)?;
        let mut entries = dir::read(&fd)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let foreign = entries.iter().any(|entry| ForeignName::parse(&entry.name).is_some());
        let kinds =
            if foreign { entries.iter().map(|entry| (entry.name.clone(), twin(&fd, entry))).collect() } else { HashMap::new() };
        Ok((Here { way: Arc::clone(way), path: path.to_owned(), fd, stat, facts, kinds, changed: false }, entries))
    }

    /// Judges the directory's own marks and the files that mark it; returns where it goes on in the lowers.
    fn marks_of(&mut self, here: &mut Here, place: Option<&Waiting>, entries: &[RawEntry]) -> Result<Parts> {
        let space = self.bench.space;
        let (under, below) = match place {
            None => (Under::Present { size: 0 }, self.layers.root()),
            Some(place) => self.below(here, &place.name, &place.parts),
        };
        let mut hidden = place.is_some() && here.facts.is_opaque(space);
        let defects = match place {
            None => judge::root(&here.facts, space),
            Some(_) => judge::directory(&here.facts, space, &under),
        };
        for defect in defects {
            let hides = defect.hides_what_lies_below();
            let mended = self.bench.take(&here.path, defect, At { dir: &here.fd, name: None })?;
            hidden |= hides && mended;
            here.changed |= mended;
        }
        for entry in entries.iter().filter(|entry| ForeignName::parse(&entry.name) == Some(ForeignName::Opaque)) {
            let stat = Spot::at(&here.fd, &entry.name).stat();
            if stat.is_ok_and(|stat| stat.attr.kind == Kind::File && stat.attr.size == 0) {
                let spare = hidden || matches!(under, Under::Pure | Under::Absent);
                let defect = judge::opaque_file(place.is_none(), spare);
                let at = At { dir: &here.fd, name: Some(&entry.name) };
                let mended = self.bench.take(&here.path.join(&entry.name), defect, at)?;
                hidden |= mended && !spare;
                here.changed |= mended;
            }
        }
        Ok(if hidden { pure() } else { below })
    }

    /// What lies below a directory as long as it is not opaque.
    fn below(&self, here: &Here, name: &OsStr, parts: &Parts) -> (Under, Parts) {
        let redirect = match self.redirect_of(&here.facts) {
            Ok(redirect) => redirect,
            Err(()) => return (Under::Unknown, None),
        };
        self.layers.directory(parts, name, here.stat, redirect)
    }

    /// The redirect that a mount follows; an error where it is broken.
    fn redirect_of(&self, facts: &Facts) -> Result<Option<Redirect>, ()> {
        match facts.own(self.bench.space, Says::Redirect) {
            Some(marked) if self.bench.space == Namespace::Trusted => Redirect::parse(&marked.value).map(Some).ok_or(()),
            _ => Ok(None),
        }
    }

    /// An entry with its facts; `None`, after that was told, where there is nothing to judge.
    fn object(&mut self, here: &Here, name: &OsStr) -> Result<Option<Object>> {
        let spot = Spot::at(&here.fd, name);
        let read = spot.stat().and_then(|stat| {
            let elsewhere = match (stat.mount, self.root_stat.mount) {
                (0, _) | (_, 0) => stat.dev != self.root_stat.dev,
                (mount, root) => mount != root,
            };
            if elsewhere { Ok((stat, None)) } else { Facts::read(&spot, &stat).map(|facts| (stat, Some(facts))) }
        });
        match read {
            Ok((stat, Some(facts))) => Ok(Some(Object { name: name.to_owned(), stat, facts })),
            Ok((_, None)) => self.bench.tell(here.path.join(name), NameDefect::MountedInside).map(|()| None),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => self.bench.unchecked(here.path.join(name), "read", name, e).map(|()| None),
        }
    }

    /// Anything but a directory.
    fn entry(&mut self, here: &mut Here, object: &Object, parts: &Parts) -> Result<()> {
        let space = self.bench.space;
        self.note(&object.facts);
        let twin = match ForeignName::parse(object.name()) {
            Some(ForeignName::Whiteout(hides)) => here.kinds.get(hides).copied().unwrap_or(Twin::Absent),
            _ => Twin::Absent,
        };
        let under = self.under(object, parts);
        for defect in judge::entry(object.name(), &object.facts, space, &under, twin) {
            let at = At { dir: &here.fd, name: Some(object.name()) };
            here.changed |= self.bench.take(&here.path.join(object.name()), defect, at)?;
        }
        if object.facts.own(space, Says::Metacopy).is_some() && space == Namespace::Trusted && !self.told_of_metacopy {
            self.told_of_metacopy = true;
            self.bench.tell(here.path.join(object.name()), super::defect::MarkDefect::NeedsMetacopy)?;
        }
        Ok(())
    }

    fn under(&self, object: &Object, parts: &Parts) -> Under {
        let has = |says| object.facts.marks.iter().any(|marked| marked.mark.says == says);
        let matters = object.facts.whiteout || has(Says::Metacopy) || ForeignName::parse(object.name()).is_some();
        let hides = match ForeignName::parse(object.name()) {
            Some(ForeignName::Whiteout(hides)) => hides,
            _ => object.name(),
        };
        match object.facts.own(self.bench.space, Says::Metacopy) {
            _ if !matters => Under::Unknown,
            Some(_) => match self.redirect_of(&object.facts) {
                Ok(redirect) => self.layers.data(parts, object.name(), object.stat, redirect),
                Err(()) => Under::Unknown,
            },
            None => self.layers.name(parts, hides),
        }
    }

    fn note(&mut self, facts: &Facts) {
        for marked in &facts.marks {
            let matters = matches!(marked.mark.says, Says::Opaque | Says::Redirect | Says::Metacopy);
            match marked.mark.reader {
                Reader::Overlay(Namespace::Trusted) if matters => self.seen.trusted = true,
                Reader::Overlay(Namespace::User) if matters => self.seen.user = true,
                _ => {}
            }
        }
    }
}

fn twin(dir: &Arc<OwnedFd>, entry: &RawEntry) -> Twin {
    let kind = entry.kind.or_else(|| Some(Spot::at(dir, &entry.name).stat().ok()?.attr.kind));
    if kind == Some(Kind::Dir) { Twin::Directory } else { Twin::Other }
}

/// Opens a directory by its way from the root, in as many calls as its length needs.
fn open_way(root: &Arc<OwnedFd>, way: &Path) -> Result<Arc<OwnedFd>, Errno> {
    let mut at = Arc::clone(root);
    let mut stretch = PathBuf::new();
    for name in way {
        if stretch.as_os_str().len() + name.as_bytes().len() >= STRETCH {
            at = open_beneath(&at, &stretch)?;
            stretch.clear();
        }
        stretch.push(name);
    }
    open_beneath(&at, &stretch)
}
