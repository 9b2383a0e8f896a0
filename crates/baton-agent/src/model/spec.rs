//! Which model answers and how it is asked: `model` in the spec of an agent.

use baton_types::check_name;
use serde::{Deserialize, Serialize};

use super::{Playback, Price};
use crate::fields::{Fields, cut, kind_of};

/// Longest name of a model, in bytes.
const MODEL_NAME_BYTES_MAX: usize = 256;
/// Longest instructions, in bytes: every model call carries them.
pub(crate) const INSTRUCTIONS_BYTES_MAX: usize = 256 * 1024;
/// How long one model call may take where the spec says nothing.
const MODEL_TIMEOUT_MS_DEFAULT: u64 = 5 * 60 * 1000;
/// Models that are asked in place of one that does not answer.
const FALLBACKS_MAX: usize = 8;
/// Texts at which a model stops, and the longest of them in bytes: what the strictest provider accepts.
const STOP_MAX: usize = 4;
const STOP_BYTES_MAX: usize = 256;
/// Attempts of one call.
const ATTEMPTS_MAX: u32 = 10;
/// Longest key of a Secret, in bytes.
const SECRET_KEY_BYTES_MAX: usize = 253;

/// Which model answers, and how it is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSpec {
    /// Name of the model as the provider knows it.
    pub name: String,
    /// Who answers.
    pub provider: Provider,
    /// Where the provider is; `None` for the server's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Where the key is kept; `None` for the server's key of that provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretKey>,
    /// From 0 to 2; `None` for the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// From 0 to 1; `None` for the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Most tokens of one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// Texts at which an answer ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Makes answers repeatable, where the provider can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// How much the model thinks before it answers; `None` for the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<ReasoningEffort>,
    /// How long one call may take, its repetitions included, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// When a call is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetrySpec>,
    /// Asked in this order when the one before has failed for good. They have no fallbacks of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<ModelSpec>,
    /// What it costs; `None` for the server's table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Scripted turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playback: Option<Playback>,
}

/// A value of a Secret of the agent's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret.
    pub secret: String,
    /// Key of the value within it.
    pub key: String,
}

/// Who answers for a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Provider {
    /// Any server that speaks OpenAI's chat completions.
    #[default]
    #[serde(rename = "openai")]
    OpenAi,
    /// OpenAI's responses.
    #[serde(rename = "openai-responses")]
    OpenAiResponses,
    /// Anthropic's messages.
    #[serde(rename = "anthropic")]
    Anthropic,
    /// Google's Gemini.
    #[serde(rename = "gemini")]
    Gemini,
    /// Ollama's own chat.
    #[serde(rename = "ollama")]
    Ollama,
    /// The script in the spec.
    #[serde(rename = "playback")]
    Playback,
}

impl Provider {
    /// All of them, in the order in which they are named to people.
    pub const ALL: [Self; 6] =
        [Self::OpenAi, Self::OpenAiResponses, Self::Anthropic, Self::Gemini, Self::Ollama, Self::Playback];

    /// The word of the spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::OpenAiResponses => "openai-responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
            Self::Playback => "playback",
        }
    }
}

/// How much a model thinks before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReasoningEffort {
    /// Not at all.
    None,
    /// As little as it can.
    Minimal,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

impl ReasoningEffort {
    const ALL: [Self; 5] = [Self::None, Self::Minimal, Self::Low, Self::Medium, Self::High];

    /// The word of the spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// When a call is repeated that met something that may pass; `None` for the server's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrySpec {
    /// Attempts, the first one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_attempts: Option<u32>,
    /// Before the first repetition, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_interval_ms: Option<u64>,
    /// Longest pause, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_interval_ms: Option<u64>,
    /// By which the pause grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_coefficient: Option<f64>,
}

impl ModelSpec {
    /// How long one call of this model may take, in milliseconds.
    pub fn call_timeout_ms(&self) -> u64 {
        self.timeout_ms.unwrap_or(MODEL_TIMEOUT_MS_DEFAULT)
    }

    /// How long a call and those of the fallbacks may take, one after the other, in milliseconds.
    pub(crate) fn whole_timeout_ms(&self) -> u64 {
        self.fallbacks.iter().fold(self.call_timeout_ms(), |sum, model| sum.saturating_add(model.call_timeout_ms()))
    }

    pub(crate) fn read(fields: &Fields<'_>) -> Self {
        let mut model = Self::read_one(fields);
        model.fallbacks = fields
            .list("fallbacks", FALLBACKS_MAX)
            .into_iter()
            .filter_map(|(path, item)| Fields::of(fields.report, path, item))
            .map(|own| {
                let fallback = Self::read_one(&own);
                own.finish();
                fallback
            })
            .collect();
        model
    }

