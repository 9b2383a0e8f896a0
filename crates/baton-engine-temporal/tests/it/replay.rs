//! Replays of recorded histories: of those that were made just now, and of those that earlier versions made.
//!
//! A history for `tests/fixtures` is recorded by running [`what_was_recorded_is_replayed_and_another_program_is_refused`] with
//! `BATON_RECORD_HISTORY` naming a new file. Fixtures are added, never changed.

use std::sync::Arc;

use baton_engine::HostedInput;
use baton_engine_temporal::replay_history;
use baton_execution::{Fault, Program, ProgramKind, Programs};
use baton_types::Digest;
use serde_json::{Value, json};

use crate::{
    books::Books,
    lab::Lab,
    script::{Do, Scripts, activity, definition, once},
};

/// What `tests/fixtures/mixed-1.binpb` recorded. Neither may change.
fn mixed() -> Vec<Do> {
    vec![
        activity("echo", json!(1)),
        Do::All(vec![Do::Wait, once("fail", Value::Null), Do::Sleep { ms: 30 }]),
        Do::Race(vec![Do::Sleep { ms: 600_000 }, activity("hang", Value::Null), Do::Wait]),
        activity("echo", json!(2)),
    ]
}

/// Scripts that go the other way round.
struct Reversed;

impl Programs for Reversed {
    fn load(&self, kind: ProgramKind, digest: &Digest, list: &[u8]) -> Result<Box<dyn Program>, Fault> {
        let mut list: Vec<Do> = serde_json::from_slice(list).expect("it is a list");
        list.reverse();
        Scripts.load(kind, digest, &definition(&list))
    }

    fn restore(&self, kind: ProgramKind, digest: &Digest, list: &[u8], _: &[u8]) -> Result<Box<dyn Program>, Fault> {
        self.load(kind, digest, list)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_replayed_and_another_program_is_refused() {
    let lab = Lab::new();
    let _worker = lab.worker();
    let started = lab.start("mixed", &mixed()).await;
    lab.books.opened(started.uid, "/1/0").await;
    lab.give_as(&started, HostedInput::Suspend { suspended: true, generation: 2 }).await;
    lab.answer(&started, "/1/0", json!("answer")).await;
    lab.give_as(&started, HostedInput::Suspend { suspended: false, generation: 3 }).await;
    lab.books.opened(started.uid, "/2/2").await;
    lab.answer(&started, "/2/2", json!("won")).await;
    lab.books.output(started.uid).await;
    lab.ended(&started).await;
    let history = lab.host.history(&started.run.workflow_id, None).await.expect("the host has it");
    assert_eq!(replay_history(&history, lab.books.clone(), Arc::new(Scripts)), Ok(()));
    if let Some(file) = std::env::var_os("BATON_RECORD_HISTORY") {
        std::fs::write(file, &history).expect("the file can be written");
    }
    let refused = replay_history(&history, lab.books.clone(), Arc::new(Reversed));
    assert!(refused.is_err_and(|why| why.contains("nondeterministic")), "another program goes another way");
}

#[tokio::test(flavor = "multi_thread")]
async fn states_that_were_taken_over_and_runs_that_follow_each_other_are_replayed() {
    let lab = Lab::new();
    let _worker = lab.worker_with(lab.options_renewing(15));
    let list: Vec<Do> = (0..12).map(|number| activity("echo", json!(number))).collect();
    let start = lab.books.open("overtaken-runs", &list, Value::Null);
    lab.books.overtake_next(start.uid, 4);
    let started = lab.start_as(start).await;
    lab.books.output(started.uid).await;
    lab.ended(&started).await;
    let runs = lab.books.runs(started.uid);
    assert!(runs.len() > 1 && lab.books.divergences(started.uid) == 4, "{} runs", runs.len());
    for run in runs {
        let history = lab.host.history(&started.run.workflow_id, Some(&run)).await.expect("the host has it");
        assert_eq!(replay_history(&history, lab.books.clone(), Arc::new(Scripts)), Ok(()), "run {run}");
    }
}

#[test]
fn histories_of_earlier_versions_are_replayed() {
    let recorded = include_bytes!("../fixtures/mixed-1.binpb");
    let books = Arc::new(Books::default());
    let list = definition(&mixed());
    books.put(Digest::of(&list), list.into());
    assert_eq!(replay_history(recorded, books, Arc::new(Scripts)), Ok(()));
}
