//! What `status` says of a run.

use baton_execution::{Progress, TreeProgress, Usage, WaitReason, Waiting};

use super::state::{AskedState, CallState, ModelCall, Stage, State};
use crate::definition::AgentDefinition;

/// Waits that `status` shows.
const WAITING_MAX: usize = 32;

pub(super) fn of(definition: &AgentDefinition, state: &State, marks: Vec<String>) -> Progress {
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
        Stage::Model(call) => vec![waiting_for(call, format!("model {}", definition.model.name))],
        Stage::Summary(call) => vec![waiting_for(call, "summary of the session".to_owned())],
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
        Stage::Limit(asked) => vec![Waiting {
            id: asked.id.clone(),
            reason: WaitReason::Approval,
            on: asked.on.clone(),
            since_ms: asked.since_ms,
            until_ms: Some(asked.until_ms),
        }],
        Stage::New | Stage::Ended => Vec::new(),
    };
    Progress {
        waiting,
        tasks_started: state.timeline.started,
        tasks_ended: state.timeline.ended,
        recent: state.timeline.recent.clone(),
        artifacts: state.artifacts.clone(),
        usage: Usage { children: state.account.children(), ..state.usage },
        tree: TreeProgress { marks, ..state.account.progress(state.usage) },
    }
}

fn waiting_for(call: &ModelCall, on: String) -> Waiting {
    Waiting {
        id: call.id.clone(),
        reason: WaitReason::Activity,
        on,
        since_ms: call.since_ms,
        until_ms: Some(call.until_ms),
    }
}
