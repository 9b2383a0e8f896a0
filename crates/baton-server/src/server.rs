//! Joining the parts: store, engine, application layer, adapters, upkeep; their start and their end.
//!
//! # Invariants
//! - The address is bound before the data is touched, so a second server on the same port changes nothing.
//! - The end goes in the order of dependence: no new requests, answers to those that are there, engine, store.
//!
//! # Failure
//! A start that fails leaves nothing running. When the store dies, [`RunningServer::failed`] resolves; the process must
//! then end, and its restart recovers.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use baton_activities::{ActivitiesError, ActivitiesOptions, EgressPolicy, Secret, WorldActivities};
use baton_engine::{Engine, EngineOptions, KeyError, Ledger, Sealer};
use baton_engine_temporal::ConnectError;
use baton_execution::{Activities, Programs};
use baton_store::{Store, StoreError, StoreOptions};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, ChildAdmission},
    grpc::WorkerSide,
    metrics,
    programs::ProgramCache,
    serve::{self, Serving},
    upkeep::{Upkeep, UpkeepOptions},
    worker::{Parts, Supervised, TemporalSettings, WORKER_KEY_FILE, WorkerKey, WorkerKeyError, joined::Temporal},
};

/// Port that a server listens on if nothing else is said.
pub const PORT_DEFAULT: u16 = 8377;
/// File in the data directory that holds the key of callback tokens.
pub const KEY_FILE: &str = "baton.key";

/// How to run a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Directory of the store and of the key; made if it is not there.
    pub data_dir: PathBuf,
    /// Address to listen on: loopback only, port 0 for any that is free.
    pub listen: SocketAddr,
    /// Where models are asked unless an agent says otherwise.
    pub model_base_url: Option<String>,
    /// Key for that place.
    pub model_api_key: Option<Secret>,
    /// What activities may call.
    pub egress: EgressPolicy,
    /// Limits of the store.
    pub store: StoreOptions,
    /// Threads and memory of the engine.
    pub engine: EngineOptions,
    /// Period and retention of upkeep.
    pub upkeep: UpkeepOptions,
    /// Answer Temporal's own calls for completing activities, for Baton's tokens.
    pub temporal_compatible: bool,
    /// What is done with Temporal; `None` for nothing.
    pub temporal: Option<TemporalSettings>,
}

