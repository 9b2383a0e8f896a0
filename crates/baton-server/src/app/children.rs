//! Children: executions that other executions start, admitted like any other.
//!
//! # Invariants
//! - A repeat after a crash has the same name and request id, so it finds the child that is there already.
//! - What can never be is a fault for the parent; what cannot be now is an error, and the engine asks again.

use std::collections::BTreeMap;

use baton_engine::{ChildCreated, Children, ParentRef};
use baton_execution::{ChildTarget, Fault, ParentClosePolicy, ProgramKind, StartChild, fault_type};
use baton_proto::{API_VERSION, v1};
use baton_types::{ApiError, ErrorKind, Uid};
use serde_json::Value;
use std::time::Duration;

use super::{
    App, WeakApp,
    admission::{self, ExecutionStrategy},
    execution::Repeatable,
    template_title,
};
use crate::{metrics, sessions};

/// Executions above a child at most: a chain of calls that is longer is taken for one that never ends.
const DEPTH_MAX: u32 = 32;

/// Creates children through an application layer, which it does not keep alive.
pub(crate) struct ChildAdmission(WeakApp);

impl ChildAdmission {
    pub(crate) fn new(app: &App) -> Self {
        Self(app.downgrade())
    }
}

#[async_trait::async_trait]
impl Children for ChildAdmission {
    async fn create_child(
        &self,
        parent: ParentRef,
        start: StartChild,
        name: String,
        token: Option<Vec<u8>>,
    ) -> Result<Result<ChildCreated, Fault>, ApiError> {
        let stopping = || ApiError::new(ErrorKind::Unavailable, "SHUTTING_DOWN", "the server is shutting down");
        let app = self.0.upgrade().ok_or_else(stopping)?;
        match Box::pin(create(&app, parent, start, name, token)).await {
            Ok(created) => Ok(Ok(created)),
            Err(Refused::Never(fault)) => Ok(Err(fault)),
            Err(Refused::NotNow(error)) => Err(error),
        }
    }
}

enum Refused {
    Never(Fault),
    NotNow(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        match error.kind {
            ErrorKind::ResourceExhausted
            | ErrorKind::StorageFull
            | ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Internal
            | ErrorKind::Conflict => Self::NotNow(error),
            ErrorKind::TooLarge => Self::Never(Fault::new(fault_type::TOO_LARGE, 413, error.message).non_retryable()),
            ErrorKind::InvalidArgument
            | ErrorKind::Invalid
            | ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::FailedPrecondition
            | ErrorKind::Gone
            | ErrorKind::Unimplemented => {
                Self::Never(Fault::new(fault_type::CONFIGURATION, 400, error.message).non_retryable())
            }
        }
    }
}

async fn create(
    app: &App,
    parent: ParentRef,
    start: StartChild,
    name: String,
    token: Option<Vec<u8>>,
) -> Result<ChildCreated, Refused> {
    if parent.depth > DEPTH_MAX {
        let detail = format!(
            "{} executions are above this one, allowed are up to {DEPTH_MAX}; do they call each other without end?",
            parent.depth
        );
        return Err(Refused::Never(Fault::new(fault_type::LIMIT, 508, detail).non_retryable()));
    }
    check_version(app, &parent.namespace, &start).await?;
    match start.kind {
        ProgramKind::Workflow => Box::pin(submit(app, workflow_execution(&parent, start, name, token), parent)).await,
        ProgramKind::Agent => Box::pin(submit(app, agent_execution(&parent, start, name, token)?, parent)).await,
    }
}

async fn submit<R: ExecutionStrategy>(app: &App, object: R, parent: ParentRef) -> Result<ChildCreated, Refused> {
    let repeatable = Repeatable::of(&object);
    let resource = match admission::admit(app, object, Some(parent)).await {
        Ok(admission) => {
            let created = sessions::create(app, admission.admitted).await?;
            if !created.existing {
                metrics::execution_created(R::KIND);
            }
            created.resource
        }
        Err(refused) => Repeatable::find(app, repeatable, refused).await?,
    };
    let meta = resource.metadata();
    let uid: Uid =
        meta.uid.parse().map_err(|_| ApiError::internal(format!("the engine gave a child the uid '{}'", meta.uid)))?;
    Ok(ChildCreated { kind: R::KIND, name: meta.name.clone(), uid })
}

