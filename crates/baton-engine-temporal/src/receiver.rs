//! Answers Temporal task tokens: callers that are activities of anybody's workflows, in any SDK.
//!
//! A caller hands the task token of its activity to Baton and leaves the activity open. Its answer is one call of Temporal's
//! WorkflowService with that token; heartbeats in between keep the activity alive and tell when the caller gives up. Works with
//! either engine: all it needs is a connection.
//!
//! # Invariants
//! - Only namespaces that the configuration names are answered, known by their id ([`crate::namespaces`]): a token is not
//!   signed, and Baton acts with its own credentials.
//! - The activities of Baton's own workflows are never answered here, whoever names them: their tokens are not handed out.
//! - Every answer has a payload: one of JSON (`json/plain`), `null` too. An absent result would wedge typed callers.
//! - No answer is sent that is larger than the namespace takes: Temporal would accept it and fail the caller with it.
//! - The details of the caller's own last heartbeat are sent again with ours, which would wipe them out otherwise.
//!
//! # Deliberately absent
//! No retries and no memory of what was delivered: that is the outbox's. No codec: see [`crate::options`].
//!
//! # Failure
//! What will never be taken is `Rejected`, what may be is `Failed`. An answer that Temporal took without telling us (its
//! connection broke, we were killed) is refused when it is sent again; the caller's history then says that it is there.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use baton_engine::{CallerState, Delivery, Receiver};
use baton_execution::{Fault, Outcome, fault_type};
use baton_types::{ApiError, ErrorKind};
use prost::Message as _;
use serde_json::{Value, json};
use temporalio_client::tonic::Code;
use temporalio_common::protos::temporal::api::{
    common::v1::{Payload, Payloads},
    failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo},
    workflowservice::v1::{
        RecordActivityTaskHeartbeatRequest, RespondActivityTaskCanceledRequest, RespondActivityTaskCompletedRequest,
        RespondActivityTaskFailedRequest,
    },
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    caller::{self, Caller, Demand, Demands, Given},
    connect::Connection,
    namespaces::{Namespace, Namespaces, Verdict},
    rpc::{Refusal, Rpc, clipped},
    token::Task,
};

/// The word for `status.callbacks[].receiver`.
const NAME: &str = "temporal";
/// Answers, and heartbeats, that are on their way at once.
const AT_ONCE: usize = 64;
/// What is left free of the largest payload: its encoding, and what a server adds.
const MARGIN_BYTES: u64 = 8 * 1024;
/// Longest message of a failure; what is longer is in its details.
const MESSAGE_CHARS_MAX: usize = 4_000;

/// Answers Temporal task tokens over one connection. Made once; shared by reference.
pub struct TemporalReceiver {
    namespaces: Namespaces,
    rpc: Rpc,
    patience: Duration,
    demands: Demands,
    answers: Semaphore,
    heartbeats: Semaphore,
}

impl std::fmt::Debug for TemporalReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TemporalReceiver").field("namespaces", &self.namespaces.names()).finish_non_exhaustive()
    }
}

