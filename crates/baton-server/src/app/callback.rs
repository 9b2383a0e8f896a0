//! Return addresses: those of an execution, those for callers outside, and answers by token.

use std::time::Duration;

use baton_engine::{CALLBACK_TOKEN_BYTES_MAX, PAYLOAD_BYTES_MAX};
use baton_execution::{Outcome, fault_type};
use baton_proto::{ExecutionResource, Timestamp, v1};
use baton_types::{ApiError, ErrorKind, Violation, check_namespace, parse_duration};
use serde_json::Value;

use super::{App, ExecutionKind, free_data, or_default};
use crate::metrics;

/// How long the token of an outside caller is accepted if the request does not say.
const EXPIRES_DEFAULT: Duration = Duration::from_hours(7 * 24);
/// The longest that it is accepted: it takes room until then.
const EXPIRES_MAX: Duration = Duration::from_hours(366 * 24);
/// The longest that one request waits for an answer; a caller that waits longer asks again.
const AWAIT_MAX: Duration = Duration::from_mins(1);
/// Longest reason of a cancelled callback, in bytes.
const REASON_BYTES_MAX: usize = 4096;

impl App {
    /// The return addresses of an execution, by fingerprint, and what became of the answers.
    ///
    /// # Errors
    /// NotFound.
    pub async fn callbacks<R: ExecutionKind>(
        &self,
        request: &v1::ListCallbacksRequest,
    ) -> Result<v1::CallbackList, ApiError> {
        let execution = self.get::<R>(&request.namespace, &request.name).await?;
        Ok(list_of(&execution.into_execution()))
    }

    /// Adds a return address to an execution; one that has ended answers at once.
    ///
    /// # Errors
    /// NotFound; InvalidArgument for a token that no engine can answer.
    pub async fn attach_callback<R: ExecutionKind>(
        &self,
        request: &v1::AttachCallbackRequest,
    ) -> Result<v1::CallbackList, ApiError> {
        check_token(&request.callback_token)?;
        let engine = self.engine()?;
        engine
            .check_token(&request.callback_token)
            .inspect_err(|refused| metrics::callback_token_refused(refused.reason))?;
        let uid = self.uid_of::<R>(&request.namespace, &request.name).await?;
        Ok(list_of(&engine.attach(uid, request.callback_token.clone()).await?))
    }

    /// Tries undelivered answers again now.
    ///
    /// # Errors
    /// NotFound, also for a fingerprint that the execution does not have.
    pub async fn retry_callback<R: ExecutionKind>(
        &self,
        request: &v1::RetryCallbackRequest,
    ) -> Result<v1::CallbackList, ApiError> {
        let uid = self.uid_of::<R>(&request.namespace, &request.name).await?;
        let one = (!request.fingerprint.is_empty()).then(|| request.fingerprint.clone());
        Ok(list_of(&self.engine()?.retry_callbacks(uid, one).await?))
    }

    /// Makes a return address for a caller outside.
    ///
    /// # Errors
    /// InvalidArgument for a namespace or a duration that is none.
    pub async fn create_callback(
        &self,
        request: &v1::CreateCallbackRequest,
    ) -> Result<v1::CreateCallbackResponse, ApiError> {
        let mut violations = Vec::new();
        let namespace = or_default(&request.namespace);
        if let Err(message) = check_namespace(namespace) {
            violations.push(Violation::new("namespace", message));
        }
        let expires_after =
            check_duration("expiresAfter", &request.expires_after, EXPIRES_DEFAULT, EXPIRES_MAX, &mut violations);
        if expires_after.is_zero() {
            violations.push(Violation::new("expiresAfter", "must be more than 0"));
        }
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        let mailbox = self.engine()?.create_mailbox(namespace, expires_after).await?;
        let expires = Some(Timestamp::from_millis(mailbox.expires_ms));
        Ok(v1::CreateCallbackResponse { callback_token: mailbox.token, fingerprint: mailbox.fingerprint, expires })
    }

    /// Waits for the answer to such a return address, at most as long as asked.
    ///
    /// # Errors
    /// InvalidArgument for a token that is none of those; FailedPrecondition for one that has expired.
    pub async fn await_callback(
        &self,
        request: &v1::AwaitCallbackRequest,
    ) -> Result<v1::AwaitCallbackResponse, ApiError> {
        check_token(&request.callback_token)?;
        let mut violations = Vec::new();
        let timeout = check_duration("timeout", &request.timeout, Duration::ZERO, AWAIT_MAX, &mut violations);
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        let outcome = self.engine()?.await_mailbox(&request.callback_token, timeout).await?;
        let state =
            |state: &str| v1::AwaitCallbackResponse { state: state.to_owned(), ..v1::AwaitCallbackResponse::default() };
        Ok(match outcome {
            None => state("Waiting"),
            Some(Outcome::Completed(output)) => {
                v1::AwaitCallbackResponse { output: Some(v1::Json::from_value(&output)), ..state("Completed") }
            }
            Some(Outcome::Failed(fault)) => {
                v1::AwaitCallbackResponse { error: Some(v1::Problem::from_fault(&fault)), ..state("Failed") }
            }
            Some(Outcome::Cancelled { reason }) => {
                let error = v1::Problem {
                    r#type: fault_type::CANCELLED.to_owned(),
                    title: "cancelled".to_owned(),
                    status: 499,
                    detail: reason,
                    ..v1::Problem::default()
                };
                v1::AwaitCallbackResponse { error: Some(error), ..state("Cancelled") }
            }
        })
    }

