# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_haosfs_global_optspecs
    string join \n h/help V/version
end

function __fish_haosfs_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_haosfs_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_haosfs_using_subcommand
    set -l cmd (__fish_haosfs_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c haosfs -n "__fish_haosfs_needs_command" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_needs_command" -s V -l version -d 'Print version'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "mount" -d 'Mount an image, or several layers, as one tree; writable with --upper'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "umount" -d 'Unmount, and wait until the upper is free again'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "doctor" -d 'Say what this machine offers this user, and which backend would be taken'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "status" -d 'Say what is mounted, by which backend and why, and how full its upper is'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "check" -d 'Say what is wrong with an upper that is not mounted'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "config" -d 'Show or change haos.ini, which names the images and the data partition of an appliance'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "update" -d 'Try a new image, and go back to the one before where it fails'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "boot" -d 'Mount the root file system that haos.ini names, for an initramfs or a first init'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "boot-guard" -d 'Confirm the image that is tried where its checks are green, or else leave it'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "rauc-backend" -d 'Answer RAUC, whose slots are images of haos.ini'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "image" -d 'Look into an image without mounting it'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "demo" -d 'Show in a temporary directory what haosfs does'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "install" -d 'Put this program, its links for mount(8), its manual pages and completions where the system looks for them'
complete -c haosfs -n "__fish_haosfs_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -l upper -d 'Directory that takes every change; without it the mount is read-only' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -l work -d 'Directory for unfinished work, on the same file system as the upper' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -l lower -d 'A further layer below; repeat it for more, topmost first' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -l backend -d 'Who joins the layers: the same as -o backend=, by default auto for a haos.ini and fuse for anything else' -r -f -a "auto\t'The kernel where it can, else our own daemon'
kernel\t'The kernel\'s overlayfs over images that the kernel mounts'
hybrid\t'The kernel\'s overlayfs over images that our own daemon reads'
fuse\t'Our own daemon'"
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -l log -d 'Log to this file rather than to the system log' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -l offset -d 'Bytes before the image in its file (K, M, G for powers of 1024)' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -s o -d 'Mount options, as in fstab; README.md lists them' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -s v -l verbose -d 'Say which backend does the work, and why'
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -s f -l foreground -d 'Stay in the foreground and log to standard error'
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -l dry-run -d 'Open all that would be opened, change and mount nothing'
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -l sloppy -d 'Pass over unknown mount options with a warning (mount(8)\'s -s)'
complete -c haosfs -n "__fish_haosfs_using_subcommand mount" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c haosfs -n "__fish_haosfs_using_subcommand umount" -s l -l lazy -d 'Detach at once, even while in use'
complete -c haosfs -n "__fish_haosfs_using_subcommand umount" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand doctor" -s o -d 'Mount options, as in fstab' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand doctor" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand status" -l json -d 'Print JSON, one object a line'
complete -c haosfs -n "__fish_haosfs_using_subcommand status" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand check" -l lower -d 'A layer below it; repeat it for all of them, topmost first' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand check" -s o -d 'Options that the upper is mounted with' -r -f -a "userxattr\t'Marks stand in user.overlay'"
complete -c haosfs -n "__fish_haosfs_using_subcommand check" -l repair -d 'Mend what can be mended without guessing and without losing anything'
complete -c haosfs -n "__fish_haosfs_using_subcommand check" -l json -d 'Print JSON, one object a line'
complete -c haosfs -n "__fish_haosfs_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and not __fish_seen_subcommand_from show get set check" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and not __fish_seen_subcommand_from show get set check" -f -a "show" -d 'Show all that is configured, or, where nothing is, the image that is used then'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and not __fish_seen_subcommand_from show get set check" -f -a "get" -d 'Print the value of a key'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and not __fish_seen_subcommand_from show get set check" -f -a "set" -d 'Change keys, all in one step; the file may be new'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and not __fish_seen_subcommand_from show get set check" -f -a "check" -d 'Say what is wrong with the file, and whether this machine has what it names'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and __fish_seen_subcommand_from show" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and __fish_seen_subcommand_from get" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and __fish_seen_subcommand_from set" -l unset -d 'Take this key away; repeat it for more' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and __fish_seen_subcommand_from set" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and __fish_seen_subcommand_from check" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and not __fish_seen_subcommand_from stage status confirm fail rollback gc" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and not __fish_seen_subcommand_from stage status confirm fail rollback gc" -f -a "stage" -d 'Copy an image to its place, check it, and have it tried at the next boot'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and not __fish_seen_subcommand_from stage status confirm fail rollback gc" -f -a "status" -d 'Say where an update stands'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and not __fish_seen_subcommand_from stage status confirm fail rollback gc" -f -a "confirm" -d 'The image that is tried works: it becomes the system image'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and not __fish_seen_subcommand_from stage status confirm fail rollback gc" -f -a "fail" -d 'The image that is tried does not work: the system image is booted next'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and not __fish_seen_subcommand_from stage status confirm fail rollback gc" -f -a "rollback" -d 'Leave the image that is tried, or go back to the one before'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and not __fish_seen_subcommand_from stage status confirm fail rollback gc" -f -a "gc" -d 'Remove images and uppers that nobody needs'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from stage" -l ini -d 'haos.ini, by default the one that was booted from, or else /haos/haos.ini' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from stage" -l sha256 -d 'What its SHA-256 must be' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from stage" -l key -d 'Refuse it unless its manifest is signed for this public key of minisign; by default that of [update] in haos.ini' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from stage" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from stage" -l again -d 'Try it although it has failed before'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from stage" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from status" -l ini -d 'haos.ini, by default the one that was booted from, or else /haos/haos.ini' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from status" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from confirm" -l ini -d 'haos.ini, by default the one that was booted from, or else /haos/haos.ini' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from confirm" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from confirm" -l unrecorded -d 'Believe that it is running where haosfs boot has left no word of that'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from confirm" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from fail" -l ini -d 'haos.ini, by default the one that was booted from, or else /haos/haos.ini' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from fail" -l reason -d 'Why, in one line' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from fail" -l log -d 'Keep the end of this file as the log of the boot that failed' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from fail" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from fail" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from rollback" -l ini -d 'haos.ini, by default the one that was booted from, or else /haos/haos.ini' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from rollback" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from rollback" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from gc" -l ini -d 'haos.ini, by default the one that was booted from, or else /haos/haos.ini' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from gc" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from gc" -l dry-run -d 'Only say which'
complete -c haosfs -n "__fish_haosfs_using_subcommand update; and __fish_seen_subcommand_from gc" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand boot" -l ini -d 'haos.ini' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand boot" -l target -d 'An existing directory, which becomes the root' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand boot" -l init -d 'The first program; without it, whatever is in the usual places' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand boot" -s o -d 'Mount options, as in fstab; rootfs is implied' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand boot" -l wait -d 'Seconds in which the data partition, and images on devices, must appear' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand boot" -s v -l verbose -d 'Say which backend does the work, and why'
complete -c haosfs -n "__fish_haosfs_using_subcommand boot" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand boot" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand boot-guard" -l ini -d 'haos.ini, by default the one that was booted from, or else /haos/haos.ini' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand boot-guard" -l required -d 'Directory of checks that must be green; repeat it for more' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand boot-guard" -l wanted -d 'Directory of checks that should be; repeat it for more' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand boot-guard" -l deadline -d 'Seconds from the beginning of the boot, where that is less than haos.ini has' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand boot-guard" -l reboot-command -d 'How to start the machine anew, for the shell' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand boot-guard" -l watchdog -d 'The hardware\'s watchdog' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand boot-guard" -l application -d 'Wait until the application says that it works, by haosfs update confirm'
complete -c haosfs -n "__fish_haosfs_using_subcommand boot-guard" -l no-reboot -d 'Do not start the machine anew'
complete -c haosfs -n "__fish_haosfs_using_subcommand boot-guard" -l no-watchdog -d 'Leave the watchdog alone'
complete -c haosfs -n "__fish_haosfs_using_subcommand boot-guard" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and not __fish_seen_subcommand_from get-primary set-primary get-state set-state get-current" -l ini -d 'haos.ini, by default the one that was booted from, or else /haos/haos.ini' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and not __fish_seen_subcommand_from get-primary set-primary get-state set-state get-current" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and not __fish_seen_subcommand_from get-primary set-primary get-state set-state get-current" -f -a "get-primary" -d 'Print the slot that is booted next'
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and not __fish_seen_subcommand_from get-primary set-primary get-state set-state get-current" -f -a "set-primary" -d 'Have a slot tried at the next boot'
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and not __fish_seen_subcommand_from get-primary set-primary get-state set-state get-current" -f -a "get-state" -d 'Print whether a slot can be booted: good or bad'
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and not __fish_seen_subcommand_from get-primary set-primary get-state set-state get-current" -f -a "set-state" -d 'Confirm a slot, or leave it'
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and not __fish_seen_subcommand_from get-primary set-primary get-state set-state get-current" -f -a "get-current" -d 'Print the slot that is running'
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and __fish_seen_subcommand_from get-primary" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and __fish_seen_subcommand_from set-primary" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and __fish_seen_subcommand_from get-state" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and __fish_seen_subcommand_from set-state" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c haosfs -n "__fish_haosfs_using_subcommand rauc-backend; and __fish_seen_subcommand_from get-current" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and not __fish_seen_subcommand_from info ls cat extract verify" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and not __fish_seen_subcommand_from info ls cat extract verify" -f -a "info" -d 'Show what the superblock says'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and not __fish_seen_subcommand_from info ls cat extract verify" -f -a "ls" -d 'List a directory of the image'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and not __fish_seen_subcommand_from info ls cat extract verify" -f -a "cat" -d 'Write a file of the image to standard output'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and not __fish_seen_subcommand_from info ls cat extract verify" -f -a "extract" -d 'Unpack the image, or a part of it'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and not __fish_seen_subcommand_from info ls cat extract verify" -f -a "verify" -d 'Read everything and report the first damage'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from info" -l offset -d 'Bytes before the image in its file (K, M, G for powers of 1024)' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from info" -l json -d 'Print JSON'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from info" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from ls" -l offset -d 'Bytes before the image in its file (K, M, G for powers of 1024)' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from ls" -s R -l recursive -d 'List directories within directories, too'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from ls" -l json -d 'Print JSON, one object a line'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from cat" -l offset -d 'Bytes before the image in its file (K, M, G for powers of 1024)' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from cat" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from extract" -l offset -d 'Bytes before the image in its file (K, M, G for powers of 1024)' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from extract" -s C -l directory -d 'Unpack into this existing directory' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from extract" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from verify" -l offset -d 'Bytes before the image in its file (K, M, G for powers of 1024)' -r
complete -c haosfs -n "__fish_haosfs_using_subcommand image; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand demo" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand install" -l destdir -d 'Install into the system whose root this directory is' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand install" -l prefix -d 'Where programs and manuals stand within it; links for mount(8) always stand in /sbin' -r -F
complete -c haosfs -n "__fish_haosfs_using_subcommand install" -l remove -d 'Take away what an earlier call with the same directories installed'
complete -c haosfs -n "__fish_haosfs_using_subcommand install" -s h -l help -d 'Print help'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "mount" -d 'Mount an image, or several layers, as one tree; writable with --upper'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "umount" -d 'Unmount, and wait until the upper is free again'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "doctor" -d 'Say what this machine offers this user, and which backend would be taken'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "status" -d 'Say what is mounted, by which backend and why, and how full its upper is'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "check" -d 'Say what is wrong with an upper that is not mounted'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "config" -d 'Show or change haos.ini, which names the images and the data partition of an appliance'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "update" -d 'Try a new image, and go back to the one before where it fails'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "boot" -d 'Mount the root file system that haos.ini names, for an initramfs or a first init'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "boot-guard" -d 'Confirm the image that is tried where its checks are green, or else leave it'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "rauc-backend" -d 'Answer RAUC, whose slots are images of haos.ini'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "image" -d 'Look into an image without mounting it'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "demo" -d 'Show in a temporary directory what haosfs does'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "install" -d 'Put this program, its links for mount(8), its manual pages and completions where the system looks for them'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and not __fish_seen_subcommand_from mount umount doctor status check config update boot boot-guard rauc-backend image demo install help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "show" -d 'Show all that is configured, or, where nothing is, the image that is used then'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "get" -d 'Print the value of a key'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "set" -d 'Change keys, all in one step; the file may be new'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "check" -d 'Say what is wrong with the file, and whether this machine has what it names'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from update" -f -a "stage" -d 'Copy an image to its place, check it, and have it tried at the next boot'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from update" -f -a "status" -d 'Say where an update stands'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from update" -f -a "confirm" -d 'The image that is tried works: it becomes the system image'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from update" -f -a "fail" -d 'The image that is tried does not work: the system image is booted next'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from update" -f -a "rollback" -d 'Leave the image that is tried, or go back to the one before'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from update" -f -a "gc" -d 'Remove images and uppers that nobody needs'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from rauc-backend" -f -a "get-primary" -d 'Print the slot that is booted next'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from rauc-backend" -f -a "set-primary" -d 'Have a slot tried at the next boot'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from rauc-backend" -f -a "get-state" -d 'Print whether a slot can be booted: good or bad'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from rauc-backend" -f -a "set-state" -d 'Confirm a slot, or leave it'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from rauc-backend" -f -a "get-current" -d 'Print the slot that is running'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "info" -d 'Show what the superblock says'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "ls" -d 'List a directory of the image'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "cat" -d 'Write a file of the image to standard output'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "extract" -d 'Unpack the image, or a part of it'
complete -c haosfs -n "__fish_haosfs_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "verify" -d 'Read everything and report the first damage'
