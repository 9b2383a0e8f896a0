//! The activity `echo`: gives back its input. For trying things out and for measuring what an engine costs.

use baton_execution::{ActivityTask, Fault};
use serde_json::Value;

use crate::Activity;

pub(crate) struct Echo;

#[async_trait::async_trait]
impl Activity for Echo {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        Ok(task.input.clone())
    }
}