    /// Answers a wait: it went well.
    ///
    /// # Errors
    /// InvalidArgument for a token that this server did not make or an output that is not JSON or is nested too deep;
    /// FailedPrecondition for one that was answered, has expired or is of an earlier attempt; TooLarge.
    pub async fn complete_callback(
        &self,
        request: &v1::CompleteCallbackRequest,
    ) -> Result<v1::AnswerResponse, ApiError> {
        check_token(&request.callback_token)?;
        let mut violations = Vec::new();
        let output = request
            .output
            .clone()
            .map_or(Value::Null, |mut output| free_data::read_data(&mut output, "output", &mut violations));
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        check_payload("output", &output)?;
        self.answer(&request.callback_token, Outcome::Completed(output)).await
    }

    /// Answers a wait: it failed.
    ///
    /// # Errors
    /// As for [`App::complete_callback`].
    pub async fn fail_callback(&self, request: &v1::FailCallbackRequest) -> Result<v1::AnswerResponse, ApiError> {
        check_token(&request.callback_token)?;
        let mut problem = request.error.clone().unwrap_or_default();
        let mut violations = Vec::new();
        let data = problem.data.as_mut().map(|data| free_data::read_data(data, "error.data", &mut violations));
        if !matches!(problem.status, 0 | 100..=599) {
            violations
                .push(Violation::new("error.status", format!("is {}, allowed are 0 and 100 to 599", problem.status)));
        }
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        check_payload("error.data", &data.unwrap_or_default())?;
        self.answer(&request.callback_token, Outcome::Failed(problem.to_fault(fault_type::RUNTIME))).await
    }

    /// Answers a wait: it was cancelled.
    ///
    /// # Errors
    /// As for [`App::complete_callback`].
    pub async fn cancel_callback(&self, request: &v1::CancelCallbackRequest) -> Result<v1::AnswerResponse, ApiError> {
        check_token(&request.callback_token)?;
        if request.reason.len() > REASON_BYTES_MAX {
            let message = format!("has {} bytes, allowed are up to {REASON_BYTES_MAX}", request.reason.len());
            return Err(ApiError::violations(vec![Violation::new("reason", message)]));
        }
        self.answer(&request.callback_token, Outcome::Cancelled { reason: request.reason.clone() }).await
    }

    /// Says that a wait is still being worked on, and hears whether whoever waits has been asked to end.
    ///
    /// # Errors
    /// As for [`App::complete_callback`].
    pub async fn heartbeat_callback(
        &self,
        request: &v1::HeartbeatCallbackRequest,
    ) -> Result<v1::HeartbeatCallbackResponse, ApiError> {
        check_token(&request.callback_token)?;
        let heartbeat = self.engine()?.heartbeat(&request.callback_token).await?;
        Ok(v1::HeartbeatCallbackResponse {
            fingerprint: heartbeat.fingerprint,
            cancel_requested: heartbeat.cancel_requested,
        })
    }

    async fn answer(&self, token: &[u8], outcome: Outcome) -> Result<v1::AnswerResponse, ApiError> {
        let kind = match &outcome {
            Outcome::Completed(_) => "completed",
            Outcome::Failed(_) => "failed",
            Outcome::Cancelled { .. } => "cancelled",
        };
        let engine = self.engine()?;
        let outcome = match engine.waits_for(token) {
            Some(execution) => self.without_secrets(execution, outcome).await?,
            None => outcome,
        };
        let answered = engine.answer(token, outcome).await;
        metrics::callback_answered(kind, answered.as_ref().err().map(|refused| refused.reason));
        let fingerprint = answered?;
        Ok(v1::AnswerResponse { fingerprint })
    }
}

fn list_of(execution: &ExecutionResource) -> v1::CallbackList {
    v1::CallbackList { items: execution.callbacks().cloned().unwrap_or_default() }
}

fn check_token(token: &[u8]) -> Result<(), ApiError> {
    let message = match token.len() {
        0 => "must be set".to_owned(),
        bytes if bytes > CALLBACK_TOKEN_BYTES_MAX => {
            format!("has {bytes} bytes, allowed are 1 to {CALLBACK_TOKEN_BYTES_MAX}")
        }
        _ => return Ok(()),
    };
    Err(ApiError::violations(vec![Violation::new("callbackToken", message)]))
}

/// The engine's own limit and words, for what it does not look at too. Counted as it is kept: without spaces.
fn check_payload(field: &str, value: &Value) -> Result<(), ApiError> {
    let bytes = value.to_string().len();
    if bytes <= PAYLOAD_BYTES_MAX {
        return Ok(());
    }
    let message = format!("{field} has {bytes} bytes, allowed are at most {PAYLOAD_BYTES_MAX}");
    Err(ApiError::new(ErrorKind::TooLarge, "CALLBACK_PAYLOAD_TOO_LARGE", message)
        .hint("store the data elsewhere and answer with a reference to it"))
}

fn check_duration(
    field: &str,
    text: &str,
    default: Duration,
    max: Duration,
    violations: &mut Vec<Violation>,
) -> Duration {
    if text.is_empty() {
        return default;
    }
    match parse_duration(text) {
        Ok(duration) if duration <= max => return duration,
        Ok(_) => violations.push(Violation::new(
            field,
            format!("is '{text}', allowed are up to '{}'", baton_types::format_duration(max)),
        )),
        Err(message) => violations.push(Violation::new(field, message)),
    }
    default
}
