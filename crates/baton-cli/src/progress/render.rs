//! The picture as lines.

use super::{
    label::{label, label_below},
    model::{Execution, Progress, State, Task, Wait},
};
use crate::printer::{one_line, shortened};

/// Characters that are shown of what a model is saying.
const SAID_MAX: usize = 48;

/// Room and looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Canvas {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) colour: bool,
    /// The time now, in milliseconds since 1970.
    pub(crate) now_ms: i64,
}

/// One line with how it stands.
struct Line {
    depth: usize,
    state: State,
    waiting: bool,
    text: String,
    detail: String,
}

/// The lines that fit: all, or those of what has not ended, or the last ones.
pub(crate) fn render(progress: &Progress, canvas: Canvas) -> Vec<String> {
    let mut lines = Vec::new();
    draw(progress, 0, 0, false, canvas.now_ms, &mut lines);
    if lines.len() > canvas.rows {
        lines.clear();
        draw(progress, 0, 0, true, canvas.now_ms, &mut lines);
    }
    let above = lines.len().saturating_sub(canvas.rows);
    let mut shown: Vec<String> = Vec::new();
    if above > 0 {
        shown.push(shortened(&format!("… {} lines above", above + 1), canvas.columns));
    }
    let from = if above > 0 { above + 1 } else { 0 };
    shown.extend(lines[from.min(lines.len())..].iter().map(|line| finish(line, canvas)));
    if progress.unfollowed > 0 {
        shown.push(format!("… and {} more executions; see baton tree", progress.unfollowed));
    }
    shown
}

fn draw(progress: &Progress, index: usize, depth: usize, compact: bool, now_ms: i64, lines: &mut Vec<Line>) {
    let execution = &progress.executions[index];
    let took =
        execution.started_ms.map(|started| elapsed(execution.ended_ms.unwrap_or(now_ms) - started)).unwrap_or_default();
    let detail = execution.ending.clone().map(|ending| format!("{took}  {ending}")).unwrap_or(took);
    lines.push(Line {
        depth,
        state: execution.state,
        waiting: false,
        text: format!("{} {}", execution.key.kind.title(), execution.key.name),
        detail,
    });
    if compact && execution.state == State::Completed {
        return;
    }
    for child in &execution.children {
        draw(progress, *child, depth + 1, compact, now_ms, lines);
    }
    draw_tasks(progress, execution, None, depth + 1, compact, now_ms, lines);
    if execution.unshown > 0 {
        lines.push(Line {
            depth: depth + 1,
            state: State::Running,
            waiting: false,
            text: format!("and {} more tasks", execution.unshown),
            detail: String::new(),
        });
    }
}

fn draw_tasks(
    progress: &Progress,
    execution: &Execution,
    parent: Option<usize>,
    depth: usize,
    compact: bool,
    now_ms: i64,
    lines: &mut Vec<Line>,
) {
    let within = parent.map_or(&execution.top, |parent| &execution.tasks[parent].tasks);
    for &index in within {
        let task = &execution.tasks[index];
        let above = parent.map(|parent| execution.tasks[parent].position.as_str());
        lines.push(task_line(task, above, depth, now_ms));
        if compact && task.state.has_ended() && task.state != State::Faulted {
            continue;
        }
        for child in &task.children {
            draw(progress, *child, depth + 1, compact, now_ms, lines);
        }
        draw_tasks(progress, execution, Some(index), depth + 1, compact, now_ms, lines);
    }
}

fn task_line(task: &Task, above: Option<&str>, depth: usize, now_ms: i64) -> Line {
    let took = elapsed(task.ended_ms.unwrap_or(now_ms) - task.started_ms);
    let mut details =
        if task.state == State::Skipped { vec!["skipped".to_owned()] } else { vec![task.kind.clone(), took] };
    if task.attempt > 1 {
        details.push(format!("attempt {}", task.attempt));
    }
    details.extend(task.waits_for.as_ref().map(|wait| format!("waiting for {}", wait_words(wait, now_ms))));
    details.extend(task.fault.clone());
    // What was said last stands at the end of the line, whatever its length.
    let said = one_line(&task.saying);
    let said = said.trim_end();
    let from = said.char_indices().rev().nth(SAID_MAX - 1).map_or(0, |(from, _)| from);
    details.extend((!said.is_empty()).then(|| format!("{}{}", if from > 0 { "…" } else { "" }, &said[from..])));
    let text = label_below(&task.position, above);
    let text = if text.is_empty() { label(&task.position) } else { text };
    Line { depth, state: task.state, waiting: task.waits_for.is_some(), text, detail: details.join("  ") }
}

fn wait_words(wait: &Wait, now_ms: i64) -> String {
    match wait {
        Wait::Callback { fingerprint: Some(fingerprint) } => format!("callback {fingerprint}"),
        Wait::Callback { fingerprint: None } => "a callback".to_owned(),
        Wait::Approval { name } => format!("approval {name}"),
        Wait::Child { kind, name } => format!("{kind} {name}"),
        Wait::Timer { due_ms } => format!("{} more", elapsed(due_ms - now_ms)),
        Wait::Retry { attempt, due_ms } => format!("attempt {attempt} in {}", elapsed(due_ms - now_ms)),
    }
}

fn finish(line: &Line, canvas: Canvas) -> String {
    let (glyph, colour) = match line.state {
        State::Running if line.waiting => ("◌", "33"),
        State::Running => ("●", "36"),
        State::Suspended => ("‖", "33"),
        State::Completed => ("✓", "32"),
        State::Faulted => ("✗", "31"),
        State::Cancelled => ("⊘", "33"),
        State::Skipped => ("–", "2"),
    };
    let indent = "  ".repeat(line.depth.min(20));
    let room = canvas.columns.saturating_sub(indent.len() + 2).max(8);
    let text = shortened(&one_line(&line.text), room);
    let room = room.saturating_sub(text.chars().count() + 2);
    let detail = if room > 4 { shortened(&one_line(&line.detail), room) } else { String::new() };
    let paint =
        |text: &str, code: &str| if canvas.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() };
    let gap = if detail.is_empty() { "" } else { "  " };
    let detail = if detail.is_empty() { detail } else { paint(&detail, "2") };
    format!("{indent}{} {text}{gap}{detail}", paint(glyph, colour))
}

/// A span of time, short: `120ms`, `4.2s`, `3m05s`, `2h10m`.
pub(super) fn elapsed(millis: i64) -> String {
    let millis = millis.max(0);
    match millis {
        0..=999 => format!("{millis}ms"),
        1000..=59_999 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        60_000..=3_599_999 => format!("{}m{:02}s", millis / 60_000, millis % 60_000 / 1000),
        _ => format!("{}h{:02}m", millis / 3_600_000, millis % 3_600_000 / 60_000),
    }
}
