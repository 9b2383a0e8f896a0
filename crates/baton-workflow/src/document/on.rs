//! `schedule.on`: which events start an execution, and what it gets of them.
//!
//! Strategies and filters are those of `listen`. An execution is started once its strategy has had what it takes; then
//! gathering begins anew.
//!
//! # Invariants
//! - What is gathered is data: whoever keeps it goes on after a restart.
//! - The same events in the same order start the same executions.
//!
//! # Failure
//! An event that a filter cannot be evaluated on does not fit. What grows beyond a limit is let go of, and said so.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    document::{Builder, Fields},
    expression::Variables,
    interpreter::runtime,
    task::listen::{Bound, Read, Scope, Strategy, Until, read_consumption},
};

/// Bytes of the events that one execution is started with: they are its input.
pub const GATHERED_BYTES_MAX: usize = 512 * 1024;
/// Events that one execution is started with.
pub const GATHERED_EVENTS_MAX: usize = 1000;

/// Which events start an execution.
#[derive(Debug)]
pub struct On {
    to: Strategy,
    until: Until,
    read: Read,
}

/// What was gathered for the next execution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gathered {
    /// What the execution gets, in order.
    inputs: Vec<Value>,
    bytes: usize,
    /// Filters that have had their event, by their place; of the strategy and of `until`.
    served: Vec<usize>,
    until_served: Vec<usize>,
    bound: Bound,
}

impl Gathered {
    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What came of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Offered {
    /// It is not wanted.
    Ignored,
    /// It is a part of what the next execution gets.
    Kept,
    /// It is the last one that was needed: an execution starts with these.
    Complete(Vec<Value>),
    /// With it there would be more than an execution can be started with; everything was let go of.
    TooMuch,
}

/// There is no execution whose data expressions could name.
struct Nothing;

impl Variables for Nothing {
    fn variable(&self, name: &str) -> Option<Cow<'_, Value>> {
        (name == "runtime").then(|| Cow::Owned(runtime()))
    }
}

impl On {
    /// Reads `on` and `read`.
    pub(super) fn read(fields: &mut Fields<'_>, builder: &mut Builder) -> Option<Self> {
        let on = fields.object("on", builder);
        let path = fields.at("on.until");
        let read = Read::of_field(builder, fields);
        if fields.has("read") && !fields.has("on") {
            builder.violate(&fields.at("read"), "belongs to 'on'; there is none");
        }
        let (to, until) = read_consumption(builder, on?);
        let until = until?;
        if matches!(until, Until::Never) {
            builder.violate(&path, "never holds, so no execution would ever start");
            return None;
        }
        // The specification's prose and its examples have the events themselves; `read` came later.
        Some(Self { to: to?, until, read: read.unwrap_or(Read::Envelope) })
    }

    /// Offers an event.
    pub fn offer(&self, gathered: &mut Gathered, event: &Value) -> Offered {
        let scope = Scope { variables: &Nothing, input: &Value::Null };
        if let Until::Consumed(strategy) = &self.until
            && let Ok(Some(fit)) = strategy.fit(&scope, event, &gathered.until_served, &gathered.bound)
        {
            Strategy::serve(fit, &mut gathered.until_served, &mut gathered.bound);
            if strategy.is_satisfied(&gathered.until_served) {
                return Offered::Complete(std::mem::take(gathered).inputs);
            }
            return Offered::Kept;
        }
        let Ok(Some(fit)) = self.to.fit(&scope, event, &gathered.served, &gathered.bound) else {
            return Offered::Ignored;
        };
        Strategy::serve(fit, &mut gathered.served, &mut gathered.bound);
        let input = self.read.of(event);
        gathered.bytes += input.to_string().len();
        gathered.inputs.push(input);
        if gathered.bytes > GATHERED_BYTES_MAX || gathered.inputs.len() > GATHERED_EVENTS_MAX {
            *gathered = Gathered::default();
            return Offered::TooMuch;
        }
        if self.is_complete(gathered, &scope) {
            Offered::Complete(std::mem::take(gathered).inputs)
        } else {
            Offered::Kept
        }
    }

    fn is_complete(&self, gathered: &Gathered, scope: &Scope<'_>) -> bool {
        match &self.until {
            Until::Satisfied => self.to.is_satisfied(&gathered.served),
            // A condition that cannot be evaluated does not hold.
            Until::Condition(condition) => {
                condition.test(&Value::Array(gathered.inputs.clone()), scope.variables).unwrap_or(false)
            }
            Until::Never | Until::Consumed(_) => false,
        }
    }

    /// The types of events that it is for; `None` if it may want events of any type.
    pub fn types(&self) -> Option<Vec<&str>> {
        let mut filters = self.to.literals(&[]);
        if let Until::Consumed(strategy) = &self.until {
            filters.extend(strategy.literals(&[]));
        }
        filters.iter().map(|filter| filter.get("type").copied()).collect()
    }

    /// For people: `event com.example.order`.
    pub fn about(&self) -> String {
        self.to.about()
    }
}
