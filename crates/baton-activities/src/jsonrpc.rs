//! JSON-RPC 2.0 as `a2a` and `mcp` meet it: requests, answers, and what an error means for a workflow.
//!
//! An error that the other side answers is a fault of the type `runtime`, as the workflow language demands, with
//! `{"code", "message", "data"}` as its data.

use baton_agent::{DATA_DEPTH_MAX, is_deeper_than};
use baton_execution::{Fault, fault_type};
use serde::Deserialize;
use serde_json::{Value, json};

/// What a fault shows of a text that the other side made, in characters.
const SAID_CHARS_MAX: usize = 512;

/// The error of an answer.
#[derive(Debug, Deserialize)]
pub(crate) struct ErrorObject {
    pub(crate) code: i64,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) data: Value,
}

/// A request; without parameters if they are null.
pub(crate) fn request(method: &str, parameters: &Value) -> Value {
    let mut request = json!({"jsonrpc": "2.0", "id": 1, "method": method});
    if !parameters.is_null() {
        request["params"] = parameters.clone();
    }
    request
}

/// The result of an answer, or its error; `None` if it is no answer at all. Some leave out a result that is null.
pub(crate) fn answer(mut message: Value) -> Option<Result<Value, ErrorObject>> {
    let fields = message.as_object_mut()?;
    if let Some(error) = fields.remove("error").filter(|error| !error.is_null()) {
        return ErrorObject::deserialize(error).ok().map(Err);
    }
    let is_answer = fields.contains_key("id") && fields.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    fields.remove("result").or_else(|| is_answer.then_some(Value::Null)).map(Ok)
}

/// The fault of an error. `useless` are the codes of the protocol, beside those of JSON-RPC, of which a repeat is useless.
pub(crate) fn fault(who: &str, error: &ErrorObject, useless: &[i64]) -> Fault {
    const MALFORMED: [i64; 4] = [-32700, -32600, -32601, -32602];
    let final_answer = MALFORMED.contains(&error.code) || useless.contains(&error.code);
    let status = if final_answer { 400 } else { 500 };
    let detail = format!("{who} answered with the error {}: {}", error.code, said(&error.message));
    let fault = Fault::new(fault_type::RUNTIME, status, detail)
        .with_data(json!({"code": error.code, "message": error.message, "data": error.data}));
    if final_answer { fault.non_retryable() } else { fault }
}

/// The fault of something that is no answer.
pub(crate) fn not_an_answer(who: &str, why: &str) -> Fault {
    Fault::new(fault_type::RUNTIME, 502, format!("{who} gave no answer of JSON-RPC 2.0: {why}"))
}

/// Data that can be recorded: JSON that is nested too deep could not be read again.
pub(crate) fn measured(who: &str, value: Value) -> Result<Value, Fault> {
    if is_deeper_than(&value, DATA_DEPTH_MAX) {
        let detail = format!("the answer of {who} is nested deeper than {DATA_DEPTH_MAX} levels");
        return Err(Fault::new(fault_type::LIMIT, 400, detail).non_retryable());
    }
    Ok(value)
}

/// The beginning of a text of the other side.
pub(crate) fn said(text: &str) -> String {
    text.trim().chars().take(SAID_CHARS_MAX).collect()
}
