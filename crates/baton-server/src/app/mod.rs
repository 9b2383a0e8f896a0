//! What a call of the API means, whoever carried it: no transport types here.
//!
//! [`App`] is the one way to everything: adapters decode and call it, the engine creates children through it, reconcilers
//! delete through it. What differs between kinds is in one file each (`workflow.rs`, `agent_execution.rs`, …), reached
//! through [`ServedResource`] and [`ExecutionKind`].
//!
//! # Invariants
//! - `status` is never taken from a caller. `spec` and `metadata` are checked whole before anything is written.
//! - Templates are written here, executions only by the engine.
//! - No answer and no log line holds a callback token, or the value of a secret.
//!
//! # Deliberately absent
//! Authentication and roles: the server listens on the loopback interface only.

mod admission;
mod agent;
mod agent_execution;
mod approval;
mod artifact;
mod callback;
mod children;
mod error;
mod event;
mod execution;
pub(crate) mod fetch;
pub(crate) mod free_data;
mod history;
mod legacy;
mod mcp_server;
mod merge;
pub(crate) mod metadata;
pub(crate) mod outside;
mod plain;
mod read;
mod secret;
mod selector;
mod session;
mod skill;
mod strategy;
mod stream;
pub(crate) mod template;
mod watch;
mod workflow;
mod workflow_execution;
mod write;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use baton_activities::Prices;
use baton_engine::{Engine, Sealer};
use baton_execution::ProgramKind;
use baton_proto::v1;
use baton_store::{ResourceKey, Store, StoreError, StoredResource};
use baton_types::{ApiError, ErrorKind, Uid, Violation};
use serde_json::Value;
use tokio::sync::Notify;

pub use strategy::{Change, ExecutionKind, ServedResource};

use crate::{
    events::Bus,
    programs::ProgramCache,
    reports::Reported,
    sessions::Sessions,
    templates::{Template, TemplateCache},
    worker::joined::Reach,
};

pub(crate) use children::ChildAdmission;
pub(crate) use fetch::Fetcher;
pub(crate) use metadata::{new_uid, now_ms, shortened};
use secret::SecretPresence;

/// Owners whose dependents are still to be collected, kept in memory at most; the scan for orphans finds the others.
pub(crate) const OWNERS_GONE_MAX: usize = 100_000;

/// The application layer. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    store: Store,
    sealer: Arc<Sealer>,
    /// Below this much free disk the store refuses new work.
    free_bytes_min: u64,
    engine: OnceLock<Engine>,
    events: OnceLock<Bus>,
    programs: Arc<ProgramCache>,
    templates: TemplateCache,
    template_writes: tokio::sync::Mutex<()>,
    owners_gone: Mutex<VecDeque<Uid>>,
    collect: Notify,
    /// Whether the host can be reached that executions run at, if they run at one.
    host: OnceLock<Reach>,
    fetcher: OnceLock<Fetcher>,
    prices: OnceLock<Prices>,
    /// How far lifecycle events were sent, if they are.
    reported: OnceLock<Arc<Reported>>,
    secrets: SecretPresence,
    sessions: Sessions,
}

/// An application layer that is not kept alive.
pub(crate) struct WeakApp(Weak<Inner>);

impl WeakApp {
    /// The application layer, if it is still there.
    pub(crate) fn upgrade(&self) -> Option<App> {
        self.0.upgrade().map(App)
    }
}

/// How a write is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Check everything and store nothing.
    pub dry_run: bool,
}

/// The answer to a write.
#[derive(Clone, Debug)]
pub struct Written<R> {
    /// As it is stored (or would be, for a dry run); never with a callback token.
    pub object: R,
    /// Whether it was made by this call; false for updates and for the repeat of an idempotent create.
    pub created: bool,
    /// Sentences for the caller that stop nothing.
    pub warnings: Vec<String>,
}

/// The answer to a delete.
#[derive(Clone, Debug)]
pub struct DeletedObject<R> {
    /// Whether it is gone; false while finalizers hold it.
    pub gone: bool,
    /// As it was last.
    pub object: R,
}

/// What a watch tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// It is there, or it came into the selection.
    Added,
    /// It changed.
    Modified,
    /// It is gone, or it left the selection.
    Deleted,
    /// Nothing changed up to `metadata.resourceVersion`, the only field that is set beside `apiVersion` and `kind`.
    Bookmark,
}

impl WatchKind {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
        }
    }
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub struct WatchItem<R> {
    /// What happened.
    pub kind: WatchKind,
    /// The object after it happened; before, for `Deleted`, with the deletion's resourceVersion.
    pub object: R,
}

