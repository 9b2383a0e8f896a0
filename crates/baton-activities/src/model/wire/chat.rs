//! OpenAI's chat completions, as OpenAI and most other model servers speak them.
//!
//! Servers differ in what they leave out and in what they write otherwise, so reading is lenient: an answer that was not streamed
//! is read alike, calls are told apart by index or by id, arguments may be JSON instead of text.

use baton_agent::{Attachment, FinishReason, Message, ModelRequest, Provider, ReasoningEffort, Tokens, ToolCall};
use baton_execution::Fault;
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::{
    Broken, Heard, Listener, Question, Said, Wire, below, count, error_in, own_data,
    parts::{Part, Source, part},
    put, text, unsupported,
};
use crate::model::speech::Speech;

/// The protocol.
pub(super) struct Chat;

impl Wire for Chat {
    fn question(&self, request: &ModelRequest, base: &Url) -> Result<Question, Fault> {
        let (model, url) = (&request.model, below(base, "chat/completions"));
        let mut messages = vec![json!({"role": "system", "content": request.instructions})];
        for message in &request.messages {
            messages.push(self::message(request, message)?);
        }
        let mut body = json!({
            "model": model.name, "messages": messages, "stream": true, "stream_options": {"include_usage": true},
        });
        put(&mut body, "temperature", model.temperature);
        put(&mut body, "top_p", model.top_p);
        // OpenAI's own newer models know only the new name, most other servers only the old one.
        let limit = if url.host_str() == Some("api.openai.com") { "max_completion_tokens" } else { "max_tokens" };
        put(&mut body, limit, model.max_output_tokens);
        put(&mut body, "seed", model.seed);
        put(&mut body, "stop", (!model.stop.is_empty()).then(|| model.stop.clone()));
        put(&mut body, "reasoning_effort", model.reasoning_effort.map(ReasoningEffort::as_str));
        let tools = request.tools.iter().map(|tool| json!({"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters}}));
        put(&mut body, "tools", (!request.tools.is_empty()).then(|| tools.collect::<Vec<_>>()));
        let format =
            |schema: &Value| json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
        put(&mut body, "response_format", request.output_schema.as_ref().map(format));
        Ok(Question { url, body })
    }

    fn listen(&self) -> Box<dyn Listener> {
        Box::new(Hearing::default())
    }
}

fn message(request: &ModelRequest, message: &Message) -> Result<Value, Fault> {
    Ok(match message {
        Message::User { content, attachments } if attachments.is_empty() => json!({"role": "user", "content": content}),
        Message::User { content, attachments } => {
            let mut parts = vec![json!({"type": "text", "text": content})];
            for attachment in attachments {
                parts.push(attached(attachment)?);
            }
            json!({"role": "user", "content": parts})
        }
        Message::Tool { call_id, content, .. } => json!({"role": "tool", "tool_call_id": call_id, "content": content}),
        Message::Assistant { content, tool_calls, provider_data } => {
            let mut said = json!({"role": "assistant", "content": content});
            let data = own_data(request, provider_data.as_ref());
            let calls = tool_calls.iter().enumerate().map(|(index, call)| {
                // A provider refuses its own call without a name when it comes back.
                let name = if call.name.is_empty() { "unknown" } else { &call.name };
                let arguments = call.arguments.as_str().map_or_else(|| call.arguments.to_string(), str::to_owned);
                let mut call =
                    json!({"id": call.id, "type": "function", "function": {"name": name, "arguments": arguments}});
                let extra = data.and_then(|data| data.get("extra_content")?.get(index)).filter(|it| !it.is_null());
                put(&mut call, "extra_content", extra.cloned());
                call
            });
            put(&mut said, "tool_calls", (!tool_calls.is_empty()).then(|| calls.collect::<Vec<_>>()));
            for name in ["reasoning_content", "reasoning_details"] {
                put(&mut said, name, data.and_then(|data| data.get(name)).cloned());
            }
            said
        }
    })
}

fn attached(attachment: &Attachment) -> Result<Value, Fault> {
    let Attachment { name, media_type, .. } = attachment;
    let refuse = |what| Err(unsupported(name, what, Provider::OpenAi));
    Ok(match part(attachment)? {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image(source) => json!({"type": "image_url", "image_url": {"url": source.url(media_type)}}),
        Part::Audio(Source::Data(data)) => {
            let format = match media_type.as_str() {
                "audio/wav" | "audio/x-wav" | "audio/wave" => "wav",
                "audio/mpeg" | "audio/mp3" => "mp3",
                _ => return refuse("audio must be 'audio/wav' or 'audio/mpeg'"),
            };
            json!({"type": "input_audio", "input_audio": {"data": data, "format": format}})
        }
        Part::File(source @ Source::Data(_)) => {
            json!({"type": "file", "file": {"filename": name, "file_data": source.url(media_type)}})
        }
        Part::Audio(Source::Url(_)) | Part::File(Source::Url(_)) => {
            return refuse("only images may be given by URL; give 'data'");
        }
    })
}

#[derive(Default)]
struct Hearing {
    said: Said,
    calls: Vec<Call>,
    refusal: String,
    reasoning: String,
    details: Vec<Value>,
}

/// A call of which parts have come.
#[derive(Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    /// Text that came in pieces.
    written: String,
    /// Arguments that came as JSON.
    given: Option<Value>,
    extra: Option<Value>,
}

impl Listener for Hearing {
    fn hear(&mut self, mut frame: Value, aloud: &mut Speech<'_>) -> Result<Heard, Broken> {
        let is_one = frame.as_object().is_some_and(|fields| fields.get("choices").is_none_or(Value::is_array));
        if !is_one {
            return Err(Broken::Nonsense("is not a chat completion"));
        }
        if let Some(broken) = error_in(&frame) {
            return Err(broken);
        }
        if let Some(model) = text(&frame, "/model").filter(|model| !model.is_empty()) {
            self.said.model.get_or_insert_with(|| model.to_owned());
        }
        if let Some((input, output)) =
            count(&frame, "/usage/prompt_tokens").zip(count(&frame, "/usage/completion_tokens"))
        {
            let cached = count(&frame, "/usage/prompt_tokens_details/cached_tokens")
                .or_else(|| count(&frame, "/usage/prompt_cache_hit_tokens"));
            self.said.tokens = Some(Tokens { input, output, cached_input: cached.unwrap_or(0) });
        }
        let Some(choice) = frame.pointer_mut("/choices/0").map(Value::take) else { return Ok(Heard::More) };
        for name in ["delta", "message"] {
            if let Some(part) = choice.get(name).filter(|part| part.is_object()) {
                self.part(part, aloud);
            }
        }
        if let Some(reason) = text(&choice, "/finish_reason") {
            self.said.finish = Some(match reason {
                "stop" => FinishReason::Stop,
                "tool_calls" | "function_call" => FinishReason::ToolCalls,
                "length" => FinishReason::Length,
                "content_filter" => FinishReason::ContentFilter,
                _ => FinishReason::Other,
            });
        }
        Ok(Heard::More)
    }

    fn finish(mut self: Box<Self>) -> Result<Said, Broken> {
        if !self.refusal.is_empty() && self.said.finish.is_some() {
            self.said.text = std::mem::take(&mut self.refusal);
            self.said.finish = Some(FinishReason::ContentFilter);
        }
        let mut data = Map::new();
        if !self.reasoning.is_empty() {
            data.insert("reasoning_content".to_owned(), Value::String(std::mem::take(&mut self.reasoning)));
        }
        if !self.details.is_empty() {
            data.insert("reasoning_details".to_owned(), Value::Array(std::mem::take(&mut self.details)));
        }
        if self.calls.iter().any(|call| call.extra.is_some()) {
            let extra = self.calls.iter_mut().map(|call| call.extra.take().unwrap_or_default()).collect();
            data.insert("extra_content".to_owned(), Value::Array(extra));
        }
        self.said.data = (!data.is_empty()).then_some(Value::Object(data));
        self.said.calls = self.calls.into_iter().map(Call::whole).collect();
        self.said.whole()
    }
}

impl Hearing {
    fn part(&mut self, part: &Value, aloud: &mut Speech<'_>) {
        let before = self.said.text.len();
        match part.get("content") {
            Some(Value::String(content)) => self.said.text.push_str(content),
            Some(Value::Array(parts)) => {
                self.said.text.extend(parts.iter().filter_map(|part| text(part, "/text")));
            }
            Some(_) | None => {}
        }
        aloud.text(&self.said.text[before..]);
        self.refusal.push_str(text(part, "/refusal").unwrap_or_default());
        let thought = text(part, "/reasoning_content").unwrap_or_default();
        aloud.reasoning(thought);
        self.reasoning.push_str(thought);
        self.details.extend(part.get("reasoning_details").and_then(Value::as_array).into_iter().flatten().cloned());
        for call in part.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.call(call, aloud);
        }
    }

    fn call(&mut self, part: &Value, aloud: &mut Speech<'_>) {
        let index = count(part, "/index");
        let id = text(part, "/id").unwrap_or_default();
        let continues = |call: &Call| match index {
            Some(_) => call.index == index && (id.is_empty() || call.id.is_empty() || call.id == id),
            None => !id.is_empty() && call.id == id,
        };
        let found = self.calls.iter().rposition(continues);
        let place = found.unwrap_or_else(|| {
            self.calls.push(Call { index, ..Call::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[place];
        if call.id.is_empty() {
            id.clone_into(&mut call.id);
        }
        if let Some(name) = text(part, "/function/name").filter(|_| call.name.is_empty()) {
            name.clone_into(&mut call.name);
        }
        aloud.call(place, &call.id, &call.name);
        match part.pointer("/function/arguments") {
            Some(Value::String(text)) => {
                aloud.arguments(place, text);
                call.written.push_str(text);
            }
            Some(Value::Null) | None => {}
            Some(given) => {
                aloud.arguments(place, &given.to_string());
                call.given = Some(given.clone());
            }
        }
        if let Some(extra) = part.get("extra_content").filter(|extra| !extra.is_null()) {
            call.extra = Some(extra.clone());
        }
    }
}

impl Call {
    fn whole(self) -> ToolCall {
        let arguments = self.given.unwrap_or_else(|| super::arguments(&self.written));
        ToolCall { id: self.id, name: self.name, arguments }
    }
}
