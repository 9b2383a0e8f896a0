//! What an execution used, and what its limits leave, in words.

use baton_proto::v1::{LeftStatus, UsageStatus};

/// Lines that begin with `used` and `left`.
pub(crate) fn usage_words(usage: &UsageStatus) -> Vec<String> {
    let mut lines = Vec::new();
    // Executions alone are seen in the tree itself.
    let own = UsageStatus { tree: None, left: None, children: 0, ..usage.clone() };
    if own != UsageStatus::default() {
        lines.push(format!("used {}", used(usage)));
    }
    if let Some(tree) = &usage.tree {
        lines.push(format!("used with all below {}", used(tree)));
    }
    if let Some(left) = usage.left.as_ref().map(left).filter(|left| !left.is_empty()) {
        lines.push(format!("left {left}"));
    }
    lines
}

fn used(usage: &UsageStatus) -> String {
    let cost = if usage.cost.is_empty() { String::new() } else { format!(", {} {}", usage.cost, usage.currency) };
    let unknown = match usage.cost_unknown_calls {
        0 => String::new(),
        calls => format!(", {calls} calls of unknown cost"),
    };
    let children = match usage.children {
        0 => String::new(),
        count => format!(", {count} executions"),
    };
    format!(
        "{} model calls, {} tool calls, {} tokens in, {} out{cost}{unknown}{children}",
        usage.model_calls, usage.tool_calls, usage.input_tokens, usage.output_tokens
    )
}

fn left(left: &LeftStatus) -> String {
    let count = |amount: Option<i32>, what: &str| amount.map(|amount| format!("{amount} {what}"));
    let parts = [
        count(left.model_calls, "model calls"),
        count(left.tool_calls, "tool calls"),
        count(left.tokens, "tokens"),
        Some(&left.cost).filter(|cost| !cost.is_empty()).map(|cost| format!("{cost} USD")),
        count(left.children, "executions"),
        count(left.depth, "levels"),
        left.deadline.map(|deadline| format!("until {deadline}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_said() {
        assert!(usage_words(&UsageStatus::default()).is_empty());
        let own = UsageStatus { model_calls: 1, input_tokens: 7, ..UsageStatus::default() };
        let tree = UsageStatus { model_calls: 3, children: 2, ..own.clone() };
        let left = LeftStatus { tokens: Some(0), cost: "0.5".to_owned(), ..LeftStatus::default() };
        let usage = UsageStatus { tree: Some(Box::new(tree)), left: Some(left), ..own };
        assert_eq!(
            usage_words(&usage),
            [
                "used 1 model calls, 0 tool calls, 7 tokens in, 0 out",
                "used with all below 3 model calls, 0 tool calls, 7 tokens in, 0 out, 2 executions",
                "left 0 tokens, 0.5 USD",
            ]
        );
    }
}
