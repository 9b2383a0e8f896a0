//! Whatever a model answers and whatever becomes of its calls: the run stays within its rules.
//!
//! The harness proves with every input that a replay and a restored snapshot behave alike.

use std::collections::BTreeSet;

use baton_agent::{FinishReason, Message, ModelResponse, ToolCall};
use baton_execution::{
    Choice, Command, Decision, Fault, Input, Note, OperationId, Outcome, Question, arguments_digest, fault_type,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Run, says, spec_with};

/// Something that can happen; numbers choose among what is open.
#[derive(Clone, Debug)]
enum Happening {
    Answer(ModelResponse),
    Garbage(Value),
    Ends(usize, bool),
    /// The call is in doubt.
    Lost(usize),
    Decided(usize, Choice, bool),
    Undecided(usize),
    TimerFires(usize),
    Late,
    Cancel,
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"id": "1"})),
        Just(json!({})),
        Just(json!({"message": "m"})),
        Just(json!("{broken")),
        Just(Value::Null),
        "[a-z./~]{0,8}".prop_map(|id| json!({ "id": id }))
    ]
}

fn call() -> impl Strategy<Value = ToolCall> {
    let name = prop_oneof![
        Just("get_order".to_owned()),
        Just("refund".to_owned()),
        Just("ask_legal".to_owned()),
        Just("ship".to_owned()),
        ".{0,6}"
    ];
    ("[ab]?", name, value()).prop_map(|(id, name, arguments)| ToolCall { id, name, arguments })
}

fn answer() -> impl Strategy<Value = ModelResponse> {
    let text = prop_oneof![
        Just(None),
        Just(Some(String::new())),
        Just(Some("{\"a\": 1}".to_owned())),
        ".{0,12}".prop_map(Some)
    ];
    let reason = prop_oneof![8 => Just(FinishReason::Stop), 8 => Just(FinishReason::ToolCalls), 1 => Just(FinishReason::Length), 1 => Just(FinishReason::ContentFilter), 2 => Just(FinishReason::Other)];
    (text, prop::collection::vec(call(), 0..4), reason, 0..50_u64).prop_map(
        |(text, tool_calls, finish_reason, tokens)| ModelResponse {
            text,
            tool_calls,
            finish_reason,
            input_tokens: tokens,
            output_tokens: tokens,
            ..says("")
        },
    )
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        4 => Just(Choice::Approve),
        1 => Just(Choice::Deny),
        2 => Just(Choice::Retry),
        1 => Just(Choice::Result),
        1 => Just(Choice::Fail),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        10 => answer().prop_map(Happening::Answer),
        1 => value().prop_map(Happening::Garbage),
        12 => (0..4_usize, any::<bool>()).prop_map(|(which, well)| Happening::Ends(which, well)),
        2 => (0..4_usize).prop_map(Happening::Lost),
        8 => (0..4_usize, choice(), any::<bool>()).prop_map(|(which, choice, edits)| Happening::Decided(which, choice, edits)),
        1 => (0..4_usize).prop_map(Happening::Undecided),
        1 => (0..4_usize).prop_map(Happening::TimerFires),
        1 => Just(Happening::Late),
        1 => Just(Happening::Cancel),
    ]
}

/// What the run has asked for and has not been told yet.
#[derive(Default)]
struct Open {
    activities: Vec<OperationId>,
    children: Vec<OperationId>,
    questions: Vec<Question>,
    started: BTreeSet<String>,
    ended: BTreeSet<String>,
    over: bool,
}

impl Open {
    fn take(&mut self, commands: &[Command]) {
        assert!(commands.is_empty() || !self.over, "nothing comes after the end: {commands:?}");
        for (index, command) in commands.iter().enumerate() {
            match command {
                Command::ScheduleActivity(activity) => self.activities.push(activity.id.clone()),
                Command::StartChild(child) => self.children.push(child.id.clone()),
                Command::Ask(question) => self.questions.push(question.clone()),
                Command::CloseWait { id } => {
                    self.children.retain(|open| open != id);
                    self.questions.retain(|open| open.id != *id);
                }
                Command::Note(Note::TaskStarted { position, .. }) => {
                    assert!(self.started.insert(position.clone()), "{position} begins once");
                }
                Command::Note(
                    Note::TaskCompleted { position }
                    | Note::TaskFaulted { position, .. }
                    | Note::TaskCancelled { position },
                ) => {
                    assert!(
                        self.started.contains(position) && self.ended.insert(position.clone()),
                        "{position} ends once, after it began"
                    );
                }
                Command::End(_) => {
                    assert_eq!(index, commands.len() - 1, "the end is the last command");
                    self.over = true;
                }
                Command::Note(_)
                | Command::StartTimer { .. }
                | Command::CancelTimer { .. }
                | Command::AwaitCallback { .. }
                | Command::CancelActivity { .. } => {}
            }
        }
        assert!(!self.over || self.started == self.ended, "at the end everything that began has ended");
    }

    fn pick(&self, which: usize) -> Option<(OperationId, bool)> {
        let all: Vec<(OperationId, bool)> = self
            .activities
            .iter()
            .map(|id| (id.clone(), false))
            .chain(self.children.iter().map(|id| (id.clone(), true)))
            .collect();
        (!all.is_empty()).then(|| all[which % all.len()].clone())
    }
}

fn policy() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!({"inDoubt": "retry", "default": "allow"})),
        Just(json!({"onExpiry": "fail", "inDoubt": "fail"})),
        Just(
            json!({"rules": [{"tool": "ref*", "action": "ask"}, {"tool": "ship", "action": "deny"}], "default": "allow"})
        ),
    ]
}

fn is_model(id: &OperationId) -> bool {
    id.position.ends_with("/model") && !id.position.contains("/tools/")
}

