//! Runtime expressions: jq, compiled once, deterministic, and limited in whatever they could use up.

use std::{borrow::Cow, fmt};

use baton_execution::{Fault, fault_type};
use jaq_core::{Compiler, Ctx, Vars, data, load};
use jaq_json::Val;
use serde::Deserialize as _;
use serde_json::Value;

/// Gives the variables that an expression names.
pub(crate) trait Variables {
    /// The value of `$name`; `None` if there is no such variable here.
    fn variable(&self, name: &str) -> Option<Cow<'_, Value>>;
}

/// A compiled expression.
pub(crate) struct Expression {
    text: Box<str>,
    variables: Vec<String>,
    filter: jaq_core::Filter<data::JustLut<Val>>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl Expression {
    pub(crate) fn compile(text: &str, variables: &[&str]) -> Result<Self, String> {
        let refused = || format!("'{text}' is not a jq expression");
        let names: Vec<String> = variables.iter().map(|name| format!("${name}")).collect();
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = load::Arena::default();
        let modules = load::Loader::new(defs).load(&arena, load::File { code: text, path: () }).map_err(|_| refused())?;
        let compiler = Compiler::default().with_funs(funs).with_global_vars(names.iter().map(String::as_str));
        let filter = compiler.compile(modules).map_err(|_| refused())?;
        Ok(Self { text: text.into(), variables: variables.iter().map(|&name| name.to_owned()).collect(), filter })
    }

    pub(crate) fn evaluate(&self, dot: &Value, variables: &dyn Variables) -> Result<Value, Fault> {
        let fail = |detail: String| Fault::new(fault_type::EXPRESSION, 400, format!("'{}': {detail}", self.text));
        let values = self.variables.iter().map(|name| {
            let value = variables.variable(name).unwrap_or(Cow::Owned(Value::Null));
            Val::deserialize(&*value).unwrap_or_default()
        });
        let ctx = Ctx::<data::JustLut<Val>>::new(&self.filter.lut, Vars::new(values));
        let input = Val::deserialize(dot).map_err(|error| fail(error.to_string()))?;
        let mut results = Vec::new();
        for result in self.filter.id.run((ctx, input)).map(jaq_core::unwrap_valr) {
            let value = result.map_err(|error| fail(error.to_string()))?;
            results.push(serde_json::from_str(&value.to_string()).map_err(|error| fail(error.to_string()))?);
        }
        Ok(match results.len() {
            0 => Value::Null,
            1 => results.remove(0),
            _ => Value::Array(results),
        })
    }

    pub(crate) fn test(&self, dot: &Value, variables: &dyn Variables) -> Result<bool, Fault> {
        Ok(!matches!(self.evaluate(dot, variables)?, Value::Null | Value::Bool(false)))
    }
}
