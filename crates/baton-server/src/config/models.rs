//! `[model]` and `[models]`: where providers are, their keys, and what models cost.

use std::collections::BTreeMap;

use baton_activities::{ModelsOptions, ProviderOptions, Secret, UnknownPrice};
use baton_agent::{Price, Provider};
use serde::{Deserialize, Serialize};

use super::{ConfigError, HiddenText};

/// `[model]`: the provider `openai`, before `[models.openai]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ModelConfig {
    /// Where models are asked unless an agent says otherwise, such as `http://127.0.0.1:11434/v1`. Empty: nowhere.
    pub base_url: String,
    /// Key for that place. Empty: none.
    pub api_key: HiddenText,
}

/// `[models]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ModelsConfig {
    /// Any server that speaks OpenAI's chat completions.
    pub openai: ProviderConfig,
    /// OpenAI's responses. Empty: as `openai`.
    pub openai_responses: ProviderConfig,
    /// Anthropic.
    pub anthropic: ProviderConfig,
    /// Google's Gemini.
    pub gemini: ProviderConfig,
    /// Ollama.
    pub ollama: ProviderConfig,
    /// What becomes of models whose price is not known: `allow`, `refuse` or a price.
    pub unknown_price: UnknownPriceConfig,
    /// Prices by the name of the model, before those of the shipped table.
    pub prices: BTreeMap<String, PriceConfig>,
}

/// One provider.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ProviderConfig {
    /// Where it is asked unless an agent says otherwise. Empty: its usual place.
    pub base_url: String,
    /// Key for that place. Empty: none.
    pub api_key: HiddenText,
}

/// Dollars for a million tokens.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PriceConfig {
    /// Tokens read.
    pub input_per_million: f64,
    /// Tokens written.
    pub output_per_million: f64,
    /// Tokens read that the provider had kept. Absent: as any token read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_per_million: Option<f64>,
}

/// What becomes of models whose price is not known.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum UnknownPriceConfig {
    /// `allow` or `refuse`.
    Word(String),
    /// They are taken to cost this.
    Price(PriceConfig),
}

impl Default for UnknownPriceConfig {
    fn default() -> Self {
        Self::Word("allow".to_owned())
    }
}

impl ModelsConfig {
    /// Looks for what cannot be used.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (name, price) in &self.prices {
            price.read(&format!("models.prices.\"{name}\""))?;
        }
        self.unknown().map(|_| ())
    }

    fn unknown(&self) -> Result<UnknownPrice, ConfigError> {
        match &self.unknown_price {
            UnknownPriceConfig::Word(word) if word == "allow" => Ok(UnknownPrice::Allow),
            UnknownPriceConfig::Word(word) if word == "refuse" => Ok(UnknownPrice::Refuse),
            UnknownPriceConfig::Word(word) => {
                Err(ConfigError(format!("models.unknown-price is '{word}', allowed are 'allow', 'refuse' and a price")))
            }
            UnknownPriceConfig::Price(price) => price.read("models.unknown-price").map(UnknownPrice::Assume),
        }
    }
}

impl PriceConfig {
    fn read(self, path: &str) -> Result<Price, ConfigError> {
        Price::from_dollars(self.input_per_million, self.output_per_million, self.cached_input_per_million)
            .ok_or_else(|| ConfigError(format!("{path} must have prices from 0 to 1000000 dollars")))
    }
}

/// What models may be asked, from a configuration that was checked.
pub(super) fn options(model: ModelConfig, models: ModelsConfig) -> ModelsOptions {
    let unknown_price = models.unknown().unwrap_or(UnknownPrice::Refuse);
    let ModelsConfig { openai, openai_responses, anthropic, gemini, ollama, prices, .. } = models;
    let openai = if model.base_url.is_empty() {
        // A key alone is for the place that the other part names.
        let own = !model.api_key.0.is_empty();
        ProviderConfig { api_key: if own { model.api_key } else { openai.api_key }, ..openai }
    } else {
        ProviderConfig { base_url: model.base_url, api_key: model.api_key }
    };
    let text = |text: String| (!text.is_empty()).then_some(text);
    let providers = [
        (Provider::OpenAi, openai),
        (Provider::OpenAiResponses, openai_responses),
        (Provider::Anthropic, anthropic),
        (Provider::Gemini, gemini),
        (Provider::Ollama, ollama),
    ];
    let providers = providers
        .into_iter()
        .map(|(provider, ProviderConfig { base_url, api_key })| {
            (provider, ProviderOptions { base_url: text(base_url), api_key: text(api_key.0).map(Secret::new) })
        })
        .filter(|(_, options)| *options != ProviderOptions::default())
        .collect();
    let prices = prices.into_iter().filter_map(|(name, price)| Some((name, price.read("").ok()?))).collect();
    ModelsOptions { providers, prices, unknown_price, ..ModelsOptions::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ServerOptions, config::resolve};

    fn models(file: &str, variables: &[(&str, &str)]) -> Result<ModelsOptions, ConfigError> {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, it)| (*it).to_owned());
        Ok(ServerOptions::from(resolve(&[], variable, file.parse().unwrap())?.config).models)
    }

    fn place(options: &ModelsOptions, provider: Provider) -> (Option<&str>, Option<&str>) {
        let own = options.providers.get(&provider);
        let key = own.and_then(|own| own.api_key.as_ref()).map(Secret::expose);
        (own.and_then(|own| own.base_url.as_deref()), key)
    }

    #[test]
    fn providers_have_their_own_places_and_keys() {
        let file = "[models.openai]\nbase-url = 'http://a/v1'\napi-key = 'of-a'\n[models.gemini]\napi-key = 'g'\n";
        let options = models(file, &[("ANTHROPIC_API_KEY", "c")]).unwrap();
        assert_eq!(place(&options, Provider::OpenAi), (Some("http://a/v1"), Some("of-a")));
        assert_eq!(place(&options, Provider::Gemini), (None, Some("g")));
        assert_eq!(place(&options, Provider::Anthropic), (None, Some("c")));
        assert_eq!(place(&options, Provider::Ollama), (None, None));
        // The older names come first, and their URL never gets the key of another one.
        let options = models(file, &[("BATON_MODEL_BASE_URL", "http://b/v1")]).unwrap();
        assert_eq!(place(&options, Provider::OpenAi), (Some("http://b/v1"), None));
    }

    #[test]
    fn prices_are_read_and_refused_with_their_path() {
        let file = "[models]\nunknown-price = 'refuse'\n[models.prices.'my.model']\ninput-per-million = 0.5\noutput-per-million = 1\n";
        let options = models(file, &[]).unwrap();
        assert_eq!(options.unknown_price, UnknownPrice::Refuse);
        assert_eq!(options.prices.get("my.model"), Price::from_dollars(0.5, 1.0, None).as_ref());
        let file = "[models]\nunknown-price = {input-per-million = 1.0, output-per-million = 2.0}";
        let assumed = Price::from_dollars(1.0, 2.0, None).unwrap();
        assert_eq!(models(file, &[]).unwrap().unknown_price, UnknownPrice::Assume(assumed));
        assert_eq!(models("", &[]).unwrap().unknown_price, UnknownPrice::Allow);
        for (wrong, says) in [
            ("[models]\nunknown-price = 'free'", "models.unknown-price is 'free'"),
            ("[models.prices.x]\ninput-per-million = -1\noutput-per-million = 1", "models.prices.\"x\""),
            ("[models.prices.x]\ninput-per-million = 1", "output-per-million"),
        ] {
            let refused = models(wrong, &[]).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
