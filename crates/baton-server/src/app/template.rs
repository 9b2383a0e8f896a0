//! Writing templates: workflows and agents, which the server itself keeps in the store.
//!
//! # Invariants
//! - A stored template has been checked whole; its digest and generation are what executions pin.
//! - Writes of templates happen one after another, so that two that would call each other in a circle cannot slip
//!   past each other.
//! - A write that changes nothing keeps `resourceVersion` and tells watchers nothing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use baton_execution::ProgramKind;
use baton_proto::{
    Resource, Timestamp, condition,
    v1::{Condition, Skill, Workflow},
};
use baton_store::{
    CommitError, ExecState, Expect, Lane, ResourceDelete, ResourceKey, ResourcePut, StoredResource, Txn,
    canonical_labels,
};
use baton_types::{ApiError, Digest, RESOURCE_BYTES_MAX, Uid, Violation};
use baton_workflow::{NOT_THERE, RESOURCES};
use bytes::Bytes;
use serde_json::Value;

use super::{App, Change, DeletedObject, ServedResource, WriteOptions, Written, error, fetch, metadata, outside};
use crate::programs::Compiled;

/// Names tried for a `generateName` before giving up.
pub(crate) const NAME_ATTEMPTS_MAX: usize = 8;
/// Templates that are looked at for a circle of calls.
const CALLS_VISITED_MAX: usize = 10_000;

/// A kind of resource that executions run.
pub(crate) trait TemplateKind: ServedResource {
    /// Which Program runs it.
    const PROGRAM: ProgramKind;
    /// Path of the content, such as `spec.definition`.
    const CONTENT_FIELD: &'static str;

    /// The content in its JSON form, with the free data in the spec brought to one form; `None` if a violation was noted.
    fn content(&mut self, violations: &mut Vec<Violation>) -> Option<Value>;
    /// Sets `status.digest`.
    fn set_digest(&mut self, digest: &Digest);
    /// Checks what the spec says beside the content.
    fn check_spec(&mut self, _checked: Option<&Checked>, _violations: &mut Vec<Violation>) {}
    /// Sets what the content refers to and is kept elsewhere, for kinds that refer to such things.
    fn set_resources(&mut self, _resources: BTreeMap<String, Value>) {}
}

/// Content that passed its check.
pub(crate) struct Checked {
    pub(crate) content: Bytes,
    pub(crate) digest: Digest,
    pub(crate) compiled: Compiled,
    /// What it refers to and is kept elsewhere, and is part of the content.
    pub(crate) resources: BTreeMap<String, Value>,
}

/// Checks a definition, with what it refers to; violations get their path within the object.
pub(crate) async fn check_content(
    app: &App,
    kind: ProgramKind,
    namespace: &str,
    field: &str,
    definition: Value,
    violations: &mut Vec<Violation>,
) -> Option<Checked> {
    match compile(app, kind, namespace, definition).await {
        Ok((definition, compiled)) => {
            let content = Bytes::from(definition.to_string());
            let digest = Digest::of(&content);
            app.programs().insert(kind, digest, content.len(), compiled.clone());
            let resources = fetch::split(&mut { definition });
            Some(Checked { content, digest, compiled, resources })
        }
        Err(found) => {
            violations.extend(found.into_iter().map(|violation| place(violation, field)));
            None
        }
    }
}

/// A violation within a definition as one of the object: resources have a field of their own.
fn place(violation: Violation, field: &str) -> Violation {
    match violation.field.strip_prefix(RESOURCES) {
        Some(rest) => Violation::new(format!("spec.resources{rest}"), violation.message),
        None => violation.under(field),
    }
}

