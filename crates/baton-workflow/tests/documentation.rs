//! Every workflow in the documentation is one that can be created, and does what a reader would try.
//!
//! A block that begins with ```` ```yaml ```` is a whole document, one with ```` ```yaml fragment ```` a part of one. A whole one
//! is run to its end, everything that it asks for answered in the order in which it asks. What it is given and what it is answered
//! stands in a comment before the block:
//!
//! `<!-- run: {input: …, answers: […], events: […], ends: … } -->`
//!
//! Without a comment it is given nothing, and answered with empty objects. `ends` is the output, or the type of the fault as a text
//! that begins with `fault `; without it the workflow must complete.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::Path,
};

use baton_execution::{Command, Ending, OperationId};
use serde::Deserialize;
use serde_json::{Value, json};
use support::{Give, Session};

/// Inputs of one run; with more it does not end.
const INPUTS_MAX: usize = 100;

/// How a document is run.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    #[serde(default)]
    input: Value,
    /// What activities, children and tokens are answered, in order; after the last `{}`. `{fault: …}` is a fault of an activity.
    #[serde(default)]
    answers: VecDeque<Value>,
    /// What is heard, one at a time.
    #[serde(default)]
    events: VecDeque<Value>,
    ends: Option<Value>,
    /// Events so far.
    #[serde(skip)]
    heard: usize,
}

struct Block {
    place: String,
    whole: bool,
    document: Value,
    run: Run,
}

fn pages(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            into.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

fn blocks() -> Vec<Block> {
    let mut found = Vec::new();
    pages(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/workflows"), &mut found);
    found.sort();
    let mut blocks = Vec::new();
    for (page, text) in &found {
        let page = page.rsplit_once("docs/workflows/").map_or(page.as_str(), |(_, page)| page);
        let (mut lines, mut run) = (text.lines().enumerate(), Run::default());
        while let Some((number, line)) = lines.next() {
            let place = format!("{page}:{}", number + 1);
            if let Some(said) = line.trim().strip_prefix("<!-- run:") {
                run = serde_yaml_ng::from_str(said.trim_end_matches("-->"))
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
            }
            let Some(kind) = line.trim().strip_prefix("```yaml") else { continue };
            let block: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim().starts_with("```")).collect();
            let document =
                serde_yaml_ng::from_str(&block.join("\n")).unwrap_or_else(|error| panic!("{place}: {error}"));
            blocks.push(Block { place, whole: kind.trim().is_empty(), document, run: std::mem::take(&mut run) });
        }
    }
    blocks
}

#[test]
fn workflows_in_the_documentation_are_accepted_and_run() {
    let (mut whole, mut wrong) = (0, Vec::new());
    for block in blocks().into_iter().filter(|block| block.whole) {
        whole += 1;
        let document = support::with_externals(&block.document);
        match baton_workflow::check(&document) {
            Err(says) => wrong.push(format!("{}: {says:#?}", block.place)),
            Ok(_) => wrong.extend(run(&document, block.run).err().map(|says| format!("{}: {says}", block.place))),
        }
    }
    assert!(whole > 25, "{whole} workflows");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A part of a document with what stands around it; `None` for what is no part of one.
fn completed(part: &Value) -> Option<Value> {
    let service = json!({"name": "a.B", "host": "localhost"});
    let resource = json!({"endpoint": "https://example.com/"});
    let call = |kind: &str, with: Value| json!([{"part": {"call": kind, "with": with}}]);
    let mut document = json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "part", "version": "1.0.0"},
        "do": [{"part": {"set": {"a": 1}}}, {"giveUp": {"set": {"b": 2}}}],
    });
    let Value::Object(fields) = part else {
        let tasks = part.as_array()?.iter().cloned().chain([document["do"][1].clone()]);
        document["do"] = tasks.collect();
        document["use"]["secrets"] = secrets();
        return Some(document);
    };
    let value = |name: &str| fields.get(name).cloned().unwrap_or_default();
    match fields.keys().next()?.as_str() {
        "do" | "use" | "input" => document.as_object_mut()?.extend(fields.clone()),
        "with" => document["do"] = call("a2a", value("with")),
        "transport" => document["do"] = call("mcp", json!({"method": "tools/list", "transport": value("transport")})),
        "proto" => document["do"] = call("grpc", json!({"proto": value("proto"), "service": service, "method": "C"})),
        "parameters" => {
            let with = json!({"document": resource, "operationId": "a", "parameters": value("parameters")});
            document["do"] = call("openapi", with);
        }
        _ => return None,
    }
    document["use"]["secrets"] = secrets();
    Some(document)
}

