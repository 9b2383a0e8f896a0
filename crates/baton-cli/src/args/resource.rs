//! Arguments of the commands about resources.

use std::path::PathBuf;

use clap::Args;

use crate::kind::KindArg;

/// Which objects of a kind.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SelectorArgs {
    /// Only those with these labels, such as team=ops,env!=test
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Only those with these fields, such as status.phase=Failed or spec.workflow=hello
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) field_selector: Option<String>,
    /// In all namespaces
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Manifest, folder of manifests, or - for stdin; can be repeated
    #[arg(long = "file", short = 'f', value_name = "FILE|DIR|-", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Have the server check everything and store nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Kind, such as workflows, wf, agentexecutions, agx; or KIND/NAME
    pub(crate) kind: KindArg,
    /// Name; all of the kind if it is left out
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) selector: SelectorArgs,
    /// At most this many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) limit: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Kind, such as workflows, wf, agentexecutions, agx
    pub(crate) kind: KindArg,
    #[command(flatten)]
    pub(crate) selector: SelectorArgs,
    /// At most this many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) limit: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Kind, such as wf or agx; or KIND/NAME
    pub(crate) kind: KindArg,
    /// Name
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Kind, such as wf or agx; or KIND/NAME
    #[arg(required_unless_present = "files")]
    pub(crate) kind: Option<KindArg>,
    /// Name
    pub(crate) name: Option<String>,
    /// Delete what these manifests name
    #[arg(long = "file", short = 'f', value_name = "FILE|DIR|-", conflicts_with = "kind")]
    pub(crate) files: Vec<PathBuf>,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// What does not exist is no error
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Kind, such as wfx or agx; or KIND/NAME
    pub(crate) kind: KindArg,
    /// Name; all of the kind if it is left out
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) selector: SelectorArgs,
}
