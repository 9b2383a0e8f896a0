//! Everything that touches the world for an execution: requests of all kinds, models, processes, events.
//!
//! [`WorldActivities`] runs an activity by its name. One activity is one file and one line in [`registry`].
//!
//! # Invariants
//! - Whatever goes out passes one [`EgressPolicy`], at every redirect again, and connects to the very
//!   address that was judged.
//! - Every exchange has a limit of time and of size; nothing is read without an end.
//! - The values of secrets are put into an input right before its activity runs, and taken out of what it gives.
//! - No fault and no log line holds a credential, nor the query of a URL, which may hold a callback token.
//!
//! # Deliberately absent
//! Durability: engines record inputs and results, and repeat an activity after a crash. Only the `model`
//! activity repeats by itself, because a provider that is busy for seconds should not cost a turn.
//!
//! # Failure
//! A [`Fault`] in the words of the workflow language; `non_retryable` says whether repeating is useless.

mod a2a;
mod asyncapi;
mod auth;
mod body;
mod connection;
mod documents;
mod echo;
mod egress;
mod emit;
mod exchange;
mod grpc;
mod home;
mod http;
mod jsonrpc;
pub mod limited;
mod mcp;
pub mod metric_names;
mod model;
mod openapi;
mod options;
mod outgoing;
mod patience;
mod process;
mod redact;
mod sandbox;
mod secrets;
mod subscribe;
mod traces;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use baton_execution::{Activities, ActivityTask, Fault, fault_type};
use serde_json::Value;

use auth::Authenticator;
pub use egress::{EgressPolicy, Refused};
pub use home::{Home, Homeless, Subscription};
pub use model::Prices;
pub use options::{
    ActivitiesError, ActivitiesOptions, Commands, ModelsOptions, ProviderOptions, RunOptions, Secret, UnknownPrice,
    is_container_name,
};
use outgoing::Outgoing;
pub use redact::{redact_data, redact_outcome};
use sandbox::Sandbox;
use secrets::Vault;
use traces::Watched;
pub use traces::{Attribute, CONVENTIONS, Span, SpanId, Tracer, TracesOptions};

/// Time between two looks for what killed processes left.
const SWEEP_PAUSE: Duration = Duration::from_mins(5);

/// One kind of work.
#[async_trait::async_trait]
trait Activity: Send + Sync {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault>;

    /// Whether the installation keeps what the activity is given, for others to read: then no secret is put into it.
    fn is_kept(&self) -> bool {
        false
    }

    /// Takes up what other processes that were killed left behind.
    async fn sweep(&self) {}
}

/// Runs activities against the real world.
pub struct WorldActivities {
    by_name: BTreeMap<&'static str, Box<dyn Activity>>,
    vault: Arc<Vault>,
    tracer: Option<Tracer>,
}

/// What activities are made of.
struct Means {
    outgoing: Arc<Outgoing>,
    authenticator: Arc<Authenticator>,
    sandbox: Sandbox,
    home: Arc<dyn Home>,
}

impl WorldActivities {
    /// Makes ready what activities need; does not connect to anything. `home` is the installation that they run for. With
    /// `options.traces` it is to be called in a runtime, in which spans are then sent.
    ///
    /// # Errors
    /// An option that cannot be used, or a system without usable TLS.
    pub fn new(options: ActivitiesOptions, home: Arc<dyn Home>) -> Result<Self, ActivitiesError> {
        let vault = Vault::new(home);
        let home = Arc::clone(&vault) as Arc<dyn Home>;
        let outgoing = Arc::new(Outgoing::new(&options)?);
        let authenticator = Arc::new(Authenticator::new(&outgoing, &home));
        let sandbox = Sandbox::new(options.run.clone());
        let means = Means { outgoing, authenticator, sandbox, home };
        let tls = &means.outgoing.tls;
        let tracer = options.traces.map(|traces| Tracer::start(&traces, tls.clone())).transpose()?;
        Ok(Self { by_name: registry(&means, &options.models)?, vault, tracer })
    }

    /// What takes spans; `None` if there are to be none.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    /// Takes up what other processes that were killed left behind on this machine: containers, and files of commands.
    pub async fn sweep(&self) {
        for activity in self.by_name.values() {
            activity.sweep().await;
        }
    }

    /// Does so now and then, until this is dropped: for the first time when what is repeated after a restart has found what it
    /// waits for.
    pub fn keep_sweeping(self: &Arc<Self>) {
        let world = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_PAUSE).await;
                let Some(world) = world.upgrade() else { return };
                world.sweep().await;
            }
        });
    }

    /// Names of all activities, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.by_name.keys().copied()
    }
}

/// Every activity under its name.
fn registry(
    means: &Means,
    models: &ModelsOptions,
) -> Result<BTreeMap<&'static str, Box<dyn Activity>>, ActivitiesError> {
    let mcp = mcp::Mcp::new(&means.authenticator, &means.outgoing, &means.sandbox);
    Ok(BTreeMap::from([
        ("a2a", Box::new(a2a::A2a::new(&means.authenticator, &means.outgoing)) as Box<dyn Activity>),
        ("asyncapi", Box::new(asyncapi::AsyncApi::new(&means.outgoing, &means.authenticator))),
        ("echo", Box::new(echo::Echo)),
        ("grpc", Box::new(grpc::Grpc::new(&means.outgoing, &means.authenticator))),
        ("emit", Box::new(emit::Emit::new(&means.home))),
        ("http", Box::new(http::Http::new(&means.authenticator))),
        ("mcp", Box::new(mcp.clone())),
        ("mcp-call", Box::new(mcp::McpCall(mcp.clone()))),
        ("mcp-tools", Box::new(mcp::McpTools(mcp))),
        ("openapi", Box::new(openapi::OpenApi::new(&means.authenticator))),
        ("model", Box::new(model::Model::new(means, models)?)),
        ("command", Box::new(process::command::Command::new(&means.sandbox))),
        ("container", Box::new(process::container::Container::new(&means.sandbox))),
        ("script", Box::new(process::script::Script::new(&means.sandbox, &means.authenticator))),
        ("shell", Box::new(process::shell::Shell::new(&means.sandbox))),
        ("subscribe", Box::new(subscribe::Subscribe::new(&means.home))),
    ]))
}

#[async_trait::async_trait]
impl Activities for WorldActivities {
    async fn run(&self, task: ActivityTask) -> Result<Value, Fault> {
        let Some(watched) = self.tracer.as_ref().and_then(|tracer| Watched::begin(tracer, &task)) else {
            return self.perform(task).await;
        };
        let result = outgoing::within_trace(watched.traceparent(), self.perform(task)).await;
        watched.end(&result);
        result
    }
}

impl WorldActivities {
    async fn perform(&self, mut task: ActivityTask) -> Result<Value, Fault> {
        if let Some(activity) = self.by_name.get(task.activity.as_str()) {
            let work = async {
                if activity.is_kept() {
                    Vault::refuse(&task.input)?;
                } else {
                    self.vault.resolve(&task.namespace, &mut task.input).await?;
                }
                activity.run(&task).await
            };
            return Vault::guard(work).await;
        }
        let names: Vec<String> = self.by_name.keys().map(|name| format!("'{name}'")).collect();
        let detail = format!("no activity named '{}'; activities are {}", task.activity, names.join(", "));
        Err(Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable())
    }
}
