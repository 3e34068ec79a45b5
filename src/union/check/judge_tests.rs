use std::ffi::{OsStr, OsString};

use super::*;
use crate::ovl::mark::Mark;
use crate::union::check::defect::{Repair, Severity};
use crate::union::check::facts::Marked;

/// Names and values of attributes.
type Attributes = [(&'static str, &'static [u8])];
/// Names of findings.
type Ids = [&'static str];

const PRESENT: Under = Under::Present { size: 10 };

fn facts(kind: Kind, size: u64, marks: &[(&str, &[u8])]) -> Facts {
    let marks = marks.iter().map(|(name, value)| {
        let name = OsString::from(name);
        Marked { mark: Mark::parse(&name).unwrap(), name, value: value.to_vec() }
    });
    Facts { kind, size, whiteout: false, marks: marks.collect() }
}

fn ids(defects: &[Defect]) -> Vec<&'static str> {
    defects.iter().map(|defect| defect.explain().id).collect()
}

#[test]
fn directories() {
    let table: &[(&Attributes, Under, &Ids)] = &[
        (&[], PRESENT, &[]),
        (&[("trusted.overlay.opaque", b"y")], PRESENT, &[]),
        (&[("trusted.overlay.opaque", b"y"), ("trusted.overlay.redirect", b"a//b")], PRESENT, &[]),
        (&[("trusted.overlay.opaque", b"y"), ("user.overlay.opaque", b"y")], PRESENT, &[]),
        (&[("trusted.overlay.opaque", b"x")], PRESENT, &["opaque-value"]),
        (&[("trusted.overlay.opaque", b"")], PRESENT, &["opaque-value"]),
        (&[("user.overlay.opaque", b"y")], PRESENT, &["unseen-opaque"]),
        (&[("user.overlay.opaque", b"y")], Under::Unknown, &["unseen-opaque"]),
        (&[("user.overlay.opaque", b"y"), ("trusted.overlay.origin", b"")], PRESENT, &[]),
        (&[("user.overlay.opaque", b"y"), ("user.overlay.origin", b"")], PRESENT, &["unseen-opaque"]),
        (&[("user.overlay.opaque", b"y")], Under::Absent, &[]),
        (&[("user.overlay.opaque", b"x")], PRESENT, &[]),
        (&[("user.fuseoverlayfs.opaque", b"y"), ("user.overlay.opaque", b"y")], PRESENT, &["unseen-opaque"]),
        (&[("user.fuseoverlayfs.origin", b"/x")], PRESENT, &[]),
        (&[("trusted.overlay.redirect", b"/a/b")], PRESENT, &[]),
        (&[("trusted.overlay.redirect", b"/a/b")], Under::Unknown, &[]),
        (&[("trusted.overlay.redirect", b"/a/b")], Under::Absent, &["redirect-missing"]),
        (&[("trusted.overlay.redirect", b"b")], Under::Pure, &["redirect-missing"]),
        (&[("trusted.overlay.redirect", b"a//b")], Under::Unknown, &["redirect-format"]),
        (&[("user.overlay.redirect", b"/a/b")], PRESENT, &["unseen-way"]),
        (&[("trusted.overlay.impure", b"y"), ("trusted.overlay.origin", b"")], PRESENT, &[]),
        (&[("trusted.overlay.new", b"y")], PRESENT, &["unknown-mark"]),
        (&[("trusted.overlay.origin", b"bad"), ("user.overlay.origin", b"bad")], PRESENT, &["origin"]),
        (&[], Under::Failed("damage".into()), &["lower"]),
    ];
    for (marks, under, expected) in table {
        let judged = directory(&facts(Kind::Dir, 0, marks), Namespace::Trusted, under);
        assert_eq!(ids(&judged), *expected, "{marks:?} {under:?}");
    }
}

#[test]
fn directories_under_userxattr() {
    let table: &[(&Attributes, &Ids)] = &[
        (&[("user.overlay.opaque", b"y"), ("trusted.overlay.opaque", b"y")], &[]),
        (&[("trusted.overlay.opaque", b"y")], &["unseen-opaque"]),
        (&[("user.overlay.redirect", b"/a")], &["not-for-users"]),
        (&[("trusted.overlay.redirect", b"/a")], &["unseen-way"]),
    ];
    for (marks, expected) in table {
        assert_eq!(ids(&directory(&facts(Kind::Dir, 0, marks), Namespace::User, &PRESENT)), *expected, "{marks:?}");
    }
}

#[test]
fn the_root_is_never_opaque() {
    let marks: &[(&str, &[u8])] = &[("user.overlay.opaque", b"y"), ("trusted.overlay.redirect", b"")];
    assert!(root(&facts(Kind::Dir, 0, marks), Namespace::Trusted).is_empty());
    assert_eq!(opaque_file(true, false).explain().repair, None);
    assert_eq!(opaque_file(false, false).explain().repair, Some(Repair::MarkParentOpaque));
    assert_eq!(opaque_file(false, true).explain().repair, Some(Repair::Unlink));
}

