//! Arguments of `baton create`.

use clap::{Args, Subcommand};

/// What to create.
#[derive(Debug, Subcommand)]
pub(crate) enum CreateCommand {
    /// Create a secret, or set keys of one
    ///
    /// Values go in and are never shown again. What stands on the command line stays in the history of the shell and in
    /// the list of processes: read values from stdin (--from-file KEY=-), from files or from variables.
    Secret(CreateSecretArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateSecretArgs {
    /// Name of the secret
    pub(crate) name: String,
    /// A key and its value; - reads the value from stdin; can be repeated
    #[arg(long, value_name = "KEY=VALUE|KEY=-")]
    pub(crate) from_literal: Vec<String>,
    /// A key and the file that holds its value, byte for byte; the key is the file's name if it is left out; - reads
    /// stdin, without the line break at its end; can be repeated
    #[arg(long, value_name = "[KEY=]FILE|KEY=-")]
    pub(crate) from_file: Vec<String>,
    /// A key and the variable that holds its value; the key is the variable's name if it is left out; can be repeated
    #[arg(long, value_name = "[KEY=]VARIABLE")]
    pub(crate) from_env: Vec<String>,
    /// Set the keys of a secret that exists; its other keys stay
    #[arg(long)]
    pub(crate) update: bool,
    /// Have the server check everything and store nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
