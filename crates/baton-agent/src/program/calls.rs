//! The tool calls of a turn: begun together, ended one by one.

use std::{collections::BTreeMap, sync::Arc};

use baton_execution::{
    ChildTarget, Command, Fault, Note, OperationId, ParentClosePolicy, ScheduleActivity, StartChild, canonical_json,
    fault_type,
};
use baton_types::Digest;
use serde_json::{Value, json};

use super::{
    AgentProgram, Step,
    state::{Call, CallState, Stage, Streak},
    turn::{limit, turn_position},
};
use crate::{
    fields::cut,
    model::{Message, ToolCall},
    tools::{Action, Tool},
};

/// Calls that a model may ask for at once.
const CALLS_PER_TURN_MAX: usize = 64;
/// The same call this many times in a row is no progress.
const SAME_CALL_MAX: u32 = 5;
/// Largest result that is shown to the model, in bytes; the whole conversation is sent with each turn.
const RESULT_BYTES_MAX: usize = 256 * 1024;
/// Longest part of a tool's name that goes into a position.
const POSITION_NAME_MAX: usize = 64;

impl AgentProgram {
    pub(super) fn begin_calls(&mut self, calls: Vec<ToolCall>, step: &mut Step) {
        if let Some(fault) = self.limit_before_calls(&calls) {
            return self.fail(fault, step);
        }
        self.state.repairs = 0;
        let added = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        self.state.usage.tool_calls = self.state.usage.tool_calls.saturating_add(added);
        let begun = calls.into_iter().enumerate().map(|(index, call)| self.begin_call(index, call, step)).collect();
        self.state.stage = Stage::Tools(begun);
        self.end_turn_if_done(step);
    }

    /// The limit that forbids these calls, or the model call that would have to read their results.
    fn limit_before_calls(&mut self, calls: &[ToolCall]) -> Option<Fault> {
        if let Some(fault) = self.limit_before_model() {
            return Some(fault);
        }
        // What a person may extend before the next turn forbids nothing now.
        if !self.is_to_extend()
            && let Err(fault) = self.plan_call(&self.priced_models())
        {
            return Some(fault);
        }
        if calls.len() > CALLS_PER_TURN_MAX {
            return Some(limit(
                "toolCallsPerTurn",
                CALLS_PER_TURN_MAX as u64,
                &format!("the model asked for {} calls at once", calls.len()),
            ));
        }
        let made = u64::from(self.state.usage.tool_calls);
        let wanted = made.saturating_add(calls.len() as u64);
        if let Some(max) = self.state.limits.max_tool_calls.filter(|max| wanted > u64::from(*max)) {
            return Some(limit(
                "maxToolCalls",
                u64::from(max),
                &format!("{made} tool calls were made and {} more are asked for", calls.len()),
            ));
        }
        let (own, count) = (self.own_usage(), calls.len() as u64);
        if let Err(shortage) = self.state.account.check_tool_calls(own, count) {
            return Some(shortage.fault(&format!("{count} more tool calls are asked for")));
        }
        let children = self.children_of(calls);
        if let Err(shortage) = self.state.account.check_children(own, children) {
            return Some(shortage.fault(&format!("{children} more executions are asked for")));
        }
        if let Some(fault) = self.circle(calls) {
            return Some(fault);
        }
        calls.iter().find(|call| self.streak_with(call) >= SAME_CALL_MAX).map(|call| {
            let what = format!(
                "the model asked for '{}' with the same arguments {SAME_CALL_MAX} times in a row",
                cut(&call.name, 64)
            );
            Fault::new(fault_type::LIMIT, 429, format!("no progress: {what}"))
                .non_retryable()
                .with_data(json!({"limit": "noProgress", "allowed": SAME_CALL_MAX - 1}))
        })
    }

    /// How often in a row this very call was asked for, counting this time.
    fn streak_with(&mut self, call: &ToolCall) -> u32 {
        let digest = Digest::of(format!("{}\n{}", call.name, canonical_json(&call.arguments)).as_bytes()).to_string();
        let count = match &self.state.streak {
            Some(streak) if streak.digest == digest => streak.count.saturating_add(1),
            Some(_) | None => 1,
        };
        self.state.streak = Some(Streak { digest, count });
        count
    }

