//! The arguments of `haosfs update` as clap reads them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::commands::update::{Action, StageRequest};
use crate::mount::boot_record::usual_ini;

/// Where haos.ini stands, and how to tell of what is done.
#[derive(Debug, Args)]
pub struct At {
    /// haos.ini, by default the one that was booted from, or else /haos/haos.ini
    #[arg(long, value_name = "FILE")]
    ini: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl At {
    fn ini(self) -> PathBuf {
        self.ini.unwrap_or_else(usual_ini)
    }
}

#[derive(Debug, Subcommand)]
pub enum UpdateCommand {
    /// Copy an image to its place, check it, and have it tried at the next boot
    Stage {
        /// A squashfs image
        image: PathBuf,
        #[command(flatten)]
        at: At,
        /// What its SHA-256 must be
        #[arg(long, value_name = "H")]
        sha256: Option<String>,
        /// Refuse it unless its manifest is signed for this public key of minisign; by default that of [update] in haos.ini
        #[arg(long, value_name = "PUBKEY")]
        key: Option<String>,
        /// Try it although it has failed before
        #[arg(long)]
        again: bool,
    },
    /// Say where an update stands
    Status {
        #[command(flatten)]
        at: At,
    },
    /// The image that is tried works: it becomes the system image
    Confirm {
        #[command(flatten)]
        at: At,
        /// Believe that it is running where haosfs boot has left no word of that
        #[arg(long)]
        unrecorded: bool,
    },
    /// The image that is tried does not work: the system image is booted next
    Fail {
        #[command(flatten)]
        at: At,
        /// Why, in one line
        #[arg(long, value_name = "R")]
        reason: String,
        /// Keep the end of this file as the log of the boot that failed
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
    },
    /// Leave the image that is tried, or go back to the one before
    Rollback {
        #[command(flatten)]
        at: At,
    },
    /// Remove images and uppers that nobody needs
    Gc {
        #[command(flatten)]
        at: At,
        /// Only say which
        #[arg(long)]
        dry_run: bool,
    },
}

impl UpdateCommand {
    /// The same in the words of the layer below.
    pub fn into_action(self) -> Action {
        match self {
            Self::Stage { image, at, sha256, key, again } => {
                let json = at.json;
                Action::Stage(StageRequest { image, ini: at.ini(), sha256, key, again, json })
            }
            Self::Status { at } => Action::Status { json: at.json, ini: at.ini() },
            Self::Confirm { at, unrecorded } => Action::Confirm { unrecorded, json: at.json, ini: at.ini() },
            Self::Fail { at, reason, log } => Action::Fail { reason, log, json: at.json, ini: at.ini() },
            Self::Rollback { at } => Action::Rollback { json: at.json, ini: at.ini() },
            Self::Gc { at, dry_run } => Action::Gc { dry_run, json: at.json, ini: at.ini() },
        }
    }
}
