//! Everything a run remembers, as data.

use baton_execution::{Account, ArtifactSummary, OperationId, QuestionKind, TaskSummary, Usage};
use baton_types::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{budget::Bound, loops::Trail, session::Turn};
use crate::{
    limits::Limits,
    model::{Message, Price, ToolCall},
    servers::{Listed, PinnedServer},
    session::Spoken,
    tools::Exchange,
};

/// Changes when an older snapshot cannot be read any more; engines then replay from the start.
pub(super) const SNAPSHOT_FORMAT: u32 = 1;
/// Tasks that `status` shows.
const RECENT_MAX: usize = 8;

#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub(super) format: u32,
    pub(super) stage: Stage,
    /// Limits of this execution.
    pub(super) limits: Limits,
    /// Turns begun.
    pub(super) turn: u32,
    pub(super) conversation: Conversation,
    pub(super) usage: Usage,
    /// Times in a row that the model was asked for a better answer.
    pub(super) repairs: u32,
    /// What the model said last: the partial output.
    pub(super) last_text: Option<String>,
    pub(super) streak: Option<Streak>,
    pub(super) timeline: Timeline,
    /// What the servers of the agent had when the execution began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) servers: Vec<PinnedServer>,
    /// Whether a call has given a result: whoever wrote it may speak through the model from then on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) untrusted: bool,
    /// What the execution and those below it may use.
    #[serde(default)]
    pub(super) account: Account,
    /// Of the model and its fallbacks, where money is limited.
    #[serde(default)]
    pub(super) prices: Vec<Option<Price>>,
    /// How often a person was asked to extend limits.
    #[serde(default)]
    pub(super) extensions_asked: u32,
    #[serde(default)]
    pub(super) trail: Trail,
    /// If this is a turn of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<Turn>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) artifacts: Vec<ArtifactSummary>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Stage {
    /// Nothing has happened.
    New,
    /// The servers of the agent are asked what tools they have, in the order of the spec.
    Servers(Vec<Asked>),
    /// A model is asked for the summary of earlier turns.
    Summary(ModelCall),
    /// The model is asked.
    Model(ModelCall),
    /// Its tool calls run.
    Tools(Vec<Call>),
    /// A person is asked to extend limits.
    Limit(Extending),
    /// Every further input is ignored.
    Ended,
}

/// A server that is asked what tools it has.
#[derive(Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) id: OperationId,
    pub(super) since_ms: i64,
    pub(super) until_ms: i64,
    pub(super) state: AskedState,
}

impl Asked {
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, AskedState::Done { .. })
    }
}

#[derive(PartialEq, Serialize, Deserialize)]
pub(super) enum AskedState {
    /// It will be asked at `until_ms`.
    Waiting,
    /// An activity runs.
    Running,
    /// This is what it has.
    Done { tools: Vec<Listed> },
}

#[derive(Serialize, Deserialize)]
pub(super) struct ModelCall {
    pub(super) id: OperationId,
    pub(super) since_ms: i64,
    pub(super) until_ms: i64,
    /// The longest answer that fits into the limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bound: Option<Bound>,
}

/// A question whether more may be used.
#[derive(Serialize, Deserialize)]
pub(super) struct Extending {
    pub(super) id: OperationId,
    /// What is proposed.
    pub(super) arguments: Value,
    /// For people: what was used.
    pub(super) on: String,
    pub(super) since_ms: i64,
    pub(super) until_ms: i64,
}

/// One tool call of the present turn.
#[derive(Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) id: OperationId,
    pub(super) asked: ToolCall,
    /// What a person put in place of the arguments that were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) edited: Option<Value>,
    /// What has passed between the call and its server so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exchange: Option<Exchange>,
    pub(super) since_ms: i64,
    pub(super) state: CallState,
}

impl Call {
    /// What the call is made with.
    pub(super) fn sent(&self) -> &Value {
        self.edited.as_ref().unwrap_or(&self.asked.arguments)
    }

    /// Whether a person is asked if it may be made.
    pub(super) fn is_asked_about(&self) -> bool {
        matches!(self.state, CallState::Asking { kind: QuestionKind::ToolCall, .. })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum CallState {
    /// An activity runs.
    Activity { on: String, until_ms: i64 },
    /// A child runs, holding the token of our wait.
    Child { on: String, until_ms: i64 },
    /// A person decides.
    Asking { question: OperationId, kind: QuestionKind, on: String, until_ms: i64 },
    /// The work goes on elsewhere; it is asked for again at `until_ms`.
    Pausing { on: String, until_ms: i64 },
    /// This is what the model will be told.
    Done { content: String, failed: bool },
}

impl CallState {
    /// For people: what is waited for.
    pub(super) fn on(&self) -> &str {
        match self {
            Self::Activity { on, .. } | Self::Child { on, .. } | Self::Asking { on, .. } | Self::Pausing { on, .. } => {
                on
            }
            Self::Done { .. } => "",
        }
    }
}

/// What has been said, with a digest that covers it.
#[derive(Serialize, Deserialize)]
pub(super) struct Conversation {
    pub(super) messages: Vec<Message>,
    /// Of the digest before and the message after it: each message is hashed once.
    pub(super) digest: String,
    pub(super) bytes: u64,
}

impl Conversation {
    /// Goes on from what was said before: the digest and the size cover that too.
    pub(super) fn go_on_from(&mut self, spoken: &Spoken) {
        self.digest = Digest::of(serde_json::to_string(spoken).unwrap_or_default().as_bytes()).to_string();
        self.bytes = spoken.bytes;
        for message in std::mem::take(&mut self.messages) {
            self.push(message);
        }
    }

    pub(super) fn push(&mut self, message: Message) {
        // A message is strings and JSON, which always serialize; were one to fail, its digest would still be the same on replay.
        let text = serde_json::to_string(&message).unwrap_or_default();
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        self.digest = Digest::of(format!("{}\n{text}", self.digest).as_bytes()).to_string();
        self.messages.push(message);
    }
}

/// The same call, over and over.
#[derive(Serialize, Deserialize)]
pub(super) struct Streak {
    /// Of name and arguments.
    pub(super) digest: String,
    pub(super) count: u32,
}

/// What `status` shows.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Timeline {
    pub(super) started: u32,
    pub(super) ended: u32,
    pub(super) recent: Vec<TaskSummary>,
}

impl Timeline {
    pub(super) fn start(&mut self, position: &str, name: &str, kind: &str, now_ms: i64) {
        self.started = self.started.saturating_add(1);
        if self.recent.len() == RECENT_MAX {
            self.recent.remove(0);
        }
        self.recent.push(TaskSummary {
            position: position.to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            state: "Running".to_owned(),
            started_ms: now_ms,
            ended_ms: None,
        });
    }

    pub(super) fn end(&mut self, position: &str, state: &str, now_ms: i64) {
        self.ended = self.ended.saturating_add(1);
        if let Some(task) = self.recent.iter_mut().find(|task| task.position == position) {
            state.clone_into(&mut task.state);
            task.ended_ms = Some(now_ms);
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            format: SNAPSHOT_FORMAT,
            stage: Stage::New,
            limits: Limits::default(),
            turn: 0,
            conversation: Conversation { messages: Vec::new(), digest: String::new(), bytes: 0 },
            usage: Usage::default(),
            repairs: 0,
            last_text: None,
            streak: None,
            timeline: Timeline::default(),
            servers: Vec::new(),
            untrusted: false,
            account: Account::default(),
            prices: Vec::new(),
            extensions_asked: 0,
            trail: Trail::default(),
            session: None,
            artifacts: Vec::new(),
        }
    }
}
