//! An engine with its store at a place, which can be stopped and started again over the same directory.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use baton_execution::{Activities, ChildTarget, Fault, ParentClosePolicy, Programs, StartChild, fault_type};
use baton_proto::{
    ExecutionResource, Timestamp,
    v1::{Approval, Json, ObjectMeta, OwnerReference, WorkflowExecution, WorkflowExecutionSpec},
};
use baton_store::{Store, StoreOptions};
use baton_types::{ApiError, Digest, Phase, Uid};
use serde_json::{Value, json};

use super::script::{Scripts, World, poll};
use crate::{Admitted, ChildCreated, Children, Elsewhere, Engine, EngineOptions, ParentRef, Sealer};

/// Where Programs run.
#[async_trait]
pub trait Place: Send + Sync {
    /// What the engine is started with.
    async fn elsewhere(&self) -> Elsewhere;

    /// The engine has started: whatever else runs Programs and activities is to start too.
    async fn begin(&self, engine: &Engine, programs: Arc<dyn Programs>, activities: Arc<dyn Activities>);

    /// The engine is about to stop: so is whatever else was started, as after the end of its process.
    async fn end(&self);
}

/// In the engine itself.
#[derive(Debug)]
pub struct Here;

#[async_trait]
impl Place for Here {
    async fn elsewhere(&self) -> Elsewhere {
        Elsewhere::default()
    }

    async fn begin(&self, _engine: &Engine, _programs: Arc<dyn Programs>, _activities: Arc<dyn Activities>) {}

    async fn end(&self) {}
}

struct Family(OnceLock<Engine>);

#[async_trait]
impl Children for Family {
    async fn create_child(
        &self,
        parent: ParentRef,
        start: StartChild,
        name: String,
        token: Option<Vec<u8>>,
    ) -> Result<Result<ChildCreated, Fault>, ApiError> {
        let ChildTarget::Inline(steps) = start.target else {
            return Ok(Err(Fault::new(fault_type::CONFIGURATION, 400, "inline only")));
        };
        if steps == json!("impossible") {
            return Ok(Err(Fault::new(fault_type::CONFIGURATION, 400, "no such workflow")));
        }
        let mut admitted = admitted(&name, &steps, token.unwrap_or_default());
        if start.parent_close_policy == ParentClosePolicy::Abandon {
            spec(&mut admitted.resource).parent_close_policy = "Abandon".to_owned();
        }
        spec(&mut admitted.resource).request_id = parent.operation.clone();
        admitted.resource.metadata_mut().owner_references.push(OwnerReference {
            uid: parent.uid.to_string(),
            name: parent.name.clone(),
            ..OwnerReference::default()
        });
        admitted.timeout_ms = start.timeout_ms;
        admitted.parent = Some(parent);
        let created = self.0.get().expect("set at start").create(admitted).await?;
        let metadata = created.resource.metadata();
        Ok(Ok(ChildCreated {
            kind: "WorkflowExecution",
            name: metadata.name.clone(),
            uid: metadata.uid.parse().expect("a uid"),
        }))
    }
}

/// Its spec.
pub fn spec(resource: &mut ExecutionResource) -> &mut WorkflowExecutionSpec {
    match resource {
        ExecutionResource::Workflow(it) => it.spec.get_or_insert_default(),
        ExecutionResource::Agent(_) => panic!("scripts are workflows"),
    }
}

/// An execution of a script, as admission would pass it on.
pub fn admitted(name: &str, steps: &Value, token: Vec<u8>) -> Admitted {
    let definition = serde_json::to_vec(steps).expect("JSON");
    let metadata = ObjectMeta {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        uid: Uid::from_bytes(*uuid::Uuid::now_v7().as_bytes()).to_string(),
        generation: 1,
        creation_timestamp: Some(Timestamp::from_millis(1_800_000_000_000)),
        ..ObjectMeta::default()
    };
    let spec = WorkflowExecutionSpec {
        definition: Some(Json::from_value(steps)),
        callback_token: (!token.is_empty()).then_some(token),
        ..WorkflowExecutionSpec::default()
    };
    Admitted {
        resource: ExecutionResource::Workflow(Box::new(WorkflowExecution {
            metadata: Some(metadata),
            spec: Some(spec),
            ..WorkflowExecution::default()
        })),
        digest: Digest::of(&definition),
        definition: definition.into(),
        template_name: String::new(),
        template_generation: 0,
        input: Value::Null,
        settings: Value::Null,
        timeout_ms: None,
        parent: None,
        held: None,
    }
}

