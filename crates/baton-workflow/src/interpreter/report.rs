//! What `status` says of a running workflow.

use baton_execution::{Progress, TaskSummary, Usage, Waiting};

use crate::{
    interpreter::{run::Run, state::FrameId},
    task::Task,
};

/// Tasks that `status` lists.
const RECENT_MAX: usize = 8;
/// Waits that `status` lists.
const WAITING_MAX: usize = 32;

impl Run {
    pub(super) fn progress(&self) -> Progress {
        let execution = &self.execution;
        let waiting = execution.frames.values().filter_map(|frame| {
            let open = frame.open.as_ref()?;
            let opening = &open.opening;
            Some(Waiting {
                id: frame.operation(),
                reason: opening.reason,
                on: opening.on.clone(),
                since_ms: open.since_ms,
                until_ms: opening.until_ms,
            })
        });
        let mut waiting: Vec<Waiting> = waiting.take(WAITING_MAX).collect();
        waiting.sort_by_key(|wait| wait.since_ms);
        Progress {
            waiting,
            tasks_started: execution.tasks_started,
            tasks_ended: execution.tasks_ended,
            recent: execution.recent.iter().cloned().collect(),
            artifacts: Vec::new(),
            usage: Usage { children: execution.account.children(), ..Usage::default() },
            tree: execution.account.progress(Usage::default()),
        }
    }

    pub(super) fn report_started(&mut self, number: FrameId, task: &Task) {
        self.report(number, task, "Running", None);
    }

    pub(super) fn report_skipped(&mut self, number: FrameId, task: &Task) {
        self.report(number, task, "Skipped", Some(self.now_ms));
    }

    pub(super) fn report_ended(&mut self, number: FrameId, state: &str) {
        self.execution.tasks_ended += 1;
        let (position, now_ms) = (&self.execution.frames[&number].position, self.now_ms);
        let known = self
            .execution
            .recent
            .iter_mut()
            .rev()
            .find(|summary| summary.ended_ms.is_none() && summary.position == *position);
        if let Some(summary) = known {
            state.clone_into(&mut summary.state);
            summary.ended_ms = Some(now_ms);
        }
    }

    fn report(&mut self, number: FrameId, task: &Task, state: &str, ended_ms: Option<i64>) {
        let recent = &mut self.execution.recent;
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(TaskSummary {
            position: self.execution.frames[&number].position.clone(),
            name: task.name.clone(),
            kind: task.kind.label().to_owned(),
            state: state.to_owned(),
            started_ms: self.now_ms,
            ended_ms,
        });
    }
}
