//! OpenAI's responses. Nothing is kept at the provider: reasoning comes back encrypted and is given back with the next question.
//!
//! # Invariants
//! - Only `response.completed`, `response.incomplete` and `response.failed` end an answer: a stream without one of them was cut.

use baton_agent::{Attachment, FinishReason, Message, ModelRequest, ReasoningEffort, Tokens, ToolCall};
use baton_execution::Fault;
use reqwest::Url;
use serde_json::{Value, json};

use super::{
    Broken, Heard, Listener, Question, Said, Wire, below, count, error_in, own_data,
    parts::{Part, Source, part},
    put, refusal, text, tool_name, unsupported,
};
use crate::model::speech::Speech;

/// The protocol.
pub(super) struct Responses;

impl Wire for Responses {
    fn question(&self, request: &ModelRequest, base: &Url) -> Result<Question, Fault> {
        let model = &request.model;
        let mut input = Vec::new();
        for message in &request.messages {
            items(request, message, &mut input)?;
        }
        let mut body = json!({
            "model": model.name, "instructions": request.instructions, "input": input, "stream": true, "store": false,
        });
        put(&mut body, "temperature", model.temperature);
        put(&mut body, "top_p", model.top_p);
        put(&mut body, "max_output_tokens", model.max_output_tokens);
        put(&mut body, "reasoning", model.reasoning_effort.map(|effort| json!({"effort": effort.as_str()})));
        // Models that do not reason refuse to be asked for it.
        put(&mut body, "include", reasons(request).then(|| json!(["reasoning.encrypted_content"])));
        let tools = request.tools.iter().map(|tool| json!({"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": false}));
        put(&mut body, "tools", (!request.tools.is_empty()).then(|| tools.collect::<Vec<_>>()));
        let format = |schema: &Value| json!({"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": false}});
        put(&mut body, "text", request.output_schema.as_ref().map(format));
        Ok(Question { url: below(base, "responses"), body })
    }

    fn listen(&self) -> Box<dyn Listener> {
        Box::new(Hearing::default())
    }
}

/// Whether the model is one that reasons: what the agent says, else what its name says.
fn reasons(request: &ModelRequest) -> bool {
    match request.model.reasoning_effort {
        Some(effort) => effort != ReasoningEffort::None,
        None => ["o1", "o3", "o4", "gpt-5", "gpt-6", "codex"].iter().any(|start| request.model.name.starts_with(start)),
    }
}

fn items(request: &ModelRequest, message: &Message, input: &mut Vec<Value>) -> Result<(), Fault> {
    match message {
        Message::User { content, attachments } => {
            let mut parts = vec![json!({"type": "input_text", "text": content})];
            for attachment in attachments {
                parts.push(attached(attachment, request)?);
            }
            input.push(json!({"role": "user", "content": parts}));
        }
        Message::Tool { call_id, content, .. } => {
            input.push(json!({"type": "function_call_output", "call_id": call_id, "output": content}));
        }
        Message::Assistant { content, tool_calls, provider_data } => {
            let reasoning =
                own_data(request, provider_data.as_ref()).and_then(|data| data.get("reasoning")?.as_array());
            input.extend(reasoning.into_iter().flatten().cloned());
            if let Some(content) = content.as_deref().filter(|content| !content.is_empty() || tool_calls.is_empty()) {
                input.push(json!({"role": "assistant", "content": content}));
            }
            input.extend(tool_calls.iter().map(|call| {
                let arguments = call.arguments.as_str().map_or_else(|| call.arguments.to_string(), str::to_owned);
                json!({"type": "function_call", "call_id": call.id, "name": tool_name(&call.name), "arguments": arguments})
            }));
        }
    }
    Ok(())
}

fn attached(attachment: &Attachment, request: &ModelRequest) -> Result<Value, Fault> {
    let Attachment { name, media_type, .. } = attachment;
    Ok(match part(attachment)? {
        Part::Text(text) => json!({"type": "input_text", "text": text}),
        Part::Image(source) => json!({"type": "input_image", "detail": "auto", "image_url": source.url(media_type)}),
        Part::File(source @ Source::Data(_)) => {
            json!({"type": "input_file", "filename": name, "file_data": source.url(media_type)})
        }
        Part::File(Source::Url(url)) => json!({"type": "input_file", "file_url": url}),
        Part::Audio(_) => return Err(unsupported(name, "it takes no audio", request.model.provider)),
    })
}

#[derive(Default)]
struct Hearing {
    said: Said,
    /// Text as it came, for servers that send no finished items.
    written: String,
    items: Vec<Value>,
    /// The place in the output of each call that has begun.
    calls: Vec<Option<u64>>,
}

