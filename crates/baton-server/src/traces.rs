//! Spans of executions: one for each, sent when it has ended, with the spans of its activities beneath it.
//!
//! What an execution has is in its status, so nothing is held in memory while it runs. Spans of activities are made where those
//! run; their ids name this one without having seen it.
//!
//! # Failure
//! An execution that ends while no server leads long enough to see it has no span. Traces are for looking at, not a record.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_activities::{Attribute, Span, SpanId, Tracer};
use baton_proto::{ExecutionResource, Timestamp, kind, v1};
use baton_store::{Change, ChangeKind, Store, StoreError, WatchError};
use baton_types::{Phase, Uid};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Pause before changes are followed again.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest that a stop waits for the collector.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// Follows the executions of a store, for as long as it is not stopped.
pub(crate) struct Following {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Following {
    /// Begins to send the spans of executions that end.
    pub(crate) fn start(store: Store, tracer: Tracer) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(store, tracer, stop.clone()));
        Self { stop, task }
    }

    /// Tells of those that have ended by now, and stops.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "sending the spans of executions stopped");
        }
    }
}

async fn run(store: Store, tracer: Tracer, stop: CancellationToken) {
    while let Err(lost) = follow(&store, &tracer, &stop).await {
        tracing::warn!("some executions may have no span: {lost}");
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(PAUSE) => {}
        }
    }
}

/// Has everything sent that was emitted; a collector that does not answer is not waited for.
pub(crate) async fn flush(tracer: Option<&Tracer>) {
    if let Some(tracer) = tracer
        && timeout(FLUSH_LIMIT, tracer.flush()).await.is_err()
    {
        tracing::warn!("the last spans could not be sent");
    }
}

/// Follows changes until it is stopped, and then up to the last one.
async fn follow(store: &Store, tracer: &Tracer, stop: &CancellationToken) -> Result<(), WatchError> {
    let mut watch = store.watch(None, store.revision())?;
    loop {
        let batch = tokio::select! {
            biased;
            batch = watch.next() => batch,
            () = stop.cancelled() => {
                if watch.revision() >= watch.head_revision() {
                    return Ok(());
                }
                watch.next().await
            }
        };
        let batch = match batch {
            Err(WatchError::Store(StoreError::Closed)) => return Ok(()),
            batch => batch?,
        };
        let (store, tracer) = (store.clone(), tracer.clone());
        let read = tokio::task::spawn_blocking(move || {
            for change in &batch.changes {
                if let Some(execution) = has_ended(&store, change) {
                    tracer.emit(span(&execution, Uid::from_bytes(change.uid), tracer.wants_content()));
                }
            }
        });
        if let Err(stopped) = read.await {
            tracing::error!(%stopped, "spans of executions were not made");
        }
    }
}

/// The execution, if it has ended by this change.
fn has_ended(store: &Store, change: &Change) -> Option<ExecutionResource> {
    let of = [kind::WORKFLOW_EXECUTION, kind::AGENT_EXECUTION].into_iter().find(|kind| *kind == change.key.kind)?;
    let read = |body: &bytes::Bytes| baton_engine::decode_stored(of, body, change.revision).ok();
    let terminal = |execution: &ExecutionResource| execution.phase().is_terminal();
    let before = match change.kind {
        ChangeKind::Added => None,
        ChangeKind::Deleted => return None,
        ChangeKind::Modified => Some(change.previous_revision),
    };
    let execution = read(&change.body).filter(terminal)?;
    let before = before.and_then(|revision| read(&store.change_body(revision).ok()??));
    (!before.is_some_and(|before| terminal(&before))).then_some(execution)
}

