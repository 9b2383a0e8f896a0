//! What the two kinds of execution have in common, as one type, so that the engine and the API treat them alike.

use baton_execution::{Fault, ProgramKind};
use baton_types::Phase;
use bytes::Bytes;
use prost::Message;
use serde_json::Value;

use crate::{
    Resource, Timestamp, legacy,
    v1::{
        AgentExecution, AgentExecutionSpec, AgentExecutionStatus, CallbackStatus, Condition, ExecutionReference, Json,
        ObjectMeta, PinnedTemplate, Problem, ProgressStatus, UsageStatus, WaitingFor, WorkflowExecution,
        WorkflowExecutionSpec, WorkflowExecutionStatus,
    },
};

/// Types of conditions.
pub mod condition {
    /// The execution was admitted.
    pub const ACCEPTED: &str = "Accepted";
    /// It waits, for the reason given.
    pub const WAITING: &str = "Waiting";
    /// It ended well.
    pub const COMPLETE: &str = "Complete";
    /// It ended otherwise.
    pub const FAILED: &str = "Failed";
    /// A call may or may not have happened, and a person is to say what becomes of it.
    pub const IN_DOUBT: &str = "InDoubt";
    /// The soft mark of a limit is passed.
    pub const LIMIT_NEAR: &str = "LimitNear";
    /// Of a workflow: whether its schedule starts executions.
    pub const SCHEDULED: &str = "Scheduled";
    /// Whether every caller was told.
    pub const CALLBACK_DELIVERED: &str = "CallbackDelivered";
}

/// State of one return address, `status.callbacks[].state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackState {
    /// The execution has not ended.
    Waiting,
    /// The answer is being delivered.
    Pending,
    /// The receiver took it.
    Delivered,
    /// The receiver will never take it.
    Rejected,
    /// The deadline passed first.
    Abandoned,
}

impl CallbackState {
    /// The CamelCase word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Pending => "Pending",
            Self::Delivered => "Delivered",
            Self::Rejected => "Rejected",
            Self::Abandoned => "Abandoned",
        }
    }
}

/// An execution of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecutionResource {
    /// One run of a workflow.
    Workflow(Box<WorkflowExecution>),
    /// One run of an agent.
    Agent(Box<AgentExecution>),
}

macro_rules! status_field {
    ($get:ident, $get_mut:ident, $doc:literal, $type:ty) => {
        #[doc = $doc]
        pub fn $get(&self) -> Option<&$type> {
            match self {
                Self::Workflow(it) => it.status.as_ref().map(|status| &status.$get),
                Self::Agent(it) => it.status.as_ref().map(|status| &status.$get),
            }
        }

        #[doc = $doc]
        pub fn $get_mut(&mut self) -> &mut $type {
            match self {
                Self::Workflow(it) => &mut it.status.get_or_insert_default().$get,
                Self::Agent(it) => &mut it.status.get_or_insert_default().$get,
            }
        }
    };
}

macro_rules! spec_field {
    ($get:ident, $doc:literal, $type:ty, $spec:ident => $value:expr) => {
        #[doc = $doc]
        pub fn $get(&self) -> $type {
            match self {
                Self::Workflow(it) => {
                    static NONE: std::sync::LazyLock<WorkflowExecutionSpec> =
                        std::sync::LazyLock::new(WorkflowExecutionSpec::default);
                    let $spec = it.spec.as_ref().unwrap_or(&NONE);
                    $value
                }
                Self::Agent(it) => {
                    static NONE: std::sync::LazyLock<AgentExecutionSpec> =
                        std::sync::LazyLock::new(AgentExecutionSpec::default);
                    let $spec = it.spec.as_ref().unwrap_or(&NONE);
                    $value
                }
            }
        }
    };
}

impl ExecutionResource {
    /// Reads the stored form of a kind. A token that an old writer put in status is lifted into spec.
    ///
    /// # Errors
    /// A sentence saying what is wrong with the bytes.
    pub fn decode(kind: ProgramKind, bytes: &[u8]) -> Result<Self, String> {
        match kind {
            ProgramKind::Workflow => legacy::decode_workflow_execution(bytes)
                .map(|it| Self::Workflow(Box::new(it)))
                .map_err(|error| error.to_string()),
            ProgramKind::Agent => {
                AgentExecution::decode(bytes).map(|it| Self::Agent(Box::new(it))).map_err(|error| error.to_string())
            }
        }
    }

