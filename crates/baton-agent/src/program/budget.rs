//! Limits over the tree: what a call of the model needs is reserved before it, and settled when it is answered.
//!
//! # Invariants
//! - A call that does not fit is not begun: the run ends with the name of the limit.
//! - No answer can be longer than what is left of tokens and money: its length is bounded. Only what the provider reads more
//!   than was estimated can go beyond.
//!
//! # Deliberately absent
//! The server's table of prices: what is needed of it comes with the settings of an execution, which are recorded.

use baton_execution::{Amounts, Fault, Shortage, Usage, fault_type};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AgentProgram, Step, state::Stage, turn::limit};
use crate::{
    limits::{Limits, check_limits},
    model::ToolCall,
    model::{Message, ModelSpec, Price, Provider, Tokens},
    policy::{PolicyAction, PolicyCall},
    tools::Action,
};

/// Bytes of a question that are taken for one token: fewer than most texts have, so that the estimate is rather too high.
const BYTES_PER_TOKEN_ESTIMATE: u64 = 3;
/// Tokens that an image or a file is taken for.
const ATTACHMENT_TOKENS_ESTIMATE: u64 = 2000;
/// Tokens that an answer is taken for where the agent sets no limit to it.
const ANSWER_TOKENS_ASSUMED: u64 = 16_384;
/// Times that an agent may stand in a chain of calls with the same input.
const SAME_ANCESTORS_MAX: usize = 2;
const MILLION: u128 = 1_000_000;

/// What a call of the model gets.
pub(super) struct Plan {
    pub(super) reserve: Amounts,
    pub(super) bound: Option<Bound>,
}

/// The longest answer that fits.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Bound {
    pub(super) tokens: u32,
    /// Name of the limit that sets it.
    pub(super) limit: String,
}

/// Settings of an execution: its limits and, where money is limited, the prices of its models.
pub(super) struct Settings {
    pub(super) limits: Limits,
    /// Of the model and its fallbacks, in that order; `None` is unknown.
    pub(super) prices: Vec<Option<Price>>,
}

impl Settings {
    /// Reads `Start::settings`.
    pub(super) fn read(settings: &Value) -> Result<Self, String> {
        let mut limits = settings.clone();
        let prices = limits.as_object_mut().and_then(|fields| fields.remove("prices")).unwrap_or(Value::Null);
        let prices = match prices {
            Value::Null => Vec::new(),
            prices => serde_json::from_value(prices).map_err(|error| format!("prices: {error}"))?,
        };
        let limits = check_limits(&limits)
            .map_err(|violations| violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        Ok(Self { limits, prices })
    }
}

impl AgentProgram {
    /// What this execution itself used.
    pub(super) fn own_usage(&self) -> Usage {
        self.state.usage
    }

    pub(super) fn left_nothing(&self, limit: &'static str, what: &str) -> Fault {
        let (limits, used) = (self.state.account.limits(), self.state.account.used(self.own_usage()).amounts());
        let (allowed, taken) = match limit {
            "modelCalls" => (limits.model_calls, used.model_calls),
            "tokens" => (limits.tokens, used.tokens),
            _ => (limits.cost_micros, used.cost_micros),
        };
        Shortage { limit, allowed: allowed.unwrap_or_default(), taken }.fault(what)
    }

