//! What a durable step sets going: activities and children.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use baton_execution::{
    Activities, ActivityTask, Emitter, Fault, OperationId, Origin, fault_type, replace_callback_tokens,
};
use baton_proto::{ExecutionResource, v1::ExecutionReference};
use baton_types::{ApiError, Uid};
use futures::FutureExt as _;
use serde_json::{Map, Value};

use crate::{
    api::ParentRef,
    entry::Entry,
    execution::StepEffect,
    hide::Hidden,
    host::HostedTask,
    message::{Message, MessageKind},
    sealer::Claims,
    worker::Shared,
};

/// First and longest pause before a child is tried again that could not be created for a passing reason.
const CHILD_RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

pub(crate) fn carry_out(shared: &Arc<Shared>, entry: &mut Entry, effect: StepEffect) {
    match effect {
        StepEffect::StartActivity(id) => start_activity(shared, entry, id),
        StepEffect::AbortActivity(id) => {
            if let Some(running) = entry.running.remove(&id) {
                running.abort();
            }
        }
        StepEffect::StartChild(id) => start_child(shared, entry, id),
    }
}

/// The token of a wait: the same whenever it is asked for.
pub(crate) fn wait_token(
    shared: &Shared,
    namespace: &str,
    number: i64,
    uid: Uid,
    id: &OperationId,
    expires_ms: i64,
) -> String {
    shared.sealer.mint(&Claims {
        namespace: namespace.to_owned(),
        uid: uid.as_bytes().to_vec(),
        number,
        position: id.position.clone(),
        attempt: id.attempt,
        expires_ms,
    })
}

/// The activity that is open under an id, with its input whole and the callback token in its place.
pub(crate) fn task_of(shared: &Shared, entry: &Entry, id: &OperationId) -> Option<HostedTask> {
    let execution = entry.execution.as_ref()?;
    let activity = execution.open.activities.get(id)?;
    let mut input = execution.program().activity_input(id).unwrap_or_else(|| activity.input.clone());
    let metadata = entry.resource.metadata();
    let token = execution
        .open
        .waits
        .get(id)
        .map(|wait| wait_token(shared, &metadata.namespace, entry.number, entry.uid, id, wait.expires_ms));
    if let Some(token) = &token {
        replace_callback_tokens(&mut input, id, || token.clone());
    }
    let task = ActivityTask {
        execution: entry.uid,
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        idempotency_key: format!("{}/{}/{}", entry.uid, id.position, id.attempt),
        id: id.clone(),
        activity: activity.activity.clone(),
        input,
        start_to_close_ms: activity.start_to_close_ms,
        // Who was handed a token may repeat it, and what is emitted is not looked through for it.
        emitter: match token {
            None => shared.transients.emitter(entry.number, id.clone()),
            Some(_) => Emitter::default(),
        },
        origin: origin_of(entry, execution.program().labels(id)),
    };
    Some(HostedTask { task, token })
}

fn origin_of(entry: &Entry, labels: Map<String, Value>) -> Origin {
    let resource = &entry.resource;
    Origin {
        kind: Some(resource.program_kind()),
        root: resource.root().and_then(Option::as_ref).and_then(|root| root.uid.parse().ok()),
        template: resource.template().and_then(Option::as_ref).map(|it| it.name.clone()).unwrap_or_default(),
        session: match resource {
            ExecutionResource::Agent(agent) => agent.spec.as_ref().map(|it| it.session.clone()).unwrap_or_default(),
            ExecutionResource::Workflow(_) => String::new(),
        },
        labels,
    }
}

fn start_activity(shared: &Arc<Shared>, entry: &mut Entry, id: OperationId) {
    let Some(task) = task_of(shared, entry, &id) else { return };
    let (activities, route, number) = (Arc::clone(&shared.activities), Arc::clone(&shared.route), entry.number);
    let done = id.clone();
    let work = Box::pin(async move {
        let result = perform(activities.as_ref(), task).await;
        Message { number, kind: MessageKind::ActivityDone { id: done, result } }
    });
    match begin(work) {
        Begun::Done(message) => entry.queue.push_back(*message),
        Begun::Pending(work) => {
            let running = shared.runtime.spawn(async move { route.send(work.await) });
            entry.running.insert(id, running.abort_handle());
        }
    }
}

