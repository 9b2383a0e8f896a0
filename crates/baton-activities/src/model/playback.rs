//! The provider `playback`: scripted turns in place of a model, for trying and testing agents.
//!
//! The conversation is the first whose `match` occurs in the first message; the turn is the number of
//! answers so far. So a repeated call is answered alike, and two executions never disturb each other.

use baton_agent::{
    FinishReason, Message, ModelRequest, ModelResponse, Playback, PlaybackConversation, PlaybackTurn, ToolCall,
};
use baton_execution::{Fault, fault_type};

use super::{ModelCall, ModelProvider};

/// Characters of a message that a fault shows.
const SHOWN_MAX: usize = 80;

pub(super) struct Player;

#[async_trait::async_trait]
impl ModelProvider for Player {
    fn can_answer(&self, request: &ModelRequest) -> bool {
        request.model.playback.is_some()
    }

    async fn answer(&self, request: &ModelRequest, _call: &ModelCall<'_>) -> Result<ModelResponse, Fault> {
        let script = request
            .model
            .playback
            .as_ref()
            .ok_or_else(|| refused("the agent has no model.playback to play".to_owned()))?;
        let first = request.messages.iter().find_map(|message| match message {
            Message::User { content, .. } => Some(content.as_str()),
            Message::Assistant { .. } | Message::Tool { .. } => None,
        });
        let (index, conversation) = choose(script, first.unwrap_or_default())?;
        let turn = request.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count();
        let scripted = conversation.turns.get(turn).ok_or_else(|| {
            refused(format!(
                "playback.conversations[{index}] has {} turns, turn {} was asked for",
                conversation.turns.len(),
                turn + 1
            ))
        })?;
        Ok(play(scripted, turn, &request.model.name))
    }
}

fn choose<'a>(script: &'a Playback, first: &str) -> Result<(usize, &'a PlaybackConversation), Fault> {
    let matches = |conversation: &PlaybackConversation| {
        conversation.pattern.as_deref().is_none_or(|pattern| first.contains(pattern))
    };
    script.conversations.iter().enumerate().find(|(_, conversation)| matches(conversation)).ok_or_else(|| {
        let patterns: Vec<String> = script
            .conversations
            .iter()
            .filter_map(|conversation| conversation.pattern.as_deref())
            .map(|pattern| format!("'{pattern}'"))
            .collect();
        let shown: String = first.chars().take(SHOWN_MAX).collect();
        refused(format!(
            "no conversation of the playback matches the message '{shown}'; they match {}",
            patterns.join(", ")
        ))
    })
}

fn play(scripted: &PlaybackTurn, turn: usize, model: &str) -> ModelResponse {
    let text = scripted.text.clone().or_else(|| scripted.json.as_ref().map(ToString::to_string));
    let tool_calls: Vec<ToolCall> = scripted
        .tool_calls
        .iter()
        .enumerate()
        .map(|(index, call)| ToolCall {
            id: format!("call_{}_{index}", turn + 1),
            name: call.name.clone(),
            arguments: call.arguments.clone(),
        })
        .collect();
    ModelResponse {
        text,
        finish_reason: if tool_calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls },
        tool_calls,
        input_tokens: u64::from(scripted.input_tokens),
        output_tokens: u64::from(scripted.output_tokens),
        usage_estimated: false,
        cached_input_tokens: 0,
        cost_micros: None,
        provider: "playback".to_owned(),
        model: model.to_owned(),
        provider_data: None,
    }
}

fn refused(detail: String) -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}
