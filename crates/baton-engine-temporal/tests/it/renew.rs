//! Continue-as-new: nothing is lost between one run and the next.

use baton_execution::Input;
use serde_json::json;

use crate::{
    lab::Lab,
    script::{Do, activity},
};

const WAITS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn no_signal_is_lost_while_runs_follow_each_other() {
    let lab = Lab::new();
    let _worker = lab.worker_with(lab.options_renewing(25));
    let mut parts = vec![Do::Wait; WAITS];
    parts.push(Do::Sleep { ms: 1500 });
    let mut list = vec![Do::All(parts)];
    list.extend((0..20).map(|number| activity("echo", json!(number))));
    let started = lab.start("many", &list).await;
    lab.books.opened(started.uid, "/0/0").await;
    for number in 0..WAITS {
        lab.answer(&started, &format!("/0/{number}"), json!(number)).await;
    }
    let output = lab.books.output(started.uid).await;
    let output = output.as_array().expect("a list");
    // Positions are in the order of their text.
    let mut positions: Vec<String> = (0..=WAITS).map(|number| format!("/0/{number}")).collect();
    positions.sort();
    let expected = positions.iter().map(|position| match position[3..].parse::<usize>() {
        Ok(WAITS) => json!("due"),
        number => json!(number.expect("a number")),
    });
    assert_eq!(output[..=WAITS], expected.collect::<Vec<_>>()[..]);
    assert_eq!(output[WAITS + 1..], (0..20).map(|number| json!(number)).collect::<Vec<_>>()[..]);
    assert_eq!(lab.books.inputs(started.uid, |input| matches!(input, Input::CallbackAnswered { .. })), WAITS);
    assert_eq!(lab.hands.repeated(), []);
    let runs = lab.books.runs(started.uid);
    assert!(runs.len() > 3, "{} runs", runs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_too_long_begins_nothing_new_until_what_is_under_way_has_ended() {
    let lab = Lab::new();
    let _worker = lab.worker_with(lab.options_renewing(20));
    // One activity hangs at the gate while the others go on, past the mark and the hard mark.
    let slow = activity("gate", json!("slow"));
    let started =
        lab.start("slow", &[Do::All([vec![slow], vec![Do::Wait; 30]].concat()), activity("echo", json!("end"))]).await;
    lab.books.until("it runs", |_| (lab.hands.begun("/0/0") == 1).then_some(())).await;
    for number in 1..=30 {
        lab.answer(&started, &format!("/0/{number}"), json!(number)).await;
    }
    let all = |books: &crate::books::Books| {
        let answered = books.inputs(started.uid, |input| matches!(input, Input::CallbackAnswered { .. }));
        (answered == 30).then_some(())
    };
    lab.books.until("all answers are recorded", all).await;
    assert_eq!(lab.books.runs(started.uid).len(), 1, "its activity holds the run");
    lab.hands.gate.add_permits(1);
    let output = lab.books.output(started.uid).await;
    assert_eq!((&output[0], output.as_array().map(Vec::len)), (&json!("slow"), Some(32)));
    assert_eq!(lab.books.runs(started.uid).len(), 2);
    assert_eq!(lab.hands.repeated(), []);
}
