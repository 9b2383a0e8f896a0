//! From the document to the graph.
//!
//! The document is a checked one, but nothing here relies on that: what is not as expected is left out.

use serde_json::Value;

use super::{Block, Edge, Graph, Point, Reason, Role, Target, Task, short};
use crate::{
    Definition,
    document::enclosed,
    task::{KEYWORDS, escape},
};

/// Where a list of tasks is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Nested,
}

pub(super) fn graph(definition: &Definition) -> Graph {
    Graph {
        name: definition.name().to_owned(),
        version: definition.version().to_owned(),
        title: definition.title().map(str::to_owned),
        schedule: definition.schedule().map(|schedule| short(&schedule.to_string())),
        root: block(&definition.document()["do"], "/do", Role::Sequence, None, Level::Root),
    }
}

fn block(list: &Value, pointer: &str, role: Role, label: Option<String>, level: Level) -> Block {
    let items: Vec<(&str, &Value)> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item.as_object()?.iter().next().map(|(name, task)| (name.as_str(), task)))
        .collect();
    let tasks = items
        .iter()
        .enumerate()
        .map(|(index, (name, value))| task(name, value, &format!("{pointer}/{index}/{}", escape(name))))
        .collect();
    let edges = if role == Role::Branches { branches(&items) } else { sequence(&items, level) };
    Block { role, label, tasks, edges }
}

fn branches(items: &[(&str, &Value)]) -> Vec<Edge> {
    let edge = |from, to| Edge { from, to, label: None, reason: Reason::Next };
    (0..items.len())
        .flat_map(|index| [edge(Point::Start, Point::Task(index)), edge(Point::Task(index), Point::Exit)])
        .collect()
}

fn sequence(items: &[(&str, &Value)], level: Level) -> Vec<Edge> {
    let after = |index: usize| if index + 1 < items.len() { Point::Task(index + 1) } else { Point::Exit };
    let goes = |index: usize, then: Option<&str>| match then {
        None | Some("continue") => after(index),
        Some("exit") => Point::Exit,
        Some("end") if level == Level::Root => Point::Exit,
        Some("end") => Point::End,
        Some(name) => items.iter().position(|(other, _)| *other == name).map_or_else(|| after(index), Point::Task),
    };
    let mut edges = vec![Edge { from: Point::Start, to: Point::Task(0), label: None, reason: Reason::Next }];
    for (index, (_, task)) in items.iter().enumerate() {
        let from = Point::Task(index);
        let then = task["then"].as_str();
        let reason = if then.is_some_and(|then| then != "continue") { Reason::Then } else { Reason::Next };
        let is_raise = task.get("raise").is_some();
        let goes_on = !is_raise && task.get("switch").is_none() && goes(index, then) == after(index);
        // A task that is skipped goes on to the next, whatever its `then` says.
        if task.get("if").is_some() && !goes_on {
            edges.push(Edge { from, to: after(index), label: Some("skipped".to_owned()), reason: Reason::Next });
        }
        if is_raise {
            continue;
        }
        let cases =
            task["switch"].as_array().into_iter().flatten().filter_map(|case| case.as_object()?.values().next());
        let (mut is_switch, mut has_default) = (false, false);
        for case in cases {
            is_switch = true;
            let when = case["when"].as_str().map(|when| short(condition(when)));
            has_default |= when.is_none();
            let label = Some(when.unwrap_or_else(|| "default".to_owned()));
            edges.push(Edge { from, to: goes(index, case["then"].as_str()), label, reason: Reason::Case });
        }
        if !has_default {
            let label = is_switch.then(|| "else".to_owned());
            edges.push(Edge { from, to: goes(index, then), label, reason });
        }
    }
    edges
}

fn task(name: &str, value: &Value, pointer: &str) -> Task {
    let keyword = KEYWORDS.into_iter().find(|word| value.get(word).is_some()).unwrap_or_default();
    let (kind, detail, target) = describe(keyword, value);
    Task {
        pointer: pointer.to_owned(),
        name: name.to_owned(),
        kind,
        detail: detail.map(|detail| short(&detail)).filter(|detail| !detail.is_empty()),
        condition: value["if"].as_str().map(|text| short(condition(text))),
        awaits_callback: value["metadata"]["await"] == "callback",
        target,
        blocks: blocks(keyword, value, pointer),
    }
}

