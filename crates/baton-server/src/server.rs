//! Joining the parts: store, engine, application layer, adapters, upkeep; their start and their end.
//!
//! # Invariants
//! - The address is bound before the data is touched, so a second server on the same port changes nothing.
//! - The end goes in the order of dependence: no new requests, answers to those that are there, engine, store.
//! - The engine runs where this server leads: from the start over an embedded store, else once the store says so.
//!
//! # Failure
//! A start that fails leaves nothing running. When the store dies, or this server leads no more, [`RunningServer::failed`]
//! resolves; the process must then end, and its restart recovers.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use baton_activities::{
    ActivitiesError, ActivitiesOptions, EgressPolicy, Home, ModelsOptions, Prices, RunOptions, Tracer, TracesOptions,
    WorldActivities,
};
use baton_engine::{Engine, EngineOptions, KeyError, Ledger, Sealer};
use baton_engine_temporal::ConnectError;
use baton_execution::{Activities, Programs};
use baton_store::{CommitError, Lane, Store, StoreError, StoreOptions, Txn};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    a2a_server::Pushing,
    app::{App, ChildAdmission, Fetcher},
    config::StoreUrl,
    events::{Bus, EventsOptions, Router},
    grpc::WorkerSide,
    home::ServerHome,
    leading::{Contender, Door, FINGERPRINT, OpenedKey, Post, ServerFailure, contend, open_key},
    metrics,
    programs::ProgramCache,
    reports::{self, ReportOptions},
    schedule::{ScheduleOptions, Scheduler},
    serve::{self, Front, Serving},
    sessions::Keeper,
    traces,
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
    /// Directory of the embedded store and of the keys; made if it is not there.
    pub data_dir: PathBuf,
    /// File of the key of callback tokens; `None` for [`KEY_FILE`] in that directory.
    pub key_file: Option<PathBuf>,
    /// A store in PostgreSQL, which several servers may have; `None` for the embedded one.
    pub store_url: Option<StoreUrl>,
    /// Address to listen on: loopback only, port 0 for any that is free.
    pub listen: SocketAddr,
    /// HOST:PORT where other servers of the same store reach this one; `None` for where it listens.
    pub advertise: Option<String>,
    /// Where models are asked, and what they cost.
    pub models: ModelsOptions,
    /// Endpoint of the catalog that calls of `name:version@default` mean; `None`: there is none.
    pub default_catalog: Option<String>,
    /// What activities may call.
    pub egress: EgressPolicy,
    /// Whether they may call this server's own API.
    pub allow_own_api: bool,
    /// What commands, scripts and containers may do.
    pub run: RunOptions,
    /// Where traces go; `None` for nowhere.
    pub traces: Option<TracesOptions>,
    /// Limits of the store.
    pub store: StoreOptions,
    /// Threads and memory of the engine.
    pub engine: EngineOptions,
    /// Period and retention of upkeep.
    pub upkeep: UpkeepOptions,
    /// How long events are kept.
    pub events: EventsOptions,
    /// Where events of others and of executions are sent.
    pub reports: ReportOptions,
    /// By which time schedules are kept.
    pub schedule: ScheduleOptions,
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
            key_file: None,
            store_url: None,
            advertise: None,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT),
            models: ModelsOptions::default(),
            default_catalog: None,
            egress: EgressPolicy::default(),
            allow_own_api: false,
            run: RunOptions::default(),
            traces: None,
            store: StoreOptions::default(),
            engine: EngineOptions::default(),
            upkeep: UpkeepOptions::default(),
            events: EventsOptions::default(),
            reports: ReportOptions::default(),
            schedule: ScheduleOptions::default(),
            temporal_compatible: false,
            temporal: None,
        }
    }

    /// Where the key of callback tokens is.
    pub fn key_path(&self) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| self.data_dir.join(KEY_FILE))
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
    /// The directory of the keys cannot be made.
    #[error("make the data directory {}", path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The key of callback tokens cannot be had.
    #[error("open the key of callback tokens")]
    Key(#[source] KeyError),
    /// It is the key of another store.
    #[error("the key file {} is not that of this store: its fingerprint is {own}, the store has {stored}", path.display())]
    KeyDiffers {
        /// Which file.
        path: PathBuf,
        /// Fingerprint of the key there.
        own: String,
        /// The one that the store was written with.
        stored: String,
    },
    /// The store does not take the fingerprint of the key.
    #[error("note the key in the store")]
    NoteKey(#[source] CommitError),
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
    /// REST and gRPC cannot be served.
    #[error("set up REST and gRPC")]
    Adapters(#[source] std::io::Error),
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
                "restore the key file from where the data directory was backed up, or copy it from another server of the same \
                 store; without it callback tokens cannot be read",
            ),
            Self::KeyDiffers { .. } => Some(
                "copy baton.key from a server that uses this store, or name it with --key-file; all servers of one store have \
                 the same",
            ),
            Self::Temporal(_) => Some("baton config show tells where each of these settings comes from"),
            Self::DataDir { .. } => Some("choose a directory that the server's user can write to"),
            Self::Listen { .. }
            | Self::NoteKey(_)
            | Self::WorkerKey(_)
            | Self::Activities(_)
            | Self::Engine(_)
            | Self::Adapters(_) => None,
        }
    }
}

