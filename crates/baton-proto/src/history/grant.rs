//! Grants and what was used of them, as stored.

use baton_execution::{Allowance, Amounts, Ancestor, Grant, Usage, Used};

use crate::{Timestamp, history_v1 as wire};

fn put(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

fn take(amount: i64) -> u64 {
    u64::try_from(amount).unwrap_or_default()
}

fn count(amount: i64) -> u32 {
    u32::try_from(amount).unwrap_or(if amount < 0 { 0 } else { u32::MAX })
}

pub(super) fn encode(grant: &Grant) -> wire::Grant {
    let Allowance { model_calls, tool_calls, tokens, cost_micros, children } = grant.amounts;
    wire::Grant {
        model_calls: model_calls.map(put),
        tool_calls: tool_calls.map(put),
        tokens: tokens.map(put),
        cost_micros: cost_micros.map(put),
        children: children.map(put),
        depth: grant.depth.map(|levels| i32::try_from(levels).unwrap_or(i32::MAX)),
        deadline: grant.deadline_ms.map(Timestamp::from_millis),
        ancestors: grant
            .ancestors
            .iter()
            .map(|it| wire::Ancestor { kind: it.kind.clone(), name: it.name.clone(), input: it.input.clone() })
            .collect(),
    }
}

pub(super) fn decode(it: &wire::Grant) -> Grant {
    Grant {
        amounts: Allowance {
            model_calls: it.model_calls.map(take),
            tool_calls: it.tool_calls.map(take),
            tokens: it.tokens.map(take),
            cost_micros: it.cost_micros.map(take),
            children: it.children.map(take),
        },
        depth: it.depth.map(|levels| u32::try_from(levels).unwrap_or_default()),
        deadline_ms: it.deadline.map(|time| time.as_millis()),
        ancestors: it
            .ancestors
            .iter()
            .map(|it| Ancestor { kind: it.kind.clone(), name: it.name.clone(), input: it.input.clone() })
            .collect(),
    }
}

/// What was used, as stored.
pub fn encode_used(used: &Used) -> wire::Used {
    let (usage, unsettled) = (used.usage, used.unsettled);
    wire::Used {
        model_calls: usage.model_calls.into(),
        tool_calls: usage.tool_calls.into(),
        input_tokens: put(usage.input_tokens),
        output_tokens: put(usage.output_tokens),
        cached_input_tokens: put(usage.cached_input_tokens),
        cost_micros: put(usage.cost_micros),
        cost_unknown_calls: usage.cost_unknown_calls.into(),
        children: usage.children.into(),
        unsettled: (unsettled != Amounts::default()).then(|| wire::Amounts {
            model_calls: put(unsettled.model_calls),
            tool_calls: put(unsettled.tool_calls),
            tokens: put(unsettled.tokens),
            cost_micros: put(unsettled.cost_micros),
            children: put(unsettled.children),
        }),
    }
}

/// Reads what was used; what cannot be is taken for nothing.
pub fn decode_used(it: &wire::Used) -> Used {
    let unsettled = it.unsettled.unwrap_or_default();
    Used {
        usage: Usage {
            model_calls: count(it.model_calls),
            tool_calls: count(it.tool_calls),
            input_tokens: take(it.input_tokens),
            output_tokens: take(it.output_tokens),
            cached_input_tokens: take(it.cached_input_tokens),
            cost_micros: take(it.cost_micros),
            cost_unknown_calls: count(it.cost_unknown_calls),
            children: count(it.children),
        },
        unsettled: Amounts {
            model_calls: take(unsettled.model_calls),
            tool_calls: take(unsettled.tool_calls),
            tokens: take(unsettled.tokens),
            cost_micros: take(unsettled.cost_micros),
            children: take(unsettled.children),
        },
    }
}
