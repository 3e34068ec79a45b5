//! What is told of a rebase.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::update::base::Base;
use crate::update::escape::hex;

/// The form that is written here.
const FORMAT: u64 = 1;

/// What one side did at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something came where nothing was.
    Added,
    /// Content, attributes or kind became others.
    Changed,
    /// It went.
    Removed,
}

/// What became of a path that both sides changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as the user has it.
    Mine,
    /// Both have a directory: it shows the names of both, with the user's attributes.
    Merged,
}

/// A path that both the user and the new image changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// From the root of the union.
    pub path: PathBuf,
    /// What the user did.
    pub user: Change,
    /// What the new image did.
    pub image: Change,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an upper.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Names that are in the new upper.
    pub kept: u64,
    /// Names that are not.
    pub left_out: u64,
    /// What both sides changed, in no order.
    pub conflicts: Vec<Conflict>,
}

impl Report {
    /// The text of `rebase-report.json`: of the generation `parent`, made on `from`, for `to`.
    #[must_use]
    pub fn text(&self, parent: u64, from: &Base, to: &Base) -> String {
        let mut conflicts: Vec<&Conflict> = self.conflicts.iter().collect();
        conflicts.sort_by(|a, b| a.path.cmp(&b.path));
        let image = |base: &Base| json!({ "name": base.name.to_string_lossy(), "version": base.version.as_ref().map(ToString::to_string) });
        let report = json!({
            "format": FORMAT,
            "parent": parent,
            "from": image(from),
            "to": image(to),
            "policy": "mine",
            "kept": self.kept,
            "left_out": self.left_out,
            "conflicts": conflicts.into_iter().map(Conflict::object).collect::<Vec<Value>>(),
        });
        format!("{report:#}\n")
    }
}

impl Conflict {
    fn object(&self) -> Value {
        let mut object = json!({
            "path": self.path.to_string_lossy(),
            "user": self.user.word(),
            "image": self.image.word(),
            "outcome": match self.outcome {
                Outcome::Mine => "mine",
                Outcome::Merged => "merged",
            },
        });
        if self.path.to_str().is_none()
            && let Some(members) = object.as_object_mut()
        {
            members.insert("path_hex".to_owned(), hex(self.path.as_os_str().as_bytes()).into());
        }
        object
    }
}

impl Change {
    const fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn paths_are_told_in_order_and_by_their_bytes() {
        let conflict = |path: &[u8]| Conflict {
            path: OsStr::from_bytes(path).into(),
            user: Change::Changed,
            image: Change::Removed,
            outcome: Outcome::Mine,
        };
        let report = Report { kept: 2, left_out: 1, conflicts: vec![conflict(b"\xff"), conflict(b"etc/a")] };
        let base = Base { name: "a".into(), version: None, size: 1, digest: [0; 32] };
        let told: Value = serde_json::from_str(&report.text(7, &base, &base)).unwrap();
        assert_eq!((&told["format"], &told["parent"], &told["policy"]), (&1.into(), &7.into(), &"mine".into()));
        let first = json!({ "path": "etc/a", "user": "changed", "image": "removed", "outcome": "mine" });
        assert_eq!((&told["conflicts"][0], &told["conflicts"][1]["path_hex"]), (&first, &"ff".into()));
    }
}
