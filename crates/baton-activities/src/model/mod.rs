//! The activity `model`: one question to a model, over whichever provider can answer it.
//!
//! Which provider: `playback` always plays its script. `openai` asks the base URL of the spec, else of the
//! server; where there is neither, a script in the spec stands in, and without one the call fails saying
//! what to configure. The response names the provider that answered, so a script never passes for a model.
//!
//! # Invariants
//! - The arguments of a call are nested on at most [`DATA_DEPTH_MAX`] levels: what is deeper could be recorded and not be
//!   read again.

mod openai;
mod playback;

use std::sync::Arc;

use baton_agent::{DATA_DEPTH_MAX, ModelRequest, ModelResponse, Provider, is_deeper_than};
use baton_execution::{ActivityTask, Fault, fault_type};
use serde::Deserialize as _;
use serde_json::Value;

use crate::{
    Activity,
    options::{ActivitiesError, ActivitiesOptions},
    outgoing::{Deadline, Outgoing},
};

/// Answers for models.
#[async_trait::async_trait]
pub(crate) trait ModelProvider: Send + Sync {
    /// Whether it can answer this request at all, as configured.
    fn can_answer(&self, request: &ModelRequest) -> bool;

    /// Asks the model.
    /// The fault is what went wrong after any repetition that could help; it never holds a key.
    async fn answer(&self, request: &ModelRequest, call: &ModelCall) -> Result<ModelResponse, Fault>;
}

/// What a provider may know of the call beside the request.
pub(crate) struct ModelCall {
    /// The same whenever this call is repeated.
    pub(crate) idempotency_key: String,
    pub(crate) deadline: Deadline,
}

pub(crate) struct Model {
    openai: Box<dyn ModelProvider>,
    playback: Box<dyn ModelProvider>,
}

impl Model {
    pub(crate) fn new(outgoing: &Arc<Outgoing>, options: ActivitiesOptions) -> Result<Self, ActivitiesError> {
        Ok(Self { openai: Box::new(openai::OpenAi::new(outgoing, options)?), playback: Box::new(playback::Player) })
    }

    fn provider(&self, request: &ModelRequest) -> Result<&dyn ModelProvider, Fault> {
        match request.model.provider {
            Provider::Playback => Ok(self.playback.as_ref()),
            Provider::OpenAi if self.openai.can_answer(request) => Ok(self.openai.as_ref()),
            Provider::OpenAi if self.playback.can_answer(request) => Ok(self.playback.as_ref()),
            Provider::OpenAi => {
                let detail = format!(
                    "no URL is configured for the model '{}'; set BATON_MODEL_BASE_URL for the server, or model.baseUrl or model.playback in the agent",
                    request.model.name
                );
                Err(Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable())
            }
        }
    }
}

#[async_trait::async_trait]
impl Activity for Model {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let request = ModelRequest::deserialize(&task.input).map_err(|error| {
            Fault::new(
                fault_type::CONFIGURATION,
                400,
                format!("the input of the activity 'model' cannot be used: {error}"),
            )
            .non_retryable()
        })?;
        let call = ModelCall { idempotency_key: task.idempotency_key.clone(), deadline: Deadline::of(task) };
        let mut response = self.provider(&request)?.answer(&request, &call).await?;
        for call in response.tool_calls.iter_mut().filter(|call| is_deeper_than(&call.arguments, DATA_DEPTH_MAX)) {
            // A text is no object: the loop tells the model so, which finds here what was wrong.
            call.arguments = format!("(left out: they are nested deeper than {DATA_DEPTH_MAX} levels)").into();
        }
        serde_json::to_value(response).map_err(|error| {
            Fault::new(fault_type::RUNTIME, 500, format!("the model's answer cannot be recorded: {error}"))
        })
    }
}
