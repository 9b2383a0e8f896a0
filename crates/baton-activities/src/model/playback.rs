//! The provider `playback`: scripted turns in place of a model, for trying and testing agents.

use baton_agent::{ModelRequest, ModelResponse};
use baton_execution::{Fault, fault_type};

use super::{ModelCall, ModelProvider, speech::Speech};
use crate::secrets::Vault;

pub(super) struct Player;

#[async_trait::async_trait]
impl ModelProvider for Player {
    fn can_answer(&self, request: &ModelRequest) -> bool {
        request.model.playback.is_some()
    }

    async fn answer(&self, request: &ModelRequest, call: &ModelCall<'_>) -> Result<ModelResponse, Fault> {
        let script = request.model.playback.as_ref().ok_or_else(|| {
            Fault::new(fault_type::CONFIGURATION, 400, "the agent has no model.playback to play").non_retryable()
        })?;
        let response = script.answer(request)?;
        Speech::new(&call.task.emitter, Vault::given()).say(&response);
        Ok(response)
    }
}
