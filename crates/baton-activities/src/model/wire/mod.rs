//! How providers speak: the request that a question becomes, and the answer that the frames of a stream become.
//!
//! One provider is one file here and one line in [`of`]. A wire does no IO: what it makes is sent, and what comes back is read,
//! by the one client for all of them, so that limits, redaction and the egress policy hold for each alike.
//!
//! # Invariants
//! - An answer without a reason for its end was cut off, whatever arrived: [`Broken::Cut`].
//! - Whether tools are to be called is told by the calls alone, never by the reason.
//! - Nothing is sized by a number that a provider sends.
//! - What one provider alone understands (signatures of reasoning) is kept as it came and given back to the same model only.
//!
//! # Deliberately absent
//! Features of one provider that no other has: tools that run at the provider, answers kept at the provider.

mod anthropic;
mod chat;
mod gemini;
mod ollama;
mod parts;
mod responses;

use baton_agent::{FinishReason, Message, ModelRequest, Provider, ProviderData, Tokens, ToolCall};
use baton_execution::Fault;
use reqwest::{Url, header::HeaderName};
use serde_json::{Map, Value, json};

use super::speech::Speech;
use crate::exchange::refused;

/// Characters of a provider's words that a fault shows.
const SHOWN_MAX: usize = 512;
/// Longest name of a tool that providers accept.
const NAME_MAX: usize = 64;

/// A provider's protocol.
pub(super) trait Wire: Sync {
    /// What is sent where; `base` is the provider's URL.
    fn question(&self, request: &ModelRequest, base: &Url) -> Result<Question, Fault>;

    /// The header that carries a key, and its text.
    fn key_header(&self, key: &str) -> (HeaderName, String) {
        (reqwest::header::AUTHORIZATION, format!("Bearer {key}"))
    }

    /// Headers of every request beside the common ones.
    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Puts an answer together.
    fn listen(&self) -> Box<dyn Listener>;
}

/// A request to a provider, always a `POST` of JSON.
pub(super) struct Question {
    pub(super) url: Url,
    pub(super) body: Value,
}

/// Puts the frames of one answer together.
pub(super) trait Listener: Send {
    /// Takes the next frame, and says aloud what is new in it.
    fn hear(&mut self, frame: Value, aloud: &mut Speech<'_>) -> Result<Heard, Broken>;

    /// What was said, once there are no more frames.
    fn finish(self: Box<Self>) -> Result<Said, Broken>;
}

/// Whether there is more to hear.
#[derive(PartialEq, Eq)]
pub(super) enum Heard {
    More,
    /// The answer is whole: nothing after it is read.
    Whole,
}

/// Why there is no answer.
pub(super) enum Broken {
    /// It ended before its end.
    Cut,
    /// It is not what the provider's protocol knows.
    Nonsense(&'static str),
    /// The provider says that it failed, in its own words; `transient` if it may work again.
    Refused { said: String, transient: bool },
}

/// A whole answer.
#[derive(Default)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) calls: Vec<ToolCall>,
    pub(super) finish: Option<FinishReason>,
    /// As reported.
    pub(super) tokens: Option<Tokens>,
    /// Which model answered, in the provider's words.
    pub(super) model: Option<String>,
    /// What the provider wants to see again.
    pub(super) data: Option<Value>,
}

impl Said {
    /// Itself, if the provider said why it ended.
    fn whole(self) -> Result<Self, Broken> {
        if self.finish.is_some() { Ok(self) } else { Err(Broken::Cut) }
    }
}

/// The protocol of a provider; `None` for one that is not asked over a network.
pub(super) fn of(provider: Provider) -> Option<&'static dyn Wire> {
    match provider {
        Provider::OpenAi => Some(&chat::Chat),
        Provider::OpenAiResponses => Some(&responses::Responses),
        Provider::Anthropic => Some(&anthropic::Anthropic),
        Provider::Gemini => Some(&gemini::Gemini),
        Provider::Ollama => Some(&ollama::Ollama),
        Provider::Playback => None,
    }
}

/// A URL below the provider's; what the base has as query stays.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// Whether the base names a version of the API itself, so that none is to be added.
fn ends_with_any(base: &Url, segments: &[&str]) -> bool {
    let last = base.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    segments.contains(&last)
}

/// What the same model said before that only it understands.
fn own_data<'m>(request: &ModelRequest, data: Option<&'m ProviderData>) -> Option<&'m Value> {
    let model = &request.model;
    data.filter(|it| it.provider == model.provider.as_str() && it.model == model.name).map(|it| &it.data)
}

/// A name of a tool as providers accept it when it comes back; a model may have made it up.
fn tool_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let name: String = name.chars().take(NAME_MAX).map(plain).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// Arguments as an object, for providers that accept nothing else.
fn object(arguments: &Value) -> Value {
    if arguments.is_object() { arguments.clone() } else { json!({"arguments": arguments}) }
}

/// Arguments from the text that a model wrote.
fn arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(Map::new());
    }
    // What is not JSON stays text: the loop tells the model so.
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Demands the schema in words, where the provider knows no other way.
fn demanded(instructions: &str, schema: Option<&Value>) -> String {
    match schema {
        None => instructions.to_owned(),
        Some(schema) => format!(
            "{instructions}\n\nYour final answer must be JSON that matches this JSON schema, with no other text:\n{schema}"
        ),
    }
}

/// The error that a frame holds, if it holds one.
fn error_in(frame: &Value) -> Option<Broken> {
    frame.get("error").filter(|error| !error.is_null()).map(refusal)
}

/// A provider's error, whose form is not the same everywhere.
fn refusal(error: &Value) -> Broken {
    let words = ["type", "code", "status"].into_iter().filter_map(|name| error.get(name)?.as_str());
    let kind = words.collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    let passing =
        ["overload", "rate_limit", "server_error", "api_error", "internal", "unavailable", "exhausted", "timeout"];
    let said: String = error.to_string().chars().take(SHOWN_MAX).collect();
    Broken::Refused { said, transient: passing.iter().any(|word| kind.contains(word)) }
}

/// A number of tokens.
fn count(frame: &Value, pointer: &str) -> Option<u64> {
    frame.pointer(pointer).and_then(Value::as_u64)
}

fn text<'v>(frame: &'v Value, pointer: &str) -> Option<&'v str> {
    frame.pointer(pointer).and_then(Value::as_str)
}

/// Sets a field if there is a value.
fn put(body: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body[name] = value.into();
    }
}

/// The fault of an attachment that this provider cannot be given.
fn unsupported(name: &str, what: &str, provider: Provider) -> Fault {
    refused(format!("the attachment '{name}' cannot be given to the provider '{}': {what}", provider.as_str()))
}

/// The messages, results of tools that were called together as one.
fn groups(messages: &[Message]) -> impl Iterator<Item = &[Message]> {
    messages.chunk_by(|one, next| matches!((one, next), (Message::Tool { .. }, Message::Tool { .. })))
}
