//! The history codec: the engine's events as `baton.history.v1`, the disk format, and back.
//!
//! Data over 64 KiB leaves the event and is stored once by its digest. A variant that this build does not know is
//! an error that names it, never skipped: a history with a hole must not be replayed.

mod grant;

use std::collections::BTreeMap;

use baton_execution::{
    ChildTarget, Command, Effect, Ending, Fault, HistoryEvent, HistoryEventKind, Input, Note, OperationId, Outcome,
    ParentClosePolicy, ProgramKind, Question, QuestionKind, ScheduleActivity, Start, StartChild,
};
use baton_types::{Digest, INLINE_BYTES_MAX, Phase};
use serde_json::Value;

use crate::{
    DataLoader, Timestamp,
    history_v1::{self as wire, Data, history_event::Attributes, note, outcome},
};

/// Why a stored event cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("history event {number}: {what}")]
pub struct HistoryCodecError {
    /// Number of the event.
    pub number: i32,
    /// What is missing or malformed.
    pub what: String,
}

/// The stored form of an event. Long data is handed to `keep`, to be stored by digest in the same transaction.
pub fn encode_event(event: &HistoryEvent, keep: &mut Vec<(Digest, Vec<u8>)>) -> wire::HistoryEvent {
    encode_event_within(event, INLINE_BYTES_MAX, keep)
}

/// The same with another limit, in bytes, of what stays in the event: for where events travel. Reads back as the same event.
pub fn encode_event_within(
    event: &HistoryEvent,
    inline_bytes_max: usize,
    keep: &mut Vec<(Digest, Vec<u8>)>,
) -> wire::HistoryEvent {
    let mut kept = Kept { inline_bytes_max, contents: std::mem::take(keep) };
    let attributes = match &event.kind {
        HistoryEventKind::Input(input) => encode_input(input, &mut kept),
        HistoryEventKind::Command(command) => encode_command(command, &mut kept),
    };
    *keep = kept.contents;
    wire::HistoryEvent {
        number: i32::try_from(event.number).unwrap_or(i32::MAX),
        time: Some(Timestamp::from_millis(event.time_ms)),
        r#type: String::new(),
        attributes: Some(attributes),
    }
}

/// Reads a stored event.
///
/// # Errors
/// See [`HistoryCodecError`].
pub fn decode_event(event: &wire::HistoryEvent, loader: &dyn DataLoader) -> Result<HistoryEvent, HistoryCodecError> {
    let wrong = |what: String| HistoryCodecError { number: event.number, what };
    let attributes =
        event.attributes.as_ref().ok_or_else(|| wrong("it is of a kind that this version does not know".to_owned()))?;
    let kind = decode_attributes(attributes, loader).map_err(wrong)?;
    Ok(HistoryEvent { number: i64::from(event.number), time_ms: event.time.map_or(0, |time| time.as_millis()), kind })
}

/// The name of an event's variant, for `type`.
pub fn event_type(event: &wire::HistoryEvent) -> &'static str {
    match &event.attributes {
        None => "Unknown",
        Some(attributes) => match attributes {
            Attributes::Started(_) => "Started",
            Attributes::ActivityCompleted(_) => "ActivityCompleted",
            Attributes::ActivityFailed(_) => "ActivityFailed",
            Attributes::TimerFired(_) => "TimerFired",
            Attributes::CallbackAnswered(_) => "CallbackAnswered",
            Attributes::CancelRequested(_) => "CancelRequested",
            Attributes::TimeoutReached(_) => "TimeoutReached",
            Attributes::Suspended(_) => "Suspended",
            Attributes::Resumed(_) => "Resumed",
            Attributes::ChildStarted(_) => "ChildStarted",
            Attributes::ActivityScheduled(_) => "ActivityScheduled",
            Attributes::ActivityCancelled(_) => "ActivityCancelled",
            Attributes::TimerStarted(_) => "TimerStarted",
            Attributes::TimerCancelled(_) => "TimerCancelled",
            Attributes::CallbackAwaited(_) => "CallbackAwaited",
            Attributes::WaitClosed(_) => "WaitClosed",
            Attributes::ChildRequested(_) => "ChildRequested",
            Attributes::Note(note) => match &note.note {
                None => "Note",
                Some(note::Note::TaskStarted(_)) => "TaskStarted",
                Some(note::Note::TaskCompleted(_)) => "TaskCompleted",
                Some(note::Note::TaskSkipped(_)) => "TaskSkipped",
                Some(note::Note::TaskFaulted(_)) => "TaskFaulted",
                Some(note::Note::TaskCancelled(_)) => "TaskCancelled",
                Some(note::Note::TaskRetried(_)) => "TaskRetried",
                Some(note::Note::Message(_)) => "Message",
                Some(note::Note::Artifact(_)) => "Artifact",
            },
            Attributes::Ended(_) => "Ended",
            Attributes::ApprovalRequested(_) => "ApprovalRequested",
        },
    }
}