    fn read_one(fields: &Fields<'_>) -> Self {
        let name = fields.required_text("name");
        if let Some(name) = name.filter(|name| name.len() > MODEL_NAME_BYTES_MAX) {
            fields.violation("name", format!("has {} bytes, allowed are 1 to {MODEL_NAME_BYTES_MAX}", name.len()));
        }
        let provider =
            one_of(fields, "provider", "a provider", &Provider::ALL, Provider::as_str).unwrap_or(Provider::OpenAi);
        let base_url = fields.text("baseUrl");
        if base_url.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            fields.violation("baseUrl", "must begin with 'http://' or 'https://'");
        }
        let playback = fields.object("playback").map(Playback::read);
        if provider == Provider::Playback && fields.get("playback").is_none() {
            fields.violation("playback", "must be given for the provider 'playback'");
        }
        for name in unknown_to(provider) {
            if fields.get(name).is_some() {
                fields.violation(name, format!("is not known to the provider '{}'", provider.as_str()));
            }
        }
        Self {
            name: name.unwrap_or_default().to_owned(),
            provider,
            base_url: base_url.map(str::to_owned),
            api_key: fields.object("apiKey").map(SecretKey::read),
            temperature: fields.number("temperature", 0.0, 2.0),
            top_p: fields.number("topP", 0.0, 1.0),
            max_output_tokens: fields.count("maxOutputTokens", 1, i32::MAX as u32),
            stop: read_stop(fields),
            seed: fields.count("seed", 0, i32::MAX as u32),
            reasoning_effort: one_of(
                fields,
                "reasoningEffort",
                "an effort",
                &ReasoningEffort::ALL,
                ReasoningEffort::as_str,
            ),
            timeout_ms: fields.duration_ms("timeout"),
            retry: fields.object("retry").map(RetrySpec::read),
            fallbacks: Vec::new(),
            price: fields.object("price").and_then(Price::read),
            playback,
        }
    }
}

impl SecretKey {
    pub(crate) fn read(fields: Fields<'_>) -> Self {
        let secret = fields.required_text("secret").unwrap_or_default();
        if !secret.is_empty()
            && let Err(why) = check_name(secret)
        {
            fields.violation("secret", why);
        }
        let key = fields.required_text("key").unwrap_or_default();
        if key.len() > SECRET_KEY_BYTES_MAX {
            fields.violation("key", format!("has {} bytes, allowed are 1 to {SECRET_KEY_BYTES_MAX}", key.len()));
        }
        fields.finish();
        Self { secret: secret.to_owned(), key: key.to_owned() }
    }
}

impl RetrySpec {
    fn read(fields: Fields<'_>) -> Self {
        let retry = Self {
            maximum_attempts: fields.count("maximumAttempts", 1, ATTEMPTS_MAX),
            initial_interval_ms: fields.duration_ms("initialInterval"),
            maximum_interval_ms: fields.duration_ms("maximumInterval"),
            backoff_coefficient: fields.number("backoffCoefficient", 1.0, 10.0),
        };
        fields.finish();
        retry
    }
}

/// Settings that a provider has no word for.
fn unknown_to(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::OpenAiResponses => &["stop", "seed"],
        Provider::Anthropic => &["seed"],
        Provider::OpenAi | Provider::Gemini | Provider::Ollama | Provider::Playback => &[],
    }
}

fn read_stop(fields: &Fields<'_>) -> Vec<String> {
    let mut stop = Vec::new();
    for (path, item) in fields.list("stop", STOP_MAX) {
        match item.as_str() {
            Some(text) if !text.is_empty() && text.len() <= STOP_BYTES_MAX => stop.push(text.to_owned()),
            Some(text) => {
                fields.report.add(path, format!("has {} bytes, allowed are 1 to {STOP_BYTES_MAX}", text.len()));
            }
            None => fields.report.add(path, format!("must be a string, found {}", kind_of(item))),
        }
    }
    stop
}

/// One of a few words; any other is a violation.
fn one_of<T: Copy>(
    fields: &Fields<'_>,
    name: &'static str,
    what: &str,
    all: &[T],
    word: impl Fn(T) -> &'static str,
) -> Option<T> {
    let text = fields.text(name)?;
    let found = all.iter().copied().find(|it| word(*it) == text);
    if found.is_none() {
        let allowed: Vec<String> = all.iter().map(|it| format!("'{}'", word(*it))).collect();
        fields.violation(name, format!("'{}' is not {what}; allowed are {}", cut(text, 64), allowed.join(", ")));
    }
    found
}
