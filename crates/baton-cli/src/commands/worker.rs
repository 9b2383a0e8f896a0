//! `baton worker`: runs executions that are in Temporal, for a server elsewhere.

use std::path::Path;

use baton_server::worker::{WorkerKey, WorkerKeyError, WorkerStartError, start_worker};

use super::Context;
use crate::{
    args::WorkerArgs,
    failure::Failure,
    local,
    run::Signals,
    settings::{Environment, ProcessEnvironment, env_vars},
};

pub(crate) async fn worker(context: &Context, args: WorkerArgs) -> Result<(), Failure> {
    let key = key(args.worker_key_file.as_deref(), &ProcessEnvironment)?;
    let flags: Vec<_> = args.process.settings().chain(args.temporal.settings()).collect();
    let config = local::server_config(&context.settings, &flags)?;
    let servers = context.settings.servers();
    let server = servers.join(" or ");
    let options = config
        .worker_options(servers, key, &ProcessEnvironment::variables())
        .map_err(|error| local::not_configured(&context.settings, &error))?;
    let (task_queue, temporal) = (options.temporal.task_queue.clone(), options.temporal.connection.clone());
    let mut signals = Signals::new()?;
    let running = tokio::select! {
        started = start_worker(options) => started.map_err(|error| not_started(&error))?,
        () = signals.next() => return Ok(()),
    };
    let polls = format!(
        "polling task queue '{task_queue}' of namespace '{}' in Temporal at {}, for {server}",
        temporal.namespace, temporal.address
    );
    let mut told = false;
    loop {
        tokio::select! {
            () = running.polling(), if !told => {
                context.printer.message(&polls);
                told = true;
            }
            () = signals.next() => break,
            // Without its server nothing that it does can be reported, so there is nothing to wait for.
            why = running.failed() => {
                return Err(Failure::refused(format!("the server at {server} does not let the worker in any more: {why}")));
            }
        }
    }
    context.printer.message("stopping; interrupt once more to stop at once");
    tokio::select! {
        () = running.shutdown() => Ok(()),
        () = signals.next() => {
            Err(Failure::environment("stopped at once; what was not finished runs again on another worker"))
        }
    }
}

/// The worker key: of the file of the flag, else as the environment has it.
fn key(flag: Option<&Path>, environment: &impl Environment) -> Result<WorkerKey, Failure> {
    let file = flag.map(Path::to_owned).or_else(|| environment.read(env_vars::WORKER_KEY_FILE).map(Into::into));
    let read = match (file, environment.read(env_vars::WORKER_KEY)) {
        (Some(file), _) => WorkerKey::read(&file),
        (None, Some(text)) => WorkerKey::parse(&text),
        (None, None) => {
            return Err(Failure::usage("the worker key is missing")
                .hint("give --worker-key-file and the file worker.key in the server's data directory"));
        }
    };
    read.map_err(|error| match error {
        WorkerKeyError::Io { .. } => Failure::environment("the worker key cannot be had").because(&error),
        WorkerKeyError::Malformed { .. } => Failure::usage(error.to_string())
            .hint("it is the text of the file worker.key in the server's data directory"),
    })
}

fn not_started(error: &WorkerStartError) -> Failure {
    let failure = match error {
        WorkerStartError::Server(error) => Failure::usage(format!("--server {error}")),
        WorkerStartError::Refused { .. } => Failure::refused(error.to_string()),
        WorkerStartError::Temporal(_) | WorkerStartError::Activities(_) => {
            Failure::environment("the worker did not start").because(error)
        }
    };
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