pub use grant::{decode_used, encode_used};

/// The phase in which an outcome leaves the execution that gave it.
pub const fn outcome_phase(outcome: &Outcome) -> Phase {
    match outcome {
        Outcome::Completed(_) => Phase::Completed,
        Outcome::Failed(_) => Phase::Failed,
        Outcome::Cancelled { .. } => Phase::Cancelled,
    }
}

/// Where long data goes, and from what length on it is long.
struct Kept {
    inline_bytes_max: usize,
    contents: Vec<(Digest, Vec<u8>)>,
}

type Keep<'a> = &'a mut Kept;

fn data_of(value: &Value, keep: Keep<'_>) -> Data {
    Data::within(value, keep.inline_bytes_max, &mut keep.contents)
}

#[expect(clippy::unnecessary_wraps, reason = "the generated fields are options")]
fn operation(id: &OperationId) -> Option<wire::Operation> {
    Some(wire::Operation { position: id.position.clone(), attempt: i32::try_from(id.attempt).unwrap_or(i32::MAX) })
}

fn operation_only(id: &OperationId) -> wire::OperationOnly {
    wire::OperationOnly { operation: operation(id) }
}

fn data(value: &Value, keep: Keep<'_>) -> Option<Data> {
    (!value.is_null()).then(|| data_of(value, keep))
}

fn encode_fault(fault: &Fault, keep: Keep<'_>) -> wire::Fault {
    wire::Fault {
        r#type: fault.kind.clone(),
        status: i32::from(fault.status),
        title: fault.title.clone(),
        detail: fault.detail.clone(),
        instance: fault.instance.clone(),
        non_retryable: fault.non_retryable,
        data: fault.data.as_ref().map(|value| data_of(value, keep)),
    }
}

fn encode_outcome(outcome: &Outcome, keep: Keep<'_>) -> wire::Outcome {
    let result = match outcome {
        Outcome::Completed(output) => outcome::Result::Completed(data_of(output, keep)),
        Outcome::Failed(fault) => outcome::Result::Failed(encode_fault(fault, keep)),
        Outcome::Cancelled { reason } => outcome::Result::Cancelled(reason.clone()),
    };
    wire::Outcome { result: Some(result) }
}

fn encode_input(input: &Input, keep: Keep<'_>) -> Attributes {
    match input {
        Input::Started(start) => Attributes::Started(wire::Started {
            uid: start.uid.to_string(),
            namespace: start.namespace.clone(),
            name: start.name.clone(),
            input: data(&start.input, keep),
            env: start.env.clone(),
            settings: data(&start.settings, keep),
            grant: start.grant.as_ref().map(grant::encode),
            carried_over: data(&start.carried_over, keep),
        }),
        Input::ActivityCompleted { id, output } => Attributes::ActivityCompleted(wire::ActivityCompleted {
            operation: operation(id),
            output: data(output, keep),
        }),
        Input::ActivityFailed { id, fault } => Attributes::ActivityFailed(wire::ActivityFailed {
            operation: operation(id),
            fault: Some(encode_fault(fault, keep)),
        }),
        Input::TimerFired { id } => Attributes::TimerFired(operation_only(id)),
        Input::CallbackAnswered { id, outcome, used } => Attributes::CallbackAnswered(wire::CallbackAnswered {
            operation: operation(id),
            outcome: Some(encode_outcome(outcome, keep)),
            used: used.as_ref().map(grant::encode_used),
        }),
        Input::CancelRequested { reason } => {
            Attributes::CancelRequested(wire::CancelRequested { reason: reason.clone() })
        }
        Input::TimeoutReached => Attributes::TimeoutReached(wire::Empty {}),
        Input::Suspended => Attributes::Suspended(wire::Empty {}),
        Input::Resumed => Attributes::Resumed(wire::Empty {}),
        Input::ChildStarted { id, kind, name, uid } => Attributes::ChildStarted(wire::ChildStarted {
            operation: operation(id),
            kind: kind.clone(),
            name: name.clone(),
            uid: uid.to_string(),
        }),
    }
}