impl TemporalReceiver {
    /// Answers tokens of these namespaces, by name. Begins to learn their ids in the background.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(connection: Connection, namespaces: Vec<String>) -> Self {
        Self {
            patience: connection.options().rpc_timeout,
            namespaces: Namespaces::watch(connection.clone(), namespaces),
            rpc: Rpc::new(connection),
            demands: Demands::default(),
            answers: Semaphore::new(AT_ONCE),
            heartbeats: Semaphore::new(AT_ONCE),
        }
    }

    fn forbidden(&self) -> ApiError {
        let named = self.namespaces.names();
        let allowed = match named.as_slice() {
            [] => "no namespace may be answered".to_owned(),
            [one] => format!("only '{one}' may be answered"),
            several => format!("only '{}' may be answered", several.join("', '")),
        };
        ApiError::new(
            ErrorKind::PermissionDenied,
            "CALLBACK_TOKEN_NAMESPACE_FORBIDDEN",
            format!("the Temporal task token is of a namespace that this server does not answer; {allowed}"),
        )
        .hint("name the namespace in temporal.callback-namespaces of the server's configuration")
    }

    /// Why a token of an execution's own activity is not answered.
    fn reserved() -> ApiError {
        ApiError::new(
            ErrorKind::PermissionDenied,
            "CALLBACK_TOKEN_RESERVED",
            "the Temporal task token is of an activity of an execution of Baton's own, which only its worker answers",
        )
        .hint("hand over the task token of an activity of your own workflow")
    }

    async fn decide(&self, task: &Task) -> Verdict {
        self.namespaces.decide(&task.namespace_id, self.patience).await
    }

    /// Waits for one's turn, but not behind a Temporal that does not answer.
    async fn turn<'a>(&self, turns: &'a Semaphore) -> Result<SemaphorePermit<'a>, String> {
        match timeout(self.patience, turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(format!("{AT_ONCE} calls of Temporal are under way, and none came back")),
        }
    }

    async fn answer(&self, token: &[u8], task: &Task, outcome: &Outcome) -> Result<Delivery, Delivery> {
        let namespace = match self.decide(task).await {
            Verdict::Allowed(namespace) => namespace,
            Verdict::Forbidden => return Err(Delivery::Rejected(self.forbidden().message)),
            Verdict::Undecided(why) => return Err(Delivery::Failed(why)),
        };
        let _turn = self.turn(&self.answers).await.map_err(Delivery::Failed)?;
        let to = Address { token, task, namespace: &namespace };
        match outcome {
            Outcome::Completed(output) => self.complete(&to, output).await,
            Outcome::Failed(fault) => self.fail(&to, failure(fault, namespace.payload_bytes_max)).await,
            Outcome::Cancelled { reason } => self.cancel(&to, reason).await,
        }
    }

    async fn complete(&self, to: &Address<'_>, output: &Value) -> Result<Delivery, Delivery> {
        let result = json_payload(output);
        let (bytes, max) = (result.encoded_len() as u64, to.namespace.payload_bytes_max.saturating_sub(MARGIN_BYTES));
        if bytes > max {
            let why = format!("the output has {bytes} bytes, its caller's Temporal namespace takes at most {max}");
            return Err(Delivery::Rejected(why));
        }
        let request = RespondActivityTaskCompletedRequest {
            task_token: to.token.to_vec(),
            result: Some(result.clone()),
            identity: self.rpc.identity(),
            namespace: to.namespace.name.clone(),
            ..RespondActivityTaskCompletedRequest::default()
        };
        let sent = self.rpc.complete(request).await;
        self.delivery(to, sent, &Given::Result(&result)).await
    }

    async fn fail(&self, to: &Address<'_>, failure: Failure) -> Result<Delivery, Delivery> {
        let request = RespondActivityTaskFailedRequest {
            task_token: to.token.to_vec(),
            failure: Some(failure.clone()),
            identity: self.rpc.identity(),
            namespace: to.namespace.name.clone(),
            ..RespondActivityTaskFailedRequest::default()
        };
        let sent = self.rpc.fail(request).await;
        self.delivery(to, sent, &Given::Failure(&failure)).await
    }

    async fn cancel(&self, to: &Address<'_>, reason: &str) -> Result<Delivery, Delivery> {
        let details = json_payload(&json!({ "reason": reason }));
        let request = RespondActivityTaskCanceledRequest {
            task_token: to.token.to_vec(),
            details: Some(details.clone()),
            identity: self.rpc.identity(),
            namespace: to.namespace.name.clone(),
            ..RespondActivityTaskCanceledRequest::default()
        };
        let fault = Fault::new(fault_type::CANCELLED, 499, reason).non_retryable();
        let failure = failure(&fault, to.namespace.payload_bytes_max);
        match self.rpc.cancelled(request).await {
            // Temporal takes this only from one that the caller has asked to end; ours was ended by somebody else.
            Err(refusal) if refusal.code == Code::InvalidArgument => self.fail(to, failure).await,
            sent => self.delivery(to, sent, &Given::Cancelled(&details, &failure)).await,
        }
    }

    async fn delivery(
        &self,
        to: &Address<'_>,
        sent: Result<(), Refusal>,
        given: &Given<'_>,
    ) -> Result<Delivery, Delivery> {
        let refusal = match sent {
            Ok(()) => return Ok(Delivery::Accepted),
            Err(refusal) => refusal,
        };
        match refusal.code {
            Code::NotFound => match caller::has(&self.rpc, &to.namespace.name, to.task, given).await {
                Ok(true) => Ok(Delivery::Accepted),
                Ok(false) => Err(Delivery::Rejected(format!("nobody waits there any more: {}", refusal.message))),
                Err(passing) => Err(Delivery::Failed(format!("ask Temporal whether the answer is there: {passing}"))),
            },
            Code::InvalidArgument => Err(Delivery::Rejected(format!("Temporal refuses it: {}", refusal.message))),
            Code::PermissionDenied => Err(Delivery::Rejected(format!(
                "Temporal does not let this server answer in namespace '{}': {}",
                to.namespace.name, refusal.message
            ))),
            _ => Err(Delivery::Failed(refusal.to_string())),
        }
    }

    async fn ask(&self, namespace: &Namespace, task: &Task) -> Result<Caller, CallerState> {
        let asked = caller::ask(&self.rpc, &namespace.name, task).await;
        asked.map_err(|refusal| CallerState::Unreachable(refusal.to_string()))
    }

    /// What the caller demands, from memory or by asking; or what has become of it, if it does not wait.
    async fn demand(&self, namespace: &Namespace, task: &Task) -> Result<Demand, CallerState> {
        if let Some(demand) = self.demands.get(task) {
            return Ok(demand);
        }
        let demand = match self.ask(namespace, task).await? {
            Caller::Open { other_attempt: Some(other), last_failure, .. } if other > task.attempt => {
                return Err(retries(task, other, last_failure));
            }
            Caller::Open { demand, .. } | Caller::Untold(demand) => demand,
            Caller::Over(why) => return Err(CallerState::Gone(why)),
        };
        self.demands.put(task.clone(), demand.clone());
        Ok(demand)
    }

    async fn beat(&self, token: &[u8], task: &Task) -> Result<CallerState, CallerState> {
        let namespace = match self.decide(task).await {
            Verdict::Allowed(namespace) => namespace,
            Verdict::Forbidden => return Err(CallerState::Gone(self.forbidden().message)),
            Verdict::Undecided(why) => return Err(CallerState::Unreachable(why)),
        };
        let _turn = self.turn(&self.heartbeats).await.map_err(CallerState::Unreachable)?;
        let demand = self.demand(&namespace, task).await?;
        let request = RecordActivityTaskHeartbeatRequest {
            task_token: token.to_vec(),
            details: demand.details,
            identity: self.rpc.identity(),
            namespace: namespace.name.clone(),
            ..RecordActivityTaskHeartbeatRequest::default()
        };
        match self.rpc.heartbeat(request).await {
            Ok(answer) if answer.cancel_requested => Ok(CallerState::CancelRequested { again_after: demand.interval }),
            // One that is paused, or whose attempts are counted anew, still takes the answer of this attempt.
            Ok(_) => Ok(CallerState::Waits { again_after: demand.interval }),
            Err(refusal) if refusal.code == Code::NotFound => self.lost(&namespace, task, &refusal).await,
            Err(refusal) if matches!(refusal.code, Code::InvalidArgument | Code::PermissionDenied) => {
                Err(CallerState::Gone(format!("Temporal refuses the token: {}", refusal.message)))
            }
            Err(refusal) => Err(CallerState::Unreachable(refusal.to_string())),
        }
    }

    /// The token is not good any more: is another attempt of the caller to come?
    async fn lost(&self, namespace: &Namespace, task: &Task, refusal: &Refusal) -> Result<CallerState, CallerState> {
        self.demands.forget(task);
        match self.ask(namespace, task).await? {
            Caller::Open { other_attempt, last_failure, .. } => {
                Ok(retries(task, other_attempt.unwrap_or(task.attempt), last_failure))
            }
            Caller::Over(why) => Ok(CallerState::Gone(why)),
            Caller::Untold(_) => Ok(CallerState::Gone(clipped(&refusal.message))),
        }
    }
}

