//! One execution in memory: its Program, what is open, and the step that turns inputs into events and effects.
//!
//! Pure: no clock, no store, no threads. The first run, a replay and a host's workflow go through the same
//! [`Execution::feed`].

use std::collections::BTreeMap;

use baton_execution::{
    Command, Ending, Fault, HistoryEvent, HistoryEventKind, Input, OperationId, Program, Programs, Question,
    QuestionKind, Recorded, ScheduleActivity, StartChild, is_same_event, with_present_placeholders,
};
use baton_execution::{ProgramKind, fault_type};
use baton_types::Digest;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::HISTORY_EVENTS_MAX;

/// Why an execution cannot go on in this build.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Stalled {
    /// A replay gives something else than was recorded.
    #[error("replay differs at event {number}: history has {recorded}, the program now gives {produced}")]
    NonDeterminism {
        /// Number of the event.
        number: i64,
        /// What the history has.
        recorded: String,
        /// What this build makes of the events before it.
        produced: String,
    },
    /// The Program cannot take an input.
    #[error("the program cannot take event {number}: {what}")]
    Program {
        /// Number of the event.
        number: i64,
        /// Why not.
        what: String,
    },
    /// Events are missing.
    #[error("the history has a hole: event {expected} is missing, the next one is {found}")]
    Hole {
        /// Number of the first that is missing.
        expected: i64,
        /// Number of the next that is there.
        found: i64,
    },
    /// The content that it is pinned to cannot be loaded.
    #[error("the pinned content cannot be loaded: {0}")]
    Load(Fault),
}

/// A wait whose token is out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wait {
    /// Number of the event that opened it.
    pub event: i64,
    /// When its token stops being accepted, in milliseconds since 1970.
    pub expires_ms: i64,
    /// After so many milliseconds without a heartbeat it fails.
    pub heartbeat_timeout_ms: Option<u64>,
    /// If a person is asked: what kind of question. It is then answered by a decision and by nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<QuestionKind>,
}

/// What became of a question.
#[derive(Clone, Debug)]
pub enum Asked {
    /// It was asked.
    Opened(Question),
    /// The execution has its answer.
    Answered(OperationId),
    /// No answer is wanted any more, since this time in milliseconds since 1970.
    Closed(OperationId, i64),
}

/// A timer that is armed; its id is the number of the event that started it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Timer {
    /// Number of the event that started it.
    pub id: i64,
    /// Milliseconds since 1970.
    pub due_ms: i64,
}

/// What the Program has asked for and not heard of yet.
#[derive(Clone, Debug, Default)]
pub struct Open {
    /// Activities whose result is not recorded.
    pub activities: BTreeMap<OperationId, ScheduleActivity>,
    /// Timers that are armed.
    pub timers: BTreeMap<OperationId, Timer>,
    /// Waits whose token may be answered.
    pub waits: BTreeMap<OperationId, Wait>,
    /// Children that are not known to exist yet.
    pub children: BTreeMap<OperationId, StartChild>,
    /// Whether a child was started that nobody awaits and that must not outlive this execution.
    pub bound_children: bool,
}

/// What is to be done once a step is durable.
#[derive(Clone, Debug)]
pub enum StepEffect {
    /// Run an activity that is open.
    StartActivity(OperationId),
    /// Stop one that is not wanted any more.
    AbortActivity(OperationId),
    /// Create a child that is open.
    StartChild(OperationId),
}

/// The outcome of feeding inputs.
#[derive(Debug, Default)]
pub struct Step {
    /// The next events of the history.
    pub events: Vec<HistoryEvent>,
    /// What is to be done once they are durable.
    pub effects: Vec<StepEffect>,
    /// Timers to arm.
    pub timers_set: Vec<Timer>,
    /// Timers to forget.
    pub timers_clear: Vec<Timer>,
    /// Waits that were given up; whoever holds their token is to be told.
    pub closed_waits: Vec<OperationId>,
    /// Children that were given up before it was known whether they exist.
    pub given_up: Vec<OperationId>,
    /// What became of questions to people, in order.
    pub questions: Vec<Asked>,
    /// How the execution ended, if it did.
    pub ending: Option<Ending>,
}

