//! Scripted turns that stand for a model.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::{Fields, kind_of};

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