/// Runs an activity within its limit of time. A panic of it is a fault, and the token that it handed out is taken out of
/// what comes back, as that goes to history.
///
/// # Errors
/// The fault that the Program is to see, with its position.
pub async fn perform(activities: &dyn Activities, task: HostedTask) -> Result<Value, Fault> {
    let HostedTask { task, token } = task;
    let limit = Duration::from_millis(task.start_to_close_ms);
    let (position, name) = (task.id.position.clone(), task.activity.clone());
    let work = AssertUnwindSafe(activities.run(task)).catch_unwind();
    let result = match tokio::time::timeout(limit, work).await {
        Ok(Ok(result)) => result,
        Ok(Err(_panic)) => Err(Fault::new(
            fault_type::RUNTIME,
            500,
            format!("activity '{name}' met a problem of its own; the server's log has the detail"),
        )),
        Err(_elapsed) => Err(Fault::new(
            fault_type::TIMEOUT,
            408,
            format!("activity '{name}' did not end within {} ms", limit.as_millis()),
        )),
    };
    without_token(result, token.as_deref()).map_err(|fault| fault.at(&position))
}

/// The fault of an activity that must not be repeated and whose result was lost: whether it took effect is not known.
pub fn in_doubt(id: &OperationId) -> Fault {
    let detail = "the server stopped while this call was under way; whether it took effect is not known, and it must not be repeated";
    Fault::new(fault_type::IN_DOUBT, 500, detail).at(&id.position).non_retryable()
}

enum Begun<F> {
    Done(Box<Message>),
    Pending(F),
}

/// Begins some work on the worker's own thread. What ends at once spares two changes of thread; what does not goes on in
/// the runtime, which polls it again before it waits.
fn begin<F: Future<Output = Message> + Unpin>(mut work: F) -> Begun<F> {
    match Pin::new(&mut work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(message) => Begun::Done(Box::new(message)),
        Poll::Pending => Begun::Pending(work),
    }
}

/// What comes back goes to history: a token that the other side repeats is not to be seen there.
fn without_token(mut result: Result<Value, Fault>, token: Option<&str>) -> Result<Value, Fault> {
    if let Some(hidden) = token.and_then(|token| Hidden::new(token.as_bytes())) {
        match &mut result {
            Ok(output) => hidden.value(output),
            Err(fault) => hidden.fault(fault),
        }
    }
    result
}

fn start_child(shared: &Arc<Shared>, entry: &mut Entry, id: OperationId) {
    let Some(execution) = &entry.execution else { return };
    let Some(start) = execution.open.children.get(&id).cloned() else { return };
    let metadata = entry.resource.metadata();
    let token = execution.open.waits.get(&id).map(|wait| {
        wait_token(shared, &metadata.namespace, entry.number, entry.uid, &id, wait.expires_ms).into_bytes()
    });
    let own = || ExecutionReference {
        kind: entry.resource.kind().to_owned(),
        name: metadata.name.clone(),
        uid: entry.uid.to_string(),
        position: String::new(),
    };
    let parent = ParentRef {
        kind: entry.resource.program_kind(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: entry.uid,
        root: entry.resource.root().and_then(Option::as_ref).cloned().unwrap_or_else(own),
        operation: id.to_string(),
        depth: entry.extra.depth + 1,
        grant: start.grant.clone(),
    };
    let name = child_name(&metadata.name, entry.uid, &id);
    let (children, route, number) = (Arc::clone(&shared.children), Arc::clone(&shared.route), entry.number);
    let work = Box::pin(async move {
        let mut pause = CHILD_RETRY.0;
        loop {
            let created = children.create_child(parent.clone(), start.clone(), name.clone(), token.clone());
            let created = AssertUnwindSafe(created).catch_unwind().await;
            match created.unwrap_or_else(|_panic| Err(ApiError::internal("the admission of a child panicked"))) {
                Ok(result) => return Message { number, kind: MessageKind::ChildDone { id, result } },
                Err(error) => {
                    tracing::warn!(execution_id = %parent.uid, position = id.position, %error, "a child cannot be created now; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(CHILD_RETRY.1);
                }
            }
        }
    });
    match begin(work) {
        Begun::Done(message) => entry.queue.push_back(*message),
        Begun::Pending(work) => drop(shared.runtime.spawn(async move { route.send(work.await) })),
    }
}

/// The name of a child: the same on every repeat, readable, and never too long.
pub(crate) fn child_name(parent: &str, uid: Uid, id: &OperationId) -> String {
    const PARENT_MAX: usize = 180;
    const TASK_MAX: usize = 40;
    let digest = baton_types::fingerprint(format!("{uid}/{id}").as_bytes());
    let task: String = id
        .position
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
        .take(TASK_MAX)
        .collect();
    let parent: String = parent.chars().take(PARENT_MAX).collect();
    let task = task.trim_matches('-');
    let middle = if task.is_empty() { String::new() } else { format!("{task}-") };
    format!("{}-{middle}{}", parent.trim_end_matches(['-', '.']), digest)
}