/// A server that runs until it is told to stop.
pub struct RunningServer {
    /// Where it listens; the port is the real one.
    pub address: SocketAddr,
    /// The application layer, for callers in the same process. It has an engine while this server leads.
    pub app: App,
    store: Store,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
    post: Arc<Post>,
    /// Gives what ran while this server led.
    leading: JoinHandle<Option<Running>>,
    tracer: Option<Tracer>,
}

impl std::fmt::Debug for RunningServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningServer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Starts a server: opens the store, loads or makes the key, starts the engine, and serves REST and gRPC on one port. Over a
/// store that other servers may have too, the engine starts once this server leads.
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
    let home = ServerHome::new();
    let (mut opening, activities_home) = (options.clone(), Arc::clone(&home) as Arc<dyn Home>);
    if !options.allow_own_api {
        opening.egress.own.push(address);
    }
    let egress = Arc::new(opening.egress.clone());
    let opened = tokio::task::spawn_blocking(move || open(&opening, activities_home)).await;
    let Opened { store, sealer, activities, worker_key } = match opened {
        Ok(opened) => opened?,
        Err(stopped) => return Err(refused(std::io::Error::other(stopped))),
    };
    let activity_names = activities.names().collect();
    let tracer = activities.tracer().cloned();
    let activities = Arc::new(activities);
    activities.keep_sweeping();
    let activities = around(activities);
    let programs = Arc::new(ProgramCache::default());
    let app = App::new(store.clone(), Arc::clone(&sealer), options.store.free_bytes_min, Arc::clone(&programs));
    home.join(&app);
    let (stopping, post) = (CancellationToken::new(), Arc::new(Post::default()));
    let begin = Begin {
        app: app.clone(),
        store: store.clone(),
        sealer: Arc::clone(&sealer),
        programs,
        activities,
        activity_names,
        tracer: tracer.clone(),
        home,
        worker_key,
        temporal,
        stopping: stopping.clone(),
        post: Arc::clone(&post),
        egress,
        options: options.clone(),
    };
    let leading = if options.store_url.is_some() {
        let contender = Contender {
            store: store.clone(),
            post: Arc::clone(&post),
            address: options.advertise.clone().unwrap_or_else(|| address.to_string()),
            sealer,
            key_path: options.key_path(),
            stopping: stopping.clone(),
        };
        tokio::spawn(contend(contender, move || begin.lead(), Running::halt))
    } else {
        let running = begin.lead()?;
        metrics::leading(true);
        tokio::spawn(std::future::ready(Some(running)))
    };
    let alive = store.clone();
    let healthy = move || alive.is_failed().map_or(Ok(()), |why| Err(format!("the store has stopped: {why}")));
    let door = Door::new(Arc::clone(&post), Arc::new(healthy), Arc::new(metrics::render), stopping.clone());
    let serving = tokio::spawn(serve::serve(listener, door, stopping.clone()));
    tracing::info!(%address, data_dir = %options.data_dir.display(), "server started");
    Ok(RunningServer { address, app, store, stopping, serving, post, leading, tracer })
}

