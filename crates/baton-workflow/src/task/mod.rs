//! Tasks: what a document says of each, and one file for every kind of them.
//!
//! A kind reads its part of the document into a value that implements [`Kind`]; the interpreter starts it and tells
//! it what happened. [`registry`] is the only place that lists the kinds.
//!
//! # Invariants
//! - A kind holds nothing that changes: what an execution knows of a running task is in its frame.
//! - What all tasks have (`if`, `input`, `output`, `export`, `timeout`, `then`) is read and applied in one place.
//!
//! # Deliberately absent
//! Kinds that the language does not have, but for those named `baton.dev/`.

pub(crate) mod authentication;
mod call_a2a;
pub(crate) mod call_agent;
pub(crate) mod call_asyncapi;
pub(crate) mod call_echo;
pub(crate) mod call_function;
pub(crate) mod call_grpc;
pub(crate) mod call_http;
mod call_mcp;
pub(crate) mod call_openapi;
mod common;
pub(crate) mod do_block;
pub(crate) mod each;
pub(crate) mod emit;
pub(crate) mod endpoint;
pub(crate) mod for_each;
pub(crate) mod fork;
pub(crate) mod listen;
mod process;
pub(crate) mod raise;
pub(crate) mod run_container;
pub(crate) mod run_script;
pub(crate) mod run_shell;
pub(crate) mod run_workflow;
pub(crate) mod set;
pub(crate) mod switch;
pub(crate) mod try_catch;
pub(crate) mod values;
pub(crate) mod wait;

use std::{cell::RefCell, collections::BTreeMap, fmt, rc::Rc};

use baton_execution::{Fault, Outcome};
use baton_types::Violation;
use serde_json::Value;

pub(crate) use authentication::Authentication;
pub(crate) use common::{Delay, Timeout, callback, escape};
pub(crate) use raise::RaisedError;
pub(crate) use try_catch::Retry;

use crate::{
    data::{Data, kind_of},
    document::{Builder, Fields, OF_RAW_INPUT, OF_TASK_OUTPUT, quoted, shown},
    expression::Expression,
    interpreter::{FrameId, Run},
    schema::Schema,
    template::Template,
};

/// Index of a task in its definition.
pub(crate) type TaskId = usize;
/// Index of a block in its definition.
pub(crate) type BlockId = usize;

