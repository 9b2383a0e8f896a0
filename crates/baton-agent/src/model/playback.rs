//! Scripted turns that stand for a model.
//!
//! The conversation is the first whose `match` occurs in the first message; the turn is the number of
//! answers so far, both of the execution alone: what was said in earlier turns of its session does not count. So a repeated
//! call is answered alike, and two executions never disturb each other.

use baton_execution::{Fault, fault_type};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FinishReason, Message, ModelRequest, ModelResponse, ToolCall};
use crate::fields::{Fields, cut, kind_of};

/// Characters of a message that a fault shows.
const SHOWN_MAX: usize = 80;

/// Conversations of a script, and turns of a conversation.
const PLAYBACK_ITEMS_MAX: usize = 1000;

/// A script that stands for a model, so that agents run where there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Playback {
    /// The first that matches is played.
    pub conversations: Vec<PlaybackConversation>,
}

/// The turns of one conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaybackConversation {
    /// Text that the first message (with the input's JSON) must contain; `None` matches all.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Answers, in order.
    pub turns: Vec<PlaybackTurn>,
}

/// One scripted answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaybackTurn {
    /// What is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What is said, as JSON; instead of `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// What is called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<PlaybackCall>,
    /// Tokens that the call is said to have read.
    #[serde(default)]
    pub input_tokens: u32,
    /// Tokens that the call is said to have written.
    #[serde(default)]
    pub output_tokens: u32,
}

/// One scripted tool call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaybackCall {
    /// Name of the tool.
    pub name: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Value,
}

impl Playback {
    pub(super) fn read(fields: Fields<'_>) -> Self {
        let items = fields.list("conversations", PLAYBACK_ITEMS_MAX);
        if items.is_empty() {
            fields.violation("conversations", "must have at least one conversation");
        }
        let conversations = items
            .into_iter()
            .filter_map(|(path, item)| Fields::of(fields.report, path, item))
            .map(|conversation| {
                let pattern = conversation.text("match").map(str::to_owned);
                let items = conversation.list("turns", PLAYBACK_ITEMS_MAX);
                if items.is_empty() {
                    conversation.violation("turns", "must have at least one turn");
                }
                let turns = items
                    .into_iter()
                    .filter_map(|(path, item)| Fields::of(conversation.report, path, item))
                    .map(PlaybackTurn::read)
                    .collect();
                conversation.finish();
                PlaybackConversation { pattern, turns }
            })
            .collect();
        fields.finish();
        Self { conversations }
    }
}

impl PlaybackTurn {
    fn read(fields: Fields<'_>) -> Self {
        let text = fields.text("text").map(str::to_owned);
        let json = fields.get("json").cloned();
        let tool_calls: Vec<PlaybackCall> = fields
            .list("toolCalls", PLAYBACK_ITEMS_MAX)
            .into_iter()
            .filter_map(|(path, item)| Fields::of(fields.report, path, item))
            .map(PlaybackCall::read)
            .collect();
        if text.is_some() && json.is_some() {
            fields.violation("json", "must not be given together with 'text'");
        }
        if text.is_none() && json.is_none() && fields.get("toolCalls").is_none() {
            fields.violation("text", "one of 'text', 'json' and 'toolCalls' must be given");
        }
        let input_tokens = fields.count("inputTokens", 0, i32::MAX as u32).unwrap_or(0);
        let output_tokens = fields.count("outputTokens", 0, i32::MAX as u32).unwrap_or(0);
        fields.finish();
        Self { text, json, tool_calls, input_tokens, output_tokens }
    }
}

impl PlaybackCall {
    fn read(fields: Fields<'_>) -> Self {
        let name = fields.required_text("name").unwrap_or_default().to_owned();
        let arguments = fields.get("arguments").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        if !arguments.is_object() {
            fields.violation("arguments", format!("must be an object, found {}", kind_of(&arguments)));
        }
        fields.finish();
        Self { name, arguments }
    }
}

impl Playback {
    /// What the script says to a request.
    ///
    /// # Errors
    /// A configuration fault: it has no conversation for the first message, or no such turn.
    pub fn answer(&self, request: &ModelRequest) -> Result<ModelResponse, Fault> {
        let own = request.messages.get(request.recalled..).unwrap_or_default();
        let first = own.iter().find_map(|message| match message {
            Message::User { content, .. } => Some(content.as_str()),
            Message::Assistant { .. } | Message::Tool { .. } => None,
        });
        let (index, conversation) = choose(self, first.unwrap_or_default())?;
        let turn = own.iter().filter(|message| matches!(message, Message::Assistant { .. })).count();
        let scripted = conversation.turns.get(turn).ok_or_else(|| {
            refused(format!(
                "playback.conversations[{index}] has {} turns, turn {} was asked for",
                conversation.turns.len(),
                turn + 1
            ))
        })?;
        Ok(play(scripted, turn, &request.model.name))
    }
}

/// Answers the input of the `model` activity by the script in it, in the JSON forms of [`ModelRequest`] and [`ModelResponse`].
///
/// # Errors
/// As [`Playback::answer`], and if there is no script.
pub fn play_model(input: &Value) -> Result<Value, Fault> {
    let request =
        ModelRequest::deserialize(input).map_err(|error| refused(format!("no request to a model: {error}")))?;
    let script = request.model.playback.as_ref().ok_or_else(|| refused("no turns stand for the model".to_owned()))?;
    serde_json::to_value(script.answer(&request)?).map_err(|error| refused(error.to_string()))
}

fn choose<'a>(script: &'a Playback, first: &str) -> Result<(usize, &'a PlaybackConversation), Fault> {
    let matches = |conversation: &PlaybackConversation| {
        conversation.pattern.as_deref().is_none_or(|pattern| first.contains(pattern))
    };
    script.conversations.iter().enumerate().find(|(_, conversation)| matches(conversation)).ok_or_else(|| {
        let patterns: Vec<String> = script
            .conversations
            .iter()
            .filter_map(|conversation| conversation.pattern.as_deref())
            .map(|pattern| format!("'{pattern}'"))
            .collect();
        let shown = cut(first, SHOWN_MAX);
        refused(format!(
            "no conversation of the playback matches the message '{shown}'; they match {}",
            patterns.join(", ")
        ))
    })
}

fn play(scripted: &PlaybackTurn, turn: usize, model: &str) -> ModelResponse {
    let text = scripted.text.clone().or_else(|| scripted.json.as_ref().map(ToString::to_string));
    let tool_calls: Vec<ToolCall> = scripted
        .tool_calls
        .iter()
        .enumerate()
        .map(|(index, call)| ToolCall {
            id: format!("call_{}_{index}", turn + 1),
            name: call.name.clone(),
            arguments: call.arguments.clone(),
        })
        .collect();
    ModelResponse {
        text,
        finish_reason: if tool_calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls },
        tool_calls,
        input_tokens: u64::from(scripted.input_tokens),
        output_tokens: u64::from(scripted.output_tokens),
        usage_estimated: false,
        cached_input_tokens: 0,
        cost_micros: None,
        provider: "playback".to_owned(),
        model: model.to_owned(),
        provider_data: None,
    }
}

fn refused(detail: String) -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}