/// What is made before anything runs.
struct Opened {
    store: Store,
    sealer: Arc<Sealer>,
    activities: WorldActivities,
    /// What workers elsewhere show, if executions run in Temporal.
    worker_key: Option<WorkerKey>,
}

fn open(options: &ServerOptions, home: Arc<dyn Home>) -> Result<Opened, StartError> {
    let activities = ActivitiesOptions {
        egress: options.egress.clone(),
        models: options.models.clone(),
        run: options.run.clone(),
        traces: options.traces.clone(),
        ..ActivitiesOptions::default()
    };
    let activities = WorldActivities::new(activities, home).map_err(StartError::Activities)?;
    let store = match &options.store_url {
        None => Store::open(&options.data_dir, options.store.clone()),
        Some(url) => {
            make_private(&options.data_dir)?;
            Store::open_postgres(url.expose(), options.store.clone())
        }
    }
    .map_err(StartError::Store)?;
    let OpenedKey { sealer, fingerprint } = open_key(&options.key_path(), &store)?;
    // Where several servers may begin at the same time, whoever leads notes it.
    if let Some(fingerprint) = fingerprint.filter(|_| options.store_url.is_none()) {
        let txn = Txn { meta: vec![(FINGERPRINT.to_owned(), Some(fingerprint))], ..Txn::default() };
        store.commit_blocking(Lane::Internal, txn).map_err(StartError::NoteKey)?;
    }
    let runs_executions = options.temporal.as_ref().is_some_and(|temporal| temporal.runs_executions);
    let worker_key = runs_executions.then(|| WorkerKey::of(&sealer));
    if let Some(key) = &worker_key {
        key.keep(&options.data_dir.join(WORKER_KEY_FILE)).map_err(StartError::WorkerKey)?;
    }
    Ok(Opened { store, sealer: Arc::new(sealer), activities, worker_key })
}

/// A directory that only its owner can look into: it will hold keys.
fn make_private(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(|source| StartError::DataDir { path: path.to_owned(), source })
}

/// Everything that a server needs to lead.
struct Begin {
    app: App,
    store: Store,
    sealer: Arc<Sealer>,
    programs: Arc<ProgramCache>,
    activities: Arc<dyn Activities>,
    activity_names: Vec<&'static str>,
    tracer: Option<Tracer>,
    home: Arc<ServerHome>,
    worker_key: Option<WorkerKey>,
    temporal: Option<Temporal>,
    stopping: CancellationToken,
    post: Arc<Post>,
    egress: Arc<EgressPolicy>,
    options: ServerOptions,
}

/// What runs while a server leads.
struct Running {
    engine: Engine,
    upkeep: JoinHandle<()>,
    events: JoinHandle<()>,
    schedules: JoinHandle<()>,
    sessions: JoinHandle<()>,
    reports: JoinHandle<()>,
    pushes: JoinHandle<()>,
    traces: Option<traces::Following>,
    worker: Option<Supervised>,
    temporal: Option<Temporal>,
}