/// Reads a kind's part of a task.
type Read = fn(&mut Builder, &mut Fields<'_>, &Place) -> Option<Box<dyn Kind>>;

/// Every kind of task that runs. To add one: a file, and a line here.
fn registry(kind: &str) -> Option<Read> {
    Some(match kind {
        "call asyncapi" => call_asyncapi::read,
        "call baton.dev/agent" => call_agent::read,
        "call baton.dev/echo" => call_echo::read,
        "call function" => call_function::read,
        "call a2a" => call_a2a::read,
        "call grpc" => call_grpc::read,
        "call http" => call_http::read,
        "call mcp" => call_mcp::read,
        "call openapi" => call_openapi::read,
        "do" => do_block::read,
        "emit" => emit::read,
        "for" => for_each::read,
        "fork" => fork::read,
        "listen" => listen::read,
        "raise" => raise::read,
        "run container" => run_container::read,
        "run script" => run_script::read,
        "run shell" => run_shell::read,
        "run workflow" => run_workflow::read,
        "set" => set::read,
        "switch" => switch::read,
        "try" => try_catch::read,
        "wait" => wait::read,
        _ => return None,
    })
}

/// The kinds that run, for messages.
const SUPPORTED: &str = "'call a2a', 'call asyncapi', 'call grpc', 'call http', 'call mcp', 'call openapi', 'call baton.dev/agent', 'call baton.dev/echo', 'call' of a function, 'do', 'emit', 'for', 'fork', 'listen', 'raise', 'run container', 'run script', 'run shell', 'run workflow', 'set', 'switch', 'try' and 'wait'";

/// The words that make an object a task. Those that others use as a part (`do` in `for`) come last.
pub(crate) const KEYWORDS: [&str; 12] =
    ["call", "emit", "for", "fork", "listen", "raise", "run", "set", "switch", "try", "wait", "do"];

/// One kind of task, as one document configures it.
pub(crate) trait Kind: fmt::Debug + Send + Sync {
    /// Its name for the timeline, such as `call http`.
    fn label(&self) -> &'static str;

    /// Begins the task of a frame.
    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault>;

    /// Goes on after something happened. What a kind never waits for does not come.
    fn resume(&self, _run: &mut Run, _frame: FrameId, event: Event) -> Result<Step, Fault> {
        event.into_fault()
    }

    /// How the task authenticates where it calls, if it does: what `$authorization` tells.
    fn authentication(&self) -> Option<&Authentication> {
        None
    }

    /// Whether the kind applies `timeout` to what it waits for, so that it needs no timer besides.
    fn keeps_time(&self) -> bool {
        false
    }

    /// Whether the flow may go on by the task's own `then` once it has run.
    fn goes_on(&self) -> bool {
        true
    }
}

/// Where a task is after a step.
#[derive(Debug)]
pub(crate) enum Step {
    /// It waits for an event.
    Wait,
    /// It has its raw output.
    Done(Data),
    /// It has its raw output, and says itself where the flow goes on.
    DoneThen(Data, Then),
}

/// What can happen to a running task.
#[derive(Debug)]
pub(crate) enum Event {
    /// One of its blocks (or branches) came to its end.
    BlockEnded {
        /// Which branch or iteration.
        branch: u32,
        /// The output of the last task.
        output: Data,
    },
    /// A task in one of its blocks faulted and nobody caught it.
    BlockFaulted {
        /// The fault.
        fault: Fault,
    },
    /// Its activity gave a result.
    ActivityCompleted(Data),
    /// One of its timers fired.
    TimerFired(Purpose),
    /// Its wait was answered.
    Answered(Outcome),
}

impl Event {
    /// What a kind does with events that it has no use for: faults pass, the rest is not for it.
    pub(crate) fn into_fault(self) -> Result<Step, Fault> {
        match self {
            Self::BlockFaulted { fault, .. } => Err(fault),
            Self::BlockEnded { output, .. } => Ok(Step::Done(output)),
            Self::ActivityCompleted(_) | Self::TimerFired(_) | Self::Answered(_) => Ok(Step::Wait),
        }
    }
}

/// What a timer of a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Purpose {
    /// It belongs to the operation of the task: the end of a `wait`, the limit of a callback.
    Own,
    /// The task's `timeout`.
    Timeout,
    /// The pause before a retry.
    Retry,
    /// The limit of one attempt of a `try`.
    Attempt,
}

impl Purpose {
    /// What is put behind the task's position to make the position of the timer.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Own => "",
            Self::Timeout => "/timeout",
            Self::Retry => "/catch/retry",
            Self::Attempt => "/catch/retry/limit/attempt",
        }
    }
}

/// Where the flow goes after a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Then {
    /// To the next task of the block.
    Continue,
    /// Out of the block.
    Exit,
    /// To the end of the workflow.
    End,
    /// To a task of the block, by its place there.
    Goto(usize),
}

/// A list of tasks.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) tasks: Vec<TaskId>,
    /// Whether its tasks are branches that run side by side.
    pub(crate) parallel: bool,
}

/// A task of the document.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) name: String,
    /// The word that makes it a task, such as `call`.
    pub(crate) keyword: &'static str,
    /// Index and name, as positions end with: `0/fetch`; the name alone for the task of a function.
    pub(crate) segment: String,
    /// JSON pointer to the task in the document.
    pub(crate) pointer: String,
    pub(crate) condition: Option<Expression>,
    pub(crate) input: DataFlow,
    pub(crate) output: DataFlow,
    pub(crate) export: DataFlow,
    pub(crate) timeout: Option<Timeout>,
    pub(crate) then: Then,
    pub(crate) wait: Option<callback::Await>,
    pub(crate) kind: Box<dyn Kind>,
}

/// How data enters or leaves a task.
#[derive(Debug, Default)]
pub(crate) struct DataFlow {
    pub(crate) transform: Option<Template>,
    pub(crate) schema: Option<Schema>,
}

