//! What an execution may use before it is ended: limits of its own, and limits that hold over all that is below it, too.

use baton_execution::{Allowance, micros_of_decimal};
use baton_types::Violation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::{Fields, Report, cut};

/// Model calls that an execution may make where nothing else is said.
pub const MAX_TURNS_DEFAULT: u32 = 20;
/// Largest figure of a limit: what the API's 32-bit integers hold.
pub(crate) const LIMIT_MAX: u32 = i32::MAX as u32;
/// A soft mark is kept in parts of this.
pub(crate) const SOFT_MARK_WHOLE: u32 = 1_000_000;

/// Limits of one execution; `None` is "the default" (turns) or "no limit" (the others), 0 is "none left".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Model calls; [`MAX_TURNS_DEFAULT`] if `None`.
    pub max_turns: Option<u32>,
    /// Tokens read and written by the model, together.
    pub max_tokens: Option<u32>,
    /// Tool calls.
    pub max_tool_calls: Option<u32>,
    /// Of the execution and all that are below it, together.
    #[serde(default)]
    pub tree: TreeLimits,
}

/// Limits of an execution and all that are below it, together; `None` is "no limit", 0 is "none left".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TreeLimits {
    /// Model calls.
    pub model_calls: Option<u32>,
    /// Tool calls.
    pub tool_calls: Option<u32>,
    /// Tokens read and written.
    pub tokens: Option<u32>,
    /// Money, in millionths of a US dollar.
    pub cost_micros: Option<u64>,
    /// Time since the execution began, in milliseconds.
    pub wall_time_ms: Option<u64>,
    /// Levels of executions below.
    pub depth: Option<u32>,
    /// Executions that are started below.
    pub children: Option<u32>,
    /// Part of a counted limit at which [`Self::on_soft_mark`] happens, in millionths; more than 0.
    pub soft_mark: Option<u32>,
    /// What happens then; to ask, if `None`.
    pub on_soft_mark: Option<OnSoftMark>,
}

/// What happens when a counted limit is used up to its soft mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnSoftMark {
    /// A person is asked to add to it, or to end the execution.
    Ask,
    /// It is shown in status.
    Note,
}

impl TreeLimits {
    /// Those of what is counted.
    pub fn amounts(&self) -> Allowance {
        Allowance {
            model_calls: self.model_calls.map(u64::from),
            tool_calls: self.tool_calls.map(u64::from),
            tokens: self.tokens.map(u64::from),
            cost_micros: self.cost_micros,
            children: self.children.map(u64::from),
        }
    }

    fn overridden_by(self, other: Self) -> Self {
        Self {
            model_calls: other.model_calls.or(self.model_calls),
            tool_calls: other.tool_calls.or(self.tool_calls),
            tokens: other.tokens.or(self.tokens),
            cost_micros: other.cost_micros.or(self.cost_micros),
            wall_time_ms: other.wall_time_ms.or(self.wall_time_ms),
            depth: other.depth.or(self.depth),
            children: other.children.or(self.children),
            soft_mark: other.soft_mark.or(self.soft_mark),
            on_soft_mark: other.on_soft_mark.or(self.on_soft_mark),
        }
    }

    fn read(fields: &Fields<'_>) -> Self {
        let count = |name| fields.count(name, 0, LIMIT_MAX);
        Self {
            model_calls: count("modelCalls"),
            tool_calls: count("toolCalls"),
            tokens: count("tokens"),
            cost_micros: read_cost(fields),
            wall_time_ms: fields.duration_ms("wallTime"),
            depth: count("depth"),
            children: count("children"),
            soft_mark: read_soft_mark(fields),
            on_soft_mark: fields.word("onSoftMark", &[("ask", OnSoftMark::Ask), ("note", OnSoftMark::Note)]),
        }
    }
}

fn read_cost(fields: &Fields<'_>) -> Option<u64> {
    let text = fields.text("cost")?;
    let micros = micros_of_decimal(text);
    if micros.is_none() {
        fields.violation("cost", not_money(text));
    }
    micros
}

/// What is wrong with a text that is no money.
pub(crate) fn not_money(text: &str) -> String {
    format!("must be US dollars as a decimal with up to six places, such as '0.50', found '{}'", cut(text, 64))
}

fn read_soft_mark(fields: &Fields<'_>) -> Option<u32> {
    let mark = fields.number("softMark", 0.0, 1.0)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be from 0 to 1")]
    let parts = (mark * f64::from(SOFT_MARK_WHOLE)).round() as u32;
    if parts == 0 {
        fields.violation("softMark", format!("must be more than 0 and up to 1, found {mark}"));
        return None;
    }
    Some(parts)
}

impl Limits {
    /// These limits, with those that `other` names in their place.
    #[must_use]
    pub fn overridden_by(self, other: Self) -> Self {
        Self {
            max_turns: other.max_turns.or(self.max_turns),
            max_tokens: other.max_tokens.or(self.max_tokens),
            max_tool_calls: other.max_tool_calls.or(self.max_tool_calls),
            tree: self.tree.overridden_by(other.tree),
        }
    }

    pub(crate) fn turns(self) -> u32 {
        self.max_turns.unwrap_or(MAX_TURNS_DEFAULT)
    }

    pub(crate) fn read(fields: &Fields<'_>) -> Self {
        Self {
            max_turns: fields.count("maxTurns", 0, LIMIT_MAX),
            max_tokens: fields.count("maxTokens", 0, LIMIT_MAX),
            max_tool_calls: fields.count("maxToolCalls", 0, LIMIT_MAX),
            tree: TreeLimits::read(fields),
        }
    }
}

/// Reads the limits of an execution (`spec.limits`, and `Start::settings`); `null` is none.
///
/// # Errors
/// Every violation, with paths within the limits.
pub fn check_limits(limits: &Value) -> Result<Limits, Vec<Violation>> {
    if limits.is_null() {
        return Ok(Limits::default());
    }
    let report = Report::default();
    let read = Fields::of(&report, "", limits).map(|fields| {
        let read = Limits::read(&fields);
        fields.finish();
        read
    });
    let violations = report.into_violations();
    if violations.is_empty() { Ok(read.unwrap_or_default()) } else { Err(violations) }
}
