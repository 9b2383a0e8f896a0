//! What `status` says of what was used and what is left.

use baton_execution::{Allowance, TreeProgress, Usage, decimal_of_micros};
use baton_proto::{
    ExecutionResource, Timestamp, condition,
    v1::{LeftStatus, UsageStatus},
};

use super::count;

/// Writes what an execution itself has used, what it and all below it have, and what is left to them.
pub(super) fn write(resource: &mut ExecutionResource, own: Usage, tree: &TreeProgress, now: Timestamp) {
    let left = left(tree);
    let all = tree.used.usage;
    if own != Usage::default() || all != Usage::default() || left.is_some() {
        let below = (all != own && all != Usage::default()).then(|| Box::new(shown(all)));
        *resource.usage_mut() = Some(UsageStatus { tree: below, left, ..shown(own) });
    }
    let was = resource.conditions().is_some_and(|all| all.iter().any(|it| it.r#type == condition::LIMIT_NEAR));
    if !tree.marks.is_empty() {
        resource.set_condition(condition::LIMIT_NEAR, true, "SoftMark", &tree.marks.join("; "), now);
    } else if was {
        resource.set_condition(condition::LIMIT_NEAR, false, "BelowSoftMark", "", now);
    }
}

fn shown(usage: Usage) -> UsageStatus {
    let cost = usage.cost();
    UsageStatus {
        model_calls: count(usage.model_calls),
        tool_calls: count(usage.tool_calls),
        input_tokens: count(usage.input_tokens),
        output_tokens: count(usage.output_tokens),
        cached_input_tokens: count(usage.cached_input_tokens),
        cost: cost.clone().unwrap_or_default(),
        currency: cost.map(|_| "USD".to_owned()).unwrap_or_default(),
        cost_unknown_calls: count(usage.cost_unknown_calls),
        children: count(usage.children),
        ..UsageStatus::default()
    }
}

fn left(tree: &TreeProgress) -> Option<LeftStatus> {
    let Allowance { model_calls, tool_calls, tokens, cost_micros, children } = tree.left;
    let left = LeftStatus {
        model_calls: model_calls.map(count),
        tool_calls: tool_calls.map(count),
        tokens: tokens.map(count),
        cost: cost_micros.map(decimal_of_micros).unwrap_or_default(),
        children: children.map(count),
        depth: tree.depth.map(count),
        deadline: tree.deadline_ms.map(Timestamp::from_millis),
    };
    (left != LeftStatus::default()).then_some(left)
}