/// Compiles a definition: with what it refers to, and with nothing else in its resources.
async fn compile(
    app: &App,
    kind: ProgramKind,
    namespace: &str,
    mut definition: Value,
) -> Result<(Value, Compiled), Vec<Violation>> {
    let mut compiled = Compiled::check(kind, &definition);
    if kind == ProgramKind::Workflow
        && compiled.is_err()
        && !baton_workflow::externals(&definition).is_empty()
        && let Some(fetcher) = app.fetcher()
    {
        let fetched = Box::pin(fetcher.complete(namespace, &mut definition)).await;
        compiled = Compiled::check(kind, &definition);
        if let Err(failed) = fetched {
            // That something was not fetched is said once, with the reason.
            let others = compiled.err().unwrap_or_default().into_iter();
            let others = others.filter(|violation| !violation.message.contains(NOT_THERE));
            return Err(others.chain(failed).collect());
        }
    }
    let compiled = compiled?;
    let mut resources = fetch::split(&mut definition);
    let given = resources.len();
    resources.retain(|uri, _| compiled.resources().contains(uri));
    let whole = resources.len() == given;
    let definition = fetch::join(definition, resources);
    let compiled = if whole { compiled } else { Compiled::check(kind, &definition)? };
    Ok((definition, compiled))
}

async fn check_whole<R: TemplateKind>(app: &App, object: &mut R, violations: &mut Vec<Violation>) -> Option<Checked> {
    let content = object.content(violations);
    let namespace = object.metadata_mut().namespace.clone();
    let checked = match content {
        Some(content) => check_content(app, R::PROGRAM, &namespace, R::CONTENT_FIELD, content, violations).await,
        None => None,
    };
    object.check_spec(checked.as_ref(), violations);
    outside::check_published(R::PROGRAM, object.metadata_mut(), violations);
    checked
}

/// Creates a template.
pub(crate) async fn create<R: TemplateKind>(
    app: &App,
    mut object: R,
    options: WriteOptions,
) -> Result<Written<R>, ApiError> {
    let mut violations = Vec::new();
    metadata::complete(&mut object, &mut violations);
    let now = metadata::now_ms();
    let generated = metadata::prepare_new(object.metadata_mut(), metadata::new_uid(), now, &mut violations);
    metadata::check(object.metadata_mut(), &mut violations);
    object.take_status_of(&R::default());
    let checked = check_whole(app, &mut object, &mut violations).await;
    let writing = app.template_writes().lock().await;
    let warnings = check_references(app, &object, checked.as_ref(), &mut violations).await?;
    let Some(mut checked) = checked.filter(|_| violations.is_empty()) else {
        return Err(ApiError::violations(violations));
    };
    object.set_resources(std::mem::take(&mut checked.resources));
    write_status(&mut object, &checked.digest, now);
    for attempt in 1.. {
        check_size(&object)?;
        let meta = object.metadata_mut().clone();
        let key = ResourceKey::new(R::KIND, meta.namespace.clone(), meta.name.clone());
        let taken = if options.dry_run {
            app.read(move |store| store.get(&key)).await?.is_some()
        } else {
            match commit_put(app, put_of(&object, key, app.store().next_number(), Expect::Absent)?).await {
                Ok(revision) => {
                    object.metadata_mut().resource_version = revision.to_string();
                    false
                }
                Err(CommitError::Exists { .. }) => true,
                Err(error) => return Err(error::commit_failed(&error)),
            }
        };
        if !taken {
            break;
        }
        if !generated || attempt >= NAME_ATTEMPTS_MAX {
            return Err(error::already_exists::<R>(&meta.namespace, &meta.name));
        }
        object.metadata_mut().name = metadata::generated_name(&meta.generate_name);
    }
    drop(writing);
    forget(app, &object);
    Ok(Written { object, created: true, warnings })
}

