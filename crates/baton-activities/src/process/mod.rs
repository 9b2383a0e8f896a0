//! What the activities `shell`, `script` and `container` have in common (`command`, the one of agents, has its own words): what a process is given, and what it returns.
//!
//! Input, beside what is each one's own: `arguments` (a list), `environment` (an object), `stdin`, `return` and `await`.
//! Texts are taken as they are, other values as JSON; of the environment, what is null is left out.
//!
//! `return` is `stdout` or `stderr`, the text that the process wrote there; `code`, the exit code; `all`,
//! `{"code", "stdout", "stderr"}`; `none`, null. Where the output does not hold the exit code, one that is not 0 is a fault
//! of type runtime with `{"code", "stderr"}` as its data.
//!
//! With `await: false` the activity returns null as soon as the process runs; the process ends with the time of its task, or with the server.

pub(crate) mod command;
pub(crate) mod container;
mod javascript;
pub(crate) mod script;
pub(crate) mod shell;

use std::{collections::BTreeMap, time::Duration};

use baton_execution::{ActivityTask, Fault, fault_type};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    sandbox::{Finished, Job, Sandbox},
    secrets::Vault,
};

/// How much of what a process complained of is told with its fault, in characters.
const COMPLAINT_LENGTH_MAX: usize = 4096;

/// What every process is given.
#[derive(Deserialize)]
pub(crate) struct Given {
    #[serde(default)]
    arguments: Option<Vec<Value>>,
    #[serde(default)]
    environment: Option<Map<String, Value>>,
    #[serde(default)]
    stdin: Value,
    #[serde(default, rename = "return")]
    pub(crate) result: Returned,
    #[serde(default = "yes", rename = "await")]
    pub(crate) awaited: bool,
}

const fn yes() -> bool {
    true
}

/// What a process returns.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Returned {
    #[default]
    Stdout,
    Stderr,
    Code,
    All,
    None,
}

impl Given {
    pub(crate) fn arguments(&self) -> Vec<String> {
        self.arguments.iter().flatten().map(text_of).collect()
    }

    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let given = self.environment.iter().flatten().filter(|(_, value)| !value.is_null());
        given.map(|(name, value)| (name.clone(), text_of(value))).collect()
    }

    pub(crate) fn stdin(&self) -> Vec<u8> {
        if self.stdin.is_null() { Vec::new() } else { text_of(&self.stdin).into_bytes() }
    }
}

/// Reads the input of an activity.
pub(crate) fn read<'a, T: Deserialize<'a>>(task: &'a ActivityTask) -> Result<T, Fault> {
    T::deserialize(&task.input).map_err(|error| {
        let detail = format!("the input of the activity '{}' cannot be used: {error}", task.activity);
        Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
    })
}

/// A string as it is, anything else as JSON.
pub(crate) fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Returned {
    /// The output of a process that ended.
    pub(crate) fn output(self, finished: &Finished) -> Result<Value, Fault> {
        let Finished { code, stdout, stderr } = finished;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Self::Code => return Ok(Value::from(*code)),
            Self::All => return Ok(json!({"code": code, "stdout": text(stdout), "stderr": text(stderr)})),
            Self::Stdout | Self::Stderr | Self::None if *code != 0 => return Err(failed(*code, &text(stderr))),
            Self::Stdout => return Ok(Value::from(text(stdout))),
            Self::Stderr => return Ok(Value::from(text(stderr))),
            Self::None => {}
        }
        Ok(Value::Null)
    }
}

fn failed(code: i32, complaint: &str) -> Fault {
    // Before it is cut.
    let complaint = Vault::redact(complaint);
    let skipped = complaint.chars().count().saturating_sub(COMPLAINT_LENGTH_MAX);
    let told: String = complaint.chars().skip(skipped).collect();
    let last = told.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
    let said = if last.is_empty() { last } else { format!(": {last}") };
    Fault::new(fault_type::RUNTIME, 500, format!("the process ended with the exit code {code}{said}"))
        .with_data(json!({"code": code, "stderr": told}))
}

/// Runs a command for a task, awaited or not.
pub(crate) async fn run(sandbox: &Sandbox, job: Job, given: &Given, task: &ActivityTask) -> Result<Value, Fault> {
    let stdin = given.stdin();
    if given.awaited {
        let finished = sandbox.run(job, stdin).await.map_err(|error| error.fault())?;
        return given.result.output(&finished);
    }
    let running = sandbox.spawn(job).await.map_err(|error| error.fault())?;
    let bytes_max = sandbox.options().output_bytes_max;
    in_background(task, async move { running.finish(stdin, bytes_max).await.map_err(|error| error.fault()) });
    Ok(Value::Null)
}

/// Lets a process go on that nobody waits for, within the time of its task.
pub(crate) fn in_background(task: &ActivityTask, work: impl Future<Output = Result<Finished, Fault>> + Send + 'static) {
    let (execution, position) = (task.execution, task.id.position.clone());
    let limit = Duration::from_millis(task.start_to_close_ms);
    let work = Vault::outliving(work);
    tokio::spawn(async move {
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(finished)) if finished.code == 0 => {}
            Ok(Ok(finished)) => {
                tracing::info!(execution_id = %execution, position, code = finished.code, "a process that nobody waits for failed");
            }
            Ok(Err(fault)) => {
                tracing::info!(execution_id = %execution, position, %fault, "a process that nobody waits for was ended");
            }
            Err(_elapsed) => {
                tracing::info!(execution_id = %execution, position, "a process that nobody waits for took too long and was ended");
            }
        }
    });
}
