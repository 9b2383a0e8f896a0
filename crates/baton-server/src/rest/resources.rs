//! Create, get, list, replace, patch and delete, for every kind.

use axum::{http::StatusCode, response::Response};
use baton_proto::{API_VERSION, Resource, kind, v1};
use baton_types::{ApiError, ErrorKind, Violation};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    body,
    call::{Call, Read},
    query::{dry_run, unsupported},
    refusal::{GROUP, Refusal, printable},
    tokens,
    value::parse,
    watch,
};
use crate::app::{self, ServedResource, WriteOptions, Written};

/// `POST` on a collection. 201, or 200 if the same request had made the object before.
pub(super) async fn create<R: ServedResource>(call: Call) -> Result<Response, Refusal> {
    let options = WriteOptions { dry_run: call.query.dry_run()? };
    let Read { message: object, mut warnings } = read_object::<R>(&call)?;
    let Written { object, created, warnings: more } = call.app().create(object, options).await?;
    warnings.extend(more);
    call.answer(if created { StatusCode::CREATED } else { StatusCode::OK }, &object, &warnings)
}

/// `GET` of one object; with `watch`, the changes of that one.
pub(super) async fn get<R: ServedResource>(call: Call) -> Result<Response, Refusal> {
    if call.query.read(|it| it.flag("watch"))? {
        return watch::watch::<R>(call).await;
    }
    let object: R = call.app().get(&call.namespace, &call.name).await?;
    call.answer(StatusCode::OK, &object, &[])
}

/// `GET` of a collection; with `watch`, its changes.
pub(super) async fn list<R: ServedResource>(call: Call) -> Result<Response, Refusal> {
    let (watched, limit) =
        call.query.read(|it| (it.flag("watch"), it.count("limit", "whole numbers from 0 to 2147483647")))?;
    if watched {
        return watch::watch::<R>(call).await;
    }
    let at_least = wanted_revision(&call)?;
    let text = |name| call.query.text(name).to_owned();
    let request = v1::ListRequest {
        namespace: call.namespace.clone(),
        label_selector: text("labelSelector"),
        field_selector: text("fieldSelector"),
        limit: limit.unwrap_or_default(),
        r#continue: text("continue"),
    };
    let (metadata, items) = call.app().list::<R>(&request).await?;
    if at_least > metadata.resource_version.parse().unwrap_or(u64::MAX) {
        let message =
            format!("resourceVersion {at_least} is in the future; the newest is {}", metadata.resource_version);
        return Err(ApiError::new(ErrorKind::Timeout, "RESOURCE_VERSION_TOO_LARGE", message).into());
    }
    call.answer(
        StatusCode::OK,
        &ListBody { api_version: API_VERSION, kind: format!("{}List", R::KIND), metadata, items },
        &[],
    )
}

/// What a list sends. `items` is there even if there are none: clients count on it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListBody<R> {
    api_version: &'static str,
    kind: String,
    metadata: v1::ListMeta,
    items: Vec<R>,
}

/// The oldest revision that a list may answer. Lists answer the newest there is, which is "not older than" any.
fn wanted_revision(call: &Call) -> Result<u64, Refusal> {
    if !call.query.text("sendInitialEvents").is_empty() {
        return Err(unsupported("sendInitialEvents", "is for watches"));
    }
    let text = call.query.text("resourceVersion");
    match (call.query.text("resourceVersionMatch"), text) {
        ("" | "NotOlderThan", "") if call.query.text("resourceVersionMatch").is_empty() => return Ok(0),
        ("NotOlderThan" | "Exact", "") => return Err(unsupported("resourceVersionMatch", "needs a resourceVersion")),
        ("" | "NotOlderThan", _) => {}
        ("Exact", _) => {
            return Err(unsupported("resourceVersionMatch", "'Exact' is not offered; allowed is 'NotOlderThan'"));
        }
        (other, _) => {
            return Err(unsupported(
                "resourceVersionMatch",
                &format!("'{}' is not a value of it; allowed is 'NotOlderThan'", printable(other)),
            ));
        }
    }
    text.parse().map_err(|_| {
        let message = format!("'{}' is not a resourceVersion; take one from a list or an object", printable(text));
        ApiError::violations(vec![Violation::new("resourceVersion", message)]).into()
    })
}

/// `PUT` of one object.
pub(super) async fn replace<R: ServedResource>(call: Call) -> Result<Response, Refusal> {
    let options = WriteOptions { dry_run: call.query.dry_run()? };
    let Read { message: object, mut warnings } = read_object::<R>(&call)?;
    let written = call.app().update(object, options).await?;
    warnings.extend(written.warnings);
    call.answer(StatusCode::OK, &written.object, &warnings)
}

/// `PATCH` of one object, by a merge patch.
pub(super) async fn patch<R: ServedResource>(call: Call) -> Result<Response, Refusal> {
    body::check_patch_type(&call.headers)?;
    let options = WriteOptions { dry_run: call.query.dry_run()? };
    let parsed = parse(&call.body, body::MediaType::Json)?;
    let twice: Vec<_> = parsed.duplicates.into_iter().map(|path| Violation::new(path, "set more than once")).collect();
    if !twice.is_empty() {
        return Err(ApiError::violations(twice).into());
    }
    let Value::Object(mut patch) = parsed.value else {
        return Err(Refusal::bad_request("BODY_MALFORMED", "a merge patch is one object"));
    };
    let patch = {
        prepare::<R>(&mut patch)?;
        if let Some(Value::Object(metadata)) = patch.get_mut("metadata") {
            call.settle(metadata, "metadata.")?;
        }
        Value::Object(patch)
    };
    let written: Written<R> = call.app().patch(&call.namespace, &call.name, patch, options).await?;
    call.answer(StatusCode::OK, &written.object, &written.warnings)
}