fn encode_command(command: &Command, keep: Keep<'_>) -> Attributes {
    match command {
        Command::ScheduleActivity(it) => Attributes::ActivityScheduled(wire::ScheduleActivity {
            operation: operation(&it.id),
            activity: it.activity.clone(),
            input: data(&it.input, keep),
            start_to_close_ms: i64::try_from(it.start_to_close_ms).unwrap_or(i64::MAX),
            once: it.effect == Effect::Once,
            approval: it.approval.clone().unwrap_or_default(),
        }),
        Command::CancelActivity { id } => Attributes::ActivityCancelled(operation_only(id)),
        Command::StartTimer { id, due_ms } => Attributes::TimerStarted(wire::TimerStarted {
            operation: operation(id),
            due: Some(Timestamp::from_millis(*due_ms)),
        }),
        Command::CancelTimer { id } => Attributes::TimerCancelled(operation_only(id)),
        Command::AwaitCallback { id, heartbeat_timeout_ms, expires_ms } => {
            Attributes::CallbackAwaited(wire::CallbackAwaited {
                operation: operation(id),
                heartbeat_timeout_ms: heartbeat_timeout_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
                expires: Some(Timestamp::from_millis(*expires_ms)),
            })
        }
        Command::Ask(it) => Attributes::ApprovalRequested(wire::ApprovalRequested {
            operation: operation(&it.id),
            r#type: it.kind.as_str().to_owned(),
            tool: it.tool.clone(),
            server: it.server.clone(),
            arguments: data(&it.arguments, keep),
            message: it.message.clone(),
            why: it.why.clone(),
            expires: Some(Timestamp::from_millis(it.expires_ms)),
            approval_name: String::new(),
        }),
        Command::CloseWait { id } => Attributes::WaitClosed(operation_only(id)),
        Command::StartChild(it) => Attributes::ChildRequested(encode_child(it, keep)),
        Command::Note(it) => Attributes::Note(wire::Note { note: Some(encode_note(it, keep)) }),
        Command::End(ending) => Attributes::Ended(encode_ending(ending, keep)),
    }
}

fn encode_child(it: &StartChild, keep: Keep<'_>) -> wire::ChildRequested {
    let (name, version, inline) = match &it.target {
        ChildTarget::Named { name, version } => (name.clone(), version.clone(), None),
        ChildTarget::Inline(definition) => (String::new(), None, Some(data_of(definition, keep))),
    };
    wire::ChildRequested {
        operation: operation(&it.id),
        kind: it.kind.template_kind().to_owned(),
        name,
        version,
        inline,
        input: data(&it.input, keep),
        message: it.message.clone(),
        session: it.session.clone(),
        env: it.env.clone(),
        timeout_ms: it.timeout_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
        limits: data(&it.limits, keep),
        awaited: it.awaited,
        expires: it.expires_ms.map(Timestamp::from_millis),
        parent_close_policy: match it.parent_close_policy {
            ParentClosePolicy::Cancel => "Cancel".to_owned(),
            ParentClosePolicy::Abandon => "Abandon".to_owned(),
        },
        execution_name: String::new(),
        approval: it.approval.clone().unwrap_or_default(),
        grant: it.grant.as_ref().map(grant::encode),
    }
}