fn blocks(keyword: &str, value: &Value, pointer: &str) -> Vec<Block> {
    let nested = |list: &Value, path: &str, role, label| {
        list.is_array().then(|| block(list, &format!("{pointer}/{path}"), role, label, Level::Nested))
    };
    let found = match keyword {
        "do" => vec![nested(&value["do"], "do", Role::Sequence, None)],
        "for" => vec![nested(&value["do"], "do", Role::Loop, None)],
        "fork" => {
            let label = (value["fork"]["compete"] == true).then(|| "the first wins".to_owned());
            vec![nested(&value["fork"]["branches"], "fork/branches", Role::Branches, label)]
        }
        "try" => {
            let catch = &value["catch"];
            vec![
                nested(&value["try"], "try", Role::Try, None),
                nested(&catch["do"], "catch/do", Role::Catch, Some(caught(catch))),
            ]
        }
        "listen" => vec![nested(&value["foreach"]["do"], "foreach/do", Role::Loop, None)],
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

/// Which faults a `catch` is for.
fn caught(catch: &Value) -> String {
    let with = &catch["errors"]["with"];
    let mut parts: Vec<String> = ["type", "status", "instance", "title"]
        .into_iter()
        .filter_map(|field| match with.get(field)? {
            Value::String(text) if field == "type" => text.rsplit('/').next().map(str::to_owned),
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        })
        .collect();
    for (field, word) in [("when", "when"), ("exceptWhen", "except when")] {
        parts.extend(catch[field].as_str().map(|text| format!("{word} {}", condition(text))));
    }
    short(&if parts.is_empty() { "any fault".to_owned() } else { parts.join(" ") })
}

/// Kind, detail and target.
fn describe(keyword: &str, value: &Value) -> (String, Option<String>, Option<Target>) {
    let part = &value[keyword];
    let detail = match keyword {
        "call" => return describe_call(part.as_str().unwrap_or_default(), &value["with"]),
        "run" => return describe_run(part),
        "for" => {
            let each = part["each"].as_str().unwrap_or("item");
            let until = value["while"].as_str().map(|text| format!(" while {}", condition(text)));
            Some(format!("each {each} in {}{}", written(&part["in"]), until.unwrap_or_default()))
        }
        "fork" => (part["compete"] == true).then(|| "compete".to_owned()),
        "raise" => Some(match &part["error"] {
            Value::String(name) => name.clone(),
            error => format!("{} {}", last_part(&written(&error["type"])), written(&error["status"])),
        }),
        "set" => match part {
            Value::Object(fields) => Some(fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
            other => Some(written(other)),
        },
        "wait" => Some(duration(part)),
        "emit" => Some(written(&part["event"]["with"]["type"])),
        "listen" => Some(listened(&part["to"])),
        "try" => retried(&value["catch"]["retry"]),
        _ => None,
    };
    (keyword.to_owned(), detail, None)
}

fn describe_call(function: &str, with: &Value) -> (String, Option<String>, Option<Target>) {
    let address = |field: &str| match &with[field] {
        Value::Object(fields) => fields.get("uri").or_else(|| fields.get("endpoint")).map(written).unwrap_or_default(),
        other => written(other),
    };
    let kind = format!("call {function}");
    let detail = match function {
        "http" => format!("{} {}", written(&with["method"]).to_uppercase(), address("endpoint")),
        "grpc" => format!("{}/{}", written(&with["service"]["name"]), written(&with["method"])),
        "openapi" => written(&with["operationId"]),
        "asyncapi" => format!("{}{}", written(&with["operation"]), written(&with["channel"])),
        "a2a" => format!("{} {}", written(&with["method"]), address("server")),
        "mcp" => {
            let tool = &with["parameters"]["name"];
            format!("{} {}", written(&with["method"]), written(tool))
        }
        "baton.dev/agent" => {
            let name = with["agent"].as_str().filter(|name| enclosed(name).is_none());
            let target = name.map(|name| Target::Agent(name.to_owned()));
            let shown = match &with["agent"] {
                Value::Object(_) => "inline".to_owned(),
                other => written(other),
            };
            return (kind, Some(format!("agent {shown}")), target);
        }
        "baton.dev/echo" => String::new(),
        _ => return ("call function".to_owned(), Some(function.to_owned()), None),
    };
    (kind, Some(detail.trim().to_owned()), None)
}

fn describe_run(run: &Value) -> (String, Option<String>, Option<Target>) {
    let Some(what) = ["workflow", "container", "script", "shell"].into_iter().find(|what| run.get(what).is_some())
    else {
        return ("run".to_owned(), None, None);
    };
    let part = &run[what];
    let (detail, target) = match what {
        "workflow" => {
            let name = written(&part["name"]);
            (format!("{name} {}", written(&part["version"])), Some(Target::Workflow(name)))
        }
        "container" => (written(&part["image"]), None),
        "script" => (written(&part["language"]), None),
        _ => (written(&part["command"]), None),
    };
    let awaited = if run["await"] == false { ", not awaited" } else { "" };
    (format!("run {what}"), Some(format!("{}{awaited}", detail.trim())), target)
}

fn listened(to: &Value) -> String {
    let filters = |how: &str| match &to[how] {
        Value::Array(filters) => filters.iter().map(filter).collect::<Vec<_>>(),
        Value::Object(_) => vec![filter(&to[how])],
        _ => Vec::new(),
    };
    let Some(how) = ["one", "any", "all"].into_iter().find(|how| to.get(how).is_some()) else {
        return String::new();
    };
    let what = filters(how);
    if what.is_empty() { format!("{how} event") } else { format!("{how} of {}", what.join(", ")) }
}

fn filter(filter: &Value) -> String {
    let with = &filter["with"];
    ["type", "source", "subject"]
        .into_iter()
        .map(|name| written(&with[name]))
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| "events".to_owned())
}

fn retried(retry: &Value) -> Option<String> {
    match retry {
        Value::String(name) => Some(format!("retry {name}")),
        Value::Object(policy) => {
            let count = policy.get("limit").map(|limit| written(&limit["attempt"]["count"])).unwrap_or_default();
            let delay = policy.get("delay").map(duration).unwrap_or_default();
            let times = if count.is_empty() { String::new() } else { format!(" {count} times") };
            Some(if delay.is_empty() { format!("retry{times}") } else { format!("retry{times} after {delay}") })
        }
        _ => None,
    }
}

fn duration(value: &Value) -> String {
    match crate::document::duration_ms(value) {
        Ok(millis) => baton_types::format_duration(std::time::Duration::from_millis(millis)),
        Err(_) => written(value),
    }
}

/// A value as somebody wrote it; nothing for what is absent.
fn written(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    }
}

fn last_part(uri: &str) -> &str {
    uri.rsplit('/').next().unwrap_or(uri)
}

/// An expression without `${ }`.
fn condition(text: &str) -> &str {
    enclosed(text).unwrap_or(text).trim()
}