/// One execution in memory.
pub struct Execution {
    program: Box<dyn Program>,
    /// Number of the next event, from 1.
    pub next_event: i64,
    /// Whether inputs are recorded but not given to the Program for now.
    pub suspended: bool,
    /// Recorded while suspended, not yet given to the Program.
    deferred: Vec<Input>,
    /// What was asked for and not heard of yet.
    pub open: Open,
    /// Whether its history has its last event.
    pub ended: bool,
    /// Events since the last snapshot.
    pub events_since_snapshot: i64,
}

/// Which content an execution runs.
pub struct Pinned<'a> {
    /// Which Program.
    pub kind: ProgramKind,
    /// Digest of `definition`.
    pub digest: Digest,
    /// The content.
    pub definition: &'a [u8],
}

impl std::fmt::Debug for Execution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Execution")
            .field("next_event", &self.next_event)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Execution {
    /// One that has seen nothing yet.
    ///
    /// # Errors
    /// The fault that ends it: its content cannot be loaded.
    pub fn new(programs: &dyn Programs, pinned: &Pinned<'_>) -> Result<Self, Fault> {
        let program = programs.load(pinned.kind, &pinned.digest, pinned.definition)?;
        Ok(Self {
            program,
            next_event: 1,
            suspended: false,
            deferred: Vec::new(),
            open: Open::default(),
            ended: false,
            events_since_snapshot: 0,
        })
    }

    /// Its Program, as it stands.
    pub fn program(&self) -> &dyn Program {
        self.program.as_ref()
    }

    /// Whether the execution only waits: for timers, callbacks, people. It may then leave memory.
    pub fn is_parked(&self) -> bool {
        self.suspended || (self.open.activities.is_empty() && self.open.children.is_empty())
    }

    /// Whether an input is for something that is still open.
    pub fn wants(&self, input: &Input) -> bool {
        match input {
            Input::ActivityCompleted { id, .. } | Input::ActivityFailed { id, .. } => {
                self.open.activities.contains_key(id)
            }
            Input::TimerFired { id } => self.open.timers.contains_key(id),
            Input::CallbackAnswered { id, .. } => self.open.waits.contains_key(id),
            Input::ChildStarted { id, .. } => self.open.children.contains_key(id),
            Input::Suspended => !self.suspended,
            Input::Resumed => self.suspended,
            Input::Started(_) => self.next_event == 1 || (self.suspended && self.next_event == 2),
            Input::CancelRequested { .. } | Input::TimeoutReached => true,
        }
    }

    /// Records one input and what the Program makes of it. An execution that is asked to end, or whose time is over, has
    /// ended after that, whatever its Program says.
    ///
    /// # Errors
    /// See [`Stalled`]; the execution is then not to be used any more.
    pub fn feed(&mut self, input: Input, time_ms: i64, step: &mut Step) -> Result<(), Stalled> {
        let number = self.next_event;
        let ends = match &input {
            Input::CancelRequested { reason } => {
                Some(Ending::Cancelled { reason: reason.clone(), partial_output: None })
            }
            Input::TimeoutReached => Some(Ending::TimedOut { partial_output: None }),
            _ => None,
        };
        if let Input::CallbackAnswered { id, .. } = &input
            && self.asks(id)
        {
            step.questions.push(Asked::Answered(id.clone()));
        }
        let commands = self.take(&input, time_ms).map_err(|what| Stalled::Program { number, what })?;
        self.record(HistoryEventKind::Input(input), time_ms, step);
        for command in commands {
            self.carry_out(&command, time_ms, step);
            self.record(HistoryEventKind::Command(command), time_ms, step);
        }
        if self.next_event > HISTORY_EVENTS_MAX && !self.ended {
            let detail = format!("the history has {} events, allowed are {HISTORY_EVENTS_MAX}", self.next_event - 1);
            self.end(
                Ending::Failed {
                    fault: Fault::new(fault_type::LIMIT, 507, detail).non_retryable(),
                    partial_output: None,
                },
                time_ms,
                step,
            );
        }
        if let Some(ending) = ends.filter(|_| !self.ended) {
            self.end(ending, time_ms, step);
        }
        Ok(())
    }

    /// Ends the execution whatever its Program would do. Once.
    pub fn end(&mut self, ending: Ending, time_ms: i64, step: &mut Step) {
        let command = Command::End(ending);
        self.carry_out(&command, time_ms, step);
        self.record(HistoryEventKind::Command(command), time_ms, step);
    }

    /// Feeds recorded events again and compares what comes out with what was recorded.
    ///
    /// # Errors
    /// See [`Stalled`]; the execution is then not to be used any more.
    pub fn replay(&mut self, events: impl IntoIterator<Item = HistoryEvent>) -> Result<(), Stalled> {
        self.follow(events, |_| {})
    }

    /// As [`Self::replay`], of whole steps that are new; `taken` gets what each input gave.
    ///
    /// # Errors
    /// See [`Stalled`]; the execution is then not to be used any more.
    pub fn follow(
        &mut self,
        events: impl IntoIterator<Item = HistoryEvent>,
        mut taken: impl FnMut(Step),
    ) -> Result<(), Stalled> {
        let mut expected: std::collections::VecDeque<HistoryEvent> = std::collections::VecDeque::new();
        for event in events {
            if let Some(produced) = expected.pop_front() {
                if !is_same_event(&produced, &event) {
                    return Err(Stalled::NonDeterminism {
                        number: event.number,
                        recorded: describe(&event),
                        produced: describe(&produced),
                    });
                }
                continue;
            }
            if event.number != self.next_event {
                return Err(Stalled::Hole { expected: self.next_event, found: event.number });
            }
            let HistoryEventKind::Input(input) = event.kind else {
                let produced = "nothing".to_owned();
                return Err(Stalled::NonDeterminism { number: event.number, recorded: describe(&event), produced });
            };
            let mut step = Step::default();
            self.feed(input, event.time_ms, &mut step)?;
            expected.extend(step.events.iter().skip(1).cloned());
            taken(step);
        }
        match expected.pop_front() {
            None => Ok(()),
            Some(produced) => Err(Stalled::NonDeterminism {
                number: produced.number,
                recorded: "nothing".to_owned(),
                produced: describe(&produced),
            }),
        }
    }

    /// Whether a wait is for the decision of a person.
    pub fn asks(&self, id: &OperationId) -> bool {
        self.open.waits.get(id).is_some_and(|wait| wait.asks.is_some())
    }

    fn take(&mut self, input: &Input, time_ms: i64) -> Result<Vec<Command>, String> {
        let given = match input {
            Input::Suspended => {
                self.suspended = true;
                Vec::new()
            }
            Input::Resumed => {
                self.suspended = false;
                std::mem::take(&mut self.deferred)
            }
            Input::ChildStarted { id, .. } => {
                self.open.children.remove(id);
                Vec::new()
            }
            Input::CancelRequested { .. } | Input::TimeoutReached => vec![input.clone()],
            Input::Started(_)
            | Input::ActivityCompleted { .. }
            | Input::ActivityFailed { .. }
            | Input::TimerFired { .. }
            | Input::CallbackAnswered { .. } => {
                self.close(input);
                if self.suspended {
                    self.deferred.push(input.clone());
                    Vec::new()
                } else {
                    vec![input.clone()]
                }
            }
        };
        let mut commands = Vec::new();
        for input in given {
            let produced = self.program.on_input(&Recorded { time_ms, input }).map_err(|error| error.to_string())?;
            let ends = produced.iter().any(|command| matches!(command, Command::End(_)));
            commands.extend(produced);
            if ends {
                break;
            }
        }
        Ok(commands)
    }

    fn close(&mut self, input: &Input) {
        match input {
            Input::ActivityCompleted { id, .. } | Input::ActivityFailed { id, .. } => {
                self.open.activities.remove(id);
            }
            Input::TimerFired { id } => {
                self.open.timers.remove(id);
            }
            Input::CallbackAnswered { id, .. } => {
                self.open.waits.remove(id);
                self.open.children.remove(id);
            }
            Input::Started(_)
            | Input::CancelRequested { .. }
            | Input::TimeoutReached
            | Input::Suspended
            | Input::Resumed
            | Input::ChildStarted { .. } => {}
        }
    }

    fn record(&mut self, kind: HistoryEventKind, time_ms: i64, step: &mut Step) {
        step.events.push(HistoryEvent { number: self.next_event, time_ms, kind });
        self.next_event += 1;
        self.events_since_snapshot += 1;
    }

    fn carry_out(&mut self, command: &Command, time_ms: i64, step: &mut Step) {
        let event = self.next_event;
        match command {
            Command::ScheduleActivity(activity) => {
                self.open.activities.insert(activity.id.clone(), activity.clone());
                step.effects.push(StepEffect::StartActivity(activity.id.clone()));
            }
            Command::CancelActivity { id } => {
                if self.open.activities.remove(id).is_some() {
                    step.effects.push(StepEffect::AbortActivity(id.clone()));
                }
            }
            Command::StartTimer { id, due_ms } => {
                let timer = Timer { id: event, due_ms: *due_ms };
                self.open.timers.insert(id.clone(), timer);
                step.timers_set.push(timer);
            }
            Command::CancelTimer { id } => {
                if let Some(timer) = self.open.timers.remove(id) {
                    step.clear_timer(timer);
                }
            }
            Command::AwaitCallback { id, heartbeat_timeout_ms, expires_ms } => {
                self.open.waits.insert(
                    id.clone(),
                    Wait { event, expires_ms: *expires_ms, heartbeat_timeout_ms: *heartbeat_timeout_ms, asks: None },
                );
            }
            Command::Ask(question) => {
                let (expires_ms, asks) = (question.expires_ms, Some(question.kind));
                self.open
                    .waits
                    .insert(question.id.clone(), Wait { event, expires_ms, heartbeat_timeout_ms: None, asks });
                step.questions.push(Asked::Opened(question.clone()));
            }
            Command::CloseWait { id } if self.asks(id) => {
                self.open.waits.remove(id);
                step.questions.push(Asked::Closed(id.clone(), time_ms));
            }
            Command::CloseWait { id } => {
                self.open.waits.remove(id);
                step.given_up.extend(self.open.children.remove(id).map(|child| child.id));
                step.closed_waits.push(id.clone());
            }
            Command::StartChild(child) => self.open_child(child, event, step),
            Command::Note(_) => {}
            Command::End(ending) => {
                self.ended = true;
                step.ending = Some(ending.clone());
                for (_, timer) in std::mem::take(&mut self.open.timers) {
                    step.clear_timer(timer);
                }
                let asked = self.open.waits.iter().filter(|(_, wait)| wait.asks.is_some());
                step.questions.extend(asked.map(|(id, _)| Asked::Closed(id.clone(), time_ms)));
                step.given_up.extend(self.open.children.keys().cloned());
                let running = std::mem::take(&mut self.open.activities);
                step.effects.extend(running.into_keys().map(StepEffect::AbortActivity));
            }
        }
    }

    fn open_child(&mut self, child: &StartChild, event: i64, step: &mut Step) {
        if child.awaited {
            let wait = Wait {
                event,
                expires_ms: child.expires_ms.unwrap_or(i64::MAX),
                heartbeat_timeout_ms: None,
                asks: None,
            };
            self.open.waits.insert(child.id.clone(), wait);
        } else if child.parent_close_policy == baton_execution::ParentClosePolicy::Cancel {
            self.open.bound_children = true;
        }
        self.open.children.insert(child.id.clone(), child.clone());
        step.effects.push(StepEffect::StartChild(child.id.clone()));
    }
}

