#!/bin/bash
# A dracut module for a root file system by haos.ini: dracut --add haosfs.

check() {
    require_binaries /usr/bin/haosfs || return 1
    # Only where it is asked for.
    return 255
}

depends() {
    echo base fs-lib udev-rules
}

installkernel() {
    # What joins the layers: FUSE does alone; the others let the kernel do it.
    hostonly='' instmods fuse loop squashfs overlay
    # What system and data partitions have, and the encodings that FAT asks for.
    hostonly='' instmods ext4 btrfs xfs vfat nls_cp437 nls_ascii nls_iso8859_1 nls_utf8
    # Where some machines keep what the kernel said last.
    hostonly='' instmods efi_pstore ramoops
}

install() {
    inst_multiple mount modprobe
    inst_multiple -o fsck fsck.ext4 fsck.vfat e2fsck
    inst_binary /usr/bin/haosfs /bin/haosfs
    inst_hook cmdline 30 "$moddir/parse-haosfs.sh"
    inst_hook mount 20 "$moddir/mount-haosfs.sh"
    if dracut_module_included systemd; then
        # shellcheck disable=SC2154
        inst_simple "$moddir/switch-root.conf" "$systemdsystemunitdir/initrd-switch-root.service.d/haosfs.conf"
    fi
}
