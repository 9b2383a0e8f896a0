//! One case: rehearsed, and compared with what is expected.

use std::{collections::BTreeSet, time::Duration};

use baton_server::rehearsal::{APPROVAL, Call, Ending, Rehearsal, Stop, TaskRun, TaskState, contains};
use baton_types::{format_duration, parse_duration};
use serde_json::{Value, json};

use super::{
    file::{Case, Expect, ExpectedCall},
    subject::Subject,
};
use crate::output;

/// Characters of a value that a message shows on one line; longer ones are shown as YAML.
const LINE_MAX: usize = 90;

/// What became of a case.
pub(crate) struct CaseResult {
    pub(crate) name: String,
    /// What was not as expected; none: it passed. Each is one or more lines.
    pub(crate) failures: Vec<String>,
    pub(crate) rehearsal: Rehearsal,
    /// Which parts of the workflow or agent ran.
    pub(crate) covered: BTreeSet<String>,
}

/// Rehearses a case.
pub(crate) fn play(subject: &Subject, case: &Case) -> CaseResult {
    let rehearsal = subject.rehearse(case);
    let covered = subject.covered(&rehearsal);
    let mut failures = Vec::new();
    match &rehearsal.result {
        Ok(ending) => ending_failures(&case.expect, ending, &mut failures),
        Err(stop) => failures.push(stopped(stop, &rehearsal.calls)),
    }
    if rehearsal.result.is_ok() {
        for unused in &rehearsal.unused {
            failures.push(match unused.checked_sub(case.calls) {
                None => format!("calls[{unused}]: nothing called it"),
                Some(unused) => format!("approvals[{unused}]: nobody was asked"),
            });
        }
        order_failures(&case.expect, &rehearsal, &mut failures);
    }
    CaseResult { name: case.name.clone(), failures, rehearsal, covered }
}

fn ending_failures(expect: &Expect, ending: &Ending, failures: &mut Vec<String>) {
    let word = word(ending);
    let fault = match ending {
        Ending::Failed { fault, .. } => serde_json::to_value(fault).unwrap_or_default(),
        Ending::Completed { .. } | Ending::Cancelled { .. } | Ending::TimedOut { .. } => Value::Null,
    };
    // Who says nothing expects that it goes well.
    let wanted = match (&expect.ended, &expect.fault) {
        (Some(ended), _) => ended.as_str(),
        (None, Some(_)) => "Failed",
        (None, None) => "Completed",
    };
    if wanted != word {
        let why = match ending {
            Ending::Completed { output } => format!(", with the output {}", shown(output)),
            Ending::Failed { .. } => format!(", with the fault {}", shown(&fault)),
            Ending::Cancelled { reason, .. } => format!(": {reason}"),
            Ending::TimedOut { .. } => String::new(),
        };
        failures.push(format!("expect.ended: it ended as {word}, not as {wanted}{why}"));
        return;
    }
    if let Some(wanted) = &expect.fault
        && !contains(&fault, wanted)
    {
        failures.push(differs("expect.fault", wanted, &fault));
    }
    let Ending::Completed { output } = ending else { return };
    if let Some(wanted) = &expect.output
        && !(contains(output, wanted) && contains(wanted, output))
    {
        failures.push(differs("expect.output", wanted, output));
    }
    if let Some(wanted) = &expect.output_contains
        && !contains(output, wanted)
    {
        failures.push(differs("expect.outputContains", wanted, output));
    }
}

/// How it ended, as phases are called.
pub(super) fn word(ending: &Ending) -> &'static str {
    match ending {
        Ending::Completed { .. } => "Completed",
        Ending::Failed { .. } => "Failed",
        Ending::Cancelled { .. } => "Cancelled",
        Ending::TimedOut { .. } => "TimedOut",
    }
}

fn differs(what: &str, wanted: &Value, found: &Value) -> String {
    format!("{what} differs\nexpected: {}\nfound: {}", shown(wanted), shown(found))
}

