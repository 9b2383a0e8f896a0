//! Arguments of `baton run`.

use std::path::PathBuf;

use clap::Args;

use crate::manifest::InputArg;

/// Without --server (or BATON_SERVER), everything happens in this process, on a server of its own.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A workflow or an agent
    #[arg(value_name = "FILE", required_unless_present_any = ["files", "workflow", "agent"], conflicts_with = "files")]
    pub(crate) file: Option<PathBuf>,
    /// Manifest or folder of manifests, applied before the run; can be repeated
    #[arg(long = "file", short = 'f', value_name = "FILE|DIR|-", id = "files")]
    pub(crate) files: Vec<PathBuf>,
    /// Which workflow to run, if there are several
    #[arg(long, value_name = "NAME", conflicts_with = "agent")]
    pub(crate) workflow: Option<String>,
    /// Which agent to run, if there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Input: JSON, @FILE, or - for stdin
    #[arg(long, short, value_name = "JSON")]
    pub(crate) input: Option<InputArg>,
    /// What to say to an agent
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Add to the execution's env; can be repeated
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// End the execution after this long, such as 10m
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// Name of the execution; made up if it is left out
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Keep the data here; a run that was interrupted goes on when it is started again
    #[arg(long, value_name = "DIR", conflicts_with = "detach")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print the name of the execution and do not wait for it; needs --server
    #[arg(long)]
    pub(crate) detach: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("allowed is NAME=VALUE".to_owned()),
    }
}