/// A call that names a version runs no other.
async fn check_version(app: &App, namespace: &str, start: &StartChild) -> Result<(), Refused> {
    let ChildTarget::Named { name, version: Some(wanted) } = &start.target else { return Ok(()) };
    let Some(template) = app.template(start.kind, namespace, name).await? else { return Ok(()) };
    let found = template.version.as_deref().unwrap_or_default();
    if found == wanted {
        return Ok(());
    }
    let detail =
        format!("{} '{name}' has the version '{found}', the call asks for '{wanted}'", template_title(start.kind));
    Err(Refused::Never(Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()))
}

fn metadata(parent: &ParentRef, name: String) -> v1::ObjectMeta {
    let owner = v1::OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: parent.kind.execution_kind().to_owned(),
        name: parent.name.clone(),
        uid: parent.uid.to_string(),
        controller: true,
        block_owner_deletion: false,
    };
    v1::ObjectMeta {
        name,
        namespace: parent.namespace.clone(),
        owner_references: vec![owner],
        ..v1::ObjectMeta::default()
    }
}

/// What both kinds of spec have in common.
struct Common {
    template: String,
    inline: Option<Value>,
    input: Option<v1::Json>,
    env: BTreeMap<String, String>,
    timeout: String,
    request_id: String,
    parent_close_policy: String,
}

impl Common {
    fn of(start: &mut StartChild) -> Self {
        let (template, inline) = match &mut start.target {
            ChildTarget::Named { name, .. } => (std::mem::take(name), None),
            ChildTarget::Inline(definition) => (String::new(), Some(definition.take())),
        };
        let policy = match start.parent_close_policy {
            ParentClosePolicy::Cancel => "Cancel",
            ParentClosePolicy::Abandon => "Abandon",
        };
        Self {
            template,
            inline,
            input: (!start.input.is_null()).then(|| v1::Json::from_value(&start.input)),
            env: std::mem::take(&mut start.env),
            timeout: start
                .timeout_ms
                .map(|ms| baton_types::format_duration(Duration::from_millis(ms)))
                .unwrap_or_default(),
            request_id: short_request_id(&start.id.to_string()),
            parent_close_policy: policy.to_owned(),
        }
    }
}

/// The operation, which is the same on every repeat; a very deep position is shortened to its digest.
fn short_request_id(operation: &str) -> String {
    const BYTES_MAX: usize = 200;
    if operation.len() <= BYTES_MAX {
        operation.to_owned()
    } else {
        baton_types::Digest::of(operation.as_bytes()).to_string()
    }
}

fn workflow_execution(
    parent: &ParentRef,
    mut start: StartChild,
    name: String,
    token: Option<Vec<u8>>,
) -> v1::WorkflowExecution {
    let common = Common::of(&mut start);
    let spec = v1::WorkflowExecutionSpec {
        workflow: common.template,
        definition: common.inline.as_ref().map(v1::Json::from_value),
        input: common.input,
        env: common.env,
        timeout: common.timeout,
        request_id: common.request_id,
        callback_token: token,
        parent_close_policy: common.parent_close_policy,
        ..v1::WorkflowExecutionSpec::default()
    };
    v1::WorkflowExecution {
        metadata: Some(metadata(parent, name)),
        spec: Some(spec),
        ..v1::WorkflowExecution::default()
    }
}

fn agent_execution(
    parent: &ParentRef,
    mut start: StartChild,
    name: String,
    token: Option<Vec<u8>>,
) -> Result<v1::AgentExecution, Refused> {
    let common = Common::of(&mut start);
    let unreadable = |what: &str, why: &dyn std::fmt::Display| {
        Refused::Never(Fault::new(fault_type::CONFIGURATION, 400, format!("{what}: {why}")).non_retryable())
    };
    let definition = common
        .inline
        .map(baton_proto::from_json_value)
        .transpose()
        .map_err(|why| unreadable("the inline agent", &why))?;
    let limits = match start.limits.take() {
        Value::Null => None,
        limits => Some(baton_proto::from_json_value(limits).map_err(|why| unreadable("limits", &why))?),
    };
    let spec = v1::AgentExecutionSpec {
        agent: common.template,
        definition,
        message: start.message.take().unwrap_or_default(),
        input: common.input,
        session: start.session.take().unwrap_or_default(),
        callback_token: token.unwrap_or_default(),
        env: common.env,
        timeout: common.timeout,
        request_id: common.request_id,
        parent_close_policy: common.parent_close_policy,
        limits,
        ..v1::AgentExecutionSpec::default()
    };
    Ok(v1::AgentExecution { metadata: Some(metadata(parent, name)), spec: Some(spec), ..v1::AgentExecution::default() })
}