/// Where the reader of a kind is.
pub(crate) struct Place {
    /// JSON pointer to the task.
    pub(crate) pointer: String,
    /// Names of all tasks of the block, with their places in it.
    pub(crate) siblings: Rc<BTreeMap<String, usize>>,
    /// Whether the block's tasks are branches that run side by side.
    pub(crate) parallel: bool,
    /// Where the flow directives of the task lead.
    targets: RefCell<Vec<Then>>,
}

impl Place {
    fn new(pointer: String, siblings: Rc<BTreeMap<String, usize>>, parallel: bool) -> Self {
        Self { pointer, siblings, parallel, targets: RefCell::default() }
    }

    /// Reads a flow directive.
    pub(crate) fn then(&self, builder: &mut Builder, text: &str, path: &str) -> Then {
        let then = self.target(builder, text, path);
        self.targets.borrow_mut().push(then);
        then
    }

    fn target(&self, builder: &mut Builder, text: &str, path: &str) -> Then {
        match text {
            "continue" => Then::Continue,
            "exit" => Then::Exit,
            "end" => Then::End,
            name if self.parallel => {
                builder.violate(
                    path,
                    format!(
                        "goes to '{}', but branches run side by side; allowed are 'continue', 'exit' and 'end'",
                        shown(name)
                    ),
                );
                Then::Continue
            }
            name => {
                if let Some(&slot) = self.siblings.get(name) {
                    return Then::Goto(slot);
                }
                let known = quoted(self.siblings.keys().map(String::as_str));
                builder.violate(path, format!("no task named '{}' in this scope; tasks here are {known}", shown(name)));
                Then::Continue
            }
        }
    }
}

/// Reads a list of tasks.
pub(crate) fn read_block(builder: &mut Builder, value: &Value, path: &str, pointer: &str, parallel: bool) -> BlockId {
    let mut items = Vec::new();
    match value {
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                let path = format!("{path}[{index}]");
                if let Some((name, task)) = builder.single(item, &path, "task") {
                    items.push((index, name, task));
                }
            }
            if list.is_empty() {
                builder.violate(path, "must have at least one task");
            }
        }
        other => builder.violate(path, format!("must be a list of tasks, found {}", kind_of(other))),
    }
    let mut siblings = BTreeMap::new();
    for (order, (index, name, _)) in items.iter().enumerate() {
        if siblings.insert((*name).to_owned(), order).is_some() {
            builder.violate(
                &format!("{path}[{index}].{}", shown(name)),
                format!("is the second task named '{}' in this scope; names must differ", shown(name)),
            );
        }
    }
    let siblings = Rc::new(siblings);
    let mut block = Block { tasks: Vec::new(), parallel };
    let mut ways = Vec::with_capacity(items.len());
    for (index, name, task) in &items {
        let path = format!("{path}[{index}].{}", shown(name));
        let segment = format!("{index}/{}", escape(name));
        let place = Place::new(format!("{pointer}/{segment}"), Rc::clone(&siblings), parallel);
        let mut goes_on = true;
        if let Some((task, on)) = read_task(builder, name, segment, task, &path, &place) {
            goes_on = on;
            builder.tasks.push(task);
            block.tasks.push(builder.tasks.len() - 1);
        }
        ways.push(Ways { path, goes_on, targets: place.targets.into_inner() });
    }
    if !parallel {
        warn_of_unreachable(builder, &ways);
    }
    builder.blocks.push(block);
    builder.blocks.len() - 1
}

/// Reads the task of a function.
pub(crate) fn read_function(
    builder: &mut Builder,
    name: &str,
    value: &Value,
    path: &str,
    pointer: &str,
) -> Option<TaskId> {
    let place = Place::new(pointer.to_owned(), Rc::default(), false);
    let (task, _) = read_task(builder, name, escape(name), value, path, &place)?;
    builder.tasks.push(task);
    Some(builder.tasks.len() - 1)
}

/// Where the flow may go after a task.
struct Ways {
    path: String,
    /// To the next task.
    goes_on: bool,
    targets: Vec<Then>,
}

