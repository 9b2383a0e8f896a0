//! Arguments of the commands about artifacts.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactCommand {
    /// Upload a file, and print the digest by which attachments name it
    Put(ArtifactPutArgs),
    /// Print the content of an artifact, or save it
    Get(ArtifactGetArgs),
    /// Show what was uploaded, or what an execution made
    List(ArtifactListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ArtifactPutArgs {
    /// The file; - for stdin
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
    /// What it is, such as image/png [default: application/octet-stream]
    #[arg(long, value_name = "TYPE", default_value = "")]
    pub(crate) media_type: String,
    /// How long it is kept, in seconds [default: 7 days]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct ArtifactGetArgs {
    /// Digest of an uploaded artifact; with --execution, the name of one that it made
    #[arg(value_name = "DIGEST|NAME")]
    pub(crate) artifact: String,
    /// The agent execution that made it
    #[arg(long, value_name = "NAME")]
    pub(crate) execution: Option<String>,
    /// Where to save it; a file that is there is not replaced [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ArtifactListArgs {
    /// What this agent execution made, in place of what was uploaded
    #[arg(long, value_name = "NAME")]
    pub(crate) execution: Option<String>,
}
