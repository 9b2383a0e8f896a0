//! The words of lifecycle events, from a history.

use baton_proto::history_v1::{
    Empty, Ended, Fault, HistoryEvent, Note, Operation, ScheduleActivity, Started, TaskFaulted, TaskRetried,
    TaskStarted, history_event::Attributes, note::Note as NoteKind,
};
use baton_types::Uid;
use serde_json::{Value, json};

use super::{
    Lifecycle,
    words::{About, Story},
};

fn note(note: NoteKind) -> Attributes {
    Attributes::Note(Note { note: Some(note) })
}

fn started(position: &str, kind: &str, attempt: i32) -> Attributes {
    let (position, kind) = (position.to_owned(), kind.to_owned());
    note(NoteKind::TaskStarted(TaskStarted { position, name: "t".to_owned(), kind, attempt }))
}

fn subscribed(position: &str, attempt: i32) -> Attributes {
    let operation = Some(Operation { position: position.to_owned(), attempt });
    Attributes::ActivityScheduled(ScheduleActivity {
        operation,
        activity: "subscribe".to_owned(),
        ..ScheduleActivity::default()
    })
}

fn fault() -> Fault {
    Fault {
        r#type: "https://example.com/x".to_owned(),
        status: 503,
        detail: Some("away".to_owned()),
        ..Fault::default()
    }
}

/// What is told of a history, from some number on.
fn told(history: &[Attributes], after: usize, level: Lifecycle) -> Vec<Value> {
    let about = About::new("default", "run-1", Uid::from_bytes([7; 16]));
    let mut story = Story::default();
    let mut events = Vec::new();
    for (index, attributes) in history.iter().enumerate() {
        let number = i32::try_from(index + 1).unwrap();
        let event = HistoryEvent { number, attributes: Some(attributes.clone()), ..HistoryEvent::default() };
        for mut telling in story.follow(&event, level) {
            if telling.wants_definition() {
                telling.set_definition(&json!({"name": "w", "namespace": "n", "version": "1.0.0", "dsl": "1.0.3"}));
            }
            if telling.wants_output() {
                telling.set_output(Some(json!({"x": 1})));
            }
            if index >= after {
                events.push(telling.event(&about, 1000));
            }
        }
    }
    events
}

/// Ids without the uid, and types without what all have.
fn short(events: &[Value]) -> Vec<String> {
    let id = |event: &Value| event["id"].as_str().unwrap().split_once('/').unwrap().1.to_owned();
    let kind = |event: &Value| {
        let kind = event["type"].as_str().unwrap();
        kind.strip_prefix("io.serverlessworkflow.").unwrap().strip_suffix(".v1").unwrap().to_owned()
    };
    events.iter().map(|event| format!("{} {}", id(event), kind(event))).collect()
}

fn listening() -> Vec<Attributes> {
    vec![
        Attributes::Started(Started::default()),
        started("/do/0/hear", "listen", 1),
        subscribed("/do/0/hear", 1),
        Attributes::Suspended(Empty {}),
        Attributes::Resumed(Empty {}),
        subscribed("/do/0/hear", 2),
        note(NoteKind::TaskCompleted("/do/0/hear".to_owned())),
        Attributes::Ended(Ended { phase: "Completed".to_owned(), ..Ended::default() }),
    ]
}

#[test]
fn a_workflow_is_told_of_from_its_start_to_its_end() {
    assert_eq!(
        short(&told(&listening(), 0, Lifecycle::Workflows)),
        [
            "1 workflow.started",
            "1/status workflow.status-changed",
            "3 workflow.correlation-started",
            "4 workflow.suspended",
            "4/status workflow.status-changed",
            "5 workflow.resumed",
            "5/status workflow.status-changed",
            "7/correlation workflow.correlation-completed",
            "8 workflow.completed",
            "8/status workflow.status-changed",
        ]
    );
    assert_eq!(told(&listening(), 0, Lifecycle::Off), [Value::Null; 0]);
}

