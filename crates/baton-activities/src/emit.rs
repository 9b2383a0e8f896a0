//! The activity `emit`: publishes a CloudEvent in the execution's namespace.
//!
//! Input: `{"event": {…}}`, an event in the JSON format of CloudEvents 1.0. Where it has no `source` that is the path of the
//! execution in the API, and where it has no `id` the idempotency key: an activity that is repeated publishes the same event.
//! Returns the event as it was published.

use std::sync::Arc;

use baton_execution::{ActivityTask, Fault, fault_type};
use serde_json::Value;

use crate::{Activity, home::Home, patience::patiently};

pub(crate) struct Emit {
    home: Arc<dyn Home>,
}

impl Emit {
    pub(crate) fn new(home: &Arc<dyn Home>) -> Self {
        Self { home: Arc::clone(home) }
    }
}

#[async_trait::async_trait]
impl Activity for Emit {
    fn is_kept(&self) -> bool {
        true
    }

    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let Some(Value::Object(mut event)) = task.input.get("event").cloned() else {
            let detail = "the input of the activity 'emit' has no object 'event'";
            return Err(Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable());
        };
        event.entry("source").or_insert_with(|| {
            format!("/apis/baton.dev/v1/namespaces/{}/workflowexecutions/{}", task.namespace, task.name).into()
        });
        event.entry("id").or_insert_with(|| task.idempotency_key.clone().into());
        let event = Value::Object(event);
        patiently(task, || self.home.publish(&task.namespace, event.clone())).await?;
        Ok(event)
    }
}