impl Listener for Hearing {
    fn hear(&mut self, mut frame: Value, aloud: &mut Speech<'_>) -> Result<Heard, Broken> {
        let kind = text(&frame, "/type").unwrap_or_default().to_owned();
        match kind.as_str() {
            "response.output_text.delta" => {
                let more = text(&frame, "/delta").unwrap_or_default();
                aloud.text(more);
                self.written.push_str(more);
            }
            // What follows is repeated by finished items.
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                aloud.reasoning(text(&frame, "/delta").unwrap_or_default());
            }
            "response.output_item.added" if text(&frame, "/item/type") == Some("function_call") => {
                let word = |name: &str| text(&frame, name).unwrap_or_default();
                aloud.call(self.calls.len(), word("/item/call_id"), word("/item/name"));
                self.calls.push(count(&frame, "/output_index"));
            }
            "response.function_call_arguments.delta" => {
                let index = count(&frame, "/output_index");
                if let Some(call) = self.calls.iter().rposition(|it| *it == index) {
                    aloud.arguments(call, text(&frame, "/delta").unwrap_or_default());
                }
            }
            "response.output_item.done" => self.items.extend(frame.get_mut("item").map(Value::take)),
            "response.completed" | "response.incomplete" | "response.failed" => {
                let response = frame.get_mut("response").map(Value::take);
                self.end(response.ok_or(Broken::Nonsense("has an end without a response"))?)?;
                return Ok(Heard::Whole);
            }
            "error" => return Err(error_in(&frame).unwrap_or_else(|| refusal(&frame))),
            // An answer that was not streamed.
            "" if text(&frame, "/object") == Some("response") => {
                self.end(frame)?;
                return Ok(Heard::Whole);
            }
            "" => return Err(error_in(&frame).unwrap_or(Broken::Nonsense("is not a response"))),
            // Events that repeat what finished items hold, and those that a later version adds.
            _ => {}
        }
        Ok(Heard::More)
    }

    fn finish(mut self: Box<Self>) -> Result<Said, Broken> {
        let mut refused = false;
        let mut reasoning = Vec::new();
        for mut item in std::mem::take(&mut self.items) {
            match text(&item, "/type") {
                Some("message") => {
                    for part in item.get("content").and_then(Value::as_array).into_iter().flatten() {
                        refused |= part.get("refusal").is_some();
                        let said = text(part, "/text").or_else(|| text(part, "/refusal"));
                        self.said.text.push_str(said.unwrap_or_default());
                    }
                }
                Some("function_call") => self.said.calls.push(ToolCall {
                    id: text(&item, "/call_id").unwrap_or_default().to_owned(),
                    name: text(&item, "/name").unwrap_or_default().to_owned(),
                    arguments: super::arguments(text(&item, "/arguments").unwrap_or_default()),
                }),
                Some("reasoning") if item.get("encrypted_content").is_some_and(Value::is_string) => {
                    // What the provider says about an item's state it does not take back.
                    item.as_object_mut().map(|fields| fields.remove("status"));
                    reasoning.push(item);
                }
                Some(_) | None => {}
            }
        }
        if self.said.text.is_empty() {
            self.said.text = self.written;
        }
        if refused && self.said.finish == Some(FinishReason::Stop) {
            self.said.finish = Some(FinishReason::ContentFilter);
        }
        self.said.data = (!reasoning.is_empty()).then(|| json!({"reasoning": reasoning}));
        self.said.whole()
    }
}

impl Hearing {
    fn end(&mut self, mut response: Value) -> Result<(), Broken> {
        if let Some(broken) = error_in(&response) {
            return Err(broken);
        }
        self.said.finish = Some(match text(&response, "/status") {
            Some("completed") => FinishReason::Stop,
            Some("incomplete") => match text(&response, "/incomplete_details/reason") {
                Some("content_filter") => FinishReason::ContentFilter,
                // Whatever else has cut it short, it is not whole.
                Some(_) | None => FinishReason::Length,
            },
            Some("failed" | "cancelled") => return Err(refusal(&response)),
            Some(_) | None => return Err(Broken::Cut),
        });
        self.said.model = text(&response, "/model").map(str::to_owned);
        if let Some((input, output)) =
            count(&response, "/usage/input_tokens").zip(count(&response, "/usage/output_tokens"))
        {
            let cached_input = count(&response, "/usage/input_tokens_details/cached_tokens").unwrap_or(0);
            self.said.tokens = Some(Tokens { input, cached_input, output });
        }
        if self.items.is_empty()
            && let Some(Value::Array(items)) = response.get_mut("output").map(Value::take)
        {
            self.items = items;
        }
        Ok(())
    }
}