/// Replaces a template.
pub(crate) async fn replace<R: TemplateKind>(
    app: &App,
    stored: &StoredResource,
    change: Change<R>,
    options: WriteOptions,
) -> Result<Written<R>, ApiError> {
    let old = R::decode_stored(&stored.body, stored.revision)?;
    let mut object = change(&old)?;
    let mut violations = Vec::new();
    let before = old.metadata().cloned().unwrap_or_default();
    metadata::keep_system_fields(object.metadata_mut(), &before);
    metadata::check_no_new_finalizers(object.metadata_mut(), &before, &mut violations);
    metadata::check(object.metadata_mut(), &mut violations);
    let checked = check_whole(app, &mut object, &mut violations).await;
    let writing = app.template_writes().lock().await;
    let warnings = check_references(app, &object, checked.as_ref(), &mut violations).await?;
    let Some(mut checked) = checked.filter(|_| violations.is_empty()) else {
        return Err(ApiError::violations(violations));
    };
    object.set_resources(std::mem::take(&mut checked.resources));
    object.take_status_of(&old);
    if !object.same_spec(&old) {
        object.metadata_mut().generation += 1;
    }
    write_status(&mut object, &checked.digest, metadata::now_ms());
    check_size(&object)?;
    object.metadata_mut().resource_version.clone_from(&before.resource_version);
    if options.dry_run || object == old {
        return Ok(Written { object, created: false, warnings });
    }
    object.metadata_mut().resource_version.clear();
    let ends = before.deletion_timestamp.is_some() && object.metadata_mut().finalizers.is_empty();
    let revision = if ends {
        delete_row(app, stored, &object).await
    } else {
        commit_put(app, put_of(&object, stored.key.clone(), stored.number, Expect::Revision(stored.revision))?).await
    };
    drop(writing);
    forget(app, &object);
    match revision {
        Ok(revision) => {
            object.metadata_mut().resource_version = revision.to_string();
            Ok(Written { object, created: false, warnings })
        }
        Err(failed) => Err(write_failed::<R>(stored, &failed)),
    }
}

impl App {
    /// Changes what the status of a workflow shows. What the object is otherwise stays, and a change that changes nothing
    /// is not written.
    ///
    /// # Errors
    /// Conflict if somebody else wrote it at the same time, and what the store refuses; a workflow that is gone is none.
    pub(crate) async fn update_status(
        &self,
        namespace: &str,
        name: &str,
        uid: Uid,
        change: impl FnOnce(&mut Workflow),
    ) -> Result<(), ApiError> {
        let key = ResourceKey::new(Workflow::KIND, namespace, name);
        let found = self.read(move |store| store.get(&key)).await?;
        let Some(stored) = found.filter(|stored| stored.uid == *uid.as_bytes()) else { return Ok(()) };
        let old = Workflow::decode_stored(&stored.body, stored.revision)?;
        let mut object = old.clone();
        change(&mut object);
        if object == old {
            return Ok(());
        }
        object.metadata_mut().resource_version.clear();
        let put = put_of(&object, stored.key.clone(), stored.number, Expect::Revision(stored.revision))?;
        let txn = Txn { puts: vec![put], ..Txn::default() };
        let written = self.store().commit_async(Lane::Internal, txn).await;
        written.map(|_| ()).map_err(|failed| write_failed::<Workflow>(&stored, &failed))
    }
}

/// Deletes a template, or marks it while finalizers hold it.
pub(crate) async fn remove<R: TemplateKind>(app: &App, stored: StoredResource) -> Result<DeletedObject<R>, ApiError> {
    let removed = remove_row(app, &stored, |object: &R| Bytes::from(object.encode_to_vec())).await;
    app.templates().forget(R::PROGRAM, &stored.key.namespace, &stored.key.name);
    removed
}

/// Deletes the row of an object, or marks the object while finalizers hold it; `body` is its stored form.
pub(crate) async fn remove_row<R: ServedResource>(
    app: &App,
    stored: &StoredResource,
    body: impl Fn(&R) -> Bytes,
) -> Result<DeletedObject<R>, ApiError> {
    let mut object = R::decode_stored(&stored.body, stored.revision)?;
    object.metadata_mut().resource_version.clear();
    let meta = object.metadata_mut();
    let held = !meta.finalizers.is_empty();
    if held && meta.deletion_timestamp.is_some() {
        meta.resource_version = stored.revision.to_string();
        return Ok(DeletedObject { gone: false, object });
    }
    let revision = if held {
        meta.deletion_timestamp = Some(Timestamp::from_millis(metadata::now_ms()).whole_seconds());
        meta.generation += 1;
        let put = put_of(&object, stored.key.clone(), stored.number, Expect::Revision(stored.revision))?;
        commit_put(app, ResourcePut { body: body(&object), ..put }).await
    } else {
        delete_row(app, stored, &object).await
    };
    let revision = revision.map_err(|failed| write_failed::<R>(stored, &failed))?;
    object.metadata_mut().resource_version = revision.to_string();
    Ok(DeletedObject { gone: !held, object })
}

