//! Tasks that ask for something outside: activities, callbacks and children.

use std::collections::BTreeMap;

use baton_execution::{
    ChildTarget, Command, Effect, Fault, Outcome, ParentClosePolicy, ProgramKind, ScheduleActivity, StartChild, Usage,
    WaitReason, fault_type, secrets_named,
};
use baton_types::{DURATION_MS_MAX, format_duration};
use serde_json::Value;

use crate::{
    interpreter::{
        DEFAULT_ACTIVITY_MS, DEFAULT_WAIT_MS,
        run::Run,
        state::{FrameId, Opening},
    },
    task::{Event, Purpose, Step},
};

/// How much longer than a child's own timeout its caller waits, in milliseconds: the child's answer should win.
const CHILD_GRACE_MS: u64 = 60_000;

/// Status of the fault of a caller whose callee was cancelled (the one that proxies use for "client closed request").
const STATUS_CANCELLED: u16 = 499;

/// Another execution to start, and what people call it.
pub(crate) struct Child {
    pub(crate) start: StartChild,
    pub(crate) on: String,
}

/// An activity to run, and what people call what it calls.
pub(crate) struct Call {
    pub(crate) activity: &'static str,
    pub(crate) input: Value,
    pub(crate) on: String,
    /// Whether it may be repeated after a crash.
    pub(crate) effect: Effect,
    /// A limit of time that the call has beside the task's `timeout`.
    pub(crate) timeout_ms: Option<u64>,
}

impl Run {
    /// Runs an activity that may be repeated, with no limit of time but the task's.
    pub(crate) fn schedule(
        &mut self,
        number: FrameId,
        activity: &'static str,
        input: Value,
        on: String,
    ) -> Result<Step, Fault> {
        self.call(number, Call { activity, input, on, effect: Effect::Repeatable, timeout_ms: None })
    }

    /// Runs an activity for the task; with `metadata.await: callback` the task then waits for an answer.
    pub(crate) fn call(&mut self, number: FrameId, call: Call) -> Result<Step, Fault> {
        let Call { activity, input, on, effect, timeout_ms: own_ms } = call;
        self.check_secrets(&input)?;
        let timeout_ms = self.timeout_ms(number)?;
        let id = self.frame(number).operation();
        let wait = self.definition.task(self.frame(number).task).and_then(|task| task.wait.clone());
        let mut opening = Opening { reason: WaitReason::Activity, on, until_ms: None, activity: true, wait: false };
        let limits_ms = [timeout_ms, own_ms];
        let mut start_to_close_ms = limits_ms.into_iter().flatten().min().unwrap_or(DEFAULT_ACTIVITY_MS);
        if let Some(wait) = wait {
            let expires_ms = self.after(timeout_ms.unwrap_or(DEFAULT_WAIT_MS));
            start_to_close_ms = start_to_close_ms.min(DEFAULT_ACTIVITY_MS);
            opening = Opening { reason: WaitReason::Callback, until_ms: Some(expires_ms), wait: true, ..opening };
            self.emit(Command::AwaitCallback { id: id.clone(), heartbeat_timeout_ms: wait.heartbeat_ms, expires_ms });
            self.start_timer(number, Purpose::Own, expires_ms);
        } else {
            opening.until_ms = Some(self.after(start_to_close_ms));
        }
        self.emit(Command::ScheduleActivity(ScheduleActivity {
            id,
            activity: activity.to_owned(),
            input,
            start_to_close_ms,
            effect,
            approval: None,
        }));
        self.open(number, opening);
        Ok(Step::Wait)
    }

    /// Refuses secrets that are not in `use.secrets`, however the text that stands for one was put together: a document may
    /// have functions of others in it. A placeholder that is broken is told where the value would be put in its place.
    fn check_secrets(&self, input: &Value) -> Result<(), Fault> {
        let named = secrets_named(input).unwrap_or_default();
        let known = self.definition.secrets();
        let Some((name, _)) = named.into_iter().find(|(name, _)| !known.iter().any(|known| known == name)) else {
            return Ok(());
        };
        let detail = format!("the secret '{name}' is not in use.secrets");
        Err(Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable())
    }

