//! All about one resource, for people.

use std::fmt::Write as _;

use baton_proto::{ExecutionResource, Timestamp, v1};
use serde_json::Value;

use super::{
    history::Row,
    pretty,
    table::{age, aligned, template, waiting_words},
    usage_words, yaml,
};
use crate::{
    kind::{Object, each},
    printer::one_line,
};

/// Largest input or output shown whole, in characters; longer ones are in the JSON.
const DATA_LENGTH_MAX: usize = 4000;

/// The description; `events` are the last of an execution's history.
pub(crate) fn describe(object: &Object, events: &[baton_proto::history_v1::HistoryEvent], now_ms: i64) -> String {
    let mut text = String::new();
    let metadata = object.metadata();
    field(&mut text, "Name", &metadata.name);
    field(&mut text, "Namespace", &metadata.namespace);
    field(&mut text, "Kind", object.kind().name());
    field(&mut text, "UID", &metadata.uid);
    field(&mut text, "Generation", &metadata.generation.to_string());
    field(&mut text, "Resource version", &metadata.resource_version);
    field(&mut text, "Created", &moment(metadata.creation_timestamp, now_ms));
    if metadata.deletion_timestamp.is_some() {
        field(&mut text, "Deletion asked", &moment(metadata.deletion_timestamp, now_ms));
    }
    pairs(&mut text, "Labels", metadata.labels.iter());
    pairs(&mut text, "Annotations", metadata.annotations.iter());
    for owner in &metadata.owner_references {
        field(&mut text, "Owned by", &format!("{}/{}", owner.kind.to_ascii_lowercase(), owner.name));
    }
    match object.execution() {
        Some(execution) => execution_parts(&mut text, &execution, now_ms),
        None => template_parts(&mut text, object, now_ms),
    }
    let conditions = each!(object, it => baton_proto::Resource::conditions(it.as_ref()).to_vec());
    if !conditions.is_empty() {
        let mut rows = vec![["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"].map(str::to_owned).to_vec()];
        rows.extend(conditions.iter().map(|it| {
            vec![
                it.r#type.clone(),
                it.status.clone(),
                it.reason.clone(),
                age(it.last_transition_time, now_ms),
                it.message.clone(),
            ]
        }));
        section(&mut text, "Conditions", &aligned(&rows));
    }
    if !events.is_empty() {
        let lines: Vec<String> = events.iter().map(|event| Row::of(event).line()).collect();
        section(&mut text, "Last events", &lines.join("\n"));
    }
    text
}

fn template_parts(text: &mut String, object: &Object, now_ms: i64) {
    if let Object::Approval(approval) = object {
        return approval_parts(text, approval);
    }
    if let Object::Secret(secret) = object {
        let mut rows = vec![vec!["KEY".to_owned(), "FINGERPRINT".to_owned()]];
        let keys = secret.status.iter().flat_map(|status| &status.keys);
        rows.extend(keys.map(|key| vec![key.name.clone(), key.fingerprint.clone()]));
        return section(text, "Keys", &aligned(&rows));
    }
    if let Object::Session(session) = object {
        session_parts(text, session, now_ms);
    }
    let spec = object.to_json().get("spec").cloned().unwrap_or_default();
    section(text, "Spec", &yaml(&spec));
}

fn session_parts(text: &mut String, session: &v1::Session, now_ms: i64) {
    let status = session.status.clone().unwrap_or_default();
    field(text, "Turns", &status.turns.to_string());
    field(text, "Active", &status.active.map(|active| active.name).unwrap_or_default());
    let more = if usize::try_from(status.queued).unwrap_or(0) > status.queue.len() { ", …" } else { "" };
    if status.queued > 0 {
        field(text, "Queued", &format!("{}: {}{more}", status.queued, status.queue.join(", ")));
    }
    field(text, "Last activity", &moment(status.last_activity_time, now_ms));
    let before = if status.summarised { ", and a summary of those before" } else { "" };
    let shown = format!("{} turns ({} messages, {} bytes){before}", status.kept_turns, status.messages, status.bytes);
    field(text, "Next begins with", &shown);
    field(text, "Digest", &status.digest);
}

fn approval_parts(text: &mut String, approval: &v1::Approval) {
    let (spec, status) = (approval.spec.clone().unwrap_or_default(), approval.status.clone().unwrap_or_default());
    let execution = spec.execution.clone().unwrap_or_default();
    field(
        text,
        "Asked by",
        &format!("{}/{} at {}", execution.kind.to_ascii_lowercase(), execution.name, execution.position),
    );
    field(text, "Type", &spec.r#type);
    field(text, "Tool", &spec.tool);
    field(text, "Server", &spec.server);
    field(text, "What", &spec.message);
    field(text, "Why", &spec.why);
    field(text, "Digest", &spec.arguments_digest);
    field(text, "Expires", &spec.expires.map(|time| time.to_string()).unwrap_or_default());
    field(text, "Phase", &status.phase);
    field(text, "Decision", &status.decision);
    field(text, "Decided by", &status.decided_by);
    field(text, "Decided", &status.decided_time.map(|time| time.to_string()).unwrap_or_default());
    field(text, "Reason", &status.reason);
    for (label, data) in [("Arguments", spec.arguments), ("Arguments instead", status.arguments)] {
        if let Some(value) = data.and_then(|data| data.to_value().ok()) {
            section(text, label, &limited(&value));
        }
    }
    if status.phase == "Pending" {
        let name = approval.metadata.as_ref().map_or("", |metadata| &metadata.name);
        let commands = if spec.r#type == "Limit" {
            format!("baton approve {name} --extend LIMIT=AMOUNT\nbaton deny {name} --reason TEXT")
        } else if spec.r#type == "Elicitation" {
            format!("baton resolve {name} --result FILE\nbaton approve {name}\nbaton deny {name} --reason TEXT")
        } else if spec.choices.iter().any(|choice| choice == "approve") {
            format!("baton approve {name}\nbaton deny {name} --reason TEXT")
        } else {
            format!("baton resolve {name} --retry\nbaton resolve {name} --result FILE\nbaton resolve {name} --fail")
        };
        section(text, "Decide with", &commands);
    }
}

