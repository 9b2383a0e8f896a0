//! Turns of a session: what a run begins with, what it leaves, and how little of what was said is shown to the model.

use std::collections::HashMap;

use baton_agent::{
    Compaction, CompactionPolicy, Earlier, FinishReason, Message, ModelResponse, Spoken, Summarise, TurnRecord,
    check_compaction,
};
use baton_execution::{Command, Ending, Fault, Input, Note, OperationId, fault_type};
use baton_types::{Digest, Phase};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Run, calls, model_id, says, spec, spec_with, tool_id};

/// What a server keeps of a session.
#[derive(Default)]
struct Keeper {
    records: HashMap<String, Vec<u8>>,
    spoken: Spoken,
    last: Option<String>,
    turns: u32,
    tokens: u64,
}

impl Keeper {
    fn recalled(&self, spoken: &Spoken) -> Vec<Message> {
        let mut recall = spoken.recall();
        while let Some(digest) = recall.wanted().unwrap() {
            recall.take(&self.records[&digest.to_string()]).unwrap();
        }
        recall.into_messages()
    }

    fn divide(&self, turns: u32) -> (Spoken, Spoken) {
        let mut recall = self.spoken.last_turns(turns).recall();
        while let Some(digest) = recall.wanted().unwrap() {
            recall.take(&self.records[&digest.to_string()]).unwrap();
        }
        self.spoken.divide(&recall)
    }

    /// What the next turn begins with.
    fn earlier(&mut self, compaction: &Compaction) -> Earlier {
        let mut summarise = None;
        if compaction.is_due(&self.spoken, self.tokens) {
            let (older, kept) = self.divide(compaction.keep_last);
            match compaction.policy {
                CompactionPolicy::None => {}
                CompactionPolicy::KeepLast => self.spoken = kept,
                CompactionPolicy::Summarise => summarise = Some(Summarise { older, kept, model: None }),
            }
        }
        Earlier { turn: self.turns + 1, previous: self.last.clone(), spoken: self.spoken.clone(), summarise }
    }

    /// Takes what a run leaves.
    fn record(&mut self, run: &Run, phase: Phase) -> TurnRecord {
        let left = run.program().carry_over(phase, run.now_ms()).expect("a turn leaves what was said").to_string();
        let (digest, turn) = (Digest::of(left.as_bytes()), TurnRecord::read(left.as_bytes()).unwrap());
        self.records.insert(digest.to_string(), left.into_bytes());
        self.spoken = std::mem::take(&mut self.spoken).and(&digest, &turn);
        self.last = Some(digest.to_string());
        (self.turns, self.tokens) = (turn.turn, turn.tokens);
        turn
    }

    /// Every turn, whatever is shown of it.
    fn exported(&self) -> Vec<TurnRecord> {
        let mut turns = Vec::new();
        let mut next = self.last.clone();
        while let Some(digest) = next.take() {
            let turn = TurnRecord::read(&self.records[&digest]).unwrap();
            next.clone_from(&turn.previous);
            turns.push(turn);
        }
        turns.reverse();
        turns
    }
}

fn compaction(policy: &str, keep_last: u32, at_bytes: Option<u32>) -> Compaction {
    check_compaction(&json!({"policy": policy, "keepLast": keep_last, "atBytes": at_bytes.unwrap_or(1)})).unwrap()
}

fn none() -> Compaction {
    check_compaction(&json!({"policy": "none"})).unwrap()
}

fn summary_id() -> OperationId {
    OperationId::new("/session/summary", 1)
}

/// Calls of a provider that gives them no ids.
fn unnamed(arguments: &[serde_json::Value]) -> ModelResponse {
    let asked: Vec<(&str, serde_json::Value)> = arguments.iter().map(|it| ("get_order", it.clone())).collect();
    let mut response = calls(&asked);
    response.tool_calls.iter_mut().for_each(|call| call.id.clear());
    response
}

fn text(message: &Message) -> &str {
    match message {
        Message::User { content, .. } | Message::Tool { content, .. } => content,
        Message::Assistant { content, .. } => content.as_deref().unwrap_or_default(),
    }
}

fn is_failed(run: &Run, says: &str) -> bool {
    run.commands.iter().any(|command| {
        matches!(command, Command::End(Ending::Failed { fault, .. }) if fault.detail.as_deref().is_some_and(|it| it.contains(says)))
    })
}

