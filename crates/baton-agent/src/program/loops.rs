//! Runs that go round in circles: the same few calls over and over, or nothing but calls that fail.

use baton_execution::{Fault, canonical_json};
use serde::{Deserialize, Serialize};

use super::{AgentProgram, budget::no_progress};
use crate::{fields::cut, model::ToolCall};

/// Longest round that is noticed, in calls.
const PERIOD_MAX: usize = 4;
/// The same round this many times in a row is no progress.
const ROUNDS_MAX: usize = 5;
/// Turns in a row in which every call fails.
const FAILED_TURNS_MAX: u32 = 8;

/// What the run did last.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Trail {
    /// Fingerprints of the last calls, newest last.
    calls: Vec<String>,
    /// Turns in a row in which every call failed.
    failed_turns: u32,
}

impl AgentProgram {
    /// The circle that these calls would close. An execution that began before there was this goes on as it did.
    pub(super) fn circle(&mut self, calls: &[ToolCall]) -> Option<Fault> {
        if !self.state.account.is_granted() {
            return None;
        }
        let trail = &mut self.state.trail.calls;
        for call in calls {
            let text = format!("{}\n{}", call.name, canonical_json(&call.arguments));
            trail.push(baton_types::fingerprint(text.as_bytes()));
            let surplus = trail.len().saturating_sub(PERIOD_MAX * ROUNDS_MAX);
            trail.drain(..surplus);
            if let Some(period) = (2..=PERIOD_MAX).find(|period| is_circle(trail, *period)) {
                let name = cut(&call.name, 64);
                let what = format!(
                    "the model asked for the same {period} calls, the last of them of '{name}', {ROUNDS_MAX} times in a row"
                );
                return Some(no_progress("noProgress", &what, ROUNDS_MAX as u64 - 1));
            }
        }
        None
    }

    /// Notes how the calls of a turn ended; the fault if it was in vain too often.
    pub(super) fn in_vain(&mut self, all_failed: bool) -> Option<Fault> {
        if !self.state.account.is_granted() {
            return None;
        }
        let turns = &mut self.state.trail.failed_turns;
        *turns = if all_failed { turns.saturating_add(1) } else { 0 };
        (*turns >= FAILED_TURNS_MAX).then(|| {
            let what = format!("every call of {FAILED_TURNS_MAX} turns in a row failed");
            no_progress("noProgress", &what, u64::from(FAILED_TURNS_MAX) - 1)
        })
    }
}

/// Whether the last calls are a round of so many calls, over and over.
fn is_circle(trail: &[String], period: usize) -> bool {
    let Some(from) = trail.len().checked_sub(period * ROUNDS_MAX) else { return false };
    let last = &trail[from..];
    (period..last.len()).all(|index| last[index] == last[index - period])
}
