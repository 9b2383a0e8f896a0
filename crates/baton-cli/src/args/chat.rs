//! Arguments of `baton chat`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// The agent; left out, that of the session
    #[arg(value_name = "AGENT", required_unless_present = "session")]
    pub(crate) agent: Option<String>,
    /// Go on with this session, or begin it; a new one is made if it is left out
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,
    /// End a turn after this long, such as 10m
    #[arg(long, value_name = "DURATION", default_value = "")]
    pub(crate) timeout: String,
}