    /// The stored form.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Workflow(it) => it.encode_to_vec().into(),
            Self::Agent(it) => it.encode_to_vec().into(),
        }
    }

    /// Which Program it runs.
    pub const fn program_kind(&self) -> ProgramKind {
        match self {
            Self::Workflow(_) => ProgramKind::Workflow,
            Self::Agent(_) => ProgramKind::Agent,
        }
    }

    /// Kind of the resource, such as `AgentExecution`.
    pub const fn kind(&self) -> &'static str {
        self.program_kind().execution_kind()
    }

    /// `metadata`; all of it empty if it was left out.
    pub fn metadata(&self) -> &ObjectMeta {
        static NONE: std::sync::LazyLock<ObjectMeta> = std::sync::LazyLock::new(ObjectMeta::default);
        let metadata = match self {
            Self::Workflow(it) => Resource::metadata(it.as_ref()),
            Self::Agent(it) => Resource::metadata(it.as_ref()),
        };
        metadata.unwrap_or(&NONE)
    }

    /// `metadata`, made if it was left out.
    pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Workflow(it) => it.metadata_mut(),
            Self::Agent(it) => it.metadata_mut(),
        }
    }

    /// Takes the callback token out of `spec`; empty if nobody waits.
    pub fn take_callback_token(&mut self) -> Vec<u8> {
        match self {
            Self::Workflow(it) => it.spec.as_mut().and_then(|spec| spec.callback_token.take()).unwrap_or_default(),
            Self::Agent(it) => {
                it.spec.as_mut().map(|spec| std::mem::take(&mut spec.callback_token)).unwrap_or_default()
            }
        }
    }

    /// Sets `spec.suspend`, the one field of an execution's spec that may change.
    pub fn set_suspend(&mut self, suspend: bool) {
        match self {
            Self::Workflow(it) => it.spec.get_or_insert_default().suspend = suspend,
            Self::Agent(it) => it.spec.get_or_insert_default().suspend = suspend,
        }
    }

    spec_field!(callback_token, "The callback token in `spec`; empty if nobody waits.", &[u8], spec => AsBytes::as_bytes(&spec.callback_token));
    spec_field!(suspend, "`spec.suspend`.", bool, spec => spec.suspend);
    spec_field!(request_id, "`spec.requestId`.", &str, spec => &spec.request_id);
    spec_field!(timeout, "`spec.timeout`, as it was written.", &str, spec => &spec.timeout);
    spec_field!(callback_deadline, "`spec.callbackDeadline`, as it was written.", &str, spec => &spec.callback_deadline);
    spec_field!(parent_close_policy, "`spec.parentClosePolicy`; empty means `Cancel`.", &str, spec => &spec.parent_close_policy);
    spec_field!(ttl_seconds_after_finished, "`spec.ttlSecondsAfterFinished`.", Option<i32>, spec => spec.ttl_seconds_after_finished);
    spec_field!(env, "`spec.env`.", &std::collections::BTreeMap<String, String>, spec => &spec.env);
    spec_field!(input, "`spec.input`.", Option<&Json>, spec => spec.input.as_ref());

    status_field!(conditions, conditions_mut, "`status.conditions`.", Vec<Condition>);
    status_field!(start_time, start_time_mut, "`status.startTime`.", Option<Timestamp>);
    status_field!(completion_time, completion_time_mut, "`status.completionTime`.", Option<Timestamp>);
    status_field!(output, output_mut, "`status.output`.", Option<Json>);
    status_field!(error, error_mut, "`status.error`.", Option<Problem>);
    status_field!(template, template_mut, "`status.template`.", Option<PinnedTemplate>);
    status_field!(callbacks, callbacks_mut, "`status.callbacks`.", Vec<CallbackStatus>);
    status_field!(progress, progress_mut, "`status.progress`.", Option<ProgressStatus>);
    status_field!(waiting_for, waiting_for_mut, "`status.waitingFor`.", Vec<WaitingFor>);
    status_field!(root, root_mut, "`status.root`.", Option<ExecutionReference>);
    status_field!(parent, parent_mut, "`status.parent`.", Option<ExecutionReference>);
    status_field!(usage, usage_mut, "`status.usage`.", Option<UsageStatus>);
    status_field!(observed_generation, observed_generation_mut, "`status.observedGeneration`.", i32);
    status_field!(temporal_workflow_id, temporal_workflow_id_mut, "`status.temporalWorkflowId`.", String);
    status_field!(temporal_run_id, temporal_run_id_mut, "`status.temporalRunId`.", String);

    /// `status.phase`; `Pending` if there is none yet.
    pub fn phase(&self) -> Phase {
        let phase = match self {
            Self::Workflow(it) => it.status.as_ref().map(|status| status.phase.as_str()),
            Self::Agent(it) => it.status.as_ref().map(|status| status.phase.as_str()),
        };
        phase.and_then(|phase| phase.parse().ok()).unwrap_or(Phase::Pending)
    }

    /// Sets `status.phase`.
    pub fn set_phase(&mut self, phase: Phase) {
        let word = match self {
            Self::Workflow(it) => &mut it.status.get_or_insert_default().phase,
            Self::Agent(it) => &mut it.status.get_or_insert_default().phase,
        };
        phase.as_str().clone_into(word);
    }

    /// Sets `status.artifacts`, which executions of workflows do not have.
    pub fn set_artifacts(&mut self, artifacts: Vec<crate::v1::ExecutionArtifact>) {
        match self {
            Self::Workflow(_) => {}
            Self::Agent(it) => it.status.get_or_insert_default().artifacts = artifacts,
        }
    }

    /// Drops what a caller may have put in `status`: it is the system's.
    pub fn clear_status(&mut self) {
        match self {
            Self::Workflow(it) => it.status = Some(WorkflowExecutionStatus::default()),
            Self::Agent(it) => it.status = Some(AgentExecutionStatus::default()),
        }
    }

    /// Sets a condition; its time moves only if its status changed.
    pub fn set_condition(&mut self, kind: &str, status: bool, reason: &str, message: &str, now: Timestamp) {
        let generation = self.metadata().generation;
        set_condition(self.conditions_mut(), kind, status, reason, message, generation, now);
    }
}

