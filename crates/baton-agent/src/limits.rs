//! What an execution may use before it is ended.

use baton_types::Violation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::{Fields, Report};

/// Model calls that an execution may make where nothing else is said.
pub const MAX_TURNS_DEFAULT: u32 = 20;
/// Largest figure of a limit: what the API's 32-bit integers hold.
const LIMIT_MAX: u32 = i32::MAX as u32;

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
}

impl Limits {
    /// These limits, with those that `other` names in their place.
    #[must_use]
    pub fn overridden_by(self, other: Self) -> Self {
        Self {
            max_turns: other.max_turns.or(self.max_turns),
            max_tokens: other.max_tokens.or(self.max_tokens),
            max_tool_calls: other.max_tool_calls.or(self.max_tool_calls),
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
