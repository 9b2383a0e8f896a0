//! Calls that a person decides on: before they are made, or after a crash has left them in doubt.
//!
//! A question has a position of its own, such as `/turns/<k>/approvals/<index>/<name>` or `/turns/<k>/in-doubt/<index>/<name>`,
//! so that its wait is never taken for that of the call.
//!
//! # Invariants
//! - A call that is asked about is made only in the step that takes the decision, with the arguments whose digest the
//!   decision names, or with those that it gives instead.
//! - A call in doubt is made again only because a person or the policy says so, as another attempt.

use std::sync::Arc;

use baton_execution::{
    Choice, Command, Decision, Fault, OperationId, Outcome, QUESTION_BYTES_MAX, Question, QuestionKind,
    arguments_digest, fault_type,
};
use serde_json::Value;

use super::{
    AgentProgram, Step,
    calls::begin,
    exchange::next_action,
    state::{Call, CallState, Stage},
};
use crate::{
    model::ToolCall,
    policy::{APPROVAL_TIMEOUT_MS_DEFAULT, InDoubt, OnExpiry, PolicyAction, PolicyCall},
    tools::{Action, Tool},
};

/// Attempts of one call that `inDoubt: retry` makes: a server that dies of the call is not to die for ever.
const ATTEMPTS_MAX: u32 = 10;

/// A call that a person decides on, taken out of the state.
struct Asking {
    id: OperationId,
    asked: ToolCall,
    kind: QuestionKind,
}

impl AgentProgram {
    /// What becomes of a call whose arguments are right: it is made, refused, or asked about.
    pub(super) fn admit_call(
        &mut self,
        id: &OperationId,
        call: &ToolCall,
        tool: &Tool,
        action: Action,
        step: &mut Step,
    ) -> CallState {
        let definition = Arc::clone(&self.definition);
        let Some(policy) = definition.policy() else { return self.make_call(id, call, action, step) };
        let verdict = policy.verdict(PolicyCall {
            tool: &tool.name,
            server: tool.server(),
            read_only: tool.read_only,
            arguments: &call.arguments,
        });
        let verdict = match policy.after_untrusted {
            Some(after) if tool.egress && self.has_read_untrusted() => after.tighten(verdict),
            Some(_) | None => verdict,
        };
        match verdict.action {
            // Nothing happens outside of the agent: there is nothing to ask about.
            PolicyAction::Ask if matches!(action, Action::Answer(_) | Action::Keep { .. }) => {
                self.make_call(id, call, action, step)
            }
            PolicyAction::Allow => self.make_call(id, call, action, step),
            PolicyAction::Deny => {
                let why = format!("the policy of the agent does not allow this call ({})", verdict.why);
                self.call_failed(id, &call.name, &denied(why), step)
            }
            PolicyAction::Ask if is_too_long(&call.arguments) => {
                let why = format!(
                    "a person would have to decide on this call, and its arguments are too long for that; allowed are up to {QUESTION_BYTES_MAX} bytes"
                );
                self.call_failed(id, &call.name, &Fault::new(fault_type::TOO_LARGE, 413, why), step)
            }
            PolicyAction::Ask => {
                let on = action.on();
                let message = format!("call '{}': {on}", tool.name);
                self.ask(QuestionKind::ToolCall, id, tool, &call.arguments, message, verdict.why, step)
            }
        }
    }

    /// Makes a call that nobody is asked about.
    fn make_call(&mut self, id: &OperationId, call: &ToolCall, action: Action, step: &mut Step) -> CallState {
        match action {
            Action::Answer(text) => self.call_completed(id, &call.name, Value::String(text), step),
            Action::Keep { name, media_type, content } => self.save(id, &call.name, (name, media_type, content), step),
            action @ (Action::Activity { .. } | Action::Child { .. }) => begin(id, action, None, step),
        }
    }

