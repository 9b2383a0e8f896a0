//! Runs definitions in the harness, and writes commands as lines that people can read.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{collections::BTreeMap, sync::Arc};

use baton_execution::{
    ChildTarget, Command, Effect, Ending, Fault, Input, Note, OperationId, Outcome, Progress, Start, testing::Harness,
};
use baton_types::Uid;
use baton_workflow::ExternalKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An input, as transcripts write it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Give {
    Start(Value),
    Completed { at: String, output: Value },
    Failed { at: String, fault: Value },
    Fired(String),
    Answered { at: String, output: Value },
    AnsweredFault { at: String, fault: Value },
    AnsweredCancelled { at: String, reason: String },
    Cancel(String),
    Timeout,
}

pub(crate) struct Session {
    harness: Harness,
    env: BTreeMap<String, String>,
    start_ms: i64,
}

impl Session {
    pub(crate) fn new(definition: &Value, env: &BTreeMap<String, String>) -> Self {
        let definition = match baton_workflow::check(definition) {
            Ok(definition) => Arc::new(definition),
            Err(violations) => panic!("{}", violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        };
        let again = Arc::clone(&definition);
        let harness = Harness::new(
            move || Box::new(baton_workflow::load(Arc::clone(&definition))),
            move |snapshot| Box::new(baton_workflow::restore(Arc::clone(&again), snapshot).expect("its own snapshot")),
        );
        let start_ms = harness.now_ms;
        Self { harness, env: env.clone(), start_ms }
    }

    pub(crate) fn advance(&mut self, millis: i64) {
        self.harness.now_ms += millis;
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.harness.now_ms
    }

    pub(crate) fn progress(&self) -> Progress {
        self.harness.program().progress()
    }

    pub(crate) fn commands(&mut self, give: &Give) -> Vec<Command> {
        let input = self.input(give);
        self.harness.give(input)
    }

    /// Gives an input and writes down the commands, one a line.
    pub(crate) fn give(&mut self, give: &Give) -> String {
        let commands = self.commands(give);
        commands.iter().map(|command| self.line(command) + "\n").collect()
    }

    fn input(&self, give: &Give) -> Input {
        let fault = |value: &Value| serde_json::from_value::<Fault>(value.clone()).unwrap();
        match give.clone() {
            Give::Start(input) => Input::Started(Start {
                uid: Uid::from_bytes([7; 16]),
                namespace: "default".to_owned(),
                name: "run".to_owned(),
                input,
                env: self.env.clone(),
                settings: Value::Null,
                grant: None,
                carried_over: Value::Null,
            }),
            Give::Completed { at, output } => Input::ActivityCompleted { id: operation(&at), output },
            Give::Failed { at, fault: found } => Input::ActivityFailed { id: operation(&at), fault: fault(&found) },
            Give::Fired(at) => Input::TimerFired { id: operation(&at) },
            Give::Answered { at, output } => {
                Input::CallbackAnswered { id: operation(&at), outcome: Outcome::Completed(output), used: None }
            }
            Give::AnsweredFault { at, fault: found } => {
                Input::CallbackAnswered { id: operation(&at), outcome: Outcome::Failed(fault(&found)), used: None }
            }
            Give::AnsweredCancelled { at, reason } => {
                Input::CallbackAnswered { id: operation(&at), outcome: Outcome::Cancelled { reason }, used: None }
            }
            Give::Cancel(reason) => Input::CancelRequested { reason },
            Give::Timeout => Input::TimeoutReached,
        }
    }

    fn line(&self, command: &Command) -> String {
        let time = |ms: i64| format!("t+{}", ms - self.start_ms);
        match command {
            Command::ScheduleActivity(activity) => {
                let once = if activity.effect == Effect::Once { " once" } else { "" };
                format!(
                    "activity {} {}{once} within {} {}",
                    activity.id,
                    activity.activity,
                    activity.start_to_close_ms,
                    visible(&activity.input)
                )
            }
            Command::CancelActivity { id } => format!("cancel activity {id}"),
            Command::StartTimer { id, due_ms } => format!("timer {id} {}", time(*due_ms)),
            Command::CancelTimer { id } => format!("cancel timer {id}"),
            Command::AwaitCallback { id, heartbeat_timeout_ms, expires_ms } => {
                let heartbeat = heartbeat_timeout_ms.map(|ms| format!(" heartbeat {ms}")).unwrap_or_default();
                format!("await {id} until {}{heartbeat}", time(*expires_ms))
            }
            Command::Ask(question) => format!("ask {} {}", question.id, question.tool),
            Command::CloseWait { id } => format!("close wait {id}"),
            Command::StartChild(child) => {
                let target = match &child.target {
                    ChildTarget::Named { name, version } => format!("{name} {}", version.as_deref().unwrap_or("any")),
                    ChildTarget::Inline(spec) => spec.to_string(),
                };
                let mut line = format!("child {} {:?} {target} input {}", child.id, child.kind, child.input);
                for (name, value) in [("message", &child.message), ("session", &child.session)] {
                    line += &value.as_ref().map(|value| format!(" {name} {value:?}")).unwrap_or_default();
                }
                if !child.env.is_empty() {
                    line += &format!(" env {:?}", child.env);
                }
                if !child.limits.is_null() {
                    line += &format!(" limits {}", child.limits);
                }
                line += &child.timeout_ms.map(|ms| format!(" timeout {ms}")).unwrap_or_default();
                line += &child.expires_ms.map(|ms| format!(" until {}", time(ms))).unwrap_or_default();
                format!("{line} {:?}{}", child.parent_close_policy, if child.awaited { " awaited" } else { "" })
            }
            Command::Note(note) => note_line(note),
            Command::End(ending) => match ending {
                Ending::Completed { output } => format!("END completed {output}"),
                Ending::Failed { fault, .. } => format!("END failed {}", serde_json::to_string(fault).unwrap()),
                Ending::Cancelled { reason, .. } => format!("END cancelled {reason}"),
                Ending::TimedOut { .. } => "END timed out".to_owned(),
            },
        }
    }
}

fn note_line(note: &Note) -> String {
    match note {
        Note::TaskStarted { position, kind, attempt, .. } => format!("> {position}#{attempt} {kind}"),
        Note::TaskCompleted { position } => format!("< {position}"),
        Note::TaskSkipped { position, .. } => format!("- {position}"),
        Note::TaskFaulted { position, fault } => format!("! {position} {} {}", fault.status, fault.kind),
        Note::TaskCancelled { position } => format!("x {position}"),
        Note::TaskRetried { position, attempt, delay_ms } => format!("~ {position} attempt {attempt} after {delay_ms}"),
        Note::Message { .. } => "message".to_owned(),
        Note::Artifact { name, .. } => format!("artifact {name}"),
    }
}

/// Data with the characters around placeholders made visible.
fn visible(value: &Value) -> String {
    value.to_string().replace(['\u{e000}', '\u{fdd0}'], "<").replace(['\u{e001}', '\u{fdd1}'], ">")
}

/// `/do/0/a#2` as an id; without a number the attempt is 1.
fn operation(text: &str) -> OperationId {
    match text.rsplit_once('#') {
        Some((position, attempt)) => OperationId::new(position, attempt.parse().unwrap()),
        None => OperationId::new(text, 1),
    }
}

/// A definition with these tasks, in YAML.
pub(crate) fn definition(tasks: &str) -> Value {
    let head = "document: {dsl: '1.0.3', namespace: default, name: test, version: '1.0.0'}\n";
    let indent =
        tasks.lines().find(|line| !line.trim().is_empty()).map_or(0, |line| line.len() - line.trim_start().len());
    let lines: Vec<&str> = tasks.lines().map(|line| line.get(indent..).unwrap_or_default()).collect();
    serde_yaml_ng::from_str(&format!("{head}{}", lines.join("\n"))).unwrap()
}

/// A document with something in place of everything that it refers to and that is kept elsewhere.
pub(crate) fn with_externals(document: &Value) -> Value {
    let mut document = document.clone();
    for external in baton_workflow::externals(&document) {
        document[baton_workflow::RESOURCES][external.uri] = match external.kind {
            ExternalKind::File => json!("syntax = \"proto3\";"),
            ExternalKind::Function | ExternalKind::Schema => json!({"set": {"x": 1}}),
        };
    }
    document
}
