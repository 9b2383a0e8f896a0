//! Every transcript in `tests/transcripts`: a definition and inputs give exactly these commands.
//!
//! The harness also replays after every input, and goes on from a snapshot before every input, so each case proves
//! replay from each prefix. `UPDATE_TRANSCRIPTS=1` writes what was found into the files, to be read before it is kept.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

mod support;

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Serialize, Deserialize)]
struct Case {
    name: String,
    about: String,
    definition: Value,
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    env: std::collections::BTreeMap<String, String>,
    steps: Vec<Step>,
}

#[derive(Serialize, Deserialize)]
struct Step {
    /// Milliseconds that pass before the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    advance: Option<i64>,
    give: support::Give,
    #[serde(default)]
    commands: String,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn run(file: &str) {
    let path = folder().join(file);
    let read: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut cases: Vec<Case> = serde_json::from_value(read).unwrap_or_else(|error| panic!("{file}: {error}"));
    let update = std::env::var_os("UPDATE_TRANSCRIPTS").is_some();
    let mut differences = Vec::new();
    for case in &mut cases {
        let mut session = support::Session::new(&case.definition, &case.env);
        for (number, step) in case.steps.iter_mut().enumerate() {
            session.advance(step.advance.unwrap_or(0));
            let found = session.give(&step.give);
            if found.trim() != step.commands.trim() {
                differences.push(format!(
                    "{file}: {}: step {number}\n--- expected\n{}\n--- found\n{found}",
                    case.name, step.commands
                ));
                step.commands = found;
            }
        }
    }
    if update {
        fs::write(&path, serde_yaml_ng::to_string(&serde_json::to_value(&cases).unwrap()).unwrap()).unwrap();
    } else {
        assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    }
}

#[test]
fn every_file_has_a_test() {
    let mut files: Vec<String> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, FILES);
}

macro_rules! transcripts {
    ($($test:ident),* $(,)?) => {
        const FILES: &[&str] = &[$(concat!(stringify!($test), ".yaml")),*];
        $(
            #[test]
            fn $test() {
                run(concat!(stringify!($test), ".yaml"));
            }
        )*
    };
}

transcripts!(
    a2a, agent, asyncapi, basics, callback, data, emit, extensions, flow, for_each, fork, functions, grpc, http,
    listen, mcp, openapi, process, raise, secrets, try_catch, wait,
);
