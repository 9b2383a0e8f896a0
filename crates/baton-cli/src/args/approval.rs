//! Arguments of the commands about approvals.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ApprovalsArgs {
    /// Those that were decided, too
    #[arg(long)]
    pub(crate) all: bool,
    /// In all namespaces
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
    /// Go on as approvals are raised and decided
    #[arg(long, short)]
    pub(crate) watch: bool,
}

/// Who decides on what.
#[derive(Debug, Args)]
pub(crate) struct DeciderArgs {
    /// Name of the approval, as baton approvals shows it
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Decide only if the arguments have this digest; without it, what they are now is decided on
    #[arg(long, value_name = "DIGEST")]
    pub(crate) digest: Option<String>,
    /// Who decides, for the record; nobody checks it in this version
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) caller: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    #[command(flatten)]
    pub(crate) decider: DeciderArgs,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Have the call made with the arguments of this file (JSON or YAML) instead; - for stdin
    #[arg(long, value_name = "FILE|-")]
    pub(crate) arguments: Option<PathBuf>,
    /// Of a limit that is near: add so much to it, such as tokens=50000 or cost=0.50; may be given again
    #[arg(long, value_name = "LIMIT=AMOUNT", conflicts_with = "arguments")]
    pub(crate) extend: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DenyArgs {
    #[command(flatten)]
    pub(crate) decider: DeciderArgs,
    /// Why; the model is told
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    pub(crate) decider: DeciderArgs,
    #[command(flatten)]
    pub(crate) how: ResolveHow,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

/// What becomes of a call that may or may not have happened.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ResolveHow {
    /// It did not happen: make the call again
    #[arg(long)]
    pub(crate) retry: bool,
    /// It happened, and this file (JSON or YAML) holds what it gave; - for stdin
    #[arg(long, value_name = "FILE|-")]
    pub(crate) result: Option<PathBuf>,
    /// End the execution
    #[arg(long)]
    pub(crate) fail: bool,
}