/// Where a step stood.
pub(crate) struct StepMark {
    pub(crate) events: usize,
    effects: usize,
    timers_set: usize,
    timers_clear: usize,
}

impl Step {
    /// Adds a later step.
    pub(crate) fn append(&mut self, mut later: Self) {
        self.events.append(&mut later.events);
        self.effects.append(&mut later.effects);
        self.timers_set.append(&mut later.timers_set);
        self.timers_clear.append(&mut later.timers_clear);
        self.closed_waits.append(&mut later.closed_waits);
        self.given_up.append(&mut later.given_up);
        self.questions.append(&mut later.questions);
        self.ending = later.ending.or(self.ending.take());
    }

    /// Where it stands, before an input is fed.
    pub(crate) fn mark(&self) -> StepMark {
        StepMark {
            events: self.events.len(),
            effects: self.effects.len(),
            timers_set: self.timers_set.len(),
            timers_clear: self.timers_clear.len(),
        }
    }

    /// Forgets what an input added that was not taken.
    pub(crate) fn back_to(&mut self, mark: &StepMark) {
        self.events.truncate(mark.events);
        self.effects.truncate(mark.effects);
        self.timers_set.truncate(mark.timers_set);
        self.timers_clear.truncate(mark.timers_clear);
        self.closed_waits.clear();
        self.given_up.clear();
        self.questions.clear();
        self.ending = None;
    }

