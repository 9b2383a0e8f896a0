//! Which tool calls are made, which are refused, and which a person is asked about.
//!
//! Decided from the agent's spec and from what its tools declare, never by what a model or a tool says.

use globset::{Glob, GlobMatcher};
use serde_json::Value;

use crate::{
    fields::{Fields, cut},
    schema::Schema,
    untrusted::AfterUntrusted,
};

/// Rules of one policy: each is looked at for each call.
const RULES_MAX: usize = 256;
/// Longest pattern, in bytes: names of tools have 64 letters.
const PATTERN_BYTES_MAX: usize = 256;
/// Longest reason of a rule, in bytes.
const REASON_BYTES_MAX: usize = 1024;
/// How long a person is waited for where the spec says nothing.
pub(crate) const APPROVAL_TIMEOUT_MS_DEFAULT: u64 = 7 * 24 * 3600 * 1000;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// It is made.
    Allow,
    /// A person is asked first.
    Ask,
    /// It is not made, and the model is told.
    Deny,
}

/// What happens when nobody decides in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnExpiry {
    /// The call is not made, and the model is told.
    #[default]
    Deny,
    /// The execution ends.
    Fail,
}

/// What becomes of a call that may or may not have happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum InDoubt {
    /// A person is asked.
    #[default]
    Ask,
    /// The execution ends.
    Fail,
    /// It is made again.
    Retry,
}

/// The policy of an agent.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    default: Option<PolicyAction>,
    pub(crate) approval_timeout_ms: u64,
    pub(crate) on_expiry: OnExpiry,
    pub(crate) in_doubt: InDoubt,
    /// `None`: what has been read before makes no difference.
    pub(crate) after_untrusted: Option<AfterUntrusted>,
}

#[derive(Debug)]
struct Rule {
    tool: Option<GlobMatcher>,
    server: Option<GlobMatcher>,
    arguments: Option<Schema>,
    action: PolicyAction,
    reason: String,
}

/// A call as a policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct PolicyCall<'a> {
    /// Name of the tool.
    pub tool: &'a str,
    /// Where the tool comes from; `None` for one of the agent's own.
    pub server: Option<&'a str>,
    /// Whether the author of the agent declared that it only reads.
    pub read_only: bool,
    /// What it is called with.
    pub arguments: &'a Value,
}

/// What a policy says of a call, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of it.
    pub action: PolicyAction,
    /// The rule that decided, in words.
    pub why: String,
}

impl Policy {
    pub(crate) fn read(fields: &Fields<'_>) -> Self {
        let rules = fields
            .list("rules", RULES_MAX)
            .into_iter()
            .filter_map(|(path, item)| Fields::of(fields.report, path, item))
            .filter_map(Rule::read)
            .collect();
        let on_expiry = fields.word("onExpiry", &[("deny", OnExpiry::Deny), ("fail", OnExpiry::Fail)]);
        let in_doubt =
            fields.word("inDoubt", &[("ask", InDoubt::Ask), ("fail", InDoubt::Fail), ("retry", InDoubt::Retry)]);
        Self {
            rules,
            default: fields.word("default", &ACTIONS),
            approval_timeout_ms: fields.duration_ms("approvalTimeout").unwrap_or(APPROVAL_TIMEOUT_MS_DEFAULT),
            on_expiry: on_expiry.unwrap_or_default(),
            in_doubt: in_doubt.unwrap_or_default(),
            after_untrusted: fields.word("afterUntrusted", &AfterUntrusted::WORDS),
        }
    }

    /// What becomes of a call: the first rule that matches it decides, then the default.
    pub fn verdict(&self, call: PolicyCall<'_>) -> Verdict {
        if let Some((index, rule)) = self.rules.iter().enumerate().find(|(_, rule)| rule.matches(call)) {
            let reason = if rule.reason.is_empty() { String::new() } else { format!(": {}", rule.reason) };
            return Verdict { action: rule.action, why: format!("policy.rules[{index}]{reason}") };
        }
        match self.default {
            Some(action) => Verdict { action, why: "policy.default: no rule matches the call".to_owned() },
            None if call.read_only => {
                Verdict { action: PolicyAction::Allow, why: "the tool is declared readOnly".to_owned() }
            }
            None => Verdict {
                action: PolicyAction::Ask,
                why: "no rule matches the call, and the tool is not declared readOnly".to_owned(),
            },
        }
    }
}

const ACTIONS: [(&str, PolicyAction); 3] =
    [("allow", PolicyAction::Allow), ("ask", PolicyAction::Ask), ("deny", PolicyAction::Deny)];

impl Rule {
    fn read(fields: Fields<'_>) -> Option<Self> {
        let (tool, server) = (pattern(&fields, "tool"), pattern(&fields, "server"));
        let arguments = fields
            .get("arguments")
            .map(|schema| Schema::compile(schema).map_err(|why| fields.violation("arguments", why)));
        let action = fields.word("action", &ACTIONS);
        if fields.get("action").is_none() {
            fields.violation("action", "must be given; allowed are 'allow', 'ask' and 'deny'");
        }
        let reason = fields.text("reason").unwrap_or_default().to_owned();
        if reason.len() > REASON_BYTES_MAX {
            fields.violation("reason", format!("has {} bytes, allowed are 0 to {REASON_BYTES_MAX}", reason.len()));
        }
        fields.finish();
        Some(Self { tool: tool?, server: server?, arguments: arguments.transpose().ok()?, action: action?, reason })
    }

    fn matches(&self, call: PolicyCall<'_>) -> bool {
        self.tool.as_ref().is_none_or(|pattern| pattern.is_match(call.tool))
            && self.server.as_ref().is_none_or(|pattern| call.server.is_some_and(|server| pattern.is_match(server)))
            && self.arguments.as_ref().is_none_or(|schema| schema.violations(call.arguments).is_empty())
    }
}

/// A pattern over names; `None` if it is none, which has been reported then.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether it could be read, the inner one whether it was given"
)]
fn pattern(fields: &Fields<'_>, name: &'static str) -> Option<Option<GlobMatcher>> {
    let Some(text) = fields.text(name) else { return Some(None) };
    let compiled = if text.len() > PATTERN_BYTES_MAX {
        Err(format!("has {} bytes, allowed are 1 to {PATTERN_BYTES_MAX}", text.len()))
    } else {
        Glob::new(text).map_err(|error| format!("'{}' is not a pattern: {}", cut(text, 64), error.kind()))
    };
    compiled.map(|glob| Some(glob.compile_matcher())).map_err(|why| fields.violation(name, why)).ok()
}
