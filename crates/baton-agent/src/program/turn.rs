//! The beginning of a run and of each turn: what the model is asked.

use baton_execution::{Account, Command, Effect, Fault, Note, OperationId, ScheduleActivity, Start, fault_type};
use serde_json::{Map, Value, json};

use super::{
    AgentProgram, Step,
    budget::{Bound, Settings},
    state::{ModelCall, Stage},
};
use crate::{
    check_attachments,
    model::{Attachment, Message, ModelRequest, ModelResponse, ModelSpec},
};

/// Largest conversation, in bytes of its JSON: beyond it no model of today could read it.
const CONVERSATION_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Position of the timer of the tree's time.
const DEADLINE: &str = "/limits/wallTime";

impl AgentProgram {
    pub(super) fn start(&mut self, start: &Start, step: &mut Step) {
        match Settings::read(&start.settings) {
            Ok(settings) => self.open_account(start, settings, step),
            Err(why) => {
                return self.fail(
                    Fault::new(
                        fault_type::CONFIGURATION,
                        400,
                        format!("the limits of the execution cannot be used: {why}"),
                    )
                    .non_retryable(),
                    step,
                );
            }
        }
        if let Some(fault) = self.recursion() {
            return self.fail(fault, step);
        }
        if let Err(fault) = self.join_session(start, step) {
            return self.fail(fault, step);
        }
        match attachments(&start.input) {
            Ok(attachments) => self.tell_with(first_message(&start.input), attachments, step),
            Err(fault) => return self.fail(fault, step),
        }
        if !self.begin_summary(step) {
            self.ask_servers(step);
        }
    }

    /// Puts together what the execution may use.
    fn open_account(&mut self, start: &Start, settings: Settings, step: &mut Step) {
        let limits = self.definition.limits.overridden_by(settings.limits);
        let mut account = Account::new(start.grant.clone(), limits.tree.amounts(), limits.tree.depth);
        if let Some(due_ms) = account.limit_time(limits.tree.wall_time_ms.map(|millis| step.after(millis))) {
            step.push(Command::StartTimer { id: OperationId::new(DEADLINE, 1), due_ms });
        }
        (self.state.limits, self.state.account, self.state.prices) = (limits, account, settings.prices);
    }

    /// Says something to the model in the user's place.
    pub(super) fn tell(&mut self, content: String, step: &mut Step) {
        self.tell_with(content, Vec::new(), step);
    }

    fn tell_with(&mut self, content: String, attachments: Vec<Attachment>, step: &mut Step) {
        step.push(Command::Note(Note::Message {
            role: "user".to_owned(),
            content: Value::String(content.clone()),
            tool_calls: Vec::new(),
        }));
        self.state.conversation.push(Message::User { content, attachments });
    }

    /// Asks the model, if a limit does not forbid it.
    pub(super) fn begin_turn(&mut self, step: &mut Step) {
        if let Some(fault) = self.limit_before_model() {
            return self.fail(fault, step);
        }
        if self.is_to_extend() {
            return self.ask_to_extend(step);
        }
        let plan = match self.plan_call(&self.priced_models()) {
            Ok(plan) => plan,
            Err(fault) => return self.fail(fault, step),
        };
        self.state.account.reserve_call(plan.reserve);
        self.state.turn += 1;
        self.state.usage.model_calls = self.state.usage.model_calls.saturating_add(1);
        let turn = self.state.turn;
        let (position, name) = (turn_position(turn), format!("turn {turn}"));
        self.state.timeline.start(&position, &name, "turn", step.now_ms);
        step.push(Command::Note(Note::TaskStarted { position, name, kind: "turn".to_owned(), attempt: 1 }));

        let model = &self.definition.model;
        let id = OperationId::new(format!("/turns/{turn}/model"), 1);
        let start_to_close_ms = model.whole_timeout_ms();
        let conversation = &self.state.conversation;
        let before = self.state.session.as_ref().map_or(0, |turn| turn.earlier.spoken.messages as usize);
        step.push(Command::ScheduleActivity(ScheduleActivity {
            id: id.clone(),
            activity: "model".to_owned(),
            input: json!({"model": model.name, "turn": turn, "messages": before + conversation.messages.len(), "digest": conversation.digest}),
            start_to_close_ms,
            effect: Effect::Repeatable,
            approval: None,
        }));
        self.state.stage = Stage::Model(ModelCall {
            id,
            since_ms: step.now_ms,
            until_ms: step.after(start_to_close_ms),
            bound: plan.bound,
        });
    }

    /// The limit that forbids another model call.
    pub(super) fn limit_before_model(&self) -> Option<Fault> {
        let (limits, usage) = (self.state.limits, self.state.usage);
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        if self.state.turn >= limits.turns() {
            return Some(limit(
                "maxTurns",
                u64::from(limits.turns()),
                &format!("{} model calls were made", self.state.turn),
            ));
        }
        if let Some(max) = limits.max_tokens.filter(|max| tokens >= u64::from(*max)) {
            return Some(limit("maxTokens", u64::from(max), &format!("{tokens} tokens were used")));
        }
        (self.state.conversation.bytes > CONVERSATION_BYTES_MAX).then(|| {
            limit(
                "conversation",
                CONVERSATION_BYTES_MAX,
                &format!("the conversation has {} bytes{}", self.state.conversation.bytes, self.shorten_hint()),
            )
        })
    }

