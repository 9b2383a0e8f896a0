//! The `baton` binary: a client of the API like any other, and the server itself.
//!
//! Three steps, three modules: `args` parses, `settings` merges flags, environment, file and defaults, `commands` run on
//! that. Output goes through `printer`: stdout is the data and nothing else.

mod args;
mod client;
mod commands;
mod failure;
mod kind;
mod local;
mod manifest;
mod offline;
mod output;
mod printer;
mod progress;
mod run;
mod settings;
mod style;
mod suite;
mod yaml;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::{
    args::{Cli, Command},
    client::Ask,
    commands::Context,
    failure::Failure,
    printer::Printer,
    settings::{Environment as _, ProcessEnvironment, Settings, Source, env_vars},
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code of a wrong command line, as clap has it.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that is gone (`baton --help | head -1`) is no error.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let printer = Printer::new(cli.global.quiet, ProcessEnvironment.read(env_vars::NO_COLOR).is_some());
    match start(cli, printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn start(cli: Cli, printer: Printer) -> Result<(), Failure> {
    let settings = Settings::resolve(&cli.global, &ProcessEnvironment)?;
    start_log(&settings, &cli.command)?;
    let context = Context { settings, printer };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::environment("start the threads").because(&error))?;
    let result = runtime.block_on(execute(&context, cli.command));
    // Whatever still waits for input (a read of stdin cannot be cancelled) must not keep the process.
    runtime.shutdown_background();
    result
}

async fn execute(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => Box::pin(commands::run(context, args)).await,
        Command::Server(args) => commands::server(context, args).await,
        Command::Worker(args) => commands::worker(context, args).await,
        Command::Apply(args) => commands::apply(context, args).await,
        Command::Create(command) => Box::pin(commands::create(context, command)).await,
        Command::Get(args) => commands::get(context, args).await,
        Command::List(args) => commands::list(context, args).await,
        Command::Describe(args) => commands::describe(context, args).await,
        Command::Delete(args) => commands::delete(context, args).await,
        Command::Watch(args) => commands::watch(context, args).await,
        Command::Cancel(args) => commands::ask(context, args, Ask::Cancel).await,
        Command::Terminate(args) => commands::ask(context, args, Ask::Terminate).await,
        Command::Suspend(args) => commands::ask(context, args, Ask::Suspend).await,
        Command::Resume(args) => commands::ask(context, args, Ask::Resume).await,
        Command::Approvals(args) => commands::approvals(context, args).await,
        Command::Approve(args) => commands::approve(context, args).await,
        Command::Deny(args) => commands::deny(context, args).await,
        Command::Resolve(args) => commands::resolve(context, args).await,
        Command::Chat(args) => Box::pin(commands::chat(context, args)).await,
        Command::Session(command) => commands::session(context, command).await,
        Command::Artifact(command) => commands::artifact(context, command).await,
        Command::History(args) => commands::history(context, args).await,
        Command::Tree(args) => commands::tree(context, args).await,
        Command::Callback(command) => commands::callback(context, command).await,
        Command::Event(command) => commands::event(context, command).await,
        Command::Mcp => Box::pin(commands::mcp(context)).await,
        Command::Validate(args) => commands::validate(context, &args),
        Command::Fmt(args) => commands::fmt(context, &args),
        Command::Graph(args) => commands::graph(context, &args),
        Command::Test(args) => commands::test(context, args).await,
        Command::Import(args) => commands::import(context, args).await,
        Command::Backup(args) => commands::backup(context, &args),
        Command::Restore(args) => commands::restore(context, &args),
        Command::Config(command) => commands::config(context, &command),
        Command::Completion(args) => completion(context, args.shell),
        Command::Version => context.printer.data(&format!("baton {}", env!("CARGO_PKG_VERSION"))),
    }
}

fn completion(context: &Context, shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "baton", &mut script);
    context.printer.data(&String::from_utf8_lossy(&script))
}

/// Log lines go to stderr. A server and a worker say more by themselves than a command does.
fn start_log(settings: &Settings, command: &Command) -> Result<(), Failure> {
    let level = &settings.log_level;
    let filter = match (command, &level.source) {
        (Command::Server(_) | Command::Worker(_), Source::Default) => "info",
        _ => level.value.as_str(),
    };
    // The SDK of MCP logs whatever servers say, which may be anything; what matters of it is in faults.
    let quiet = format!("rmcp=off,{filter}");
    let filter = tracing_subscriber::EnvFilter::try_new(quiet).map_err(|error| {
        Failure::usage(format!("log level '{filter}' ({})", level.source))
            .because(&error)
            .hint("allowed are forms such as warn, info and baton_engine=debug")
    })?;
    let colour =
        ProcessEnvironment.read(env_vars::NO_COLOR).is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
    Ok(())
}
