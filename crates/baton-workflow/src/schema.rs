//! JSON Schemas of inputs, outputs and contexts: compiled once, checked without network or file access.
//!
//! # Invariants
//! - A check takes a bounded number of steps. Schemas that refer to their own parts can ask for exponentially many;
//!   what a check of those will cost is counted before it is made.
//!
//! # Deliberately absent
//! Schemas of other formats and schemas kept elsewhere (`resource`, `$ref` to another document, `$id`s and anchors as
//! targets): they are violations, not silently ignored.
//!
//! # Failure
//! Data that does not match is a fault of type validation that lists the first few mismatches with their paths.

use baton_execution::{Fault, fault_type};
use serde_json::Value;

/// Mismatches that are told; more would only hide the first.
const MISMATCHES_SHOWN: usize = 5;

/// Subschemas that one check may apply.
const STEPS_MAX: u32 = 100_000;
/// Subschemas within each other that one check may apply.
const DEPTH_MAX: u32 = 400;

#[derive(Debug)]
pub(crate) struct Schema {
    validator: jsonschema::Validator,
    /// The document, if a check of it may take more steps than the schema and the data are long.
    counted: Option<Value>,
}

impl Schema {
    /// Compiles a schema document.
    ///
    /// # Errors
    /// A sentence for a violation.
    pub(crate) fn compile(document: &Value) -> Result<Self, String> {
        check_references(document, true)?;
        let options = jsonschema::options().with_pattern_options(jsonschema::PatternOptions::regex());
        match options.build(document) {
            Ok(validator) => Ok(Self { validator, counted: multiplies(document).then(|| document.clone()) }),
            Err(error) => Err(format!("is not a JSON Schema that can be used: {error}")),
        }
    }

    /// Checks `value`; `what` names it in the fault, such as `the input`.
    pub(crate) fn check(&self, value: &Value, what: &str) -> Result<(), Fault> {
        if let Some(schema) = &self.counted {
            let mut steps = Steps { schema, left: STEPS_MAX };
            if !steps.walk(schema, value, 0) {
                let detail = format!("checking {what} against its schema would take more than {STEPS_MAX} steps");
                return Err(Fault::new(fault_type::LIMIT, 400, detail).non_retryable());
            }
        }
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

/// References may only go to places of the same document, by JSON pointer.
fn check_references(schema: &Value, top: bool) -> Result<(), String> {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                let text = value.as_str();
                match (key.as_str(), text) {
                    ("$ref", Some(target)) if target != "#" && !target.starts_with("#/") => {
                        return Err(format!(
                            "refers to '{}'; references go to '#' or '#/…', places of the same schema",
                            crate::document::shown(target)
                        ));
                    }
                    ("$id" | "id", Some(_)) if !top => {
                        return Err("has an '$id' below its top; only the whole schema may have one".to_owned());
                    }
                    ("$dynamicRef" | "$recursiveRef", Some(_)) => {
                        return Err(format!("has a '{key}'; references are '$ref' to '#' or '#/…'"));
                    }
                    _ => check_references(value, false)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_references(item, false)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Whether a check may apply one subschema to one place of the data more than once.
fn multiplies(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| key == "$ref" || key.starts_with("unevaluated") || multiplies(value))
        }
        Value::Array(items) => items.iter().any(multiplies),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Counts how many subschemas a check applies at most.
struct Steps<'s> {
    schema: &'s Value,
    left: u32,
}

impl Steps<'_> {
    /// Whether a subschema can be applied to a value within what is left.
    fn walk(&mut self, schema: &Value, value: &Value, depth: u32) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        let Value::Object(keywords) = schema else { return true };
        // What is left over is found out by applying everything else again.
        let rounds = if keywords.keys().any(|key| key.starts_with("unevaluated")) { 2 } else { 1 };
        depth < DEPTH_MAX
            && (0..rounds).all(|_| keywords.iter().all(|(key, part)| self.keyword(key, part, value, depth + 1)))
    }

