//! `-o remount,...`: what a remount may say. mount(8) adds what mountinfo or fstab tells of the mount, which therefore is accepted
//! where it changes nothing, or cannot be changed by anybody.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::mount_options::{Access, MountOptions};
use super::option_list::{name_and_value, split_unescaped};
use crate::error::{Error, Result};
use crate::types::Atime;

/// A wish that a mount be so, which a remount can compare but not fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// `nosuid`, `suid`.
    Nosuid(bool),
    /// `nodev`, `dev`.
    Nodev(bool),
    /// `noexec`, `exec`.
    Noexec(bool),
    /// `nosymfollow`, `symfollow`.
    Nosymfollow(bool),
    /// `sync`, `async`.
    Sync(bool),
    /// `noatime`, `relatime`, `strictatime`.
    Atime(Atime),
    /// `allow_other`.
    AllowOther,
}

/// A remount as asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remount {
    /// `ro` or `rw`, the last of them; without either nothing is to be done.
    pub access: Option<Access>,
    /// Each with the word that was used.
    pub claims: Vec<(String, Claim)>,
    /// Names of the unknown options that `sloppy` passes over.
    pub passed_over: Vec<String>,
}

/// What the kernel shows of a FUSE superblock (fs/fuse/inode.c, `fuse_show_options`) or of a security module, and mount(8) hands back.
const SHOWN: [&str; 6] = ["user_id", "group_id", "rootmode", "max_read", "blksize", "seclabel"];

impl Remount {
    /// Reads all `-o` arguments; `None` where none of them says `remount`.
    ///
    /// # Errors
    /// As for [`MountOptions::read`]; unknown options are passed over where `sloppy`.
    pub fn asked(lists: &[OsString], sloppy: bool) -> Result<Option<Self>> {
        let items: Vec<&[u8]> = lists.iter().flat_map(|list| split_unescaped(list.as_bytes(), b',')).collect();
        if !items.contains(&&b"remount"[..]) {
            return Ok(None);
        }
        let mut remount = Self::default();
        // Reads what is compared with nothing; how the layers are mounted is beyond a remount.
        let mut others = MountOptions { sloppy, ..MountOptions::default() };
        for item in items.into_iter().filter(|item| !item.is_empty() && *item != b"remount") {
            let name = String::from_utf8_lossy(name_and_value(item).0).into_owned();
            match (name.as_str(), claim(item)) {
                ("ro", _) => remount.access = Some(Access::ReadOnly),
                ("rw", _) => remount.access = Some(Access::ReadWrite),
                (_, Some(claim)) => remount.claims.push((name, claim)),
                (shown, None) if SHOWN.contains(&shown) => {}
                _ => others.read(OsStr::from_bytes(item))?,
            }
        }
        remount.passed_over = others.passed_over;
        Ok(Some(remount))
    }

    /// Checks that nothing but ro and rw is to change; `is_so` tells how the union is mounted.
    ///
    /// # Errors
    /// [`Error::Refused`], naming the first option that would be a change.
    pub fn check(&self, is_so: impl Fn(Claim) -> bool) -> Result<()> {
        match self.claims.iter().find(|(_, claim)| !is_so(*claim)) {
            None => Ok(()),
            Some((name, _)) => Err(Error::Refused(format!(
                "option {name}: a remount changes ro and rw, nothing else; unmount and mount again with {name}"
            ))),
        }
    }
}

fn claim(item: &[u8]) -> Option<Claim> {
    Some(match item {
        b"nosuid" | b"suid" => Claim::Nosuid(item == b"nosuid"),
        b"nodev" | b"dev" => Claim::Nodev(item == b"nodev"),
        b"noexec" | b"exec" => Claim::Noexec(item == b"noexec"),
        b"nosymfollow" | b"symfollow" => Claim::Nosymfollow(item == b"nosymfollow"),
        b"sync" | b"async" => Claim::Sync(item == b"sync"),
        b"noatime" => Claim::Atime(Atime::Never),
        b"strictatime" => Claim::Atime(Atime::Strict),
        b"relatime" | b"atime" => Claim::Atime(Atime::Relative),
        b"allow_other" => Claim::AllowOther,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(list: &str) -> Result<Option<Remount>> {
        Remount::asked(&[list.into()], false)
    }

    #[test]
    fn only_remount_is_a_remount() {
        assert_eq!(asked("ro,nosuid").unwrap(), None);
        assert_eq!(asked("upperdir=/remount,ro").unwrap(), None);
        let plain = asked("rw,remount,ro").unwrap().unwrap();
        assert_eq!((plain.access, plain.claims), (Some(Access::ReadOnly), vec![]));
        assert_eq!(asked("remount").unwrap().unwrap().access, None);
    }

    #[test]
    fn what_mount_8_adds_is_accepted_where_it_changes_nothing() {
        let list = "rw,remount,nosuid,relatime,user_id=0,group_id=0,default_permissions,allow_other,upperdir=/u,nofail,x-a.b=c";
        let remount = asked(list).unwrap().unwrap();
        let words: Vec<&str> = remount.claims.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words, ["nosuid", "relatime", "allow_other"]);
        remount.check(|_| true).unwrap();
        let refused = remount.check(|claim| claim != Claim::Nosuid(true)).unwrap_err().to_string();
        assert!(refused.starts_with("option nosuid: a remount changes ro and rw"), "{refused}");
    }

    #[test]
    fn unknown_options_are_refused_here_too() {
        assert!(asked("remount,frobnicate").unwrap_err().to_string().contains("unknown option frobnicate"));
        let sloppy = Remount::asked(&["remount,frobnicate,ro".into()], true).unwrap().unwrap();
        assert_eq!(sloppy.passed_over, ["frobnicate"]);
    }
}