fn execution_parts(text: &mut String, execution: &ExecutionResource, now_ms: i64) {
    let pinned = execution.template().and_then(Option::as_ref);
    let digest = pinned.map(|it| format!(" (generation {}, {})", it.generation, it.digest)).unwrap_or_default();
    field(text, "Runs", &format!("{}{digest}", template(execution)));
    field(text, "Phase", execution.phase().as_str());
    if !execution.timeout().is_empty() {
        field(text, "Timeout", execution.timeout());
    }
    field(text, "Started", &moment(execution.start_time().copied().flatten(), now_ms));
    field(text, "Ended", &moment(execution.completion_time().copied().flatten(), now_ms));
    for (label, reference) in [("Parent", execution.parent()), ("Root", execution.root())] {
        if let Some(it) = reference.and_then(Option::as_ref).filter(|it| !it.name.is_empty()) {
            let place = if it.position.is_empty() { String::new() } else { format!(" at {}", it.position) };
            field(text, label, &format!("{}/{}{place}", it.kind.to_ascii_lowercase(), it.name));
        }
    }
    for it in execution.waiting_for().map(Vec::as_slice).unwrap_or_default() {
        let until = it.until.map(|until| format!(", until {until}")).unwrap_or_default();
        field(
            text,
            "Waits for",
            &format!("{} at {}, for {}{until}", waiting_words(it), it.operation, age(it.since, now_ms)),
        );
    }
    for it in execution.callbacks().map(Vec::as_slice).unwrap_or_default() {
        let error = if it.last_error.is_empty() { String::new() } else { format!(", last error: {}", it.last_error) };
        field(
            text,
            "Answers to",
            &format!("{} ({}): {}, {} attempts{error}", it.fingerprint, it.receiver, it.state, it.attempts),
        );
    }
    for words in execution.usage().and_then(Option::as_ref).into_iter().flat_map(usage_words) {
        let (label, words) = words.split_once(' ').unwrap_or(("used", &words));
        let label = if label == "used" { "Used" } else { "Left" };
        field(text, label, words);
    }
    if let Some(problem) = execution.error().and_then(Option::as_ref) {
        section(text, "Error", &pretty(&baton_proto::to_json_value(problem)));
    }
    let value = |json: Option<&v1::Json>| json.and_then(|json| json.to_value().ok()).filter(|value| !value.is_null());
    if let Some(input) = value(execution.input()) {
        section(text, "Input", &limited(&input));
    }
    if let Some(output) = value(execution.output().and_then(Option::as_ref)) {
        section(text, "Output", &limited(&output));
    }
    if let Some(progress) = execution.progress().and_then(Option::as_ref).filter(|progress| !progress.recent.is_empty())
    {
        let mut rows = vec![["TASK", "KIND", "STATE", "WHERE"].map(str::to_owned).to_vec()];
        rows.extend(
            progress
                .recent
                .iter()
                .map(|it| vec![it.name.clone(), it.kind.clone(), it.state.clone(), it.position.clone()]),
        );
        section(
            text,
            &format!("Last tasks ({} started, {} ended)", progress.tasks_started, progress.tasks_ended),
            &aligned(&rows),
        );
    }
}

fn limited(value: &Value) -> String {
    let whole = pretty(value);
    if whole.chars().count() <= DATA_LENGTH_MAX { whole } else { format!("{} bytes; see it with -o json", whole.len()) }
}

fn field(text: &mut String, label: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(text, "{:<18}{}", format!("{label}:"), one_line(value));
    }
}

fn pairs<'a>(text: &mut String, label: &str, pairs: impl Iterator<Item = (&'a String, &'a String)>) {
    for (index, (key, value)) in pairs.enumerate() {
        let label = if index == 0 { format!("{label}:") } else { String::new() };
        let _ = writeln!(text, "{label:<18}{}={}", one_line(key), one_line(value));
    }
}

fn section(text: &mut String, label: &str, body: &str) {
    let _ = writeln!(text, "{label}:");
    for line in body.lines() {
        let _ = writeln!(text, "  {}", one_line(line));
    }
}

fn moment(time: Option<Timestamp>, now_ms: i64) -> String {
    time.map(|moment| format!("{moment} ({} ago)", age(Some(moment), now_ms))).unwrap_or_default()
}
