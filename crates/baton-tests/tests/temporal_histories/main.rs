//! What earlier versions recorded at Temporal can be gone on with: this build's Programs replay it to the same commands, with
//! no more than the content that lies beside it. The fixtures are added to, never edited.
//!
//! `RECORD_FIXTURES=NAME cargo nextest run -p baton-tests` records those of this version under a new name.
#![expect(clippy::unwrap_used, reason = "a test")]

mod contents;
mod desk;
mod flows;
mod site;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use baton_engine_temporal::replay_history;
use baton_types::Digest;
use prost::Message as _;
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::{enums::v1::EventType, history::v1::History};

use self::{
    contents::{Contents, file_of},
    site::Site,
};

/// Run by run: the file of the first is named otherwise.
const FIRST_RUN: &str = "history.binpb";
/// What is in no fixture: tokens, keys, and places on the machine that recorded it.
const ELSEWHERE: [&str; 8] = ["baton1.", "Bearer", "authorization", "/home/", "/root/", "/tmp/", "/var/", "target/"];
/// Events of a run after which it goes on in a new one, where a fixture is to have several.
const FEW_EVENTS: u32 = 25;
/// As many as no fixture has.
const MANY_EVENTS: u32 = 10_000;

/// What has happened in a journey, so that its replay says something.
const MET: [EventType; 7] = [
    EventType::ActivityTaskCancelRequested,
    EventType::ActivityTaskCompleted,
    EventType::TimerCanceled,
    EventType::TimerFired,
    EventType::UpsertWorkflowSearchAttributes,
    EventType::WorkflowExecutionSignaled,
    EventType::WorkflowExecutionUpdateCompleted,
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// The histories of an execution, run by run.
fn runs(execution: &Path) -> Vec<Vec<u8>> {
    let later = (2..).map(|number| execution.join(format!("run-{number}.binpb"))).take_while(|file| file.exists());
    std::iter::once(execution.join(FIRST_RUN)).chain(later).map(|file| fs::read(file).unwrap()).collect()
}

fn replay(history: &[u8], contents: Contents) -> Result<(), String> {
    replay_history(history, Arc::new(contents), baton_server::programs())
}

/// Replays all executions of a version.
fn check_version(version: &Path) {
    let executions = folders(version);
    assert!(executions.len() >= flows::NAMES.len(), "{} has too few", version.display());
    for execution in executions {
        for (index, history) in runs(&execution).iter().enumerate() {
            let replayed = replay(history, Contents::kept(&execution.join("contents")));
            assert_eq!(replayed, Ok(()), "{}, run {}", execution.display(), index + 1);
        }
        check_clean(&execution, &[]);
    }
    let journey = History::decode(runs(&version.join(flows::JOURNEY))[0].as_slice()).unwrap();
    for met in MET {
        assert!(journey.events.iter().any(|event| event.event_type() == met), "no {met:?} in {}", version.display());
    }
    assert!(runs(&version.join(flows::CONTINUED)).len() > 2, "{}", version.display());
}

/// Fails for a file that tells where it was recorded, or holds one of the words in `secret`.
fn check_clean(execution: &Path, secret: &[String]) {
    let files = folders(execution).into_iter().flat_map(|path| if path.is_dir() { folders(&path) } else { vec![path] });
    for file in files {
        let content = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        for word in ELSEWHERE.iter().copied().chain(secret.iter().map(String::as_str)) {
            assert!(!content.contains(word), "{} holds '{word}'", file.display());
        }
    }
}

#[test]
fn recorded_histories_replay() {
    let versions = folders(&fixtures().join("temporal"));
    assert!(!versions.is_empty());
    for version in versions {
        check_version(&version);
    }
}

/// What the recorded journey does if its definition is changed, in the history and in what is kept, to what `change` makes.
fn replay_changed(change: impl FnOnce(&mut Value)) -> Result<(), String> {
    let recorded = fixtures().join("temporal/v0.1").join(flows::JOURNEY);
    let scratch = tempfile::tempdir().unwrap();
    let mut definition = None;
    for file in folders(&recorded.join("contents")) {
        let content = fs::read(&file).unwrap();
        fs::copy(&file, scratch.path().join(file.file_name().unwrap())).unwrap();
        if serde_json::from_slice::<Value>(&content).is_ok_and(|value| value["document"].is_object()) {
            definition = Some(content);
        }
    }
    let old = definition.unwrap();
    let mut definition: Value = serde_json::from_slice(&old).unwrap();
    change(&mut definition);
    let new = definition.to_string().into_bytes();
    fs::write(scratch.path().join(file_of(&Digest::of(&new))), &new).unwrap();
    let history = fs::read(recorded.join(FIRST_RUN)).unwrap();
    let history = replaced(&history, &Digest::of(&old).to_string(), &Digest::of(&new).to_string());
    replay(&history, Contents::kept(scratch.path()))
}

/// `bytes` with a text in place of another one of the same length, which is there.
fn replaced(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    let at = bytes.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
    [&bytes[..at], new.as_bytes(), &bytes[at + old.len()..]].concat()
}

#[test]
fn a_history_whose_definition_was_changed_is_refused() {
    let renamed = replay_changed(|definition| definition["document"]["title"] = json!("The same under another name"));
    assert_eq!(renamed, Ok(()), "what is not changed is what it does");
    let changes: [fn(&mut Value); 3] = [
        |definition| drop(definition["do"].as_array_mut().unwrap().remove(0)),
        |definition| definition["do"].as_array_mut().unwrap().swap(0, 2),
        |definition| definition["do"][0] = json!({"fetch": {"call": "baton.dev/echo", "with": 1}}),
    ];
    for change in changes {
        let refused = replay_changed(change);
        assert!(refused.as_ref().is_err_and(|why| why.contains("nondeterministic")), "{refused:?}");
    }
}

/// What this version records, it can replay; if it is asked to, it leaves that as a fixture for later ones.
#[tokio::test(flavor = "multi_thread")]
async fn what_this_version_records_at_temporal_it_can_replay() {
    let scratch = tempfile::tempdir().unwrap();
    let version = match std::env::var("RECORD_FIXTURES") {
        Ok(name) => fixtures().join("temporal").join(name),
        Err(_) => scratch.path().to_owned(),
    };
    let site = Site::start("fixtures", MANY_EVENTS).await;
    flows::journey(&site).await;
    flows::adviser(&site).await;
    flows::cancelled(&site).await;
    flows::timed_out(&site).await;
    for name in flows::NAMES.into_iter().filter(|name| *name != flows::CONTINUED) {
        site.record(name, &version.join(name)).await;
    }
    site.stop().await;
    let site = Site::start("fixtures-of-few-events", FEW_EVENTS).await;
    flows::continued(&site).await;
    site.record(flows::CONTINUED, &version.join(flows::CONTINUED)).await;
    site.stop().await;
    check_version(&version);
}