#[test]
fn an_execution_of_no_session_leaves_nothing_and_asks_as_it_always_did() {
    let mut run = Run::started(&spec(), "hello", json!(null));
    assert_eq!(run.request(1).earlier, None);
    run.model(1, says("done"));
    assert_eq!(run.program().carry_over(Phase::Completed, 5), None);
}

#[test]
fn a_turn_goes_on_from_a_reference_and_leaves_its_own_messages() {
    let mut keeper = Keeper::default();
    let mut first = Run::in_session(&spec(), "one", &keeper.earlier(&none()));
    assert_eq!(first.request(1).earlier, None);
    first.model(1, ModelResponse { input_tokens: 30, output_tokens: 4, ..says("re: one") });
    let turn = keeper.record(&first, Phase::Completed);
    assert_eq!((turn.turn, turn.execution.as_str(), turn.tokens, turn.previous), (1, "turn-1", 34, None));

    let earlier = keeper.earlier(&none());
    let mut second = Run::in_session(&spec(), "two", &earlier);
    let request = second.request(1);
    assert_eq!(request.earlier.as_ref(), Some(&earlier.spoken));
    assert_eq!(request.messages.iter().map(text).collect::<Vec<_>>(), ["two"]);
    let asked = &second.activities()[0].input;
    assert_eq!(asked["messages"], 3);
    // The command knows what went before by its digest alone.
    let other = Run::in_session(&spec(), "two", &Earlier { spoken: Spoken::default(), ..earlier });
    assert_ne!(other.activities()[0].input["digest"], asked["digest"]);
    assert!(!asked.to_string().contains("re: one"));

    second.model(1, says("re: two"));
    keeper.record(&second, Phase::Completed);
    let said = keeper.recalled(&keeper.spoken);
    assert_eq!(said.iter().map(text).collect::<Vec<_>>(), ["one", "re: one", "two", "re: two"]);
    assert_eq!(keeper.exported().len(), 2);
}

#[test]
fn calls_of_a_session_have_names_of_their_own() {
    let earlier = Earlier { turn: 7, ..Earlier::default() };
    let mut run = Run::in_session(&spec(), "look", &earlier);
    run.model(1, unnamed(&[json!({"id": "1"})]));
    let called = run.program().carry_over(Phase::Cancelled, 0);
    assert!(called.is_some());
    run.completes(&tool_id(1, 0, "get_order"), json!({}));
    let Message::Tool { call_id, .. } = &run.request(2).messages[2] else { panic!("the result is told") };
    assert_eq!(call_id, "call_7_1_0");
}

#[test]
fn a_summary_is_made_first_and_stands_for_the_older_turns() {
    let mut keeper = Keeper::default();
    for message in ["one", "two", "three"] {
        let mut run = Run::in_session(&spec(), message, &keeper.earlier(&none()));
        run.model(1, says("aha"));
        keeper.record(&run, Phase::Completed);
    }
    let mut run = Run::in_session(&spec(), "four", &keeper.earlier(&compaction("summarise", 1, None)));
    let asked = run.activities();
    assert_eq!((asked.len(), asked[0].id.clone(), asked[0].activity.as_str()), (1, summary_id(), "model"));
    let request: baton_agent::ModelRequest =
        serde_json::from_value(run.program().activity_input(&summary_id()).unwrap()).unwrap();
    assert!(request.tools.is_empty() && request.output_schema.is_none());
    let older = keeper.recalled(&request.earlier.unwrap());
    assert_eq!(older.iter().map(text).collect::<Vec<_>>(), ["one", "aha", "two", "aha"]);

    run.completes(
        &summary_id(),
        serde_json::to_value(ModelResponse { input_tokens: 90, output_tokens: 9, ..says("they said aha twice") })
            .unwrap(),
    );
    let noted = run.notes().iter().any(|note| matches!(note, Note::Message { role, .. } if role == "summary"));
    assert!(noted, "the summary stands in the history");
    let shown = keeper.recalled(&run.request(1).earlier.unwrap());
    let shown: Vec<&str> = shown.iter().map(text).collect();
    assert_eq!(shown[1..], ["three", "aha"]);
    assert!(shown[0].ends_with("they said aha twice"));
    run.model(1, ModelResponse { input_tokens: 10, output_tokens: 1, ..says("aha") });
    let usage = run.program().progress().usage;
    assert_eq!((usage.model_calls, usage.input_tokens, usage.output_tokens), (2, 100, 10));

    let turn = keeper.record(&run, Phase::Completed);
    assert_eq!(turn.summary.unwrap().text, "they said aha twice");
    assert_eq!((keeper.spoken.turns, keeper.spoken.messages, keeper.exported().len()), (2, 5, 4));
    assert_eq!(keeper.recalled(&keeper.spoken).len(), 5);
}

