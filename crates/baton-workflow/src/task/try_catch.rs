//! `try`: tasks whose faults are caught, retried and handled.
//!
//! A fault that matches is first retried, as far as the policy goes; then `catch.do` handles it. A fault that matches
//! a policy without handler, and outlives its retries, goes on as if there were no `try`: nobody handled it.

use std::sync::Arc;

use baton_execution::{Command, Fault, Note, WaitReason, fault_type};
use baton_types::DURATION_MS_MAX;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    data::Data,
    document::{Builder, Fields, quoted, shown},
    expression::Expression,
    interpreter::{FrameId, Opening, Run, State},
    task::{BlockId, Delay, Event, Kind, Place, Purpose, Step, Then, for_each},
};

/// Name of the variable that holds the fault, unless `catch.as` gives another.
pub(crate) const ERROR_DEFAULT: &str = "error";

/// Retries of a policy that sets no limit of its own.
pub(crate) const DEFAULT_RETRIES: u32 = 10;

#[derive(Debug)]
struct TryCatch {
    block: BlockId,
    filter: Option<Filter>,
    variable: String,
    when: Option<Expression>,
    except_when: Option<Expression>,
    retry: Option<Arc<Retry>>,
    handler: Option<BlockId>,
    then: Option<Then>,
}

/// `catch.errors.with`: what a fault must be to be caught.
#[derive(Debug, Default)]
struct Filter {
    kind: Option<String>,
    status: Option<u16>,
    instance: Option<String>,
    title: Option<String>,
    detail: Option<String>,
}

/// A retry policy.
#[derive(Debug)]
pub(crate) struct Retry {
    when: Option<Expression>,
    except_when: Option<Expression>,
    delay: Option<Delay>,
    backoff: Backoff,
    attempts: Option<u32>,
    attempt_duration: Option<Delay>,
    duration: Option<Delay>,
    jitter: Option<(Delay, Delay)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backoff {
    Constant,
    Linear,
    Exponential,
}

/// Where a `try` is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Progress {
    /// The block runs, after this many retries.
    Trying { retries: u32, first_fault_ms: Option<i64> },
    /// A pause before the next attempt.
    Pausing { retries: u32, first_fault_ms: Option<i64> },
    /// `catch.do` runs.
    Handling,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, place: &Place) -> Option<Box<dyn Kind>> {
    let block = fields
        .need("try", builder)
        .map(|tasks| builder.block(tasks, &fields.at("try"), &format!("{}/try", place.pointer), false));
    let mut catch = fields.need_object("catch", builder)?;
    let filter = catch.object("errors", builder).and_then(|mut errors| {
        let filter = errors.object("with", builder).map(|with| read_filter(builder, with));
        errors.close(builder);
        filter
    });
    let variable = for_each::variable(builder, &mut catch, "as", ERROR_DEFAULT);
    builder.scope.push(variable.clone());
    let when = catch.expression("when", builder);
    let except_when = catch.expression("exceptWhen", builder);
    let retry = catch.get("retry").and_then(|value| retry_reference(builder, value, &catch.at("retry")));
    let handler = catch
        .get("do")
        .map(|tasks| builder.block(tasks, &catch.at("do"), &format!("{}/catch/do", place.pointer), false));
    builder.scope.pop();
    let then = catch.text("then", builder).map(|text| place.then(builder, text, &catch.at("then")));
    catch.close(builder);
    Some(Box::new(TryCatch { block: block?, filter, variable, when, except_when, retry, handler, then }))
}

fn read_filter(builder: &mut Builder, mut fields: Fields<'_>) -> Filter {
    let mut text = |fields: &mut Fields<'_>, name| fields.text(name, builder).map(str::to_owned);
    let mut filter = Filter {
        kind: text(&mut fields, "type"),
        instance: text(&mut fields, "instance"),
        title: text(&mut fields, "title"),
        ..Filter::default()
    };
    // The language renamed `details` to `detail` after 1.0.3.
    filter.detail = text(&mut fields, "detail").or_else(|| text(&mut fields, "details"));
    fields.get("details");
    filter.status =
        fields.integer("status", 0, i64::from(u16::MAX), builder).and_then(|status| u16::try_from(status).ok());
    fields.close(builder);
    filter
}

fn retry_reference(builder: &mut Builder, value: &Value, path: &str) -> Option<Arc<Retry>> {
    let Value::String(name) = value else { return read_retry(builder, value, path) };
    let found = builder.reusable.retries.get(name).cloned();
    if found.is_none() {
        let known = quoted(builder.reusable.retries.keys().map(String::as_str));
        builder.violate(
            path,
            format!("no retry policy named '{}' in use.retries; policies there are {known}", shown(name)),
        );
    }
    found.flatten()
}