/// `DELETE` of one object: a Status once it is gone, the object while finalizers hold it.
pub(super) async fn delete<R: ServedResource>(call: Call) -> Result<Response, Refusal> {
    let options = DeleteOptions::of(&call)?;
    let request = v1::DeleteRequest {
        namespace: call.namespace.clone(),
        name: call.name.clone(),
        uid: options.uid,
        resource_version: options.resource_version,
    };
    if options.dry_run {
        let object: R = call.app().check_delete(&request).await?;
        return call.answer(StatusCode::OK, &gone(&object), &[]);
    }
    let deleted = call.app().delete::<R>(&request).await?;
    if deleted.gone {
        call.answer(StatusCode::OK, &gone(&deleted.object), &[])
    } else {
        call.answer(StatusCode::OK, &deleted.object, &[])
    }
}

fn gone<R: Resource>(object: &R) -> Value {
    let (name, uid) = object.metadata().map_or(("", ""), |it| (&it.name, &it.uid));
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": name, "group": GROUP, "kind": R::PLURAL, "uid": uid},
    })
}

/// What a deletion may say, in its body or, for some, in the query.
#[derive(Default)]
struct DeleteOptions {
    uid: String,
    resource_version: String,
    dry_run: bool,
}

impl DeleteOptions {
    fn of(call: &Call) -> Result<Self, Refusal> {
        let (mut body, duplicates) = call.object(false)?;
        let mut violations: Vec<_> =
            duplicates.into_iter().map(|path| Violation::new(path, "set more than once")).collect();
        let mut options = Self { dry_run: call.query.dry_run()?, ..Self::default() };
        for (key, value) in std::mem::take(&mut body) {
            match (key.as_str(), &value) {
                (_, Value::Null)
                | ("kind" | "apiVersion" | "gracePeriodSeconds", _)
                | ("orphanDependents", Value::Bool(false)) => {}
                ("propagationPolicy", Value::String(policy)) => check_policy(policy)?,
                ("orphanDependents", Value::Bool(true)) => check_policy("Orphan")?,
                ("dryRun", Value::Array(stages)) => {
                    for stage in stages {
                        options.dry_run |= dry_run(stage.as_str().unwrap_or("not text"))?;
                    }
                }
                ("preconditions", Value::Object(preconditions)) => {
                    options.read_preconditions(preconditions, &mut violations);
                }
                ("propagationPolicy" | "orphanDependents" | "dryRun" | "preconditions", _) => {
                    violations.push(Violation::new(key, "is of the wrong type"));
                }
                _ => violations.push(Violation::new(
                    key,
                    "no such field; a deletion has 'preconditions', 'propagationPolicy' and 'dryRun'",
                )),
            }
        }
        check_policy(call.query.text("propagationPolicy"))?;
        if violations.is_empty() { Ok(options) } else { Err(ApiError::violations(violations).into()) }
    }

    fn read_preconditions(&mut self, preconditions: &Map<String, Value>, violations: &mut Vec<Violation>) {
        for (key, value) in preconditions {
            match (key.as_str(), value) {
                (_, Value::Null) => {}
                ("uid", Value::String(uid)) => uid.clone_into(&mut self.uid),
                ("resourceVersion", Value::String(version)) => version.clone_into(&mut self.resource_version),
                _ => violations.push(Violation::new(
                    format!("preconditions.{key}"),
                    "allowed are 'uid' and 'resourceVersion', each a text",
                )),
            }
        }
    }
}

/// Dependents are deleted after their owner; to keep them or to wait for them is not offered.
fn check_policy(policy: &str) -> Result<(), Refusal> {
    match policy {
        "" | "Background" => Ok(()),
        other => Err(unsupported(
            "propagationPolicy",
            &format!("'{}' is not offered; allowed is 'Background'", printable(other)),
        )),
    }
}

/// Reads the body as an object at the place that the path names.
fn read_object<R: ServedResource>(call: &Call) -> Result<Read<R>, Refusal> {
    let (mut object, duplicates) = call.object(true)?;
    prepare::<R>(&mut object)?;
    if let Value::Object(metadata) = object.entry("metadata").or_insert_with(|| Value::Object(Map::new())) {
        call.settle(metadata, "metadata.")?;
    }
    call.message(object, duplicates)
}

/// What executions need before they are read: no token where it does not belong, and the one in `spec` in base64.
fn prepare<R: Resource>(object: &mut Map<String, Value>) -> Result<(), Refusal> {
    if !matches!(R::KIND, kind::WORKFLOW_EXECUTION | kind::AGENT_EXECUTION) {
        return Ok(());
    }
    let mut value = Value::Object(std::mem::take(object));
    app::refuse_misplaced_token(&value)?;
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        tokens::accept_plain(spec);
    }
    if let Value::Object(prepared) = value {
        *object = prepared;
    }
    Ok(())
}
