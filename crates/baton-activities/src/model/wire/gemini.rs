//! Google's Gemini: `streamGenerateContent`.
//!
//! Calls have no ids here: results are matched by name and order. Signatures of thoughts belong to the part that they came with.

use baton_agent::{Attachment, FinishReason, Message, ModelRequest, ReasoningEffort, Tokens, ToolCall};
use baton_execution::Fault;
use percent_encoding::utf8_percent_encode;
use reqwest::{Url, header::HeaderName};
use serde_json::{Value, json};

use super::{
    Broken, Heard, Listener, Question, Said, Wire, below, count, demanded, ends_with_any, error_in, groups, object,
    own_data,
    parts::{Part, Source, part},
    put, text, tool_name,
};
use crate::body::RESERVED;
use crate::model::speech::Speech;

/// The protocol.
pub(super) struct Gemini;

impl Wire for Gemini {
    fn question(&self, request: &ModelRequest, base: &Url) -> Result<Question, Fault> {
        let model = &request.model;
        let name = model.name.strip_prefix("models/").unwrap_or(&model.name);
        // Older models refuse to be held to JSON while they have tools.
        let holds = request.tools.is_empty() || !(name.starts_with("gemini-1") || name.starts_with("gemini-2"));
        let mut contents = Vec::new();
        for group in groups(&request.messages) {
            contents.push(content(request, group)?);
        }
        let in_words = request.output_schema.as_ref().filter(|_| !holds);
        let mut body = json!({
            "systemInstruction": {"parts": [{"text": demanded(&request.instructions, in_words)}]}, "contents": contents,
        });
        let mut config = json!({});
        put(&mut config, "temperature", model.temperature);
        put(&mut config, "topP", model.top_p);
        put(&mut config, "maxOutputTokens", model.max_output_tokens);
        put(&mut config, "stopSequences", (!model.stop.is_empty()).then(|| model.stop.clone()));
        put(&mut config, "seed", model.seed);
        put(&mut config, "thinkingConfig", model.reasoning_effort.map(|effort| thinking(effort, name)));
        if let Some(schema) = request.output_schema.as_ref().filter(|_| holds) {
            config["responseMimeType"] = json!("application/json");
            config["responseJsonSchema"] = schema.clone();
        }
        put(&mut body, "generationConfig", config.as_object().is_some_and(|it| !it.is_empty()).then_some(config));
        if !request.tools.is_empty() {
            let tools = request.tools.iter().map(|tool| json!({"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}));
            body["tools"] = json!([{"functionDeclarations": tools.collect::<Vec<_>>()}]);
        }
        let version = if ends_with_any(base, &["v1", "v1beta"]) { "" } else { "v1beta/" };
        let name = utf8_percent_encode(name, RESERVED);
        let mut url = below(base, &format!("{version}models/{name}:streamGenerateContent"));
        url.query_pairs_mut().append_pair("alt", "sse");
        Ok(Question { url, body })
    }

    fn key_header(&self, key: &str) -> (HeaderName, String) {
        (HeaderName::from_static("x-goog-api-key"), key.to_owned())
    }

    fn listen(&self) -> Box<dyn Listener> {
        Box::new(Hearing::default())
    }
}

fn thinking(effort: ReasoningEffort, name: &str) -> Value {
    if name.starts_with("gemini-2") {
        let budget = match effort {
            ReasoningEffort::None => 0,
            ReasoningEffort::Minimal => 512,
            ReasoningEffort::Low => 1024,
            ReasoningEffort::Medium => 8192,
            ReasoningEffort::High => 24_576,
        };
        return json!({"thinkingBudget": budget});
    }
    let level = if effort == ReasoningEffort::None { ReasoningEffort::Minimal } else { effort };
    json!({"thinkingLevel": level.as_str()})
}

fn content(request: &ModelRequest, group: &[Message]) -> Result<Value, Fault> {
    let mut role = "user";
    let mut parts = Vec::new();
    for message in group {
        match message {
            Message::User { content, attachments } => {
                parts.push(json!({"text": content}));
                for attachment in attachments {
                    parts.push(attached(attachment)?);
                }
            }
            Message::Tool { name, content, failed, .. } => {
                let result = match serde_json::from_str::<Value>(content) {
                    Ok(value) if value.is_object() && !failed => value,
                    Ok(_) | Err(_) => json!({if *failed { "error" } else { "result" }: content}),
                };
                parts.push(json!({"functionResponse": {"name": tool_name(name), "response": result}}));
            }
            Message::Assistant { content, tool_calls, provider_data } => {
                role = "model";
                let data = own_data(request, provider_data.as_ref());
                let signed = |mut part: Value, pointer: &str| {
                    put(&mut part, "thoughtSignature", data.and_then(|data| text(data, pointer)));
                    part
                };
                if let Some(content) = content.as_deref().filter(|content| !content.is_empty() || tool_calls.is_empty())
                {
                    parts.push(signed(json!({"text": content}), "/text"));
                }
                parts.extend(tool_calls.iter().enumerate().map(|(index, call)| {
                    let call =
                        json!({"functionCall": {"name": tool_name(&call.name), "args": object(&call.arguments)}});
                    signed(call, &format!("/calls/{index}"))
                }));
            }
        }
    }
    Ok(json!({"role": role, "parts": parts}))
}

fn attached(attachment: &Attachment) -> Result<Value, Fault> {
    let media_type = &attachment.media_type;
    Ok(match part(attachment)? {
        Part::Text(text) => json!({"text": text}),
        Part::Image(source) | Part::Audio(source) | Part::File(source) => match source {
            Source::Data(data) => json!({"inlineData": {"mimeType": media_type, "data": data}}),
            Source::Url(url) => json!({"fileData": {"mimeType": media_type, "fileUri": url}}),
        },
    })
}

#[derive(Default)]
struct Hearing {
    said: Said,
    text_signature: Option<String>,
    /// Of each call.
    signatures: Vec<Option<String>>,
}

impl Listener for Hearing {
    fn hear(&mut self, mut frame: Value, aloud: &mut Speech<'_>) -> Result<Heard, Broken> {
        if !frame.is_object() {
            return Err(Broken::Nonsense("is not a response of generateContent"));
        }
        if let Some(broken) = error_in(&frame) {
            return Err(broken);
        }
        if let Some(model) = text(&frame, "/modelVersion") {
            self.said.model = Some(model.to_owned());
        }
        if let Some(input) = count(&frame, "/usageMetadata/promptTokenCount") {
            let spoken = count(&frame, "/usageMetadata/candidatesTokenCount").unwrap_or(0);
            let thought = count(&frame, "/usageMetadata/thoughtsTokenCount").unwrap_or(0);
            let cached_input = count(&frame, "/usageMetadata/cachedContentTokenCount").unwrap_or(0);
            self.said.tokens = Some(Tokens { input, cached_input, output: spoken.saturating_add(thought) });
        }
        if text(&frame, "/promptFeedback/blockReason").is_some() {
            self.said.finish = Some(FinishReason::ContentFilter);
        }
        if let Some(reason) = text(&frame, "/candidates/0/finishReason") {
            self.said.finish = Some(match reason {
                "STOP" => FinishReason::Stop,
                "MAX_TOKENS" => FinishReason::Length,
                "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY" => {
                    FinishReason::ContentFilter
                }
                _ => FinishReason::Other,
            });
        }
        if let Some(Value::Array(parts)) = frame.pointer_mut("/candidates/0/content/parts").map(Value::take) {
            for part in parts {
                self.part(part, aloud);
            }
        }
        Ok(Heard::More)
    }

    fn finish(mut self: Box<Self>) -> Result<Said, Broken> {
        if self.text_signature.is_some() || self.signatures.iter().any(Option::is_some) {
            self.said.data = Some(json!({"text": self.text_signature, "calls": self.signatures}));
        }
        self.said.whole()
    }
}

impl Hearing {
    fn part(&mut self, mut part: Value, aloud: &mut Speech<'_>) {
        // A summary of thoughts is not part of the answer.
        if part.get("thought").and_then(Value::as_bool) == Some(true) {
            aloud.reasoning(text(&part, "/text").unwrap_or_default());
            return;
        }
        let signature = text(&part, "/thoughtSignature").map(str::to_owned);
        if let Some(said) = text(&part, "/text") {
            aloud.text(said);
            self.said.text.push_str(said);
            self.text_signature = signature.or(self.text_signature.take());
        } else if let Some(mut call) = part.get_mut("functionCall").map(Value::take) {
            let arguments = call.get_mut("args").map(Value::take).filter(|args| !args.is_null());
            self.said.calls.push(ToolCall {
                id: text(&call, "/id").unwrap_or_default().to_owned(),
                name: text(&call, "/name").unwrap_or_default().to_owned(),
                arguments: arguments.unwrap_or_else(|| json!({})),
            });
            aloud.calls(&self.said.calls, self.signatures.len());
            self.signatures.push(signature);
        }
    }
}
