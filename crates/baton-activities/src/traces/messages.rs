//! Messages in the form of the conventions: a role, and parts.

use baton_agent::{Message, ModelRequest, ModelResponse, ToolCall};
use serde_json::{Value, json};

pub(super) fn instructions(request: &ModelRequest) -> String {
    json!([text(&request.instructions)]).to_string()
}

pub(super) fn input(request: &ModelRequest) -> String {
    let messages = request.messages.iter().map(|message| match message {
        Message::User { content, attachments } => {
            let files =
                attachments.iter().map(|it| json!({"type": "file", "name": it.name, "mime_type": it.media_type}));
            json!({"role": "user", "parts": std::iter::once(text(content)).chain(files).collect::<Vec<_>>()})
        }
        Message::Assistant { content, tool_calls, .. } => {
            json!({"role": "assistant", "parts": said(content.as_deref(), tool_calls)})
        }
        Message::Tool { call_id, content, .. } => {
            json!({"role": "tool", "parts": [{"type": "tool_call_response", "id": call_id, "response": content}]})
        }
    });
    Value::Array(messages.collect()).to_string()
}

pub(super) fn output(response: &ModelResponse, finish_reason: &str) -> String {
    let parts = said(response.text.as_deref(), &response.tool_calls);
    json!([{"role": "assistant", "parts": parts, "finish_reason": finish_reason}]).to_string()
}

fn said(content: Option<&str>, calls: &[ToolCall]) -> Vec<Value> {
    let calls = calls
        .iter()
        .map(|call| json!({"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}));
    content.map(text).into_iter().chain(calls).collect()
}

fn text(content: &str) -> Value {
    json!({"type": "text", "content": content})
}
