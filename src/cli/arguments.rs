//! The arguments as clap reads them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::boot_arguments::BootArguments;
use super::boot_guard_arguments::BootGuardArguments;
use super::config_arguments::ConfigCommand;
use super::install_arguments::InstallArguments;
use super::rauc_arguments::RaucArguments;
use super::update_arguments::UpdateCommand;
use crate::commands::check;
use crate::commands::image::Action;
use crate::commands::mount::Manner;
use crate::config::mount_options::{self, MountOptions};
use crate::config::size::parse_size;
use crate::error::Result;

/// A writable layer over immutable squashfs images.
#[derive(Debug, Parser)]
#[command(name = "haosfs", version, max_term_width = 120)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount an image, or several layers, as one tree; writable with --upper
    Mount(MountArguments),
    /// Unmount, and wait until the upper is free again
    Umount {
        /// Where a haosfs mount stands
        mountpoint: PathBuf,
        /// Detach at once, even while in use
        #[arg(short, long)]
        lazy: bool,
    },
    /// Say what this machine offers this user, and which backend would be taken
    Doctor {
        /// A haos.ini, an image or a directory that would be mounted
        source: Option<OsString>,
        /// Mount options, as in fstab
        #[arg(short, value_name = "OPTIONS")]
        options: Vec<OsString>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say what is mounted, by which backend and why, and how full its upper is
    Status {
        /// Only the union that stands here
        mountpoint: Option<PathBuf>,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Say what is wrong with an upper that is not mounted
    Check(CheckArguments),
    /// Show or change haos.ini, which names the images and the data partition of an appliance
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Try a new image, and go back to the one before where it fails
    #[command(subcommand)]
    Update(UpdateCommand),
    /// Mount the root file system that haos.ini names, for an initramfs or a first init
    Boot(BootArguments),
    /// Confirm the image that is tried where its checks are green, or else leave it
    BootGuard(BootGuardArguments),
    /// Answer RAUC, whose slots are images of haos.ini
    RaucBackend(RaucArguments),
    /// Look into an image without mounting it
    #[command(subcommand)]
    Image(ImageCommand),
    /// Show in a temporary directory what haosfs does
    Demo,
    /// Put this program, its links for mount(8), its manual pages and completions where the system looks for them
    Install(InstallArguments),
}

#[derive(Debug, Default, Args)]
pub struct MountArguments {
    /// A squashfs image (file or block device), or a directory: the topmost lower layer; or a haos.ini, by its name *.ini
    pub image: OsString,
    /// An existing directory
    pub mountpoint: PathBuf,
    /// Directory that takes every change; without it the mount is read-only
    #[arg(long, value_name = "DIR")]
    pub upper: Option<PathBuf>,
    /// Directory for unfinished work, on the same file system as the upper
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// A further layer below; repeat it for more, topmost first
    #[arg(long, value_name = "IMAGE|DIR")]
    pub lower: Vec<PathBuf>,
    /// Who joins the layers: the same as -o backend=, by default auto for a haos.ini and fuse for anything else
    #[arg(long, value_enum)]
    pub backend: Option<Backend>,
    /// Say which backend does the work, and why
    #[arg(short, long)]
    pub verbose: bool,
    /// Stay in the foreground and log to standard error
    #[arg(short, long)]
    pub foreground: bool,
    /// Log to this file rather than to the system log
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Bytes before the image in its file (K, M, G for powers of 1024)
    #[arg(long, value_name = "BYTES", value_parser = offset)]
    pub offset: Option<u64>,
    /// Mount options, as in fstab; README.md lists them
    #[arg(short, value_name = "OPTIONS")]
    pub options: Vec<OsString>,
    /// Open all that would be opened, change and mount nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Pass over unknown mount options with a warning (mount(8)'s -s)
    #[arg(long, hide = true)]
    pub sloppy: bool,
}

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// An upper directory
    pub upper: PathBuf,
    /// Its work directory
    pub work: PathBuf,
    /// A layer below it; repeat it for all of them, topmost first
    #[arg(long, value_name = "IMAGE|DIR")]
    pub lower: Vec<PathBuf>,
    /// Mend what can be mended without guessing and without losing anything
    #[arg(long)]
    pub repair: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// Options that the upper is mounted with
    #[arg(short, value_name = "OPTIONS", value_enum, value_delimiter = ',')]
    pub options: Vec<CheckOption>,
}

