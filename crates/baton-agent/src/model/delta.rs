//! Parts of an answer as they come.

use serde::{Deserialize, Serialize};

/// What the `model` activity emits while a model answers. Parts of one kind, of a call those of one index, put together in
/// their order are what was said; the recorded [`ModelResponse`](super::ModelResponse) says everything again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ModelDelta {
    /// More of the text.
    Text(String),
    /// More of what the model thinks aloud, where the provider tells.
    Reasoning(String),
    /// More of a call.
    ToolCall(ToolCallDelta),
}

/// More of a call that a model asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolCallDelta {
    /// Which call of the answer, counted from 0.
    pub index: u32,
    /// Names the call; once, if the provider gives it a name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Name of the tool; once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// More of the arguments, as JSON text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
}