    /// What would make the conversation of a session shorter.
    fn shorten_hint(&self) -> &'static str {
        let hint = " (spec.compaction of the session leaves out older turns, or summarises them)";
        if self.state.session.is_some() { hint } else { "" }
    }

    /// The whole question of the present turn.
    pub(super) fn request(&self) -> ModelRequest {
        ModelRequest {
            model: self.within_tokens(self.definition.model.clone()),
            instructions: self.definition.whole_instructions(),
            messages: self.state.conversation.messages.clone(),
            tools: self.tools().map(|tool| tool.description()).collect(),
            output_schema: self.definition.output.as_ref().map(|schema| schema.source().clone()),
            earlier: self.spoken(),
            recalled: 0,
        }
    }

    /// A model that may say no more than the tokens that are left.
    pub(super) fn within_tokens(&self, mut model: ModelSpec) -> ModelSpec {
        if let Some(max) = self.state.limits.max_tokens {
            let used = self.state.usage.input_tokens.saturating_add(self.state.usage.output_tokens);
            let left = u32::try_from(u64::from(max).saturating_sub(used)).unwrap_or(u32::MAX).max(1);
            let within = |most: u32| most.min(left);
            model.max_output_tokens = model.max_output_tokens.map(within);
            for fallback in &mut model.fallbacks {
                fallback.max_output_tokens = fallback.max_output_tokens.map(within);
            }
        }
        if let Some(Bound { tokens, .. }) = self.answer_bound() {
            for model in std::iter::once(&mut model.max_output_tokens)
                .chain(model.fallbacks.iter_mut().map(|fallback| &mut fallback.max_output_tokens))
            {
                *model = Some(model.map_or(tokens, |most| most.min(tokens)));
            }
        }
        model
    }

    /// Counts what a model call has used.
    pub(super) fn count_usage(&mut self, response: &ModelResponse) {
        let usage = &mut self.state.usage;
        usage.input_tokens = usage.input_tokens.saturating_add(response.input_tokens);
        usage.output_tokens = usage.output_tokens.saturating_add(response.output_tokens);
        usage.cached_input_tokens = usage.cached_input_tokens.saturating_add(response.cached_input_tokens);
        match response.cost_micros {
            Some(micros) => usage.cost_micros = usage.cost_micros.saturating_add(micros),
            None => usage.cost_unknown_calls = usage.cost_unknown_calls.saturating_add(1),
        }
    }
}

/// Whether a timer is that of the tree's time.
pub(super) fn is_deadline(id: &OperationId) -> bool {
    id.position == DEADLINE
}

/// The time of the tree is over.
pub(super) fn out_of_time() -> Fault {
    Fault::new(fault_type::LIMIT, 429, "the limit wallTime of the tree is reached: its time is over")
        .non_retryable()
        .with_data(json!({"limit": "wallTime", "scope": "tree"}))
}

/// Position of a turn in the timeline.
pub(super) fn turn_position(turn: u32) -> String {
    format!("/turns/{turn}")
}

/// A limit that was reached.
pub(super) fn limit(name: &str, allowed: u64, found: &str) -> Fault {
    Fault::new(fault_type::LIMIT, 429, format!("the limit {name} is reached: {found}, allowed are {allowed}"))
        .non_retryable()
        .with_data(json!({"limit": name, "allowed": allowed}))
}

/// What an execution is given, if its input has the form that the server gives it; a bare input is data alone.
fn is_envelope(fields: &Map<String, Value>) -> bool {
    fields.keys().all(|key| matches!(key.as_str(), "message" | "input" | "attachments"))
}

/// The images and files that the caller gives.
fn attachments(input: &Value) -> Result<Vec<Attachment>, Fault> {
    let given = input.as_object().filter(|fields| is_envelope(fields)).and_then(|fields| fields.get("attachments"));
    let unusable = |why: String| {
        Fault::new(fault_type::CONFIGURATION, 400, format!("the attachments of the execution cannot be used: {why}"))
            .non_retryable()
    };
    let read = check_attachments(given.unwrap_or(&Value::Null))
        .map_err(|violations| unusable(violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    match read.iter().find_map(|attachment| attachment.digest.as_ref()) {
        Some(digest) => Err(unusable(format!("the content of {digest} is not there"))),
        None => Ok(read),
    }
}

/// What the caller says: the message, and the input as JSON where it adds something to it.
fn first_message(input: &Value) -> String {
    let (message, data) = match input.as_object() {
        Some(fields) if is_envelope(fields) => {
            (fields.get("message").and_then(Value::as_str), fields.get("input").unwrap_or(&Value::Null))
        }
        Some(_) | None => (None, input),
    };
    let message = message.filter(|text| !text.is_empty());
    let text = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
    match message {
        // The tool that calls an agent sends its arguments as message and as input.
        Some(message) if data.is_null() || text == message || *data == json!({"message": message}) => {
            message.to_owned()
        }
        Some(message) => format!("{message}\n\n{text}"),
        None if data.is_null() => "(no message)".to_owned(),
        None => text,
    }
}
