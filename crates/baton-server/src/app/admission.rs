//! Admission of executions: from an object as somebody wrote it to what the engine takes.
//!
//! One path for every create: from outside, as the child of another execution, and from an older system's bytes.
//!
//! # Invariants
//! - What passes has exactly one content, pinned by digest; whatever becomes of the template, that content runs.
//! - All violations are found before anything is refused.
//! - For a template that was used before, nothing is read from the store and nothing is compiled.

use std::{collections::BTreeMap, sync::Arc};

use baton_agent::DATA_DEPTH_MAX;
use baton_engine::{Admitted, CALLBACK_TOKEN_BYTES_MAX, ParentRef};
use baton_execution::ProgramKind;
use baton_proto::ExecutionResource;
use baton_store::ListQuery;
use baton_types::{ApiError, Digest, Violation, check_name, parse_duration};
use bytes::Bytes;
use serde_json::Value;

use super::{App, ExecutionKind, artifact, free_data, metadata, template, template_title, workflow};
use crate::{metrics, templates::Template};

/// Settings in `spec.env` at most.
const ENV_COUNT_MAX: usize = 256;
/// Longest name of a setting, in bytes.
const ENV_NAME_BYTES_MAX: usize = 128;
/// Longest value of a setting, in bytes.
const ENV_VALUE_BYTES_MAX: usize = 32 * 1024;
/// Longest `spec.requestId`, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 253;
/// Names that a refusal lists.
const NAMES_LISTED_MAX: usize = 5;
/// Templates that are read to find such names.
const NAMES_READ_MAX: usize = 200;

/// What a kind of execution says in its own words, in the common form.
pub(crate) struct SpecParts {
    /// Name of the template; empty for none.
    pub(crate) template: String,
    /// The inline definition in its JSON form.
    pub(crate) inline: Inline,
    /// What the Program gets as its input.
    pub(crate) input: Value,
    /// What the Program gets as its settings.
    pub(crate) settings: Value,
}

/// An inline definition.
pub(crate) enum Inline {
    /// There is none.
    Absent,
    /// There is one, with violations that are noted already.
    Unreadable,
    /// There is one.
    Present(Value),
}

/// A kind of execution, as admission sees it.
pub(crate) trait ExecutionStrategy: ExecutionKind {
    /// Field of `spec` that names the template.
    const TEMPLATE_FIELD: &'static str;
    /// Levels that [`SpecParts::input`] puts around `spec.input`.
    const LEVELS_AROUND_INPUT: usize = 0;

    /// Takes the spec apart and checks what only this kind has.
    fn parts(&mut self, violations: &mut Vec<Violation>) -> SpecParts;
    /// Takes over what the present object's definition refers to, if nothing else is said.
    fn keep_resources(&mut self, _present: &Self) {}
    /// Adds to the settings what the Program needs to know of the server, of the content that it is to run.
    fn complete_settings(
        _app: &App,
        _settings: &mut Value,
        _content: (&Digest, &[u8]),
        _parent: Option<&ParentRef>,
    ) -> Result<(), ApiError> {
        Ok(())
    }
    /// Fills in what is left out and said elsewhere.
    fn complete(&mut self, _app: &App) -> impl Future<Output = Result<(), ApiError>> + Send {
        std::future::ready(Ok(()))
    }
    /// Drops what a caller put in `status`, and `metadata.resourceVersion`.
    fn clear_system_fields(&mut self) {
        self.metadata_mut().resource_version.clear();
        self.take_status_of(&Self::default());
    }
}

/// An execution that may be created.
pub(crate) struct Admission {
    pub(crate) admitted: Admitted,
    /// Whether the name was generated, and another one may be tried.
    pub(crate) generated: bool,
}

