//! The graph of a workflow: its tasks as nested blocks, and how the flow goes between them.
//!
//! [`Definition::graph`] makes it from the checked document, so it shows what the author wrote: names, expressions,
//! what is called. [`Graph::text`], [`Graph::mermaid`] and [`Graph::svg`] draw it.
//!
//! # Invariants
//! - Every task that is written in `do`, in the order in which it stands, with the JSON pointer that the timeline uses.
//! - Edges stay within their block, as `then` does: to a task of it, out of it, or to the end of the workflow.
//! - Drawing is pure: the same document gives the same bytes.
//!
//! # Deliberately absent
//! What an execution did: a reader lays that over by the pointers. Definitions of functions and extensions: a call
//! shows by name what it calls.

mod layout;
mod mermaid;
mod read;
mod svg;
mod text;

use crate::Definition;

/// Characters of an expression or an address that a picture shows.
const SHOWN_MAX: usize = 60;

/// A workflow as a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// `document.name`
    pub name: String,
    /// `document.version`
    pub version: String,
    /// `document.title`
    pub title: Option<String>,
    /// When executions start by themselves: `every 1h`, `cron 0 0 * * *`, `on event com.example.order`.
    pub schedule: Option<String>,
    /// The tasks of `do`.
    pub root: Block,
}

/// A list of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it is for the task that has it.
    pub role: Role,
    /// What there is to say of it, such as the errors that a `catch` is for.
    pub label: Option<String>,
    /// Its tasks, in order.
    pub tasks: Vec<Task>,
    /// How the flow goes between them.
    pub edges: Vec<Edge>,
}

/// What a block is for its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs once: the workflow's own, or a `do`'s.
    Sequence,
    /// Runs once for each item or event.
    Loop,
    /// Its tasks run side by side.
    Branches,
    /// Runs until a fault.
    Try,
    /// Runs after a fault.
    Catch,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// JSON pointer into the document, such as `/do/2/fetch`.
    pub pointer: String,
    /// Its name.
    pub name: String,
    /// Its kind, such as `call http`.
    pub kind: String,
    /// What it calls, sets, waits for: `GET https://…`, `agent triage`, `2m`.
    pub detail: Option<String>,
    /// Its `if`.
    pub condition: Option<String>,
    /// Whether it waits for somebody to answer its callback token.
    pub awaits_callback: bool,
    /// The agent or the workflow that it runs by a fixed name.
    pub target: Option<Target>,
    /// The blocks in it.
    pub blocks: Vec<Block>,
}

/// Another definition that a task runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An `Agent`, by name.
    Agent(String),
    /// A `Workflow`, by name.
    Workflow(String),
}

/// A way that the flow can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Where it begins.
    pub from: Point,
    /// Where it goes.
    pub to: Point,
    /// When it is taken: the condition of a case.
    pub label: Option<String>,
    /// Why there is a way.
    pub reason: Reason,
}

/// An end of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// Where the block begins.
    Start,
    /// A task, by its place in the block.
    Task(usize),
    /// Where the block ends.
    Exit,
    /// The end of the workflow, from within a nested block.
    End,
}

/// Why the flow goes along an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// One task comes after the other.
    Next,
    /// A task says so by `then`.
    Then,
    /// A case of a `switch` holds.
    Case,
}

impl Definition {
    /// The graph of its tasks.
    pub fn graph(&self) -> Graph {
        read::graph(self)
    }
}

impl Graph {
    /// Every task at every level, in the order in which they stand.
    pub fn tasks(&self) -> Vec<&Task> {
        let mut all = Vec::new();
        collect(&self.root, &mut all);
        all
    }

    /// The task that has a position of a timeline, such as `/do/1/review/for/0/do/0/triage`; if that is in something
    /// that the graph does not show, the task around it.
    pub fn task_at(&self, position: &str) -> Option<&Task> {
        let (mut block_of, mut rest, mut base) = (std::slice::from_ref(&self.root), position, "");
        let mut found = None;
        loop {
            let next = block_of.iter().flat_map(|block| &block.tasks).find_map(|task| {
                let own = task.pointer.strip_prefix(base)?;
                Some((task, after(rest, own)?))
            });
            let Some((task, left)) = next else { return found };
            found = Some(task);
            (block_of, rest, base) = (task.blocks.as_slice(), left, task.pointer.as_str());
        }
    }

    /// As lines for a terminal.
    pub fn text(&self) -> String {
        text::draw(self)
    }

    /// As a flowchart for [Mermaid](https://mermaid.js.org).
    pub fn mermaid(&self) -> String {
        mermaid::draw(self)
    }

    /// As a picture. Each task is a `g` of class `task` with its pointer as `data-pointer`.
    pub fn svg(&self) -> String {
        svg::draw(self)
    }
}

fn collect<'g>(block: &'g Block, all: &mut Vec<&'g Task>) {
    for task in &block.tasks {
        all.push(task);
        for block in &task.blocks {
            collect(block, all);
        }
    }
}

/// What is left of a position after a task's own part of its pointer; before that may stand which iteration it is.
fn after<'p>(position: &'p str, own: &str) -> Option<&'p str> {
    let ends = |rest: &'p str| (rest.is_empty() || rest.starts_with('/')).then_some(rest);
    if let Some(rest) = position.strip_prefix(own).and_then(ends) {
        return Some(rest);
    }
    // `/for/3` or `/foreach/3`
    let mut parts = position.strip_prefix('/')?.splitn(3, '/');
    let (word, number, rest) = (parts.next()?, parts.next()?, parts.next()?);
    number.parse::<u32>().ok()?;
    let rest = &position[position.len() - rest.len() - 1..];
    (!word.is_empty()).then_some(rest)?.strip_prefix(own).and_then(ends)
}

/// At most [`SHOWN_MAX`] characters on one line.
fn short(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= SHOWN_MAX {
        return words;
    }
    words.chars().take(SHOWN_MAX - 1).chain(['…']).collect()
}
