//! Where providers are, and which key goes there.
//!
//! # Invariants
//! - A key of the server goes to the origin that is configured for its provider and nowhere else: an agent that names another
//!   place does not get it.
//! - A key of a Secret goes where the agent that names it says.

use std::{collections::BTreeMap, sync::Arc};

use baton_agent::{ModelSpec, Provider, SecretKey};
use baton_execution::Fault;
use reqwest::{Url, header::HeaderValue};

use super::ModelCall;
use crate::{
    EgressPolicy, Home,
    exchange::refused,
    options::{ActivitiesError, ModelsOptions, Secret},
    outgoing::shown,
    secrets::no_secret,
};

pub(super) struct Places {
    configured: BTreeMap<Provider, Configured>,
    home: Arc<dyn Home>,
}

struct Configured {
    base: Url,
    key: Option<Secret>,
}

/// Where one call goes.
pub(super) struct Place {
    pub(super) base: Url,
    pub(super) key: Option<Secret>,
    /// What to add if the provider does not let the call in.
    pub(super) hint: Option<&'static str>,
}

/// Where a provider is if nobody says otherwise.
fn usual(provider: Provider) -> Option<&'static str> {
    match provider {
        Provider::Anthropic => Some("https://api.anthropic.com"),
        Provider::Gemini => Some("https://generativelanguage.googleapis.com"),
        Provider::Ollama => Some("http://127.0.0.1:11434"),
        // A server that speaks as OpenAI does may be anywhere.
        Provider::OpenAi | Provider::OpenAiResponses | Provider::Playback => None,
    }
}

impl Places {
    pub(super) fn new(
        options: &ModelsOptions,
        egress: &EgressPolicy,
        home: &Arc<dyn Home>,
    ) -> Result<Self, ActivitiesError> {
        let ModelsOptions { providers, .. } = options;
        let mut configured = BTreeMap::new();
        for provider in Provider::ALL {
            // Both are at the same place, unless somebody says otherwise.
            let own = providers.get(&provider).filter(|own| own.base_url.is_some() || own.api_key.is_some());
            let shared = (provider == Provider::OpenAiResponses).then(|| providers.get(&Provider::OpenAi)).flatten();
            let own = own.or(shared);
            if let Some(key) = own.and_then(|own| own.api_key.as_ref()) {
                HeaderValue::from_str(key.expose()).map_err(|_| ActivitiesError::ModelApiKey)?;
            }
            let url = own.and_then(|own| own.base_url.as_deref()).or(usual(provider));
            let Some(text) = url else { continue };
            let wrong = |why: String| ActivitiesError::ModelBaseUrl { url: text.to_owned(), why };
            let base = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
            // The text is shown with the error only if it holds no credentials. What is not configured is judged when it is called.
            if own.is_some_and(|own| own.base_url.is_some()) {
                let checked = egress.check_url(&base);
                checked.map_err(|why| ActivitiesError::ModelBaseUrl { url: shown(&base), why: why.to_string() })?;
            }
            configured.insert(provider, Configured { base, key: own.and_then(|own| own.api_key.clone()) });
        }
        Ok(Self { configured, home: Arc::clone(home) })
    }

    /// Whether there is a place to ask for this model.
    pub(super) fn has(&self, model: &ModelSpec) -> bool {
        model.base_url.is_some() || self.configured.contains_key(&model.provider)
    }

    /// What it means that there is none.
    pub(super) fn nowhere(model: &ModelSpec) -> Fault {
        refused(format!(
            "no URL is configured for the model '{}'; set BATON_MODEL_BASE_URL for the server, or model.baseUrl or model.playback in the agent",
            model.name
        ))
    }

    /// Where this call goes.
    ///
    /// # Errors
    /// A URL that is none, or a Secret that is not there.
    pub(super) async fn of(&self, model: &ModelSpec, call: &ModelCall<'_>) -> Result<Place, Fault> {
        let configured = self.configured.get(&model.provider);
        let base = match (&model.base_url, configured) {
            (Some(text), _) => {
                Url::parse(text).map_err(|error| refused(format!("model.baseUrl is not a URL: {error}")))?
            }
            (None, Some(configured)) => configured.base.clone(),
            (None, None) => return Err(Self::nowhere(model)),
        };
        if let Some(named) = &model.api_key {
            let key = self.secret(&call.task.namespace, named).await?;
            return Ok(Place { base, key: Some(key), hint: None });
        }
        let own = configured.filter(|configured| configured.base.origin() == base.origin());
        let key = own.and_then(|own| own.key.clone());
        let withheld = key.is_none() && configured.is_some_and(|configured| configured.key.is_some());
        let hint = match (withheld, key.is_some()) {
            (true, _) => Some(
                "the server's model key is only sent to the origin that is configured with it; model.apiKey names a Secret for this one",
            ),
            (false, false) => {
                Some("no key is configured for it; set it for the server, or name a Secret in model.apiKey")
            }
            (false, true) => None,
        };
        Ok(Place { base, key, hint })
    }

    async fn secret(&self, namespace: &str, named: &SecretKey) -> Result<Secret, Fault> {
        let SecretKey { secret, key } = named;
        let values = self.home.secret(namespace, secret).await?;
        let mut values = values.ok_or_else(|| no_secret(namespace, secret))?;
        values.remove(key).ok_or_else(|| {
            let known: Vec<String> = values.keys().map(|key| format!("'{key}'")).collect();
            let known =
                if known.is_empty() { "it has none".to_owned() } else { format!("keys are {}", known.join(", ")) };
            refused(format!("secret '{secret}' in namespace '{namespace}' has no key '{key}'; {known}"))
        })
    }
}