    /// What the next call of one of these models needs and gets; with each what is pinned of its price.
    ///
    /// # Errors
    /// The limit in which it does not fit.
    pub(super) fn plan_call(&self, models: &[(&ModelSpec, Option<Price>)]) -> Result<Plan, Fault> {
        let left = self.state.account.left(self.own_usage());
        if left.model_calls == Some(0) {
            return Err(self.left_nothing("modelCalls", "another call of the model does not fit"));
        }
        if left.tokens.is_none() && left.cost_micros.is_none() {
            return Ok(Plan { reserve: Amounts::default(), bound: None });
        }
        let (input, wanted) = (self.estimated_input(), longest_answer(models));
        let mut plan = Plan { reserve: Amounts::default(), bound: None };
        let mut room = wanted;
        let mut narrow = |tokens: u64, limit: &str| {
            if tokens < room {
                room = tokens;
                let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
                plan.bound = Some(Bound { tokens, limit: limit.to_owned() });
            }
            tokens > 0
        };
        if let Some(tokens) = left.tokens
            && !narrow(tokens.saturating_sub(input), "tokens")
        {
            return Err(self.left_nothing("tokens", &format!("the next question has about {input} tokens")));
        }
        let mut prices = Vec::new();
        if let Some(micros) = left.cost_micros {
            prices = prices_of(models)?;
            for price in &prices {
                if !narrow(affordable(*price, input, micros), "cost") {
                    return Err(self.left_nothing("cost", &format!("the next question has about {input} tokens")));
                }
            }
        }
        let cost = |price: &Price| price.cost_micros(Tokens { input, cached_input: 0, output: room });
        plan.reserve = Amounts {
            tokens: left.tokens.map_or(0, |_| input.saturating_add(room)),
            cost_micros: prices.iter().map(cost).max().unwrap_or_default(),
            ..Amounts::default()
        };
        Ok(plan)
    }

    fn estimated_input(&self) -> u64 {
        let definition = &self.definition;
        let conversation = &self.state.conversation;
        let attachments = conversation.messages.iter().filter_map(|message| match message {
            Message::User { attachments, .. } => Some(attachments),
            Message::Assistant { .. } | Message::Tool { .. } => None,
        });
        // Their Base64 is no text that is read.
        let (mut data, mut count) = (0_u64, 0_u64);
        for attachment in attachments.flatten() {
            data = data.saturating_add(attachment.data.as_ref().map_or(0, |data| data.len() as u64));
            count += 1;
        }
        let schema = definition.output.as_ref().map_or(0, |schema| schema.source().to_string().len());
        let tools: usize = self.tools().map(|tool| tool.described_bytes()).sum();
        let fixed = definition.instructions.len() + tools + schema;
        let bytes = conversation.bytes.saturating_sub(data).saturating_add(fixed as u64);
        bytes.div_ceil(BYTES_PER_TOKEN_ESTIMATE).saturating_add(count.saturating_mul(ATTACHMENT_TOKENS_ESTIMATE))
    }

    /// The model of the agent and its fallbacks, with what is pinned of their prices.
    pub(super) fn priced_models(&self) -> Vec<(&ModelSpec, Option<Price>)> {
        let model = &self.definition.model;
        let pinned = self.state.prices.iter().copied().chain(std::iter::repeat(None));
        std::iter::once(model).chain(&model.fallbacks).zip(pinned).collect()
    }

    /// Settles the call of the model, which was answered.
    pub(super) fn settle_call(&mut self, cost_known: bool) {
        self.state.account.settle_call(|reserved| Amounts {
            // It cost something, and nobody says how much.
            cost_micros: if cost_known { 0 } else { reserved.cost_micros },
            ..Amounts::default()
        });
    }

    /// The limit that forbids an answer of full length, where there is one.
    pub(super) fn answer_bound(&self) -> Option<Bound> {
        match &self.state.stage {
            Stage::Summary(call) | Stage::Model(call) => call.bound.clone(),
            Stage::New | Stage::Servers(_) | Stage::Tools(_) | Stage::Limit(_) | Stage::Ended => None,
        }
    }

    /// Calls among these that would start another execution.
    pub(super) fn children_of(&self, calls: &[ToolCall]) -> u64 {
        let starts = |call: &&ToolCall| {
            let Some(tool) = self.tool(&call.name) else { return false };
            let verdict = self.definition.policy().map(|policy| {
                let call = PolicyCall {
                    tool: &tool.name,
                    server: tool.server(),
                    read_only: tool.read_only,
                    arguments: &call.arguments,
                };
                policy.verdict(call).action
            });
            verdict != Some(PolicyAction::Deny) && matches!(tool.action(&call.arguments), Ok(Action::Child { .. }))
        };
        calls.iter().filter(starts).count() as u64
    }