fn order_failures(expect: &Expect, rehearsal: &Rehearsal, failures: &mut Vec<String>) {
    let mut tasks = rehearsal.tasks.iter();
    for (index, wanted) in expect.tasks.iter().enumerate() {
        let (name, state) = match wanted {
            Value::Object(fields) => fields
                .iter()
                .next()
                .map_or((String::new(), None), |(name, state)| (name.clone(), state.as_str().map(str::to_owned))),
            other => (other.as_str().map_or_else(|| other.to_string(), str::to_owned), None),
        };
        if !tasks.any(|task| is_named(task, &name) && is_in(task, state.as_deref())) {
            let ran = rehearsal.tasks.iter().map(told).collect::<Vec<_>>().join(", ");
            let wanted = state.map(|state| format!(" as {state}")).unwrap_or_default();
            failures.push(format!("expect.tasks[{index}]: '{name}' did not run{wanted} there; what ran: {ran}"));
            break;
        }
    }
    for name in &expect.never {
        if rehearsal.tasks.iter().any(|task| task.state != TaskState::Skipped && is_named(task, name)) {
            failures.push(format!("expect.never: '{name}' ran"));
        }
    }
    let mut calls = rehearsal.calls.iter();
    for (index, wanted) in expect.calls.iter().enumerate() {
        if !calls.any(|call| is_call(call, wanted)) {
            let made: Vec<String> = rehearsal.calls.iter().map(call_told).collect();
            let made = if made.is_empty() { "none".to_owned() } else { made.join("\n  ") };
            failures.push(format!("expect.calls[{index}]: there was no such call; calls were\n  {made}"));
            break;
        }
    }
    if let Some(Ok(wanted)) = expect.elapsed.as_deref().map(parse_duration) {
        let found = Duration::from_millis(rehearsal.elapsed_ms);
        if wanted != found {
            failures.push(format!(
                "expect.elapsed: {} have passed, not {}",
                format_duration(found),
                format_duration(wanted)
            ));
        }
    }
}

fn is_named(task: &TaskRun, name: &str) -> bool {
    task.name == name || task.position == name
}

fn is_in(task: &TaskRun, state: Option<&str>) -> bool {
    match state {
        Some(state) => task.state.as_str().eq_ignore_ascii_case(state),
        None => task.state != TaskState::Skipped,
    }
}

fn is_call(call: &Call, wanted: &ExpectedCall) -> bool {
    let named = |name: &str| call.task == name || call.position == name;
    match wanted {
        ExpectedCall::Task(name) => named(name),
        ExpectedCall::Call { task, activity, input } => {
            task.as_deref().is_none_or(named)
                && activity.as_ref().is_none_or(|activity| *activity == call.activity)
                && input.as_ref().is_none_or(|wanted| contains(&call.input, wanted))
        }
    }
}

fn told(task: &TaskRun) -> String {
    match task.state {
        TaskState::Completed => task.name.clone(),
        other => format!("{} ({})", task.name, other.as_str()),
    }
}

fn call_told(call: &Call) -> String {
    format!("{} ({}): {}", call.task, call.activity, shown(&without_nothing(&call.input)))
}

/// Why a rehearsal did not come to its end.
fn stopped(stop: &Stop, calls: &[Call]) -> String {
    match stop {
        Stop::Unanswered(places) => {
            let calls = places.iter().filter_map(|place| calls.get(*place));
            calls.map(unanswered).collect::<Vec<_>>().join("\n")
        }
        Stop::Stuck(waiting) => {
            format!("it waits for what does not come: {}; add it to 'events' or 'calls'", waiting.join(", "))
        }
        Stop::Endless => "it does not end; a loop goes on and on".to_owned(),
        Stop::Broken(error) => format!("the interpreter met something that cannot be: {error}"),
    }
}

/// The call, and an answer to be put into the file.
fn unanswered(call: &Call) -> String {
    if call.activity == APPROVAL {
        let tool = &call.input["tool"];
        let answer = json!([{"tool": tool, "match": call.input["arguments"], "choice": "approve"}]);
        let answer = indented(&answer);
        return format!("nobody decides on the call of {tool}; put a decision into 'approvals', such as\n{answer}");
    }
    let answer = json!([{"task": call.task, "match": without_nothing(&call.input), "returns": null}]);
    let answer = indented(&answer);
    let again = if call.attempt > 1 { format!(", attempt {}", call.attempt) } else { String::new() };
    format!(
        "no answer for the call '{}' of task '{}' ({}{again}); put one into 'calls', such as\n{}",
        call.activity, call.task, call.position, answer
    )
}

/// Without what says nothing: `null`, `{}` and `[]` in objects.
fn without_nothing(value: &Value) -> Value {
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, field)| (name.clone(), without_nothing(field)));
            Value::Object(fields.filter(|(_, field)| !says_nothing(field)).collect())
        }
        other => other.clone(),
    }
}

/// A value for a message.
fn shown(value: &Value) -> String {
    let line = value.to_string();
    if line.chars().count() <= LINE_MAX {
        return line;
    }
    format!("\n{}", indented(value))
}

fn indented(value: &Value) -> String {
    output::yaml(value).lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
