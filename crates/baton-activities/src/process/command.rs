//! The activity `command`: a program with arguments, as agents run it. No shell, and never without a sandbox.
//!
//! Input: `program`, `arguments` (texts), `environment` (texts by name), `stdin` (a text, or null), `network`, `output`
//! (`text`, `json`) and `limits` (`memoryBytes`, `cpuSeconds`, `outputBytes`; what is absent is what the installation allows).
//!
//! Output: `{"exitCode", "stdout", "stderr"}`. The exit code says what the program says: one that is not 0 is no fault. With
//! `output: json`, what is JSON on the standard output of a program that succeeded is given as that. Of output beyond the limit, the
//! beginning is given, and `stdoutBytesLeftOut` and `stderrBytesLeftOut` say how much is not.

use std::collections::BTreeMap;

use baton_agent::{DATA_DEPTH_MAX, is_deeper_than};
use baton_execution::{ActivityTask, Fault};
use serde::Deserialize;
use serde_json::{Value, json};

use super::read;
use crate::{
    Activity,
    sandbox::{Bounds, Finished, Job, Sandbox},
};

pub(crate) struct Command {
    sandbox: Sandbox,
}

#[derive(Deserialize)]
struct Input {
    program: String,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    stdin: Option<String>,
    #[serde(default)]
    network: bool,
    #[serde(default)]
    output: Output,
    #[serde(default)]
    limits: Limits,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    memory_bytes: Option<u64>,
    cpu_seconds: Option<u64>,
    output_bytes: Option<usize>,
}

impl Command {
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        Self { sandbox: sandbox.clone() }
    }
}

#[async_trait::async_trait]
impl Activity for Command {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let Input { program, arguments, environment, stdin, network, output, limits } = read(task)?;
        let bounds = Bounds {
            sandboxed: true,
            network: Some(network),
            memory_bytes_max: limits.memory_bytes,
            cpu_seconds_max: limits.cpu_seconds,
        };
        let job = Job { program, arguments, environment, files: Vec::new(), bounds };
        let all = self.sandbox.options().output_bytes_max;
        let bytes_max = limits.output_bytes.map_or(all, |own| own.min(all));
        let running = self.sandbox.spawn(job).await.map_err(|error| error.fault())?;
        let ended = running.finish_cut(stdin.unwrap_or_default().into_bytes(), bytes_max).await;
        let (finished, left_out) = ended.map_err(|error| error.fault())?;
        Ok(result(&finished, left_out, output))
    }
}

fn result(finished: &Finished, left_out: [u64; 2], output: Output) -> Value {
    let parsed = (output == Output::Json && finished.code == 0 && left_out[0] == 0)
        .then(|| serde_json::from_slice::<Value>(&finished.stdout).ok())
        .flatten()
        .filter(|value| !is_deeper_than(value, DATA_DEPTH_MAX - 1));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stdout = parsed.unwrap_or_else(|| text(&finished.stdout).into());
    let mut result = json!({"exitCode": finished.code, "stdout": stdout, "stderr": text(&finished.stderr)});
    for (name, bytes) in ["stdoutBytesLeftOut", "stderrBytesLeftOut"].into_iter().zip(left_out) {
        if bytes > 0 {
            result[name] = bytes.into();
        }
    }
    result
}