fn encode_note(it: &Note, keep: Keep<'_>) -> note::Note {
    let attempt = |attempt: u32| i32::try_from(attempt).unwrap_or(i32::MAX);
    match it {
        Note::TaskStarted { position, name, kind, attempt: number } => note::Note::TaskStarted(wire::TaskStarted {
            position: position.clone(),
            name: name.clone(),
            kind: kind.clone(),
            attempt: attempt(*number),
        }),
        Note::TaskCompleted { position } => note::Note::TaskCompleted(position.clone()),
        Note::TaskSkipped { position, name } => {
            note::Note::TaskSkipped(wire::TaskSkipped { position: position.clone(), name: name.clone() })
        }
        Note::TaskFaulted { position, fault } => note::Note::TaskFaulted(wire::TaskFaulted {
            position: position.clone(),
            fault: Some(encode_fault(fault, keep)),
        }),
        Note::TaskCancelled { position } => note::Note::TaskCancelled(position.clone()),
        Note::TaskRetried { position, attempt: number, delay_ms } => note::Note::TaskRetried(wire::TaskRetried {
            position: position.clone(),
            attempt: attempt(*number),
            delay_ms: i64::try_from(*delay_ms).unwrap_or(i64::MAX),
        }),
        Note::Message { role, content, tool_calls } => note::Note::Message(wire::Message {
            role: role.clone(),
            content: data(content, keep),
            tool_calls: tool_calls.clone(),
        }),
        Note::Artifact { name, media_type, content } => {
            let digest = Digest::of(content.as_bytes());
            keep.contents.push((digest, content.clone().into_bytes()));
            note::Note::Artifact(wire::Artifact {
                name: name.clone(),
                media_type: media_type.clone(),
                digest: digest.to_string(),
                size_bytes: i32::try_from(content.len()).unwrap_or(i32::MAX),
            })
        }
    }
}

fn encode_ending(ending: &Ending, keep: Keep<'_>) -> wire::Ended {
    let (phase, output, fault, reason) = match ending {
        Ending::Completed { output } => (Phase::Completed, Some(output), None, ""),
        Ending::Failed { fault, partial_output } => {
            (Phase::Failed, partial_output.as_ref(), Some(encode_fault(fault, keep)), "")
        }
        Ending::Cancelled { reason, partial_output } => {
            (Phase::Cancelled, partial_output.as_ref(), None, reason.as_str())
        }
        Ending::TimedOut { partial_output } => (Phase::TimedOut, partial_output.as_ref(), None, ""),
    };
    wire::Ended {
        phase: phase.to_string(),
        output: output.map(|value| data_of(value, keep)),
        fault,
        reason: reason.to_owned(),
    }
}

type Decoded<T> = Result<T, String>;

struct Decoder<'a>(&'a dyn DataLoader);

