//! The arguments of `haosfs rauc-backend` as clap reads them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::commands::rauc_backend::Action;
use crate::mount::boot_record::usual_ini;

/// By this name it is called as RAUC calls a backend.
pub const NAME: &str = "rauc-backend";

#[derive(Debug, Args)]
pub struct RaucArguments {
    /// haos.ini, by default the one that was booted from, or else /haos/haos.ini
    #[arg(long, value_name = "FILE")]
    pub ini: Option<PathBuf>,
    #[command(subcommand)]
    action: RaucCommand,
}

#[derive(Debug, Subcommand)]
enum RaucCommand {
    /// Print the slot that is booted next
    GetPrimary,
    /// Have a slot tried at the next boot
    SetPrimary {
        /// Its name
        slot: String,
    },
    /// Print whether a slot can be booted: good or bad
    GetState {
        /// Its name
        slot: String,
    },
    /// Confirm a slot, or leave it
    SetState {
        /// Its name
        slot: String,
        /// What it is
        state: SlotState,
    },
    /// Print the slot that is running
    GetCurrent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SlotState {
    /// It works
    Good,
    /// It does not
    Bad,
}

impl RaucArguments {
    /// The same in the words of the layer below.
    pub fn into_action(self) -> (PathBuf, Action) {
        let action = match self.action {
            RaucCommand::GetPrimary => Action::GetPrimary,
            RaucCommand::SetPrimary { slot } => Action::SetPrimary { slot },
            RaucCommand::GetState { slot } => Action::GetState { slot },
            RaucCommand::SetState { slot, state } => Action::SetState { slot, good: state == SlotState::Good },
            RaucCommand::GetCurrent => Action::GetCurrent,
        };
        (self.ini.unwrap_or_else(usual_ini), action)
    }
}
