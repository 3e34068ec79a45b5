//! What is shipped for the makers of initramfs archives: an archive made by each of them starts the machine.

use std::path::{Path, PathBuf};

use super::qemu::debian;
use super::qemu::disk::{Data, Disk, image_name};
use super::qemu::host::{self, run};
use super::qemu::kernel::Kernel;
use super::qemu::machine::Machine;
use super::qemu::root;

/// A maker of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// mkinitramfs(8).
    InitramfsTools,
    /// dracut(8), with its own first program.
    Dracut,
    /// dracut(8), with systemd as the first program.
    DracutSystemd,
}

impl Maker {
    /// Its program, and the Debian package of that.
    pub const fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::InitramfsTools => ("mkinitramfs", "initramfs-tools-core"),
            Self::Dracut | Self::DracutSystemd => ("dracut", "dracut-core"),
        }
    }

    /// Makes the archive `$OUT` for the kernel `$RELEASE`.
    const fn script(self) -> &'static str {
        match self {
            Self::InitramfsTools => "mkinitramfs -o $OUT $RELEASE",
            Self::Dracut => "dracut --quiet --force --no-hostonly --kver $RELEASE --add haosfs --omit systemd $OUT",
            Self::DracutSystemd => "dracut --quiet --force --no-hostonly --kver $RELEASE --add 'haosfs systemd-initrd' $OUT",
        }
    }

    const fn parameters(self) -> &'static str {
        match self {
            Self::InitramfsTools => "boot=haosfs root=PARTUUID=7a5b3c1d-0001-4000-8000-000000000001 haosfs.ini=/haos.ini",
            Self::Dracut => "root=PARTUUID=7a5b3c1d-0001-4000-8000-000000000001 haosfs.ini=/haos.ini",
            Self::DracutSystemd => "haosfs.system=PARTUUID=7a5b3c1d-0001-4000-8000-000000000001",
        }
    }
}

/// The maker sees a /usr in which haosfs is installed, and the modules of that kernel; the machine's own /usr stays as it is.
const SCRIPT: &str = "
    mkdir $SCRATCH && mount -t tmpfs scratch $SCRATCH && mkdir $SCRATCH/upper $SCRATCH/work
    mount -t overlay -o lowerdir=/usr,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work usr /usr
    mkdir -p /usr/lib/modules/$RELEASE
    mount --bind $TREE/boot /boot
    mount --bind $TREE/lib/modules/$RELEASE /usr/lib/modules/$RELEASE
    $HAOSFS install --prefix /usr
    ";

fn archive(maker: Maker, kernel: &Kernel, dir: &Path) -> PathBuf {
    let out = dir.join("initramfs-made");
    let mut command = host::command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", &format!("{SCRIPT}{}", maker.script())]);
    command.env("SCRATCH", dir.join("scratch")).env("OUT", &out).env("RELEASE", kernel.release());
    command.env("TREE", kernel.tree()).env("HAOSFS", host::haosfs());
    run(&mut command);
    out
}

/// What an archive goes over to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// One that systemd starts.
    Systemd,
    /// One whose first program is busybox.
    Busybox,
}

impl System {
    fn image(self) -> &'static Path {
        match self {
            Self::Systemd => debian::image(),
            Self::Busybox => root::busybox(),
        }
    }

    /// Where its first program is put, since a maker knows /sbin/init by itself.
    const fn moved(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Systemd => None,
            Self::Busybox => Some(("/sbin/init", "/etc/init")),
        }
    }
}

/// Has an archive made, starts with it, and looks at what came of it; and once more with the first program at another place.
pub fn starts(maker: Maker, system: System, kernel: &'static Kernel) {
    let disk = Disk::new(Data::Ext4, system.image(), "", None);
    let archive = archive(maker, kernel, disk.dir());
    let machine = Machine::with_initramfs(kernel, disk, archive);
    let mut guest = machine.start_with(maker.parameters(), &[]);
    let started = guest.until_ready();
    guest.sh("echo written > /etc/note");
    assert_eq!(guest.sh("haosfs config get /haos/haos.ini system_image").trim(), image_name("1.0"));
    println!("{maker:?} {system:?} {}: started in {started:.1?}\n{}", kernel.release(), guest.sh("cat /proc/mounts"));
    if maker == Maker::DracutSystemd && system == System::Systemd {
        // Systemd hands its state on to systemd.
        let first = guest.sh("tr '\\0' ' ' </proc/1/cmdline");
        assert!(first.contains("--deserialize"), "{first}");
    }
    if let Some((from, to)) = system.moved() {
        guest.sh(&format!("mv {from} {to}"));
    }
    guest.power_off();
    let mut guest = machine.start_with(maker.parameters(), &[]);
    guest.until_ready();
    assert_eq!(guest.sh("cat /etc/note"), "written\n");
    if let Some((_, to)) = system.moved() {
        assert_eq!(guest.sh(". /run/haosfs/boot.env && echo $HAOSFS_INIT").trim(), to);
    }
    guest.power_off();
}
