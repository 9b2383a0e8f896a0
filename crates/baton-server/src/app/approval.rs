//! The kind `Approval`: questions of executions to people, read here and decided through the engine, their only writer.

use baton_activities::{Secret as Hidden, redact_data};
use baton_engine::{Decide, PAYLOAD_BYTES_MAX};
use baton_execution::{Choice, QUESTION_BYTES_MAX};
use baton_proto::{
    Resource,
    v1::{Approval, DecideRequest, Json},
};
use baton_store::StoredResource;
use baton_types::{ApiError, ErrorKind, Uid, Violation};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use super::{
    App, Change, DeletedObject, ServedResource, WriteOptions, Written, free_data, metadata, strategy, template,
};

/// Longest reason of a decision, in bytes.
const REASON_BYTES_MAX: usize = 4096;
/// Longest name under which somebody decides, in bytes.
const CALLER_BYTES_MAX: usize = 253;
/// Who decides as long as callers are not authenticated; a name that the caller gave comes after it and a `:`.
const UNAUTHENTICATED: &str = "unauthenticated";

impl ServedResource for Approval {
    const SELECTABLE_FIELDS: &'static [&'static str] =
        &["metadata.name", "metadata.namespace", "status.phase", "spec.type", "spec.tool", "spec.execution.name"];

    fn field(&self, field: &str) -> Option<String> {
        let spec = || self.spec.clone().unwrap_or_default();
        match field {
            "status.phase" => Some(self.status.as_ref().map(|status| status.phase.clone()).unwrap_or_default()),
            "spec.type" => Some(spec().r#type),
            "spec.tool" => Some(spec().tool),
            "spec.execution.name" => Some(spec().execution.map(|execution| execution.name).unwrap_or_default()),
            _ => strategy::common_field(self, field),
        }
    }

    fn decode_stored(body: &Bytes, revision: u64) -> Result<Self, ApiError> {
        let mut object = Self::decode(body.clone())
            .map_err(|error| ApiError::internal(format!("an approval at revision {revision}: {error}")))?;
        object.metadata_mut().resource_version = revision.to_string();
        Ok(object)
    }

    async fn admit_new(_app: &App, _object: Self, _options: WriteOptions) -> Result<Written<Self>, ApiError> {
        Err(raised_by_executions())
    }

    async fn replace(
        _app: &App,
        _stored: StoredResource,
        _change: Change<Self>,
        _options: WriteOptions,
    ) -> Result<Written<Self>, ApiError> {
        Err(raised_by_executions())
    }

    /// For the upkeep alone, once the execution is gone.
    async fn remove(
        app: &App,
        stored: StoredResource,
        _expected: Option<u64>,
    ) -> Result<DeletedObject<Self>, ApiError> {
        template::remove_row(app, &stored, |object: &Self| Bytes::from(object.encode_to_vec())).await
    }
}

fn raised_by_executions() -> ApiError {
    let message = "approvals are raised by executions and changed by decisions alone";
    ApiError::new(ErrorKind::Unimplemented, "METHOD_NOT_ALLOWED", message)
        .hint("decide with baton approve, deny or resolve; an approval goes with its execution")
}

impl App {
    /// Decides on an approval, once. `caller` is who the caller says to be.
    ///
    /// # Errors
    /// NotFound; InvalidArgument and Invalid with every violation; Conflict if it was decided before, if its time is over,
    /// or if the decision names the digest of other arguments. None of them changes anything.
    pub async fn decide(&self, request: DecideRequest, caller: Option<&str>) -> Result<Approval, ApiError> {
        let (namespace, name) = (request.namespace.clone(), request.name.clone());
        let decide = read_decision(request, caller)?;
        let approval: Approval = self.get(&namespace, &name).await?;
        let execution = approval.spec.unwrap_or_default().execution.unwrap_or_default();
        let uid: Uid = execution
            .uid
            .parse()
            .map_err(|_| ApiError::internal(format!("approval '{name}' names no execution: '{}'", execution.uid)))?;
        let decide = without_secrets(&self.values_used_by(uid).await?, decide)?;
        self.engine()?.decide(uid, name.clone(), decide).await?;
        self.get(&namespace, &name).await
    }
}

/// The decision without the values of the secrets that the execution uses: it is kept, and shown to the model and to people.
///
/// # Errors
/// Arguments hold such a value: they are what the call is made with, so nothing may be taken out of them.
fn without_secrets(values: &[Hidden], mut decide: Decide) -> Result<Decide, ApiError> {
    if values.is_empty() {
        return Ok(decide);
    }
    if decide.arguments.as_ref().is_some_and(|arguments| redact_data(values, arguments).is_some()) {
        let message = "hold the value of a secret that the execution uses; arguments are kept, and shown to the model: leave the value out, and name the secret in the spec of the tool or of its server";
        return Err(ApiError::violations(vec![Violation::new("arguments", message)]));
    }
    if let Some(Value::String(reason)) = redact_data(values, &Value::String(decide.reason.clone())) {
        decide.reason = reason;
    }
    if let Some(result) = decide.result.as_ref().and_then(|result| redact_data(values, result)) {
        decide.result = Some(result);
    }
    Ok(decide)
}

