//! Where a target is known not to keep a promise, and why.

/// One known difference.
pub struct Exception {
    /// The whole target ("overlay tmpfs"), its driver ("overlay") or its file system ("tmpfs").
    pub target: &'static str,
    /// The function.
    pub case: &'static str,
    /// True when it fails every time; false when it depends on timing or on the kernel's version.
    pub always: bool,
    /// Why that is so.
    pub why: &'static str,
}

const fn always(target: &'static str, case: &'static str, why: &'static str) -> Exception {
    Exception { target, case, always: true, why }
}

const EXCEPTIONS: &[Exception] = &[
    always("tmpfs", "zero_range_reads_zero", "shmem_fallocate knows KEEP_SIZE and PUNCH_HOLE only (mm/shmem.c)"),
    always("overlay", "names_of_255_bytes", "ovl_lookup compares with the layers' largest f_namelen, and squashfs says 256"),
    always("overlay", "statfs_tells_of_space", "ovl_statfs answers the layers' largest f_namelen, and squashfs says 256"),
    always("overlay", "types_and_inode_numbers", "without xino, d_ino of a merged directory's entries is the layer's number"),
    always("overlay", "by_link", "index=off: a lower file linked by copy-up has two inode numbers"),
    always(
        "overlay",
        "old_mappings_see_new_data",
        "a mapping made before copy-up is one of the lower's page cache (overlayfs.rst)",
    ),
    always(
        "overlay",
        "unlinked_lower_files_live_on",
        "index=off: fstat of an unlinked lower file answers the lower's link count",
    ),
    always("overlay", "inode_numbers_agree", "without xino, d_ino of a merged directory's entries is the layer's number"),
    always(
        "overlay",
        "one_device",
        "without xino, non-directories keep a device number of their layer (overlayfs.rst, Inode properties)",
    ),
    always("overlay", "links_stay_one_file", "index=off: copy-up breaks hard links (overlayfs.rst)"),
    always("overlay", "links_of_lower_count", "index=off: copy-up breaks hard links (overlayfs.rst)"),
    always("overlay", "removing_one_link_keeps_the_others", "index=off: copy-up breaks hard links (overlayfs.rst)"),
    always("overlay-namespace", "by_link", "index=off: a lower file linked by copy-up has two inode numbers"),
    always(
        "overlay-namespace",
        "old_mappings_see_new_data",
        "a mapping made before copy-up is one of the lower's page cache (overlayfs.rst)",
    ),
    always(
        "overlay-namespace",
        "unlinked_lower_files_live_on",
        "index=off: fstat of an unlinked lower file answers the lower's link count",
    ),
    always("overlay-namespace", "links_stay_one_file", "index=off: copy-up breaks hard links (overlayfs.rst)"),
    always("overlay-namespace", "links_of_lower_count", "index=off: copy-up breaks hard links (overlayfs.rst)"),
    always("overlay-namespace", "removing_one_link_keeps_the_others", "index=off: copy-up breaks hard links (overlayfs.rst)"),
];

/// The exception for a function on a target, which is named "driver filesystem".
pub fn reason(target: &str, case: &str) -> Option<&'static Exception> {
    let covers = |pattern: &str| target == pattern || target.split(' ').any(|part| part == pattern);
    EXCEPTIONS.iter().find(|exception| exception.case == case && covers(exception.target))
}
