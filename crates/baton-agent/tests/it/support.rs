//! A run under test, and short ways to say what happens to it.

use std::{collections::BTreeMap, sync::Arc};

use baton_agent::{
    AgentDefinition, Earlier, FinishReason, ModelRequest, ModelResponse, ToolCall, check, load, restore,
};
use baton_execution::{
    Allowance, Command, Ending, Fault, Grant, Input, Note, OperationId, Outcome, Question, ScheduleActivity, Start,
    StartChild, Used, testing::Harness,
};
use baton_types::Uid;
use serde_json::{Value, json};

/// An agent with one tool of each kind.
pub(crate) fn spec() -> Value {
    json!({
        "instructions": "You triage orders.",
        "model": {"name": "test-model", "timeout": "90s"},
        "tools": [
            {"name": "get_order", "description": "Reads an order", "timeout": "10s",
             "parameters": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
             "http": {"method": "GET", "url": "http://orders.test/orders/{id}"}},
            {"name": "refund", "description": "Refunds an order",
             "parameters": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
             "http": {"method": "POST", "url": "http://orders.test/refunds"}},
            {"name": "ask_legal", "description": "Asks the lawyers", "agent": {"name": "legal"}},
            {"name": "ship", "description": "Ships it", "timeout": "1h", "parameters": {"type": "object"}, "workflow": {"name": "shipping"}}
        ]
    })
}

/// The spec with some top-level fields replaced.
pub(crate) fn spec_with(changes: Value) -> Value {
    let mut spec = spec();
    if let (Value::Object(fields), Value::Object(changes)) = (&mut spec, changes) {
        fields.extend(changes);
    }
    spec
}

pub(crate) struct Run {
    harness: Harness,
    /// The commands of the last input.
    pub(crate) commands: Vec<Command>,
}

impl Run {
    /// A run of the spec, started with a message and the settings.
    pub(crate) fn started(spec: &Value, message: &str, settings: Value) -> Self {
        Self::started_with(spec, json!({"message": message, "input": null}), settings)
    }

    pub(crate) fn started_with(spec: &Value, input: Value, settings: Value) -> Self {
        Self::begun(spec, input, settings, None)
    }

    /// A run that was begun with a grant from above.
    pub(crate) fn granted(spec: &Value, settings: Value, grant: Grant) -> Self {
        Self::begun(spec, json!({"message": "Hi", "input": null}), settings, Some(grant))
    }

    pub(crate) fn begun(spec: &Value, input: Value, settings: Value, grant: Option<Grant>) -> Self {
        let mut run = Self::new(spec);
        run.give(Input::Started(Start {
            uid: Uid::from_bytes([7; 16]),
            namespace: "default".into(),
            name: "a".into(),
            input,
            env: BTreeMap::new(),
            settings,
            grant,
            carried_over: Value::Null,
        }));
        run
    }

    /// A run that is a turn of a session.
    pub(crate) fn in_session(spec: &Value, message: &str, earlier: &Earlier) -> Self {
        let mut run = Self::new(spec);
        run.give(Input::Started(Start {
            uid: Uid::from_bytes([7; 16]),
            namespace: "default".into(),
            name: format!("turn-{}", earlier.turn),
            input: json!({"message": message, "input": null}),
            env: BTreeMap::new(),
            settings: Value::Null,
            grant: None,
            carried_over: serde_json::to_value(earlier).unwrap(),
        }));
        run
    }

    pub(crate) fn new(spec: &Value) -> Self {
        let definition: Arc<AgentDefinition> = Arc::new(check(spec).expect("the spec is good"));
        let again = Arc::clone(&definition);
        let harness = Harness::new(
            move || Box::new(load(Arc::clone(&definition))),
            move |snapshot| Box::new(restore(Arc::clone(&again), snapshot).expect("the snapshot is read")),
        );
        Self { harness, commands: Vec::new() }
    }

    pub(crate) fn give(&mut self, input: Input) -> &mut Self {
        self.harness.now_ms += 1000;
        self.commands = self.harness.give(input);
        self
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.harness.now_ms
    }

    pub(crate) fn program(&self) -> &dyn baton_execution::Program {
        self.harness.program()
    }