    /// Runs the activity of one round of a task that has several; its time is not the task's.
    pub(crate) fn schedule_round(
        &mut self,
        number: FrameId,
        activity: &str,
        input: Value,
        on: String,
        start_to_close_ms: u64,
    ) -> Result<(), Fault> {
        self.check_secrets(&input)?;
        let id = self.frame(number).operation();
        self.emit(Command::ScheduleActivity(ScheduleActivity {
            id,
            activity: activity.to_owned(),
            input,
            start_to_close_ms,
            effect: Effect::Repeatable,
            approval: None,
        }));
        let until_ms = Some(self.after(start_to_close_ms));
        self.open(number, Opening { reason: WaitReason::Event, on, until_ms, activity: true, wait: false });
        Ok(())
    }

    /// The task's operation of one round is over; that of the next round is another one.
    pub(crate) fn next_round(&mut self, number: FrameId) {
        self.close_operation(number);
        self.cancel_timer(number, Purpose::Own);
        let frame = self.frame(number);
        let (parent, block, slot) = (frame.parent, frame.block, frame.slot);
        let counters = match parent {
            Some(parent) => &mut self.frame_mut(parent).attempts,
            None => &mut self.execution.attempts,
        };
        let (attempt, _) = counters.enter(block, slot);
        self.frame_mut(number).attempt = attempt;
    }

    /// A child of the task, to be completed by its kind.
    pub(crate) fn new_child(&self, number: FrameId, kind: ProgramKind, awaited: bool) -> StartChild {
        StartChild {
            id: self.frame(number).operation(),
            kind,
            target: ChildTarget::Inline(Value::Null),
            input: Value::Null,
            message: None,
            session: None,
            env: BTreeMap::new(),
            timeout_ms: None,
            limits: Value::Null,
            awaited,
            expires_ms: None,
            parent_close_policy: if awaited { ParentClosePolicy::Cancel } else { ParentClosePolicy::Abandon },
            approval: None,
            grant: None,
        }
    }

    /// Starts a child; a task that does not wait for it is done at once, with its input as output.
    pub(crate) fn start_child(&mut self, number: FrameId, child: Child) -> Result<Step, Fault> {
        let Child { mut start, on } = child;
        let timeout_ms = self.timeout_ms(number)?;
        let begun = self.commands.iter().filter(|command| matches!(command, Command::StartChild(_))).count() as u64;
        let fits = self.execution.account.check_children(Usage::default(), begun + 1);
        fits.map_err(|shortage| shortage.fault(&format!("{on} is not started")))?;
        if !start.awaited {
            self.emit(Command::StartChild(start));
            return Ok(Step::Done(self.input(number)));
        }
        let child_ms = start.timeout_ms.map(|millis| millis.saturating_add(CHILD_GRACE_MS));
        let expires_ms = self.after(timeout_ms.or(child_ms).unwrap_or(DEFAULT_WAIT_MS).min(DURATION_MS_MAX));
        start.timeout_ms = start.timeout_ms.or(timeout_ms);
        start.expires_ms = Some(expires_ms);
        self.emit(Command::StartChild(start));
        self.start_timer(number, Purpose::Own, expires_ms);
        self.open(
            number,
            Opening { reason: WaitReason::Child, on, until_ms: Some(expires_ms), activity: false, wait: true },
        );
        Ok(Step::Wait)
    }

    /// What an activity, an answer or the end of the time means for a task that called.
    pub(crate) fn activity_event(&mut self, number: FrameId, event: Event) -> Result<Step, Fault> {
        let Some(open) = &self.frame(number).open else { return event.into_fault() };
        match event {
            Event::ActivityCompleted(_) if open.opening.wait => Ok(Step::Wait),
            Event::ActivityCompleted(output) => Ok(Step::Done(output)),
            Event::Answered(Outcome::Completed(output)) => crate::data::Data::measured(output).map(Step::Done),
            Event::Answered(Outcome::Failed(fault)) => Err(Fault { instance: None, ..fault }),
            Event::Answered(Outcome::Cancelled { reason }) => Err(Fault::new(
                fault_type::CANCELLED,
                STATUS_CANCELLED,
                format!("{} was cancelled: {reason}", open.opening.on),
            )),
            Event::TimerFired(Purpose::Own) => {
                let waited = self.now_ms.saturating_sub(open.since_ms);
                let waited = format_duration(std::time::Duration::from_millis(u64::try_from(waited).unwrap_or(0)));
                Err(Fault::new(fault_type::TIMEOUT, 408, format!("no answer from {} after {waited}", open.opening.on)))
            }
            other => other.into_fault(),
        }
    }
}
