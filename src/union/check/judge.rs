//! From facts to defects: pure.

use std::ffi::OsStr;

use super::below::Under;
use super::defect::{Defect, MarkDefect, NameDefect};
use super::facts::{Facts, Twin};
use crate::ovl::foreign::ForeignName;
use crate::ovl::mark::{Reader, Says};
use crate::ovl::metacopy;
use crate::ovl::origin::{self, Shape};
use crate::ovl::redirect::Redirect;
use crate::ovl::xattr::Namespace;
use crate::types::Kind;

/// The root of the upper, which always merges with the roots of the lowers.
pub(super) fn root(facts: &Facts, space: Namespace) -> Vec<Defect> {
    every_object(facts, space)
}

/// A directory's own marks. `under` is what lies below it as long as it is not opaque.
pub(super) fn directory(facts: &Facts, space: Namespace, under: &Under) -> Vec<Defect> {
    let mut defects = every_object(facts, space);
    if facts.is_opaque(space) {
        return defects;
    }
    if let Some(marked) = facts.own(space, Says::Opaque) {
        defects.push(MarkDefect::OpaqueValue(marked.value.clone()).into());
    }
    let may_merge = !matches!(under, Under::Pure | Under::Absent);
    // A mark that came along in a copy-up is an attribute like any other (`Upper::has_foreign_mark`).
    let is_copy = facts.own(space, Says::Origin).is_some();
    let unseen = facts.unseen(space, Says::Opaque).find(|marked| may_merge && !is_copy && marked.value == b"y");
    defects.extend(unseen.map(|marked| MarkDefect::UnseenOpaque(marked.name.clone()).into()));
    if let Under::Failed(why) = under {
        defects.push(NameDefect::Below(why.clone()).into());
    }
    match facts.own(space, Says::Redirect).map(|marked| &marked.value) {
        None => defects.extend(unseen_way(facts, space, Says::Redirect)),
        Some(_) if space == Namespace::User => defects.push(MarkDefect::NotForUsers.into()),
        Some(value) if Redirect::parse(value).is_none() => defects.push(MarkDefect::RedirectFormat(value.clone()).into()),
        Some(value) if !may_merge => defects.push(MarkDefect::RedirectMissing(value.clone()).into()),
        Some(_) => {}
    }
    defects
}

/// A file that marks its directory opaque in somebody else's way. `spare` where the directory needs no such mark.
pub(super) const fn opaque_file(root: bool, spare: bool) -> NameDefect {
    if spare { NameDefect::SpareOpaqueFile } else { NameDefect::ForeignOpaque { root } }
}

/// Anything but a directory. `under` is what lies below the name (for a foreign whiteout, the name that it hides) or, for a file
/// with attributes only, its data.
pub(super) fn entry(name: &OsStr, facts: &Facts, space: Namespace, under: &Under, twin: Twin) -> Vec<Defect> {
    if facts.whiteout {
        return whiteout(under).map(Defect::from).into_iter().collect();
    }
    if let Some(defect) = foreign(name, facts, under, twin) {
        return vec![defect.into()];
    }
    let mut defects = every_object(facts, space);
    if facts.kind == Kind::File {
        if facts.size == 0 && facts.own(space, Says::Whiteout).is_some() {
            defects.push(NameDefect::XattrWhiteout.into());
        }
        defects.extend(apart(facts, space, under));
    }
    defects
}

fn whiteout(under: &Under) -> Option<NameDefect> {
    match under {
        Under::Pure => Some(NameDefect::PureWhiteout),
        Under::Absent => Some(NameDefect::OrphanWhiteout),
        Under::Failed(why) => Some(NameDefect::Below(why.clone())),
        Under::Unknown | Under::Present { .. } => None,
    }
}

fn foreign(name: &OsStr, facts: &Facts, under: &Under, twin: Twin) -> Option<NameDefect> {
    let is_file = facts.kind == Kind::File;
    match ForeignName::parse(name)? {
        ForeignName::Own => Some(NameDefect::AufsOwn),
        _ if is_file && facts.size > 0 => Some(NameDefect::ForeignWithData),
        ForeignName::Whiteout(hides) if is_file => {
            let needed = !matches!(under, Under::Pure | Under::Absent);
            Some(NameDefect::ForeignWhiteout { hides: hides.to_owned(), twin, needed })
        }
        ForeignName::Whiteout(_) | ForeignName::Opaque => None,
    }
}

/// A file whose data may be elsewhere.
fn apart(facts: &Facts, space: Namespace, under: &Under) -> Option<Defect> {
    let redirect = facts.own(space, Says::Redirect).map(|marked| &marked.value);
    let Some(marked) = facts.own(space, Says::Metacopy) else {
        let unseen = unseen_way(facts, space, Says::Metacopy).filter(|_| !matches!(under, Under::Pure | Under::Absent));
        return unseen.or_else(|| redirect.map(|_| MarkDefect::RedirectUnused.into()));
    };
    if space == Namespace::User {
        return Some(MarkDefect::NotForUsers.into());
    }
    if !metacopy::is_valid(&marked.value) {
        return Some(MarkDefect::MetacopyFormat.into());
    }
    if let Some(value) = redirect.filter(|value| Redirect::parse(value).is_none()) {
        return Some(MarkDefect::RedirectFormat(value.clone()).into());
    }
    match under {
        Under::Pure | Under::Absent => Some(MarkDefect::MetacopyMissing.into()),
        Under::Present { size } if *size != facts.size => {
            Some(MarkDefect::MetacopySize { upper: facts.size, lower: *size }.into())
        }
        Under::Failed(why) => Some(NameDefect::Below(why.clone()).into()),
        Under::Present { .. } | Under::Unknown => None,
    }
}

fn unseen_way(facts: &Facts, space: Namespace, says: Says) -> Option<Defect> {
    facts.unseen(space, says).next().map(|marked| MarkDefect::UnseenWay(marked.name.clone()).into())
}

fn every_object(facts: &Facts, space: Namespace) -> Vec<Defect> {
    let own = facts.marks.iter().filter(|marked| marked.mark.reader == Reader::Overlay(space));
    own.filter_map(|marked| match (marked.mark.says, origin::shape(&marked.value)) {
        (Says::Unknown, _) => Some(MarkDefect::Unknown(marked.name.clone()).into()),
        (Says::Origin, Shape::Broken) => Some(MarkDefect::OriginBroken(marked.name.clone()).into()),
        (Says::Origin, Shape::Longer) => Some(MarkDefect::OriginLonger.into()),
        _ => None,
    })
    .collect()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
