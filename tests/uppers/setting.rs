//! The options under which the kernel's overlayfs writes uppers, and those by which haosfs takes them over.

/// How lower hard links and exported inodes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    Off,
    On,
    /// `nfs_export=on`, which brings the index along.
    Export,
}

/// One combination.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub redirect_dir: &'static str,
    pub metacopy: bool,
    pub index: Index,
    pub xino: &'static str,
    pub userxattr: bool,
    pub uuid: &'static str,
    pub volatile: bool,
}

const UUIDS: [&str; 4] = ["auto", "on", "null", "off"];

impl Setting {
    fn named(&self, driver_is_kernel: bool) -> Vec<String> {
        let mut options = vec![format!("xino={}", self.xino), format!("uuid={}", self.uuid)];
        if self.userxattr {
            options.push("userxattr".into());
        } else {
            options.push(format!("redirect_dir={}", self.redirect_dir));
        }
        if self.metacopy {
            options.push("metacopy=on".into());
        }
        options.push(format!("index={}", if self.index == Index::Off { "off" } else { "on" }));
        // haosfs keeps what nfs_export=on wrote, but exports nothing itself.
        if self.index == Index::Export && driver_is_kernel {
            options.push("nfs_export=on".into());
        }
        if self.volatile {
            options.push("volatile".into());
        }
        options
    }

    /// For mount -t overlay.
    pub fn for_kernel(&self) -> Vec<String> {
        self.named(true)
    }

    /// For haosfs.
    pub fn for_haosfs(&self) -> Vec<String> {
        self.named(false)
    }
}

/// All combinations that the kernel takes together. What does not touch the others, `uuid` and `volatile`, goes round with them,
/// unless `HAOSFS_UPPERS=all` asks for every one.
pub fn settings() -> Vec<Setting> {
    let ways =
        [("off", false, false), ("nofollow", false, false), ("on", false, false), ("on", true, false), ("off", false, true)];
    let mut settings = Vec::new();
    for (redirect_dir, metacopy, userxattr) in ways {
        for index in [Index::Off, Index::On, Index::Export] {
            if index == Index::Export && (metacopy || userxattr) {
                continue;
            }
            for xino in ["off", "on"] {
                let base = Setting { redirect_dir, metacopy, index, xino, userxattr, uuid: "auto", volatile: false };
                if std::env::var("HAOSFS_UPPERS").as_deref() == Ok("all") {
                    let all = UUIDS.iter().flat_map(|uuid| [false, true].map(|volatile| Setting { uuid, volatile, ..base }));
                    settings.extend(all);
                } else {
                    let n = settings.len();
                    settings.push(Setting { uuid: UUIDS[n % UUIDS.len()], volatile: n % 2 == 1, ..base });
                }
            }
        }
    }
    settings
}