#[test]
fn tasks_are_told_of_and_a_story_goes_on_where_it_was_left() {
    let all = short(&told(&listening(), 0, Lifecycle::Tasks));
    assert_eq!(
        all[2..],
        [
            "2/created task.created",
            "2 task.started",
            "2/status task.status-changed",
            "3 workflow.correlation-started",
            "4 workflow.suspended",
            "4/status workflow.status-changed",
            "4/do/0/hear task.suspended",
            "4/do/0/hear/status task.status-changed",
            "5 workflow.resumed",
            "5/status workflow.status-changed",
            "5/do/0/hear task.resumed",
            "5/do/0/hear/status task.status-changed",
            "7/correlation workflow.correlation-completed",
            "7 task.completed",
            "7/status task.status-changed",
            "8 workflow.completed",
            "8/status workflow.status-changed",
        ]
    );
    assert_eq!(short(&told(&listening(), 6, Lifecycle::Tasks)), all[14..]);
}

#[test]
fn events_have_the_data_that_the_specification_gives_them() {
    let history = [
        Attributes::Started(Started::default()),
        started("/do/0/t", "try", 1),
        note(NoteKind::TaskFaulted(TaskFaulted { position: "/do/0/t/try/0/x".to_owned(), fault: Some(fault()) })),
        note(NoteKind::TaskRetried(TaskRetried { position: "/do/0/t".to_owned(), attempt: 2, delay_ms: 5 })),
        note(NoteKind::TaskCancelled("/do/0/t".to_owned())),
        Attributes::Ended(Ended { phase: "Failed".to_owned(), fault: Some(fault()), ..Ended::default() }),
    ];
    let events = told(&history, 0, Lifecycle::Tasks);
    let time = "1970-01-01T00:00:01Z";
    let data = |kind: &str| {
        let kind = format!("io.serverlessworkflow.{kind}.v1");
        events.iter().find(|event| event["type"] == kind).map(|event| event["data"].clone()).unwrap()
    };
    let (name, error) = ("run-1.default", json!({"type": "https://example.com/x", "status": 503, "detail": "away"}));
    assert_eq!(
        events[0],
        json!({
            "specversion": "1.0",
            "id": format!("{}/1", Uid::from_bytes([7; 16])),
            "source": "/apis/baton.dev/v1/namespaces/default/workflowexecutions/run-1",
            "type": "io.serverlessworkflow.workflow.started.v1",
            "subject": name,
            "time": time,
            "datacontenttype": "application/json",
            "data": {"name": name, "startedAt": time, "definition": {"name": "w", "namespace": "n", "version": "1.0.0"}},
        })
    );
    assert_eq!(data("workflow.status-changed"), json!({"name": name, "updatedAt": time, "status": "running"}));
    assert_eq!(data("task.created"), json!({"workflow": name, "task": "/do/0/t", "createdAt": time}));
    assert_eq!(data("task.retried"), json!({"workflow": name, "task": "/do/0/t", "retriedAt": time}));
    assert_eq!(data("task.cancelled"), json!({"workflow": name, "task": "/do/0/t", "cancelledAt": time}));
    let faulted = json!({"workflow": name, "task": "/do/0/t/try/0/x", "faultedAt": time, "error": error});
    assert_eq!(data("task.faulted"), faulted);
    assert_eq!(data("workflow.faulted"), json!({"name": name, "faultedAt": time, "error": error}));
    let ending = |phase: &str| {
        told(&[Attributes::Ended(Ended { phase: phase.to_owned(), ..Ended::default() })], 0, Lifecycle::Workflows)[0]["data"].clone()
    };
    assert_eq!(ending("Completed"), json!({"name": name, "completedAt": time, "output": {"x": 1}}));
    assert_eq!(ending("Cancelled"), json!({"name": name, "cancelledAt": time}));
    assert_eq!(ending("TimedOut")["error"]["status"], 408);
}