/// Refuses a manifest whose JSON has `status.callbackToken`: a return address is input, so it belongs in `spec`.
///
/// # Errors
/// One violation of `status.callbackToken`.
pub fn refuse_misplaced_token(object: &Value) -> Result<(), ApiError> {
    let status = object.get("status");
    let misplaced = ["callbackToken", "callback_token"]
        .iter()
        .any(|field| status.and_then(|status| status.get(field)).is_some_and(|token| !token.is_null()));
    if !misplaced {
        return Ok(());
    }
    let violation = Violation::new(
        "status.callbackToken",
        "a callback token is input, set once by whoever creates the execution; it belongs in spec.callbackToken",
    );
    Err(ApiError { reason: "CALLBACK_TOKEN_IN_STATUS", ..ApiError::violations(vec![violation]) }
        .hint("move it to spec.callbackToken"))
}

/// What people call the template of a kind of Program.
pub(crate) const fn template_title(kind: ProgramKind) -> &'static str {
    match kind {
        ProgramKind::Workflow => "workflow",
        ProgramKind::Agent => "agent",
    }
}

impl App {
    /// An application layer over a store; the engine is joined later, as it needs this one to create children.
    pub(crate) fn new(store: Store, sealer: Arc<Sealer>, free_bytes_min: u64, programs: Arc<ProgramCache>) -> Self {
        Self(Arc::new(Inner {
            store,
            sealer,
            free_bytes_min,
            engine: OnceLock::new(),
            events: OnceLock::new(),
            programs,
            templates: TemplateCache::default(),
            template_writes: tokio::sync::Mutex::new(()),
            owners_gone: Mutex::new(VecDeque::new()),
            collect: Notify::new(),
            host: OnceLock::new(),
            fetcher: OnceLock::new(),
            prices: OnceLock::new(),
            reported: OnceLock::new(),
            secrets: SecretPresence::default(),
            sessions: Sessions::default(),
        }))
    }

    /// Joins the engine; only the first call counts.
    pub(crate) fn join_engine(&self, engine: Engine) {
        if self.0.engine.set(engine).is_err() {
            tracing::error!("a second engine was joined and is not used");
        }
    }

    /// Joins the event bus; only the first call counts.
    pub(crate) fn join_events(&self, events: Bus) {
        if self.0.events.set(events).is_err() {
            tracing::error!("a second event bus was joined and is not used");
        }
    }

    /// Notes that executions run at a host; only the first call counts.
    pub(crate) fn join_host(&self, reach: Reach) {
        if self.0.host.set(reach).is_err() {
            tracing::error!("a second host was joined and is not used");
        }
    }

    /// Joins what fetches files for admission; only the first call counts.
    pub(crate) fn join_fetcher(&self, fetcher: Fetcher) {
        if self.0.fetcher.set(fetcher).is_err() {
            tracing::error!("a second fetcher was joined and is not used");
        }
    }

    /// Joins what models cost; only the first call counts.
    pub(crate) fn join_prices(&self, prices: Prices) {
        if self.0.prices.set(prices).is_err() {
            tracing::error!("a second table of prices was joined and is not used");
        }
    }

    pub(crate) fn prices(&self) -> Option<&Prices> {
        self.0.prices.get()
    }

    /// Joins how far lifecycle events were sent; only the first call counts.
    pub(crate) fn join_reported(&self, reported: Arc<Reported>) {
        if self.0.reported.set(reported).is_err() {
            tracing::error!("lifecycle events are sent twice");
        }
    }

    pub(crate) fn reported(&self) -> Option<&Reported> {
        self.0.reported.get().map(Arc::as_ref)
    }

    pub(crate) fn fetcher(&self) -> Option<&Fetcher> {
        self.0.fetcher.get()
    }

    pub(crate) fn engine(&self) -> Result<&Engine, ApiError> {
        self.0.engine.get().ok_or_else(|| ApiError::new(ErrorKind::Unavailable, "STARTING", "the server is starting"))
    }

    fn events(&self) -> Result<&Bus, ApiError> {
        self.0.events.get().ok_or_else(|| ApiError::new(ErrorKind::Unavailable, "STARTING", "the server is starting"))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.0.sealer
    }

    pub(crate) fn programs(&self) -> &ProgramCache {
        &self.0.programs
    }

    pub(crate) fn templates(&self) -> &TemplateCache {
        &self.0.templates
    }