impl Decoder<'_> {
    fn id(operation: Option<&wire::Operation>) -> Decoded<OperationId> {
        let operation = operation.ok_or("it names no operation")?;
        let attempt = u32::try_from(operation.attempt).map_err(|_| "its attempt is negative")?;
        Ok(OperationId { position: operation.position.clone(), attempt })
    }

    fn value(&self, data: Option<&Data>) -> Decoded<Value> {
        data.map_or(Ok(Value::Null), |data| data.to_value(self.0))
    }

    fn optional(&self, data: Option<&Data>) -> Decoded<Option<Value>> {
        data.map(|data| data.to_value(self.0)).transpose()
    }

    fn fault(&self, fault: Option<&wire::Fault>) -> Decoded<Fault> {
        let fault = fault.ok_or("it holds no fault")?;
        Ok(Fault {
            kind: fault.r#type.clone(),
            status: u16::try_from(fault.status).unwrap_or(500),
            title: fault.title.clone(),
            detail: fault.detail.clone(),
            instance: fault.instance.clone(),
            non_retryable: fault.non_retryable,
            data: self.optional(fault.data.as_ref())?,
        })
    }

    fn outcome(&self, outcome: Option<&wire::Outcome>) -> Decoded<Outcome> {
        match outcome.and_then(|outcome| outcome.result.as_ref()).ok_or("it holds no outcome")? {
            outcome::Result::Completed(output) => Ok(Outcome::Completed(self.value(Some(output))?)),
            outcome::Result::Failed(fault) => Ok(Outcome::Failed(self.fault(Some(fault))?)),
            outcome::Result::Cancelled(reason) => Ok(Outcome::Cancelled { reason: reason.clone() }),
        }
    }

    fn child(&self, it: &wire::ChildRequested) -> Decoded<StartChild> {
        let target = match self.optional(it.inline.as_ref())? {
            Some(definition) => ChildTarget::Inline(definition),
            None => ChildTarget::Named { name: it.name.clone(), version: it.version.clone() },
        };
        Ok(StartChild {
            id: Self::id(it.operation.as_ref())?,
            kind: if it.kind == ProgramKind::Agent.template_kind() {
                ProgramKind::Agent
            } else {
                ProgramKind::Workflow
            },
            target,
            input: self.value(it.input.as_ref())?,
            message: it.message.clone(),
            session: it.session.clone(),
            env: it.env.clone(),
            timeout_ms: it.timeout_ms.and_then(|ms| u64::try_from(ms).ok()),
            limits: self.value(it.limits.as_ref())?,
            awaited: it.awaited,
            expires_ms: it.expires.map(|time| time.as_millis()),
            parent_close_policy: if it.parent_close_policy == "Abandon" {
                ParentClosePolicy::Abandon
            } else {
                ParentClosePolicy::Cancel
            },
            approval: Self::approval(&it.approval),
            grant: it.grant.as_ref().map(grant::decode),
        })
    }

    fn approval(name: &str) -> Option<String> {
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn question(&self, it: &wire::ApprovalRequested) -> Decoded<Question> {
        Ok(Question {
            id: Self::id(it.operation.as_ref())?,
            kind: QuestionKind::of(&it.r#type)
                .ok_or_else(|| format!("'{}' is a question that this version does not know", it.r#type))?,
            tool: it.tool.clone(),
            server: it.server.clone(),
            arguments: self.value(it.arguments.as_ref())?,
            message: it.message.clone(),
            why: it.why.clone(),
            expires_ms: it.expires.map_or(0, |time| time.as_millis()),
        })
    }

    fn note(&self, it: &wire::Note) -> Decoded<Note> {
        let attempt = |number: i32| u32::try_from(number).unwrap_or_default();
        Ok(match it.note.as_ref().ok_or("it is a note of a kind that this version does not know")? {
            note::Note::TaskStarted(it) => Note::TaskStarted {
                position: it.position.clone(),
                name: it.name.clone(),
                kind: it.kind.clone(),
                attempt: attempt(it.attempt),
            },
            note::Note::TaskCompleted(position) => Note::TaskCompleted { position: position.clone() },
            note::Note::TaskSkipped(it) => Note::TaskSkipped { position: it.position.clone(), name: it.name.clone() },
            note::Note::TaskFaulted(it) => {
                Note::TaskFaulted { position: it.position.clone(), fault: self.fault(it.fault.as_ref())? }
            }
            note::Note::TaskCancelled(position) => Note::TaskCancelled { position: position.clone() },
            note::Note::TaskRetried(it) => Note::TaskRetried {
                position: it.position.clone(),
                attempt: attempt(it.attempt),
                delay_ms: u64::try_from(it.delay_ms).unwrap_or_default(),
            },
            note::Note::Message(it) => Note::Message {
                role: it.role.clone(),
                content: self.value(it.content.as_ref())?,
                tool_calls: it.tool_calls.clone(),
            },
            note::Note::Artifact(it) => {
                let digest: Digest = it.digest.parse().map_err(|_| format!("'{}' is not a digest", it.digest))?;
                let content = self.0.load(&digest).ok_or_else(|| format!("the content of {digest} is not there"))?;
                let content = String::from_utf8(content).map_err(|_| format!("the content of {digest} is not text"))?;
                Note::Artifact { name: it.name.clone(), media_type: it.media_type.clone(), content }
            }
        })
    }

    fn ending(&self, it: &wire::Ended) -> Decoded<Ending> {
        let partial_output = self.optional(it.output.as_ref())?;
        Ok(match it.phase.parse()? {
            Phase::Completed => Ending::Completed { output: partial_output.unwrap_or(Value::Null) },
            Phase::Failed => Ending::Failed { fault: self.fault(it.fault.as_ref())?, partial_output },
            Phase::Cancelled => Ending::Cancelled { reason: it.reason.clone(), partial_output },
            Phase::TimedOut => Ending::TimedOut { partial_output },
            phase @ (Phase::Pending | Phase::Running | Phase::Suspended) => {
                return Err(format!("{phase} is not how an execution ends"));
            }
        })
    }
}

fn decode_attributes(attributes: &Attributes, loader: &dyn DataLoader) -> Decoded<HistoryEventKind> {
    let decoder = Decoder(loader);
    Ok(match attributes {
        Attributes::Started(_)
        | Attributes::ActivityCompleted(_)
        | Attributes::ActivityFailed(_)
        | Attributes::TimerFired(_)
        | Attributes::CallbackAnswered(_)
        | Attributes::CancelRequested(_)
        | Attributes::TimeoutReached(_)
        | Attributes::Suspended(_)
        | Attributes::Resumed(_)
        | Attributes::ChildStarted(_) => HistoryEventKind::Input(decode_input(attributes, &decoder)?),
        Attributes::ActivityScheduled(_)
        | Attributes::ActivityCancelled(_)
        | Attributes::TimerStarted(_)
        | Attributes::TimerCancelled(_)
        | Attributes::CallbackAwaited(_)
        | Attributes::WaitClosed(_)
        | Attributes::ChildRequested(_)
        | Attributes::Note(_)
        | Attributes::ApprovalRequested(_)
        | Attributes::Ended(_) => HistoryEventKind::Command(decode_command(attributes, &decoder)?),
    })
}

fn decode_input(attributes: &Attributes, decoder: &Decoder<'_>) -> Decoded<Input> {
    let uid = |text: &str| text.parse().map_err(|error: baton_types::UidParseError| error.to_string());
    Ok(match attributes {
        Attributes::Started(it) => Input::Started(Start {
            uid: uid(&it.uid)?,
            namespace: it.namespace.clone(),
            name: it.name.clone(),
            input: decoder.value(it.input.as_ref())?,
            env: BTreeMap::clone(&it.env),
            settings: decoder.value(it.settings.as_ref())?,
            grant: it.grant.as_ref().map(grant::decode),
            carried_over: decoder.value(it.carried_over.as_ref())?,
        }),
        Attributes::ActivityCompleted(it) => Input::ActivityCompleted {
            id: Decoder::id(it.operation.as_ref())?,
            output: decoder.value(it.output.as_ref())?,
        },
        Attributes::ActivityFailed(it) => {
            Input::ActivityFailed { id: Decoder::id(it.operation.as_ref())?, fault: decoder.fault(it.fault.as_ref())? }
        }
        Attributes::TimerFired(it) => Input::TimerFired { id: Decoder::id(it.operation.as_ref())? },
        Attributes::CallbackAnswered(it) => Input::CallbackAnswered {
            id: Decoder::id(it.operation.as_ref())?,
            outcome: decoder.outcome(it.outcome.as_ref())?,
            used: it.used.as_ref().map(grant::decode_used),
        },
        Attributes::CancelRequested(it) => Input::CancelRequested { reason: it.reason.clone() },
        Attributes::TimeoutReached(_) => Input::TimeoutReached,
        Attributes::Suspended(_) => Input::Suspended,
        Attributes::Resumed(_) => Input::Resumed,
        Attributes::ChildStarted(it) => Input::ChildStarted {
            id: Decoder::id(it.operation.as_ref())?,
            kind: it.kind.clone(),
            name: it.name.clone(),
            uid: uid(&it.uid)?,
        },
        _ => return Err("it is not an input".to_owned()),
    })
}

fn decode_command(attributes: &Attributes, decoder: &Decoder<'_>) -> Decoded<Command> {
    Ok(match attributes {
        Attributes::ActivityScheduled(it) => Command::ScheduleActivity(ScheduleActivity {
            id: Decoder::id(it.operation.as_ref())?,
            activity: it.activity.clone(),
            input: decoder.value(it.input.as_ref())?,
            start_to_close_ms: u64::try_from(it.start_to_close_ms).unwrap_or_default(),
            effect: if it.once { Effect::Once } else { Effect::Repeatable },
            approval: Decoder::approval(&it.approval),
        }),
        Attributes::ActivityCancelled(it) => Command::CancelActivity { id: Decoder::id(it.operation.as_ref())? },
        Attributes::TimerStarted(it) => Command::StartTimer {
            id: Decoder::id(it.operation.as_ref())?,
            due_ms: it.due.map_or(0, |time| time.as_millis()),
        },
        Attributes::TimerCancelled(it) => Command::CancelTimer { id: Decoder::id(it.operation.as_ref())? },
        Attributes::CallbackAwaited(it) => Command::AwaitCallback {
            id: Decoder::id(it.operation.as_ref())?,
            heartbeat_timeout_ms: it.heartbeat_timeout_ms.and_then(|ms| u64::try_from(ms).ok()),
            expires_ms: it.expires.map_or(0, |time| time.as_millis()),
        },
        Attributes::ApprovalRequested(it) => Command::Ask(decoder.question(it)?),
        Attributes::WaitClosed(it) => Command::CloseWait { id: Decoder::id(it.operation.as_ref())? },
        Attributes::ChildRequested(it) => Command::StartChild(decoder.child(it)?),
        Attributes::Note(it) => Command::Note(decoder.note(it)?),
        Attributes::Ended(it) => Command::End(decoder.ending(it)?),
        _ => return Err("it is not a command".to_owned()),
    })
}
