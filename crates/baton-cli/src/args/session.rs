//! Arguments of the commands about sessions.

use clap::{Args, Subcommand};

/// What to do with a session.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Print what was said, turn by turn: as Markdown, or with -o json, jsonl or yaml as data
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Name of the session
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Leave out the turns up to this number
    #[arg(long, value_name = "TURN", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) after: i32,
}
