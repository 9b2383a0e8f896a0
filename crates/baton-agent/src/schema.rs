//! JSON schemas: of the arguments of a tool, of the answer of an agent.
//!
//! # Deliberately absent
//! References to other documents: a schema that needs the network to be understood is refused.

use std::fmt;

use jsonschema::Validator;
use serde_json::Value;

use crate::fields::{cut, kind_of};

/// Largest schema, in bytes of its JSON: every model call carries it.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Violations of one value that are named; the first ones tell enough.
const VIOLATIONS_MAX: usize = 8;
/// Violations of one value that are looked at: they are put in order before the first ones are taken, since
/// the order in which they are found is not promised.
const VIOLATIONS_FOUND_MAX: usize = 256;

/// A JSON schema that has been compiled.
pub struct Schema {
    source: Value,
    validator: Validator,
}

impl Schema {
    /// Compiles a schema; the error is a sentence, to which the caller adds the field path.
    pub(crate) fn compile(source: &Value) -> Result<Self, String> {
        if !source.is_object() {
            return Err(format!("must be a JSON schema, an object, found {}", kind_of(source)));
        }
        let length = source.to_string().len();
        if length > SCHEMA_BYTES_MAX {
            return Err(format!("has {length} bytes, allowed are 2 to {SCHEMA_BYTES_MAX}"));
        }
        let validator = jsonschema::validator_for(source).map_err(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "the schema".to_owned() } else { format!("'{place}' in the schema") };
            format!("must be a valid JSON schema; {place}: {}", cut(&error.to_string(), 200))
        })?;
        Ok(Self { source: source.clone(), validator })
    }

    /// The schema as it was written.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// What is wrong with a value, as sentences; empty if it matches. At most eight, in a fixed order.
    pub fn violations(&self, value: &Value) -> Vec<String> {
        let mut violations: Vec<String> = self
            .validator
            .iter_errors(value)
            .take(VIOLATIONS_FOUND_MAX)
            .map(|error| {
                let place = error.instance_path().to_string();
                let what = cut(&error.to_string(), 200);
                if place.is_empty() { what } else { format!("{place}: {what}") }
            })
            .collect();
        violations.sort();
        violations.truncate(VIOLATIONS_MAX);
        violations
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.source).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_what_is_wrong_with_a_value() {
        let schema = Schema::compile(
            &json!({"type": "object", "required": ["city"], "properties": {"days": {"type": "integer"}}}),
        )
        .unwrap();
        assert!(schema.violations(&json!({"city": "Bern", "days": 2})).is_empty());
        let violations = schema.violations(&json!({"days": "two"})).join("; ");
        assert!(
            violations.contains("/days: \"two\" is not of type \"integer\"")
                && violations.contains("\"city\" is a required property"),
            "{violations}"
        );
    }

    #[test]
    fn refuses_what_is_no_schema_or_needs_the_network() {
        for (schema, says) in [
            (json!(true), "an object"),
            (json!({"type": "strin"}), "'/type' in the schema"),
            (json!({"$ref": "http://127.0.0.1:9/other.json"}), "must be a valid JSON schema"),
            (json!({"description": "x".repeat(SCHEMA_BYTES_MAX)}), "allowed are 2 to"),
        ] {
            let refusal = Schema::compile(&schema).unwrap_err();
            assert!(refusal.contains(says), "{refusal}");
        }
    }

    #[test]
    fn recursion_ends_whether_it_follows_the_value_or_not() {
        for endless in [
            json!({"$ref": "#"}),
            json!({"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {"$ref": "#"}}}}),
            json!({"$dynamicRef": "#"}),
        ] {
            if let Ok(schema) = Schema::compile(&endless) {
                assert!(schema.violations(&json!({"a": 1})).len() <= VIOLATIONS_MAX);
            }
        }
        let tree = json!({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}});
        let schema = Schema::compile(&tree).unwrap();
        assert!(schema.violations(&json!({"children": [{"children": []}]})).is_empty());
        assert_eq!(schema.violations(&json!({"children": [{"children": 1}]})).len(), 1);
    }
}
