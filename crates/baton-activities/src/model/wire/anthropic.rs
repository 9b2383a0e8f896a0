//! Anthropic's messages.
//!
//! Blocks of thinking carry signatures; they are given back before what was said with them, in the order in which they came.

use std::collections::BTreeMap;

use baton_agent::{Attachment, FinishReason, Message, ModelRequest, Provider, ReasoningEffort, Tokens, ToolCall};
use baton_execution::Fault;
use reqwest::{Url, header::HeaderName};
use serde_json::{Value, json};

use super::{
    Broken, Heard, Listener, Question, Said, Wire, below, count, demanded, ends_with_any, error_in, groups, object,
    own_data,
    parts::{Part, Source, part},
    put, text, tool_name, unsupported,
};
use crate::model::speech::Speech;

/// Tokens of an answer where the agent says nothing, which this provider must be told: of models since 3.7, and before.
const OUTPUT_TOKENS_DEFAULT: u32 = 16_384;
const OUTPUT_TOKENS_DEFAULT_OLD: u32 = 4096;
/// From this version on a model thinks as it sees fit, and takes an effort in place of a number of tokens.
const ADAPTIVE: (u32, u32) = (4, 6);
/// From this version on a model can be held to a schema.
const STRUCTURED: (u32, u32) = (4, 5);

/// The protocol.
pub(super) struct Anthropic;

impl Wire for Anthropic {
    fn question(&self, request: &ModelRequest, base: &Url) -> Result<Question, Fault> {
        let model = &request.model;
        let version = version(&model.name);
        let held = request.output_schema.as_ref().filter(|_| version >= STRUCTURED).and_then(closed);
        let in_words = request.output_schema.as_ref().filter(|_| held.is_none());
        let mut messages = Vec::new();
        for group in groups(&request.messages) {
            messages.push(message(request, group)?);
        }
        let mut body = json!({
            "model": model.name, "system": demanded(&request.instructions, in_words), "messages": messages, "stream": true,
        });
        put(&mut body, "temperature", model.temperature);
        put(&mut body, "top_p", model.top_p);
        put(&mut body, "stop_sequences", (!model.stop.is_empty()).then(|| model.stop.clone()));
        let effort = model.reasoning_effort.filter(|_| !continues_without_thoughts(request));
        let (thinking, effort) = thinking(effort, version);
        let old = model.name.starts_with("claude-3-") && !model.name.starts_with("claude-3-7");
        let default = if old { OUTPUT_TOKENS_DEFAULT_OLD } else { OUTPUT_TOKENS_DEFAULT };
        // The tokens of thinking count as written ones.
        let budget = thinking.as_ref().and_then(|it| count(it, "/budget_tokens")).unwrap_or(0);
        body["max_tokens"] = json!(u64::from(model.max_output_tokens.unwrap_or(default)) + budget);
        put(&mut body, "thinking", thinking);
        let mut config = json!({});
        put(&mut config, "effort", effort);
        put(&mut config, "format", held.map(|schema| json!({"type": "json_schema", "schema": schema})));
        put(&mut body, "output_config", config.as_object().is_some_and(|it| !it.is_empty()).then_some(config));
        let tools = request
            .tools
            .iter()
            .map(|tool| json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters}));
        put(&mut body, "tools", (!request.tools.is_empty()).then(|| tools.collect::<Vec<_>>()));
        let path = if ends_with_any(base, &["v1"]) { "messages" } else { "v1/messages" };
        Ok(Question { url: below(base, path), body })
    }

    fn key_header(&self, key: &str) -> (HeaderName, String) {
        (HeaderName::from_static("x-api-key"), key.to_owned())
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", "2023-06-01")]
    }

    fn listen(&self) -> Box<dyn Listener> {
        Box::new(Hearing::default())
    }
}

