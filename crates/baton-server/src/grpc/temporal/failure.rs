//! Temporal's failures as faults.
//!
//! | Failure | Becomes |
//! |---|---|
//! | application | a fault of its type, word for word (`ValueError` stays `ValueError`), with its details as data |
//! | timeout | a timeout fault |
//! | canceled | cancelled, with the details or else the message as the reason |
//! | server, and any other | a runtime fault |
//!
//! A failure of an activity, a child workflow or a Nexus operation says no more than what it has as its cause, so that the
//! cause decides. The words of all of them, from the outside to the inside, are the detail.

use baton_execution::{Fault, fault_type};
use baton_proto::{
    temporal::failure::v1::{Failure, failure::FailureInfo},
    v1,
};
use baton_types::{ApiError, Violation};
use serde_json::Value;

use super::payload;

/// Status of a fault that has none of its own.
const STATUS: u16 = 500;
const STATUS_TIMEOUT: u16 = 408;

/// How work ended that did not go well.
#[derive(Debug)]
pub(super) enum Ending {
    /// It failed.
    Failed(v1::Problem),
    /// It was cancelled.
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// What a failure says.
///
/// # Errors
/// InvalidArgument for details and encoded attributes that are not JSON: they would be lost.
pub(super) fn ending_of(failure: Failure) -> Result<Ending, ApiError> {
    let mut violations = Vec::new();
    let mut words = Words::default();
    let mut path = "failure".to_owned();
    let mut said = None;
    let mut next = Some(failure);
    while let Some(mut failure) = next {
        words.add(message_of(&mut failure, &path, &mut violations));
        if said.is_none() {
            said = failure.failure_info.take().map(|info| (info, path.clone()));
        }
        next = failure.cause.map(|cause| *cause);
        path.push_str(".cause");
    }
    let ending = match said {
        Some((info, path)) => ending(info, words.0, &path, &mut violations),
        None => failed(&Fault::new(fault_type::RUNTIME, STATUS, words.0)),
    };
    if violations.is_empty() { Ok(ending) } else { Err(ApiError::violations(violations)) }
}

fn ending(info: FailureInfo, words: String, path: &str, violations: &mut Vec<Violation>) -> Ending {
    match info {
        FailureInfo::ApplicationFailureInfo(info) => {
            let kind = if info.r#type.is_empty() { fault_type::RUNTIME } else { &info.r#type };
            let mut fault = Fault::new(kind, STATUS, words);
            fault.non_retryable = info.non_retryable;
            let details = payload::read(info.details, &format!("{path}.application_failure_info.details"), violations);
            fault.data = (!details.is_null()).then_some(details);
            failed(&fault)
        }
        FailureInfo::TimeoutFailureInfo(_) => failed(&Fault::new(fault_type::TIMEOUT, STATUS_TIMEOUT, words)),
        FailureInfo::CanceledFailureInfo(info) => {
            let details = payload::read(info.details, &format!("{path}.canceled_failure_info.details"), violations);
            let reason = payload::text_of(&details);
            Ending::Cancelled { reason: if reason.is_empty() { words } else { reason } }
        }
        FailureInfo::ServerFailureInfo(info) => {
            let mut fault = Fault::new(fault_type::RUNTIME, STATUS, words);
            fault.non_retryable = info.non_retryable;
            failed(&fault)
        }
    }
}

fn failed(fault: &Fault) -> Ending {
    Ending::Failed(v1::Problem::from_fault(fault))
}

/// The message, from where an SDK may have put it out of sight.
fn message_of(failure: &mut Failure, path: &str, violations: &mut Vec<Violation>) -> String {
    let encoded = failure
        .encoded_attributes
        .take()
        .map(|encoded| payload::read_one(encoded, &format!("{path}.encoded_attributes"), violations));
    match encoded.as_ref().and_then(|it| it.get("message")).and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => std::mem::take(&mut failure.message),
    }
}

/// Messages joined by `: `, without those that an outer one repeats.
#[derive(Default)]
struct Words(String);

