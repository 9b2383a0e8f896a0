//! What a call of the API means, whoever carried it: no transport types here, and no storage types outside.

use baton_execution::ProgramKind;
use baton_proto::{ExecutionResource, Resource, history_v1, v1};
use baton_types::{ApiError, ErrorKind};
use futures::Stream;
use serde_json::Value;

/// The application layer. Cheap to clone.
#[derive(Clone)]
pub struct App {}

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

/// A kind of resource that the API serves.
pub trait ServedResource: Resource {}

impl ServedResource for v1::Workflow {}
impl ServedResource for v1::Agent {}
impl ServedResource for v1::WorkflowExecution {}
impl ServedResource for v1::AgentExecution {}

/// A kind of resource that is one run of something.
pub trait ExecutionKind: ServedResource {
    /// Which Program it runs.
    const PROGRAM: ProgramKind;
    /// As either kind.
    fn into_execution(self) -> ExecutionResource;
    /// Back from either kind; `None` if it is the other one.
    fn from_execution(execution: ExecutionResource) -> Option<Self>;
}

impl ExecutionKind for v1::WorkflowExecution {
    const PROGRAM: ProgramKind = ProgramKind::Workflow;

    fn into_execution(self) -> ExecutionResource {
        ExecutionResource::Workflow(Box::new(self))
    }

    fn from_execution(execution: ExecutionResource) -> Option<Self> {
        match execution {
            ExecutionResource::Workflow(it) => Some(*it),
            ExecutionResource::Agent(_) => None,
        }
    }
}

impl ExecutionKind for v1::AgentExecution {
    const PROGRAM: ProgramKind = ProgramKind::Agent;

    fn into_execution(self) -> ExecutionResource {
        ExecutionResource::Agent(Box::new(self))
    }

    fn from_execution(execution: ExecutionResource) -> Option<Self> {
        match execution {
            ExecutionResource::Agent(it) => Some(*it),
            ExecutionResource::Workflow(_) => None,
        }
    }
}

fn unimplemented() -> ApiError {
    ApiError::new(ErrorKind::Unimplemented, "UNIMPLEMENTED", "not offered by this server")
}

/// Refuses a manifest whose JSON has `status.callbackToken`: a return address is input, so it belongs in `spec`.
///
/// # Errors
/// One violation of `status.callbackToken`.
pub fn refuse_misplaced_token(_object: &Value) -> Result<(), ApiError> {
    Err(unimplemented())
}

impl App {
    /// Creates an object. An execution is created once for its name and `spec.requestId`: `created` is false for a repeat.
    pub async fn create<R: ServedResource>(&self, _object: R, _options: WriteOptions) -> Result<Written<R>, ApiError> {
        Err(unimplemented())
    }

    /// Reads an object.
    pub async fn get<R: ServedResource>(&self, _namespace: &str, _name: &str) -> Result<R, ApiError> {
        Err(unimplemented())
    }

    /// Reads a page of the objects of a kind.
    pub async fn list<R: ServedResource>(&self, _request: &v1::ListRequest) -> Result<(v1::ListMeta, Vec<R>), ApiError> {
        Err(unimplemented())
    }

    /// Replaces an object; `metadata.resourceVersion` must be the stored one.
    pub async fn update<R: ServedResource>(&self, _object: R, _options: WriteOptions) -> Result<Written<R>, ApiError> {
        Err(unimplemented())
    }

    /// Changes an object by a merge patch (RFC 7386). Races are retried, unless the patch has a `metadata.resourceVersion`.
    pub async fn patch<R: ServedResource>(&self, _namespace: &str, _name: &str, _patch: Value, _options: WriteOptions) -> Result<Written<R>, ApiError> {
        Err(unimplemented())
    }

    /// Deletes an object, or marks it while finalizers hold it.
    pub async fn delete<R: ServedResource>(&self, _request: &v1::DeleteRequest) -> Result<DeletedObject<R>, ApiError> {
        Err(unimplemented())
    }