fn read_decision(request: DecideRequest, caller: Option<&str>) -> Result<Decide, ApiError> {
    let mut violations = Vec::new();
    let choice = Choice::of(&request.decision);
    if choice.is_none() {
        let message = format!(
            "'{}' is no decision; allowed are 'approve', 'deny', 'retry', 'result' and 'fail', as spec.choices of the approval says",
            metadata::shortened(&request.decision)
        );
        violations.push(Violation::new("decision", message));
    }
    if request.reason.len() > REASON_BYTES_MAX {
        let message = format!("has {} bytes, allowed are up to {REASON_BYTES_MAX}", request.reason.len());
        violations.push(Violation::new("reason", message));
    }
    let arguments = read_data(request.arguments, "arguments", QUESTION_BYTES_MAX, &mut violations);
    let result = read_data(request.result, "result", PAYLOAD_BYTES_MAX, &mut violations);
    let decided_by = caller_name(caller).map_err(|why| violations.push(Violation::new("Impersonate-User", why))).ok();
    match (choice, decided_by) {
        (Some(choice), Some(decided_by)) if violations.is_empty() => Ok(Decide {
            choice,
            decided_by,
            reason: request.reason,
            arguments_digest: request.arguments_digest,
            arguments,
            result,
        }),
        _ => Err(ApiError::violations(violations)),
    }
}

fn read_data(data: Option<Json>, field: &str, bytes_max: usize, violations: &mut Vec<Violation>) -> Option<Value> {
    let mut data = data?;
    if data.text.len() > bytes_max {
        violations.push(Violation::new(field, format!("has {} bytes, allowed are up to {bytes_max}", data.text.len())));
        return None;
    }
    Some(free_data::read_data(&mut data, field, violations))
}

fn caller_name(caller: Option<&str>) -> Result<String, String> {
    match caller.map(str::trim).filter(|name| !name.is_empty()) {
        None => Ok(UNAUTHENTICATED.to_owned()),
        Some(name) if name.len() > CALLER_BYTES_MAX || name.chars().any(char::is_control) => {
            Err(format!("is no name; allowed are 1 to {CALLER_BYTES_MAX} bytes without control characters"))
        }
        Some(name) => Ok(format!("{UNAUTHENTICATED}:{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_decides_is_never_taken_for_somebody_who_was_authenticated() {
        assert_eq!(caller_name(None).unwrap(), "unauthenticated");
        assert_eq!(caller_name(Some(" ")).unwrap(), "unauthenticated");
        assert_eq!(caller_name(Some("kim")).unwrap(), "unauthenticated:kim");
        assert!(caller_name(Some("a\nb")).is_err() && caller_name(Some(&"x".repeat(300))).is_err());
    }

    #[test]
    fn everything_wrong_with_a_decision_is_told_at_once() {
        let request = DecideRequest {
            decision: "maybe".into(),
            reason: "x".repeat(5000),
            arguments: Some(Json { text: "{".into() }),
            result: Some(Json { text: format!("\"{}\"", "x".repeat(300_000)) }),
            ..DecideRequest::default()
        };
        let refused = read_decision(request, Some("a\nb")).unwrap_err();
        let fields: Vec<&str> = refused.violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["decision", "reason", "arguments", "result", "Impersonate-User"]);
    }

    #[test]
    fn a_value_of_a_secret_is_taken_out_of_what_is_said_and_refused_in_what_is_sent() {
        let values = [Hidden::new("hunter22")];
        let decide = |arguments: Option<Value>| Decide {
            choice: Choice::Result,
            decided_by: UNAUTHENTICATED.to_owned(),
            reason: "it was hunter22".to_owned(),
            arguments_digest: String::new(),
            arguments,
            result: Some(serde_json::json!({"token": "hunter22", "n": 1})),
        };
        let cleared = without_secrets(&values, decide(Some("nothing".into()))).unwrap();
        assert_eq!(cleared.reason, "it was ***");
        assert_eq!(cleared.result, Some(serde_json::json!({"token": "***", "n": 1})));
        assert_eq!(cleared.arguments, Some("nothing".into()));
        let refused = without_secrets(&values, decide(Some("x=hunter22".into()))).unwrap_err();
        assert!(refused.violations[0].field == "arguments" && !format!("{refused:?}").contains("hunter22"));
        let same = without_secrets(&[], decide(Some("x=hunter22".into()))).unwrap();
        assert_eq!(same.reason, "it was hunter22", "an execution that uses none has none");
    }
}
