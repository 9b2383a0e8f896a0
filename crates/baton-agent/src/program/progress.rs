//! What `status` says of a run.

use baton_execution::{Progress, WaitReason, Waiting};

use super::state::{AskedState, CallState, Stage, State};
use crate::definition::AgentDefinition;

/// Waits that `status` shows.
const WAITING_MAX: usize = 32;

pub(super) fn of(definition: &AgentDefinition, state: &State) -> Progress {
    let waiting = match &state.stage {
        Stage::Servers(all) => all
            .iter()
            .zip(&definition.servers)
            .filter_map(|(asked, server)| {
                let reason = match asked.state {
                    AskedState::Running => WaitReason::Activity,
                    AskedState::Waiting => WaitReason::Timer,
                    AskedState::Done { .. } => return None,
                };
                Some(Waiting {
                    id: asked.id.clone(),
                    reason,
                    on: format!("tools of server {}", server.name),
                    since_ms: asked.since_ms,
                    until_ms: Some(asked.until_ms),
                })
            })
            .collect(),
        Stage::Model(call) => vec![Waiting {
            id: call.id.clone(),
            reason: WaitReason::Activity,
            on: format!("model {}", definition.model.name),
            since_ms: call.since_ms,
            until_ms: Some(call.until_ms),
        }],
        Stage::Tools(calls) => calls
            .iter()
            .filter_map(|call| {
                let (id, reason, on, until_ms) = match &call.state {
                    CallState::Activity { on, until_ms } => (&call.id, WaitReason::Activity, on, *until_ms),
                    CallState::Child { on, until_ms } => (&call.id, WaitReason::Child, on, *until_ms),
                    CallState::Asking { question, on, until_ms, .. } => (question, WaitReason::Approval, on, *until_ms),
                    CallState::Pausing { on, until_ms } => (&call.id, WaitReason::Timer, on, *until_ms),
                    CallState::Done { .. } => return None,
                };
                Some(Waiting {
                    id: id.clone(),
                    reason,
                    on: on.clone(),
                    since_ms: call.since_ms,
                    until_ms: Some(until_ms),
                })
            })
            .take(WAITING_MAX)
            .collect(),
        Stage::New | Stage::Ended => Vec::new(),
    };
    Progress {
        waiting,
        tasks_started: state.timeline.started,
        tasks_ended: state.timeline.ended,
        recent: state.timeline.recent.clone(),
        usage: state.usage,
        artifacts: state.artifacts.clone(),
    }
}