/// Sets one of `conditions`; its time moves only if its status changed.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    generation: i32,
    now: Timestamp,
) {
    let status = if status { "True" } else { "False" };
    let index = conditions.iter().position(|it| it.r#type == kind).unwrap_or_else(|| {
        conditions.push(Condition { r#type: kind.to_owned(), ..Condition::default() });
        conditions.len() - 1
    });
    let condition = &mut conditions[index];
    if condition.status != status {
        status.clone_into(&mut condition.status);
        condition.last_transition_time = Some(now.whole_seconds());
    }
    reason.clone_into(&mut condition.reason);
    message.clone_into(&mut condition.message);
    condition.observed_generation = generation;
}

impl Problem {
    /// The message for a fault.
    pub fn from_fault(fault: &Fault) -> Self {
        Self {
            r#type: fault.kind.clone(),
            title: fault.title.clone().unwrap_or_default(),
            status: i32::from(fault.status),
            detail: fault.detail.clone().unwrap_or_default(),
            instance: fault.instance.clone().unwrap_or_default(),
            non_retryable: fault.non_retryable,
            data: fault.data.as_ref().map(Json::from_value),
        }
    }

    /// The fault that somebody outside reported; `default_type` if it names none.
    pub fn to_fault(&self, default_type: &str) -> Fault {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Fault {
            kind: text(&self.r#type).unwrap_or_else(|| default_type.to_owned()),
            status: u16::try_from(self.status).ok().filter(|status| *status > 0).unwrap_or(500),
            title: text(&self.title),
            detail: text(&self.detail),
            instance: text(&self.instance),
            non_retryable: self.non_retryable,
            data: self.data.as_ref().map(|data| data.to_value().unwrap_or(Value::Null)),
        }
    }
}

trait AsBytes {
    fn as_bytes(&self) -> &[u8];
}

impl AsBytes for Vec<u8> {
    fn as_bytes(&self) -> &[u8] {
        self
    }
}

impl AsBytes for Option<Vec<u8>> {
    fn as_bytes(&self) -> &[u8] {
        self.as_deref().unwrap_or_default()
    }
}