    pub(crate) fn template_writes(&self) -> &tokio::sync::Mutex<()> {
        &self.0.template_writes
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(crate) fn downgrade(&self) -> WeakApp {
        WeakApp(Arc::downgrade(&self.0))
    }

    /// Reads from the store on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = self.0.store.clone();
        match tokio::task::spawn_blocking(move || read(&store)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(failed)) => Err(error::read_failed(&failed)),
            Err(stopped) => Err(ApiError::internal(format!("a read was stopped: {stopped}"))),
        }
    }

    async fn stored<R: ServedResource>(&self, namespace: &str, name: &str) -> Result<StoredResource, ApiError> {
        let namespace = or_default(namespace);
        let key = ResourceKey::new(R::KIND, namespace, name);
        self.read(move |store| store.get(&key)).await?.ok_or_else(|| error::not_found::<R>(namespace, name))
    }

    pub(crate) async fn uid_of<R: ServedResource>(&self, namespace: &str, name: &str) -> Result<Uid, ApiError> {
        Ok(Uid::from_bytes(self.stored::<R>(namespace, name).await?.uid))
    }

    /// A template as executions pin it; `None` if there is none of that name.
    ///
    /// # Errors
    /// FailedPrecondition if it was admitted by another version and this one does not accept it any more.
    pub(crate) async fn template(
        &self,
        kind: ProgramKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Template>>, ApiError> {
        if let Some(template) = self.templates().get(kind, namespace, name) {
            return Ok(Some(template));
        }
        let epoch = self.templates().epoch();
        let key = ResourceKey::new(kind.template_kind(), namespace, name);
        let Some(stored) = self.read(move |store| store.get(&key)).await? else { return Ok(None) };
        let mut template = match kind {
            ProgramKind::Workflow => pinned::<v1::Workflow>(&stored)?,
            ProgramKind::Agent => self.with_references(namespace, pinned::<v1::Agent>(&stored)?).await?,
        };
        let compiled = self.programs().get(kind, &template.digest, &template.content).map_err(|fault| {
            let message =
                format!("{} '{name}' was admitted by another version of the server: {fault}", template_title(kind));
            ApiError::new(ErrorKind::FailedPrecondition, "TEMPLATE_NOT_ACCEPTED", message)
                .hint("correct it and apply it again")
        })?;
        template.timeout_ms = compiled.timeout_ms();
        template.version = compiled.version().map(str::to_owned);
        let template = Arc::new(template);
        self.templates().insert(kind, namespace, Arc::clone(&template), epoch);
        Ok(Some(template))
    }

    /// An agent with the definitions of the servers and the skills that it names.
    async fn with_references(&self, namespace: &str, template: Template) -> Result<Template, ApiError> {
        let mut content: Value = serde_json::from_slice(&template.content)
            .map_err(|error| ApiError::internal(format!("the content of agent '{}': {error}", template.name)))?;
        if content.get("toolServers").is_none() && content.get("skills").is_none() {
            return Ok(template);
        }
        let mut missing = self.join_servers(namespace, &mut content).await?;
        missing.extend(self.join_skills(namespace, &mut content).await?);
        let content = bytes::Bytes::from(content.to_string());
        let missing = missing.into_iter().map(|(_, why)| why).collect();
        Ok(Template { digest: baton_types::Digest::of(&content), content, missing, ..template })
    }

    /// Notes that an object was deleted, so that its dependents are collected.
    pub(crate) fn owner_is_gone(&self, uid: Uid) {
        let mut owners = self.0.owners_gone.lock().unwrap_or_else(PoisonError::into_inner);
        if owners.len() < OWNERS_GONE_MAX {
            owners.push_back(uid);
        }
        drop(owners);
        self.0.collect.notify_one();
    }

    /// Owners noted since the last call.
    pub(crate) fn take_owners_gone(&self) -> VecDeque<Uid> {
        std::mem::take(&mut self.0.owners_gone.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves when there is something to collect.
    pub(crate) async fn collection_wanted(&self) {
        self.0.collect.notified().await;
    }

    /// Whether requests can be served and executions go on; otherwise why not.
    ///
    /// # Errors
    /// A sentence for whoever runs the server.
    pub fn ready(&self) -> Result<(), String> {
        self.healthy()?;
        match self.0.host.get().map(|reach| reach.borrow().clone()) {
            Some(Err(why)) => Err(format!("executions wait until Temporal can be reached: {why}")),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Whether requests can be served; otherwise why not. Starting the process again may help, unlike with a host.
    ///
    /// # Errors
    /// A sentence for whoever runs the server.
    pub fn healthy(&self) -> Result<(), String> {
        if let Some(why) = self.0.store.is_failed() {
            return Err(format!("the store has stopped: {why}"));
        }
        let free = self.0.store.stats().map_err(|failed| error::chain(&failed))?.free_bytes;
        if free < self.0.free_bytes_min {
            return Err(format!(
                "the disk of the data directory has {free} bytes free, {} are needed: new work is refused",
                self.0.free_bytes_min
            ));
        }
        self.engine().map(|_| ()).map_err(|starting| starting.message)
    }
}

fn pinned<R: template::TemplateKind>(stored: &StoredResource) -> Result<Template, ApiError> {
    let mut object = R::decode_stored(&stored.body, stored.revision)?;
    let mut violations = Vec::new();
    let content = object
        .content(&mut violations)
        .ok_or_else(|| ApiError::internal(format!("{} has no readable content: {violations:?}", stored.key)))?;
    let content = bytes::Bytes::from(content.to_string());
    let digest = baton_types::Digest::of(&content);
    let generation = object.metadata().map_or(0, |meta| meta.generation);
    Ok(Template {
        name: stored.key.name.clone(),
        generation,
        content,
        digest,
        timeout_ms: None,
        version: None,
        missing: Vec::new(),
    })
}

fn or_default(namespace: &str) -> &str {
    if namespace.is_empty() { metadata::NAMESPACE_DEFAULT } else { namespace }
}
