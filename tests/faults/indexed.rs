//! Hard links of a lower that an index keeps together: no fault parts them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::case::Case;
use crate::copies::append;

const INDEX: &[&str] = &["index=on"];

fn written(root: &Path) {
    append(&root.join("link-a")).unwrap();
}

pub const INDEXED: &[Case] = &[
    Case::new("write to one name", |root| append(&root.join("link-a"))).with(INDEX),
    Case::new("write to the other name, too", |root| append(&root.join("link-b"))).with(INDEX).after(written),
    Case::new("write to one name, fsync=strict", |root| append(&root.join("link-a"))).with(&["index=on", "fsync=strict"]),
    Case::new("chmod of one name", |root| fs::set_permissions(root.join("link-b"), Permissions::from_mode(0o600))).with(INDEX),
    Case::new("remove one name", |root| fs::remove_file(root.join("link-a"))).with(INDEX),
    Case::new("remove the name that was written to", |root| fs::remove_file(root.join("link-a"))).with(INDEX).after(written),
    Case::new("remove the name in the lower alone", |root| fs::remove_file(root.join("link-b"))).with(INDEX).after(written),
    Case::new("remove the last name", |root| fs::remove_file(root.join("link-b")))
        .with(INDEX)
        .after(|root| fs::remove_file(root.join("link-a")).unwrap()),
    Case::new("a further name", |root| fs::hard_link(root.join("link-a"), root.join("other/link"))).with(INDEX),
    Case::new("rename one name", |root| fs::rename(root.join("link-b"), root.join("other/moved"))).with(INDEX).after(written),
    Case::new("replace one name", |root| fs::rename(root.join("file"), root.join("link-a"))).with(INDEX),
    Case::new("replace the last name", |root| fs::rename(root.join("file"), root.join("link-b")))
        .with(INDEX)
        .after(|root| fs::remove_file(root.join("link-a")).unwrap()),
];
