//! What models cost: the agent's word, else the server's, else the table that is shipped.
//!
//! # Invariants
//! - A price that nobody knows is never taken for nothing: see [`UnknownPrice`].
//!
//! # Deliberately absent
//! Tiers, batches, tools that providers charge for: the table has the price of an ordinary call.

use std::{collections::BTreeMap, sync::LazyLock};

use baton_agent::{ModelSpec, Price, Provider};
use baton_execution::Fault;
use serde::Deserialize;

use crate::{
    exchange::refused,
    options::{ModelsOptions, UnknownPrice},
};

/// The table, by provider and model; its own text says of which day it is.
static SHIPPED: LazyLock<Table> =
    LazyLock::new(|| serde_json::from_str(include_str!("prices.json")).expect("the shipped table is tested"));

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[cfg_attr(not(test), expect(dead_code, reason = "for those who read the file"))]
    #[serde(rename = "asOf")]
    as_of: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "for those who read the file"))]
    unit: String,
    /// `[input, output]` or `[input, output, cached input]`.
    providers: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

/// What this server knows of prices.
#[derive(Clone, Debug)]
pub struct Prices {
    own: BTreeMap<String, Price>,
    unknown: UnknownPrice,
}

impl Prices {
    /// The prices of these settings, and the shipped table.
    pub fn new(options: &ModelsOptions) -> Self {
        Self { own: options.prices.clone(), unknown: options.unknown_price }
    }

    /// The price that a model is taken to have; `None` if it is not known.
    pub fn known(&self, model: &ModelSpec) -> Option<Price> {
        self.of(model).ok().flatten()
    }

    /// The price of a model; `None` if it is not known.
    ///
    /// # Errors
    /// It is not known, and the server wants to know it.
    pub(super) fn of(&self, model: &ModelSpec) -> Result<Option<Price>, Fault> {
        if model.provider == Provider::Playback {
            return Ok(Some(Price::FREE));
        }
        if let Some(price) = model.price.or_else(|| self.listed(model)) {
            return Ok(Some(price));
        }
        match self.unknown {
            UnknownPrice::Allow => Ok(None),
            UnknownPrice::Assume(price) => Ok(Some(price)),
            UnknownPrice::Refuse => Err(refused(format!(
                "the price of the model '{}' is not known, and this server refuses such models; set model.price in the agent, or models.prices.\"{}\" for the server",
                model.name, model.name
            ))),
        }
    }

    /// The name for metrics: of a model that is in a table, so that agents cannot make up any number of them.
    pub(super) fn label<'m>(&self, model: &'m ModelSpec) -> &'m str {
        if self.listed(model).is_some() { &model.name } else { "other" }
    }

    fn listed(&self, model: &ModelSpec) -> Option<Price> {
        self.own.get(&model.name).copied().or_else(|| shipped(model.provider, &model.name))
    }
}

fn shipped(provider: Provider, name: &str) -> Option<Price> {
    let table = SHIPPED.providers.get(match provider {
        Provider::OpenAiResponses => Provider::OpenAi.as_str(),
        provider => provider.as_str(),
    })?;
    let name = name.strip_prefix("models/").unwrap_or(name);
    let found = table.iter().find(|(model, _)| is_version_of(name, model))?.1;
    Price::from_dollars(*found.first()?, *found.get(1)?, found.get(2).copied())
}

/// Whether a name is that of the model, perhaps with the day of a version.
fn is_version_of(name: &str, model: &str) -> bool {
    let Some(rest) = name.strip_prefix(model) else { return false };
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    rest.is_empty()
        || rest == "-latest"
        || (rest.starts_with('-') && digits(rest) >= 6 && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_table_is_good() {
        let Table { as_of, unit, providers } = &*SHIPPED;
        assert!(as_of.len() == 10 && unit.contains("million"), "{as_of} {unit}");
        for (provider, models) in providers {
            assert!(Provider::ALL.iter().any(|it| it.as_str() == provider), "{provider}");
            for (model, prices) in models {
                assert!(matches!(prices.len(), 2 | 3) && prices[0] > 0.0 && prices[1] >= prices[0], "{model}");
                assert!(prices.get(2).is_none_or(|cached| *cached <= prices[0]), "{model}");
                assert!(Price::from_dollars(prices[0], prices[1], prices.get(2).copied()).is_some(), "{model}");
            }
        }
    }

    #[test]
    fn versions_of_a_model_have_its_price_and_others_do_not() {
        for (name, known) in [
            ("gpt-4o", true),
            ("gpt-4o-2024-08-06", true),
            ("gpt-4o-audio-preview", false),
            ("gpt-4o-20", false),
            ("my-own", false),
        ] {
            assert_eq!(shipped(Provider::OpenAi, name).is_some(), known, "{name}");
            assert_eq!(shipped(Provider::OpenAiResponses, name).is_some(), known, "{name}");
        }
        assert_ne!(shipped(Provider::OpenAi, "gpt-4o"), shipped(Provider::OpenAi, "gpt-4o-mini"));
        assert!(shipped(Provider::Anthropic, "claude-sonnet-4-5-20250929").is_some());
        assert_eq!(shipped(Provider::Ollama, "gpt-4o"), None);
    }

    #[test]
    fn the_agents_word_comes_first_and_an_unknown_price_is_never_nothing() {
        let price = |dollars| Price::from_dollars(dollars, dollars, None).unwrap();
        let named = |name: &str| ModelSpec { name: name.to_owned(), ..ModelSpec::default() };
        let options = |unknown_price| ModelsOptions {
            prices: BTreeMap::from([("gpt-4o".to_owned(), price(7.0))]),
            unknown_price,
            ..ModelsOptions::default()
        };
        let prices = Prices::new(&options(UnknownPrice::Allow));
        assert_eq!(prices.of(&named("gpt-4o")).unwrap(), Some(price(7.0)));
        let own = ModelSpec { price: Some(price(1.0)), ..named("gpt-4o") };
        assert_eq!(prices.of(&own).unwrap(), Some(price(1.0)));
        assert_eq!(prices.of(&named("x")).unwrap(), None);
        assert_eq!((prices.label(&named("gpt-4o")), prices.label(&named("x"))), ("gpt-4o", "other"));
        let assumed = Prices::new(&options(UnknownPrice::Assume(price(9.0))));
        assert_eq!(assumed.of(&named("x")).unwrap(), Some(price(9.0)));
        let fault = Prices::new(&options(UnknownPrice::Refuse)).of(&named("x")).unwrap_err();
        assert!(fault.non_retryable && fault.to_string().contains("models.prices.\"x\""), "{fault}");
        let scripted = ModelSpec { provider: Provider::Playback, ..named("x") };
        assert_eq!(Prices::new(&options(UnknownPrice::Refuse)).of(&scripted).unwrap(), Some(Price::FREE));
    }
}