#[test]
fn a_summary_that_is_not_to_be_had_ends_the_run_and_the_next_turn_tries_again() {
    let mut keeper = Keeper::default();
    for message in ["one", "two"] {
        let mut run = Run::in_session(&spec(), message, &keeper.earlier(&none()));
        run.model(1, says("aha"));
        keeper.record(&run, Phase::Completed);
    }
    let summarise = compaction("summarise", 1, None);
    let before = keeper.spoken.clone();
    let mut run = Run::in_session(&spec(), "three", &keeper.earlier(&summarise));
    run.fails(&summary_id(), Fault::new(fault_type::COMMUNICATION, 503, "no model"));
    assert!(is_failed(&run, "no model"));
    let mut empty = Run::in_session(&spec(), "three", &keeper.earlier(&summarise));
    empty.completes(&summary_id(), serde_json::to_value(says(" ")).unwrap());
    assert!(is_failed(&empty, "no summary"));
    let mut cut = Run::in_session(&spec(), "three", &keeper.earlier(&summarise));
    let response = ModelResponse { finish_reason: FinishReason::Length, ..says("a") };
    cut.completes(&summary_id(), serde_json::to_value(response).unwrap());
    assert!(is_failed(&cut, "cut off"));
    let mut left = Run::in_session(&spec(), "three", &keeper.earlier(&summarise));
    left.give(Input::CancelRequested { reason: "enough".into() });
    let cancelled = |note: &&Note| matches!(note, Note::TaskCancelled { position } if position == "/session/summary");
    assert!(left.notes().iter().any(cancelled));

    let turn = keeper.record(&run, Phase::Failed);
    assert_eq!((turn.summary, turn.messages.len(), keeper.spoken.turns), (None, 2, before.turns + 1));
    assert!(keeper.earlier(&summarise).summarise.is_some());
}

#[test]
fn a_conversation_that_is_too_long_says_what_would_shorten_it() {
    let spoken = Spoken { bytes: 17 << 20, turns: 1, last: Some(Digest::of(b"x").to_string()), ..Spoken::default() };
    let run = Run::in_session(&spec(), "hello", &Earlier { turn: 2, spoken, ..Earlier::default() });
    assert!(is_failed(&run, "spec.compaction of the session"));
    let long = Run::started(&spec(), &"x".repeat(17 << 20), json!(null));
    assert!(is_failed(&long, "the limit conversation") && !is_failed(&long, "compaction"));
}

#[test]
fn what_is_wrong_with_a_compaction_is_told_with_its_path() {
    let wrong = |value: serde_json::Value| {
        let violations = check_compaction(&value).unwrap_err();
        violations.into_iter().map(|it| it.field).collect::<Vec<_>>()
    };
    assert_eq!(wrong(json!({"policy": "forget"})), ["policy"]);
    assert_eq!(wrong(json!({"keepLast": 3, "atBytes": 1})), ["keepLast", "atBytes"]);
    assert_eq!(wrong(json!({"policy": "keepLast", "keepLast": 0, "model": {"name": "m"}})), ["keepLast", "model"]);
    assert_eq!(wrong(json!({"policy": "summarise", "model": {}, "surprise": 1})), ["model.name", "surprise"]);
    let summarise = check_compaction(&json!({"policy": "summarise"})).unwrap();
    assert_eq!((summarise.keep_last, summarise.at_bytes, summarise.at_tokens), (4, Some(256 * 1024), None));
    let last = check_compaction(&json!({"policy": "keepLast"})).unwrap();
    assert_eq!((last.keep_last, last.at_bytes, last.at_tokens), (20, None, None));
}

/// How a turn goes: rounds of calls, and its end.
#[derive(Clone, Debug)]
enum End {
    Text,
    Cancelled,
    CancelledInCalls(bool),
    Failed,
}

fn turn() -> impl Strategy<Value = (usize, End)> {
    let end = prop_oneof![
        4 => Just(End::Text),
        1 => Just(End::Cancelled),
        2 => any::<bool>().prop_map(End::CancelledInCalls),
        1 => Just(End::Failed),
    ];
    (0..3_usize, end)
}

fn policy() -> impl Strategy<Value = Compaction> {
    prop_oneof![
        Just(none()),
        (1..4_u32, prop::option::of(1..2000_u32)).prop_map(|(keep, at)| compaction("keepLast", keep, at)),
        (0..4_u32, prop::option::of(1..2000_u32)).prop_map(|(keep, at)| compaction("summarise", keep, at)),
    ]
}