/// Providers refuse a conversation in which a call has no result, or a result no call.
fn assert_calls_are_answered(messages: &[Message]) {
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        match message {
            Message::Tool { call_id, .. } => {
                assert!(open.contains(&call_id.as_str()), "a result without a call: {call_id}");
                open.retain(|id| *id != call_id);
            }
            Message::User { .. } | Message::Assistant { .. } => {
                assert!(open.is_empty(), "calls without a result: {open:?}");
            }
        }
        if let Message::Assistant { tool_calls, .. } = message {
            open = tool_calls.iter().map(|call| call.id.as_str()).collect();
        }
    }
    assert!(open.is_empty(), "calls without a result: {open:?}");
}

fn input(open: &mut Open, happening: Happening) -> Option<Input> {
    let model = open.activities.iter().find(|id| is_model(id)).cloned();
    let input = match happening {
        Happening::Answer(response) => {
            Input::ActivityCompleted { id: model?, output: serde_json::to_value(response).unwrap() }
        }
        Happening::Garbage(output) => Input::ActivityCompleted { id: model?, output },
        Happening::Ends(which, well) => match open.pick(which)? {
            (id, _) if is_model(&id) => return None,
            (id, true) => Input::CallbackAnswered {
                id,
                outcome: if well {
                    Outcome::Completed(json!("done"))
                } else {
                    Outcome::Cancelled { reason: "r".into() }
                },
                used: None,
            },
            (id, false) if well => Input::ActivityCompleted { id, output: json!({"ok": true}) },
            (id, false) => Input::ActivityFailed { id, fault: Fault::new(fault_type::COMMUNICATION, 503, "down") },
        },
        Happening::Lost(which) => match open.pick(which)? {
            (id, false) if !is_model(&id) => {
                Input::ActivityFailed { id, fault: Fault::new(fault_type::IN_DOUBT, 500, "lost") }
            }
            _ => return None,
        },
        Happening::Decided(which, choice, edits) => {
            let index = which % open.questions.len().max(1);
            let question = (index < open.questions.len()).then(|| open.questions.remove(index))?;
            let decision = Decision {
                choice,
                approval: "approval".to_owned(),
                decided_by: "somebody".to_owned(),
                reason: String::new(),
                arguments_digest: arguments_digest(&question.arguments),
                arguments: edits.then(|| json!({"id": "edited"})),
                result: Some(json!("result")),
            };
            Input::CallbackAnswered { id: question.id, outcome: decision.into_outcome(), used: None }
        }
        Happening::Undecided(which) => {
            Input::TimerFired { id: open.questions.get(which % open.questions.len().max(1))?.id.clone() }
        }
        Happening::TimerFires(which) => Input::TimerFired { id: open.pick(which)?.0 },
        Happening::Late => Input::ActivityCompleted { id: OperationId::new("/turns/1/model", 1), output: json!({}) },
        Happening::Cancel => Input::CancelRequested { reason: "r".into() },
    };
    if let Input::ActivityCompleted { id, .. } | Input::ActivityFailed { id, .. } | Input::CallbackAnswered { id, .. } =
        &input
    {
        open.activities.retain(|other| other != id);
        open.children.retain(|other| other != id);
    }
    Some(input)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_run_stays_within_its_rules(structured in any::<bool>(), policy in policy(), happenings in prop::collection::vec(happening(), 1..40)) {
        let schema = if structured { json!({"type": "object"}) } else { Value::Null };
        let spec = spec_with(json!({"outputSchema": schema, "policy": policy, "limits": {"maxTurns": 8, "maxTokens": 500, "maxToolCalls": 12}}));
        let mut run = Run::started(&spec, "Hi", Value::Null);
        let mut open = Open::default();
        open.take(&run.commands);
        for happening in happenings {
            let Some(input) = input(&mut open, happening) else { continue };
            run.give(input);
            open.take(&run.commands);
            if let Some(turn) = run.commands.iter().find_map(|command| match command {
                Command::ScheduleActivity(activity) if is_model(&activity.id) => activity.input["turn"].as_u64(),
                _ => None,
            }) {
                assert_calls_are_answered(&run.request(u32::try_from(turn).unwrap()).messages);
            }
            let progress = run.program().progress();
            prop_assert!(progress.usage.tool_calls <= 12 && progress.usage.model_calls <= 8 && progress.recent.len() <= 8);
            prop_assert_eq!((progress.tasks_started as usize, progress.tasks_ended as usize), (open.started.len(), open.ended.len()));
            prop_assert_eq!(progress.waiting.is_empty(), open.over);
        }
    }

    #[test]
    fn checking_never_panics(spec in json_value()) {
        _ = baton_agent::check(&spec);
        _ = baton_agent::check_limits(&spec);
        _ = baton_agent::check(&spec_with(json!({"tools": [spec.clone()], "model": spec.clone(), "policy": spec.clone(), "outputSchema": spec})));
    }
}

/// JSON that uses the words of a spec in the wrong places.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("https://x.test/{id}")),
        Just(json!("object"))
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let key = prop_oneof![
            Just("name".to_owned()),
            Just("description".to_owned()),
            Just("http".to_owned()),
            Just("url".to_owned()),
            Just("parameters".to_owned()),
            Just("type".to_owned()),
            Just("properties".to_owned()),
            Just("agent".to_owned()),
            Just("playback".to_owned()),
            Just("conversations".to_owned()),
            Just("turns".to_owned()),
            Just("timeout".to_owned()),
            Just("rules".to_owned()),
            Just("action".to_owned()),
            Just("tool".to_owned()),
            Just("$ref".to_owned()),
            "[a-z]{1,6}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect()))
        ]
    })
}