/// A store, an engine and a world on a directory of their own, at a place.
pub struct Site {
    /// The data.
    pub directory: tempfile::TempDir,
    /// What activities do.
    pub world: Arc<World>,
    /// The store.
    pub store: Store,
    /// The engine.
    pub engine: Engine,
    place: Arc<dyn Place>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Site {
    /// One that is empty.
    pub async fn new(place: Arc<dyn Place>) -> Self {
        Self::open(tempfile::tempdir().expect("a directory"), place).await
    }

    async fn open(directory: tempfile::TempDir, place: Arc<dyn Place>) -> Self {
        let store = Store::open(directory.path(), StoreOptions { free_bytes_min: 0, ..StoreOptions::default() })
            .expect("the store opens");
        let world = Arc::new(World::default());
        let family = Arc::new(Family(OnceLock::new()));
        let options = EngineOptions { workers: 2, resident_max: 32 };
        let sealer = Arc::new(Sealer::open_or_create(&directory.path().join("key")).expect("a key"));
        let (programs, activities) = (Arc::new(Scripts), Arc::clone(&world) as Arc<dyn Activities>);
        let engine = Engine::start(
            options,
            store.clone(),
            sealer,
            Arc::clone(&programs) as Arc<dyn Programs>,
            Arc::clone(&activities),
            Arc::clone(&family) as Arc<dyn Children>,
            place.elsewhere().await,
        )
        .expect("the engine starts");
        let _ = family.0.set(engine.clone());
        place.begin(&engine, programs, activities).await;
        Self { directory, world, store, engine, place }
    }

    /// Stops everything and starts it again over the same directory.
    pub async fn restart(self) -> Self {
        let Self { directory, store, engine, world, place } = self;
        place.end().await;
        engine.shutdown().await;
        drop((engine, world));
        // Activities under way still hold the engine until their tasks were dropped.
        tokio::task::spawn_blocking(move || store.close()).await.expect("the store closes");
        Self::open(directory, place).await
    }

    /// Creates an execution of a script.
    pub async fn create(&self, name: &str, steps: Value) -> ExecutionResource {
        self.engine.create(admitted(name, &steps, Vec::new())).await.expect("it is created").resource
    }

    /// An execution as it is now.
    pub fn get(&self, name: &str) -> Option<ExecutionResource> {
        let key = baton_store::ResourceKey::new("WorkflowExecution", "default", name);
        let stored = self.store.get(&key).expect("the store reads")?;
        Some(crate::decode_stored("WorkflowExecution", &stored.body, stored.revision).expect("it decodes"))
    }

    /// Waits until an execution is as `is` wants it.
    pub async fn until(&self, name: &str, is: impl Fn(&ExecutionResource) -> bool) -> ExecutionResource {
        let changed = tokio::sync::Notify::new();
        poll(name, || self.get(name).filter(|resource| is(resource)), &changed).await
    }

    /// The approval that an execution waits for, once it does.
    pub async fn approval(&self, execution: &str) -> Approval {
        let named = |resource: &ExecutionResource| resource.waiting_for()?.first().map(|it| it.approval.clone());
        let waits = self.until(execution, |it| named(it).is_some_and(|name| !name.is_empty())).await;
        self.stored_approval(&named(&waits).expect("it was looked for"))
    }

    /// An approval as it is now.
    pub fn stored_approval(&self, name: &str) -> Approval {
        let key = baton_store::ResourceKey::new("Approval", "default", name);
        let stored = self.store.get(&key).expect("the store reads").expect("the approval is there");
        prost::Message::decode(stored.body).expect("it decodes")
    }

    /// Waits until an approval is as `is` wants it.
    pub async fn until_approval(&self, name: &str, is: impl Fn(&Approval) -> bool) -> Approval {
        let changed = tokio::sync::Notify::new();
        poll(name, || Some(self.stored_approval(name)).filter(|approval| is(approval)), &changed).await
    }

    /// Waits for the end of an execution.
    pub async fn ended(&self, name: &str) -> ExecutionResource {
        self.until(name, |resource| resource.phase().is_terminal()).await
    }

    /// Waits until an execution is deleted.
    pub async fn gone(&self, name: &str) {
        let changed = tokio::sync::Notify::new();
        poll("the end of an execution", || self.get(name).is_none().then_some(()), &changed).await;
    }

    /// The only execution whose name begins so.
    pub async fn child_of(&self, parent: &str) -> String {
        let changed = tokio::sync::Notify::new();
        let prefix = format!("{parent}-");
        let look = || {
            let page =
                self.store.list(&baton_store::ListQuery::new("WorkflowExecution", 1000)).expect("the store reads");
            page.items.into_iter().map(|item| item.key.name).find(|name| name.starts_with(&prefix))
        };
        poll("a child", look, &changed).await
    }
}

/// Its uid.
pub fn uid(resource: &ExecutionResource) -> Uid {
    resource.metadata().uid.parse().expect("a uid")
}

/// Its output; it must have completed.
pub fn output(resource: &ExecutionResource) -> Value {
    assert_eq!(resource.phase(), Phase::Completed, "{:?}", resource.error());
    resource.output().and_then(Option::as_ref).map_or(Value::Null, |output| output.to_value().expect("JSON"))
}

/// `status.callbacks[].state`.
pub fn callback_states(resource: &ExecutionResource) -> Vec<String> {
    resource.callbacks().into_iter().flatten().map(|callback| callback.state.clone()).collect()
}
