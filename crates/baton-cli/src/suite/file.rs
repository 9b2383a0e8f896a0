//! The form of test files, and how they are read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use baton_proto::{JsonError, from_json_value};
use baton_server::{
    check_workflow,
    rehearsal::{APPROVAL, Answer, Arrival, Fault, Reply, Script, fault_type},
};
use baton_types::{Violation, parse_duration};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::subject::Subject;
use crate::{
    failure::{Failure, Finding},
    kind::Object,
    manifest::{self, Content, Manifest},
    offline,
    yaml::Origin,
};

/// Cases of one file.
const CASES_MAX: usize = 10_000;

/// A test file.
pub(crate) struct Suite {
    /// Its path.
    pub(crate) file: String,
    /// File of the workflow or agent.
    pub(crate) subject_file: String,
    pub(crate) subject: Subject,
    pub(crate) cases: Vec<Case>,
}

/// One rehearsal with what is expected of it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) script: Script,
    /// How many answers of the script are from `calls`; those of `approvals` come after them.
    pub(crate) calls: usize,
    /// The turns of the model, for an agent; without them the agent's own playback is played.
    pub(crate) turns: Option<Value>,
    pub(crate) expect: Expect,
}

#[derive(Deserialize)]
struct Document {
    /// Either this or `agent`.
    workflow: Option<String>,
    agent: Option<String>,
    name: Option<String>,
    /// Files by the URI that the workflow has for them.
    #[serde(default)]
    resources: BTreeMap<String, String>,
    cases: Vec<WrittenCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenCase {
    name: String,
    #[serde(default)]
    input: Value,
    /// Agents only, as the two after it.
    message: Option<String>,
    #[serde(default)]
    limits: Value,
    turns: Option<Value>,
    #[serde(default)]
    approvals: Vec<WrittenDecision>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    calls: Vec<WrittenAnswer>,
    #[serde(default)]
    events: Vec<WrittenEvent>,
    cancel: Option<WrittenCancel>,
    timeout: Option<String>,
    #[serde(default)]
    expect: Expect,
}

#[derive(Deserialize)]
struct WrittenAnswer {
    task: Option<String>,
    r#match: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    returns: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    fails: Option<Value>,
    cancelled: Option<String>,
    #[serde(default)]
    silent: bool,
    after: Option<String>,
    times: Option<Value>,
}

/// What a person says to a question of an agent.
#[derive(Deserialize)]
struct WrittenDecision {
    tool: Option<String>,
    /// What the arguments must hold.
    r#match: Option<Value>,
    choice: Option<String>,
    reason: Option<String>,
    arguments: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    result: Option<Value>,
    #[serde(default)]
    silent: bool,
    after: Option<String>,
}

#[derive(Deserialize)]
struct WrittenEvent {
    after: Option<String>,
    event: Value,
}

#[derive(Deserialize)]
struct WrittenCancel {
    after: Option<String>,
    #[serde(default)]
    reason: String,
}

/// What a case is to come to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Expect {
    /// The output, exactly.
    #[serde(default, deserialize_with = "given")]
    pub(crate) output: Option<Value>,
    /// What the output holds.
    #[serde(default, deserialize_with = "given")]
    pub(crate) output_contains: Option<Value>,
    /// What the fault holds that ends it.
    #[serde(default, deserialize_with = "given")]
    pub(crate) fault: Option<Value>,
    /// `Completed`, `Failed`, `Cancelled` or `TimedOut`.
    pub(crate) ended: Option<String>,
    /// Tasks in the order in which they begin; others may come between.
    #[serde(default)]
    pub(crate) tasks: Vec<Value>,
    /// Tasks that do not run.
    #[serde(default)]
    pub(crate) never: Vec<String>,
    /// Calls in their order; others may come between.
    #[serde(default)]
    pub(crate) calls: Vec<ExpectedCall>,
    /// Simulated time until the end.
    pub(crate) elapsed: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum ExpectedCall {
    Task(String),
    Call {
        task: Option<String>,
        activity: Option<String>,
        #[serde(default)]
        input: Option<Value>,
    },
}

/// A field that is there, even if it is `null`.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Reads test files and the workflows that they are for.
pub(crate) fn load(paths: &[PathBuf]) -> Result<Vec<Suite>, Failure> {
    let (documents, mut findings) = manifest::documents(paths, manifest::Which::Tests)?;
    let mut suites = Vec::new();
    for document in documents {
        let origin = document.origin;
        match read(document.value, &document.folder) {
            Ok((subject_file, subject, cases)) => suites.push(Suite {
                file: origin.to_string(),
                subject_file: subject_file.display().to_string(),
                subject,
                cases,
            }),
            Err(Wrong::Here(violations)) => {
                findings.extend(violations.into_iter().map(|it| Finding::within(it, &origin)));
            }
            Err(Wrong::Elsewhere(found)) => findings.extend(found),
        }
    }
    if findings.is_empty() { Ok(suites) } else { Err(Failure::findings(findings)) }
}

/// Where what is wrong stands.
enum Wrong {
    /// In the test file.
    Here(Vec<Violation>),
    /// In the file of the workflow or agent.
    Elsewhere(Vec<Finding>),
}

impl From<Violation> for Wrong {
    fn from(violation: Violation) -> Self {
        Self::Here(vec![violation])
    }
}

fn read(value: Value, folder: &Path) -> Result<(PathBuf, Subject, Vec<Case>), Wrong> {
    let document: Document = from_json_value(value).map_err(|error| match error {
        JsonError::Fields(violations) => Wrong::Here(violations),
        JsonError::Syntax(what) => Violation::new("", what).into(),
    })?;
    if document.cases.len() > CASES_MAX {
        let says = format!("holds {} cases, allowed are {CASES_MAX}", document.cases.len());
        return Err(Violation::new("cases", says).into());
    }
    let (field, file) = match (&document.workflow, &document.agent) {
        (Some(file), None) => ("workflow", file),
        (None, Some(file)) => ("agent", file),
        _ => return Err(Violation::new("", "must have one of 'workflow' and 'agent', the file that is tested").into()),
    };
    let mut violations = Vec::new();
    let mut cases = Vec::new();
    for (index, case) in document.cases.into_iter().enumerate() {
        cases.push(read_case(case, field == "agent", &format!("cases[{index}]"), &mut violations));
    }
    if !violations.is_empty() {
        return Err(Wrong::Here(violations));
    }
    let path = match folder.to_str() {
        Some(".") => PathBuf::from(file),
        _ => folder.join(file),
    };
    let resources = resources(&document.resources, folder)?;
    let chosen = chosen(&path, field, document.name.as_deref())?;
    let subject = match field {
        "agent" => Subject::agent(chosen.name.clone(), chosen.spec.clone()),
        _ => workflow(&chosen.spec, resources),
    };
    let subject = subject.map_err(|violations| chosen.wrong(violations))?;
    for (index, case) in cases.iter().enumerate() {
        let checked = subject.check_turns(case.turns.as_ref());
        violations.extend(checked.err().into_iter().flatten().map(|it| it.under(&format!("cases[{index}]"))));
    }
    if !violations.is_empty() {
        return Err(Wrong::Here(violations));
    }
    Ok((path, subject, cases))
}

/// What the workflow refers to and is kept elsewhere, from files beside the test.
fn resources(files: &BTreeMap<String, String>, folder: &Path) -> Result<Map<String, Value>, Wrong> {
    let mut resources = Map::new();
    for (uri, file) in files {
        let path = folder.join(file);
        let field = format!("resources.{uri}");
        let text = manifest::read_bytes(&path).map_err(|failure| Violation::new(&field, failure.plain()))?;
        let shown = path.display().to_string();
        let mut documents =
            manifest::text::parse_yaml(&shown, &text).map_err(|failure| Violation::new(&field, failure.plain()))?;
        match documents.len() {
            1 => resources.insert(uri.clone(), documents.remove(0)),
            count => return Err(Violation::new(&field, format!("'{shown}' holds {count} documents, not one")).into()),
        };
    }
    Ok(resources)
}

/// What is tested, as its file has it.
struct Chosen {
    origin: Origin,
    name: String,
    spec: Value,
}

impl Chosen {
    /// What is wrong with it, with paths within its spec.
    fn wrong(&self, violations: Vec<Violation>) -> Wrong {
        Wrong::Elsewhere(violations.into_iter().map(|it| Finding::within(it.under("spec"), &self.origin)).collect())
    }
}

/// The workflow or agent (`what`) of a file; of several, the one of that name.
fn chosen(path: &Path, what: &'static str, name: Option<&str>) -> Result<Chosen, Wrong> {
    let manifests = manifest::load(&[path.to_owned()]).map_err(|failure| match failure.into_findings() {
        Ok(findings) => Wrong::Elsewhere(findings),
        Err(failure) => Violation::new(what, failure.plain()).into(),
    })?;
    let found = manifests.iter().filter_map(|manifest| {
        let (name, spec) = if what == "agent" { agent_of(manifest)? } else { workflow_of(manifest)? };
        Some(Chosen { origin: manifest.origin.clone(), name, spec })
    });
    let mut found: Vec<Chosen> = found.collect();
    let names: Vec<String> = found.iter().map(|one| format!("'{}'", one.name)).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let shown = path.display();
    if let Some(name) = name {
        found.retain(|one| one.name == name);
        if found.is_empty() {
            let says = format!("no {what} '{name}' in '{shown}'; {what}s there are {names}");
            return Err(Violation::new("name", says).into());
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Violation::new(what, format!("'{shown}' holds no {what}")).into()),
        _ => Err(Violation::new(what, format!("'{shown}' holds several; say which by 'name': {names}")).into()),
    }
}

fn workflow(spec: &Value, mut resources: Map<String, Value>) -> Result<Subject, Vec<Violation>> {
    if let Some(Value::Object(own)) = spec.get("resources") {
        resources.extend(own.clone());
    }
    let document = offline::with_resources(&spec["definition"], resources);
    let checked = check_workflow(&document)
        .map_err(|violations| violations.into_iter().map(|it| it.under("definition")).collect::<Vec<_>>());
    Ok(Subject::Workflow(Arc::new(checked?)))
}

/// Name and spec, if it is an agent.
fn agent_of(manifest: &Manifest) -> Option<(String, Value)> {
    match &manifest.content {
        Content::BareAgent(spec) => Some((manifest.stem(), spec.clone())),
        Content::Resource(object @ Object::Agent(_)) => {
            Some((object.name().to_owned(), object.to_json().get("spec").cloned().unwrap_or_default()))
        }
        Content::Resource(_) | Content::BareWorkflow(_) | Content::Run(_) => None,
    }
}

/// Name and spec, if it is a workflow.
pub(crate) fn workflow_of(manifest: &Manifest) -> Option<(String, Value)> {
    match &manifest.content {
        Content::BareWorkflow(document) => {
            let name = document.pointer("/document/name").and_then(Value::as_str).unwrap_or_default();
            Some((name.to_owned(), offline::spec_of(document)))
        }
        Content::Resource(object @ Object::Workflow(_)) => {
            Some((object.name().to_owned(), object.to_json().get("spec").cloned().unwrap_or_default()))
        }
        Content::Resource(_) | Content::BareAgent(_) | Content::Run(_) => None,
    }
}

fn read_case(case: WrittenCase, is_agent: bool, path: &str, violations: &mut Vec<Violation>) -> Case {
    let WrittenCase {
        name,
        mut input,
        message,
        limits,
        turns,
        approvals,
        env,
        calls,
        events,
        cancel,
        timeout,
        mut expect,
    } = case;
    if is_agent {
        input = json!({"message": message, "input": input});
    } else {
        let given = [
            ("message", message.is_some()),
            ("limits", !limits.is_null()),
            ("turns", turns.is_some()),
            ("approvals", !approvals.is_empty()),
        ];
        for (field, _) in given.into_iter().filter(|(_, given)| *given) {
            violations.push(Violation::new(format!("{path}.{field}"), "is for agents only"));
        }
    }
    let mut answers: Vec<Answer> = calls
        .into_iter()
        .enumerate()
        .map(|(index, answer)| read_answer(answer, &format!("{path}.calls[{index}]"), violations))
        .collect();
    let calls = answers.len();
    for (index, decision) in approvals.into_iter().enumerate() {
        answers.push(read_decision(decision, &format!("{path}.approvals[{index}]"), violations));
    }
    let events = events
        .into_iter()
        .enumerate()
        .map(|(index, event)| {
            let path = format!("{path}.events[{index}]");
            Arrival {
                after_ms: millis(event.after.as_deref(), &format!("{path}.after"), violations),
                event: complete(event.event, index, &format!("{path}.event"), violations),
            }
        })
        .collect();
    let cancel = cancel
        .map(|cancel| (millis(cancel.after.as_deref(), &format!("{path}.cancel.after"), violations), cancel.reason));
    let timeout_ms = timeout.map(|timeout| millis(Some(&timeout), &format!("{path}.timeout"), violations));
    if let Some(elapsed) = &expect.elapsed {
        millis(Some(elapsed), &format!("{path}.expect.elapsed"), violations);
    }
    if let Some(ended) = expect.ended.as_deref()
        && !["Completed", "Failed", "Cancelled", "TimedOut"].contains(&ended)
    {
        let says = format!("is '{ended}', allowed are 'Completed', 'Failed', 'Cancelled' and 'TimedOut'");
        violations.push(Violation::new(format!("{path}.expect.ended"), says));
    }
    expect.fault = expect.fault.map(with_full_type);
    let script = Script { input, env, limits, answers, events, cancel, timeout_ms };
    Case { name, script, calls, turns, expect }
}

/// What a fault must hold, with the whole of its type.
fn with_full_type(fault: Value) -> Value {
    match fault {
        Value::String(word) => json!({"type": full_type(&word)}),
        Value::Object(mut fields) => {
            if let Some(Value::String(word)) = fields.get_mut("type") {
                *word = full_type(word);
            }
            Value::Object(fields)
        }
        other => other,
    }
}

/// What a person says, as an answer to the question.
fn read_decision(decision: WrittenDecision, path: &str, violations: &mut Vec<Violation>) -> Answer {
    let WrittenDecision { tool, r#match, choice, reason, arguments, result, silent, after } = decision;
    let mut said = Map::new();
    for (name, value) in [("choice", choice.map(Value::from)), ("reason", reason.map(Value::from))]
        .into_iter()
        .chain([("arguments", arguments), ("result", result)])
    {
        said.extend(value.map(|value| (name.to_owned(), value)));
    }
    if silent == said.contains_key("choice") {
        let says = "must have one of 'choice' (approve, deny, retry, result or fail) and 'silent'";
        violations.push(Violation::new(path, says));
    }
    let mut wanted = Map::new();
    wanted.extend(tool.map(|tool| ("tool".to_owned(), tool.into())));
    wanted.extend(r#match.map(|arguments| ("arguments".to_owned(), arguments)));
    Answer {
        task: Some(APPROVAL.to_owned()),
        matches: Some(Value::Object(wanted)),
        after_ms: millis(after.as_deref(), &format!("{path}.after"), violations),
        reply: if silent { Reply::Silent } else { Reply::Returns(Value::Object(said)) },
        times: Some(1),
    }
}

fn read_answer(answer: WrittenAnswer, path: &str, violations: &mut Vec<Violation>) -> Answer {
    let WrittenAnswer { task, r#match, returns, fails, cancelled, silent, after, times } = answer;
    let mut replies = Vec::new();
    replies.extend(returns.map(Reply::Returns));
    if let Some(fails) = fails {
        match read_fault(fails) {
            Ok(fault) => replies.push(Reply::Fails(fault)),
            Err(says) => {
                violations.push(Violation::new(format!("{path}.fails"), says));
                replies.push(Reply::Silent);
            }
        }
    }
    replies.extend(cancelled.map(Reply::Cancelled));
    replies.extend(silent.then_some(Reply::Silent));
    if replies.len() != 1 {
        let found = if replies.is_empty() { "has none" } else { "has several" };
        let says = format!("{found} of 'returns', 'fails', 'cancelled' and 'silent'; it must have one");
        violations.push(Violation::new(path, says));
    }
    let times = match times {
        None => Some(1),
        Some(Value::String(word)) if word == "any" => None,
        Some(other) => {
            let times = other.as_u64().and_then(|times| u32::try_from(times).ok()).filter(|times| *times > 0);
            if times.is_none() {
                let says = "must be a number of 1 or more, or 'any'";
                violations.push(Violation::new(format!("{path}.times"), says));
            }
            times
        }
    };
    Answer {
        task,
        matches: r#match,
        after_ms: millis(after.as_deref(), &format!("{path}.after"), violations),
        reply: replies.into_iter().next().unwrap_or(Reply::Silent),
        times,
    }
}

/// A fault: the name of a standard type, or its fields.
fn read_fault(value: Value) -> Result<Fault, String> {
    let mut fields = match value {
        Value::String(word) => json!({"type": word}),
        fields @ Value::Object(_) => fields,
        _ => return Err("must be the type of a fault or an object with 'type' and 'status'".to_owned()),
    };
    let Some(word) = fields["type"].as_str().map(str::to_owned) else {
        return Err("must have a 'type', such as 'communication' or a URI".to_owned());
    };
    fields["type"] = full_type(&word).into();
    if fields["status"].is_null() {
        fields["status"] = standard(&word).map_or(500, |(_, status)| status).into();
    }
    from_json_value(fields).map_err(|error| match error {
        JsonError::Fields(violations) => violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        JsonError::Syntax(says) => says,
    })
}

/// Type and status of a standard fault, by the last word of its type.
fn standard(word: &str) -> Option<(&'static str, u16)> {
    Some(match word {
        "configuration" => (fault_type::CONFIGURATION, 400),
        "validation" => (fault_type::VALIDATION, 400),
        "expression" => (fault_type::EXPRESSION, 400),
        "authentication" => (fault_type::AUTHENTICATION, 401),
        "authorization" => (fault_type::AUTHORIZATION, 403),
        "timeout" => (fault_type::TIMEOUT, 408),
        "communication" => (fault_type::COMMUNICATION, 500),
        "runtime" => (fault_type::RUNTIME, 500),
        "cancelled" => (fault_type::CANCELLED, 499),
        _ => return None,
    })
}

fn full_type(word: &str) -> String {
    standard(word).map_or_else(|| word.to_owned(), |(full, _)| full.to_owned())
}

/// A CloudEvent with the attributes that every one has.
fn complete(event: Value, index: usize, path: &str, violations: &mut Vec<Violation>) -> Value {
    let Value::Object(mut fields) = event else {
        violations.push(Violation::new(path, "must be an object, a CloudEvent"));
        return Value::Null;
    };
    if !fields.get("type").is_some_and(Value::is_string) {
        violations.push(Violation::new(format!("{path}.type"), "is required"));
    }
    for (name, value) in
        [("specversion", "1.0".to_owned()), ("id", format!("event-{}", index + 1)), ("source", "/test".to_owned())]
    {
        fields.entry(name).or_insert(Value::String(value));
    }
    Value::Object(fields)
}

fn millis(text: Option<&str>, path: &str, violations: &mut Vec<Violation>) -> u64 {
    match text.map(parse_duration) {
        None => 0,
        Some(Ok(duration)) => u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        Some(Err(says)) => {
            violations.push(Violation::new(path, says));
            0
        }
    }
}
