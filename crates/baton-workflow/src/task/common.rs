//! What several kinds of tasks share: durations, waiting for an answer, timers.

use std::sync::Arc;

use baton_execution::{Fault, fault_type};
use serde_json::Value;

use crate::{
    document::duration_ms,
    expression::{Expression, Variables},
    template::Template,
};

/// A length of time, fixed or evaluated.
#[derive(Debug)]
pub(crate) enum Delay {
    /// Milliseconds.
    Fixed(u64),
    /// An expression that gives a duration.
    Expression(Expression),
    /// A duration object with expressions in it.
    Template(Template),
}

impl Delay {
    /// Milliseconds.
    pub(crate) fn evaluate(&self, dot: &Value, variables: &dyn Variables) -> Result<u64, Fault> {
        let value = match self {
            Self::Fixed(millis) => return Ok(*millis),
            Self::Expression(expression) => expression.evaluate(dot, variables)?,
            Self::Template(template) => template.evaluate(dot, variables)?,
        };
        duration_ms(&value).map_err(|message| Fault::new(fault_type::EXPRESSION, 400, format!("a duration {message}")))
    }

    pub(crate) const fn fixed_ms(&self) -> Option<u64> {
        match self {
            Self::Fixed(millis) => Some(*millis),
            Self::Expression(_) | Self::Template(_) => None,
        }
    }
}

/// A limit of time, perhaps shared by several tasks.
#[derive(Clone, Debug)]
pub(crate) struct Timeout(Arc<Delay>);

impl Timeout {
    pub(crate) fn new(after: Delay) -> Self {
        Self(Arc::new(after))
    }

    pub(crate) fn evaluate(&self, dot: &Value, variables: &dyn Variables) -> Result<u64, Fault> {
        self.0.evaluate(dot, variables)
    }

    pub(crate) fn fixed_ms(&self) -> Option<u64> {
        self.0.fixed_ms()
    }
}

/// A name as a part of a JSON pointer (RFC 6901).
pub(crate) fn escape(name: &str) -> String {
    if name.contains(['~', '/']) { name.replace('~', "~0").replace('/', "~1") } else { name.to_owned() }
}

/// `metadata.await: callback`.
pub(crate) mod callback {
    use crate::document::{Builder, Fields};

    /// Whether tasks of a kind run an activity, which can hand out a token.
    fn hands_out(kind: &str) -> bool {
        match kind {
            "call baton.dev/agent" | "call function" => false,
            "run container" | "run script" | "run shell" => true,
            other => other.starts_with("call "),
        }
    }

    /// A task that completes when somebody answers its token.
    #[derive(Clone, Debug)]
    pub(crate) struct Await {
        /// After this many milliseconds without a heartbeat the wait fails.
        pub(crate) heartbeat_ms: Option<u64>,
    }

    /// Reads `metadata`; keys that Baton does not know are the author's own.
    pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, kind: &str) -> Option<Await> {
        let mut metadata = fields.object("metadata", builder)?;
        let wait = metadata.word("await", &["callback"], builder);
        let heartbeat = metadata.duration("heartbeat", builder);
        let heartbeat_ms = heartbeat.as_ref().and_then(super::Delay::fixed_ms);
        if heartbeat.is_some() && heartbeat_ms.is_none() {
            builder.violate(&metadata.at("heartbeat"), "must be a fixed duration, not an expression");
        }
        if heartbeat.is_some() && wait.is_none() {
            builder.violate(&metadata.at("heartbeat"), "applies to tasks with 'await: callback' only");
        }
        wait?;
        if !hands_out(kind) {
            builder.violate(
                &metadata.at("await"),
                format!(
                    "a task of the kind '{kind}' hands out no token; allowed are all calls but those of agents and functions, and 'run container', 'run script' and 'run shell'"
                ),
            );
        }
        Some(Await { heartbeat_ms })
    }
}
