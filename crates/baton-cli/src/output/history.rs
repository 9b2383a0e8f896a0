//! History events as lines for people.

use baton_proto::history_v1::{self as wire, HistoryEvent, history_event::Attributes, note};

use crate::printer::{one_line, shortened};

/// Longest detail on a line; what is longer is in the JSON.
const DETAIL_LENGTH_MAX: usize = 100;

/// One event as columns.
pub(crate) struct Row {
    number: i32,
    time: String,
    what: String,
    place: String,
    detail: String,
}

/// The line above the events.
pub(crate) fn header() -> String {
    format!("{:>6}  {:<12}  {:<18}  {}", "NUMBER", "TIME", "EVENT", "WHERE AND WHAT")
}

impl Row {
    /// The line.
    pub(crate) fn line(&self) -> String {
        let line = format!("{:>6}  {:<12}  {:<18}  {}  {}", self.number, self.time, self.what, self.place, self.detail);
        line.trim_end().to_owned()
    }

    /// The columns of an event.
    pub(crate) fn of(event: &HistoryEvent) -> Self {
        let what = baton_proto::event_type(event).to_owned();
        // Hours to milliseconds of the day, in UTC: `12:00:00.250`.
        let time = event.time.map(|time| time.to_string()).unwrap_or_default();
        let clock = time.split('T').nth(1).unwrap_or_default().trim_end_matches('Z');
        let clock = if clock.contains('.') { format!("{clock}000") } else { format!("{clock}.000") };
        let (place, detail) = event.attributes.as_ref().map(words).unwrap_or_default();
        Self {
            number: event.number,
            time: clock.chars().take(12).collect(),
            what,
            place: one_line(&place),
            detail: shortened(&one_line(&detail), DETAIL_LENGTH_MAX),
        }
    }
}

fn place(operation: Option<&wire::Operation>) -> String {
    operation
        .map(|it| if it.attempt > 1 { format!("{}#{}", it.position, it.attempt) } else { it.position.clone() })
        .unwrap_or_default()
}

/// Long data by its size.
fn data(data: Option<&wire::Data>) -> String {
    match data {
        None => String::new(),
        Some(data) if data.digest.is_empty() => data.text.clone(),
        Some(data) => format!("{} bytes, {}", data.size_bytes, data.digest),
    }
}

/// A fault in words.
pub(crate) fn fault(fault: Option<&wire::Fault>) -> String {
    let Some(fault) = fault else { return String::new() };
    let title = fault.title.as_deref().filter(|title| !title.is_empty()).unwrap_or(&fault.r#type);
    match fault.detail.as_deref() {
        Some(detail) if !detail.is_empty() => format!("{title}: {detail}"),
        _ => title.to_owned(),
    }
}

fn words(attributes: &Attributes) -> (String, String) {
    match attributes {
        Attributes::Started(it) => (String::new(), data(it.input.as_ref())),
        Attributes::ActivityCompleted(it) => (place(it.operation.as_ref()), data(it.output.as_ref())),
        Attributes::ActivityFailed(it) => (place(it.operation.as_ref()), fault(it.fault.as_ref())),
        Attributes::TimerFired(it)
        | Attributes::ActivityCancelled(it)
        | Attributes::TimerCancelled(it)
        | Attributes::WaitClosed(it) => (place(it.operation.as_ref()), String::new()),
        Attributes::CallbackAnswered(it) => (place(it.operation.as_ref()), outcome(it.outcome.as_ref())),
        Attributes::CancelRequested(it) => (String::new(), it.reason.clone()),
        Attributes::TimeoutReached(_) | Attributes::Suspended(_) | Attributes::Resumed(_) => {
            (String::new(), String::new())
        }
        Attributes::ChildStarted(it) => {
            (place(it.operation.as_ref()), format!("{}/{}", it.kind.to_ascii_lowercase(), it.name))
        }
        Attributes::ActivityScheduled(it) => {
            (place(it.operation.as_ref()), format!("{} {}", it.activity, data(it.input.as_ref())))
        }
        Attributes::TimerStarted(it) => (place(it.operation.as_ref()), until(it.due)),
        Attributes::CallbackAwaited(it) => (place(it.operation.as_ref()), until(it.expires)),
        Attributes::ChildRequested(it) => {
            let name = if it.name.is_empty() { "(inline)" } else { &it.name };
            (
                place(it.operation.as_ref()),
                format!("{} {name}{}", it.kind.to_ascii_lowercase(), if it.awaited { ", awaited" } else { "" }),
            )
        }
        Attributes::ApprovalRequested(it) => {
            (place(it.operation.as_ref()), format!("{} {}: {}", it.r#type, it.approval_name, it.message))
        }
        Attributes::Note(it) => it.note.as_ref().map(note_words).unwrap_or_default(),
        Attributes::Ended(it) => {
            let detail = [it.reason.clone(), fault(it.fault.as_ref()), data(it.output.as_ref())]
                .into_iter()
                .find(|text| !text.is_empty());
            (it.phase.clone(), detail.unwrap_or_default())
        }
    }
}

fn until(time: Option<baton_proto::Timestamp>) -> String {
    time.map(|time| format!("until {time}")).unwrap_or_default()
}

fn outcome(outcome: Option<&wire::Outcome>) -> String {
    match outcome.and_then(|it| it.result.as_ref()) {
        None => String::new(),
        Some(wire::outcome::Result::Completed(output)) => data(Some(output)),
        Some(wire::outcome::Result::Failed(it)) => fault(Some(it)),
        Some(wire::outcome::Result::Cancelled(reason)) => format!("cancelled: {reason}"),
    }
}

fn note_words(it: &note::Note) -> (String, String) {
    match it {
        note::Note::TaskStarted(it) => (
            it.position.clone(),
            if it.attempt > 1 { format!("{} (attempt {})", it.kind, it.attempt) } else { it.kind.clone() },
        ),
        note::Note::TaskCompleted(position) | note::Note::TaskCancelled(position) => (position.clone(), String::new()),
        note::Note::TaskSkipped(it) => (it.position.clone(), String::new()),
        note::Note::TaskFaulted(it) => (it.position.clone(), fault(it.fault.as_ref())),
        note::Note::TaskRetried(it) => (it.position.clone(), format!("attempt {} in {} ms", it.attempt, it.delay_ms)),
        note::Note::Artifact(it) => {
            (it.name.clone(), format!("{}, {} bytes, {}", it.media_type, it.size_bytes, it.digest))
        }
        note::Note::Message(it) => {
            // A tool's message names the tool, an assistant's the tools that it calls.
            let names = it.tool_calls.join(", ");
            let before = match (names.is_empty(), it.role.as_str()) {
                (true, _) => String::new(),
                (false, "tool") => format!("{names}: "),
                (false, _) => format!("calls {names} "),
            };
            (it.role.clone(), format!("{before}{}", data(it.content.as_ref())))
        }
    }
}