/// Those that parts of documents name.
fn secrets() -> Value {
    json!(["token", "catalog-token", "pets"])
}

#[test]
fn parts_of_workflows_in_the_documentation_are_accepted() {
    let (mut parts, mut wrong) = (0, Vec::new());
    for block in blocks().into_iter().filter(|block| !block.whole) {
        let Some(document) = completed(&block.document) else { continue };
        parts += 1;
        if let Err(says) = baton_workflow::check(&support::with_externals(&document)) {
            wrong.push(format!("{}: {says:#?}", block.place));
        }
    }
    assert!(parts > 10, "{parts} parts");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs a document as it is said, and tells how it ended otherwise. Time passes only when nothing else happens.
fn run(document: &Value, mut run: Run) -> Result<(), String> {
    let mut session = Session::new(document, &BTreeMap::new());
    let mut given = VecDeque::from([Give::Start(run.input.take())]);
    let mut timers = BTreeSet::new();
    for _ in 0..INPUTS_MAX {
        let give = given.pop_front().or_else(|| {
            let (due_ms, id) = timers.pop_first()?;
            session.advance(due_ms - session.now_ms());
            Some(Give::Fired(id))
        });
        let Some(give) = give else { return Err("it waits for nothing".to_owned()) };
        for command in session.commands(&give) {
            match command {
                Command::End(ending) => return judge(ending, run.ends.as_ref()),
                Command::StartTimer { id, due_ms } => _ = timers.insert((due_ms, at(&id))),
                Command::CancelTimer { id } => timers.retain(|(_, other)| *other != at(&id)),
                other => given.extend(answer(&other, &mut run)),
            }
        }
    }
    Err("it does not end".to_owned())
}

fn at(id: &OperationId) -> String {
    format!("{}#{}", id.position, id.attempt)
}

fn answer(command: &Command, run: &mut Run) -> Option<Give> {
    Some(match command {
        Command::ScheduleActivity(activity) if activity.activity == "subscribe" => return None,
        Command::ScheduleActivity(activity) if activity.activity == "emit" => {
            Give::Completed { at: at(&activity.id), output: activity.input["event"].clone() }
        }
        Command::ScheduleActivity(activity) => match run.next() {
            Value::Object(mut fields) if fields.contains_key("fault") => {
                Give::Failed { at: at(&activity.id), fault: fields["fault"].take() }
            }
            output => Give::Completed { at: at(&activity.id), output },
        },
        Command::StartChild(child) if child.awaited => Give::Answered { at: at(&child.id), output: run.next() },
        Command::AwaitCallback { id, .. } => {
            Give::Answered { at: at(id), output: run.heard().unwrap_or_else(|| run.next()) }
        }
        _ => return None,
    })
}

impl Run {
    /// The next answer.
    fn next(&mut self) -> Value {
        self.answers.pop_front().unwrap_or_else(|| json!({}))
    }

    /// The next event, as the bus tells it.
    fn heard(&mut self) -> Option<Value> {
        let mut event = self.events.pop_front()?;
        self.heard += 1;
        let cursor = self.heard.to_string();
        for (name, value) in [("specversion", "1.0"), ("id", &cursor), ("source", "/")] {
            event[name] = value.into();
        }
        Some(json!({"events": [{"event": event, "cursor": cursor}], "cursor": cursor}))
    }
}

fn judge(ending: Ending, expected: Option<&Value>) -> Result<(), String> {
    match (ending, expected) {
        (Ending::Completed { .. }, None) => Ok(()),
        (Ending::Completed { output }, Some(expected)) if output == *expected => Ok(()),
        (Ending::Failed { fault, .. }, Some(Value::String(expected)))
            if expected.strip_prefix("fault ").is_some_and(|kind| fault.kind.ends_with(kind)) =>
        {
            Ok(())
        }
        (other, _) => Err(format!("{other:?}")),
    }
}
