//! A subscription: rounds of messages, until its policy has had what it takes.
//!
//! A round is the activity `asyncapi` with `"round": {"recorded", "messagesMax", "waitMs", "expiryMs"}`; it
//! takes some messages, or none if none came in time, and gives a receipt for each. The next round, which is the next
//! attempt of the task, hands the receipts back, and only then are the messages acknowledged. The last one ends the
//! session at the broker.
//!
//! # Invariants
//! - A message is acknowledged after the history has it: a crash loses none, and none is worked on twice.
//! - A task that faulted and is retried goes on with the session: what it had not come to the end with comes again.
//! - While `foreach` works on one message the others wait in their order.
//! - A round ends at the latest after [`ROUND_MS_MAX`], so that what a lost worker holds comes back soon.
//!
//! # Failure
//! A message on which the filter cannot be evaluated does not fit: messages come from anybody.

use std::collections::VecDeque;

use baton_execution::{Fault, fault_type};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    data::{Data, VALUE_BYTES_MAX},
    document::{Builder, Fields, enclosed},
    expression::Expression,
    interpreter::{DEFAULT_WAIT_MS, FrameId, Run, State},
    task::{Delay, Event, Kind, Place, Step, call_asyncapi::Operation, each::Each},
};

/// Messages of one round: the result of a round is one entry of the history.
const ROUND_MESSAGES_MAX: u32 = 100;
/// How long a round waits for a message, in milliseconds.
const ROUND_MS_MAX: u64 = 5 * 60 * 1000;
/// How much longer than its wait a round may take, in milliseconds: for the document, the connection and the goodbye.
const ROUND_GRACE_MS: u64 = 60_000;
/// How long the end of a session may take, in milliseconds.
const END_MS: u64 = 10_000;
/// Messages that `amount` can ask for.
const AMOUNT_MAX: i64 = 100_000;

/// What a document says of a subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    filter: Option<Expression>,
    policy: Policy,
    time: Option<Delay>,
    each: Option<Each>,
}

/// When it is over, apart from its time.
#[derive(Debug)]
enum Policy {
    /// After so many messages.
    Amount(u32),
    /// When the condition does not hold after a message.
    While(Expression),
    /// Never: what became of the messages so far, nobody can see.
    Forever,
    /// When the condition holds before a message.
    Until(Expression),
}

#[derive(Debug)]
struct Subscribe {
    operation: Operation,
    subscription: Subscription,
}

/// Where a subscription is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// What became of the messages, in the order in which they came.
    outputs: Data,
    /// Bytes of that.
    bytes: usize,
    /// Messages consumed.
    consumed: u32,
    /// Messages of this round that were not looked at yet.
    queue: VecDeque<Data>,
    /// Receipts of the messages of this round.
    receipts: Vec<String>,
    /// When its time is over.
    deadline_ms: Option<i64>,
    /// When the last message came, or the subscription began.
    heard_ms: i64,
    /// Whether only the end of the session is waited for.
    ending: bool,
}

pub(super) fn read(builder: &mut Builder, mut fields: Fields<'_>, place: &Place) -> Option<Subscription> {
    let filter = fields.expression("filter", builder);
    let consume = fields.need_object("consume", builder).and_then(|consume| read_consume(builder, consume));
    let each = Each::read(builder, &mut fields, &format!("{}/with/subscription", place.pointer));
    fields.close(builder);
    let (policy, time) = consume?;
    Some(Subscription { filter, policy, time, each })
}

fn read_consume(builder: &mut Builder, mut fields: Fields<'_>) -> Option<(Policy, Option<Delay>)> {
    let time = fields.duration("for", builder);
    let amount = fields.integer("amount", 1, AMOUNT_MAX, builder);
    let amount = amount.and_then(|amount| u32::try_from(amount).ok()).map(Policy::Amount);
    let forever =
        fields.get("while").and_then(Value::as_str).is_some_and(|text| enclosed(text).unwrap_or(text).trim() == "true");
    let goes_on = fields.expression("while", builder);
    let goes_on = goes_on.map(|condition| if forever { Policy::Forever } else { Policy::While(condition) });
    let until = fields.expression("until", builder).map(Policy::Until);
    let count = ["amount", "while", "until"].into_iter().filter(|name| fields.has(name)).count();
    if count != 1 {
        builder.violate(&fields.path, "must have exactly one of 'amount', 'while' and 'until'");
    }
    fields.close(builder);
    amount.or(goes_on).or(until).map(|policy| (policy, time))
}

impl Subscription {
    pub(super) fn of(self, operation: Operation) -> Box<dyn Kind> {
        Box::new(Subscribe { operation, subscription: self })
    }
}

impl Subscribe {
    /// The next round; the session ends if there is none.
    fn round(&self, run: &mut Run, frame: FrameId, mut progress: Progress) -> Result<Step, Fault> {
        if self.is_over(run, frame, &progress)? {
            return self.end(run, frame, progress);
        }
        let since_heard = u64::try_from(run.now_ms().saturating_sub(progress.heard_ms)).unwrap_or(0);
        if since_heard >= DEFAULT_WAIT_MS && progress.deadline_ms.is_none() {
            let detail = format!("no message on {} for seven days", self.operation.on());
            return Err(Fault::new(fault_type::TIMEOUT, 408, detail));
        }
        let left_ms = progress.deadline_ms.map(|deadline| deadline.saturating_sub(run.now_ms()));
        let left_ms = left_ms.map(|left| u64::try_from(left).unwrap_or(0));
        let messages_max = match self.subscription.policy {
            Policy::Amount(amount) if self.subscription.filter.is_none() => {
                (amount - progress.consumed).min(ROUND_MESSAGES_MAX)
            }
            _ => ROUND_MESSAGES_MAX,
        };
        let wait_ms = left_ms.unwrap_or(ROUND_MS_MAX).min(ROUND_MS_MAX);
        let request = json!({
            "recorded": std::mem::take(&mut progress.receipts),
            "messagesMax": messages_max,
            "waitMs": wait_ms,
            "expiryMs": left_ms.unwrap_or(DEFAULT_WAIT_MS).saturating_add(ROUND_GRACE_MS),
        });
        self.ask(run, frame, progress, request, wait_ms.saturating_add(ROUND_GRACE_MS))
    }

