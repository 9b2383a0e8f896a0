//! JSON in which some strings are expressions: `${ .a }` becomes what it evaluates to, everything else stays.
//!
//! # Invariants
//! - A template without expressions is one shared literal: evaluating it copies nothing but what the caller needs.
//! - The result is measured while it is built, so that many small expressions cannot add up to a giant.
//!
//! # Deliberately absent
//! Expressions inside of longer strings (`"Hello ${ .name }"`): in the language such a string is a literal.

use baton_execution::Fault;
use serde_json::{Map, Value};

use crate::{
    data::Budget,
    expression::{Expression, Variables},
};

#[derive(Debug)]
pub(crate) enum Template {
    Literal(Value),
    Expression(Expression),
    /// In loose mode: what cannot be evaluated is the text itself.
    Loose(Expression, String),
    Array(Vec<Template>),
    Object(Vec<(String, Template)>),
}

impl Template {
    /// Fills in the expressions, each with `dot` as its input.
    pub(crate) fn evaluate(&self, dot: &Value, variables: &dyn Variables) -> Result<Value, Fault> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Expression(expression) => expression.evaluate(dot, variables),
            Self::Loose(..) | Self::Array(_) | Self::Object(_) => {
                let value = self.fill(dot, variables, &mut Budget::new())?;
                // Literal nesting and data nesting add up.
                Budget::new().take(&value)?;
                Ok(value)
            }
        }
    }

    fn fill(&self, dot: &Value, variables: &dyn Variables, budget: &mut Budget) -> Result<Value, Fault> {
        let value = match self {
            Self::Array(items) => {
                budget.take_bytes(items.len())?;
                return items
                    .iter()
                    .map(|item| item.fill(dot, variables, budget))
                    .collect::<Result<Vec<_>, _>>()
                    .map(Value::Array);
            }
            Self::Object(fields) => {
                let mut map = Map::with_capacity(fields.len());
                for (key, item) in fields {
                    budget.take_bytes(key.len())?;
                    map.insert(key.clone(), item.fill(dot, variables, budget)?);
                }
                return Ok(Value::Object(map));
            }
            Self::Literal(value) => value.clone(),
            Self::Expression(expression) => expression.evaluate(dot, variables)?,
            Self::Loose(expression, text) => {
                expression.evaluate(dot, variables).unwrap_or_else(|_| Value::String(text.clone()))
            }
        };
        budget.take(&value)?;
        Ok(value)
    }

    /// The literal text, if that is what it is.
    pub(crate) fn as_literal_str(&self) -> Option<&str> {
        match self {
            Self::Literal(Value::String(text)) => Some(text),
            Self::Literal(_) | Self::Expression(_) | Self::Loose(..) | Self::Array(_) | Self::Object(_) => None,
        }
    }
}