    /// An agent that stands in the chain of its own calls again and again, with the same input, gets nowhere.
    pub(super) fn recursion(&self) -> Option<Fault> {
        let grant = self.state.account.grant()?;
        let times = grant.appearances();
        let name = grant.ancestors.last().map_or("", |it| &it.name);
        (times > SAME_ANCESTORS_MAX).then(|| {
            let what =
                format!("the agent '{name}' stands in the chain of its own calls {times} times with the same input");
            no_progress("recursion", &what, SAME_ANCESTORS_MAX as u64)
        })
    }

    /// What becomes of the grants of children at the end of a step.
    pub(super) fn end_step(&mut self, step: &mut Step) {
        let to_come = match &self.state.stage {
            Stage::Tools(calls) => calls
                .iter()
                .filter(|call| call.is_asked_about())
                .map(|call| self.children_of(std::slice::from_ref(&call.asked)))
                .sum(),
            Stage::New | Stage::Servers(_) | Stage::Summary(_) | Stage::Model(_) | Stage::Limit(_) | Stage::Ended => 0,
        };
        // The results of its children are to be read.
        let kept = Amounts { model_calls: 1, ..Amounts::default() };
        let own = self.own_usage();
        self.state.account.end_step(own, &mut step.commands, kept, to_come);
    }
}

fn longest_answer(models: &[(&ModelSpec, Option<Price>)]) -> u64 {
    let longest = |(it, _): &(&ModelSpec, _)| it.max_output_tokens.map_or(ANSWER_TOKENS_ASSUMED, u64::from);
    models.iter().map(longest).max().unwrap_or_default()
}

/// The price of each, which must be known.
fn prices_of(models: &[(&ModelSpec, Option<Price>)]) -> Result<Vec<Price>, Fault> {
    let known = |(model, pinned): &(&ModelSpec, Option<Price>)| {
        let free = (model.provider == Provider::Playback && model.price.is_none()).then_some(Price::FREE);
        pinned.or(model.price).or(free).ok_or_else(|| {
            let name = &model.name;
            let detail = format!(
                "money is limited, and the price of the model '{name}' is not known; set model.price in the agent, or models.prices.\"{name}\" for the server"
            );
            Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
        })
    };
    models.iter().map(known).collect()
}

/// Tokens of an answer that so much money pays, after a question of so many tokens.
fn affordable(price: Price, input: u64, micros: u64) -> u64 {
    let asked = price.cost_micros(Tokens { input, cached_input: 0, output: 0 });
    let Some(left) = micros.checked_sub(asked) else { return 0 };
    if price.output_micros == 0 {
        // Nothing is left of what something costs; of what costs nothing there is always enough.
        return if left == 0 && asked > 0 { 0 } else { u64::MAX };
    }
    // A part of a millionth counts as a whole one: with one less the sum of both is never too much.
    let tokens = u128::from(left.saturating_sub(1)) * MILLION / u128::from(price.output_micros);
    u64::try_from(tokens).unwrap_or(u64::MAX)
}

/// A run that gets nowhere.
pub(super) fn no_progress(name: &str, what: &str, allowed: u64) -> Fault {
    let fault = limit(name, allowed, what);
    Fault { detail: Some(format!("no progress: {what}")), ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_affordable_is_paid(input in 0..1_000_000_u64, micros in 0..10_000_000_u64, asked in 0..100_000_000_u64, answered in 0..100_000_000_u64) {
            let price = Price { input_micros: asked, output_micros: answered, cached_input_micros: None };
            let output = affordable(price, input, micros).min(1_000_000);
            if output > 0 {
                let cost = price.cost_micros(Tokens { input, cached_input: 0, output });
                prop_assert!(cost <= micros, "{cost} > {micros}");
            }
        }
    }
}