    /// Follows the objects of a kind. With `bookmarks`, tells about once a minute how far it has come.
    pub async fn watch<R: ServedResource>(
        &self,
        _request: &v1::WatchRequest,
        _bookmarks: bool,
    ) -> Result<impl Stream<Item = Result<WatchItem<R>, ApiError>> + Send + 'static + use<R>, ApiError> {
        if true { Err(unimplemented()) } else { Ok(futures::stream::empty()) }
    }

    /// Asks an execution to wind up.
    pub async fn cancel<R: ExecutionKind>(&self, _namespace: &str, _name: &str, _reason: &str) -> Result<R, ApiError> {
        Err(unimplemented())
    }

    /// Ends an execution at once.
    pub async fn terminate<R: ExecutionKind>(&self, _namespace: &str, _name: &str, _reason: &str) -> Result<R, ApiError> {
        Err(unimplemented())
    }

    /// Holds an execution: nothing new starts.
    pub async fn suspend<R: ExecutionKind>(&self, _namespace: &str, _name: &str) -> Result<R, ApiError> {
        Err(unimplemented())
    }

    /// Lets a held execution go on.
    pub async fn resume<R: ExecutionKind>(&self, _namespace: &str, _name: &str) -> Result<R, ApiError> {
        Err(unimplemented())
    }

    /// Reads a page of an execution's history.
    pub async fn history<R: ExecutionKind>(&self, _request: &v1::HistoryRequest) -> Result<v1::HistoryPage, ApiError> {
        Err(unimplemented())
    }

    /// Follows an execution's history to its end.
    pub async fn watch_history<R: ExecutionKind>(
        &self,
        _request: &v1::HistoryRequest,
    ) -> Result<impl Stream<Item = Result<history_v1::HistoryEvent, ApiError>> + Send + 'static + use<R>, ApiError> {
        if true { Err(unimplemented()) } else { Ok(futures::stream::empty()) }
    }

    /// The return addresses of an execution.
    pub async fn callbacks<R: ExecutionKind>(&self, _request: &v1::ListCallbacksRequest) -> Result<v1::CallbackList, ApiError> {
        Err(unimplemented())
    }

    /// Adds a return address.
    pub async fn attach_callback<R: ExecutionKind>(&self, _request: &v1::AttachCallbackRequest) -> Result<v1::CallbackList, ApiError> {
        Err(unimplemented())
    }

    /// Tries undelivered answers again now.
    pub async fn retry_callback<R: ExecutionKind>(&self, _request: &v1::RetryCallbackRequest) -> Result<v1::CallbackList, ApiError> {
        Err(unimplemented())
    }

    /// Makes a return address for a caller outside.
    pub async fn create_callback(&self, _request: &v1::CreateCallbackRequest) -> Result<v1::CreateCallbackResponse, ApiError> {
        Err(unimplemented())
    }

    /// Waits for the answer to such a return address.
    pub async fn await_callback(&self, _request: &v1::AwaitCallbackRequest) -> Result<v1::AwaitCallbackResponse, ApiError> {
        Err(unimplemented())
    }

    /// Answers a wait: it went well.
    pub async fn complete_callback(&self, _request: &v1::CompleteCallbackRequest) -> Result<v1::AnswerResponse, ApiError> {
        Err(unimplemented())
    }

    /// Answers a wait: it failed.
    pub async fn fail_callback(&self, _request: &v1::FailCallbackRequest) -> Result<v1::AnswerResponse, ApiError> {
        Err(unimplemented())
    }

    /// Answers a wait: it was cancelled.
    pub async fn cancel_callback(&self, _request: &v1::CancelCallbackRequest) -> Result<v1::AnswerResponse, ApiError> {
        Err(unimplemented())
    }

    /// Says that a wait is still being worked on.
    pub async fn heartbeat_callback(&self, _request: &v1::HeartbeatCallbackRequest) -> Result<v1::HeartbeatCallbackResponse, ApiError> {
        Err(unimplemented())
    }

    /// Takes over a WorkflowExecution from its serialized form, old or new.
    pub async fn import_legacy(&self, _bytes: &[u8], _namespace: Option<&str>) -> Result<v1::WorkflowExecution, ApiError> {
        Err(unimplemented())
    }

    /// Whether requests can be served; otherwise why not.
    pub fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}
