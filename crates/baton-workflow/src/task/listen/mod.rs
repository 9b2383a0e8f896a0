//! `listen`: waits for events, and goes on once its strategy has had what it takes.
//!
//! A round is a wait and the activity `subscribe`, which hands the token of the wait to the event bus with
//! `{"callbackToken", "filters", "after", "sinceMs", "expiresMs"}`. The answer is
//! `{"events": [{"event", "cursor"}], "cursor"}`: events that may fit, in order. Those that do are consumed one by one; then
//! comes the next round, which is the next attempt of the task, for what came after the cursor.
//!
//! # Invariants
//! - Between two rounds no event is lost and none comes twice: the cursor says which is the next.
//! - An event is consumed once, by the first of `until` and the filters in order that it fits.
//! - While `foreach` works on one event the others wait in their order.
//!
//! # Failure
//! An answer that is not the bus's holds no events; the next round follows.

mod filter;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use baton_execution::{Fault, Outcome, fault_type};
use baton_types::format_duration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use filter::Fit;
pub(crate) use filter::{Bound, Scope, Strategy};

use crate::{
    data::{Data, VALUE_BYTES_MAX, kind_of},
    document::{Builder, Fields, enclosed},
    expression::Expression,
    interpreter::{DEFAULT_WAIT_MS, FrameId, Run, State},
    task::{Event, Kind, Place, Purpose, Step, each::Each},
};

#[derive(Debug)]
struct Listen {
    to: Strategy,
    until: Until,
    read: Read,
    each: Option<Each>,
}

/// When it is over.
#[derive(Debug)]
pub(crate) enum Until {
    /// Once the strategy has had what it takes.
    Satisfied,
    /// When the condition holds of what was put out so far.
    Condition(Expression),
    /// Never: what was put out so far, nobody can see.
    Never,
    /// When another strategy has had what it takes.
    Consumed(Strategy),
}

/// What is made of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    Data,
    Envelope,
    Raw,
}

/// Where a `listen` is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// What came of the events, in the order in which they were consumed.
    outputs: Data,
    /// Bytes of that.
    bytes: usize,
    /// Events consumed.
    consumed: u32,
    /// Filters that have had their event, by their place; of the strategy and of `until`.
    served: Vec<usize>,
    until_served: Vec<usize>,
    /// Values of correlations.
    bound: BTreeMap<String, Data>,
    /// Events that came and were not looked at yet.
    queue: VecDeque<Data>,
    /// Where the next round goes on.
    cursor: Option<String>,
    /// When the task's timeout passes.
    deadline_ms: Option<i64>,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, place: &Place) -> Option<Box<dyn Kind>> {
    let mut head = fields.need_object("listen", builder)?;
    let to = head.need_object("to", builder).map(|to| read_consumption(builder, to));
    let read = Read::of_field(builder, &mut head).unwrap_or(Read::Data);
    head.close(builder);
    let each = Each::read(builder, fields, &place.pointer);
    let (to, until) = to?;
    Some(Box::new(Listen { to: to?, until: until?, read, each }))
}

/// Reads a strategy and when it is over.
pub(crate) fn read_consumption(builder: &mut Builder, mut to: Fields<'_>) -> (Option<Strategy>, Option<Until>) {
    let strategy = Strategy::read(builder, &mut to);
    let until = read_until(builder, &mut to);
    to.close(builder);
    (strategy, until)
}

fn read_until(builder: &mut Builder, to: &mut Fields<'_>) -> Option<Until> {
    let Some(value) = to.get("until") else { return Some(Until::Satisfied) };
    let path = to.at("until");
    if !to.has("any") {
        builder.violate(&path, "applies to 'any' only");
        return None;
    }
    match value {
        Value::String(text) if enclosed(text).unwrap_or(text).trim() == "false" => Some(Until::Never),
        Value::String(text) => builder.expression(text, &path).map(Until::Condition),
        Value::Object(_) => {
            let mut fields = Fields::open(value, path, builder)?;
            let strategy = Strategy::read(builder, &mut fields);
            if fields.get("until").is_some() {
                builder.violate(&fields.at("until"), "is not allowed in an 'until'");
            }
            fields.close(builder);
            strategy.map(Until::Consumed)
        }
        other => {
            builder.violate(&path, format!("must be an expression or a strategy, found {}", kind_of(other)));
            None
        }
    }
}

/// Whether a strategy of a task wants an event.
fn fit(
    strategy: &Strategy,
    run: &Run,
    frame: FrameId,
    event: &Value,
    served: &[usize],
    bound: &Bound,
) -> Result<Option<Fit>, Fault> {
    let (variables, input) = (run.variables(frame, None), run.input(frame));
    strategy.fit(&Scope { variables: &variables, input: &input }, event, served, bound)
}

impl Listen {
    /// The next round.
    fn subscribe(&self, run: &mut Run, frame: FrameId, progress: Box<Progress>) -> Step {
        let mut filters = self.to.literals(&progress.served);
        if let Until::Consumed(strategy) = &self.until {
            filters.extend(strategy.literals(&progress.until_served));
        }
        let subscription = match &progress.cursor {
            Some(cursor) => json!({"filters": filters, "after": cursor, "sinceMs": null}),
            // What another task of the execution has consumed in this very millisecond is not consumed again.
            None => json!({"filters": filters, "after": run.events_cursor(), "sinceMs": run.now_ms()}),
        };
        let deadline_ms = progress.deadline_ms;
        run.set_state(frame, State::Listen(progress));
        run.subscribe(frame, subscription, self.to.about(), deadline_ms);
        Step::Wait
    }

