//! The history codec: every event comes back as it was, long data by digest.

use std::collections::{BTreeMap, HashMap};

use baton_execution::*;
use baton_proto::{DataLoader, NoBlobs, decode_event, encode_event, event_type};
use baton_types::{Digest, Uid};
use serde_json::{Value, json};

struct Blobs(HashMap<Digest, Vec<u8>>);

impl DataLoader for Blobs {
    fn load(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.0.get(digest).cloned()
    }
}

fn fault() -> Fault {
    Fault::new(fault_type::COMMUNICATION, 503, "down")
        .at("/do/0/x")
        .non_retryable()
        .with_data(json!({"body": [1, 2.5]}))
}

fn grant() -> Grant {
    let ancestor = Ancestor { kind: "Agent".into(), name: "triage".into(), input: "0123456789ab".into() };
    Grant {
        amounts: Allowance { model_calls: Some(0), tokens: Some(1 << 40), ..Allowance::default() },
        depth: Some(2),
        deadline_ms: Some(1_800_000_000_123),
        ancestors: vec![ancestor],
    }
}

fn used() -> Used {
    let usage = Usage { model_calls: 3, input_tokens: 1 << 40, cost_micros: 17, children: 2, ..Usage::default() };
    Used { usage, unsettled: Amounts { tokens: 5, ..Amounts::default() } }
}

#[expect(clippy::too_many_lines, reason = "one of each kind")]
fn every_event() -> Vec<HistoryEventKind> {
    let id = OperationId::new("/do/1/ask/for/3", 2);
    let inputs = [
        Input::Started(Start {
            uid: Uid::from_bytes([7; 16]),
            namespace: "n".into(),
            name: "x".into(),
            input: json!({"a": 5}),
            env: BTreeMap::from([("K".into(), "v".into())]),
            settings: json!({"maxTurns": 3}),
            grant: Some(grant()),
            carried_over: json!({"turn": 2}),
        }),
        Input::ActivityCompleted { id: id.clone(), output: json!([9_007_199_254_740_993_i64, 5.0, null]) },
        Input::ActivityFailed { id: id.clone(), fault: fault() },
        Input::TimerFired { id: id.clone() },
        Input::CallbackAnswered { id: id.clone(), outcome: Outcome::Completed(Value::Null), used: None },
        Input::CallbackAnswered { id: id.clone(), outcome: Outcome::Failed(fault()), used: None },
        Input::CallbackAnswered {
            id: id.clone(),
            outcome: Outcome::Cancelled { reason: "r".into() },
            used: Some(used()),
        },
        Input::CancelRequested { reason: "enough".into() },
        Input::TimeoutReached,
        Input::Suspended,
        Input::Resumed,
        Input::ChildStarted {
            id: id.clone(),
            kind: "AgentExecution".into(),
            name: "c".into(),
            uid: Uid::from_bytes([8; 16]),
        },
    ];
    let child = StartChild {
        id: id.clone(),
        kind: ProgramKind::Agent,
        target: ChildTarget::Named { name: "triage".into(), version: Some("1.0".into()) },
        input: json!({"n": 1}),
        message: Some(String::new()),
        session: None,
        env: BTreeMap::new(),
        timeout_ms: Some(u64::from(u32::MAX) * 3),
        limits: Value::Null,
        awaited: true,
        expires_ms: Some(1_800_000_000_123),
        parent_close_policy: ParentClosePolicy::Abandon,
        approval: Some("run-pay-1".into()),
        grant: Some(Grant::default()),
    };
    let text = || "p".to_owned();
    let notes = [
        Note::TaskStarted { position: text(), name: text(), kind: "call http".into(), attempt: 3 },
        Note::TaskCompleted { position: text() },
        Note::TaskSkipped { position: text(), name: text() },
        Note::TaskFaulted { position: text(), fault: fault() },
        Note::TaskCancelled { position: text() },
        Note::TaskRetried { position: text(), attempt: 2, delay_ms: 1 << 40 },
        Note::Message { role: "tool".into(), content: json!("hi"), tool_calls: vec!["a".into()] },
    ];
    let endings = [
        Ending::Completed { output: json!(null) },
        Ending::Failed { fault: fault(), partial_output: Some(json!(1)) },
        Ending::Cancelled { reason: "r".into(), partial_output: None },
        Ending::TimedOut { partial_output: None },
    ];
    let mut commands = vec![
        Command::ScheduleActivity(ScheduleActivity {
            id: id.clone(),
            activity: "http".into(),
            input: json!({}),
            start_to_close_ms: 1 << 40,
            effect: Effect::Once,
            approval: Some("run-pay-1".into()),
        }),
        Command::CancelActivity { id: id.clone() },
        Command::StartTimer { id: id.clone(), due_ms: 1_800_000_000_001 },
        Command::CancelTimer { id: id.clone() },
        Command::AwaitCallback { id: id.clone(), heartbeat_timeout_ms: Some(30_000), expires_ms: 1_800_000_000_000 },
        Command::AwaitCallback { id: id.clone(), heartbeat_timeout_ms: None, expires_ms: 1_800_000_000_000 },
        Command::Ask(Question {
            id: id.clone(),
            kind: QuestionKind::InDoubt,
            tool: "pay".into(),
            server: "bank".into(),
            arguments: json!({"amount": 5}),
            message: "m".into(),
            why: "w".into(),
            expires_ms: 1_800_000_000_000,
        }),
        Command::CloseWait { id: id.clone() },
        Command::StartChild(StartChild {
            target: ChildTarget::Inline(json!({"instructions": "x"})),
            expires_ms: None,
            ..child.clone()
        }),
        Command::StartChild(child),
    ];
    commands.extend(notes.map(Command::Note));
    commands.extend(endings.map(Command::End));
    inputs.into_iter().map(HistoryEventKind::Input).chain(commands.into_iter().map(HistoryEventKind::Command)).collect()
}

#[test]
fn every_event_comes_back_as_it_was() {
    for (index, kind) in every_event().into_iter().enumerate() {
        let event = HistoryEvent { number: i64::try_from(index).unwrap() + 1, time_ms: 1_800_000_000_123, kind };
        let mut kept = Vec::new();
        let stored = encode_event(&event, &mut kept);
        assert!(kept.is_empty());
        assert_ne!(event_type(&stored), "Unknown");
        assert_eq!(decode_event(&stored, &NoBlobs).unwrap(), event);
    }
}

#[test]
fn long_data_is_stored_once_by_digest() {
    let output = json!("x".repeat(70_000));
    let event = HistoryEvent {
        number: 1,
        time_ms: 0,
        kind: HistoryEventKind::Input(Input::ActivityCompleted { id: OperationId::new("/do/0", 1), output }),
    };
    let mut kept = Vec::new();
    let stored = encode_event(&event, &mut kept);
    assert_eq!(kept.len(), 1);
    assert!(prost::Message::encoded_len(&stored) < 200);
    assert!(decode_event(&stored, &NoBlobs).unwrap_err().to_string().contains("not in the store"));
    assert_eq!(decode_event(&stored, &Blobs(kept.into_iter().collect())).unwrap(), event);
}

#[test]
fn an_event_of_a_later_version_is_named_not_skipped() {
    let unknown = baton_proto::history_v1::HistoryEvent { number: 17, ..Default::default() };
    assert_eq!(
        decode_event(&unknown, &NoBlobs).unwrap_err().to_string(),
        "history event 17: it is of a kind that this version does not know"
    );
}