impl ServerOptions {
    /// Defaults over a data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT),
            model_base_url: None,
            model_api_key: None,
            egress: EgressPolicy::default(),
            store: StoreOptions::default(),
            engine: EngineOptions::default(),
            upkeep: UpkeepOptions::default(),
            temporal_compatible: false,
            temporal: None,
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can be reached from elsewhere.
    #[error("listen on {address}: this version has no authentication, so it listens on loopback addresses only")]
    NotLoopback {
        /// Which.
        address: SocketAddr,
    },
    /// The address cannot be had.
    #[error("listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("open the store")]
    Store(#[source] StoreError),
    /// The key of callback tokens cannot be had.
    #[error("open the key of callback tokens")]
    Key(#[source] KeyError),
    /// The key of workers cannot be had.
    #[error("open the key of workers")]
    WorkerKey(#[source] WorkerKeyError),
    /// Temporal cannot be reached with these settings, however long one waits.
    #[error("set up the connection to Temporal")]
    Temporal(#[source] ConnectError),
    /// Outgoing calls cannot be made.
    #[error("set up activities")]
    Activities(#[source] ActivitiesError),
    /// The engine cannot run.
    #[error("start the engine")]
    Engine(#[source] baton_engine::StartError),
}

impl StartError {
    /// What to do about it, as one line.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotLoopback { .. } => {
                Some("use --listen 127.0.0.1:8377, and a proxy that authenticates in front of it for callers elsewhere")
            }
            Self::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                Some("stop the other server, or choose another port with --listen")
            }
            Self::Store(cause) => cause.hint(),
            Self::Key(_) => Some(
                "restore the key file from where the data directory was backed up; without it callback tokens cannot be read",
            ),
            Self::WorkerKey(WorkerKeyError::Malformed { .. }) => Some(
                "delete worker.key in the data directory; the next start makes another one, which its workers then need",
            ),
            Self::Temporal(_) => Some("baton config show tells where each of these settings comes from"),
            Self::Listen { .. } | Self::WorkerKey(_) | Self::Activities(_) | Self::Engine(_) => None,
        }
    }
}

/// A server that runs until it is told to stop.
pub struct RunningServer {
    /// Where it listens; the port is the real one.
    pub address: SocketAddr,
    /// The application layer, for callers in the same process.
    pub app: App,
    store: Store,
    engine: Engine,
    stopping: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    upkeep: JoinHandle<()>,
    worker: Option<Supervised>,
    temporal: Option<Temporal>,
}

impl std::fmt::Debug for RunningServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningServer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Starts a server: opens the store, loads or makes the key, starts the engine, and serves REST and gRPC on one port.
///
/// # Errors
/// See [`StartError`]; nothing is left running.
pub async fn start(options: ServerOptions) -> Result<RunningServer, StartError> {
    start_with(options, |activities| activities).await
}

/// As [`start`], with `activities` put around (or in place of) what touches the world: tests and benchmarks do that.
///
/// # Errors
/// See [`StartError`]; nothing is left running.
pub async fn start_with(
    options: ServerOptions,
    around: impl FnOnce(Arc<dyn Activities>) -> Arc<dyn Activities>,
) -> Result<RunningServer, StartError> {
    if !options.listen.ip().is_loopback() {
        return Err(StartError::NotLoopback { address: options.listen });
    }
    let refused = |source| StartError::Listen { address: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    metrics::install();
    let temporal = options.temporal.clone().map(Temporal::start).transpose().map_err(StartError::Temporal)?;
    let opening = options.clone();
    let opened = tokio::task::spawn_blocking(move || open(&opening)).await;
    let Opened { store, sealer, activities, worker_key } = match opened {
        Ok(opened) => opened?,
        Err(stopped) => return Err(refused(std::io::Error::other(stopped))),
    };
    let activity_names = activities.names().collect();
    let activities = around(Arc::new(activities));
    let programs = Arc::new(ProgramCache::default());
    let app = App::new(store.clone(), options.store.free_bytes_min, Arc::clone(&programs));
    let children = Arc::new(ChildAdmission::new(&app));
    let elsewhere = temporal.as_ref().map(Temporal::elsewhere).unwrap_or_default();
    let engine = Engine::start(
        options.engine,
        store.clone(),
        sealer,
        Arc::clone(&programs) as Arc<dyn Programs>,
        Arc::clone(&activities),
        children,
        elsewhere,
    )
    .map_err(StartError::Engine)?;
    app.join_engine(engine.clone());
    if let Some(reach) = temporal.as_ref().and_then(Temporal::reach) {
        app.join_host(reach);
    }
    let ledger: Arc<dyn Ledger> = Arc::new(engine.clone());
    let parts = Parts { ledger: Arc::clone(&ledger), programs, activities, activity_names };
    let worker = temporal.as_ref().and_then(|temporal| temporal.worker(parts));
    let stopping = CancellationToken::new();
    let upkeep = tokio::spawn(Upkeep::new(app.clone(), options.upkeep).run(stopping.clone()));
    let serving = Serving {
        app: app.clone(),
        metrics_page: Arc::new(metrics::render),
        stopping: stopping.clone(),
        temporal_compatible: options.temporal_compatible,
        worker: worker_key.map(|key| WorkerSide { ledger, key }),
    };
    let serving = tokio::spawn(serve::serve(listener, serving));
    tracing::info!(%address, data_dir = %options.data_dir.display(), "server started");
    Ok(RunningServer { address, app, store, engine, stopping, serving, upkeep, worker, temporal })
}

/// What is made before anything runs.
struct Opened {
    store: Store,
    sealer: Arc<Sealer>,
    activities: WorldActivities,
    /// What workers elsewhere show, if executions run in Temporal.
    worker_key: Option<WorkerKey>,
}

fn open(options: &ServerOptions) -> Result<Opened, StartError> {
    let activities = ActivitiesOptions {
        egress: options.egress,
        model_base_url: options.model_base_url.clone(),
        model_api_key: options.model_api_key.clone(),
        ..ActivitiesOptions::default()
    };
    let activities = WorldActivities::new(activities).map_err(StartError::Activities)?;
    let store = Store::open(&options.data_dir, options.store.clone()).map_err(StartError::Store)?;
    let key = options.data_dir.join(KEY_FILE);
    let sealer = if store.revision() == 0 { Sealer::open_or_create(&key) } else { Sealer::open(&key) }
        .map_err(StartError::Key)?;
    let worker_key = options
        .temporal
        .as_ref()
        .filter(|temporal| temporal.runs_executions)
        .map(|_| WorkerKey::read_or_create(&options.data_dir.join(WORKER_KEY_FILE)).map_err(StartError::WorkerKey));
    Ok(Opened { store, sealer: Arc::new(sealer), activities, worker_key: worker_key.transpose()? })
}

impl RunningServer {
    /// Stops: takes no new requests, answers those that are there, lets commits finish, closes the store. What executions
    /// have not ended goes on at the next start.
    pub async fn shutdown(self) {
        self.stopping.cancel();
        let worker = async {
            if let Some(worker) = self.worker {
                worker.shutdown().await;
            }
        };
        match tokio::join!(self.serving, worker).0 {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "serving ended"),
            Err(error) => tracing::error!(%error, "serving stopped"),
        }
        if let Err(error) = self.upkeep.await {
            tracing::error!(%error, "upkeep stopped");
        }
        self.engine.shutdown().await;
        drop(self.temporal);
        let store = self.store;
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "closing the store stopped");
        }
        tracing::info!("server stopped");
    }

    /// Resolves when the store is dead, with the reason; never otherwise. The process must then end.
    pub async fn failed(&self) -> String {
        self.store.failed().await.to_string()
    }
}
