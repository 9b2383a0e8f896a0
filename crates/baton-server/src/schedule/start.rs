//! Starting executions: under names that the schedule's time or event decides, so that nothing is started twice.

use std::{collections::BTreeMap, sync::Arc};

use baton_proto::{
    API_VERSION, ExecutionResource, Resource, Timestamp,
    v1::{Json, ObjectMeta, OwnerReference, Workflow, WorkflowExecution, WorkflowExecutionSpec},
};
use baton_types::{ApiError, ErrorKind, Uid};

use super::rows::Tracked;
use crate::{
    app::{App, WriteOptions},
    errors, metrics,
};

/// Label of executions: the workflow whose schedule started them.
pub(crate) const SCHEDULED_BY: &str = "baton.dev/scheduled-by";
/// Annotation of executions: the time of the schedule that they were started for.
const SCHEDULED_TIME: &str = "baton.dev/scheduled-time";
/// Why an execution is cancelled that another one takes the place of.
const REPLACED: &str = "the schedule started the next execution";

/// What every execution of a workflow's schedule has.
#[derive(Clone, Debug)]
pub(super) struct Blueprint {
    pub(super) namespace: String,
    pub(super) workflow: String,
    pub(super) uid: Uid,
    pub(super) input: Option<Json>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) ttl_seconds: Option<i32>,
}

/// One execution that is to be started.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// What its name has behind the workflow's.
    pub(super) suffix: String,
    pub(super) scheduled_ms: i64,
    /// What it gets; `None` for what the workflow says.
    pub(super) input: Option<Json>,
}

/// What is to be done for one workflow.
pub(super) struct Job {
    pub(super) blueprint: Arc<Blueprint>,
    /// Names of executions to cancel first.
    pub(super) cancel: Vec<String>,
    pub(super) starts: Vec<Start>,
}

/// An execution that is there.
pub(super) struct Started {
    pub(super) execution: Tracked,
    pub(super) scheduled_ms: i64,
    /// How it ended, if it has ended already.
    pub(super) ended: Option<Ended>,
}

/// The end of an execution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) time_ms: i64,
    pub(super) completed: bool,
}

impl Ended {
    /// Of an execution that has ended.
    pub(super) fn of(execution: &ExecutionResource, now_ms: i64) -> Option<Self> {
        let phase = execution.phase();
        let time = execution.completion_time().copied().flatten();
        phase.is_terminal().then(|| Self {
            time_ms: time.map_or(now_ms, |time: Timestamp| time.as_millis()),
            completed: phase == baton_types::Phase::Completed,
        })
    }
}

/// What came of a job.
pub(super) enum Outcome {
    /// Everything was tried; the last refusal that another try would not change.
    Done { started: Vec<Started>, refused: Option<ApiError> },
    /// Something cannot be done now. All of it is to be tried again: what is there is found.
    NotNow(ApiError),
}

impl Job {
    pub(super) async fn perform(self, app: &App, now_ms: i64) -> Outcome {
        let namespace = &self.blueprint.namespace;
        for name in &self.cancel {
            match app.cancel::<WorkflowExecution>(namespace, name, REPLACED).await {
                Err(refused) if errors::passes(refused.kind) => return Outcome::NotNow(refused),
                // It has ended in the meantime, or is gone.
                Ok(_) | Err(_) => {}
            }
        }
        let (mut started, mut last_refusal) = (Vec::new(), None);
        for start in self.starts {
            let scheduled_ms = start.scheduled_ms;
            match start.perform(app, &self.blueprint).await {
                Ok((execution, created)) => {
                    metrics::schedule_started(if created { "started" } else { "existing" }, 1);
                    started.extend(begun(execution, scheduled_ms, now_ms));
                }
                Err(refused) if errors::passes(refused.kind) => return Outcome::NotNow(refused),
                Err(refused) => {
                    metrics::schedule_started("refused", 1);
                    tracing::warn!(
                        namespace,
                        workflow = self.blueprint.workflow,
                        detail = refused.detail,
                        "the schedule cannot start an execution: {refused}"
                    );
                    last_refusal = Some(refused);
                }
            }
        }
        Outcome::Done { started, refused: last_refusal }
    }
}

fn begun(execution: WorkflowExecution, scheduled_ms: i64, now_ms: i64) -> Option<Started> {
    let execution = ExecutionResource::Workflow(Box::new(execution));
    let meta = execution.metadata();
    let tracked = Tracked { name: meta.name.clone(), uid: meta.uid.parse().ok()? };
    Some(Started { execution: tracked, scheduled_ms, ended: Ended::of(&execution, now_ms) })
}

impl Start {
    /// The execution, and whether it is a new one.
    async fn perform(self, app: &App, blueprint: &Blueprint) -> Result<(WorkflowExecution, bool), ApiError> {
        let name = format!("{}-{}", blueprint.workflow, self.suffix);
        let request_id = format!("schedule/{}/{}", blueprint.uid, self.suffix);
        let object = self.object(blueprint, &name, &request_id);
        match app.create(object, WriteOptions::default()).await {
            Ok(written) => Ok((written.object, written.created)),
            // What executions get may have changed since: one that this schedule started is that one all the same.
            Err(refused) if refused.kind == ErrorKind::AlreadyExists => {
                let present: WorkflowExecution = app.get(&blueprint.namespace, &name).await?;
                let own = present.spec.as_ref().is_some_and(|spec| spec.request_id == request_id);
                if own { Ok((present, false)) } else { Err(refused) }
            }
            Err(refused) => Err(refused),
        }
    }

    fn object(self, blueprint: &Blueprint, name: &str, request_id: &str) -> WorkflowExecution {
        let owner = OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: Workflow::KIND.to_owned(),
            name: blueprint.workflow.clone(),
            uid: blueprint.uid.to_string(),
            controller: true,
            block_owner_deletion: false,
        };
        let time = Timestamp::from_millis(self.scheduled_ms).to_string();
        let metadata = ObjectMeta {
            namespace: blueprint.namespace.clone(),
            name: name.to_owned(),
            labels: [(SCHEDULED_BY.to_owned(), blueprint.workflow.clone())].into(),
            annotations: [(SCHEDULED_TIME.to_owned(), time)].into(),
            owner_references: vec![owner],
            ..ObjectMeta::default()
        };
        let spec = WorkflowExecutionSpec {
            workflow: blueprint.workflow.clone(),
            input: self.input.or_else(|| blueprint.input.clone()),
            env: blueprint.env.clone(),
            request_id: request_id.to_owned(),
            ttl_seconds_after_finished: blueprint.ttl_seconds,
            ..WorkflowExecutionSpec::default()
        };
        WorkflowExecution { metadata: Some(metadata), spec: Some(spec), ..WorkflowExecution::default() }
    }
}