/// Tells of tasks that no way leads to: they are odd, not wrong, and the language allows them.
fn warn_of_unreachable(builder: &mut Builder, ways: &[Ways]) {
    let mut reached = vec![false; ways.len()];
    let mut next: Vec<usize> = vec![0];
    while let Some(slot) = next.pop() {
        let Some(seen) = reached.get_mut(slot).filter(|seen| !**seen) else { continue };
        *seen = true;
        let Ways { goes_on, targets, .. } = &ways[slot];
        next.extend(goes_on.then_some(slot + 1));
        next.extend(targets.iter().filter_map(|then| match then {
            Then::Continue => Some(slot + 1),
            Then::Goto(slot) => Some(*slot),
            Then::Exit | Then::End => None,
        }));
    }
    for (ways, _) in ways.iter().zip(reached).filter(|(_, reached)| !reached) {
        builder.warnings.push(Violation::new(&ways.path, "is never reached: no task before it leads to it"));
    }
}

/// Reads a task, and says whether the next one of its block may follow it without being named.
fn read_task(
    builder: &mut Builder,
    name: &str,
    segment: String,
    value: &Value,
    path: &str,
    place: &Place,
) -> Option<(Task, bool)> {
    let mut fields = Fields::open(value, path, builder)?;
    let condition = builder.with_arguments(OF_RAW_INPUT, |builder| fields.expression("if", builder));
    let input = builder.with_arguments(OF_RAW_INPUT, |builder| builder.data_flow(&mut fields, "input", "from"));
    let output = builder.with_arguments(OF_TASK_OUTPUT, |builder| builder.data_flow(&mut fields, "output", "as"));
    let export = builder.with_arguments(OF_TASK_OUTPUT, |builder| builder.data_flow(&mut fields, "export", "as"));
    let timeout = builder.timeout(&mut fields);
    let then = fields.text("then", builder).map(|text| place.then(builder, text, &fields.at("then")));
    let Some(keyword) = KEYWORDS.into_iter().find(|word| fields.has(word)) else {
        builder.violate(path, format!("is not a task of a known kind; kinds are {SUPPORTED}"));
        return None;
    };
    let name_of_kind = kind_name(builder, keyword, &mut fields)?;
    let Some(read) = registry(&name_of_kind) else {
        refuse_kind(builder, &name_of_kind, &fields.at(keyword));
        return None;
    };
    let wait = callback::read(builder, &mut fields, &name_of_kind);
    let kind = read(builder, &mut fields, place);
    fields.close(builder);
    let kind = kind?;
    // A task that is skipped goes on to the next one, whatever its `then` says.
    let goes_on = condition.is_some() || (then.is_none() && kind.goes_on());
    let task = Task {
        name: name.to_owned(),
        keyword,
        segment,
        pointer: place.pointer.clone(),
        condition,
        input,
        output,
        export,
        timeout,
        then: then.unwrap_or(Then::Continue),
        wait,
        kind,
    };
    Some((task, goes_on))
}

/// The name under which the registry has a kind: the keyword, and for `call` and `run` what is called or run.
fn kind_name(builder: &mut Builder, keyword: &'static str, fields: &mut Fields<'_>) -> Option<String> {
    match keyword {
        "call" => {
            let function = fields.text("call", builder)?;
            let known = function.starts_with("baton.dev/") || registry(&format!("call {function}")).is_some();
            Some(if known { format!("call {function}") } else { "call function".to_owned() })
        }
        "run" => {
            let run = fields.object("run", builder)?;
            let found = ["workflow", "container", "script", "shell"].into_iter().find(|what| run.has(what));
            if found.is_none() {
                builder.violate(&run.path, "must have one of 'container', 'script', 'shell' and 'workflow'");
            }
            found.map(|what| format!("run {what}"))
        }
        other => Some(other.to_owned()),
    }
}

fn refuse_kind(builder: &mut Builder, kind: &str, path: &str) {
    builder.violate(path, format!("no kind of task is '{}'; kinds are {SUPPORTED}", shown(kind)));
}
