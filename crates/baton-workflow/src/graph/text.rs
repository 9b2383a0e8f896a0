//! A graph as lines for a terminal: a tree of tasks, with the jumps said beside them.

use std::fmt::Write as _;

use super::{Block, Edge, Graph, Point, Reason, Role, Task};

/// Columns that names take before what the tasks do.
const NAME_WIDTH_MAX: usize = 36;

pub(super) fn draw(graph: &Graph) -> String {
    let mut rows =
        vec![Row { left: format!("{} {}", graph.name, graph.version), right: graph.title.clone().unwrap_or_default() }];
    if let Some(schedule) = &graph.schedule {
        rows.push(Row { left: format!("⏲ {schedule}"), right: String::new() });
    }
    block(&graph.root, Level { indent: "", exit: "end" }, &mut rows);
    let lefts = rows.iter().filter(|row| !row.right.is_empty()).map(|row| row.left.chars().count());
    let width = lefts.max().unwrap_or_default().min(NAME_WIDTH_MAX);
    let mut text = String::new();
    for row in rows {
        let line = if row.right.is_empty() { row.left } else { format!("{:width$}  {}", row.left, row.right) };
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Where a block is.
#[derive(Clone, Copy)]
struct Level<'t> {
    indent: &'t str,
    /// What leaving the block is called.
    exit: &'t str,
}

struct Row {
    left: String,
    right: String,
}

fn block(block: &Block, level: Level<'_>, rows: &mut Vec<Row>) {
    let Level { indent, exit } = level;
    for (index, task) in block.tasks.iter().enumerate() {
        let is_last = index + 1 == block.tasks.len();
        let arm = match (block.role, is_last) {
            (Role::Branches, _) => "╞═ ",
            (_, true) => "└─ ",
            (_, false) => "├─ ",
        };
        rows.push(Row { left: format!("{indent}{arm}{}", task.name), right: says(task) });
        let below = format!("{indent}{}", if is_last && block.role != Role::Branches { "   " } else { "│  " });
        let ways: Vec<&Edge> = block.edges.iter().filter(|edge| edge.from == Point::Task(index)).collect();
        for edge in ways {
            if let Some(line) = way(edge, block, index, exit) {
                let line =
                    if task.blocks.is_empty() { format!("{below}{line}") } else { format!("{below}│  {line}") };
                rows.push(Row { left: line, right: String::new() });
            }
        }
        let count = task.blocks.len();
        for (number, nested) in task.blocks.iter().enumerate() {
            if count > 1 || nested.role == Role::Catch {
                let is_last = number + 1 == count;
                let word = if nested.role == Role::Catch { "catch" } else { "try" };
                let label = nested.label.as_deref().unwrap_or_default();
                let arm = if is_last { "└┄ " } else { "├┄ " };
                rows.push(Row { left: format!("{below}{arm}{word} {label}"), right: String::new() });
                let indent = format!("{below}{}", if is_last { "   " } else { "┆  " });
                self::block(nested, Level { indent: &indent, exit: "exit" }, rows);
            } else {
                self::block(nested, Level { indent: &below, exit: "exit" }, rows);
            }
        }
    }
}

fn says(task: &Task) -> String {
    let mut says = task.kind.clone();
    if let Some(detail) = &task.detail {
        let _ = write!(says, "  {detail}");
    }
    if task.awaits_callback {
        says.push_str("  ⧗ callback");
    }
    if let Some(condition) = &task.condition {
        let _ = write!(says, "  if {condition}");
    }
    says
}

/// What is to be said of a way: those that everybody expects are not.
fn way(edge: &Edge, block: &Block, index: usize, exit: &str) -> Option<String> {
    let to = match edge.to {
        Point::Start => return None,
        Point::Task(to) => block.tasks.get(to).map(|task| task.name.clone())?,
        Point::Exit => exit.to_owned(),
        Point::End => "end".to_owned(),
    };
    let back = matches!(edge.to, Point::Task(to) if to <= index);
    let arrow = if back { "↺" } else { "→" };
    match (&edge.label, edge.reason) {
        (Some(label), Reason::Case) if label == "default" => Some(format!("{arrow} default: {to}")),
        (Some(label), Reason::Case) => Some(format!("{arrow} {label}: {to}")),
        (_, Reason::Then) => Some(format!("{arrow} then {to}")),
        _ => None,
    }
}
