//! Calls of servers' tools that take more than one request: the tool has changed, the server wants to know something, or the
//! work goes on there.
//!
//! # Invariants
//! - A tool that is not what it was pinned as is not called unless a person agrees; the new one is pinned with that decision.
//! - What a server wants to know is asked of a person. What the person says is checked against the server's schema before it is
//!   taken, and goes back with the next request of the call, an attempt of its own.
//! - All that the next request needs is in the state, so that it may be made days later, by another process.
//!
//! # Failure
//! A server that goes on asking is given up; a person who does not answer in time has the server told so.

use std::collections::{BTreeMap, BTreeSet};

use baton_execution::{
    Choice, Command, Decision, Fault, OperationId, Outcome, Question, QuestionKind, arguments_digest, fault_type,
};
use serde_json::{Value, json};

use super::{
    AgentProgram, Step,
    asking::{denied, is_too_long, question_id},
    calls::begin,
    state::{Call, CallState, Stage},
};
use crate::{
    fields::cut,
    policy::{APPROVAL_TIMEOUT_MS_DEFAULT, OnExpiry},
    schema::Schema,
    servers::Listed,
    tools::{Action, Answer, Change, Exchange, InputRequest, TaskHandle, Tool},
};

/// Times that a server may want to know something within one call.
const ROUNDS_MAX: u32 = 10;
/// Longest state that a server gives to be given back, in bytes.
const STATE_BYTES_MAX: usize = 64 * 1024;
/// How long work of a server is asked for: as long as any child is waited for.
const TASK_WAIT_MS: u64 = 7 * 24 * 3600 * 1000;
/// Shortest and longest pause before work of a server is asked for again. It doubles every few times: the history keeps each.
const POLL_MS_MIN: u64 = 1000;
const POLL_MS_MAX: u64 = 60 * 60 * 1000;
const POLLS_PER_DOUBLING: u32 = 8;
const ELICITATION: &str = "elicitation/create";

impl AgentProgram {
    /// What the server of a tool has answered: how the call stands then.
    pub(super) fn answered(&mut self, id: &OperationId, tool: &Tool, output: Value, step: &mut Step) {
        let state = match tool.answer(output) {
            Answer::Value(value) => self.call_completed(id, &tool.name, value, step),
            Answer::Fault(fault) => self.call_failed(id, &tool.name, &fault, step),
            Answer::Changed(None) => {
                let why =
                    format!("the server '{}' does not have this tool any more", tool.server().unwrap_or_default());
                self.call_failed(id, &tool.name, &Fault::new(fault_type::RUNTIME, 404, why), step)
            }
            Answer::Changed(Some(listed)) => self.ask_of_change(id, tool, listed, step),
            Answer::Input { requests, state } => {
                let too_long = state.as_ref().is_some_and(|state| state.len() > STATE_BYTES_MAX);
                if too_long {
                    return self.give_up(id, tool, &format!("its state has more than {STATE_BYTES_MAX} bytes"), step);
                }
                let rounds = self.exchange(id).map_or(0, |exchange| exchange.rounds).saturating_add(1);
                let exchange = Exchange { rounds, pending: requests, state, ..Exchange::default() };
                return self.go_on(id, tool, exchange, step);
            }
            Answer::Task { id: task, poll_ms, requests } => {
                let exchange = self.task_goes_on(id, task, requests, step);
                if exchange.pending.is_empty() {
                    return self.poll_later(id, tool, exchange, poll_ms, step);
                }
                return self.go_on(id, tool, exchange, step);
            }
        };
        self.set_call(id, step, |call| call.state = state);
    }

    /// Work at the server that has not ended, with what the server wants to know and was not told yet.
    fn task_goes_on(
        &self,
        id: &OperationId,
        task: String,
        mut pending: BTreeMap<String, InputRequest>,
        step: &Step,
    ) -> Exchange {
        let before = self.exchange(id);
        let rounds = before.map_or(0, |exchange| exchange.rounds);
        let mut task = match before.and_then(|exchange| exchange.task.clone()) {
            Some(known) => TaskHandle { id: task, polls: known.polls.saturating_add(1), ..known },
            None => TaskHandle { id: task, polls: 1, until_ms: step.after(TASK_WAIT_MS), answered: BTreeSet::new() },
        };
        // A server may go on asking for a while for what it was told.
        task.answered.extend(before.into_iter().flat_map(|exchange| exchange.responses.keys().cloned()));
        pending.retain(|key, _| !task.answered.contains(key));
        Exchange { rounds: rounds + u32::from(!pending.is_empty()), pending, task: Some(task), ..Exchange::default() }
    }

