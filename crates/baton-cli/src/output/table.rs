//! Tables: a row a resource, columns as each kind has them.

use std::fmt::Write as _;

use baton_proto::{ExecutionResource, Resource as _, Timestamp, v1};

use crate::{
    kind::{Kind, Object},
    printer::{one_line, shortened},
};

/// Widest cell; what is longer is in the JSON.
const CELL_LENGTH_MAX: usize = 60;

/// Whether the namespace is a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// All rows are of one namespace.
    Narrow,
    /// Rows are of several namespaces.
    WithNamespace,
}

/// A table of objects of a kind; only the header if there are none.
pub(crate) fn objects_table(kind: Kind, objects: &[Object], columns: Columns, now_ms: i64) -> String {
    let wide = columns == Columns::WithNamespace;
    let mut rows =
        vec![with_namespace(wide, "NAMESPACE".to_owned(), header(kind).iter().map(|it| (*it).to_owned()).collect())];
    rows.extend(
        objects.iter().map(|object| with_namespace(wide, object.metadata().namespace.clone(), row(object, now_ms))),
    );
    aligned(&rows)
}

/// The row of a change, in columns of fixed width as rows come one by one; with the header above the first.
pub(crate) fn change_rows(what: &str, object: &Object, columns: Columns, with_header: bool) -> String {
    let wide = columns == Columns::WithNamespace;
    let line = |first: &str, namespace: &str, cells: Vec<String>| {
        let cells = with_namespace(wide, namespace.to_owned(), cells);
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(at, cell)| format!("{:<1$}", one_line(cell), if at == 0 { 28 } else { 14 }))
            .collect();
        format!("{first:<9} {}", padded.join(" ")).trim_end().to_owned()
    };
    let row = line(what, &object.metadata().namespace, row(object, super::now_ms()));
    if !with_header {
        return row;
    }
    let header = header(object.kind()).iter().map(|it| (*it).to_owned()).collect();
    format!("{}\n{row}", line("EVENT", "NAMESPACE", header))
}

/// A table of what an execution made.
pub(crate) fn artifacts_table(made: &[v1::ExecutionArtifact]) -> String {
    let mut rows = vec![["NAME", "MEDIA-TYPE", "BYTES", "DIGEST"].map(str::to_owned).to_vec()];
    rows.extend(
        made.iter()
            .map(|it| vec![it.name.clone(), it.media_type.clone(), it.size_bytes.to_string(), it.digest.clone()]),
    );
    aligned(&rows)
}

/// A table of return addresses.
pub(crate) fn callbacks_table(list: &v1::CallbackList, now_ms: i64) -> String {
    let mut rows =
        vec![["FINGERPRINT", "STATE", "RECEIVER", "ATTEMPTS", "ADDED", "LAST-ERROR"].map(str::to_owned).to_vec()];
    rows.extend(list.items.iter().map(|it| {
        let error = if it.last_error.is_empty() { "-".to_owned() } else { it.last_error.clone() };
        vec![
            it.fingerprint.clone(),
            it.state.clone(),
            it.receiver.clone(),
            it.attempts.to_string(),
            age(it.added_time, now_ms),
            error,
        ]
    }));
    aligned(&rows)
}

fn with_namespace(wide: bool, namespace: String, mut row: Vec<String>) -> Vec<String> {
    if wide {
        row.insert(0, namespace);
    }
    row
}

fn header(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Workflow => {
            &["NAME", "VERSION", "GENERATION", "READY", "SCHEDULE", "SUSPEND", "ACTIVE", "LAST-SCHEDULE", "AGE"]
        }
        Kind::Agent => &["NAME", "MODEL", "TOOLS", "READY", "AGE"],
        Kind::Secret => &["NAME", "KEYS", "GENERATION", "AGE"],
        Kind::McpServer => &["NAME", "REACHED-BY", "AT", "READY", "AGE"],
        Kind::Artifact => &["NAME", "MEDIA-TYPE", "BYTES", "EXPIRES", "AGE"],
        Kind::Skill => &["NAME", "FILES", "DESCRIPTION", "AGE"],
        Kind::Approval => &["NAME", "TYPE", "TOOL", "PHASE", "BY", "WHAT", "AGE"],
        Kind::Session => &["NAME", "AGENT", "TURNS", "ACTIVE", "QUEUED", "BYTES", "LAST-ACTIVITY", "AGE"],
        Kind::WorkflowExecution => &["NAME", "WORKFLOW", "PHASE", "TASKS", "WAITING-FOR", "AGE"],
        Kind::AgentExecution => &["NAME", "AGENT", "PHASE", "TOKENS", "WAITING-FOR", "AGE"],
    }
}

