//! What a model costs, in whole numbers: money is never a float once it has been read.

use serde::{Deserialize, Serialize};

use crate::fields::Fields;

/// Most that a million tokens may cost, in dollars.
const PER_MILLION_MAX: f64 = 1_000_000.0;
const MICROS: f64 = 1_000_000.0;
const MILLION: u128 = 1_000_000;

/// Prices of a million tokens, in millionths of a US dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Tokens read.
    pub input_micros: u64,
    /// Tokens written.
    pub output_micros: u64,
    /// Tokens read that the provider had kept from an earlier call; `None` for the price of any token read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_micros: Option<u64>,
}

/// Tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Read, the kept ones included.
    pub input: u64,
    /// Read, and kept from an earlier call.
    pub cached_input: u64,
    /// Written.
    pub output: u64,
}

impl Price {
    /// Nothing is paid.
    pub const FREE: Self = Self { input_micros: 0, output_micros: 0, cached_input_micros: None };

    /// From prices in dollars; `None` if one is negative, not a number or above a million.
    pub fn from_dollars(input: f64, output: f64, cached_input: Option<f64>) -> Option<Self> {
        Some(Self {
            input_micros: micros(input)?,
            output_micros: micros(output)?,
            cached_input_micros: match cached_input {
                Some(dollars) => Some(micros(dollars)?),
                None => None,
            },
        })
    }

    /// What these tokens cost, in millionths of a US dollar; a part of one counts as a whole one.
    pub fn cost_micros(self, tokens: Tokens) -> u64 {
        let cached = tokens.cached_input.min(tokens.input);
        let of = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let sum = of(tokens.input - cached, self.input_micros)
            .saturating_add(of(cached, self.cached_input_micros.unwrap_or(self.input_micros)))
            .saturating_add(of(tokens.output, self.output_micros));
        u64::try_from(sum.div_ceil(MILLION)).unwrap_or(u64::MAX)
    }

    /// Prices as the spec has them: dollars for a million tokens.
    pub(super) fn read(fields: Fields<'_>) -> Option<Self> {
        let dollars = |name| fields.number(name, 0.0, PER_MILLION_MAX);
        let (input, output) = (dollars("inputPerMillion"), dollars("outputPerMillion"));
        for name in ["inputPerMillion", "outputPerMillion"] {
            if fields.get(name).is_none() {
                fields.violation(name, "must be given");
            }
        }
        let cached = dollars("cachedInputPerMillion");
        if fields.text("currency").is_some_and(|currency| currency != "USD") {
            fields.violation("currency", "must be 'USD'");
        }
        fields.finish();
        Self::from_dollars(input?, output?, cached)
    }
}

fn micros(dollars: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    (0.0..=PER_MILLION_MAX).contains(&dollars).then(|| (dollars * MICROS).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_exact_and_rounded_up_once() {
        let price = Price::from_dollars(0.25, 2.0, Some(0.025)).unwrap();
        let tokens = |input, cached_input, output| Tokens { input, cached_input, output };
        for (used, micros) in [
            (tokens(0, 0, 0), 0),
            (tokens(1, 0, 0), 1),
            (tokens(1_000_000, 0, 1_000_000), 2_250_000),
            (tokens(1_000_000, 1_000_000, 0), 25_000),
            (tokens(1_000_000, 400_000, 10), 150_000 + 10_000 + 20),
            (tokens(3, 9, 0), 1),
            (tokens(u64::MAX, 0, u64::MAX), u64::MAX),
        ] {
            assert_eq!(price.cost_micros(used), micros, "{used:?}");
        }
        let without = Price { cached_input_micros: None, ..price };
        assert_eq!(without.cost_micros(tokens(1_000_000, 1_000_000, 0)), 250_000);
        assert_eq!(Price::FREE.cost_micros(tokens(5, 0, 5)), 0);
    }

    #[test]
    fn what_is_no_price_is_none() {
        for wrong in [-1.0, f64::NAN, f64::INFINITY, 1_000_001.0] {
            assert_eq!(Price::from_dollars(wrong, 1.0, None), None);
            assert_eq!(Price::from_dollars(1.0, 1.0, Some(wrong)), None);
        }
    }
}
