//! What the status of a call means for a workflow.
//!
//! `data` of the fault is `{"code": "NOT_FOUND", "details": […]}`; details are those of `google.rpc` and of the
//! service's own proto files, as JSON with `@type`, and `{"@type", "value"}` with Base64 for others.

use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_execution::{Fault, fault_type};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{grpc::message::to_json, redact::Secrets};

/// Details that are shown, and bytes of their text: a status is a header, which servers keep to some kilobytes.
const DETAILS_MAX: usize = 16;
const DETAILS_BYTES_MAX: usize = 64 * 1024;
const MESSAGE_CHARS_MAX: usize = 512;

/// The name of a code, the type and status of its fault, and whether repeating may help.
fn meaning(code: Code) -> (&'static str, &'static str, u16, bool) {
    use fault_type::{AUTHENTICATION, AUTHORIZATION, COMMUNICATION, TIMEOUT, VALIDATION};
    match code {
        Code::Ok => ("OK", COMMUNICATION, 502, true),
        Code::Cancelled => ("CANCELLED", COMMUNICATION, 499, true),
        Code::Unknown => ("UNKNOWN", COMMUNICATION, 500, true),
        Code::InvalidArgument => ("INVALID_ARGUMENT", VALIDATION, 400, false),
        Code::DeadlineExceeded => ("DEADLINE_EXCEEDED", TIMEOUT, 408, true),
        Code::NotFound => ("NOT_FOUND", COMMUNICATION, 404, false),
        Code::AlreadyExists => ("ALREADY_EXISTS", COMMUNICATION, 409, false),
        Code::PermissionDenied => ("PERMISSION_DENIED", AUTHORIZATION, 403, false),
        Code::ResourceExhausted => ("RESOURCE_EXHAUSTED", COMMUNICATION, 429, true),
        Code::FailedPrecondition => ("FAILED_PRECONDITION", COMMUNICATION, 400, false),
        Code::Aborted => ("ABORTED", COMMUNICATION, 409, true),
        Code::OutOfRange => ("OUT_OF_RANGE", COMMUNICATION, 400, false),
        Code::Unimplemented => ("UNIMPLEMENTED", COMMUNICATION, 501, false),
        Code::Internal => ("INTERNAL", COMMUNICATION, 500, true),
        Code::Unavailable => ("UNAVAILABLE", COMMUNICATION, 503, true),
        Code::DataLoss => ("DATA_LOSS", COMMUNICATION, 500, false),
        Code::Unauthenticated => ("UNAUTHENTICATED", AUTHENTICATION, 401, false),
    }
}

/// The fault of a call that ended with `status`. `on` is the method, for people.
pub(super) fn fault(status: &Status, on: &str, pool: &DescriptorPool, secrets: &Secrets) -> Fault {
    let (name, kind, number, worth_repeating) = meaning(status.code());
    let said: String = secrets.redact(status.message()).chars().take(MESSAGE_CHARS_MAX).collect();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let data = secrets.redact_value(json!({"code": name, "details": details(status.details(), pool)}));
    let fault = Fault::new(kind, number, format!("{on} answered {name}{said}")).with_data(data);
    if worth_repeating { fault } else { fault.non_retryable() }
}

fn details(bytes: &[u8], pool: &DescriptorPool) -> Vec<Value> {
    let Ok(status) = tonic_types::Status::decode(bytes) else { return Vec::new() };
    let mut left = DETAILS_BYTES_MAX;
    let details = status.details.iter().take(DETAILS_MAX);
    details
        .map(|any| {
            let name = any.type_url.rsplit('/').next().unwrap_or_default();
            let known = [pool, google_rpc()].into_iter().find_map(|pool| pool.get_message_by_name(name));
            let shown = known
                .and_then(|descriptor| DynamicMessage::decode(descriptor, any.value.as_slice()).ok())
                .and_then(|message| to_json(&message, &mut left).ok());
            match shown {
                Some(Value::Object(fields)) => {
                    let named = [("@type".to_owned(), Value::String(any.type_url.clone()))];
                    Value::Object(named.into_iter().chain(fields).collect())
                }
                Some(other) => json!({"@type": any.type_url, "value": other}),
                None => json!({"@type": any.type_url, "value": STANDARD.encode(&any.value)}),
            }
        })
        .collect()
}

/// The messages of `google.rpc` that servers put into details.
fn google_rpc() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).unwrap_or_default())
}
