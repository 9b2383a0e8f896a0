//! Runtime expressions: jq, compiled once, deterministic, and limited in whatever they could use up.
//!
//! An expression of a document is not trusted: its author may be anybody who may create a workflow. It can neither
//! stop nor kill the process that evaluates it, whatever it says and whatever it is given:
//! - `meter` counts steps, bytes and calls; `rewrite` puts the counting into the expression before it is compiled.
//! - `tokens` and `desugar` give it the meaning that it has in jq, where the interpreter's own is another.
//! - `value`, `operators` and `access` are values that know how large they are, so that no single operation is too much.
//! - `filters` has only what is pure: no clock, environment, input, output or time zones of the machine.
//!
//! # Invariants
//! - Same expression, same data, same result, on every machine and every replay.
//! - Zero results are null; one is itself; several are an array of them, in order. A condition has at most one.
//! - A path of fixed keys (`.a.b`, `$context.x`) gives what the interpreter would, without it.
//!
//! # Failure
//! A fault of type expression: what jq says is wrong, or which limit was passed.

mod access;
mod compile;
mod desugar;
mod filters;
mod library;
mod math;
mod meter;
mod operators;
mod regex;
mod rewrite;
mod tokens;
mod update;
mod value;

use std::{
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use baton_execution::{Fault, fault_type};
use jaq_core::{Ctx, Vars};
use serde_json::Value;

use compile::shown;
use value::V;

use crate::data::{VALUE_BYTES_MAX, VALUE_DEPTH_MAX};

type Filter = jaq_core::Filter<filters::Kind>;

/// Characters of an error's text that a fault keeps.
const MESSAGE_MAX: usize = 400;

/// Results of one expression; more are a fault.
const RESULTS_MAX: usize = 10_000;

/// Gives the variables that an expression names.
pub(crate) trait Variables {
    /// The value of `$name`; `None` if there is no such variable here.
    fn variable(&self, name: &str) -> Option<Cow<'_, Value>>;
}

/// A compiled expression.
pub(crate) struct Expression {
    text: Box<str>,
    variables: Vec<String>,
    direct: Option<Direct>,
    filter: Filter,
    stack: usize,
    secrets: Vec<(String, Option<String>)>,
    /// Steps that an evaluation may take.
    steps_max: u64,
}

/// A path of fixed keys.
#[derive(Debug)]
struct Direct {
    root: Root,
    path: Vec<Segment>,
}

#[derive(Debug)]
enum Root {
    Input,
    /// By its place among the variables of the expression.
    Variable(usize),
}

#[derive(Debug)]
enum Segment {
    Key(String),
    Index(usize),
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl Expression {
    /// Compiles an expression that may name these variables (without `$`).
    ///
    /// # Errors
    /// A sentence that says what is wrong and where.
    pub(crate) fn compile(text: &str, variables: &[&str]) -> Result<Self, String> {
        let compile::Compiled { direct, variables, filter, secrets, stack } = compile::compile(text, variables)?;
        Ok(Self { text: text.into(), variables, direct, filter, stack, secrets, steps_max: meter::STEPS_MAX })
    }

    /// Names of secrets that it names in paths from `$secrets`, each with the key that follows, if one does.
    pub(crate) fn secrets(&self) -> &[(String, Option<String>)] {
        &self.secrets
    }

    /// The result for `dot`.
    pub(crate) fn evaluate(&self, dot: &Value, variables: &dyn Variables) -> Result<Value, Fault> {
        if let Some(value) = self.follow(dot, variables) {
            return Ok(value);
        }
        let mut results = self.run(dot, variables)?;
        Ok(match results.len() {
            0 => Value::Null,
            1 => results.swap_remove(0),
            _ => Value::Array(results),
        })
    }

    /// Whether the condition holds: whether its result is neither false nor null.
    pub(crate) fn test(&self, dot: &Value, variables: &dyn Variables) -> Result<bool, Fault> {
        let results = self.run(dot, variables)?;
        if results.len() > 1 {
            return Err(self.fault(&format!("a condition must have one result, this has {}", results.len())));
        }
        Ok(results.first().is_some_and(|result| !matches!(result, Value::Null | Value::Bool(false))))
    }

    /// The result of a path of fixed keys; `None` if it is not one, or if it needs the interpreter to say what is wrong.
    fn follow(&self, dot: &Value, variables: &dyn Variables) -> Option<Value> {
        let direct = self.direct.as_ref()?;
        let root = match direct.root {
            Root::Input => Cow::Borrowed(dot),
            Root::Variable(index) => variables.variable(self.variables.get(index)?).unwrap_or(Cow::Owned(Value::Null)),
        };
        if direct.path.is_empty() {
            return Some(root.into_owned());
        }
        let mut value = &*root;
        for segment in &direct.path {
            value = match (value, segment) {
                (Value::Null, _) => return Some(Value::Null),
                (Value::Object(fields), Segment::Key(key)) => fields.get(key).unwrap_or(&Value::Null),
                (Value::Array(items), Segment::Index(index)) => items.get(*index).unwrap_or(&Value::Null),
                _ => return None,
            };
        }
        Some(value.clone())
    }

    fn run(&self, dot: &Value, variables: &dyn Variables) -> Result<Vec<Value>, Fault> {
        let values: Vec<V> = self
            .variables
            .iter()
            .map(|name| variables.variable(name).map_or(V::Null, |value| V::from_json(&value)))
            .collect();
        let work = || stacker::maybe_grow(self.stack, self.stack, || self.run_within(dot, values));
        let done = catch_unwind(AssertUnwindSafe(work));
        done.unwrap_or_else(|_| Err("it met a problem of the interpreter".to_owned()))
            .map_err(|detail| self.fault(&detail))
    }

    fn run_within(&self, dot: &Value, variables: Vec<V>) -> Result<Vec<Value>, String> {
        meter::begin(self.steps_max);
        let context = Ctx::<filters::Kind>::new(&self.filter.lut, Vars::new(variables));
        let mut results: Vec<V> = Vec::new();
        let mut size = 0_usize;
        let mut failed = None;
        for result in self.filter.id.run((context, V::from_json(dot))) {
            match result {
                Ok(value) => {
                    size = size.saturating_add(value.size());
                    if value.depth() as usize > VALUE_DEPTH_MAX {
                        failed = Some(format!("the result is nested deeper than {VALUE_DEPTH_MAX} levels"));
                    } else if size > VALUE_BYTES_MAX {
                        failed = Some(format!("the result is larger than {VALUE_BYTES_MAX} bytes"));
                    } else if results.len() == RESULTS_MAX {
                        failed = Some(format!("it has more than {RESULTS_MAX} results"));
                    }
                    results.push(value);
                }
                // Only errors and the meter's halt come out of a whole expression.
                Err(exception) => {
                    let error = exception.get_err().map(|error| message(&error.into_val()));
                    failed = Some(error.unwrap_or_else(|_| "it was stopped".to_owned()));
                }
            }
            if failed.is_some() {
                break;
            }
        }
        match (meter::passed(), failed) {
            (Some(limit), _) => Err(limit.message()),
            (None, Some(detail)) => Err(detail),
            (None, None) => Ok(results.into_iter().map(V::into_json).collect()),
        }
    }

    fn fault(&self, detail: &str) -> Fault {
        Fault::new(fault_type::EXPRESSION, 400, format!("'{}': {detail}", shown(self.text.trim())))
    }
}

/// What an error says: its text, or the value that it was raised with.
fn message(error: &V) -> String {
    error.as_str().map_or_else(|| error.to_string(), |text| text.chars().take(MESSAGE_MAX).collect())
}

#[cfg(test)]
mod tests;