impl Begin {
    /// Starts the engine and everything that acts by itself, and lets requests in.
    fn lead(self) -> Result<Running, StartError> {
        let Self { app, store, sealer, programs, activities, activity_names, home, worker_key, temporal, .. } = self;
        let traces = self.tracer.map(|tracer| traces::Following::start(store.clone(), tracer));
        let children = Arc::new(ChildAdmission::new(&app));
        let elsewhere = temporal.as_ref().map(Temporal::elsewhere).unwrap_or_default();
        let engine = Engine::start(
            self.options.engine,
            store.clone(),
            Arc::clone(&sealer),
            Arc::clone(&programs) as Arc<dyn Programs>,
            Arc::clone(&activities),
            children,
            elsewhere,
        )
        .map_err(StartError::Engine)?;
        app.join_engine(engine.clone());
        app.join_prices(Prices::new(&self.options.models));
        app.join_fetcher(Fetcher::new(Arc::clone(&activities), self.options.default_catalog.clone()));
        app.join_events(Bus::new(store.clone(), Arc::clone(&sealer), self.options.events));
        if let Some(reach) = temporal.as_ref().and_then(Temporal::reach) {
            app.join_host(reach);
        }
        let ledger: Arc<dyn Ledger> = Arc::new(engine.clone());
        let front = Front::new(Serving {
            app: app.clone(),
            metrics_page: Arc::new(metrics::render),
            stopping: self.stopping.clone(),
            egress: self.egress,
            temporal_compatible: self.options.temporal_compatible,
            worker: worker_key.map(|key| WorkerSide { ledger: Arc::clone(&ledger), home, key }),
        })
        .map_err(StartError::Adapters)?;
        let stopping = self.stopping.clone();
        let reporting =
            reports::run(app.clone(), Arc::clone(&activities), self.options.reports, store.revision(), stopping);
        let pushes = Pushing::new(app.clone(), Arc::clone(&activities)).run(self.stopping.clone());
        let parts = Parts { ledger, programs, activities, activity_names };
        let worker = temporal.as_ref().and_then(|temporal| temporal.worker(parts));
        let events = Router::new(store, engine.clone(), sealer, self.options.events);
        let events = tokio::spawn(events.run(self.stopping.clone()));
        // Before the others that act by themselves: it first looks for what was being deleted.
        let upkeep = tokio::spawn(Upkeep::new(app.clone(), self.options.upkeep).run(self.stopping.clone()));
        let reports = tokio::spawn(reporting);
        let pushes = tokio::spawn(pushes);
        let sessions = tokio::spawn(Keeper::new(app.clone()).run(self.stopping.clone()));
        let schedules = tokio::spawn(Scheduler::new(app, self.options.schedule).run(self.stopping));
        self.post.lead(front);
        Ok(Running { engine, upkeep, events, schedules, sessions, reports, pushes, traces, worker, temporal })
    }
}

impl Running {
    /// Takes no more work, at once; what is being written goes on.
    fn halt(&self) {
        let engine = self.engine.clone();
        tokio::spawn(async move { engine.shutdown().await });
    }

    /// Stops what serves requests; the worker has gone before.
    async fn shutdown(self) {
        if let Err(error) = self.upkeep.await {
            tracing::error!(%error, "upkeep stopped");
        }
        if let Err(error) = self.events.await {
            tracing::error!(%error, "the event bus stopped");
        }
        if let Err(error) = self.schedules.await {
            tracing::error!(%error, "the scheduler stopped");
        }
        if let Err(error) = self.sessions.await {
            tracing::error!(%error, "the keeper of sessions stopped");
        }
        if let Err(error) = self.reports.await {
            tracing::error!(%error, "reporting events stopped");
        }
        if let Err(error) = self.pushes.await {
            tracing::error!(%error, "push notifications stopped");
        }
        self.engine.shutdown().await;
        if let Some(traces) = self.traces {
            traces.stop().await;
        }
        drop(self.temporal);
    }
}

impl RunningServer {
    /// Stops: takes no new requests, answers those that are there, lets commits finish, closes the store. What executions
    /// have not ended goes on at the next start.
    pub async fn shutdown(self) {
        self.stopping.cancel();
        let mut running = self.leading.await.unwrap_or_else(|error| {
            tracing::error!(%error, "what leads stopped");
            None
        });
        let worker = running.as_mut().and_then(|running| running.worker.take());
        let stop_worker = async {
            if let Some(worker) = worker {
                worker.shutdown().await;
            }
        };
        if let Err(error) = tokio::join!(self.serving, stop_worker).0 {
            tracing::error!(%error, "serving stopped");
        }
        if let Some(running) = running {
            running.shutdown().await;
        }
        traces::flush(self.tracer.as_ref()).await;
        let store = self.store;
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "closing the store stopped");
        }
        tracing::info!("server stopped");
    }

    /// Resolves when this server cannot go on, with the reason: the store is dead, or it has led and does not any more. Never
    /// otherwise. The process must then end.
    pub async fn failed(&self) -> Arc<ServerFailure> {
        tokio::select! {
            why = self.store.failed() => Arc::new(ServerFailure::Store(why)),
            failure = self.post.failed() => failure,
        }
    }
}
