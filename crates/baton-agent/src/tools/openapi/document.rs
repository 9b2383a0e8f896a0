//! What an OpenAPI document within a spec says of an operation: its arguments as a JSON schema, and whether it reads.
//!
//! Documents of 2.0 and 3.x. Schemas that the operation refers to are taken along (`$defs`), with what they refer to. The call itself is
//! made by the activity, which reads the document again: whatever else is wrong with it, is told there.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::fields::cut;

/// References that are followed one after the other.
const REFERENCES_MAX: usize = 16;
/// Schemas that one operation refers to, with those that they refer to.
const SCHEMAS_MAX: usize = 256;
/// Operations that are named when the one that is asked for is not there.
const NAMED_MAX: usize = 8;
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// An operation as a tool.
pub(super) struct Described {
    /// JSON schema of the arguments.
    pub(super) parameters: Value,
    /// `GET` and `HEAD`.
    pub(super) reads: bool,
}

impl Described {
    /// The operation of a document; `None` without one. The error is a sentence.
    pub(super) fn find(content: Option<&Value>, id: &str) -> Option<Result<Self, String>> {
        content.map(|root| describe(root, id))
    }
}

fn describe(root: &Value, id: &str) -> Result<Described, String> {
    let mut known = Vec::new();
    for item in root.get("paths").and_then(Value::as_object).into_iter().flat_map(Map::values) {
        let item = follow(root, item)?;
        for method in METHODS {
            let Some(operation) = item.get(method) else { continue };
            match operation.get("operationId").and_then(Value::as_str) {
                Some(name) if name == id => return arguments(root, item, operation, method),
                Some(name) if known.len() < NAMED_MAX => known.push(format!("'{}'", cut(name, 64))),
                Some(_) | None => {}
            }
        }
    }
    let known =
        if known.is_empty() { "it has none with an id".to_owned() } else { format!("there are {}", known.join(", ")) };
    Err(format!("the document has no operation with the id '{}'; {known}", cut(id, 64)))
}

fn arguments(root: &Value, item: &Value, operation: &Value, method: &str) -> Result<Described, String> {
    let mut properties: BTreeMap<String, (Value, bool)> = BTreeMap::new();
    for declared in [item, operation].into_iter().flat_map(|of| array(of, "parameters")) {
        let declared = follow(root, declared)?;
        let text = |name: &str| declared.get(name).and_then(Value::as_str).unwrap_or_default();
        let is_body = text("in") == "body";
        let name = if is_body { "body" } else { text("name") };
        let needed = text("in") == "path" || flag(declared, "required");
        let own = || Value::Object(kept_of_parameter(declared));
        let schema = declared.get("schema").cloned().or_else(|| schema_in_content(declared)).unwrap_or_else(own);
        properties.insert(name.to_owned(), (with_description(schema, declared), needed));
    }
    if let Some(declared) = operation.get("requestBody") {
        let declared = follow(root, declared)?;
        let schema = schema_in_content(declared).unwrap_or_else(|| json!({}));
        properties.insert("body".to_owned(), (with_description(schema, declared), flag(declared, "required")));
    }
    let required: Vec<&String> = properties.iter().filter(|(_, (_, needed))| *needed).map(|(name, _)| name).collect();
    let mut parameters = json!({"type": "object", "required": required, "additionalProperties": false});
    let mut schemas: Map<String, Value> = properties.into_iter().map(|(name, (schema, _))| (name, schema)).collect();
    let definitions = take_along(root, &mut schemas)?;
    parameters["properties"] = Value::Object(schemas);
    if !definitions.is_empty() {
        parameters["$defs"] = Value::Object(definitions);
    }
    Ok(Described { parameters, reads: matches!(method, "get" | "head") })
}

/// What 2.0 says of a parameter in place of a schema.
fn kept_of_parameter(declared: &Value) -> Map<String, Value> {
    const KEPT: [&str; 9] =
        ["type", "format", "enum", "items", "minimum", "maximum", "pattern", "minLength", "maxLength"];
    let fields = declared.as_object().into_iter().flatten();
    // A file has no type in JSON schema.
    let kept = fields.filter(|(name, value)| KEPT.contains(&name.as_str()) && value.as_str() != Some("file"));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The schema of the media type that a call sends: JSON if it is taken.
fn schema_in_content(declared: &Value) -> Option<Value> {
    let content = declared.get("content")?.as_object()?;
    let json = content.iter().find(|(media_type, _)| media_type.contains("json"));
    json.or_else(|| content.iter().next()).and_then(|(_, media)| media.get("schema")).cloned()
}

fn with_description(mut schema: Value, declared: &Value) -> Value {
    let description = declared.get("description").filter(|text| text.is_string());
    if let (Some(fields), Some(description)) = (schema.as_object_mut(), description) {
        // Beside a reference other fields are ignored by some readers, and do no harm.
        fields.entry("description").or_insert_with(|| description.clone());
    }
    schema
}

/// Makes the references in schemas ones to `$defs`; these, with what they refer to in turn.
fn take_along(root: &Value, schemas: &mut Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut pointers: Vec<String> = Vec::new();
    schemas.values_mut().for_each(|schema| rename(schema, &mut pointers));
    let mut definitions = Map::new();
    while let Some(pointer) = pointers.get(definitions.len()).filter(|_| definitions.len() < SCHEMAS_MAX) {
        let found = pointer.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        let mut schema = found.cloned().ok_or_else(|| no_place(pointer))?;
        rename(&mut schema, &mut pointers);
        definitions.insert(definition_name(definitions.len()), schema);
    }
    if pointers.len() > definitions.len() {
        return Err(format!("the operation refers to more than {SCHEMAS_MAX} schemas"));
    }
    Ok(definitions)
}

fn definition_name(index: usize) -> String {
    format!("s{index}")
}

/// Gives what a schema refers to the name of its place among `pointers`.
fn rename(schema: &mut Value, pointers: &mut Vec<String>) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, pointers)),
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get_mut("$ref") {
                let known = pointers.iter().position(|pointer| pointer == target);
                let index = known.unwrap_or_else(|| {
                    // One more than are allowed is enough to know it.
                    if pointers.len() <= SCHEMAS_MAX {
                        pointers.push(target.clone());
                    }
                    pointers.len() - 1
                });
                *target = format!("#/$defs/{}", definition_name(index));
            }
            fields.values_mut().for_each(|field| rename(field, pointers));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn no_place(target: &str) -> String {
    format!("the document refers to '{}', which is no place in it; references go to '#/…'", cut(target, 64))
}

/// What a reference refers to; anything else is itself.
fn follow<'d>(root: &'d Value, value: &'d Value) -> Result<&'d Value, String> {
    let mut value = value;
    for _ in 0..REFERENCES_MAX {
        let Some(target) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
        let found = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        value = found.ok_or_else(|| no_place(target))?;
    }
    Err(format!("the document has more than {REFERENCES_MAX} references to references"))
}

fn array<'d>(value: &'d Value, name: &str) -> &'d [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or_default()
}