    /// Disarms a timer, which may have been armed in this very step.
    fn clear_timer(&mut self, timer: Timer) {
        let armed_here = self.timers_set.iter().position(|set| set.id == timer.id);
        match armed_here {
            Some(index) => {
                self.timers_set.swap_remove(index);
            }
            None => self.timers_clear.push(timer),
        }
    }
}

fn describe(event: &HistoryEvent) -> String {
    let text = match &event.kind {
        HistoryEventKind::Input(input) => format!("{input:?}"),
        HistoryEventKind::Command(command) => format!("{command:?}"),
    };
    match text.char_indices().nth(200) {
        Some((index, _)) => format!("{}…", &text[..index]),
        None => text,
    }
}

/// A snapshot as stored: the engine's half as JSON, the Program's half as it gave it.
#[derive(Clone, PartialEq, Message)]
struct Snapshot {
    #[prost(bytes = "vec", tag = "1")]
    engine: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    program: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct EngineHalf {
    next_event: i64,
    suspended: bool,
    deferred: Vec<Input>,
    activities: Vec<ScheduleActivity>,
    timers: Vec<(OperationId, Timer)>,
    waits: Vec<(OperationId, Wait)>,
    children: Vec<StartChild>,
    bound_children: bool,
    /// Which placeholders open activities hold: 0 for those of before.
    #[serde(default)]
    placeholders: u32,
}

/// The placeholders of this build.
const PLACEHOLDERS: u32 = 1;

impl EngineHalf {
    fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let half: Self = serde_json::from_slice(bytes)?;
        if half.placeholders > 0 {
            return Ok(half);
        }
        serde_json::from_str(&with_present_placeholders(&String::from_utf8_lossy(bytes)))
    }
}