fn row(object: &Object, now_ms: i64) -> Vec<String> {
    let metadata = object.metadata();
    let name = metadata.name.clone();
    let age = age(metadata.creation_timestamp, now_ms);
    match object {
        Object::Workflow(it) => {
            let definition = it
                .spec
                .as_ref()
                .and_then(|spec| spec.definition.as_ref())
                .and_then(|it| it.to_value().ok())
                .unwrap_or_default();
            let version = definition.pointer("/document/version").and_then(|it| it.as_str()).unwrap_or("-").to_owned();
            let mut row = vec![name, version, metadata.generation.to_string(), ready(it.conditions())];
            row.extend(schedule(it, &definition["schedule"], now_ms));
            row.push(age);
            row
        }
        Object::Agent(it) => {
            let spec = it.spec.clone().unwrap_or_default();
            let model =
                spec.model.map(|model| model.name).filter(|name| !name.is_empty()).unwrap_or_else(|| "-".to_owned());
            vec![name, model, spec.tools.len().to_string(), ready(it.conditions()), age]
        }
        Object::Secret(it) => {
            let keys = it.status.as_ref().map_or(0, |status| status.keys.len());
            vec![name, keys.to_string(), metadata.generation.to_string(), age]
        }
        Object::McpServer(it) => {
            let spec = it.spec.clone().unwrap_or_default();
            let (how, place) = match (spec.stdio, spec.http) {
                (Some(stdio), _) => ("stdio", stdio.command),
                (None, Some(http)) => ("http", http.url.split(['?', '#']).next().unwrap_or_default().to_owned()),
                (None, None) => ("-", "-".to_owned()),
            };
            vec![name, how.to_owned(), place, ready(it.conditions()), age]
        }
        Object::Artifact(it) => {
            let media_type = it.spec.as_ref().map(|spec| spec.media_type.clone()).unwrap_or_default();
            let status = it.status.clone().unwrap_or_default();
            let expires = status.expires.map_or_else(|| "-".to_owned(), |time| time.to_string());
            vec![name, media_type, status.size_bytes.to_string(), expires, age]
        }
        Object::Skill(it) => {
            let spec = it.spec.clone().unwrap_or_default();
            let description = spec.description.split_whitespace().collect::<Vec<_>>().join(" ");
            vec![name, spec.files.len().to_string(), shortened(&description, 60), age]
        }
        Object::Approval(it) => {
            let (spec, status) = (it.spec.clone().unwrap_or_default(), it.status.clone().unwrap_or_default());
            let by = if status.decided_by.is_empty() { "-".to_owned() } else { status.decided_by };
            vec![name, spec.r#type, spec.tool, status.phase, by, spec.message, age]
        }
        Object::Session(it) => session(it, name, age, now_ms),
        Object::WorkflowExecution(it) => {
            let execution = ExecutionResource::Workflow(it.clone());
            let progress = execution
                .progress()
                .and_then(Option::as_ref)
                .map_or_else(|| "-".to_owned(), |it| format!("{}/{}", it.tasks_ended, it.tasks_started));
            vec![name, template(&execution), phase(&execution), progress, waiting(&execution), age]
        }
        Object::AgentExecution(it) => {
            let execution = ExecutionResource::Agent(it.clone());
            let tokens = execution
                .usage()
                .and_then(Option::as_ref)
                .map_or(0, |usage| i64::from(usage.input_tokens) + i64::from(usage.output_tokens));
            vec![name, template(&execution), phase(&execution), tokens.to_string(), waiting(&execution), age]
        }
    }
}

fn session(it: &v1::Session, name: String, made: String, now_ms: i64) -> Vec<String> {
    let (spec, status) = (it.spec.clone().unwrap_or_default(), it.status.clone().unwrap_or_default());
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    vec![
        name,
        or_none(spec.agent),
        status.turns.to_string(),
        or_none(status.active.map(|active| active.name).unwrap_or_default()),
        status.queued.to_string(),
        status.bytes.to_string(),
        age(status.last_activity_time, now_ms),
        made,
    ]
}

/// When executions start by themselves, whether they do now, how many run, and how long ago the last one was due.
fn schedule(workflow: &v1::Workflow, schedule: &serde_json::Value, now_ms: i64) -> [String; 4] {
    let Some(schedule) = schedule.as_object() else { return ["-"; 4].map(str::to_owned) };
    let words = ["every", "cron", "after", "on"].into_iter().find_map(|how| {
        let what = schedule.get(how)?;
        let types = what.pointer("/one/with/type").unwrap_or(what);
        Some(match (how, types.as_str()) {
            (_, Some(text)) => format!("{how} {text}"),
            ("on", None) => "on events".to_owned(),
            (_, None) => format!("{how} {}", units(what)),
        })
    });
    let suspended = workflow.spec.as_ref().is_some_and(|spec| spec.suspend);
    let status = workflow.status.clone().unwrap_or_default();
    let last = status.last_schedule_time.map_or_else(|| "-".to_owned(), |time| age(Some(time), now_ms));
    [words.unwrap_or_else(|| "-".to_owned()), suspended.to_string(), status.active.len().to_string(), last]
}

/// A duration that is an object, such as `1 hours 30 minutes`.
fn units(duration: &serde_json::Value) -> String {
    let units = duration.as_object().into_iter().flatten();
    units.map(|(unit, count)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

/// Name of the template an execution runs.
pub(super) fn template(execution: &ExecutionResource) -> String {
    let name = match execution {
        ExecutionResource::Workflow(it) => it.spec.as_ref().map(|spec| spec.workflow.clone()),
        ExecutionResource::Agent(it) => it.spec.as_ref().map(|spec| spec.agent.clone()),
    };
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "(inline)".to_owned())
}

fn phase(execution: &ExecutionResource) -> String {
    let phase = execution.phase();
    if execution.metadata().deletion_timestamp.is_some() { format!("{phase} (deleting)") } else { phase.to_string() }
}

fn waiting(execution: &ExecutionResource) -> String {
    match execution.waiting_for().map(Vec::as_slice).unwrap_or_default() {
        [] => "-".to_owned(),
        [one] => waiting_words(one),
        [one, rest @ ..] => format!("{} and {} more", waiting_words(one), rest.len()),
    }
}

/// What an execution waits for, in words: `agent execution triage-x2k9d`, `callback 3fa2c81b90de`.
pub(crate) fn waiting_words(it: &v1::WaitingFor) -> String {
    let reason = it.reason.to_ascii_lowercase();
    match it.reason.as_str() {
        "Callback" if !it.fingerprint.is_empty() => format!("callback {}", it.fingerprint),
        "Approval" if !it.approval.is_empty() => format!("approval {}", it.approval),
        "Child" if !it.on.is_empty() => it.on.clone(),
        _ if !it.on.is_empty() => format!("{reason} {}", it.on),
        _ => reason,
    }
}

fn ready(conditions: &[v1::Condition]) -> String {
    let of = |kind: &str| conditions.iter().find(|it| it.r#type == kind).map(|it| it.status.clone());
    of("Ready").or_else(|| of("Accepted")).unwrap_or_else(|| "-".to_owned())
}

/// How long ago, in the largest units that matter: `45s`, `12m`, `3h20m`, `2d`.
pub(super) fn age(since: Option<Timestamp>, now_ms: i64) -> String {
    let Some(since) = since else { return "-".to_owned() };
    let seconds = (now_ms - since.as_millis()).max(0) / 1000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=86_399 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Rows as columns of even width, two spaces apart.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| shortened(&one_line(cell), CELL_LENGTH_MAX)).collect()).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
