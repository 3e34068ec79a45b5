#!/bin/sh
# haosfs.system=PARTUUID=... (or /dev/...) on the kernel's command line names the system partition, with haos.ini and the images;
# or root= does, with haosfs.ini=. An initramfs with systemd needs the former, for systemd itself mounts what root= names.

type getarg > /dev/null 2>&1 || . /lib/dracut-lib.sh

haosfs_system=$(getarg haosfs.system=)
if [ -z "$haosfs_system" ] && getarg haosfs.ini= > /dev/null; then
    haosfs_system=${root#block:}
fi
if [ -n "$haosfs_system" ]; then
    case $haosfs_system in
        LABEL=* | UUID=* | PARTUUID=* | PARTLABEL=*) haosfs_system=$(label_uuid_to_dev "$haosfs_system") ;;
    esac
    wait_for_dev "$haosfs_system"
    # shellcheck disable=SC2034
    root=haosfs:$haosfs_system rootok=1
fi
unset haosfs_system