/// How a model is told to think: a mode, and an effort.
fn thinking(effort: Option<ReasoningEffort>, version: (u32, u32)) -> (Option<Value>, Option<&'static str>) {
    let budget = match effort {
        None | Some(ReasoningEffort::None) => return (None, None),
        Some(ReasoningEffort::Minimal) => 1024,
        Some(ReasoningEffort::Low) => 4096,
        Some(ReasoningEffort::Medium) => 10_240,
        Some(ReasoningEffort::High) => 24_576,
    };
    if version < ADAPTIVE {
        return (Some(json!({"type": "enabled", "budget_tokens": budget})), None);
    }
    let word = match effort {
        Some(ReasoningEffort::Minimal | ReasoningEffort::Low) | None => "low",
        Some(effort) => effort.as_str(),
    };
    (Some(json!({"type": "adaptive"})), Some(word))
}

/// Whether the model is in the middle of calls that it, or another model, asked for without thinking: it cannot begin then.
fn continues_without_thoughts(request: &ModelRequest) -> bool {
    let since_asked = request.messages.iter().rev().take_while(|message| !matches!(message, Message::User { .. }));
    since_asked.into_iter().any(|message| match message {
        Message::Assistant { tool_calls, provider_data, .. } => {
            !tool_calls.is_empty() && own_data(request, provider_data.as_ref()).is_none()
        }
        Message::User { .. } | Message::Tool { .. } => false,
    })
}

/// Version in a name such as `claude-sonnet-4-5-20250929` or `claude-3-7-sonnet-latest`; 0.0 if there is none.
fn version(name: &str) -> (u32, u32) {
    let small = |part: &str| part.parse::<u32>().ok().filter(|number| *number < 100);
    let mut parts = name.split('-').skip_while(|part| small(part).is_none());
    let major = parts.next().and_then(small).unwrap_or(0);
    (major, parts.next().and_then(small).unwrap_or(0))
}

/// The schema as this provider takes it, objects closed; `None` if it says something that cannot be taken.
fn closed(schema: &Value) -> Option<Value> {
    const TAKEN: [&str; 12] = [
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "const",
        "anyOf",
        "description",
        "title",
        "additionalProperties",
        "$schema",
        "default",
    ];
    let fields = schema.as_object()?;
    let mut taken = fields.clone();
    if fields.keys().any(|key| !TAKEN.contains(&key.as_str())) {
        return None;
    }
    taken.remove("$schema");
    if let Some(properties) = taken.get_mut("properties") {
        for property in properties.as_object_mut()?.values_mut() {
            *property = closed(property)?;
        }
    }
    if let Some(items) = taken.get_mut("items") {
        *items = closed(items)?;
    }
    if let Some(cases) = taken.get_mut("anyOf") {
        for case in cases.as_array_mut()? {
            *case = closed(case)?;
        }
    }
    if fields.contains_key("properties") || fields.get("type").and_then(Value::as_str) == Some("object") {
        let open = fields.get("additionalProperties").is_some_and(|it| *it != Value::Bool(false));
        if open || !fields.contains_key("properties") {
            return None;
        }
        taken.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    Some(Value::Object(taken))
}

/// One message of the wire: one of ours, or the results of all tools that were called together.
fn message(request: &ModelRequest, group: &[Message]) -> Result<Value, Fault> {
    let mut role = "user";
    let mut blocks = Vec::new();
    for message in group {
        match message {
            Message::User { content, attachments } => {
                blocks.push(json!({"type": "text", "text": content}));
                for attachment in attachments {
                    blocks.push(attached(attachment)?);
                }
            }
            Message::Tool { call_id, content, failed, .. } => blocks.push(json!({
                "type": "tool_result", "tool_use_id": call_id_of(call_id), "content": content, "is_error": failed,
            })),
            Message::Assistant { content, tool_calls, provider_data } => {
                role = "assistant";
                let thoughts =
                    own_data(request, provider_data.as_ref()).and_then(|data| data.get("thinking")?.as_array());
                blocks.extend(thoughts.into_iter().flatten().cloned());
                if let Some(content) = content.as_deref().filter(|content| !content.trim().is_empty()) {
                    blocks.push(json!({"type": "text", "text": content}));
                }
                blocks.extend(tool_calls.iter().map(|call| json!({
                    "type": "tool_use", "id": call_id_of(&call.id), "name": tool_name(&call.name), "input": object(&call.arguments),
                })));
                if blocks.is_empty() {
                    // An empty message is refused, and so is leaving it out.
                    blocks.push(json!({"type": "text", "text": "(no answer)"}));
                }
            }
        }
    }
    Ok(json!({"role": role, "content": blocks}))
}

/// An id in the letters that this provider accepts; one of another provider may have others.
fn call_id_of(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect()
}

fn attached(attachment: &Attachment) -> Result<Value, Fault> {
    let Attachment { name, media_type, .. } = attachment;
    let source = |source: Source<'_>| match source {
        Source::Data(data) => json!({"type": "base64", "media_type": media_type, "data": data}),
        Source::Url(url) => json!({"type": "url", "url": url}),
    };
    Ok(match part(attachment)? {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image(content) => json!({"type": "image", "source": source(content)}),
        Part::File(content) if media_type == "application/pdf" => {
            json!({"type": "document", "title": name, "source": source(content)})
        }
        Part::File(_) | Part::Audio(_) => {
            return Err(unsupported(name, "it takes images, PDF and text", Provider::Anthropic));
        }
    })
}