/// The options that change what an upper means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckOption {
    /// Marks stand in user.overlay.
    Userxattr,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Backend {
    /// The kernel where it can, else our own daemon
    Auto,
    /// The kernel's overlayfs over images that the kernel mounts
    Kernel,
    /// The kernel's overlayfs over images that our own daemon reads
    Hybrid,
    /// Our own daemon
    #[default]
    Fuse,
}

/// The image and where it begins.
#[derive(Debug, Args)]
pub struct ImageArguments {
    /// A squashfs image (file or block device)
    pub image: PathBuf,
    /// Bytes before the image in its file (K, M, G for powers of 1024)
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = offset)]
    pub offset: u64,
}

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Show what the superblock says
    Info {
        #[command(flatten)]
        at: ImageArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List a directory of the image
    Ls {
        #[command(flatten)]
        at: ImageArguments,
        /// Path within the image
        #[arg(default_value = "/")]
        path: PathBuf,
        /// List directories within directories, too
        #[arg(short = 'R', long)]
        recursive: bool,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Write a file of the image to standard output
    Cat {
        #[command(flatten)]
        at: ImageArguments,
        /// Path within the image
        path: PathBuf,
    },
    /// Unpack the image, or a part of it
    Extract {
        #[command(flatten)]
        at: ImageArguments,
        /// Path within the image
        #[arg(default_value = "/")]
        path: PathBuf,
        /// Unpack into this existing directory
        #[arg(short = 'C', long, value_name = "DIR")]
        directory: PathBuf,
    },
    /// Read everything and report the first damage
    Verify {
        #[command(flatten)]
        at: ImageArguments,
    },
}

fn offset(text: &str) -> std::result::Result<u64, &'static str> {
    parse_size(text).ok_or("expected BYTES, with K, M or G for powers of 1024")
}

impl MountArguments {
    /// The `-o` lists as one value; `--offset` wins over `offset=`.
    ///
    /// # Errors
    /// As for [`MountOptions::read`].
    pub fn mount_options(&self) -> Result<MountOptions> {
        let mut options = MountOptions { sloppy: self.sloppy, ..MountOptions::default() };
        self.options.iter().try_for_each(|list| options.read(list))?;
        options.offset = self.offset.or(options.offset);
        options.backend = self.backend.map(Backend::as_option).or(options.backend);
        Ok(options)
    }

    /// In which process the union shall be served.
    pub const fn manner(&self) -> Manner {
        match (self.dry_run, self.foreground) {
            (true, _) => Manner::DryRun,
            (false, true) => Manner::Foreground,
            (false, false) => Manner::Background,
        }
    }
}

impl Backend {
    const fn as_option(self) -> mount_options::Backend {
        match self {
            Self::Auto => mount_options::Backend::Auto,
            Self::Kernel => mount_options::Backend::Kernel,
            Self::Hybrid => mount_options::Backend::Hybrid,
            Self::Fuse => mount_options::Backend::Fuse,
        }
    }
}

impl CheckArguments {
    /// The same in the words of the layer below.
    pub fn into_request(self) -> check::Request {
        let userxattr = self.options.contains(&CheckOption::Userxattr);
        let Self { upper, work, lower, repair, json, .. } = self;
        check::Request { upper, work, lowers: lower, userxattr, repair, json }
    }
}

impl ImageCommand {
    /// The same in the words of the layer below.
    pub fn into_action(self) -> Action {
        match self {
            Self::Info { at, json } => Action::Info { image: at.image, offset: at.offset, json },
            Self::Ls { at, path, recursive, json } => Action::Ls { image: at.image, offset: at.offset, path, recursive, json },
            Self::Cat { at, path } => Action::Cat { image: at.image, offset: at.offset, path },
            Self::Extract { at, path, directory } => Action::Extract { image: at.image, offset: at.offset, path, directory },
            Self::Verify { at } => Action::Verify { image: at.image, offset: at.offset },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