    fn exchange(&self, id: &OperationId) -> Option<&Exchange> {
        let Stage::Tools(calls) = &self.state.stage else { return None };
        calls.iter().find(|call| call.id == *id)?.exchange.as_ref()
    }

    fn give_up(&mut self, id: &OperationId, tool: &Tool, why: &str, step: &mut Step) {
        let detail = format!("the call of the MCP server '{}' is given up: {why}", tool.server().unwrap_or_default());
        let state = self.call_failed(id, &tool.name, &Fault::new(fault_type::RUNTIME, 501, detail), step);
        self.set_call(id, step, |call| call.state = state);
    }

    /// Asks for the next thing that the server wants to know, or makes the next request once all is known.
    fn go_on(&mut self, id: &OperationId, tool: &Tool, exchange: Exchange, step: &mut Step) {
        if exchange.rounds > ROUNDS_MAX {
            return self.give_up(id, tool, &format!("it asks again and again, more than {ROUNDS_MAX} times"), step);
        }
        let Some((_, request)) = exchange.pending.first_key_value() else {
            self.set_call_silently(id, |call| call.exchange = Some(exchange));
            return self.continue_as(id, tool, None, step);
        };
        match question_of(request) {
            Err(why) => self.give_up(id, tool, &why, step),
            Ok(arguments) if is_too_long(&arguments) => {
                self.give_up(id, tool, "what it wants to know is too long for a person", step);
            }
            Ok(arguments) => {
                let message = message_of(tool, request);
                let why = format!("the MCP server '{}' wants to know", tool.server().unwrap_or_default());
                let number = exchange.responses.len();
                let state =
                    self.ask_person((QuestionKind::Elicitation, number), id, tool, arguments, message, why, step);
                self.set_call(id, step, |call| {
                    call.exchange = Some(exchange);
                    call.state = state;
                });
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of the question")]
    fn ask_person(
        &self,
        (kind, number): (QuestionKind, usize),
        call: &OperationId,
        tool: &Tool,
        arguments: Value,
        message: String,
        why: String,
        step: &mut Step,
    ) -> CallState {
        let timeout_ms =
            self.definition.policy().map_or(APPROVAL_TIMEOUT_MS_DEFAULT, |policy| policy.approval_timeout_ms);
        let (id, expires_ms) = (question_id(kind, call, number), step.after(timeout_ms));
        step.push(Command::Ask(Question {
            id: id.clone(),
            kind,
            tool: tool.name.clone(),
            server: tool.server().unwrap_or_default().to_owned(),
            arguments,
            message: message.clone(),
            why,
            expires_ms,
        }));
        step.push(Command::StartTimer { id: id.clone(), due_ms: expires_ms });
        CallState::Asking { question: id, kind, on: message, until_ms: expires_ms }
    }

    fn ask_of_change(&mut self, id: &OperationId, tool: &Tool, listed: Listed, step: &mut Step) -> CallState {
        let servers = self.state.servers.iter().filter(|pinned| Some(pinned.name.as_str()) == tool.server());
        let was = servers.flat_map(|pinned| &pinned.tools).find(|was| was.name == listed.name).cloned();
        let change = Change { was, is: listed };
        let arguments = self.call(id).map_or(Value::Null, |call| shown_change(call, &change));
        if is_too_long(&arguments) {
            let why = "the tool has changed since the execution began, and is too long for a person to look at";
            return self.call_failed(id, &tool.name, &Fault::new(fault_type::TOO_LARGE, 413, why), step);
        }
        let message = format!("call '{}', which is not the tool that it was when the execution began", tool.name);
        let why = format!("the MCP server '{}' has changed the tool", tool.server().unwrap_or_default());
        let state = self.ask_person((QuestionKind::ToolChanged, 0), id, tool, arguments, message, why, step);
        self.set_call_silently(id, |call| {
            call.exchange.get_or_insert_default().changed = Some(change);
        });
        state
    }

    pub(super) fn call(&self, id: &OperationId) -> Option<&Call> {
        let Stage::Tools(calls) = &self.state.stage else { return None };
        calls.iter().find(|call| call.id == *id)
    }

    /// What is wrong with a decision on a question of a server.
    pub(super) fn wrong_with_answer(&self, id: &OperationId, kind: QuestionKind, decision: &Decision) -> Vec<String> {
        if decision.arguments.is_some() {
            return vec!["are not for this question".to_owned()];
        }
        let request = self.exchange(id).and_then(|exchange| exchange.pending.first_key_value());
        match (kind, request) {
            (QuestionKind::Elicitation, Some((_, request))) if decision.choice != Choice::Deny => {
                answer_of(request, decision).err().unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// A person has decided on a question of a server.
    pub(super) fn answer_decided(&mut self, id: &OperationId, kind: QuestionKind, outcome: &Outcome, step: &mut Step) {
        let Some(call) = self.call(id) else { return };
        let Some(tool) = self.tool(&call.asked.name) else { return };
        let decision = match Decision::of(outcome) {
            Ok(decision) => decision,
            Err(why) => return self.refuse_call(id, &tool, &denied(why), step),
        };
        if kind == QuestionKind::Elicitation {
            return self.input_given(id, &tool, Some(&decision), step);
        }
        let Some(change) = call.exchange.as_ref().and_then(|exchange| exchange.changed.clone()) else { return };
        let matches = decision.arguments_digest == arguments_digest(&shown_change(call, &change));
        if decision.choice != Choice::Approve || !matches {
            let reason = if decision.reason.is_empty() { String::new() } else { format!(": {}", decision.reason) };
            let why = format!("the tool has changed, and a person was asked and did not allow the call{reason}");
            return self.refuse_call(id, &tool, &denied(why), step);
        }
        let server = tool.server().unwrap_or_default();
        if let Err(fault) = self.pin(server, &change.is) {
            return self.refuse_call(id, &tool, &fault, step);
        }
        self.set_call_silently(id, |call| call.exchange.get_or_insert_default().changed = None);
        let Some(tool) = self.tool(&tool.name) else { return };
        self.continue_as(id, &tool, Some(decision.approval), step);
    }

    /// Nobody has decided on a question of a server in time.
    pub(super) fn answer_overdue(&mut self, id: &OperationId, kind: QuestionKind, step: &mut Step) {
        let fault = Fault::new(fault_type::TIMEOUT, 408, "nobody decided on this call in time; it was not made");
        let on_expiry = self.definition.policy().map(|policy| policy.on_expiry).unwrap_or_default();
        let Some(tool) = self.call(id).and_then(|call| self.tool(&call.asked.name)) else { return };
        match (kind, on_expiry) {
            (_, OnExpiry::Fail) => self.fail(fault.at(&id.position), step),
            (QuestionKind::Elicitation, OnExpiry::Deny) => self.input_given(id, &tool, None, step),
            (_, OnExpiry::Deny) => self.refuse_call(id, &tool, &fault, step),
        }
    }

    fn refuse_call(&mut self, id: &OperationId, tool: &Tool, fault: &Fault, step: &mut Step) {
        let state = self.call_failed(id, &tool.name, fault, step);
        self.set_call(id, step, |call| call.state = state);
    }

    /// Takes the answer to what a server wants to know; without a decision, nobody has answered.
    fn input_given(&mut self, id: &OperationId, tool: &Tool, decision: Option<&Decision>, step: &mut Step) {
        let Some(mut exchange) = self.exchange(id).cloned() else { return };
        let Some((key, request)) = exchange.pending.pop_first() else { return };
        let response = match decision {
            None => json!({"action": "cancel"}),
            Some(decision) if decision.choice == Choice::Deny => json!({"action": "decline"}),
            Some(decision) => match answer_of(&request, decision) {
                Ok(Some(content)) => json!({"action": "accept", "content": content}),
                Ok(None) => json!({"action": "accept"}),
                // It was checked before it was taken; what does not fit is no answer.
                Err(_) => json!({"action": "cancel"}),
            },
        };
        exchange.responses.insert(key, response);
        self.go_on(id, tool, exchange, step);
    }

    /// Makes the next request of a call, as an attempt of its own; `approval` is what allows it, if that was needed.
    fn continue_as(&mut self, id: &OperationId, tool: &Tool, approval: Option<String>, step: &mut Step) {
        let Some(call) = self.call(id) else { return };
        match next_action(call, tool) {
            Ok(action) => {
                let next = OperationId::new(id.position.clone(), id.attempt.saturating_add(1));
                let state = begin(&next, action, approval, step);
                self.set_call(id, step, |call| {
                    call.id = next;
                    call.state = state;
                });
            }
            Err(why) => self.refuse_call(id, tool, &Fault::new(fault_type::VALIDATION, 400, why), step),
        }
    }

    /// The work goes on at the server: it is asked for after a pause.
    fn poll_later(&mut self, id: &OperationId, tool: &Tool, exchange: Exchange, poll_ms: Option<u64>, step: &mut Step) {
        let Some(task) = &exchange.task else { return };
        if step.now_ms >= task.until_ms {
            let fault = Fault::new(fault_type::TIMEOUT, 408, "the work at the server did not end within 7 days");
            return self.refuse_call(id, tool, &fault, step);
        }
        let pause = poll_ms.unwrap_or(POLL_MS_MIN).max(POLL_MS_MIN);
        let doublings = (task.polls / POLLS_PER_DOUBLING).min(20);
        let pause = pause.saturating_mul(1 << doublings).min(POLL_MS_MAX);
        let due_ms = step.after(pause).min(task.until_ms);
        let on = format!("task {} of server {}", cut(&task.id, 64), tool.server().unwrap_or_default());
        let next = OperationId::new(id.position.clone(), id.attempt.saturating_add(1));
        step.push(Command::StartTimer { id: next.clone(), due_ms });
        self.set_call(id, step, |call| {
            call.id = next;
            call.exchange = Some(exchange);
            call.state = CallState::Pausing { on, until_ms: due_ms };
        });
    }

    /// Whether a call waits for this timer to ask for its work again.
    pub(super) fn pauses(&self, id: &OperationId) -> bool {
        self.call(id).is_some_and(|call| matches!(call.state, CallState::Pausing { .. }))
    }

    /// It is time to ask a server for the work of a call.
    pub(super) fn pause_over(&mut self, id: &OperationId, step: &mut Step) {
        let Some(call) = self.call(id) else { return };
        let Some(tool) = self.tool(&call.asked.name) else { return };
        match next_action(call, &tool) {
            Ok(action) => {
                let state = begin(id, action, None, step);
                self.set_call(id, step, |call| call.state = state);
            }
            Err(why) => self.refuse_call(id, &tool, &Fault::new(fault_type::VALIDATION, 400, why), step),
        }
    }

    /// Changes a call in a way that cannot end the turn.
    fn set_call_silently(&mut self, id: &OperationId, change: impl FnOnce(&mut Call)) {
        if let Stage::Tools(calls) = &mut self.state.stage
            && let Some(call) = calls.iter_mut().find(|call| call.id == *id)
        {
            change(call);
        }
    }
}

/// What is to be done next in a call; the error is a sentence for the model.
pub(super) fn next_action(call: &Call, tool: &Tool) -> Result<Action, String> {
    match &call.exchange {
        Some(exchange) => tool.action(call.sent()).and_then(|_| tool.follow_up(call.sent(), exchange)),
        None => tool.action(call.sent()),
    }
}

/// What a person looks at: the call, and the tool as it was and as it is.
fn shown_change(call: &Call, change: &Change) -> Value {
    json!({"arguments": call.sent(), "was": change.was, "is": change.is})
}

/// What a person is shown of a request; the error says why it is not for a person.
fn question_of(request: &InputRequest) -> Result<Value, String> {
    if request.method != ELICITATION {
        return Err(format!("it wants '{}', which agents do not give", cut(&request.method, 64)));
    }
    let mut shown = json!({"message": request.params.get("message")});
    if let Some(url) = request.params.get("url") {
        shown["url"] = url.clone();
    } else {
        let schema = request.params.get("requestedSchema").cloned().unwrap_or_else(|| json!({"type": "object"}));
        Schema::compile(&schema).map_err(|why| format!("the schema of what it wants to know {why}"))?;
        shown["requestedSchema"] = schema;
    }
    Ok(shown)
}

fn message_of(tool: &Tool, request: &InputRequest) -> String {
    let said = request.params.get("message").and_then(Value::as_str).unwrap_or_default();
    let url = request.params.get("url").and_then(Value::as_str);
    let url = url.map(|url| format!(" ({})", cut(url, 300))).unwrap_or_default();
    format!("'{}' of the server '{}' asks: {}{url}", tool.name, tool.server().unwrap_or_default(), cut(said, 1000))
}

/// What goes back to the server; the error says how it does not match what the server wants to know.
fn answer_of(request: &InputRequest, decision: &Decision) -> Result<Option<Value>, Vec<String>> {
    if request.params.get("url").is_some() {
        return match &decision.result {
            None => Ok(None),
            Some(_) => Err(vec!["is not wanted: the server has its answer from the page itself".to_owned()]),
        };
    }
    let content = decision.result.clone().unwrap_or_else(|| json!({}));
    if !content.is_object() {
        return Err(vec!["must be an object".to_owned()]);
    }
    let schema = request.params.get("requestedSchema").cloned().unwrap_or_else(|| json!({"type": "object"}));
    let schema = Schema::compile(&schema).map_err(|why| vec![why])?;
    let violations = schema.violations(&content);
    if violations.is_empty() { Ok(Some(content)) } else { Err(violations) }
}