#[derive(Default)]
struct Hearing {
    said: Said,
    blocks: BTreeMap<u64, Block>,
    tokens: Tokens,
    counted: bool,
    /// Calls that have begun.
    calls: usize,
}

/// A block of which parts have come.
struct Block {
    /// As it began.
    start: Value,
    /// Text, thinking or the JSON of arguments.
    written: String,
    signature: String,
}

impl Listener for Hearing {
    fn hear(&mut self, mut frame: Value, aloud: &mut Speech<'_>) -> Result<Heard, Broken> {
        let kind = text(&frame, "/type").unwrap_or_default().to_owned();
        match kind.as_str() {
            "message_start" => {
                self.said.model = text(&frame, "/message/model").map(str::to_owned);
                self.count(&frame["message"]["usage"]);
            }
            "content_block_start" => {
                let index = count(&frame, "/index").unwrap_or(0);
                let start = frame.get_mut("content_block").map(Value::take).unwrap_or_default();
                aloud.text(text(&start, "/text").unwrap_or_default());
                if text(&start, "/type") == Some("tool_use") {
                    let word = |name: &str| text(&start, name).unwrap_or_default();
                    aloud.call(self.calls, word("/id"), word("/name"));
                    self.calls += 1;
                }
                self.blocks.insert(index, Block { start, written: String::new(), signature: String::new() });
            }
            "content_block_delta" => {
                let index = count(&frame, "/index").unwrap_or(0);
                let block =
                    self.blocks.get_mut(&index).ok_or(Broken::Nonsense("has a part of a block that has not begun"))?;
                let part = |name: &str| text(&frame, name).unwrap_or_default();
                aloud.text(part("/delta/text"));
                aloud.reasoning(part("/delta/thinking"));
                // Blocks come one after the other: it is of the last call that has begun.
                aloud.arguments(self.calls.saturating_sub(1), part("/delta/partial_json"));
                for name in ["/delta/text", "/delta/partial_json", "/delta/thinking"] {
                    block.written.push_str(text(&frame, name).unwrap_or_default());
                }
                block.signature.push_str(text(&frame, "/delta/signature").unwrap_or_default());
            }
            "message_delta" => {
                self.reason(text(&frame, "/delta/stop_reason"));
                self.count(&frame["usage"]);
            }
            "message_stop" => return Ok(Heard::Whole),
            "error" => return Err(error_in(&frame).unwrap_or(Broken::Nonsense("has an error without words"))),
            // An answer that was not streamed.
            "message" => {
                self.said.model = text(&frame, "/model").map(str::to_owned);
                self.reason(text(&frame, "/stop_reason"));
                self.count(&frame["usage"]);
                let blocks = frame.get_mut("content").map(Value::take);
                for (index, start) in (0..).zip(blocks.as_ref().and_then(Value::as_array).into_iter().flatten()) {
                    let block = Block { start: start.clone(), written: String::new(), signature: String::new() };
                    self.blocks.insert(index, block);
                }
                return Ok(Heard::Whole);
            }
            "" => return Err(error_in(&frame).unwrap_or(Broken::Nonsense("is not a message"))),
            // Signs of life, ends of blocks, and what a later version adds.
            _ => {}
        }
        Ok(Heard::More)
    }

