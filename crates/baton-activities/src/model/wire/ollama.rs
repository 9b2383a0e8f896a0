//! Ollama's own chat. A stream is one JSON text a line; the last one has `done`.

use baton_agent::{Attachment, FinishReason, Message, ModelRequest, Provider, ReasoningEffort, Tokens, ToolCall};
use baton_execution::Fault;
use reqwest::Url;
use serde_json::{Value, json};

use super::{
    Broken, Heard, Listener, Question, Said, Wire, below, count, demanded, ends_with_any, object, own_data,
    parts::{Part, Source, part},
    put, text, unsupported,
};
use crate::model::speech::Speech;

/// The protocol.
pub(super) struct Ollama;

impl Wire for Ollama {
    fn question(&self, request: &ModelRequest, base: &Url) -> Result<Question, Fault> {
        let model = &request.model;
        // A format holds for the whole answer: a model that is held to it cannot call tools.
        let (held, in_words) = match &request.output_schema {
            Some(schema) if request.tools.is_empty() => (Some(schema), None),
            schema => (None, schema.as_ref()),
        };
        let mut messages = vec![json!({"role": "system", "content": demanded(&request.instructions, in_words)})];
        for message in &request.messages {
            messages.push(self::message(request, message)?);
        }
        let mut body = json!({"model": model.name, "messages": messages, "stream": true});
        put(&mut body, "format", held.cloned());
        put(&mut body, "think", model.reasoning_effort.map(|effort| thinking(effort, &model.name)));
        let tools = request.tools.iter().map(|tool| json!({"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters}}));
        put(&mut body, "tools", (!request.tools.is_empty()).then(|| tools.collect::<Vec<_>>()));
        let mut options = json!({});
        put(&mut options, "temperature", model.temperature);
        put(&mut options, "top_p", model.top_p);
        put(&mut options, "num_predict", model.max_output_tokens);
        put(&mut options, "stop", (!model.stop.is_empty()).then(|| model.stop.clone()));
        put(&mut options, "seed", model.seed);
        put(&mut body, "options", options.as_object().is_some_and(|it| !it.is_empty()).then_some(options));
        let path = if ends_with_any(base, &["api"]) { "chat" } else { "api/chat" };
        Ok(Question { url: below(base, path), body })
    }

    fn listen(&self) -> Box<dyn Listener> {
        Box::new(Hearing::default())
    }
}

/// Some models know levels, the others only whether to think.
fn thinking(effort: ReasoningEffort, name: &str) -> Value {
    match effort {
        ReasoningEffort::None => json!(false),
        ReasoningEffort::Minimal if name.starts_with("gpt-oss") => json!("low"),
        effort if name.starts_with("gpt-oss") => json!(effort.as_str()),
        ReasoningEffort::Minimal | ReasoningEffort::Low | ReasoningEffort::Medium | ReasoningEffort::High => {
            json!(true)
        }
    }
}

fn message(request: &ModelRequest, message: &Message) -> Result<Value, Fault> {
    Ok(match message {
        Message::User { content, attachments } => {
            let (mut content, mut images) = (content.clone(), Vec::new());
            for attachment in attachments {
                match part(attachment)? {
                    Part::Text(text) => content = format!("{content}\n\n{text}"),
                    Part::Image(Source::Data(data)) => images.push(data),
                    Part::Image(Source::Url(_)) | Part::Audio(_) | Part::File(_) => {
                        let Attachment { name, .. } = attachment;
                        return Err(unsupported(name, "it takes images with 'data', and text", Provider::Ollama));
                    }
                }
            }
            let mut said = json!({"role": "user", "content": content});
            put(&mut said, "images", (!images.is_empty()).then_some(images));
            said
        }
        Message::Tool { name, content, .. } => json!({"role": "tool", "tool_name": name, "content": content}),
        Message::Assistant { content, tool_calls, provider_data } => {
            let mut said = json!({"role": "assistant", "content": content.as_deref().unwrap_or_default()});
            put(
                &mut said,
                "thinking",
                own_data(request, provider_data.as_ref()).and_then(|data| text(data, "/thinking")),
            );
            let calls = tool_calls
                .iter()
                .map(|call| json!({"function": {"name": call.name, "arguments": object(&call.arguments)}}));
            put(&mut said, "tool_calls", (!tool_calls.is_empty()).then(|| calls.collect::<Vec<_>>()));
            said
        }
    })
}

#[derive(Default)]
struct Hearing {
    said: Said,
    thoughts: String,
}

impl Listener for Hearing {
    fn hear(&mut self, mut frame: Value, aloud: &mut Speech<'_>) -> Result<Heard, Broken> {
        if let Some(error) = text(&frame, "/error") {
            return Err(Broken::Refused { said: error.chars().take(super::SHOWN_MAX).collect(), transient: false });
        }
        if !frame.get("message").is_some_and(Value::is_object) && frame.get("done").is_none() {
            return Err(Broken::Nonsense("is not an answer of Ollama's chat"));
        }
        let (said, thought) = (text(&frame, "/message/content"), text(&frame, "/message/thinking"));
        aloud.reasoning(thought.unwrap_or_default());
        aloud.text(said.unwrap_or_default());
        self.said.text.push_str(said.unwrap_or_default());
        self.thoughts.push_str(thought.unwrap_or_default());
        if let Some(Value::Array(calls)) = frame.pointer_mut("/message/tool_calls").map(Value::take) {
            let before = self.said.calls.len();
            self.said.calls.extend(calls.into_iter().map(|mut call| {
                let given = call.pointer_mut("/function/arguments").map(Value::take).unwrap_or_default();
                ToolCall {
                    id: text(&call, "/id").unwrap_or_default().to_owned(),
                    name: text(&call, "/function/name").unwrap_or_default().to_owned(),
                    arguments: match given {
                        Value::Null => json!({}),
                        Value::String(text) => super::arguments(&text),
                        given => given,
                    },
                }
            }));
            aloud.calls(&self.said.calls, before);
        }
        if frame.get("done").and_then(Value::as_bool) != Some(true) {
            return Ok(Heard::More);
        }
        self.said.finish = Some(match text(&frame, "/done_reason") {
            Some("stop") | None => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            Some(_) => FinishReason::Other,
        });
        self.said.model = text(&frame, "/model").map(str::to_owned);
        if let Some(output) = count(&frame, "/eval_count") {
            // What it had kept of the question it does not count again.
            let input = count(&frame, "/prompt_eval_count").unwrap_or(0);
            self.said.tokens = Some(Tokens { input, cached_input: 0, output });
        }
        Ok(Heard::Whole)
    }

    fn finish(mut self: Box<Self>) -> Result<Said, Broken> {
        self.said.data = (!self.thoughts.is_empty()).then(|| json!({"thinking": self.thoughts}));
        self.said.whole()
    }
}