fn retries(task: &Task, other: i32, last_failure: Option<String>) -> CallerState {
    let because = last_failure.map(|why| format!(" after: {why}")).unwrap_or_default();
    CallerState::Retries(format!(
        "attempt {} of the caller's activity is over, attempt {other} is there or to come{because}",
        task.attempt
    ))
}

/// Whom an answer is for.
struct Address<'a> {
    token: &'a [u8],
    task: &'a Task,
    namespace: &'a Namespace,
}

#[async_trait]
impl Receiver for TemporalReceiver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn accepts(&self, token: &[u8]) -> Option<Result<(), ApiError>> {
        let task = Task::parse(token)?;
        if task.is_of_execution() {
            return Some(Err(Self::reserved()));
        }
        Some(match self.namespaces.verdict(&task.namespace_id) {
            Verdict::Forbidden => Err(self.forbidden()),
            Verdict::Allowed(_) | Verdict::Undecided(_) => Ok(()),
        })
    }

    async fn deliver(&self, token: &[u8], outcome: &Outcome) -> Delivery {
        let Some(task) = Task::parse(token) else {
            return Delivery::Rejected("it is no Temporal task token".to_owned());
        };
        if task.is_of_execution() {
            return Delivery::Rejected(Self::reserved().message);
        }
        let delivery = self.answer(token, &task, outcome).await.unwrap_or_else(|delivery| delivery);
        if !matches!(delivery, Delivery::Failed(_)) {
            self.demands.forget(&task);
        }
        delivery
    }

    async fn heartbeat(&self, token: &[u8]) -> CallerState {
        match Task::parse(token) {
            Some(task) if task.is_of_execution() => CallerState::Gone(Self::reserved().message),
            Some(task) => self.beat(token, &task).await.unwrap_or_else(|state| state),
            None => CallerState::Gone("it is no Temporal task token".to_owned()),
        }
    }
}

