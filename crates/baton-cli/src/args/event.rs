//! Arguments of `baton event`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::manifest::InputArg;

/// What to do with events.
#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Publish events, for workflows that listen
    Send(SendArgs),
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// File of events in the JSON format of CloudEvents, JSON or YAML; - for stdin. One event, a list of events, or several
    /// YAML documents
    #[arg(
        long, short, value_name = "FILE", required_unless_present = "event_type",
        conflicts_with_all = ["event_type", "source", "id", "subject", "data", "extension"]
    )]
    pub(crate) filename: Option<PathBuf>,
    /// Type of the event
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "filename")]
    pub(crate) event_type: Option<String>,
    /// Where it comes from
    #[arg(long, value_name = "URI", default_value = "/baton-cli")]
    pub(crate) source: String,
    /// Its name within the source; a new one if it is left out
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// What it is about
    #[arg(long, value_name = "TEXT")]
    pub(crate) subject: Option<String>,
    /// Its data: JSON, @FILE (YAML too), or - for stdin
    #[arg(long, value_name = "JSON")]
    pub(crate) data: Option<InputArg>,
    /// A further attribute (repeat it)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) extension: Vec<String>,
}