    fn keyword(&mut self, key: &str, part: &Value, value: &Value, depth: u32) -> bool {
        let children = || {
            value
                .as_array()
                .into_iter()
                .flatten()
                .chain(value.as_object().into_iter().flat_map(|fields| fields.values()))
        };
        let parts = || {
            part.as_array().into_iter().flatten().chain(part.as_object().into_iter().flat_map(|fields| fields.values()))
        };
        match key {
            "$ref" => {
                let pointer = part.as_str().and_then(|target| target.strip_prefix('#')).unwrap_or_default();
                let root = self.schema;
                root.pointer(pointer).is_none_or(|target| self.walk(target, value, depth))
            }
            "allOf" | "anyOf" | "oneOf" | "dependentSchemas" | "dependencies" => {
                parts().all(|part| self.walk(part, value, depth))
            }
            "not" | "if" | "then" | "else" => self.walk(part, value, depth),
            "properties" => part
                .as_object()
                .into_iter()
                .flatten()
                .all(|(name, part)| value.get(name).is_none_or(|child| self.walk(part, child, depth))),
            "prefixItems" => {
                parts().zip(value.as_array().into_iter().flatten()).all(|(part, child)| self.walk(part, child, depth))
            }
            "items" if part.is_array() => {
                parts().zip(value.as_array().into_iter().flatten()).all(|(part, child)| self.walk(part, child, depth))
            }
            "patternProperties" => parts().all(|part| children().all(|child| self.walk(part, child, depth))),
            "items"
            | "contains"
            | "additionalItems"
            | "additionalProperties"
            | "propertyNames"
            | "unevaluatedItems"
            | "unevaluatedProperties" => children().all(|child| self.walk(part, child, depth)),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_what_does_not_match_and_where() {
        let schema = Schema::compile(
            &json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "minimum": 1}}}),
        )
        .unwrap();
        schema.check(&json!({"a": 1}), "the input").unwrap();
        let fault = schema.check(&json!({"a": 0}), "the input").unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.status), (fault_type::VALIDATION, 400));
        assert_eq!(fault.detail.unwrap(), "the input does not match its schema: /a: 0 is less than the minimum of 1");
    }

    #[test]
    fn refuses_what_is_not_a_schema_or_is_elsewhere() {
        for schema in [
            json!({"type": "nonsense"}),
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"pattern": "("}),
            json!(7),
        ] {
            assert!(Schema::compile(&schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn schemas_that_refer_to_themselves_are_refused_or_end() {
        let deep = (0..100).fold(json!(1), |value, _| json!({"a": value}));
        for schema in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
            json!({"not": {"$ref": "#"}}),
            json!({"if": {"$ref": "#"}, "then": {"$ref": "#"}, "else": {"$ref": "#"}}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
            json!({"$defs": {"a": {"oneOf": [{"$ref": "#/$defs/b"}]}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
            json!({"$dynamicRef": "#x", "$dynamicAnchor": "x"}),
            json!({"$dynamicAnchor": "x", "allOf": [{"$dynamicRef": "#x"}]}),
            json!({"$recursiveRef": "#", "$schema": "https://json-schema.org/draft/2019-09/schema"}),
            json!({"dependentSchemas": {"a": {"$ref": "#"}}}),
            json!({"$anchor": "me", "allOf": [{"$ref": "#me"}]}),
            json!({"$id": "urn:x", "allOf": [{"$ref": "urn:x"}]}),
            json!({"properties": {"a": {"$ref": "#"}}}),
        ] {
            if let Ok(schema) = Schema::compile(&schema) {
                // Whatever it says, it must say something.
                let _ = schema.check(&deep, "the input");
            }
        }
    }

    #[test]
    fn checks_that_would_take_exponentially_long_are_not_made() {
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let part = |number: usize| json!({"$ref": format!("#/$defs/d{number}")});
            let mut defs: serde_json::Map<String, Value> = (0..60)
                .map(|number| (format!("d{number}"), json!({keyword: [part(number + 1), part(number + 1)]})))
                .collect();
            defs.insert("d60".to_owned(), json!({"type": "string"}));
            let schema = Schema::compile(&json!({"$defs": defs, "$ref": "#/$defs/d0"})).unwrap();
            assert_eq!(schema.check(&json!(1), "the input").unwrap_err().kind, fault_type::LIMIT, "{keyword}");
        }
        let branch = json!({"properties": {"a": {"$ref": "#"}}, "type": "object"});
        let deep = |levels: usize| (0..levels).fold(json!(1), |value, _| json!({"a": value}));
        let schema = Schema::compile(&json!({"anyOf": [branch, branch]})).unwrap();
        assert_eq!(schema.check(&deep(100), "the input").unwrap_err().kind, fault_type::LIMIT);
        let nested = (0..60)
            .fold(json!({"type": "object"}), |inner, _| json!({"allOf": [inner], "unevaluatedProperties": false}));
        assert_eq!(
            Schema::compile(&nested).unwrap().check(&json!({}), "the input").unwrap_err().kind,
            fault_type::LIMIT
        );
        let tree = Schema::compile(
            &json!({"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "integer"}]}}}),
        )
        .unwrap();
        tree.check(&deep(100), "the input").unwrap();
    }

    #[test]
    fn patterns_take_linear_time() {
        let schema = Schema::compile(&json!({"pattern": "^(a+)+$"})).unwrap();
        assert!(schema.check(&json!("a".repeat(10_000) + "!"), "the input").is_err());
        assert!(Schema::compile(&json!({"pattern": "(a{1000}){1000}"})).is_err());
    }
}