/// JSON as every SDK reads it.
fn json_payload(value: &Value) -> Payloads {
    let payload = Payload {
        metadata: HashMap::from([("encoding".to_owned(), b"json/plain".to_vec())]),
        data: value.to_string().into_bytes(),
        ..Payload::default()
    };
    Payloads { payloads: vec![payload] }
}

/// A fault as an application failure: its type, its words, and the whole of it as details, as far as that fits.
fn failure(fault: &Fault, payload_bytes_max: u64) -> Failure {
    let max = payload_bytes_max.saturating_sub(MARGIN_BYTES);
    let whole = failure_of(fault);
    if whole.encoded_len() as u64 <= max {
        return whole;
    }
    let mut fault = fault.clone();
    fault.data = None;
    fault.detail = fault.detail.map(|detail| short(&detail));
    fault.instance = fault.instance.map(|instance| short(&instance));
    failure_of(&fault)
}

fn failure_of(fault: &Fault) -> Failure {
    let details = serde_json::to_value(fault).unwrap_or_else(|_| json!({ "type": fault.kind }));
    Failure {
        message: short(&fault.to_string()),
        source: "Baton".to_owned(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
            r#type: fault.kind.clone(),
            non_retryable: fault.non_retryable,
            details: Some(json_payload(&details)),
            ..ApplicationFailureInfo::default()
        })),
        ..Failure::default()
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_becomes_an_application_failure() {
        let fault = Fault::new(fault_type::TIMEOUT, 408, "ran longer than 5s").non_retryable().at("/do/0/ask");
        let failure = failure(&fault, 2 << 20);
        assert_eq!(failure.message, "timeout: ran longer than 5s");
        let Some(FailureInfo::ApplicationFailureInfo(info)) = failure.failure_info else { panic!("of another kind") };
        assert_eq!((info.r#type.as_str(), info.non_retryable), (fault_type::TIMEOUT, true));
        let payload = info.details.unwrap().payloads.remove(0);
        assert_eq!(payload.metadata["encoding"], b"json/plain");
        assert_eq!(serde_json::from_slice::<Fault>(&payload.data).unwrap(), fault);
    }

    #[test]
    fn a_fault_that_is_too_large_leaves_its_data_behind() {
        let detail = "x".repeat(3 << 20);
        let fault = Fault::new(fault_type::RUNTIME, 500, detail).with_data(json!("y".repeat(3 << 20)));
        let failure = failure(&fault, 2 << 20);
        assert!(failure.encoded_len() < 64 * 1024, "{}", failure.encoded_len());
        assert!(failure.message.starts_with("runtime: xxx") && failure.message.ends_with('…'));
    }

    #[test]
    fn nothing_is_a_payload_too() {
        let payload = json_payload(&Value::Null).payloads.remove(0);
        assert_eq!(payload.data, b"null");
    }
}
