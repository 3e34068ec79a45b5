//! The work directory: what interrupted runs left, what the kernel keeps there, and the markers.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::super::work;
use super::defect::WorkDefect;
use super::repair::At;
use super::walk::Seen;
use super::{Bench, Request};
use crate::error::{Errno, Result};
use crate::ovl::index::{handle_of, is_unfinished};
use crate::ovl::xattr::Namespace;
use crate::ovl::{INCOMPAT, INDEX, WORK};
use crate::sys::dir;
use crate::sys::spot::{Spot, open_dir_at};
use crate::types::Kind;

/// Looks at everything but the markers.
pub(super) fn check(bench: &mut Bench<'_, '_>, request: &Request, work_dir: &Arc<OwnedFd>) -> Result<()> {
    unfinished(bench, &request.work.join(WORK), work_dir)?;
    index(bench, &request.work.join(INDEX), work_dir)
}

/// The markers, once it is known which marks the upper has.
pub(super) fn check_markers(bench: &mut Bench<'_, '_>, request: &Request, work_dir: &Arc<OwnedFd>, seen: &Seen) -> Result<()> {
    let stands = |space| Spot::at(work_dir, OsStr::new(work::mark(space))).stat().is_ok();
    let [trusted, user] = [Namespace::Trusted, Namespace::User].map(stands);
    let marker = if user && !trusted { Namespace::User } else { Namespace::Trusted };
    let path = request.work.join(work::mark(marker));
    for defect in markers(trusted, user, request.userxattr, seen) {
        bench.tell(path.clone(), defect)?;
    }
    Ok(())
}

fn markers(trusted: bool, user: bool, userxattr: bool, seen: &Seen) -> Vec<WorkDefect> {
    let mut defects = Vec::new();
    match (trusted, user) {
        (true, true) => defects.push(WorkDefect::BothMarkers),
        (true, false) if seen.user && !seen.trusted => defects.push(WorkDefect::MarkerDisagrees(Namespace::User)),
        (false, true) if seen.trusted && !seen.user => defects.push(WorkDefect::MarkerDisagrees(Namespace::Trusted)),
        _ => {}
    }
    match (trusted, user) {
        (true, _) if userxattr => defects.push(WorkDefect::MarkerRefuses),
        (false, true) if !userxattr => defects.push(WorkDefect::WrittenByUser),
        _ => {}
    }
    defects
}

/// What stands in `work/work`: nothing of it outlives the next mount, if there is one.
fn unfinished(bench: &mut Bench<'_, '_>, path: &Path, work_dir: &Arc<OwnedFd>) -> Result<()> {
    let inner = match open_dir_at(work_dir, OsStr::new(WORK)) {
        Ok(inner) => inner,
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return bench.unchecked(path.to_owned(), "open", OsStr::new(WORK), e),
    };
    let entries = match dir::read(&inner) {
        Ok(entries) => entries,
        Err(Errno::EACCES) => return bench.tell(path.to_owned(), WorkDefect::Closed),
        Err(e) => return bench.unchecked(path.to_owned(), "read", OsStr::new(WORK), e),
    };
    for entry in entries {
        let at = path.join(&entry.name);
        if entry.name == INCOMPAT {
            let features = open_dir_at(&inner, &entry.name).and_then(dir::read).unwrap_or_default();
            if !features.is_empty() {
                for feature in features {
                    bench.tell(at.join(&feature.name), WorkDefect::Incompat(feature.name))?;
                }
                continue;
            }
        }
        bench.take(&at, WorkDefect::Leftover, At { dir: &inner, name: Some(&entry.name) })?;
    }
    Ok(())
}

/// What stands in `work/index`.
fn index(bench: &mut Bench<'_, '_>, path: &Path, work_dir: &Arc<OwnedFd>) -> Result<()> {
    let inner = match open_dir_at(work_dir, OsStr::new(INDEX)) {
        Ok(inner) => inner,
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return bench.unchecked(path.to_owned(), "open", OsStr::new(INDEX), e),
    };
    let entries = match dir::read(&inner) {
        Ok(entries) => entries,
        Err(e) => return bench.unchecked(path.to_owned(), "read", OsStr::new(INDEX), e),
    };
    let kept = entries.iter().filter(|entry| !is_unfinished(&entry.name)).count();
    bench.tell(path.to_owned(), WorkDefect::Index(kept))?;
    for entry in entries {
        let (at, spot) = (path.join(&entry.name), Spot::at(&inner, &entry.name));
        if is_unfinished(&entry.name) {
            bench.take(&at, WorkDefect::Leftover, At { dir: &inner, name: Some(&entry.name) })?;
        } else if handle_of(&entry.name).is_none() {
            bench.tell(at, WorkDefect::IndexName)?;
        } else if spot.stat().is_ok_and(|stat| stat.attr.kind == Kind::File && stat.attr.nlink == 1) {
            bench.tell(at, WorkDefect::IndexStale)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_held_against_the_marks() {
        let [none, trusted, user, both] =
            [(false, false), (true, false), (false, true), (true, true)].map(|(trusted, user)| Seen { trusted, user });
        use WorkDefect::{BothMarkers, MarkerDisagrees, MarkerRefuses, WrittenByUser};
        for (trusted_stands, user_stands, userxattr, seen, defects) in [
            (false, false, false, &both, vec![]),
            (true, false, false, &trusted, vec![]),
            (true, false, false, &both, vec![]),
            (true, false, false, &user, vec![MarkerDisagrees(Namespace::User)]),
            (true, false, true, &none, vec![MarkerRefuses]),
            (false, true, false, &user, vec![WrittenByUser]),
            (false, true, true, &trusted, vec![MarkerDisagrees(Namespace::Trusted)]),
            (true, true, false, &none, vec![BothMarkers]),
        ] {
            assert_eq!(markers(trusted_stands, user_stands, userxattr, seen), defects, "{trusted_stands} {user_stands} {seen:?}");
        }
    }
}