    fn end(&self, run: &mut Run, frame: FrameId, mut progress: Progress) -> Result<Step, Fault> {
        progress.ending = true;
        progress.queue.clear();
        progress.receipts.clear();
        let request = json!({"end": true});
        self.ask(run, frame, progress, request, END_MS)
    }

    fn ask(
        &self,
        run: &mut Run,
        frame: FrameId,
        progress: Progress,
        round: Value,
        start_to_close_ms: u64,
    ) -> Result<Step, Fault> {
        let mut request = self.operation.request(run, frame)?;
        request.insert("round".to_owned(), round);
        run.set_state(frame, State::Subscription(Box::new(progress)));
        run.schedule_round(frame, "asyncapi", Value::Object(request), self.operation.on(), start_to_close_ms)?;
        Ok(Step::Wait)
    }

    /// Whether the policy wants no message any more, or the time is over.
    fn is_over(&self, run: &Run, frame: FrameId, progress: &Progress) -> Result<bool, Fault> {
        if progress.deadline_ms.is_some_and(|deadline| deadline <= run.now_ms()) {
            return Ok(true);
        }
        match &self.subscription.policy {
            Policy::Amount(amount) => Ok(progress.consumed >= *amount),
            Policy::While(condition) => Ok(progress.consumed > 0 && !run.test(frame, condition, &progress.outputs)?),
            Policy::Until(condition) => run.test(frame, condition, &progress.outputs),
            Policy::Forever => Ok(false),
        }
    }

    /// Works on what came, until there is something to wait for.
    fn next(&self, run: &mut Run, frame: FrameId, mut progress: Progress) -> Result<Step, Fault> {
        while let Some(message) = progress.queue.pop_front() {
            let fits = self
                .subscription
                .filter
                .as_ref()
                .is_none_or(|filter| run.test(frame, filter, &message).unwrap_or(false));
            if !fits {
                continue;
            }
            if self.is_over(run, frame, &progress)? {
                return self.end(run, frame, progress);
            }
            let index = progress.consumed;
            progress.consumed += 1;
            if let Some(each) = &self.subscription.each
                && each.begin(run, frame, index, &message)
            {
                run.set_state(frame, State::Subscription(Box::new(progress)));
                return Ok(Step::Wait);
            }
            self.put_out(run, frame, &mut progress, message)?;
        }
        self.round(run, frame, progress)
    }

    /// What became of a message.
    fn put_out(&self, run: &mut Run, frame: FrameId, progress: &mut Progress, raw: Data) -> Result<(), Fault> {
        let output = match &self.subscription.each {
            Some(each) => each.end(run, frame, raw)?,
            None => raw.measure()?,
        };
        if matches!(self.subscription.policy, Policy::Forever) {
            return Ok(());
        }
        progress.bytes += output.to_string().len();
        if progress.bytes > VALUE_BYTES_MAX {
            let detail = format!("what became of the messages is larger than {VALUE_BYTES_MAX} bytes");
            return Err(Fault::new(fault_type::TOO_LARGE, 413, detail).non_retryable());
        }
        // Nobody else holds it, so nothing is copied.
        let mut outputs = std::mem::take(&mut progress.outputs).into_value();
        if let Value::Array(outputs) = &mut outputs {
            outputs.push(output.into_value());
        }
        progress.outputs = Data::new(outputs);
        Ok(())
    }

    fn taken(&self, run: &mut Run, frame: FrameId, result: &Value) -> Result<Step, Fault> {
        run.next_round(frame);
        let mut progress = take(run, frame);
        if progress.ending {
            return Ok(Step::Done(progress.outputs));
        }
        for taken in result["messages"].as_array().into_iter().flatten() {
            progress.queue.push_back(Data::new(taken["message"].clone()));
            progress.receipts.extend(taken["receipt"].as_str().map(str::to_owned));
        }
        if !progress.queue.is_empty() {
            progress.heard_ms = run.now_ms();
        }
        self.next(run, frame, progress)
    }
}

/// Takes the progress out of a frame that has it; whoever goes on puts it back.
fn take(run: &mut Run, frame: FrameId) -> Progress {
    match std::mem::replace(run.state_mut(frame), State::Plain) {
        State::Subscription(progress) => *progress,
        State::Plain | State::For { .. } | State::Fork { .. } | State::Try(_) | State::Listen(_) => Progress::default(),
    }
}

impl Kind for Subscribe {
    fn label(&self) -> &'static str {
        "call asyncapi"
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let time = self.subscription.time.as_ref();
        let time_ms = time.map(|time| run.delay(frame, time, &run.input(frame))).transpose()?;
        let progress = Progress {
            outputs: Data::new(Value::Array(Vec::new())),
            deadline_ms: time_ms.map(|millis| run.after(millis)),
            heard_ms: run.now_ms(),
            ..Progress::default()
        };
        self.round(run, frame, progress)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        match event {
            Event::ActivityCompleted(result) => self.taken(run, frame, &result),
            Event::BlockEnded { output, .. } => {
                let mut progress = take(run, frame);
                self.put_out(run, frame, &mut progress, output)?;
                self.next(run, frame, progress)
            }
            other => other.into_fault(),
        }
    }
}