    /// Whether the model has read content from outside, in this execution or, perhaps, in an earlier turn of its session.
    fn has_read_untrusted(&self) -> bool {
        self.state.untrusted || self.state.session.as_ref().is_some_and(|turn| turn.earlier.turn > 1)
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of the question")]
    fn ask(
        &self,
        kind: QuestionKind,
        call: &OperationId,
        tool: &Tool,
        arguments: &Value,
        message: String,
        why: String,
        step: &mut Step,
    ) -> CallState {
        let timeout_ms =
            self.definition.policy().map_or(APPROVAL_TIMEOUT_MS_DEFAULT, |policy| policy.approval_timeout_ms);
        let (id, expires_ms) = (question_id(kind, call, 0), step.after(timeout_ms));
        step.push(Command::Ask(Question {
            id: id.clone(),
            kind,
            tool: tool.name.clone(),
            server: tool.server().unwrap_or_default().to_owned(),
            arguments: arguments.clone(),
            message: message.clone(),
            why,
            expires_ms,
        }));
        step.push(Command::StartTimer { id: id.clone(), due_ms: expires_ms });
        CallState::Asking { question: id, kind, on: message, until_ms: expires_ms }
    }

    /// Whether a call waits for this decision.
    pub(super) fn asks(&self, question: &OperationId) -> bool {
        self.asking(question).is_some()
    }

    fn asking(&self, wanted: &OperationId) -> Option<Asking> {
        let Stage::Tools(calls) = &self.state.stage else { return None };
        calls.iter().find_map(|call| match &call.state {
            CallState::Asking { question, kind, .. } if question == wanted => {
                let asked = ToolCall { arguments: call.sent().clone(), ..call.asked.clone() };
                Some(Asking { id: call.id.clone(), asked, kind: *kind })
            }
            CallState::Asking { .. }
            | CallState::Activity { .. }
            | CallState::Child { .. }
            | CallState::Pausing { .. }
            | CallState::Done { .. } => None,
        })
    }

    /// What is wrong with a decision on an open question.
    pub(super) fn wrong_with(&self, question: &OperationId, decision: &Decision) -> Vec<String> {
        let Some(asking) = self.asking(question) else { return Vec::new() };
        if matches!(asking.kind, QuestionKind::ToolChanged | QuestionKind::Elicitation) {
            return self.wrong_with_answer(&asking.id, asking.kind, decision);
        }
        let Some(arguments) = &decision.arguments else { return Vec::new() };
        match self.tool(&asking.asked.name).map(|tool| tool.action(arguments)) {
            Some(Ok(_)) if is_too_long(arguments) => {
                vec![format!("has more than {QUESTION_BYTES_MAX} bytes, which are allowed")]
            }
            Some(Ok(_)) => Vec::new(),
            Some(Err(why)) => vec![why],
            None => vec![format!("there is no tool '{}'", asking.asked.name)],
        }
    }

    /// A person has decided.
    pub(super) fn decided(&mut self, question: &OperationId, outcome: &Outcome, step: &mut Step) {
        let Some(asking) = self.asking(question) else { return };
        step.push(Command::CancelTimer { id: question.clone() });
        let decision = Decision::of(outcome);
        let matches = |decision: &Decision| decision.arguments_digest == arguments_digest(&asking.asked.arguments);
        match (asking.kind, decision) {
            (QuestionKind::ToolCall, Ok(decision)) if decision.choice == Choice::Approve && matches(&decision) => {
                self.make(&asking, decision, step);
            }
            (QuestionKind::ToolCall, Ok(decision)) => {
                let why = match (decision.choice, decision.reason.as_str()) {
                    (Choice::Approve, _) => "the approval of this call is for other arguments".to_owned(),
                    (_, "") => "a person was asked and did not allow this call".to_owned(),
                    (_, reason) => format!("a person was asked and did not allow this call: {reason}"),
                };
                self.refuse(&asking, &denied(why), step);
            }
            (QuestionKind::ToolCall, Err(why)) => self.refuse(&asking, &denied(why), step),
            (QuestionKind::InDoubt, Ok(decision)) if decision.choice == Choice::Retry && matches(&decision) => {
                self.make(&asking, decision, step);
            }
            (QuestionKind::InDoubt, Ok(Decision { choice: Choice::Result, result, .. })) => {
                self.state.untrusted = true;
                let state = self.call_completed(&asking.id, &asking.asked.name, result.unwrap_or_default(), step);
                self.set_call(&asking.id, step, |call| call.state = state);
            }
            (QuestionKind::InDoubt, Ok(decision)) => {
                let why = if decision.reason.is_empty() { String::new() } else { format!(": {}", decision.reason) };
                self.fail(in_doubt(&asking, &format!("it was decided not to go on{why}")), step);
            }
            (QuestionKind::InDoubt, Err(why)) => self.fail(in_doubt(&asking, &why), step),
            (QuestionKind::ToolChanged | QuestionKind::Elicitation, _) => {
                self.answer_decided(&asking.id, asking.kind, outcome, step);
            }
            // A question of the run, see `extending`: no call has it.
            (QuestionKind::Limit, _) => {}
        }
    }

    /// Nobody has decided in time.
    pub(super) fn undecided(&mut self, question: &OperationId, step: &mut Step) {
        let Some(asking) = self.asking(question) else { return };
        step.push(Command::CloseWait { id: question.clone() });
        let why = "nobody decided on this call in time; it was not made";
        let fault = Fault::new(fault_type::TIMEOUT, 408, why);
        let on_expiry = self.definition.policy().map(|policy| policy.on_expiry).unwrap_or_default();
        match (asking.kind, on_expiry) {
            (QuestionKind::ToolCall, OnExpiry::Deny) => self.refuse(&asking, &fault, step),
            (QuestionKind::ToolCall, OnExpiry::Fail) => self.fail(fault.at(&asking.id.position), step),
            // Neither "it happened" nor "it did not" is to be guessed.
            (QuestionKind::InDoubt, _) => self.fail(in_doubt(&asking, "nobody decided in time"), step),
            (QuestionKind::ToolChanged | QuestionKind::Elicitation, _) => {
                self.answer_overdue(&asking.id, asking.kind, step);
            }
            (QuestionKind::Limit, _) => {}
        }
    }

    /// A call may or may not have happened: the model would call again what may have happened already.
    pub(super) fn doubted(&mut self, id: &OperationId, fault: Fault, step: &mut Step) {
        let policy = self.definition.policy().map_or(InDoubt::Fail, |policy| policy.in_doubt);
        let Stage::Tools(calls) = &self.state.stage else { return };
        let Some(call) = calls.iter().find(|call| call.id == *id) else { return };
        let (arguments, on) = (call.sent().clone(), call.state.on().to_owned());
        match (policy, self.tool(&call.asked.name)) {
            (InDoubt::Retry, Some(tool)) if id.attempt < ATTEMPTS_MAX => match next_action(call, &tool) {
                Ok(action) => self.begin_again(id, action, None, None, step),
                Err(_) => self.fail(fault.at(&id.position), step),
            },
            (InDoubt::Ask, Some(tool)) if !is_too_long(&arguments) => {
                let message = format!("'{}' ({on}) was under way when the server stopped", tool.name);
                let why = "whether the call took effect is not known, and it must not be repeated".to_owned();
                let state = self.ask(QuestionKind::InDoubt, id, &tool, &arguments, message, why, step);
                self.set_call(id, step, |call| call.state = state);
            }
            _ => self.fail(fault.at(&id.position), step),
        }
    }

    /// Makes the call that was decided on.
    fn make(&mut self, asking: &Asking, decision: Decision, step: &mut Step) {
        let arguments = decision.arguments.as_ref().unwrap_or(&asking.asked.arguments);
        let action = self
            .tool(&asking.asked.name)
            .ok_or_else(|| format!("there is no tool '{}'", asking.asked.name))
            .and_then(|tool| match self.call(&asking.id).and_then(|call| call.exchange.as_ref()) {
                Some(exchange) => tool.follow_up(arguments, exchange),
                None => tool.action(arguments),
            });
        match (action, asking.kind) {
            (Ok(action), QuestionKind::ToolCall) => {
                if matches!(action, Action::Child { .. })
                    && let Err(shortage) = self.state.account.check_children(self.own_usage(), 1)
                {
                    return self.fail(shortage.fault("the call that was approved starts another execution"), step);
                }
                let state = begin(&asking.id, action, Some(decision.approval), step);
                self.set_call(&asking.id, step, |call| {
                    call.state = state;
                    call.edited = decision.arguments;
                });
            }
            (Ok(action), QuestionKind::InDoubt) => {
                self.begin_again(&asking.id, action, Some(decision.approval), decision.arguments, step);
            }
            // Those are decided elsewhere.
            (Ok(_), QuestionKind::ToolChanged | QuestionKind::Elicitation | QuestionKind::Limit) => {}
            (Err(why), _) => self.refuse(asking, &Fault::new(fault_type::VALIDATION, 400, why), step),
        }
    }

    /// Makes a call once more, as its next attempt.
    fn begin_again(
        &mut self,
        id: &OperationId,
        action: Action,
        approval: Option<String>,
        edited: Option<Value>,
        step: &mut Step,
    ) {
        let next = OperationId::new(id.position.clone(), id.attempt.saturating_add(1));
        let state = begin(&next, action, approval, step);
        self.set_call(id, step, |call| {
            call.id = next;
            call.state = state;
            call.edited = edited.or_else(|| call.edited.take());
        });
    }

    fn refuse(&mut self, asking: &Asking, fault: &Fault, step: &mut Step) {
        let state = self.call_failed(&asking.id, &asking.asked.name, fault, step);
        self.set_call(&asking.id, step, |call| call.state = state);
    }

    /// Changes a call of the present turn, which may end the turn.
    pub(super) fn set_call(&mut self, id: &OperationId, step: &mut Step, change: impl FnOnce(&mut Call)) {
        if let Stage::Tools(calls) = &mut self.state.stage
            && let Some(call) = calls.iter_mut().find(|call| call.id == *id)
        {
            change(call);
        }
        self.end_turn_if_done(step);
    }
}

/// Where the question of a call stands; `number` tells those apart that a server asks at once.
pub(super) fn question_id(kind: QuestionKind, call: &OperationId, number: usize) -> OperationId {
    let segment = match kind {
        QuestionKind::ToolCall => "/approvals/".to_owned(),
        QuestionKind::InDoubt => "/in-doubt/".to_owned(),
        QuestionKind::ToolChanged => "/changes/".to_owned(),
        QuestionKind::Elicitation => format!("/elicitations/{number}/"),
        // Not asked about a call.
        QuestionKind::Limit => "/limits/".to_owned(),
    };
    OperationId::new(call.position.replacen("/tools/", &segment, 1), call.attempt)
}

pub(super) fn is_too_long(arguments: &Value) -> bool {
    arguments.to_string().len() > QUESTION_BYTES_MAX
}

pub(super) fn denied(why: impl Into<String>) -> Fault {
    Fault::new(fault_type::DENIED, 403, why).non_retryable()
}

fn in_doubt(asking: &Asking, why: &str) -> Fault {
    let detail = format!("whether the call of '{}' took effect is not known; {why}", asking.asked.name);
    Fault::new(fault_type::IN_DOUBT, 500, detail).at(&asking.id.position).non_retryable()
}