    fn begin_call(&mut self, index: usize, call: ToolCall, step: &mut Step) -> Call {
        let id = OperationId::new(
            format!("{}/tools/{index}/{}", turn_position(self.state.turn), position_name(&call.name)),
            1,
        );
        let tool = self.tool(&call.name);
        let kind = tool.as_ref().map_or_else(|| "tool".to_owned(), |tool| tool.kind.clone());
        self.state.timeline.start(&id.position, &cut(&call.name, POSITION_NAME_MAX), &kind, step.now_ms);
        step.push(Command::Note(Note::TaskStarted {
            position: id.position.clone(),
            name: cut(&call.name, POSITION_NAME_MAX),
            kind,
            attempt: 1,
        }));

        let action = tool
            .ok_or_else(|| unknown_tool(&call.name, self.tools()))
            .and_then(|tool| tool.action(&call.arguments).map(|action| (tool, action)));
        let state = match action {
            Ok((tool, action)) => self.admit_call(&id, &call, &tool, action, step),
            Err(why) => self.call_failed(&id, &call.name, &Fault::new(fault_type::VALIDATION, 400, why), step),
        };
        Call { id, asked: call, edited: None, exchange: None, since_ms: step.now_ms, state }
    }

    /// A call came to its end; one that is not open (any more) is ignored.
    pub(super) fn call_ended(
        &mut self,
        id: &OperationId,
        by_child: bool,
        result: Result<Value, Fault>,
        step: &mut Step,
    ) {
        let Some(name) = self.open_call(id, by_child) else { return };
        // Whatever it is, even a fault holds words of others.
        self.state.untrusted = true;
        let ended = match result {
            Ok(output) if let Some(tool) = self.tool(&name).filter(|tool| tool.server().is_some()) => {
                return self.answered(id, &tool, output, step);
            }
            Ok(output) => self.call_completed(id, &name, output, step),
            Err(fault) if fault.kind == fault_type::IN_DOUBT => return self.doubted(id, fault, step),
            Err(fault) => self.call_failed(id, &name, &fault, step),
        };
        self.set_call(id, step, |call| call.state = ended);
    }

    /// What the activity of an open call is run with, where the command does not hold it.
    pub(super) fn call_input(&self, id: &OperationId) -> Option<Value> {
        let Stage::Tools(calls) = &self.state.stage else { return None };
        let call = calls.iter().find(|call| call.id == *id)?;
        let tool = self.definition.tools.iter().find(|tool| tool.name == call.asked.name)?;
        match tool.action(call.sent()) {
            Ok(Action::Activity { input, recorded: Some(_), .. }) => Some(input),
            Ok(Action::Activity { .. } | Action::Child { .. } | Action::Answer(_) | Action::Keep { .. }) | Err(_) => {
                None
            }
        }
    }

    pub(super) fn awaits_child(&self, id: &OperationId) -> bool {
        self.open_call(id, true).is_some()
    }

    /// Name of the tool of an open call, run by a child or by an activity.
    fn open_call(&self, id: &OperationId, by_child: bool) -> Option<String> {
        let Stage::Tools(calls) = &self.state.stage else { return None };
        let is_open = |call: &&Call| {
            call.id == *id
                && match call.state {
                    CallState::Child { .. } => by_child,
                    CallState::Activity { .. } => !by_child,
                    CallState::Asking { .. } | CallState::Pausing { .. } | CallState::Done { .. } => false,
                }
        };
        calls.iter().find(is_open).map(|call| call.asked.name.clone())
    }

