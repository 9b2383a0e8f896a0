//! Every transcript in `tests/transcripts`: a definition and inputs give exactly these commands.
//!
//! The harness also replays after every input, and goes on from a snapshot before every input, so each case proves
//! replay from each prefix. `UPDATE_TRANSCRIPTS=1` writes what was found into the files, to be read before it is kept.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Serialize, Deserialize)]
struct Case {
    name: String,
    about: String,
    definition: Value,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
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

fn read(file: &str) -> Vec<Case> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    let read: Value = serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_json::from_value(read).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn run(file: &str) {
    let path = folder().join(file);
    let mut cases = read(file);
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

/// What must have been seen of every kind of task, as [`note_outcomes`] names it.
const OUTCOMES: [&str; 5] = ["cancelled", "completed", "faulted", "retried", "timed out"];

/// What cannot happen to a kind: those that wait for nothing are neither cancelled nor late, and `raise` does nothing but fault.
const IMPOSSIBLE: [(&str, &[&str]); 3] = [
    ("raise", &["cancelled", "completed", "retried", "timed out"]),
    ("set", &["cancelled", "timed out"]),
    ("switch", &["cancelled", "timed out"]),
];

/// By kind of task, what happens to tasks of it in the commands of a case.
fn note_outcomes(case: &Case, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let mut kinds = BTreeMap::new();
    for line in case.steps.iter().flat_map(|step| step.commands.lines()) {
        let mut words = line.splitn(3, ' ');
        let (Some(mark), Some(position)) = (words.next(), words.next()) else { continue };
        let rest = words.next().unwrap_or_default();
        if mark == ">" {
            let (position, attempt) = position.rsplit_once('#').unwrap();
            kinds.insert(position, rest);
            let seen = found.entry(rest.to_owned()).or_default();
            if attempt != "1" {
                seen.insert("retried");
            }
            continue;
        }
        let outcome = match mark {
            "<" => "completed",
            "x" => "cancelled",
            "!" if rest.starts_with("408 ") => "timed out",
            "!" => "faulted",
            _ => continue,
        };
        if let Some(kind) = kinds.get(position) {
            found.entry((*kind).to_owned()).or_default().insert(outcome);
        }
    }
}

#[test]
fn every_kind_of_task_is_seen_with_every_outcome() {
    let mut found = BTreeMap::new();
    FILES.iter().flat_map(|file| read(file)).for_each(|case| note_outcomes(&case, &mut found));
    let mut missing = Vec::new();
    for (kind, seen) in &found {
        let impossible = IMPOSSIBLE.iter().find(|(name, _)| name == kind).map_or(&[][..], |(_, outcomes)| outcomes);
        for outcome in OUTCOMES {
            if seen.contains(outcome) == impossible.contains(&outcome) {
                missing.push(format!("{kind}: {outcome}"));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
    assert!(found.len() > 20, "{:?}", found.keys());
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
    listen, mcp, openapi, outcomes, process, raise, secrets, try_catch, wait,
);