fn span(execution: &ExecutionResource, uid: Uid, content: bool) -> Span {
    let metadata = execution.metadata();
    let reference = |it: Option<&Option<v1::ExecutionReference>>| it.and_then(Option::as_ref).cloned();
    let (root, parent) = (reference(execution.root()), reference(execution.parent()));
    let uid_of = |it: &v1::ExecutionReference| it.uid.parse::<Uid>().ok();
    let template = execution.template().and_then(Option::as_ref).map(|it| it.name.clone()).unwrap_or_default();
    let created = metadata.creation_timestamp;
    let (started, ended) = times(execution);
    let start = started.or(created).map_or(UNIX_EPOCH, time);
    let mut span = Span {
        root: root.as_ref().and_then(uid_of).unwrap_or(uid),
        id: SpanId::of_execution(uid),
        parent: parent.as_ref().and_then(uid_of).map(SpanId::of_execution),
        name: String::new(),
        is_client: false,
        start,
        end: ended.map_or(start, time),
        attributes: vec![
            ("baton.namespace", metadata.namespace.as_str().into()),
            ("baton.execution.kind", execution.kind().into()),
            ("baton.execution.name", metadata.name.as_str().into()),
            ("baton.execution.uid", uid.to_string().as_str().into()),
            ("baton.phase", execution.phase().as_str().into()),
        ],
        error: error(execution, content),
    };
    if let Some(parent) = &parent {
        span.attributes.push(("baton.parent.position", parent.position.as_str().into()));
    }
    match execution {
        ExecutionResource::Workflow(_) => {
            format!("workflow {template}").trim_end().clone_into(&mut span.name);
        }
        ExecutionResource::Agent(agent) => {
            format!("invoke_agent {template}").trim_end().clone_into(&mut span.name);
            describe_agent(&mut span, agent, &template, content);
        }
    }
    span
}

fn describe_agent(span: &mut Span, agent: &v1::AgentExecution, template: &str, content: bool) {
    let spec = agent.spec.clone().unwrap_or_default();
    let status = agent.status.clone().unwrap_or_default();
    let usage = status.usage.unwrap_or_default();
    let mut add = |name, value: Attribute| span.attributes.push((name, value));
    add("gen_ai.operation.name", "invoke_agent".into());
    for (name, text) in [("gen_ai.agent.name", template), ("gen_ai.conversation.id", &spec.session)] {
        if !text.is_empty() {
            add(name, text.into());
        }
    }
    for (name, count) in [
        ("gen_ai.usage.input_tokens", usage.input_tokens),
        ("gen_ai.usage.output_tokens", usage.output_tokens),
        ("baton.usage.model_calls", usage.model_calls),
        ("baton.usage.tool_calls", usage.tool_calls),
    ] {
        add(name, Attribute::Count(count.into()));
    }
    if !usage.cost.is_empty() {
        add("baton.usage.cost", usage.cost.as_str().into());
    }
    if content {
        let message = |role: &str, text: &str| json!([{"role": role, "parts": [{"type": "text", "content": text}]}]);
        add("gen_ai.input.messages", Attribute::Content(message("user", &spec.message).to_string()));
        if let Some(output) = &status.output {
            let said = output.to_value().ok().and_then(|it| it.as_str().map(str::to_owned));
            let said = said.unwrap_or_else(|| output.text.clone());
            add("gen_ai.output.messages", Attribute::Content(message("assistant", &said).to_string()));
        }
    }
}

fn error(execution: &ExecutionResource, content: bool) -> Option<(String, String)> {
    let problem = execution.error().and_then(Option::as_ref);
    let named = |kind: &str| Some((kind.to_owned(), kind.to_owned()));
    match execution.phase() {
        Phase::Pending | Phase::Running | Phase::Suspended | Phase::Completed => None,
        Phase::Cancelled => named("cancelled"),
        Phase::TimedOut => named("timeout"),
        Phase::Failed => match problem {
            None => named("failed"),
            Some(problem) => {
                let kind = problem.r#type.rsplit('/').next().unwrap_or_default().to_owned();
                let words = if content { &problem.detail } else { &problem.title };
                Some((kind, words.clone()))
            }
        },
    }
}

fn times(execution: &ExecutionResource) -> (Option<Timestamp>, Option<Timestamp>) {
    match execution {
        ExecutionResource::Workflow(it) => it.status.as_ref().map(|it| (it.start_time, it.completion_time)),
        ExecutionResource::Agent(it) => it.status.as_ref().map(|it| (it.start_time, it.completion_time)),
    }
    .unwrap_or_default()
}

fn time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0))
}