/// Plays a turn to its end; the phase that it ends in.
fn play(run: &mut Run, rounds: usize, end: &End) -> Phase {
    if run.program().activity_input(&summary_id()).is_some() {
        run.completes(&summary_id(), serde_json::to_value(says("in short")).unwrap());
    }
    let asks = |round: usize| unnamed(&[json!({"id": round.to_string()}), json!({"id": "x"})]);
    let mut model = 1;
    for round in 0..rounds {
        run.model(model, asks(round));
        for index in [1, 0] {
            run.completes(&tool_id(model, index, "get_order"), json!({"found": round}));
        }
        model += 1;
    }
    match end {
        End::Text => {
            run.model(model, says("so be it"));
            Phase::Completed
        }
        End::Failed => {
            run.fails(&model_id(model), Fault::new(fault_type::COMMUNICATION, 503, "no model"));
            Phase::Failed
        }
        End::Cancelled => {
            run.give(Input::CancelRequested { reason: "enough".into() });
            Phase::Cancelled
        }
        End::CancelledInCalls(with_text) => {
            let text = with_text.then(|| "let me look".to_owned());
            run.model(model, ModelResponse { text, ..asks(9) });
            run.completes(&tool_id(model, 0, "get_order"), json!({}));
            run.give(Input::CancelRequested { reason: "enough".into() });
            Phase::Cancelled
        }
    }
}

/// Every call has its result right after it, every result its call, and a turn ends with the assistant's word.
fn check_whole(messages: &[Message]) {
    let mut open: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for message in messages {
        match message {
            Message::Assistant { tool_calls, .. } => {
                assert!(open.is_empty(), "a call without its result");
                open = tool_calls.iter().map(|call| call.id.clone()).collect();
                assert!(open.iter().all(|id| seen.insert(id.clone())), "two calls of one name");
            }
            Message::Tool { call_id, .. } => {
                assert!(!open.is_empty(), "a result without its call");
                assert_eq!(open.remove(0), *call_id);
            }
            Message::User { .. } => assert!(open.is_empty(), "a call without its result"),
        }
    }
    assert!(open.is_empty());
    assert!(
        messages.last().is_none_or(|last| matches!(last, Message::Assistant { .. }) && !text(last).is_empty())
            || messages.len() == 1
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever is left out and however turns end: what the model is shown is a summary and whole turns, the last ones; the
    /// sizes are right; and everything that was said can be had.
    #[test]
    fn compaction_leaves_out_whole_turns_and_nothing_else(
        turns in prop::collection::vec((turn(), policy()), 1..12)
    ) {
        let spec = spec_with(json!({"limits": {"maxTurns": 9}}));
        let mut keeper = Keeper::default();
        let mut said: Vec<Vec<Message>> = Vec::new();
        for (index, ((rounds, end), policy)) in turns.iter().enumerate() {
            let earlier = keeper.earlier(policy);
            let (spoken, summarises) = (earlier.spoken.clone(), earlier.summarise.is_some());
            if policy.policy == CompactionPolicy::KeepLast && policy.at_bytes == Some(1) {
                prop_assert!(spoken.turns <= policy.keep_last);
            }
            let mut run = Run::in_session(&spec, &format!("message {index}"), &earlier);
            let phase = play(&mut run, *rounds, end);
            let turn = keeper.record(&run, phase);
            prop_assert_eq!(turn.summary.is_some(), summarises);
            said.push(turn.messages);

            let shown = keeper.recalled(&keeper.spoken);
            let bytes: u64 = said[said.len() - keeper.spoken.turns as usize..].iter().flatten().map(|it| serde_json::to_string(it).unwrap().len() as u64).sum();
            prop_assert_eq!(shown.len(), keeper.spoken.messages as usize);
            prop_assert_eq!(bytes + keeper.spoken.summary.as_ref().map_or(0, |text| text.len() as u64), keeper.spoken.bytes);
            let own = &shown[usize::from(keeper.spoken.summary.is_some())..];
            let expected: Vec<Message> = said[said.len() - keeper.spoken.turns as usize..].concat();
            prop_assert_eq!(own, &expected[..]);
            check_whole(&shown);
        }
        let exported: Vec<Vec<Message>> = keeper.exported().into_iter().map(|turn| turn.messages).collect();
        prop_assert_eq!(exported, said);
    }
}
