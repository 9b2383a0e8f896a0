//! The command line as typed: these types only parse. What a setting is in the end, `settings` decides.

mod approval;
mod artifact;
mod author;
mod callback;
mod chat;
mod create;
mod event;
mod execution;
mod resource;
mod run;
mod server;
mod session;
mod temporal;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub(crate) use approval::{ApprovalsArgs, ApproveArgs, DeciderArgs, DenyArgs, ResolveArgs};
pub(crate) use artifact::{ArtifactCommand, ArtifactGetArgs, ArtifactListArgs, ArtifactPutArgs};
pub(crate) use author::{FormatArgs, GraphArgs, GraphFormat, TestArgs, ValidateArgs};
pub(crate) use callback::{CallbackCommand, TokenArgs};
pub(crate) use chat::ChatArgs;
pub(crate) use create::{CreateCommand, CreateSecretArgs};
pub(crate) use event::{EventCommand, SendArgs};
pub(crate) use execution::{AskArgs, HistoryArgs, TreeArgs};
pub(crate) use resource::{ApplyArgs, DeleteArgs, DescribeArgs, GetArgs, ListArgs, SelectorArgs, WatchArgs};
pub(crate) use run::RunArgs;
pub(crate) use server::{BackupArgs, ImportArgs, RestoreArgs, ServerArgs, WorkerArgs};
pub(crate) use session::{ExportArgs, SessionCommand};

/// Durable executions with a return address.
#[derive(Debug, Parser)]
#[command(name = "baton", version, max_term_width = 100, propagate_version = false, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// URL of the server; of several over one store, the next is taken when one is not there (repeat it, or use commas)
    /// [env: BATON_SERVER] [default: http://127.0.0.1:8377]
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',')]
    pub(crate) server: Vec<String>,
    /// Namespace to work in [env: BATON_NAMESPACE] [default: default]
    #[arg(long, short, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Form of the data on stdout [env: BATON_OUTPUT] [default: table]
    #[arg(long, short, global = true, value_name = "FORM")]
    pub(crate) output: Option<Format>,
    /// Configuration file [env: BATON_CONFIG] [default: ~/.config/baton/baton.toml if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Which log lines go to stderr, such as info or baton_engine=debug [env: BATON_LOG] [default: warn; server, worker: info]
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log_level: Option<String>,
    /// Say nothing on stderr but errors
    #[arg(long, short, global = true, action = ArgAction::SetTrue)]
    pub(crate) quiet: bool,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// The API's JSON, indented; a list is the API's list.
    Json,
    /// The API's JSON, one object a line.
    Jsonl,
    /// The API's JSON as YAML.
    Yaml,
    /// KIND/NAME, one a line.
    Name,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a workflow or an agent, show its progress and print its output
    Run(RunArgs),
    /// Serve the API
    Server(ServerArgs),
    /// Run executions that are in Temporal, for a server elsewhere
    ///
    /// It asks the server (--server) for every step and shows it the worker key: the text of the file worker.key in the
    /// server's data directory. Where Temporal is and which model to ask, it is told as the server is.
    Worker(WorkerArgs),
    /// Create or update resources from manifests
    Apply(ApplyArgs),
    /// Create a resource from values that belong in no manifest
    #[command(subcommand)]
    Create(CreateCommand),
    /// Show one resource, or the resources of a kind
    Get(GetArgs),
    /// Show the resources of a kind
    List(ListArgs),
    /// Show all about one resource, for people
    Describe(DescribeArgs),
    /// Delete resources
    Delete(DeleteArgs),
    /// Show changes as they happen
    Watch(WatchArgs),
    /// Ask an execution to wind up
    Cancel(AskArgs),
    /// End an execution at once
    Terminate(AskArgs),
    /// Hold an execution: nothing new starts, answers are kept
    Suspend(AskArgs),
    /// Let a suspended execution go on
    Resume(AskArgs),
    /// Show what executions ask people, and wait for
    Approvals(ApprovalsArgs),
    /// Have a call made that an execution asks about
    Approve(ApproveArgs),
    /// Have a call not made that an execution asks about
    Deny(DenyArgs),
    /// Say what becomes of a call that may or may not have happened
    Resolve(ResolveArgs),
    /// Talk to an agent: a line in, its answer out
    ///
    /// Each line of stdin is a turn of a session. Answers go to stdout, what is done for them is shown on stderr.
    Chat(ChatArgs),
    /// Look after conversations
    #[command(subcommand)]
    Session(SessionCommand),
    /// Files for executions, and what executions made
    #[command(subcommand)]
    Artifact(ArtifactCommand),
    /// Show what happened in an execution, event by event
    History(HistoryArgs),
    /// Show who started whom and who waits for whom
    Tree(TreeArgs),
    /// Make, answer and look after callback tokens
    #[command(subcommand)]
    Callback(CallbackCommand),
    /// Publish events
    #[command(subcommand)]
    Event(EventCommand),
    /// Offer published workflows and agents to clients of MCP, over stdin and stdout
    ///
    /// For clients that start a program. It forwards to /mcp/NAMESPACE of the server (--server), where clients that speak
    /// HTTP go themselves.
    Mcp,
    /// Check manifests without a server
    Validate(ValidateArgs),
    /// Put manifests into the usual form: order of fields, quotes, indentation
    Fmt(FormatArgs),
    /// Draw a workflow
    Graph(GraphArgs),
    /// Test workflows and agents against scripted answers, in simulated time, without a server
    Test(TestArgs),
    /// Take over workflow executions that an older version serialized
    Import(ImportArgs),
    /// Copy the data of a server, while it runs or not
    Backup(BackupArgs),
    /// Put a backup in place as the data of a server
    Restore(RestoreArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// Print the version
    Version,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting, its value, and where the value comes from
    Show,
}

/// For which shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_holds() {
        super::Cli::command().debug_assert();
    }
}