/// Admits an object.
///
/// # Errors
/// InvalidArgument with every violation, TooLarge, or what the store answered to a read.
pub(crate) async fn admit<R: ExecutionStrategy>(
    app: &App,
    mut object: R,
    parent: Option<ParentRef>,
) -> Result<Admission, ApiError> {
    let mut violations = Vec::new();
    metadata::complete(&mut object, &mut violations);
    let generated =
        metadata::prepare_new(object.metadata_mut(), metadata::new_uid(), metadata::now_ms(), &mut violations);
    metadata::check(object.metadata_mut(), &mut violations);
    object.clear_system_fields();
    object.complete(app).await?;
    let mut parts = object.parts(&mut violations);
    free_data::check_depth(&parts.input, DATA_DEPTH_MAX + R::LEVELS_AROUND_INPUT, "spec.input", &mut violations);
    template::check_size(&object)?;
    let namespace = object.metadata_mut().namespace.clone();
    if R::PROGRAM == ProgramKind::Agent {
        artifact::attach(app, &namespace, &mut parts.input, &mut violations).await?;
    }
    let mut execution = object.into_execution();
    let own_timeout_ms = check_common(&execution, &mut violations);
    check_token(app, &execution, &mut violations)?;
    let content = find_content::<R>(app, &namespace, &parts, &mut violations).await?;
    let Some(content) = content.filter(|_| violations.is_empty()) else { return Err(refused(violations)) };
    if let ExecutionResource::Workflow(it) = &mut execution {
        it.spec.get_or_insert_default().resources = workflow::resources_of(content.resources);
        template::check_size(&**it)?;
    }
    let timeout_ms = own_timeout_ms.or(content.timeout_ms);
    let mut settings = parts.settings;
    R::complete_settings(app, &mut settings, (&content.digest, &content.definition), parent.as_ref())?;
    let admitted = Admitted {
        resource: execution,
        definition: content.definition,
        digest: content.digest,
        template_name: content.name,
        template_generation: content.generation,
        input: parts.input,
        settings,
        timeout_ms,
        parent,
        held: None,
    };
    Ok(Admission { admitted, generated })
}

fn refused(violations: Vec<Violation>) -> ApiError {
    let missing = violations.iter().find(|violation| {
        matches!(violation.field.as_str(), "spec.workflow" | "spec.agent") && violation.message.starts_with("no ")
    });
    let hint = missing.map(|_| "create it first with baton apply -f FILE");
    let error = ApiError::violations(violations);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

struct Content {
    definition: Bytes,
    digest: Digest,
    name: String,
    generation: i32,
    timeout_ms: Option<u64>,
    /// What an inline definition refers to and is kept elsewhere.
    resources: BTreeMap<String, Value>,
}

async fn find_content<R: ExecutionStrategy>(
    app: &App,
    namespace: &str,
    parts: &SpecParts,
    violations: &mut Vec<Violation>,
) -> Result<Option<Content>, ApiError> {
    let field = format!("spec.{}", R::TEMPLATE_FIELD);
    let inline = match (&parts.inline, parts.template.is_empty()) {
        (Inline::Absent, true) => {
            violations.push(Violation::new(
                "spec",
                format!("must have exactly one of '{}' and 'definition'; it has none", R::TEMPLATE_FIELD),
            ));
            return Ok(None);
        }
        (Inline::Present(_) | Inline::Unreadable, false) => {
            violations.push(Violation::new(
                "spec",
                format!("must have exactly one of '{}' and 'definition'; it has both", R::TEMPLATE_FIELD),
            ));
            return Ok(None);
        }
        (Inline::Unreadable, true) => return Ok(None),
        (Inline::Present(definition), true) => definition,
        (Inline::Absent, false) => {
            return find_template(app, R::PROGRAM, namespace, &parts.template, &field, violations).await;
        }
    };
    let mut definition = inline.clone();
    if R::PROGRAM == ProgramKind::Agent {
        let mut missing = app.join_servers(namespace, &mut definition).await?;
        missing.extend(app.join_skills(namespace, &mut definition).await?);
        violations
            .extend(missing.into_iter().map(|(place, why)| Violation::new(format!("spec.definition.{place}"), why)));
    }
    let checked = template::check_content(app, R::PROGRAM, namespace, "spec.definition", definition, violations).await;
    Ok(checked.map(|checked| Content {
        timeout_ms: checked.compiled.timeout_ms(),
        definition: checked.content,
        digest: checked.digest,
        name: String::new(),
        generation: 0,
        resources: checked.resources,
    }))
}

async fn find_template(
    app: &App,
    kind: ProgramKind,
    namespace: &str,
    name: &str,
    field: &str,
    violations: &mut Vec<Violation>,
) -> Result<Option<Content>, ApiError> {
    if let Err(message) = check_name(name) {
        violations.push(Violation::new(field, message));
        return Ok(None);
    }
    let Some(template) = app.template(kind, namespace, name).await? else {
        let title = template_title(kind);
        let others = names_nearby(app, kind, namespace, name).await?;
        let others = if others.is_empty() {
            format!("there are no {title}s there")
        } else {
            format!("{title}s there are {}", others.join(", "))
        };
        violations.push(Violation::new(field, format!("no {title} '{name}' in namespace '{namespace}'; {others}")));
        return Ok(None);
    };
    let Template { name, generation, content, digest, timeout_ms, missing, .. } = Arc::unwrap_or_clone(template);
    if !missing.is_empty() {
        let title = template_title(kind);
        violations.extend(missing.into_iter().map(|why| Violation::new(field, format!("{title} '{name}': {why}"))));
        return Ok(None);
    }
    let resources = BTreeMap::new();
    Ok(Some(Content { definition: content, digest, name, generation, timeout_ms, resources }))
}

/// Names of templates that are there, those first that look most like `name`.
async fn names_nearby(app: &App, kind: ProgramKind, namespace: &str, name: &str) -> Result<Vec<String>, ApiError> {
    let query =
        ListQuery { namespace: Some(namespace.to_owned()), ..ListQuery::new(kind.template_kind(), NAMES_READ_MAX) };
    let page = app.read(move |store| store.list(&query)).await?;
    let mut names: Vec<_> = page.items.into_iter().map(|item| item.key.name).collect();
    names.sort_by_cached_key(|other| edit_distance(name, other));
    let more = names.len() > NAMES_LISTED_MAX;
    names.truncate(NAMES_LISTED_MAX);
    let mut listed: Vec<_> = names.into_iter().map(|name| format!("'{name}'")).collect();
    if more {
        listed.push("…".to_owned());
    }
    Ok(listed)
}

/// Characters to insert, delete or replace to get from one text to the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, left) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, right) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

/// Checks what both kinds have; returns `spec.timeout` in milliseconds.
fn check_common(execution: &ExecutionResource, violations: &mut Vec<Violation>) -> Option<u64> {
    let timeout_ms = check_duration("spec.timeout", execution.timeout(), violations);
    check_duration("spec.callbackDeadline", execution.callback_deadline(), violations);
    if let Some(seconds) = execution.ttl_seconds_after_finished().filter(|seconds| *seconds < 0) {
        violations
            .push(Violation::new("spec.ttlSecondsAfterFinished", format!("is {seconds}, allowed are 0 and more")));
    }
    let policy = execution.parent_close_policy();
    if !matches!(policy, "" | "Cancel" | "Abandon") {
        violations.push(Violation::new(
            "spec.parentClosePolicy",
            format!("is '{}', allowed are 'Cancel' and 'Abandon'", metadata::shortened(policy)),
        ));
    }
    let request_id = execution.request_id();
    if request_id.len() > REQUEST_ID_BYTES_MAX {
        violations.push(Violation::new(
            "spec.requestId",
            format!("has {} bytes, allowed are up to {REQUEST_ID_BYTES_MAX}", request_id.len()),
        ));
    }
    check_env(execution.env(), violations);
    timeout_ms
}

pub(super) fn check_duration(field: &str, text: &str, violations: &mut Vec<Violation>) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    match parse_duration(text) {
        Ok(duration) if duration.is_zero() => {
            violations.push(Violation::new(field, format!("is '{text}'; it must be more than 0")));
        }
        Ok(duration) => return u64::try_from(duration.as_millis()).ok(),
        Err(message) => violations.push(Violation::new(field, message)),
    }
    None
}

