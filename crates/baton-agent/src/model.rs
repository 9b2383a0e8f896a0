//! The words between the loop and the `model` activity, in types of ours whatever the provider speaks.
//!
//! They are recorded in histories: fields may be added with a default, never renamed or removed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::{Fields, cut, kind_of};

/// Longest name of a model, in bytes.
const MODEL_NAME_BYTES_MAX: usize = 256;
/// Longest instructions, in bytes: every model call carries them.
pub(crate) const INSTRUCTIONS_BYTES_MAX: usize = 256 * 1024;
/// Conversations of a script, and turns of a conversation.
const PLAYBACK_ITEMS_MAX: usize = 1000;
/// How long one model call may take where the spec says nothing.
pub(crate) const MODEL_TIMEOUT_MS_DEFAULT: u64 = 5 * 60 * 1000;

/// Which model answers, and how it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSpec {
    /// Name of the model as the provider knows it.
    pub name: String,
    /// Who answers.
    pub provider: Provider,
    /// Where the provider is; `None` for the server's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// From 0 to 2; `None` for the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Most tokens of one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// How long one call may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Scripted turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playback: Option<Playback>,
}

/// Who answers for a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Any server that speaks OpenAI's chat completions.
    #[default]
    OpenAi,
    /// The script in the spec.
    Playback,
}

impl Provider {
    /// The word of the spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Playback => "playback",
        }
    }
}

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

/// One question to a model: input of the `model` activity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelRequest {
    /// Which model.
    pub model: ModelSpec,
    /// What the agent is and does.
    pub instructions: String,
    /// The conversation so far, oldest first.
    pub messages: Vec<Message>,
    /// What may be called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolDescription>,
    /// JSON schema of the final answer; `None` for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Message {
    /// From the caller, or from the loop asking for a better answer.
    User {
        /// The text.
        content: String,
    },
    /// From the model.
    Assistant {
        /// What it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        /// What it called.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
    },
    /// The result of a tool call.
    Tool {
        /// Id of the call.
        call_id: String,
        /// Name of the tool.
        name: String,
        /// The result as text or JSON text.
        content: String,
        /// Whether the call failed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        failed: bool,
    },
}

/// A call that a model asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolCall {
    /// Names the call within the conversation.
    #[serde(default)]
    pub id: String,
    /// Name of the tool.
    #[serde(default)]
    pub name: String,
    /// The arguments: an object, or the model's own text where that is not JSON.
    #[serde(default)]
    pub arguments: Value,
}

/// A tool as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolDescription {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON schema of its arguments.
    pub parameters: Value,
}

/// One answer of a model: output of the `model` activity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelResponse {
    /// What it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What it called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub finish_reason: FinishReason,
    /// Tokens read.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens written.
    #[serde(default)]
    pub output_tokens: u64,
    /// Whether the tokens were estimated from lengths because the provider reported none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub usage_estimated: bool,
    /// Who answered: `openai` or `playback`.
    pub provider: String,
    /// Which model answered, in the provider's words.
    pub model: String,
}

/// Why a model stopped. Whether tools are to be called is told by the calls alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FinishReason {
    /// It was done.
    Stop,
    /// It wants tools called.
    ToolCalls,
    /// The limit of tokens of one answer was reached: the answer is cut.
    Length,
    /// The provider or the model declined to answer.
    ContentFilter,
    /// Something else.
    Other,
}

impl ModelSpec {
    pub(crate) fn read(fields: &Fields<'_>) -> Self {
        let name = fields.required_text("name");
        if let Some(name) = name.filter(|name| name.len() > MODEL_NAME_BYTES_MAX) {
            fields.violation("name", format!("has {} bytes, allowed are 1 to {MODEL_NAME_BYTES_MAX}", name.len()));
        }
        let provider = match fields.text("provider") {
            None | Some("openai") => Provider::OpenAi,
            Some("playback") => Provider::Playback,
            Some(other) => {
                fields.violation(
                    "provider",
                    format!("'{}' is not a provider; allowed are 'openai' and 'playback'", cut(other, 64)),
                );
                Provider::OpenAi
            }
        };
        let base_url = fields.text("baseUrl");
        if base_url.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            fields.violation("baseUrl", "must begin with 'http://' or 'https://'");
        }
        let playback = fields.object("playback").map(Playback::read);
        if provider == Provider::Playback && fields.get("playback").is_none() {
            fields.violation("playback", "must be given for the provider 'playback'");
        }
        Self {
            name: name.unwrap_or_default().to_owned(),
            provider,
            base_url: base_url.map(str::to_owned),
            temperature: fields.number("temperature", 0.0, 2.0),
            max_output_tokens: fields.count("maxOutputTokens", 1, i32::MAX as u32),
            timeout_ms: fields.duration_ms("timeout"),
            playback,
        }
    }
}

impl Playback {
    fn read(fields: Fields<'_>) -> Self {
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
