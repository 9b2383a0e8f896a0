//! A graph as a flowchart for Mermaid.

use std::fmt::Write as _;

use super::{Block, Edge, Graph, Point, Reason, Role, Target, Task};

pub(super) fn draw(graph: &Graph) -> String {
    let mut text = "flowchart TD\n".to_owned();
    let mut writer = Writer { text: &mut text, count: 0, nodes: Vec::new() };
    match &graph.schedule {
        Some(schedule) => writer.line(1, &format!("start([\"{}\"])", escaped(schedule))),
        None => writer.line(1, "start((start))"),
    }
    writer.line(1, "finish((end))");
    writer.block(&graph.root, 1, "start", "finish");
    let marked: Vec<(String, &str)> = std::mem::take(&mut writer.nodes);
    for (class, style) in [
        ("agent", "fill:#efe6fd,stroke:#7c4dcc"),
        ("workflow", "fill:#e3f0fb,stroke:#2f7cc4"),
        ("fault", "fill:#fde8e6,stroke:#c8453a"),
    ] {
        let ids: Vec<&str> = marked.iter().filter(|(_, of)| *of == class).map(|(id, _)| id.as_str()).collect();
        if !ids.is_empty() {
            let _ = writeln!(text, "  classDef {class} {style}\n  class {} {class}", ids.join(","));
        }
    }
    text
}

struct Writer<'t> {
    text: &'t mut String,
    count: usize,
    /// Nodes that have a class.
    nodes: Vec<(String, &'static str)>,
}

impl Writer<'_> {
    fn line(&mut self, level: usize, line: &str) {
        let _ = writeln!(self.text, "{}{line}", "  ".repeat(level));
    }

    /// Writes the tasks and ways of a block that is entered from `start` and left to `exit`.
    fn block(&mut self, block: &Block, level: usize, start: &str, exit: &str) {
        let ids: Vec<String> = block.tasks.iter().map(|task| self.task(task, level)).collect();
        for edge in &block.edges {
            let id = |point: Point| match point {
                Point::Start => Some(start),
                Point::Task(index) => ids.get(index).map(String::as_str),
                Point::Exit => Some(exit),
                Point::End => Some("finish"),
            };
            let (Some(from), Some(to)) = (id(edge.from), id(edge.to)) else { continue };
            if to.is_empty() && edge.reason != Reason::Next && !from.is_empty() {
                // Who leaves before the last task is said to.
                self.count += 1;
                let leave = format!("t{}", self.count);
                self.line(level, &format!("{leave}([exit])"));
                self.line(level, &format!("{from} {} {leave}", way(edge)));
            }
            // In a nested block the frame itself says where it begins and ends.
            if !from.is_empty() && !to.is_empty() {
                let way = way(edge);
                self.line(level, &format!("{from} {way} {to}"));
            }
        }
    }

    fn task(&mut self, task: &Task, level: usize) -> String {
        self.count += 1;
        let id = format!("t{}", self.count);
        let says = label(task);
        if task.blocks.is_empty() {
            let (open, close) = match task.kind.as_str() {
                "switch" => ("{{", "}}"),
                "wait" | "listen" => ("([", "])"),
                "run workflow" | "call baton.dev/agent" => ("[[", "]]"),
                _ => ("[", "]"),
            };
            self.line(level, &format!("{id}{open}\"{says}\"{close}"));
            match (&task.target, task.kind.as_str()) {
                (Some(Target::Agent(_)), _) | (None, "call baton.dev/agent") => self.nodes.push((id.clone(), "agent")),
                (Some(Target::Workflow(_)), _) => self.nodes.push((id.clone(), "workflow")),
                (None, "raise") => self.nodes.push((id.clone(), "fault")),
                (None, _) => {}
            }
            return id;
        }
        self.line(level, &format!("subgraph {id}[\"{says}\"]"));
        self.line(level + 1, "direction TB");
        let several = task.blocks.len() > 1;
        for (number, block) in task.blocks.iter().enumerate() {
            if several {
                let word = if block.role == Role::Catch { "catch" } else { "try" };
                let label = block.label.as_deref().map(|label| format!(" {}", escaped(label))).unwrap_or_default();
                self.line(level + 1, &format!("subgraph {id}b{number}[\"{word}{label}\"]"));
                self.block(block, level + 2, "", "");
                self.line(level + 1, "end");
            } else {
                self.block(block, level + 1, "", "");
            }
        }
        if several {
            self.line(level + 1, &format!("{id}b0 -. fault .-> {id}b1"));
        }
        self.line(level, "end");
        id
    }
}

fn way(edge: &Edge) -> String {
    match (&edge.label, edge.reason) {
        (Some(label), _) => format!("-- \"{}\" -->", escaped(label)),
        (None, Reason::Then) => "-- then -->".to_owned(),
        (None, Reason::Next | Reason::Case) => "-->".to_owned(),
    }
}

fn label(task: &Task) -> String {
    let mut says = format!("<b>{}</b><br/>{}", escaped(&task.name), escaped(&task.kind));
    if let Some(detail) = &task.detail {
        let _ = write!(says, " {}", escaped(detail));
    }
    if task.awaits_callback {
        says.push_str("<br/>awaits a callback");
    }
    if let Some(condition) = &task.condition {
        let _ = write!(says, "<br/><i>if {}</i>", escaped(condition));
    }
    says
}

/// Text in quotes, as Mermaid wants it: entities for what means something in it or in HTML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '<' | '>' | '&' | '#' | '`' | '\\' | '{' | '}' | '[' | ']' | ';' => {
                let _ = write!(safe, "#{};", u32::from(c));
            }
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
