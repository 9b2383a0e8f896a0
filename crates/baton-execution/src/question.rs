//! Questions to a person, and their answers.
//!
//! A Program asks by [`Command::Ask`](crate::Command::Ask). The engine opens a wait, keeps the question where people find
//! it, and gives the answer as `CallbackAnswered` with a [`Decision`] as the output. An answer counts for exactly what
//! was asked: it names the digest of the arguments.

use std::collections::BTreeMap;

use baton_types::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{OperationId, Outcome};

/// Longest arguments that a person is asked about, in bytes of their JSON: nobody reads more, and a resource holds no more.
pub const QUESTION_BYTES_MAX: usize = 256 * 1024;

/// A question to a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Names the question and its wait.
    pub id: OperationId,
    /// What kind of question.
    pub kind: QuestionKind,
    /// Name of the tool.
    pub tool: String,
    /// Where the tool comes from; empty for one of the Program's own.
    pub server: String,
    /// What the tool is called with; at most [`QUESTION_BYTES_MAX`].
    pub arguments: Value,
    /// For people: what will be done, or may have been.
    pub message: String,
    /// Why a person is asked.
    pub why: String,
    /// From then on no decision is taken, in milliseconds since 1970. The Program arms its own timer for that.
    pub expires_ms: i64,
}

/// What kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuestionKind {
    /// May this call be made?
    ToolCall,
    /// What of a call that may or may not have happened?
    InDoubt,
    /// May a tool be called that is not what it was when the execution began?
    ToolChanged,
    /// What does the server of a tool want to know?
    Elicitation,
    /// May this much more be used? The arguments are `{"extend": {…}}`.
    Limit,
}

impl QuestionKind {
    /// The CamelCase word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ToolCall => "ToolCall",
            Self::InDoubt => "InDoubt",
            Self::ToolChanged => "ToolChanged",
            Self::Elicitation => "Elicitation",
            Self::Limit => "Limit",
        }
    }

    /// The kind of that word.
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::ToolCall, Self::InDoubt, Self::ToolChanged, Self::Elicitation, Self::Limit];
        all.into_iter().find(|kind| kind.as_str() == word)
    }

    /// What can be decided.
    pub const fn choices(self) -> &'static [Choice] {
        match self {
            Self::ToolCall | Self::ToolChanged | Self::Limit => &[Choice::Approve, Choice::Deny],
            Self::InDoubt => &[Choice::Retry, Choice::Result, Choice::Fail],
            Self::Elicitation => &[Choice::Approve, Choice::Result, Choice::Deny],
        }
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The call is made; or so much more may be used.
    Approve,
    /// The call is not made; or no more is used, and the execution ends.
    Deny,
    /// The call is made once more.
    Retry,
    /// The call is not made again; this is what it gave. Of an elicitation: this is the answer.
    Result,
    /// The execution ends.
    Fail,
}

impl Choice {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Retry => "retry",
            Self::Result => "result",
            Self::Fail => "fail",
        }
    }

    /// The choice of that word.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Approve, Self::Deny, Self::Retry, Self::Result, Self::Fail]
            .into_iter()
            .find(|choice| choice.as_str() == word)
    }

    /// Whether a call is made because of it.
    pub const fn calls(self) -> bool {
        matches!(self, Self::Approve | Self::Retry)
    }

    /// Whether it goes on with the call, in the eyes of whoever asked.
    pub const fn agrees(self) -> bool {
        matches!(self, Self::Approve | Self::Retry | Self::Result)
    }
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// What was decided.
    pub choice: Choice,
    /// Name under which people know the question.
    pub approval: String,
    /// Who decided.
    pub decided_by: String,
    /// Why, in the words of who decided.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Digest of the arguments that were asked about, see [`arguments_digest`].
    pub arguments_digest: String,
    /// What the call is to be made with in place of what was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// With [`Choice::Result`]: what the call gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

impl Decision {
    /// As a Program is told it.
    pub fn into_outcome(self) -> Outcome {
        // Strings and JSON always serialize; a Program refuses what it cannot read.
        Outcome::Completed(serde_json::to_value(self).unwrap_or_default())
    }

    /// The decision that an outcome holds.
    ///
    /// # Errors
    /// A sentence saying why it holds none.
    pub fn of(outcome: &Outcome) -> Result<Self, String> {
        match outcome {
            Outcome::Completed(decision) => serde_json::from_value(decision.clone())
                .map_err(|error| format!("the decision cannot be read: {error}")),
            Outcome::Failed(fault) => Err(fault.to_string()),
            Outcome::Cancelled { reason } => Err(reason.clone()),
        }
    }
}

/// JSON with the keys of every object in order, so that equal data has equal text.
pub fn canonical_json(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, Value> =
                fields.iter().map(|(name, field)| (name, canonical_json(field))).collect();
            Value::Object(sorted.into_iter().map(|(name, field)| (name.clone(), field)).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical_json).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// What a question and its answer are bound to: the digest of the arguments in the form of [`canonical_json`].
pub fn arguments_digest(arguments: &Value) -> String {
    Digest::of(canonical_json(arguments).to_string().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_digest_is_of_the_data_not_of_its_text() {
        let digest = arguments_digest(&json!({"b": [1, {"d": 2, "c": null}], "a": "x"}));
        assert_eq!(digest, arguments_digest(&json!({"a": "x", "b": [1, {"c": null, "d": 2}]})));
        assert_eq!(digest, Digest::of(br#"{"a":"x","b":[1,{"c":null,"d":2}]}"#).to_string());
        assert_ne!(digest, arguments_digest(&json!({"a": "x", "b": [{"c": null, "d": 2}, 1]})));
    }

    #[test]
    fn a_decision_reads_back() {
        let decision = Decision {
            choice: Choice::Approve,
            approval: "run-pay-1".to_owned(),
            decided_by: "unauthenticated:kim".to_owned(),
            reason: String::new(),
            arguments_digest: arguments_digest(&json!({})),
            arguments: Some(json!({"amount": 5})),
            result: None,
        };
        assert_eq!(Decision::of(&decision.clone().into_outcome()), Ok(decision));
        for kind in [
            QuestionKind::ToolCall,
            QuestionKind::InDoubt,
            QuestionKind::ToolChanged,
            QuestionKind::Elicitation,
            QuestionKind::Limit,
        ] {
            assert_eq!(QuestionKind::of(kind.as_str()), Some(kind));
            assert!(kind.choices().iter().all(|choice| Choice::of(choice.as_str()) == Some(*choice)));
        }
    }
}