/// Reads a retry policy.
pub(crate) fn read_retry(builder: &mut Builder, value: &Value, path: &str) -> Option<Arc<Retry>> {
    let mut fields = Fields::open(value, path, builder)?;
    let (when, except_when) = (fields.expression("when", builder), fields.expression("exceptWhen", builder));
    let delay = fields.duration("delay", builder);
    let backoff = fields.object("backoff", builder).map_or(Backoff::Constant, |backoff| read_backoff(builder, backoff));
    let (mut attempts, mut attempt_duration, mut duration) = (None, None, None);
    if let Some(mut limit) = fields.object("limit", builder) {
        if let Some(mut attempt) = limit.object("attempt", builder) {
            attempts =
                attempt.integer("count", 0, i64::from(u32::MAX), builder).and_then(|count| u32::try_from(count).ok());
            attempt_duration = attempt.duration("duration", builder);
            attempt.close(builder);
        }
        duration = limit.duration("duration", builder);
        limit.close(builder);
    }
    let jitter = fields.object("jitter", builder).and_then(|mut jitter| {
        jitter.need("from", builder);
        jitter.need("to", builder);
        let range = (jitter.duration("from", builder), jitter.duration("to", builder));
        jitter.close(builder);
        range.0.zip(range.1)
    });
    fields.close(builder);
    Some(Arc::new(Retry { when, except_when, delay, backoff, attempts, attempt_duration, duration, jitter }))
}

fn read_backoff(builder: &mut Builder, mut fields: Fields<'_>) -> Backoff {
    let mut found = Vec::new();
    for (name, backoff) in
        [("constant", Backoff::Constant), ("linear", Backoff::Linear), ("exponential", Backoff::Exponential)]
    {
        if let Some(definition) = fields.object(name, builder) {
            definition.close(builder);
            found.push(backoff);
        }
    }
    if found.len() != 1 {
        builder.violate(&fields.path, "must have exactly one of 'constant', 'linear' and 'exponential'");
    }
    fields.close(builder);
    found.first().copied().unwrap_or(Backoff::Constant)
}

impl Filter {
    fn matches(&self, fault: &Fault) -> bool {
        let same =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        self.kind.as_deref().is_none_or(|wanted| error_type(wanted) == error_type(&fault.kind))
            && self.status.is_none_or(|wanted| fault.status == wanted)
            && same(&self.instance, fault.instance.as_deref())
            && same(&self.title, fault.title.as_deref())
            && same(&self.detail, fault.detail.as_deref())
    }
}

/// A type of error without the domain under which the language was published at the time.
///
/// The specification moved from one domain to another, and its conformance kit names the standard types by a second
/// path; all of them mean the same error.
fn error_type(uri: &str) -> (&str, &str) {
    for domain in ["https://serverlessworkflow.io/", "https://open-workflow-specification.org/"] {
        if let Some(path) = uri.strip_prefix(domain) {
            return ["spec/1.0.0/errors/", "dsl/errors/types/"]
                .iter()
                .find_map(|folder| path.strip_prefix(folder))
                .map_or(("language", path), |name| ("standard", name));
        }
    }
    ("other", uri)
}

impl TryCatch {
    fn attempt(&self, run: &mut Run, frame: FrameId, retries: u32, first_fault_ms: Option<i64>) -> Result<Step, Fault> {
        let input = run.input(frame);
        run.set_state(frame, State::Try(Progress::Trying { retries, first_fault_ms }));
        if let Some(limit) = self.retry.as_ref().and_then(|retry| retry.attempt_duration.as_ref()) {
            let millis = run.delay(frame, limit, &input)?;
            let due = run.after(millis);
            run.start_timer(frame, Purpose::Attempt, due);
        }
        run.start_block(frame, self.block, 0, "/try", input);
        Ok(Step::Wait)
    }

    fn caught(&self, run: &mut Run, frame: FrameId, fault: Fault) -> Result<Step, Fault> {
        let State::Try(Progress::Trying { retries, first_fault_ms }) = *run.state(frame) else { return Err(fault) };
        run.cancel_timer(frame, Purpose::Attempt);
        if self.filter.as_ref().is_some_and(|filter| !filter.matches(&fault)) {
            return Err(fault);
        }
        let input = run.input(frame);
        let error = Data::new(serde_json::to_value(&fault).unwrap_or_default());
        run.set_variable(frame, ERROR_DEFAULT, error.clone());
        run.set_variable(frame, &self.variable, error);
        if !holds(run, frame, &input, self.when.as_ref(), self.except_when.as_ref())? {
            return Err(fault);
        }
        let first_fault_ms = Some(first_fault_ms.unwrap_or_else(|| run.now_ms()));
        if let Some(policy) = &self.retry
            && let Some(delay_ms) = policy.next(run, frame, &fault, retries, first_fault_ms)?
        {
            return self.pause(run, frame, retries + 1, first_fault_ms, delay_ms);
        }
        match self.handler {
            Some(handler) => {
                run.set_state(frame, State::Try(Progress::Handling));
                run.start_block(frame, handler, 0, "/catch/do", input);
                Ok(Step::Wait)
            }
            None if self.retry.is_some() => Err(fault),
            None => Ok(self.handled(input)),
        }
    }

