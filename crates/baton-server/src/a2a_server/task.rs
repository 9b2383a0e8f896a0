//! An agent execution as a task.
//!
//! | Phase | State |
//! |---|---|
//! | Pending | submitted |
//! | Running, Suspended | working; input required while a person is asked |
//! | Completed | completed, with the output as its artifact |
//! | Failed, TimedOut | failed |
//! | Cancelled | canceled |

use std::collections::VecDeque;

use baton_proto::{
    ExecutionResource, Timestamp,
    history_v1::{Message, history_event::Attributes, note},
    v1::AgentExecution,
};
use baton_types::{ApiError, Phase, Uid};
use serde_json::{Value, json};

use super::Place;
use crate::{
    app::App,
    interop::{Ending, changed, question, shown, text_of},
};

/// Messages that are shown of a task at most: the last ones.
const HISTORY_MAX: usize = 100;
/// Events that are read at a time, and pages of them.
const EVENTS_PAGE: usize = 1000;
const PAGES_MAX: usize = 50;
/// Id of the one artifact.
const ARTIFACT: &str = "output";

/// A task: an execution, where it is, and what of it stands in the protocol's words.
pub(super) struct Task {
    pub(super) execution: ExecutionResource,
    pub(super) id: String,
    pub(super) context: String,
}

/// What of a task tells one state from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: &'static str,
    /// The approvals that are waited for.
    pub(super) asks: Vec<String>,
}

impl Standing {
    /// As one text.
    pub(super) fn key(&self) -> String {
        format!("{} {}", self.state, self.asks.join(" ")).trim_end().to_owned()
    }
}

/// A message of a history.
pub(super) struct Told {
    number: i32,
    message: Message,
}

impl Task {
    /// The task that an execution is; `None` if it is no execution of an agent.
    pub(super) fn of(execution: ExecutionResource) -> Option<Self> {
        let ExecutionResource::Agent(object) = &execution else { return None };
        let spec = object.spec.clone().unwrap_or_default();
        let context = Place::context_of(&spec.agent, &spec.session).to_owned();
        Some(Self { id: execution.metadata().uid.clone(), context, execution })
    }

    pub(super) fn object(&self) -> Option<&AgentExecution> {
        match &self.execution {
            ExecutionResource::Agent(object) => Some(object),
            ExecutionResource::Workflow(_) => None,
        }
    }

    /// How it stands now.
    pub(super) fn standing(&self) -> Standing {
        let waits = self.execution.waiting_for().into_iter().flatten();
        let asks: Vec<_> = waits.filter(|it| !it.approval.is_empty()).map(|it| it.approval.clone()).collect();
        let state = match self.execution.phase() {
            Phase::Pending => "TASK_STATE_SUBMITTED",
            Phase::Running | Phase::Suspended if asks.is_empty() => "TASK_STATE_WORKING",
            Phase::Running | Phase::Suspended => "TASK_STATE_INPUT_REQUIRED",
            Phase::Completed => "TASK_STATE_COMPLETED",
            Phase::Failed | Phase::TimedOut => "TASK_STATE_FAILED",
            Phase::Cancelled => "TASK_STATE_CANCELED",
        };
        Standing { state, asks }
    }

    /// When its state last changed.
    pub(super) fn updated(&self) -> Timestamp {
        changed(&self.execution)
    }

    fn message(&self, id: &str, role: &str, text: &str) -> Value {
        json!({
            "messageId": id, "taskId": self.id, "contextId": self.context, "role": role,
            "parts": [{"text": text, "mediaType": "text/plain"}],
        })
    }

    /// `status`: the state with what there is to say about it.
    pub(super) async fn status(&self, app: &App) -> Result<Value, ApiError> {
        let standing = self.standing();
        let said = match Ending::of(app, &self.execution).await? {
            Some(Ending::Failed(said) | Ending::Cancelled(said)) => Some(said),
            Some(Ending::Output(_)) => None,
            None if standing.asks.is_empty() => None,
            None => Some(app.questions(&self.execution).await?.iter().map(question).collect::<Vec<_>>().join("\n")),
        };
        let mut status = json!({"state": standing.state, "timestamp": self.updated().to_string()});
        if let Some(said) = said.filter(|said| !said.is_empty()) {
            status["message"] = self.message(&format!("{}-{}", self.id, standing.state), "ROLE_AGENT", &said);
        }
        Ok(status)
    }

    /// The artifact, if there is an output.
    pub(super) async fn artifact(&self, app: &App) -> Result<Option<Value>, ApiError> {
        let Some(Ending::Output(output)) = Ending::of(app, &self.execution).await? else { return Ok(None) };
        let part = if output.is_string() {
            json!({"text": shown(&output), "mediaType": "text/plain"})
        } else {
            json!({"data": output, "mediaType": "application/json"})
        };
        Ok(Some(json!({"artifactId": ARTIFACT, "name": ARTIFACT, "parts": [part]})))
    }

    /// The whole task, with at most `history` messages.
    pub(super) async fn whole(&self, app: &App, history: usize, artifacts: bool) -> Result<Value, ApiError> {
        let mut task = json!({"id": self.id, "contextId": self.context, "status": self.status(app).await?});
        if artifacts && let Some(artifact) = self.artifact(app).await? {
            task["artifacts"] = json!([artifact]);
        }
        if history > 0 {
            let (told, _) = self.told(app, history).await?;
            let mut messages = Vec::with_capacity(told.len());
            for told in &told {
                messages.extend(self.spoken(app, told).await?);
            }
            task["history"] = messages.into();
        }
        Ok(task)
    }

    /// The last messages of its history, at most so many, and the number of the last event.
    pub(super) async fn told(&self, app: &App, most: usize) -> Result<(Vec<Told>, i32), ApiError> {
        let most = most.min(HISTORY_MAX);
        let (mut told, mut last) = (VecDeque::new(), 0);
        let Ok(uid) = self.id.parse::<Uid>() else { return Ok((Vec::new(), 0)) };
        for _ in 0..PAGES_MAX {
            let (events, _) = app.read_history(uid, last, EVENTS_PAGE).await?;
            let more = events.len() == EVENTS_PAGE;
            for event in events {
                last = event.number;
                if let Some(message) = message_of(event.attributes) {
                    told.push_back(Told { number: event.number, message });
                    if told.len() > most {
                        told.pop_front();
                    }
                }
            }
            if !more {
                break;
            }
        }
        Ok((told.into(), last))
    }

    /// A message of the history as one of the protocol; `None` if it says nothing.
    async fn spoken(&self, app: &App, told: &Told) -> Result<Option<Value>, ApiError> {
        let Some(content) = &told.message.content else { return Ok(None) };
        let text = text_of(app, content).await?;
        let role = if told.message.role == "user" { "ROLE_USER" } else { "ROLE_AGENT" };
        let id = format!("{}-{}", self.id, told.number);
        Ok((!text.is_empty()).then(|| self.message(&id, role, &text)))
    }

    /// What the agent says on its way, before it calls tools; its last word is the artifact.
    pub(super) async fn remark(&self, app: &App, number: i32, message: Message) -> Result<Option<Value>, ApiError> {
        if message.role != "assistant" || message.tool_calls.is_empty() {
            return Ok(None);
        }
        self.spoken(app, &Told { number, message }).await
    }
}

/// The message that an event tells of, if it is one of the user or the agent.
pub(super) fn message_of(attributes: Option<Attributes>) -> Option<Message> {
    match attributes {
        Some(Attributes::Note(note)) => match note.note {
            Some(note::Note::Message(message)) if message.role != "tool" => Some(message),
            _ => None,
        },
        _ => None,
    }
}
