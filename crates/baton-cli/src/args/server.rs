//! Arguments of the commands about a server and its data.

use std::path::PathBuf;

use clap::Args;

use super::temporal::{TemporalArgs, TemporalServerArgs};

#[derive(Debug, Default, Args)]
pub(crate) struct ServerArgs {
    /// Where to keep the data [env: BATON_DATA_DIR] [default: baton-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to listen on; loopback only in this version [env: BATON_LISTEN] [default: 127.0.0.1:8377]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// PostgreSQL database to keep everything in, for several servers; shows its password to whoever lists processes, rather
    /// use [env: BATON_STORE_URL] [default: the embedded store]
    #[arg(long, value_name = "URL")]
    pub(crate) store_url: Option<String>,
    /// Where other servers of the same store reach this one [env: BATON_ADVERTISE] [default: the address to listen on]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// Key of callback tokens, the same for all servers of one store [env: BATON_KEY_FILE] [default: baton.key in the data
    /// directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Let Temporal's SDKs complete waiting tasks as they complete activities [env: BATON_TEMPORAL_COMPATIBLE]
    #[arg(long)]
    pub(crate) temporal_compatible: bool,
    /// Where executions run: embedded, in the server itself, or temporal [env: BATON_ENGINE] [default: embedded]
    #[arg(long, value_name = "KIND")]
    pub(crate) engine: Option<String>,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    #[command(flatten)]
    pub(crate) temporal: TemporalArgs,
    #[command(flatten)]
    pub(crate) temporal_server: TemporalServerArgs,
}

/// What workflows may run on this machine.
#[derive(Debug, Default, Args)]
pub(crate) struct ProcessArgs {
    /// Commands of workflows: sandboxed, off or unconfined [env: BATON_RUN_COMMANDS] [default: sandboxed]
    #[arg(long, value_name = "HOW")]
    run_commands: Option<String>,
    /// Let commands and containers of workflows reach the network [env: BATON_RUN_NETWORK]
    #[arg(long)]
    run_network: bool,
}

impl ProcessArgs {
    /// The settings that these flags are.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&'static str, String)> {
        let commands = self.run_commands.clone().map(|it| ("run.commands", it));
        commands.into_iter().chain(self.run_network.then(|| ("run.network", true.to_string())))
    }
}

#[derive(Debug, Default, Args)]
pub(crate) struct WorkerArgs {
    /// File with the worker key [env: BATON_WORKER_KEY_FILE; the key itself: BATON_WORKER_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) worker_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    #[command(flatten)]
    pub(crate) temporal: TemporalArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Serialized WorkflowExecutions, one a file; of a folder, every file in it
    #[arg(long, value_name = "FILE|DIR", num_args = 1.., required = true)]
    pub(crate) legacy: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Folder that the backup becomes; must not exist
    #[arg(value_name = "TO")]
    pub(crate) to: PathBuf,
    /// The data directory to copy; a server that uses it goes on [env: BATON_DATA_DIR] [default: baton-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The folder that baton backup made
    #[arg(value_name = "FROM")]
    pub(crate) from: PathBuf,
    /// Where the data goes, which no server may be using
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Set aside the data that is there
    #[arg(long)]
    pub(crate) replace: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}