    /// Takes what came, until there is something to wait for or it is over.
    fn next(&self, run: &mut Run, frame: FrameId, mut progress: Box<Progress>) -> Result<Step, Fault> {
        while let Some(entry) = progress.queue.pop_front() {
            let event = &entry["event"];
            if let Until::Consumed(strategy) = &self.until
                && let Some(fit) = fit(strategy, run, frame, event, &progress.until_served, &progress.bound)?
            {
                run.consumed(&entry["cursor"]);
                Strategy::serve(fit, &mut progress.until_served, &mut progress.bound);
                if strategy.is_satisfied(&progress.until_served) {
                    return Ok(Step::Done(progress.outputs));
                }
                continue;
            }
            let fit = fit(&self.to, run, frame, event, &progress.served, &progress.bound)?;
            let Some(fit) = fit else { continue };
            run.consumed(&entry["cursor"]);
            Strategy::serve(fit, &mut progress.served, &mut progress.bound);
            let item = Data::new(self.read.of(event));
            let index = progress.consumed;
            progress.consumed += 1;
            if let Some(each) = &self.each
                && each.begin(run, frame, index, &item)
            {
                run.set_state(frame, State::Listen(progress));
                return Ok(Step::Wait);
            }
            if self.put_out(run, frame, &mut progress, item)? {
                return Ok(Step::Done(progress.outputs));
            }
        }
        Ok(self.subscribe(run, frame, progress))
    }

    /// What came of an event; whether it was the last one.
    fn put_out(&self, run: &mut Run, frame: FrameId, progress: &mut Progress, raw: Data) -> Result<bool, Fault> {
        let output = match &self.each {
            Some(each) => each.end(run, frame, raw)?,
            None => raw.measure()?,
        };
        if matches!(self.until, Until::Never) {
            return Ok(false);
        }
        progress.push(output)?;
        match &self.until {
            Until::Satisfied => Ok(self.to.is_satisfied(&progress.served)),
            Until::Condition(condition) => run.test(frame, condition, &progress.outputs),
            Until::Never | Until::Consumed(_) => Ok(false),
        }
    }

    fn answered(&self, run: &mut Run, frame: FrameId, answer: Value) -> Result<Step, Fault> {
        run.next_round(frame);
        let mut progress = Progress::take(run, frame);
        if let Value::Object(mut answer) = answer {
            if let Some(Value::Array(entries)) = answer.remove("events") {
                progress.queue.extend(entries.into_iter().map(Data::new));
            }
            if let Some(Value::String(cursor)) = answer.remove("cursor") {
                progress.cursor = Some(cursor);
            }
        }
        self.next(run, frame, progress)
    }
}

impl Progress {
    fn begin(deadline_ms: Option<i64>) -> Box<Self> {
        Box::new(Self { outputs: Data::new(Value::Array(Vec::new())), deadline_ms, ..Self::default() })
    }

    /// Takes it out of a frame that has it; whoever goes on puts it back.
    fn take(run: &mut Run, frame: FrameId) -> Box<Self> {
        match std::mem::replace(run.state_mut(frame), State::Plain) {
            State::Listen(progress) => progress,
            _ => Self::begin(None),
        }
    }

    fn push(&mut self, output: Data) -> Result<(), Fault> {
        self.bytes += output.to_string().len();
        if self.bytes > VALUE_BYTES_MAX {
            let detail = format!("what came of the events is larger than {VALUE_BYTES_MAX} bytes");
            return Err(Fault::new(fault_type::TOO_LARGE, 413, detail).non_retryable());
        }
        // Nobody else holds it, so nothing is copied.
        let mut outputs = std::mem::take(&mut self.outputs).into_value();
        if let Value::Array(outputs) = &mut outputs {
            outputs.push(output.into_value());
        }
        self.outputs = Data::new(outputs);
        Ok(())
    }
}

impl Read {
    /// Reads the field `read`, if it is there.
    pub(crate) fn of_field(builder: &mut Builder, fields: &mut Fields<'_>) -> Option<Self> {
        fields.word("read", &["data", "envelope", "raw"], builder).map(|word| match word {
            "envelope" => Self::Envelope,
            "raw" => Self::Raw,
            _ => Self::Data,
        })
    }

    pub(crate) fn of(self, event: &Value) -> Value {
        let data = || event.get("data").or_else(|| event.get("data_base64")).cloned().unwrap_or_default();
        match self {
            Self::Envelope => event.clone(),
            Self::Data => data(),
            // Text as it is, and of JSON its text; what is not text is in base64 already.
            Self::Raw => match data() {
                Value::Null => Value::Null,
                Value::String(text) => Value::String(text),
                other => Value::String(other.to_string()),
            },
        }
    }
}

impl Kind for Listen {
    fn label(&self) -> &'static str {
        "listen"
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let deadline_ms = run.timeout_ms(frame)?.map(|millis| run.after(millis));
        Ok(self.subscribe(run, frame, Progress::begin(deadline_ms)))
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        match event {
            Event::Answered(Outcome::Completed(answer)) => self.answered(run, frame, answer),
            Event::BlockEnded { output, .. } => {
                let mut progress = Progress::take(run, frame);
                if self.put_out(run, frame, &mut progress, output)? {
                    return Ok(Step::Done(progress.outputs));
                }
                self.next(run, frame, progress)
            }
            Event::TimerFired(Purpose::Own) => {
                let waited = format_duration(Duration::from_millis(DEFAULT_WAIT_MS));
                Err(Fault::new(fault_type::TIMEOUT, 408, format!("no {} came within {waited}", self.to.about())))
            }
            other => run.activity_event(frame, other),
        }
    }
}