impl Words {
    fn add(&mut self, message: String) {
        if self.0.is_empty() {
            self.0 = message;
        } else if !self.0.contains(&message) {
            self.0.push_str(": ");
            self.0.push_str(&message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use baton_proto::temporal::{
        common::v1::{Payload, Payloads},
        failure::v1::{ApplicationFailureInfo, CanceledFailureInfo, ServerFailureInfo, TimeoutFailureInfo},
    };
    use serde_json::json;

    use super::*;

    fn payload(encoding: &str, data: &str) -> Payload {
        let metadata = BTreeMap::from([("encoding".to_owned(), encoding.as_bytes().to_vec())]);
        Payload { metadata, data: data.as_bytes().to_vec() }
    }

    fn details(all: &[&str]) -> Payloads {
        Payloads { payloads: all.iter().map(|text| payload("json/plain", text)).collect() }
    }

    fn failure(message: &str, info: impl Into<Option<FailureInfo>>) -> Failure {
        Failure { message: message.to_owned(), failure_info: info.into(), ..Failure::default() }
    }

    fn application(kind: &str, details: impl Into<Option<Payloads>>) -> FailureInfo {
        FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
            r#type: kind.to_owned(),
            non_retryable: true,
            details: details.into(),
        })
    }

    fn cancelled(details: impl Into<Option<Payloads>>) -> FailureInfo {
        FailureInfo::CanceledFailureInfo(CanceledFailureInfo { details: details.into() })
    }

    fn around(message: &str, cause: Failure) -> Failure {
        Failure { cause: Some(Box::new(cause)), ..failure(message, None) }
    }

    /// The fault as JSON, or the reason as text.
    fn read(failure: Failure) -> Value {
        match ending_of(failure).unwrap() {
            Ending::Failed(problem) => json!(problem.to_fault(fault_type::RUNTIME)),
            Ending::Cancelled { reason } => json!(reason),
        }
    }

    #[test]
    fn an_application_failure_keeps_what_it_says() {
        assert_eq!(
            read(failure("desk closed", application("ValueError", details(&["{\"desk\":7}"])))),
            json!({"type": "ValueError", "status": 500, "title": "ValueError", "detail": "desk closed",
                   "nonRetryable": true, "data": {"desk": 7}})
        );
        let uri = "https://example.com/errors/desk-closed";
        assert_eq!(
            read(failure("", application(uri, details(&["1", "2"])))),
            json!({"type": uri, "status": 500, "title": "desk closed", "nonRetryable": true, "data": [1, 2]})
        );
        assert_eq!(
            read(failure("lost", application("", None))),
            json!({"type": fault_type::RUNTIME, "status": 500, "title": "runtime", "detail": "lost", "nonRetryable": true})
        );
    }

    #[test]
    fn the_other_failures_have_their_types() {
        let timeout = FailureInfo::TimeoutFailureInfo(TimeoutFailureInfo {});
        let server = FailureInfo::ServerFailureInfo(ServerFailureInfo { non_retryable: true });
        for (info, kind, status, non_retryable) in [
            (Some(timeout), fault_type::TIMEOUT, 408, false),
            (Some(server), fault_type::RUNTIME, 500, true),
            (None, fault_type::RUNTIME, 500, false),
        ] {
            let Ok(Ending::Failed(problem)) = ending_of(failure("late", info)) else { panic!("{kind}") };
            let fault = problem.to_fault("none");
            assert_eq!((fault.kind.as_str(), fault.status, fault.non_retryable), (kind, status, non_retryable));
            assert_eq!(fault.detail.as_deref(), Some("late"));
        }
    }

    #[test]
    fn a_cancellation_is_no_failure() {
        assert_eq!(read(failure("Cancelled", cancelled(details(&["\"no need\""])))), json!("no need"));
        assert_eq!(read(failure("Cancelled", cancelled(None))), json!("Cancelled"));
        assert_eq!(read(around("activity failed", failure("stop", cancelled(None)))), json!("activity failed: stop"));
    }

    #[test]
    fn the_cause_decides_for_what_wraps_it() {
        let inner = around("child failed", failure("no paper", application("Printer", None)));
        let fault = read(around("activity failed", inner));
        assert_eq!(
            (&fault["type"], &fault["detail"]),
            (&json!("Printer"), &json!("activity failed: child failed: no paper"))
        );
        let repeated = Failure {
            cause: Some(Box::new(failure("no paper", application("Printer", None)))),
            ..failure("cannot print: no paper", application("Desk", None))
        };
        let fault = read(repeated);
        assert_eq!((&fault["type"], &fault["detail"]), (&json!("Desk"), &json!("cannot print: no paper")));
    }

    #[test]
    fn encoded_attributes_are_read_if_they_can_be() {
        let encoded = |payload| Failure {
            encoded_attributes: Some(payload),
            ..failure("Encoded failure", application("ValueError", None))
        };
        let plain = payload("json/plain", "{\"message\": \"desk closed\", \"stack_trace\": \"\"}");
        assert_eq!(read(encoded(plain))["detail"], "desk closed");
        let error = ending_of(encoded(payload("binary/encrypted", "x"))).unwrap_err();
        assert!(error.message.contains("failure.encoded_attributes: has the encoding 'binary/encrypted'"), "{error}");
    }

    #[test]
    fn details_that_cannot_be_read_are_named() {
        let inside = application("A", Payloads { payloads: vec![payload("binary/plain", "x")] });
        let error = ending_of(around("activity failed", failure("", inside))).unwrap_err();
        assert_eq!(error.violations[0].field, "failure.cause.application_failure_info.details.payloads[0]");
    }
}
