//! What a server decides about the world outside.

use std::fmt;

use crate::egress::EgressPolicy;

/// Largest response that is read where nothing else is said: 8 MiB.
const RESPONSE_BYTES_MAX_DEFAULT: usize = 8 * 1024 * 1024;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the moment of its use.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Options of [`crate::WorldActivities`].
#[derive(Clone, Debug)]
pub struct ActivitiesOptions {
    /// What may be called.
    pub egress: EgressPolicy,
    /// Where models are asked unless an agent names another place, such as `https://api.openai.com/v1`
    /// (`BATON_MODEL_BASE_URL`, else `OPENAI_BASE_URL`).
    pub model_base_url: Option<String>,
    /// Key for `model_base_url`, and for nothing else: an agent that names another origin does not get it
    /// (`BATON_MODEL_API_KEY`, else `OPENAI_API_KEY`).
    pub model_api_key: Option<Secret>,
    /// Milliseconds for making a connection.
    pub connect_timeout_ms: u64,
    /// Largest response body that is read, in bytes.
    pub response_bytes_max: usize,
    /// Milliseconds before the first repetition of a model call; doubled for each further one.
    pub model_retry_initial_ms: u64,
}

impl Default for ActivitiesOptions {
    fn default() -> Self {
        Self {
            egress: EgressPolicy::default(),
            model_base_url: None,
            model_api_key: None,
            connect_timeout_ms: 10_000,
            response_bytes_max: RESPONSE_BYTES_MAX_DEFAULT,
            model_retry_initial_ms: 500,
        }
    }
}

/// Why activities cannot be run at all.
#[derive(Debug, thiserror::Error)]
pub enum ActivitiesError {
    /// TLS cannot be used.
    #[error("set up TLS for outgoing calls")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("set up the client for outgoing calls")]
    Client(#[source] reqwest::Error),
    /// `model_base_url` cannot be used.
    #[error("the model base URL '{url}' cannot be used: {why}")]
    ModelBaseUrl {
        /// As it was given.
        url: String,
        /// What is wrong and what is allowed.
        why: String,
    },
    /// `model_api_key` cannot be used.
    #[error("the model API key holds characters that cannot be sent in a header; allowed are visible ASCII characters")]
    ModelApiKey,
}
