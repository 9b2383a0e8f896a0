//! JSON Schemas of inputs, outputs and contexts: compiled once, checked without network or file access.
//!
//! # Deliberately absent
//! Schemas of other formats and schemas kept elsewhere (`resource`): they are violations, not silently ignored.
//!
//! # Failure
//! Data that does not match is a fault of type validation that lists the first few mismatches with their paths.

use baton_execution::{Fault, fault_type};
use serde_json::Value;

/// Mismatches that are told; more would only hide the first.
const MISMATCHES_SHOWN: usize = 5;

#[derive(Debug)]
pub(crate) struct Schema {
    validator: jsonschema::Validator,
}

impl Schema {
    /// Compiles a schema document.
    ///
    /// # Errors
    /// A sentence for a violation.
    pub(crate) fn compile(document: &Value) -> Result<Self, String> {
        let options = jsonschema::options().with_pattern_options(jsonschema::PatternOptions::regex());
        match options.build(document) {
            Ok(validator) => Ok(Self { validator }),
            Err(error) => Err(format!("is not a JSON Schema that can be used: {error}")),
        }
    }

    /// Checks `value`; `what` names it in the fault, such as `the input`.
    pub(crate) fn check(&self, value: &Value, what: &str) -> Result<(), Fault> {
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let mut shown = Vec::new();
        for error in self.validator.iter_errors(value).take(MISMATCHES_SHOWN) {
            let path = error.instance_path().to_string();
            let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
            let text: String = format!("{place}{error}").chars().take(300).collect();
            shown.push(text);
        }
        Err(Fault::new(fault_type::VALIDATION, 400, format!("{what} does not match its schema: {}", shown.join("; "))))
    }
}