pub(crate) fn write_failed<R: Resource>(stored: &StoredResource, failed: &CommitError) -> ApiError {
    match failed {
        CommitError::Conflict { expected, found, .. } => {
            error::conflict::<R>(&stored.key.namespace, &stored.key.name, &found.to_string(), &expected.to_string())
        }
        CommitError::NotFound { .. } => error::not_found::<R>(&stored.key.namespace, &stored.key.name),
        other => error::commit_failed(other),
    }
}

pub(crate) async fn delete_row<R: ServedResource>(
    app: &App,
    stored: &StoredResource,
    object: &R,
) -> Result<u64, CommitError> {
    let body = Bytes::from(object.encode_to_vec());
    let delete = ResourceDelete {
        key: stored.key.clone(),
        uid: stored.uid,
        number: stored.number,
        revision: stored.revision,
        body,
    };
    let committed = app.store().commit_async(Lane::Internal, Txn { deletes: vec![delete], ..Txn::default() }).await?;
    app.owner_is_gone(Uid::from_bytes(stored.uid));
    Ok(committed.revisions.first().copied().unwrap_or_default())
}

pub(crate) async fn commit_put(app: &App, put: ResourcePut) -> Result<u64, CommitError> {
    let committed = app.store().commit_async(Lane::External, Txn { puts: vec![put], ..Txn::default() }).await?;
    Ok(committed.revisions.first().copied().unwrap_or_default())
}

