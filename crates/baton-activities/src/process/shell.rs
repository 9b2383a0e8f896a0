//! The activity `shell`: a command of `/bin/sh`, in the sandbox.
//!
//! Input: `command`, the text of a script; its `arguments` are `$1`, `$2` and so on. The rest is in [`process`](super).

use baton_execution::{ActivityTask, Fault};
use serde::Deserialize;
use serde_json::Value;

use super::{Given, read, run, text_of};
use crate::{
    Activity,
    sandbox::{Job, Sandbox},
};

pub(crate) struct Shell {
    sandbox: Sandbox,
}

#[derive(Deserialize)]
struct Input {
    command: Value,
    #[serde(flatten)]
    given: Given,
}

impl Shell {
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        Self { sandbox: sandbox.clone() }
    }
}

#[async_trait::async_trait]
impl Activity for Shell {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let Input { command, given } = read(task)?;
        let head = ["-c".to_owned(), text_of(&command), "sh".to_owned()];
        let job = Job {
            program: "/bin/sh".to_owned(),
            arguments: head.into_iter().chain(given.arguments()).collect(),
            environment: given.environment(),
            ..Job::default()
        };
        run(&self.sandbox, job, &given, task).await
    }

    async fn sweep(&self) {
        self.sandbox.sweep().await;
    }
}
