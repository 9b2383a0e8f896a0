//! The check of documents against the specification's own JSON Schemas, the released one and that of its main branch.
//!
//! Whatever a schema refuses, the check refuses; what the check refuses and a schema does not is listed with the reason.
//! Documents are all examples, the invalid fixtures, and every example with one thing changed.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

mod support;

use std::{collections::BTreeMap, fs, path::Path};

use jsonschema::Validator;
use serde_json::{Value, json};

/// Kinds of tasks and parts of documents that are refused because this version does not run them.
const NOT_SUPPORTED: &str = "not supported yet";

/// What the schemas refuse and the check takes: the beginning of what was changed, and the reason.
const TAKEN: [(&str, &str); 5] = [
    (".do[].with.arguments is []", "a method that takes a stream gets an array of messages"),
    (".do[].with.message.payload is", "a payload may be any JSON"),
    (".do[].run.workflow.input is", "a workflow's input may be any JSON"),
    (".do[].with.headers", "a number or a boolean is sent as its text"),
    (".do[].with.query", "a number or a boolean is sent as its text"),
];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

fn documents(name: &str) -> BTreeMap<String, Value> {
    let files = fs::read_dir(folder().join(name)).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "yaml"))
        .filter_map(|file| {
            // One of the invalid ones repeats a key, which the reader of YAML refuses already.
            let document = serde_yaml_ng::from_str(&fs::read_to_string(&file).unwrap()).ok()?;
            Some((file.file_name().unwrap().to_str().unwrap().to_owned(), document))
        })
        .collect()
}

fn schema(name: &str) -> Validator {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    let schema: Value = serde_yaml_ng::from_str(&text).unwrap();
    jsonschema::options().build(&schema).unwrap()
}

/// What the check says; resources are there for whatever is kept elsewhere.
fn check(document: &Value) -> Vec<String> {
    match baton_workflow::check(&support::with_externals(document)) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn examples_of_both_versions_are_valid_and_accepted() {
    let (released, main) = (schema("schema.yaml"), schema("main/schema.yaml"));
    let mut refused = Vec::new();
    for (schema, name) in [(&released, "examples"), (&main, "examples"), (&main, "main/examples")] {
        for (file, document) in documents(name) {
            if !schema.is_valid(&document) {
                refused.push(format!("{name}/{file}"));
            }
            let found: Vec<String> =
                check(&document).into_iter().filter(|violation| !violation.contains(NOT_SUPPORTED)).collect();
            assert!(found.is_empty(), "{file}: {found:#?}");
        }
    }
    assert_eq!(refused, [""; 0]);
}

#[test]
fn invalid_documents_are_refused_by_both() {
    let main = schema("main/schema.yaml");
    for (file, document) in documents("invalid") {
        assert!(!main.is_valid(&document), "{file}");
        assert!(!check(&document).is_empty(), "{file}");
    }
}

#[test]
fn what_the_schemas_refuse_is_refused() {
    let (released, main) = (schema("schema.yaml"), schema("main/schema.yaml"));
    let mut differences = BTreeMap::new();
    let mut count = 0;
    for (file, document) in documents("examples") {
        for (change, changed) in changes(&document) {
            count += 1;
            if released.is_valid(&changed) || main.is_valid(&changed) || !check(&changed).is_empty() {
                continue;
            }
            if !TAKEN.iter().any(|(beginning, _)| change.starts_with(beginning)) {
                differences.entry(change).or_insert(file.clone());
            }
        }
    }
    assert!(count > 3_000, "{count} documents");
    assert!(differences.is_empty(), "{differences:#?}");
}

/// Every document that is this one with one thing changed: a field left out, one too many, or a value of another type;
/// and what was changed.
fn changes(document: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut pointers = vec![(String::new(), String::new())];
    while let Some((pointer, shown)) = pointers.pop() {
        let value = document.pointer(&pointer).unwrap();
        let mut change = |what: &str, to: Value| {
            let mut changed = document.clone();
            *changed.pointer_mut(&pointer).unwrap() = to;
            found.push((format!("{shown} {what}"), changed));
        };
        let others = [json!(null), json!(true), json!(7), json!("text"), json!([]), json!({})];
        for other in others {
            if std::mem::discriminant(&other) != std::mem::discriminant(value) {
                change(&format!("is {other}"), other);
            }
        }
        match value {
            Value::Object(fields) => {
                let mut more = fields.clone();
                more.insert("misspelt".to_owned(), json!(1));
                change("has a field more", more.into());
                for key in fields.keys() {
                    let mut fewer = fields.clone();
                    fewer.remove(key);
                    change(&format!("lacks {key}"), fewer.into());
                    let escaped = key.replace('~', "~0").replace('/', "~1");
                    // Names of tasks, and whatever an author may name, say nothing.
                    let named = fields.len() == 1 && pointer.ends_with(|c: char| c.is_ascii_digit());
                    let shown = if named { shown.clone() } else { format!("{shown}.{key}") };
                    pointers.push((format!("{pointer}/{escaped}"), shown));
                }
            }
            Value::Array(items) => {
                for index in 0..items.len() {
                    pointers.push((format!("{pointer}/{index}"), format!("{shown}[]")));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    found
}
