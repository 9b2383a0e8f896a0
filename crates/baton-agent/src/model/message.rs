//! A question to a model, the conversation that it holds, and the answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Attachment, ModelSpec, Tokens};
use crate::session::Spoken;

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
    /// What was said in earlier turns of the session, before `messages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Spoken>,
    /// How many of `messages` were said in earlier turns, once they have been put there in place of `earlier`.
    #[serde(skip)]
    pub recalled: usize,
}

impl ModelRequest {
    /// Puts what was said in earlier turns before the messages.
    pub fn put_before(&mut self, mut earlier: Vec<Message>) {
        self.earlier = None;
        self.recalled = earlier.len();
        earlier.append(&mut self.messages);
        self.messages = earlier;
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Message {
    /// From the caller, or from the loop asking for a better answer.
    User {
        /// The text.
        content: String,
        /// Images and files that belong to it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<Attachment>,
    },
    /// From the model.
    Assistant {
        /// What it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        /// What it called.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
        /// What its provider wants to see again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_data: Option<ProviderData>,
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

impl Message {
    /// A text in the user's place.
    pub fn user(content: impl Into<String>) -> Self {
        Self::User { content: content.into(), attachments: Vec::new() }
    }
}

/// What only the provider that said it understands, such as the signature of its reasoning: given back to the same model with
/// the next question, to no other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderData {
    /// Who said it.
    pub provider: String,
    /// Name of the model that was asked.
    pub model: String,
    /// In the provider's words.
    pub data: Value,
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
    /// Tokens of `input_tokens` that the provider had kept from an earlier call.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_input_tokens: u64,
    /// What the call costs, in millionths of a US dollar; `None` where the price is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    /// Who answered, such as `openai` or `playback`.
    pub provider: String,
    /// Which model answered, in the provider's words.
    pub model: String,
    /// What the provider wants to see again with the next question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_data: Option<ProviderData>,
}

impl ModelResponse {
    /// Its tokens.
    pub fn tokens(&self) -> Tokens {
        Tokens { input: self.input_tokens, cached_input: self.cached_input_tokens, output: self.output_tokens }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
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
