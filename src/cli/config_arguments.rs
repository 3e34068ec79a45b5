//! The arguments of `haosfs config` as clap reads them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::commands::config::Action;

/// The file, and how to tell of it.
#[derive(Debug, Args)]
pub struct FileArguments {
    /// haos.ini
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show all that is configured, or, where nothing is, the image that is used then
    Show {
        #[command(flatten)]
        at: FileArguments,
    },
    /// Print the value of a key
    Get {
        #[command(flatten)]
        at: FileArguments,
        /// A key of [haos], or SECTION.KEY
        key: String,
    },
    /// Change keys, all in one step; the file may be new
    Set {
        #[command(flatten)]
        at: FileArguments,
        /// A key of [haos], or SECTION.KEY, and its value
        #[arg(value_name = "KEY=VALUE")]
        assignments: Vec<String>,
        /// Take this key away; repeat it for more
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Say what is wrong with the file, and whether this machine has what it names
    Check {
        #[command(flatten)]
        at: FileArguments,
    },
}

impl ConfigCommand {
    /// The same in the words of the layer below.
    pub fn into_action(self) -> Action {
        match self {
            Self::Show { at } => Action::Show { file: at.file, json: at.json },
            Self::Get { at, key } => Action::Get { file: at.file, key, json: at.json },
            Self::Set { at, assignments, unset } => Action::Set { file: at.file, assignments, unset, json: at.json },
            Self::Check { at } => Action::Check { file: at.file, json: at.json },
        }
    }
}