    fn pause(
        &self,
        run: &mut Run,
        frame: FrameId,
        retries: u32,
        first_fault_ms: Option<i64>,
        delay_ms: u64,
    ) -> Result<Step, Fault> {
        run.clear_variables(frame);
        let position = run.position(frame);
        run.emit(Command::Note(Note::TaskRetried { position, attempt: retries + 1, delay_ms }));
        if delay_ms == 0 {
            return self.attempt(run, frame, retries, first_fault_ms);
        }
        run.set_state(frame, State::Try(Progress::Pausing { retries, first_fault_ms }));
        let due = run.after(delay_ms);
        run.start_timer(frame, Purpose::Retry, due);
        run.open(
            frame,
            Opening {
                reason: WaitReason::Timer,
                on: format!("retry {retries}"),
                until_ms: Some(due),
                activity: false,
                wait: false,
            },
        );
        Ok(Step::Wait)
    }

    fn handled(&self, output: Data) -> Step {
        match self.then {
            Some(then) => Step::DoneThen(output, then),
            None => Step::Done(output),
        }
    }
}

impl Kind for TryCatch {
    fn label(&self) -> &'static str {
        "try"
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        self.attempt(run, frame, 0, None)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        match event {
            Event::BlockFaulted { fault, .. } => self.caught(run, frame, fault),
            Event::BlockEnded { output, .. } => match run.state(frame) {
                State::Try(Progress::Handling) => Ok(self.handled(output)),
                _ => Ok(Step::Done(output)),
            },
            Event::TimerFired(Purpose::Retry) => {
                let State::Try(Progress::Pausing { retries, first_fault_ms }) = *run.state(frame) else {
                    return Ok(Step::Wait);
                };
                run.shut(frame);
                self.attempt(run, frame, retries, first_fault_ms)
            }
            Event::TimerFired(Purpose::Attempt) => {
                run.cancel_children(frame);
                let fault =
                    Fault::new(fault_type::TIMEOUT, 408, "the attempt took longer than 'retry.limit.attempt.duration'");
                let position = run.position(frame);
                self.caught(run, frame, fault.at(&position))
            }
            other => other.into_fault(),
        }
    }
}

impl Retry {
    /// Milliseconds until the next attempt, or `None` if there is none.
    fn next(
        &self,
        run: &Run,
        frame: FrameId,
        fault: &Fault,
        retries: u32,
        first_fault_ms: Option<i64>,
    ) -> Result<Option<u64>, Fault> {
        let input = run.input(frame);
        let unlimited = self.attempts.is_none() && self.duration.is_none();
        let count_max = if unlimited { DEFAULT_RETRIES } else { self.attempts.unwrap_or(u32::MAX) };
        if fault.non_retryable
            || retries >= count_max
            || !holds(run, frame, &input, self.when.as_ref(), self.except_when.as_ref())?
        {
            return Ok(None);
        }
        let base = self.delay.as_ref().map_or(Ok(0), |delay| run.delay(frame, delay, &input))?;
        let factor = match self.backoff {
            Backoff::Constant => 1,
            Backoff::Linear => u64::from(retries) + 1,
            Backoff::Exponential => 1_u64.checked_shl(retries).unwrap_or(u64::MAX),
        };
        let mut delay_ms = base.saturating_mul(factor).min(DURATION_MS_MAX);
        if let Some((from, to)) = &self.jitter {
            let (from, to) = (run.delay(frame, from, &input)?, run.delay(frame, to, &input)?);
            let spread = to.saturating_sub(from).saturating_add(1);
            delay_ms =
                delay_ms.saturating_add(from).saturating_add(run.scatter(frame, retries) % spread).min(DURATION_MS_MAX);
        }
        if let Some(limit) = &self.duration {
            let spent = run.now_ms().saturating_sub(first_fault_ms.unwrap_or_else(|| run.now_ms()));
            let total = u64::try_from(spent).unwrap_or(0).saturating_add(delay_ms);
            if total > run.delay(frame, limit, &input)? {
                return Ok(None);
            }
        }
        Ok(Some(delay_ms))
    }
}

fn holds(
    run: &Run,
    frame: FrameId,
    input: &Value,
    when: Option<&Expression>,
    except_when: Option<&Expression>,
) -> Result<bool, Fault> {
    if let Some(when) = when
        && !run.test(frame, when, input)?
    {
        return Ok(false);
    }
    match except_when {
        Some(except_when) => Ok(!run.test(frame, except_when, input)?),
        None => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_types_are_the_same_under_every_name_that_the_language_had() {
        let names = [
            fault_type::COMMUNICATION,
            "https://open-workflow-specification.org/spec/1.0.0/errors/communication",
            "https://serverlessworkflow.io/dsl/errors/types/communication",
            "https://open-workflow-specification.org/dsl/errors/types/communication",
        ];
        for name in names {
            assert_eq!(error_type(name), error_type(fault_type::COMMUNICATION), "{name}");
        }
        assert_ne!(error_type(fault_type::TIMEOUT), error_type(fault_type::COMMUNICATION));
        assert_ne!(
            error_type("https://example.com/spec/1.0.0/errors/communication"),
            error_type(fault_type::COMMUNICATION)
        );
    }
}