    fn finish(mut self: Box<Self>) -> Result<Said, Broken> {
        let mut thoughts = Vec::new();
        for (_, Block { mut start, written, signature }) in std::mem::take(&mut self.blocks) {
            match text(&start, "/type") {
                Some("text") => {
                    self.said.text.push_str(text(&start, "/text").unwrap_or_default());
                    self.said.text.push_str(&written);
                }
                Some("tool_use") => {
                    let given = start.get("input").filter(|input| written.is_empty() && input.is_object());
                    self.said.calls.push(ToolCall {
                        id: text(&start, "/id").unwrap_or_default().to_owned(),
                        name: text(&start, "/name").unwrap_or_default().to_owned(),
                        arguments: given.cloned().unwrap_or_else(|| super::arguments(&written)),
                    });
                }
                Some("thinking") => {
                    let join = |name: &str, more: &str| text(&start, name).unwrap_or_default().to_owned() + more;
                    let (thinking, signature) = (join("/thinking", &written), join("/signature", &signature));
                    // Without its signature it would be refused.
                    if !signature.is_empty() {
                        thoughts.push(json!({"type": "thinking", "thinking": thinking, "signature": signature}));
                    }
                }
                Some("redacted_thinking") => thoughts.push(start.take()),
                Some(_) | None => {}
            }
        }
        self.said.data = (!thoughts.is_empty()).then(|| json!({"thinking": thoughts}));
        self.said.tokens = self.counted.then_some(self.tokens);
        self.said.whole()
    }
}

impl Hearing {
    fn reason(&mut self, reason: Option<&str>) {
        let Some(reason) = reason else { return };
        self.said.finish = Some(match reason {
            "end_turn" | "stop_sequence" => FinishReason::Stop,
            "tool_use" => FinishReason::ToolCalls,
            "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
            "refusal" => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        });
    }

    /// Tokens read are told at the start, tokens written at the end; some servers tell all of them at the end.
    fn count(&mut self, usage: &Value) {
        if let Some(fresh) = count(usage, "/input_tokens") {
            let kept = count(usage, "/cache_read_input_tokens").unwrap_or(0);
            let written = count(usage, "/cache_creation_input_tokens").unwrap_or(0);
            self.tokens.input = fresh.saturating_add(kept).saturating_add(written);
            self.tokens.cached_input = kept;
        }
        if let Some(output) = count(usage, "/output_tokens") {
            self.tokens.output = output;
            self.counted = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names() {
        for (name, expected) in [
            ("claude-sonnet-4-5-20250929", (4, 5)),
            ("claude-3-7-sonnet-latest", (3, 7)),
            ("claude-opus-4-20250514", (4, 0)),
            ("claude-haiku-5", (5, 0)),
            ("my-model", (0, 0)),
        ] {
            assert_eq!(version(name), expected, "{name}");
        }
    }

    #[test]
    fn a_schema_is_closed_or_not_taken() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object", "properties": {"b": {"enum": [1]}}}}}, "required": ["a"]});
        let closed_schema = closed(&schema).unwrap();
        assert_eq!(closed_schema["additionalProperties"], json!(false));
        assert_eq!(closed_schema["properties"]["a"]["items"]["additionalProperties"], json!(false));
        for open in [
            json!({"type": "object"}),
            json!({"type": "object", "properties": {}, "additionalProperties": true}),
            json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}),
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {}}}),
            json!(true),
        ] {
            assert_eq!(closed(&open), None, "{open}");
        }
    }
}
