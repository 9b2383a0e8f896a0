//! Workers: what polls Temporal and runs the Programs of executions there, in the server or in a process of its own.
//!
//! [`start_worker`] runs one in the present runtime for a server elsewhere; the server runs one by itself unless it is told
//! not to. Both are the same but for their ledger.
//!
//! # Invariants
//! - A worker holds nothing that is not elsewhere too: it may end at any moment, and any number of them may run.
//!
//! # Failure
//! Neither Temporal nor the server needs to be there: what is away is waited for. A worker that Temporal does not let poll
//! tries again after a pause. A server that refuses the key ends it: [`RunningWorker::failed`].

mod home;
pub(crate) mod joined;
mod key;
mod remote;
mod supervise;
pub(crate) mod wire;

use std::sync::Arc;

use baton_activities::{
    ActivitiesError, ActivitiesOptions, EgressPolicy, ModelsOptions, RunOptions, Tracer, TracesOptions, WorldActivities,
};
use baton_engine::Ledger;
use baton_engine_temporal::{ConnectError, Connection, TemporalOptions};
use baton_types::ErrorKind;

pub use key::{WORKER_KEY_FILE, WorkerKey, WorkerKeyError};
pub use remote::{AddressError, RemoteLedger};

use self::home::RemoteHome;
pub(crate) use self::supervise::{Parts, Supervised};
use crate::{programs::ProgramCache, traces};

/// Largest message between a worker and its server, in bytes: long data goes whole, and the history of a step with it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// What is done with Temporal, and where it is.
#[derive(Clone, Debug)]
pub struct TemporalSettings {
    /// Where it is, and the namespace that executions run in.
    pub connection: TemporalOptions,
    /// Namespaces whose task tokens are taken as return addresses.
    pub callback_namespaces: Vec<String>,
    /// Whether new executions run there rather than in the server.
    pub runs_executions: bool,
    /// Task queue that workers poll.
    pub task_queue: String,
    /// Whether the server runs a worker itself.
    pub worker: bool,
    /// Events in the history of a run after which an execution goes on in a new run.
    pub continue_as_new_events: u32,
}

impl TemporalSettings {
    /// Executions run there, tokens of the same namespace are answered, and the server runs a worker.
    pub fn new(connection: TemporalOptions) -> Self {
        let config = crate::config::TemporalConfig::default();
        Self {
            callback_namespaces: vec![connection.namespace.clone()],
            connection,
            runs_executions: true,
            task_queue: config.task_queue,
            worker: config.worker,
            continue_as_new_events: config.continue_as_new_events,
        }
    }
}

/// How to run a worker in a process of its own.
#[derive(Clone, Debug)]
pub struct WorkerProcessOptions {
    /// URLs of its server, or of several of one store: any of them will do.
    pub servers: Vec<String>,
    /// What it shows to be let in there.
    pub key: WorkerKey,
    /// Where Temporal is, and which task queue is polled.
    pub temporal: TemporalSettings,
    /// What activities may call.
    pub egress: EgressPolicy,
    /// Where models are asked, and what they cost.
    pub models: ModelsOptions,
    /// What commands, scripts and containers may do.
    pub run: RunOptions,
    /// Where traces go; `None` for nowhere.
    pub traces: Option<TracesOptions>,
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerStartError {
    /// The server's URL is none.
    #[error(transparent)]
    Server(#[from] AddressError),
    /// The server answers, and does not want it.
    #[error("the server does not let the worker in: {message}")]
    Refused {
        /// In the server's words.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Temporal cannot be reached with these settings, however long one waits.
    #[error("set up the connection to Temporal")]
    Temporal(#[source] ConnectError),
    /// Outgoing calls cannot be made.
    #[error("set up activities")]
    Activities(#[source] ActivitiesError),
}

impl WorkerStartError {
    /// What to do about it, as one line.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. } => hint.as_deref(),
            Self::Server(_) | Self::Temporal(_) | Self::Activities(_) => None,
        }
    }
}

/// A worker that runs until it is told to stop.
#[derive(Debug)]
pub struct RunningWorker {
    ledger: RemoteLedger,
    supervised: Supervised,
    tracer: Option<Tracer>,
}

/// Starts a worker: sees that its server lets it in (if the server is there), and begins to connect to Temporal.
///
/// # Errors
/// See [`WorkerStartError`]; nothing is left running.
pub async fn start_worker(options: WorkerProcessOptions) -> Result<RunningWorker, WorkerStartError> {
    let ledger = RemoteLedger::new(&options.servers, &options.key)?;
    match ledger.check().await {
        Ok(()) => {}
        Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Timeout) => {
            tracing::warn!(reason = error.reason, "going on without the server until it is there: {error}");
        }
        Err(error) => return Err(WorkerStartError::Refused { message: error.message, hint: error.hint }),
    }
    let activities = ActivitiesOptions {
        egress: options.egress,
        models: options.models,
        run: options.run,
        traces: options.traces,
        ..ActivitiesOptions::default()
    };
    let activities =
        WorldActivities::new(activities, Arc::new(RemoteHome(ledger.clone()))).map_err(WorkerStartError::Activities)?;
    let activities = Arc::new(activities);
    activities.keep_sweeping();
    let tracer = activities.tracer().cloned();
    let connection = Connection::start(options.temporal.connection.clone()).map_err(WorkerStartError::Temporal)?;
    let parts = Parts {
        ledger: Arc::new(ledger.clone()) as Arc<dyn Ledger>,
        programs: Arc::new(ProgramCache::default()),
        activity_names: activities.names().collect(),
        activities,
    };
    let supervised = Supervised::start(connection, &options.temporal, parts);
    Ok(RunningWorker { ledger, supervised, tracer })
}

impl RunningWorker {
    /// Resolves once it polls for work.
    pub async fn polling(&self) {
        self.supervised.polling().await;
    }

    /// Resolves when it cannot go on, with the reason: its server has refused the key.
    pub async fn failed(&self) -> String {
        self.ledger.refused().await
    }

    /// Stops it: takes no new work, lets activities finish for a while. What is not finished runs again elsewhere.
    pub async fn shutdown(self) {
        self.supervised.shutdown().await;
        traces::flush(self.tracer.as_ref()).await;
    }
}

#[cfg(test)]
mod tests;
