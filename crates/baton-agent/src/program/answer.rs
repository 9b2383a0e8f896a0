//! What the model answered: an end, calls, or something that has to be said better.

use baton_execution::{Command, Ending, Fault, Note, fault_type};
use serde_json::Value;

use super::{
    AgentProgram, Step,
    turn::{limit, turn_position},
};
use crate::{
    depth::{DATA_DEPTH_MAX, is_deeper_than},
    fields::cut,
    model::{FinishReason, Message, ModelResponse, ToolCall},
};

/// Times in a row that the model is asked for a better answer.
const REPAIRS_MAX: u32 = 2;

impl AgentProgram {
    pub(super) fn model_answered(&mut self, result: Result<&Value, &Fault>, step: &mut Step) {
        let response = match result.map(|output| serde_json::from_value::<ModelResponse>(output.clone())) {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                return self.fail(
                    Fault::new(fault_type::RUNTIME, 502, format!("the model's answer cannot be read: {error}")),
                    step,
                );
            }
            Err(fault) => return self.fail(fault.clone().at(&format!("/turns/{}/model", self.state.turn)), step),
        };
        let bound = self.answer_bound();
        self.settle_call(response.cost_micros.is_some());
        self.count_usage(&response);
        if let Some(turn) = &mut self.state.session {
            turn.tokens = response.input_tokens.saturating_add(response.output_tokens);
        }

        let text = response.text.filter(|text| !text.trim().is_empty());
        let calls = self.with_ids(response.tool_calls);
        step.push(Command::Note(Note::Message {
            role: "assistant".to_owned(),
            content: text.clone().map_or(Value::Null, Value::String),
            tool_calls: calls.iter().map(|call| call.name.clone()).collect(),
        }));
        if text.is_some() {
            self.state.last_text.clone_from(&text);
        }
        // An empty answer is kept as an empty text: it was a turn, and providers want something between two user messages.
        let content = text.clone().or_else(|| calls.is_empty().then(String::new));
        let provider_data = response.provider_data;
        self.state.conversation.push(Message::Assistant { content, tool_calls: calls.clone(), provider_data });

        match response.finish_reason {
            FinishReason::Length if bound.is_some() => {
                let limit = match bound.map(|bound| bound.limit).as_deref() {
                    Some("tokens") => "tokens",
                    _ => "cost",
                };
                self.fail(self.left_nothing(limit, "the model's answer was cut off where nothing was left"), step);
            }
            FinishReason::Length => {
                let allowed = u64::from(self.definition.model.max_output_tokens.unwrap_or_default());
                self.fail(limit("maxOutputTokens", allowed, "the model's answer was cut off"), step);
            }
            FinishReason::ContentFilter => {
                let said = text.map(|text| format!(": {}", cut(&text, 200))).unwrap_or_default();
                self.fail(
                    Fault::new(fault_type::RUNTIME, 422, format!("the model declined to answer{said}")).non_retryable(),
                    step,
                );
            }
            FinishReason::Stop | FinishReason::ToolCalls | FinishReason::Other if !calls.is_empty() => {
                self.begin_calls(calls, step);
            }
            FinishReason::Stop | FinishReason::ToolCalls | FinishReason::Other => match text {
                Some(text) => self.final_answer(text, step),
                None => self.repair(
                    "Your last answer was empty. Call a tool or give your final answer.",
                    Fault::new(fault_type::RUNTIME, 502, "the model gave neither a text nor a tool call"),
                    step,
                ),
            },
        }
    }

    fn final_answer(&mut self, text: String, step: &mut Step) {
        let Some(schema) = &self.definition.output else { return self.complete(Value::String(text), step) };
        let violations = match serde_json::from_str::<Value>(without_fence(&text)) {
            Ok(output) if is_deeper_than(&output, DATA_DEPTH_MAX) => {
                vec![format!("it is nested deeper than {DATA_DEPTH_MAX} levels")]
            }
            Ok(output) => match schema.violations(&output) {
                violations if violations.is_empty() => return self.complete(output, step),
                violations => violations,
            },
            Err(error) => vec![format!("it is not JSON: {error}")],
        };
        let request = format!(
            "Your last answer does not match the required JSON schema:\n- {}\nAnswer again, with JSON only and no other text.",
            violations.join("\n- ")
        );
        let fault = Fault::new(
            fault_type::VALIDATION,
            422,
            format!("the answer does not match the output schema: {}", violations.join("; ")),
        );
        self.repair(&request, fault, step);
    }

    fn complete(&mut self, output: Value, step: &mut Step) {
        self.turn_completed(step);
        self.end(Ending::Completed { output }, step);
    }

    /// Asks for a better answer; ends with `fault` if that was done often enough.
    fn repair(&mut self, request: &str, fault: Fault, step: &mut Step) {
        if self.state.repairs >= REPAIRS_MAX {
            return self.fail(fault.at(&turn_position(self.state.turn)), step);
        }
        self.state.repairs += 1;
        self.turn_completed(step);
        self.tell(request.to_owned(), step);
        self.begin_turn(step);
    }

    /// The calls, each with an id that no other call of the conversation has.
    fn with_ids(&self, mut calls: Vec<ToolCall>) -> Vec<ToolCall> {
        let taken = |id: &str| {
            self.state.conversation.messages.iter().any(|message| match message {
                Message::Assistant { tool_calls, .. } => tool_calls.iter().any(|call| call.id == id),
                Message::User { .. } | Message::Tool { .. } => false,
            })
        };
        // In a session, calls of other turns are shown to the model beside these.
        let session = self.state.session.as_ref().map_or_else(String::new, |turn| format!("{}_", turn.earlier.turn));
        for index in 0..calls.len() {
            let id = &calls[index].id;
            if id.is_empty() || taken(id) || calls[..index].iter().any(|call| call.id == *id) {
                calls[index].id = format!("call_{session}{}_{index}", self.state.turn);
            }
        }
        calls
    }
}

/// The text within a Markdown code fence, which models like to put around JSON.
fn without_fence(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    inner.map_or(text, |inner| inner.strip_prefix("json").unwrap_or(inner).trim())
}