/// The row of an object whose `resourceVersion` is empty.
pub(crate) fn put_of<R: ServedResource>(
    object: &R,
    key: ResourceKey,
    number: i64,
    expect: Expect,
) -> Result<ResourcePut, ApiError> {
    let none = ApiError::internal("a prepared object without metadata");
    let meta = object.metadata().ok_or(none)?;
    let uid: Uid =
        meta.uid.parse().map_err(|_| ApiError::internal(format!("a prepared object with the uid '{}'", meta.uid)))?;
    Ok(ResourcePut {
        key,
        uid: *uid.as_bytes(),
        number,
        expect,
        body: Bytes::from(object.encode_to_vec()),
        labels: canonical_labels(meta.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
        state: ExecState::None,
        owner: metadata::owner_uid(meta).map(|owner| *owner.as_bytes()),
        expires_at_ms: None,
        deleting: meta.deletion_timestamp.is_some(),
    })
}

fn forget<R: TemplateKind>(app: &App, object: &R) {
    if let Some(meta) = object.metadata() {
        app.templates().forget(R::PROGRAM, &meta.namespace, &meta.name);
    }
}

pub(crate) fn check_size<R: Resource>(object: &R) -> Result<(), ApiError> {
    let bytes = object.encoded_len();
    if bytes > RESOURCE_BYTES_MAX {
        return Err(error::too_large::<R>(object.metadata().map_or("", |meta| meta.name.as_str()), bytes));
    }
    Ok(())
}

fn write_status<R: TemplateKind>(object: &mut R, digest: &Digest, now_ms: i64) {
    object.set_digest(digest);
    write_accepted(object, now_ms);
}

/// Writes that the present generation was accepted.
pub(crate) fn write_accepted<R: Resource>(object: &mut R, now_ms: i64) {
    let generation = object.metadata_mut().generation;
    object.set_observed_generation(generation);
    let conditions = object.conditions_mut();
    let accepted = Condition {
        r#type: condition::ACCEPTED.to_owned(),
        status: "True".to_owned(),
        observed_generation: generation,
        last_transition_time: Some(Timestamp::from_millis(now_ms).whole_seconds()),
        reason: "Valid".to_owned(),
        message: String::new(),
    };
    match conditions.iter_mut().find(|it| it.r#type == condition::ACCEPTED) {
        Some(old) => *old = Condition { last_transition_time: old.last_transition_time, ..accepted },
        None => conditions.push(accepted),
    }
}

/// Warns of templates that are referred to and not there (the order of apply must not matter), and notes a circle of calls.
async fn check_references<R: TemplateKind>(
    app: &App,
    object: &R,
    checked: Option<&Checked>,
    violations: &mut Vec<Violation>,
) -> Result<Vec<String>, ApiError> {
    let (Some(checked), Some(meta)) = (checked, object.metadata()) else { return Ok(Vec::new()) };
    let mut warnings = checked.compiled.warnings(R::CONTENT_FIELD);
    let mut seen = HashSet::new();
    for reference in checked.compiled.references() {
        if !seen.insert((reference.kind, reference.name.clone())) {
            continue;
        }
        let field = format!("{}.{}", R::CONTENT_FIELD, reference.field);
        let workflows_only = R::PROGRAM == ProgramKind::Workflow && reference.kind == ProgramKind::Workflow;
        if workflows_only && let Some(circle) = find_circle(app, &meta.namespace, &meta.name, &reference.name).await? {
            violations.push(Violation::new(
                field,
                format!("workflow '{}' would call itself: {}", meta.name, circle.join(" -> ")),
            ));
            continue;
        }
        if app.template(reference.kind, &meta.namespace, &reference.name).await?.is_none() {
            let title = super::template_title(reference.kind);
            warnings.push(format!(
                "{field}: no {title} '{}' in namespace '{}' yet; executions fail there until it is created",
                reference.name, meta.namespace
            ));
        }
    }
    for (field, name) in checked.compiled.servers() {
        if app.mcp_server(&meta.namespace, &name).await?.is_none() {
            warnings.push(format!(
                "{}.{field}: no MCP server '{name}' in namespace '{}' yet; executions are refused until it is created",
                R::CONTENT_FIELD,
                meta.namespace
            ));
        }
    }
    for name in checked.compiled.skills() {
        let key = ResourceKey::new(Skill::KIND, meta.namespace.clone(), name.clone());
        if app.read(move |store| store.get(&key)).await?.is_none() {
            warnings.push(format!(
                "{}.skills: no skill '{name}' in namespace '{}' yet; executions are refused until it is created",
                R::CONTENT_FIELD,
                meta.namespace
            ));
        }
    }
    for (field, name) in checked.compiled.secrets() {
        if !app.has_secret(&meta.namespace, name).await? {
            warnings.push(format!(
                "{}.{field}: no secret '{name}' in namespace '{}' yet; executions fail where they use it until it is created",
                R::CONTENT_FIELD, meta.namespace
            ));
        }
    }
    Ok(warnings)
}

/// The calls that lead from `name` over `first` back to `name`.
async fn find_circle(app: &App, namespace: &str, name: &str, first: &str) -> Result<Option<Vec<String>>, ApiError> {
    let mut callers: HashMap<String, String> = HashMap::from([(first.to_owned(), name.to_owned())]);
    let mut queue = VecDeque::from([first.to_owned()]);
    while let Some(current) = queue.pop_front() {
        if current == name {
            return Ok(Some(way_to(name, &callers)));
        }
        let Some(template) = app.template(ProgramKind::Workflow, namespace, &current).await? else { continue };
        let Ok(compiled) = app.programs().get(ProgramKind::Workflow, &template.digest, &template.content) else {
            continue;
        };
        for call in compiled.references().into_iter().filter(|call| call.kind == ProgramKind::Workflow) {
            if callers.len() < CALLS_VISITED_MAX && !callers.contains_key(&call.name) {
                callers.insert(call.name.clone(), current.clone());
                queue.push_back(call.name);
            }
        }
    }
    Ok(None)
}

fn way_to(name: &str, callers: &HashMap<String, String>) -> Vec<String> {
    let mut way = vec![name.to_owned()];
    let mut current = name;
    while let Some(caller) = callers.get(current) {
        way.push(caller.clone());
        if caller == name {
            break;
        }
        current = caller;
    }
    way.reverse();
    way
}