#[test]
fn files() {
    let table: &[(u64, &Attributes, Under, &Ids)] = &[
        (5, &[], PRESENT, &[]),
        (0, &[("trusted.overlay.whiteout", b"")], PRESENT, &["xattr-whiteout"]),
        (5, &[("trusted.overlay.whiteout", b"")], PRESENT, &[]),
        (0, &[("user.overlay.whiteout", b"")], PRESENT, &[]),
        (10, &[("trusted.overlay.metacopy", b"")], PRESENT, &[]),
        (10, &[("trusted.overlay.metacopy", b"")], Under::Unknown, &[]),
        (11, &[("trusted.overlay.metacopy", b"")], PRESENT, &["metacopy-size"]),
        (10, &[("trusted.overlay.metacopy", b"")], Under::Absent, &["metacopy-missing"]),
        (10, &[("trusted.overlay.metacopy", b"")], Under::Pure, &["metacopy-missing"]),
        (10, &[("trusted.overlay.metacopy", b"bad")], PRESENT, &["metacopy-format"]),
        (10, &[("trusted.overlay.metacopy", b""), ("trusted.overlay.redirect", b"a//")], Under::Unknown, &["redirect-format"]),
        (10, &[("trusted.overlay.redirect", b"/a")], PRESENT, &["redirect-unused"]),
        (10, &[("user.overlay.metacopy", b"")], PRESENT, &["unseen-way"]),
        (10, &[("user.overlay.metacopy", b"")], Under::Absent, &[]),
        (10, &[("trusted.overlay.origin", b"\0\xfb\x20")], PRESENT, &["origin"]),
    ];
    for (size, marks, under, expected) in table {
        let judged = entry(OsStr::new("f"), &facts(Kind::File, *size, marks), Namespace::Trusted, under, Twin::Absent);
        assert_eq!(ids(&judged), *expected, "{size} {marks:?} {under:?}");
    }
    let apart = facts(Kind::File, 10, &[("user.overlay.metacopy", b"")]);
    assert_eq!(ids(&entry(OsStr::new("f"), &apart, Namespace::User, &PRESENT, Twin::Absent)), ["not-for-users"]);
}

#[test]
fn whiteouts() {
    let whiteout = Facts { whiteout: true, ..facts(Kind::Char, 0, &[]) };
    for (under, expected) in [
        (PRESENT, &[][..]),
        (Under::Unknown, &[]),
        (Under::Absent, &["orphan-whiteout"]),
        (Under::Pure, &["pure-whiteout"]),
        (Under::Failed("damage".into()), &["lower"]),
    ] {
        let judged = entry(OsStr::new(".wh.f"), &whiteout, Namespace::Trusted, &under, Twin::Absent);
        assert_eq!(ids(&judged), expected, "{under:?}");
    }
}

#[test]
fn foreign_files() {
    let (empty, full, fifo) = (facts(Kind::File, 0, &[]), facts(Kind::File, 1, &[]), facts(Kind::Fifo, 0, &[]));
    let made = Some(Repair::Whiteout("f".into()));
    let table = [
        (".wh.f", &empty, Under::Unknown, Twin::Absent, "foreign-whiteout", made.clone()),
        (".wh.f", &empty, PRESENT, Twin::Absent, "foreign-whiteout", made),
        (".wh.f", &empty, Under::Pure, Twin::Absent, "foreign-whiteout", Some(Repair::Unlink)),
        (".wh.f", &empty, Under::Absent, Twin::Absent, "foreign-whiteout", Some(Repair::Unlink)),
        (".wh.f", &empty, PRESENT, Twin::Other, "foreign-whiteout", Some(Repair::Unlink)),
        (".wh.f", &empty, PRESENT, Twin::Directory, "foreign-whiteout", None),
        (".wh.f", &full, PRESENT, Twin::Absent, "foreign-with-data", None),
        (".wh..wh..opq", &full, PRESENT, Twin::Absent, "foreign-with-data", None),
        (".wh..wh.aufs", &empty, PRESENT, Twin::Absent, "aufs", None),
    ];
    for (name, facts, under, twin, id, repair) in table {
        let judged = entry(OsStr::new(name), facts, Namespace::Trusted, &under, twin);
        let explained: Vec<_> = judged.iter().map(|defect| defect.explain()).map(|e| (e.id, e.repair)).collect();
        assert_eq!(explained, [(id, repair)], "{name} {under:?} {twin:?}");
    }
    assert!(entry(OsStr::new(".wh.f"), &fifo, Namespace::Trusted, &PRESENT, Twin::Absent).is_empty());
}

#[test]
fn what_comes_from_the_disk_is_escaped() {
    for defect in [
        Defect::from(MarkDefect::RedirectFormat(b"a\x1b[31m\n\xff".to_vec())),
        MarkDefect::UnseenWay("user.overlay.\u{1b}".into()).into(),
        NameDefect::ForeignWhiteout { hides: "\u{9b}x".into(), twin: Twin::Absent, needed: true }.into(),
    ] {
        let explanation = defect.explain();
        assert!(!explanation.means.chars().any(char::is_control), "{explanation:?}");
        assert_eq!(explanation.severity, Severity::Error);
    }
}
