//! What the world says in a rehearsal.

use std::collections::BTreeMap;

use baton_execution::Fault;
use serde_json::Value;

/// What goes into a rehearsal.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// `spec.input`
    pub input: Value,
    /// `spec.env`
    pub env: BTreeMap<String, String>,
    /// `spec.limits`, for agents.
    pub limits: Value,
    /// What calls are answered with; the first that fits and is not used up is taken.
    pub answers: Vec<Answer>,
    /// Events that come from outside.
    pub events: Vec<Arrival>,
    /// When somebody asks for the end of the execution, in milliseconds after the start, and why.
    pub cancel: Option<(u64, String)>,
    /// `spec.timeout`, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// The answer to a call.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Name, position or pointer of the task whose calls it is for; `None` for those of every task.
    pub task: Option<String>,
    /// What the call's input must hold; see [`contains`].
    pub matches: Option<Value>,
    /// Milliseconds from the call to the answer.
    pub after_ms: u64,
    /// What is said.
    pub reply: Reply,
    /// How often it is given; `None` for as often as it fits, or never.
    pub times: Option<u32>,
}

/// Somebody who answers calls by what they are given, such as a model's stand-in.
pub type Voice = fn(&Value) -> Result<Value, Fault>;

/// What is said to a call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The output.
    Returns(Value),
    /// A fault.
    Fails(Fault),
    /// What follows from the call's input; see [`Voice`].
    Voiced(Voice),
    /// The callee was cancelled: agents, workflows and callbacks; any other call fails.
    Cancelled(String),
    /// Nothing, ever: limits of time are what ends the call.
    Silent,
}

/// An event that comes from outside.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When, in milliseconds after the start.
    pub after_ms: u64,
    /// The CloudEvent in its JSON form.
    pub event: Value,
}

/// Whether `found` holds what `wanted` says: of an object the fields that are named, of an array every item, in order.
pub fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| found.get(name).is_some_and(|found| contains(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| contains(found, wanted))
        }
        // `1` in a test is the same number as the `1.0` of a calculation.
        (Value::Number(found), Value::Number(wanted)) => {
            found == wanted || (found.is_f64() || wanted.is_f64()) && found.as_f64() == wanted.as_f64()
        }
        (found, wanted) => found == wanted,
    }
}