    pub(super) fn call_completed(&mut self, id: &OperationId, name: &str, output: Value, step: &mut Step) -> CallState {
        let output = match self.edited(id) {
            // The model would take it for the answer to what it asked for.
            Some(arguments) => {
                json!({"note": "a person changed the arguments of this call", "arguments": arguments, "result": output})
            }
            None => output,
        };
        let content = match &output {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let kept = (content.len() > RESULT_BYTES_MAX).then(|| self.keep_result(id, &output, &content, step)).flatten();
        let (output, content) = match kept {
            Some(told) => (told.clone(), told.to_string()),
            None => (output, content),
        };
        if content.len() > RESULT_BYTES_MAX {
            let fault = Fault::new(
                fault_type::TOO_LARGE,
                413,
                format!(
                    "the call succeeded, but its result has {} bytes and was left out; allowed are 0 to {RESULT_BYTES_MAX}",
                    content.len()
                ),
            );
            return self.call_failed(id, name, &fault, step);
        }
        self.state.timeline.end(&id.position, "Completed", step.now_ms);
        step.push(Command::Note(Note::TaskCompleted { position: id.position.clone() }));
        step.push(tool_message(name, output));
        CallState::Done { content, failed: false }
    }

    /// What a person put in place of the arguments of a call.
    fn edited(&self, id: &OperationId) -> Option<&Value> {
        let Stage::Tools(calls) = &self.state.stage else { return None };
        calls.iter().find(|call| call.id == *id)?.edited.as_ref()
    }

    pub(super) fn call_failed(&mut self, id: &OperationId, name: &str, fault: &Fault, step: &mut Step) -> CallState {
        self.state.timeline.end(&id.position, "Faulted", step.now_ms);
        step.push(Command::Note(Note::TaskFaulted { position: id.position.clone(), fault: fault.clone() }));
        let mut shown = json!({"error": {"type": fault.kind, "status": fault.status, "title": fault.title, "detail": fault.detail, "data": fault.data}});
        if shown.to_string().len() > RESULT_BYTES_MAX {
            shown["error"]["data"] = Value::Null;
            shown["error"]["detail"] =
                fault.detail.as_deref().map_or(Value::Null, |detail| Value::String(cut(detail, 1000)));
        }
        let content = shown.to_string();
        step.push(tool_message(name, shown));
        CallState::Done { content, failed: true }
    }

    /// Once every call has ended, tells the model and begins the next turn.
    pub(super) fn end_turn_if_done(&mut self, step: &mut Step) {
        let Stage::Tools(calls) = &self.state.stage else { return };
        if !calls.iter().all(|call| matches!(call.state, CallState::Done { .. })) {
            return;
        }
        let Stage::Tools(calls) = std::mem::replace(&mut self.state.stage, Stage::New) else { return };
        let all_failed = calls.iter().all(|call| matches!(call.state, CallState::Done { failed: true, .. }));
        for Call { asked, state, .. } in calls {
            if let CallState::Done { content, failed } = state {
                self.state.conversation.push(Message::Tool { call_id: asked.id, name: asked.name, content, failed });
            }
        }
        self.turn_completed(step);
        match self.in_vain(all_failed) {
            Some(fault) => self.fail(fault, step),
            None => self.begin_turn(step),
        }
    }
}

/// Makes a call; `approval` is what allows it, if that was needed.
pub(super) fn begin(id: &OperationId, action: Action, approval: Option<String>, step: &mut Step) -> CallState {
    let on = action.on();
    match action {
        Action::Answer(content) | Action::Keep { content, .. } => CallState::Done { content, failed: false },
        Action::Activity { activity, input, timeout_ms, effect, recorded, .. } => {
            step.push(Command::ScheduleActivity(ScheduleActivity {
                id: id.clone(),
                activity: activity.to_owned(),
                input: recorded.unwrap_or(input),
                start_to_close_ms: timeout_ms,
                effect,
                approval,
            }));
            CallState::Activity { on, until_ms: step.after(timeout_ms) }
        }
        Action::Child { kind, name, message, input, timeout_ms, wait_ms } => {
            let due_ms = step.after(wait_ms);
            step.push(Command::StartChild(StartChild {
                id: id.clone(),
                kind,
                target: ChildTarget::Named { name, version: None },
                input,
                message,
                session: None,
                env: BTreeMap::new(),
                timeout_ms,
                limits: Value::Null,
                awaited: true,
                expires_ms: Some(due_ms),
                parent_close_policy: ParentClosePolicy::Cancel,
                approval,
                grant: None,
            }));
            step.push(Command::StartTimer { id: id.clone(), due_ms });
            CallState::Child { on, until_ms: due_ms }
        }
    }
}

fn tool_message(name: &str, content: Value) -> Command {
    Command::Note(Note::Message { role: "tool".to_owned(), content, tool_calls: vec![cut(name, POSITION_NAME_MAX)] })
}

fn unknown_tool<'t>(name: &str, tools: impl Iterator<Item = &'t Arc<Tool>>) -> String {
    let names: Vec<String> = tools.map(|tool| format!("'{}'", tool.name)).collect();
    let known =
        if names.is_empty() { "there are no tools".to_owned() } else { format!("tools are {}", names.join(", ")) };
    if name.is_empty() {
        format!("the call names no tool; {known}")
    } else {
        format!("no tool named '{}'; {known}", cut(name, POSITION_NAME_MAX))
    }
}

/// A name from a model as one segment of a JSON pointer.
fn position_name(name: &str) -> String {
    let short: String = name.chars().take(POSITION_NAME_MAX).map(|c| if c.is_control() { '_' } else { c }).collect();
    short.replace('~', "~0").replace('/', "~1")
}
