//! Two installations that share a namespace and, by mistake, a task queue.

use std::time::Duration;

use baton_engine::{HostEnding, HostState};
use serde_json::json;

use crate::{
    lab::Lab,
    script::{Do, activity, once},
};

/// A worker that must not take a workflow's task costs ten seconds, and which worker gets it is chance.
const CHANCES: Duration = Duration::from_mins(4);

#[tokio::test(flavor = "multi_thread")]
async fn installations_on_one_task_queue_leave_each_others_executions_alone() {
    let ours = Lab::new();
    let theirs = ours.beside();
    let parts =
        (0..8).map(|number| if number < 6 { once("echo", json!(number)) } else { activity("echo", json!(number)) });
    let started = ours.start("ours", &[Do::Wait, Do::All(parts.collect())]).await;
    assert!(ours.trouble(&started).await.starts_with("no worker polls the task queue"));
    let _their_worker = theirs.worker();
    let why = ours.trouble_with(&started, "installation").await;
    assert!(why.contains("of another installation of Baton") && why.contains("temporal.task-queue"), "{why}");
    let _our_worker = ours.worker();
    let opened = |books: &crate::books::Books| books.is_open(started.uid, "/0").then_some(());
    ours.books.until_within(CHANCES, "our worker gets the task", opened).await;
    ours.answer(&started, "/0", json!("go")).await;
    let ended = ours.books.until_within(CHANCES, "it ends", |books| books.completed(started.uid)).await;
    assert_eq!(ended, json!(["go", 0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(ours.ended(&started).await, HostState::Ended { how: HostEnding::Completed, reason: String::new() });
    assert_eq!((ours.hands.repeated(), theirs.hands.begun("/1/0")), (Vec::new(), 0));
}