    /// The model of the turn answers.
    pub(crate) fn model(&mut self, turn: u32, response: ModelResponse) -> &mut Self {
        self.give(Input::ActivityCompleted { id: model_id(turn), output: serde_json::to_value(response).unwrap() })
    }

    pub(crate) fn completes(&mut self, id: &OperationId, output: Value) -> &mut Self {
        self.give(Input::ActivityCompleted { id: id.clone(), output })
    }

    pub(crate) fn fails(&mut self, id: &OperationId, fault: Fault) -> &mut Self {
        self.give(Input::ActivityFailed { id: id.clone(), fault })
    }

    pub(crate) fn answered(&mut self, id: &OperationId, outcome: Outcome) -> &mut Self {
        self.give(Input::CallbackAnswered { id: id.clone(), outcome, used: None })
    }

    /// A child answers that used this.
    pub(crate) fn child(&mut self, id: &OperationId, outcome: Outcome, used: Used) -> &mut Self {
        self.give(Input::CallbackAnswered { id: id.clone(), outcome, used: Some(used) })
    }

    /// What the run and all below it may still use.
    pub(crate) fn left(&self) -> Allowance {
        self.program().progress().tree.left
    }

    /// The question that the last input led to.
    pub(crate) fn question(&self) -> &Question {
        let mut questions = self.commands.iter().filter_map(|command| match command {
            Command::Ask(question) => Some(question),
            _ => None,
        });
        questions.next().expect("a person is asked")
    }

    /// The whole question of the turn, which must be open.
    pub(crate) fn request(&self, turn: u32) -> ModelRequest {
        let input = self.program().activity_input(&model_id(turn)).expect("the model is being asked");
        serde_json::from_value(input).unwrap()
    }

    pub(crate) fn activities(&self) -> Vec<&ScheduleActivity> {
        self.commands
            .iter()
            .filter_map(|command| if let Command::ScheduleActivity(activity) = command { Some(activity) } else { None })
            .collect()
    }

    pub(crate) fn children(&self) -> Vec<&StartChild> {
        self.commands
            .iter()
            .filter_map(|command| if let Command::StartChild(child) = command { Some(child) } else { None })
            .collect()
    }

    pub(crate) fn notes(&self) -> Vec<&Note> {
        self.commands
            .iter()
            .filter_map(|command| if let Command::Note(note) = command { Some(note) } else { None })
            .collect()
    }

    /// How the run ended with the last input.
    pub(crate) fn ending(&self) -> &Ending {
        match self.commands.last() {
            Some(Command::End(ending)) => ending,
            other => panic!("the run has not ended; the last command is {other:?}"),
        }
    }

    /// The fault with which the run ended, and its partial output.
    pub(crate) fn fault(&self) -> (&Fault, Option<&Value>) {
        match self.ending() {
            Ending::Failed { fault, partial_output } => (fault, partial_output.as_ref()),
            other => panic!("the run has not failed: {other:?}"),
        }
    }
}

pub(crate) fn model_id(turn: u32) -> OperationId {
    OperationId::new(format!("/turns/{turn}/model"), 1)
}

pub(crate) fn tool_id(turn: u32, index: usize, name: &str) -> OperationId {
    OperationId::new(format!("/turns/{turn}/tools/{index}/{name}"), 1)
}

pub(crate) fn says(text: &str) -> ModelResponse {
    ModelResponse {
        text: Some(text.to_owned()),
        tool_calls: Vec::new(),
        finish_reason: FinishReason::Stop,
        input_tokens: 10,
        output_tokens: 5,
        usage_estimated: false,
        cached_input_tokens: 0,
        cost_micros: None,
        provider: "openai".into(),
        model: "test-model".into(),
        provider_data: None,
    }
}

pub(crate) fn calls(calls: &[(&str, Value)]) -> ModelResponse {
    let tool_calls = calls
        .iter()
        .enumerate()
        .map(|(index, (name, arguments))| ToolCall {
            id: format!("c{index}"),
            name: (*name).to_owned(),
            arguments: arguments.clone(),
        })
        .collect();
    ModelResponse { text: None, tool_calls, finish_reason: FinishReason::ToolCalls, ..says("") }
}
