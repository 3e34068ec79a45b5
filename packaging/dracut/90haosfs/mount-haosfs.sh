#!/bin/sh
# Mounts the root file system that haos.ini names. The system partition becomes /haos of the new root where that is a directory, else
# it stays at /run/haosfs/system.
#
#   haosfs.ini=FILE       haos.ini on the system partition, by default /haos.ini
#   haosfs.options=LIST   options of the mount, as of haosfs boot -o
#   haosfs.wait=SECONDS   how long the data partition, and images on devices, are waited for
#   init=FILE             the first program, as ever

type getarg > /dev/null 2>&1 || . /lib/dracut-lib.sh

type fsck_single > /dev/null 2>&1 || . /lib/fs-lib.sh

# Nobody is asked. 255 stands for what was not checked.
haosfs_is_sound() {
    getargbool 0 rd.skipfsck || (
        fsck_ask_err() { :; }
        fsck_ask_reboot() { :; }
        fsck_single "$1" auto "" -a
        ret=$?
        [ $ret = 255 ] || [ $((ret & 4)) = 0 ]
    )
}

mount_haosfs() {
    local system=/run/haosfs/system device=${root#haosfs:} ini options first patience way ways="rw ro ro,norecovery"

    ini=$(getarg haosfs.ini=)
    options=$(getarg haosfs.options=)
    first=$(getarg init=)
    patience=$(getarg haosfs.wait=)
    for module in fuse loop squashfs overlay efi_pstore; do
        modprobe -q "$module"
    done
    # Where the machine keeps what the kernel said last; it may be mounted already.
    ismounted /sys/fs/pstore || mount -t pstore pstore /sys/fs/pstore > /dev/null 2>&1
    # Attempts are counted there, so it is writable whatever "ro" says of the root; but what was not mended is only read. So is a medium
    # that has gone read-only, whose journal nobody can write back.
    mkdir -p "$system"
    if ! ismounted "$system" && ! haosfs_is_sound "$device"; then
        ways=${ways#rw}
        warn "haosfs: the system partition $device has errors that fsck has not mended"
    fi
    for way in $ways; do
        ismounted "$system" || mount -o "$way" "$device" "$system" || warn "haosfs: $device cannot be mounted with the options $way"
    done
    ismounted "$system" || die "haosfs: the system partition $device cannot be mounted"
    haosfs boot --ini "$system/${ini:-haos.ini}" --target "$NEWROOT" \
        ${first:+"--init=$first"} ${options:+"-o$options"} ${patience:+"--wait=$patience"} || die "haosfs: there is no root file system"
    # What it has found to be there is what is started. dracut's own first program looks there before /sbin/init; systemd is told by
    # switch-root.conf, but not of systemd: up to version 252 it would not hand its state on to what it does not know by itself.
    if [ -f /run/haosfs/boot.env ]; then
        . /run/haosfs/boot.env
        echo "rd.distroinit=$HAOSFS_INIT" > /etc/cmdline.d/00-haosfs.conf
        case $HAOSFS_INIT:$(readlink "$NEWROOT$HAOSFS_INIT") in
            */systemd/systemd | */systemd/systemd:) ;;
            *) echo "HAOSFS_SWITCH_TO=\"$HAOSFS_INIT\"" > /run/haosfs/switch-root.env ;;
        esac
    fi
    if [ -d "$NEWROOT/haos" ]; then
        # systemd makes all mounts shared, and those cannot be moved.
        mount --bind "$system" "$NEWROOT/haos" && umount -l "$system"
    fi
}

case $root in
    haosfs:*) ismounted "$NEWROOT" || mount_haosfs ;;
esac
