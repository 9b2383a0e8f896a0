//! The activity `subscribe`: has the holder of a callback token told of events of the execution's namespace.
//!
//! Input: a [`Subscription`] in JSON. Returns `null` once the subscription is kept; the events come as the answer to the token.

use std::sync::Arc;

use baton_execution::{ActivityTask, Fault, fault_type};
use serde::Deserialize as _;
use serde_json::Value;

use crate::{
    Activity,
    home::{Home, Subscription},
    patience::patiently,
};

pub(crate) struct Subscribe {
    home: Arc<dyn Home>,
}

impl Subscribe {
    pub(crate) fn new(home: &Arc<dyn Home>) -> Self {
        Self { home: Arc::clone(home) }
    }
}

#[async_trait::async_trait]
impl Activity for Subscribe {
    fn is_kept(&self) -> bool {
        true
    }

    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let subscription = Subscription::deserialize(&task.input).map_err(|error| {
            let detail = format!("the input of the activity 'subscribe' cannot be used: {error}");
            Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
        })?;
        patiently(task, || self.home.subscribe(&task.namespace, subscription.clone())).await?;
        Ok(Value::Null)
    }
}
