//! The activity `model`: one question to a model, over whichever provider can answer it.
//!
//! Which provider: the one that the spec names; `playback` always plays its script. Where nothing is configured for `openai`, a
//! script in the spec stands in, and without one the call fails saying what to configure. A model that fails for good is
//! followed by its fallbacks, in order. The response names the provider and the model that answered, so a script or a fallback
//! never passes for the model.
//!
//! # Invariants
//! - The arguments of a call are nested on at most [`DATA_DEPTH_MAX`] levels: what is deeper could be recorded and not be
//!   read again.
//! - What a call costs is recorded with its answer: later prices do not change it.

mod origin;
mod places;
mod playback;
mod prices;
mod remote;
mod speech;
mod wire;

use std::{borrow::Cow, sync::Arc, time::Duration};

use baton_agent::{DATA_DEPTH_MAX, Message, ModelRequest, ModelResponse, ModelSpec, Provider, Spoken, is_deeper_than};
use baton_execution::{ActivityTask, Fault, fault_type};
use metrics::counter;
use serde::Deserialize as _;
use serde_json::Value;

use crate::{
    Activity, Home, Means, metric_names,
    options::{ActivitiesError, ModelsOptions},
    outgoing::Deadline,
};
use places::Places;
pub use prices::Prices;
use remote::Remote;

/// Characters that a fault shows of each model that failed.
const SHOWN_MAX: usize = 1000;

/// Answers for models.
#[async_trait::async_trait]
trait ModelProvider: Send + Sync {
    /// Whether it can answer this request at all, as configured.
    fn can_answer(&self, request: &ModelRequest) -> bool;

    /// Asks the model.
    /// The fault is what went wrong after any repetition that could help; it never holds a key.
    async fn answer(&self, request: &ModelRequest, call: &ModelCall<'_>) -> Result<ModelResponse, Fault>;
}

/// What a provider may know of the call beside the request.
struct ModelCall<'a> {
    /// Its idempotency key is the same whenever this call is repeated.
    task: &'a ActivityTask,
    deadline: Deadline,
}

pub(crate) struct Model {
    remote: Box<dyn ModelProvider>,
    playback: Box<dyn ModelProvider>,
    prices: Prices,
    home: Arc<dyn Home>,
}

impl Model {
    pub(crate) fn new(means: &Means, options: &ModelsOptions) -> Result<Self, ActivitiesError> {
        let places = Places::new(options, &means.outgoing.policy, &means.home)?;
        let retry_initial = Duration::from_millis(options.retry_initial_ms);
        Ok(Self {
            remote: Box::new(Remote::new(&means.outgoing, places, retry_initial)),
            playback: Box::new(playback::Player),
            prices: Prices::new(options),
            home: Arc::clone(&means.home),
        })
    }

    /// What was said in earlier turns of the session.
    async fn recall(&self, earlier: &Spoken) -> Result<Vec<Message>, Fault> {
        let mut recall = earlier.recall();
        while let Some(digest) = recall.wanted()? {
            let gone = || {
                let detail =
                    format!("what was said in an earlier turn of the session, {digest}, is not there any more");
                Fault::new(fault_type::RUNTIME, 410, detail).non_retryable()
            };
            recall.take(&self.home.content(digest).await?.ok_or_else(gone)?)?;
        }
        Ok(recall.into_messages())
    }

    fn provider(&self, request: &ModelRequest) -> &dyn ModelProvider {
        let scripted = match request.model.provider {
            Provider::Playback => true,
            Provider::OpenAi => !self.remote.can_answer(request) && self.playback.can_answer(request),
            Provider::OpenAiResponses | Provider::Anthropic | Provider::Gemini | Provider::Ollama => false,
        };
        if scripted { self.playback.as_ref() } else { self.remote.as_ref() }
    }

    async fn ask(&self, request: &ModelRequest, call: &ModelCall<'_>) -> Result<ModelResponse, Fault> {
        let model = &request.model;
        let price = self.prices.of(model)?;
        let (provider, label) = (model.provider.as_str(), self.prices.label(model).to_owned());
        let count = |name: &'static str, amount: u64| {
            counter!(name, "provider" => provider, "model" => label.clone()).increment(amount);
        };
        let answer = self.provider(request).answer(request, call).await;
        count(if answer.is_ok() { metric_names::MODEL_CALLS } else { metric_names::MODEL_FAILURES }, 1);
        let mut response = answer?;
        response.cost_micros = if response.provider == Provider::Playback.as_str() {
            Some(0)
        } else {
            price.map(|price| price.cost_micros(response.tokens()))
        };
        count(metric_names::MODEL_INPUT_TOKENS, response.input_tokens);
        count(metric_names::MODEL_OUTPUT_TOKENS, response.output_tokens);
        count(metric_names::MODEL_COST, response.cost_micros.unwrap_or(0));
        Ok(response)
    }

    /// Asks the model and then its fallbacks, each within its own time.
    async fn ask_in_turn(&self, request: &ModelRequest, task: &ActivityTask) -> Result<ModelResponse, Fault> {
        let whole = Deadline::of(task);
        let mut said = Vec::new();
        let mut last = None;
        let fallbacks = request
            .model
            .fallbacks
            .iter()
            .map(|fallback| Cow::Owned(ModelRequest { model: fallback.clone(), ..request.clone() }));
        for asked in std::iter::once(Cow::Borrowed(request)).chain(fallbacks) {
            let model = &asked.model;
            let alone = request.model.fallbacks.is_empty();
            let deadline = if alone { whole } else { whole.within(model.call_timeout_ms()) };
            if last.is_some() && deadline.left().is_zero() {
                break;
            }
            match self.ask(&asked, &ModelCall { task, deadline }).await {
                Ok(response) => return Ok(response),
                Err(fault) => {
                    tracing::info!(model = model.name, provider = model.provider.as_str(), %fault, "the model did not answer");
                    said.push(failed(model, &fault));
                    last = Some(fault);
                }
            }
        }
        let mut fault = last.expect("there is at least one model");
        if said.len() > 1 {
            fault.detail = Some(said.join("; then "));
        }
        Err(fault)
    }
}

/// A model and what went wrong with it, for the fault of a call with fallbacks.
fn failed(model: &ModelSpec, fault: &Fault) -> String {
    let detail: String = fault.detail.as_deref().unwrap_or(&fault.kind).chars().take(SHOWN_MAX).collect();
    format!("'{}' of '{}': {detail}", model.name, model.provider.as_str())
}

#[async_trait::async_trait]
impl Activity for Model {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let mut request = ModelRequest::deserialize(&task.input).map_err(|error| {
            Fault::new(
                fault_type::CONFIGURATION,
                400,
                format!("the input of the activity 'model' cannot be used: {error}"),
            )
            .non_retryable()
        })?;
        if let Some(earlier) = request.earlier.take() {
            request.put_before(self.recall(&earlier).await?);
        }
        let mut response = self.ask_in_turn(&request, task).await?;
        for call in response.tool_calls.iter_mut().filter(|call| is_deeper_than(&call.arguments, DATA_DEPTH_MAX)) {
            // A text is no object: the loop tells the model so, which finds here what was wrong.
            call.arguments = format!("(left out: they are nested deeper than {DATA_DEPTH_MAX} levels)").into();
        }
        serde_json::to_value(response).map_err(|error| {
            Fault::new(fault_type::RUNTIME, 500, format!("the model's answer cannot be recorded: {error}"))
        })
    }
}
