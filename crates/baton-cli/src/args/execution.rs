//! Arguments of the commands about executions.

use clap::Args;

use crate::kind::KindArg;

#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// Kind: wfx or agx; or KIND/NAME
    pub(crate) kind: KindArg,
    /// Name of the execution
    pub(crate) name: Option<String>,
    /// Why, for its history and for whoever waits for it
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Kind: wfx or agx; or KIND/NAME
    pub(crate) kind: KindArg,
    /// Name of the execution
    pub(crate) name: Option<String>,
    /// Go on as events are recorded, until the execution has ended
    #[arg(long)]
    pub(crate) follow: bool,
    /// Also what models say, while they say it; on a terminal this is the default
    #[arg(long, requires = "follow")]
    pub(crate) deltas: bool,
    /// Only events after this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) after: i32,
}

#[derive(Debug, Args)]
pub(crate) struct TreeArgs {
    /// Kind: wfx or agx; or KIND/NAME
    pub(crate) kind: KindArg,
    /// Name of any execution of the tree
    pub(crate) name: Option<String>,
}
