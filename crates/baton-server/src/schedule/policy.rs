//! What `spec` of a workflow says about the executions that its schedule starts.
//!
//! Admission reads it to find what is wrong, the scheduler to do what it says.

use baton_proto::v1::WorkflowSpec;
use baton_types::{Violation, parse_duration};
use jiff::tz::TimeZone;

use crate::app::shortened;

/// Ended executions that a limit of history may keep at most: they are counted in the row of the schedule.
const HISTORY_LIMIT_MAX: i32 = 100;

/// What happens when an execution is due while another one runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Concurrency {
    #[default]
    Allow,
    Forbid,
    Replace,
}

/// What becomes of times that passed while nobody kept the schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Missed {
    Skip,
    #[default]
    One,
    All,
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) suspend: bool,
    pub(crate) concurrency: Concurrency,
    pub(crate) missed: Missed,
    /// How late an execution may still start.
    pub(crate) deadline_ms: Option<i64>,
    pub(crate) zone: TimeZone,
    /// How many that completed are kept.
    pub(crate) successful_limit: Option<usize>,
    /// How many that ended otherwise are kept.
    pub(crate) failed_limit: Option<usize>,
}

impl Policy {
    /// Reads a spec and notes what is wrong with it.
    pub(crate) fn read(spec: &WorkflowSpec, violations: &mut Vec<Violation>) -> Self {
        let concurrency = word(
            "spec.concurrencyPolicy",
            &spec.concurrency_policy,
            [("Allow", Concurrency::Allow), ("Forbid", Concurrency::Forbid), ("Replace", Concurrency::Replace)],
            violations,
        );
        let missed = word(
            "spec.missedRuns",
            &spec.missed_runs,
            [("Skip", Missed::Skip), ("One", Missed::One), ("All", Missed::All)],
            violations,
        );
        Self {
            suspend: spec.suspend,
            concurrency,
            missed,
            deadline_ms: deadline(&spec.starting_deadline, violations),
            zone: zone(&spec.time_zone, violations),
            successful_limit: limit("spec.successfulHistoryLimit", spec.successful_history_limit, violations),
            failed_limit: limit("spec.failedHistoryLimit", spec.failed_history_limit, violations),
        }
    }
}

fn word<T: Copy + Default>(
    field: &str,
    text: &str,
    allowed: [(&'static str, T); 3],
    violations: &mut Vec<Violation>,
) -> T {
    if text.is_empty() {
        return T::default();
    }
    if let Some((_, value)) = allowed.iter().find(|(word, _)| *word == text) {
        return *value;
    }
    let [first, second, third] = allowed.map(|(word, _)| word);
    let message = format!("is '{}', allowed are '{first}', '{second}' and '{third}'", shortened(text));
    violations.push(Violation::new(field, message));
    T::default()
}

fn deadline(text: &str, violations: &mut Vec<Violation>) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    match parse_duration(text) {
        Ok(span) if span.is_zero() => {
            violations.push(Violation::new("spec.startingDeadline", format!("is '{text}'; it must be more than 0")));
            None
        }
        Ok(span) => i64::try_from(span.as_millis()).ok(),
        Err(message) => {
            violations.push(Violation::new("spec.startingDeadline", message));
            None
        }
    }
}

fn zone(name: &str, violations: &mut Vec<Violation>) -> TimeZone {
    if name.is_empty() {
        return TimeZone::UTC;
    }
    TimeZone::get(name).unwrap_or_else(|_| {
        let message =
            format!("'{}' is not a time zone; allowed are names of IANA such as 'Europe/Berlin'", shortened(name));
        violations.push(Violation::new("spec.timeZone", message));
        TimeZone::UTC
    })
}

fn limit(field: &str, limit: Option<i32>, violations: &mut Vec<Violation>) -> Option<usize> {
    let limit = limit?;
    if !(0..=HISTORY_LIMIT_MAX).contains(&limit) {
        violations.push(Violation::new(field, format!("is {limit}, allowed are 0 to {HISTORY_LIMIT_MAX}")));
    }
    usize::try_from(limit).ok()
}