impl Execution {
    /// The whole state as bytes.
    ///
    /// # Errors
    /// None that is known: all of it is data.
    pub fn snapshot(&self) -> Result<Vec<u8>, serde_json::Error> {
        let half = EngineHalf {
            next_event: self.next_event,
            suspended: self.suspended,
            deferred: self.deferred.clone(),
            activities: self.open.activities.values().cloned().collect(),
            timers: self.open.timers.iter().map(|(id, timer)| (id.clone(), *timer)).collect(),
            waits: self.open.waits.iter().map(|(id, wait)| (id.clone(), wait.clone())).collect(),
            children: self.open.children.values().cloned().collect(),
            bound_children: self.open.bound_children,
            placeholders: PLACEHOLDERS,
        };
        Ok(Snapshot { engine: serde_json::to_vec(&half)?, program: self.program.snapshot() }.encode_to_vec())
    }

    /// The state of a snapshot.
    ///
    /// # Errors
    /// Why it is not one; the caller then replays from the start.
    pub fn restore(programs: &dyn Programs, pinned: &Pinned<'_>, bytes: &[u8]) -> Result<Self, String> {
        let snapshot = Snapshot::decode(bytes).map_err(|error| error.to_string())?;
        let half = EngineHalf::read(&snapshot.engine).map_err(|error| error.to_string())?;
        let program = programs
            .restore(pinned.kind, &pinned.digest, pinned.definition, &snapshot.program)
            .map_err(|fault| fault.to_string())?;
        let open = Open {
            activities: half.activities.into_iter().map(|it| (it.id.clone(), it)).collect(),
            timers: half.timers.into_iter().collect(),
            waits: half.waits.into_iter().collect(),
            children: half.children.into_iter().map(|it| (it.id.clone(), it)).collect(),
            bound_children: half.bound_children,
        };
        Ok(Self {
            program,
            next_event: half.next_event,
            suspended: half.suspended,
            deferred: half.deferred,
            open,
            ended: false,
            events_since_snapshot: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_activities_of_an_earlier_snapshot_get_the_placeholders_of_today() {
        let half = |placeholders: &str, text: &str| {
            let json = format!(
                r#"{{"next_event":3,"suspended":false,"deferred":[],"activities":[{{"id":{{"position":"/do/0/a","attempt":1}},"activity":"http","input":"{text}","start_to_close_ms":1,"effect":"Once"}}],"timers":[],"waits":[],"children":[],"bound_children":false{placeholders}}}"#
            );
            EngineHalf::read(json.as_bytes()).unwrap().activities.remove(0).input
        };
        let before = "\u{e000}baton.dev/callback-token:/do/0/a#1\u{e001}";
        let now = baton_execution::callback_token_placeholder(&OperationId::new("/do/0/a", 1));
        assert_eq!(half("", before), now);
        // Since there are others, such a text came from outside.
        assert_eq!(half(r#","placeholders":1"#, before), before);
    }
}