/// Checks names and values of settings.
pub(super) fn check_env(env: &BTreeMap<String, String>, violations: &mut Vec<Violation>) {
    if env.len() > ENV_COUNT_MAX {
        violations
            .push(Violation::new("spec.env", format!("has {} settings, allowed are up to {ENV_COUNT_MAX}", env.len())));
    }
    for (name, value) in env {
        let field = || format!("spec.env.{}", metadata::shortened(name));
        let first_is_good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let rest_is_good = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if !first_is_good || !rest_is_good || name.len() > ENV_NAME_BYTES_MAX {
            let allowed = format!(
                "allowed are up to {ENV_NAME_BYTES_MAX} letters, digits, '_', '-' and '.', beginning with a letter or '_'"
            );
            violations.push(Violation::new(field(), format!("is not a valid name of a setting; {allowed}")));
        }
        if value.len() > ENV_VALUE_BYTES_MAX {
            violations.push(Violation::new(
                field(),
                format!("has {} bytes, allowed are up to {ENV_VALUE_BYTES_MAX}", value.len()),
            ));
        }
    }
}

/// Refuses a token that no engine can answer; one that is too long is a violation like any other.
fn check_token(app: &App, execution: &ExecutionResource, violations: &mut Vec<Violation>) -> Result<(), ApiError> {
    let token = execution.callback_token();
    if token.len() > CALLBACK_TOKEN_BYTES_MAX {
        violations.push(Violation::new(
            "spec.callbackToken",
            format!("has {} bytes, allowed are up to {CALLBACK_TOKEN_BYTES_MAX}", token.len()),
        ));
    } else if !token.is_empty()
        && let Err(refused) = app.engine()?.check_token(token)
    {
        metrics::callback_token_refused(refused.reason);
        if violations.is_empty() {
            return Err(refused);
        }
        violations.push(Violation::new("spec.callbackToken", refused.message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_near() {
        for (from, to, distance) in
            [("", "abc", 3), ("triage", "triage", 0), ("trige", "triage", 1), ("a", "b", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(edit_distance(from, to), distance, "{from} {to}");
        }
    }
}
