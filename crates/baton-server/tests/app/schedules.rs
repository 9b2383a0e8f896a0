//! Schedules by a clock that the test drives: what starts when, what does not, and nothing twice.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use baton_proto::{
    Resource as _,
    v1::{DeleteRequest, Json, ListRequest, PublishEventsRequest, Workflow, WorkflowExecution, WorkflowStatus},
};
use baton_server::Clock;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    events::event,
    support::{REAL, Server, document, fields},
};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_mins(1);

/// A clock that stands still until the test moves it.
#[derive(Debug)]
struct Hands(watch::Sender<i64>);

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        *self.0.borrow()
    }

    fn until(&self, time_ms: i64) -> BoxFuture<'static, ()> {
        let mut time = self.0.subscribe();
        Box::pin(async move {
            if time.wait_for(|now| *now >= time_ms).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// A server whose schedules go by a clock that begins with the machine's time.
struct Kept {
    server: Server,
    clock: Arc<Hands>,
    /// When it began.
    begun: i64,
}

impl Kept {
    async fn start() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let begun = i64::try_from(since.as_millis()).unwrap();
        let clock = Arc::new(Hands(watch::Sender::new(begun)));
        let hands = Arc::clone(&clock);
        let server = Server::start_with(move |options| options.schedule.clock = hands).await;
        Self { server, clock, begun }
    }

    /// Moves the clock.
    fn set(&self, time_ms: i64) {
        self.clock.0.send_replace(time_ms);
    }

    /// Stops the server, moves the clock, and starts another one.
    async fn restart_at(self, time_ms: i64) -> Self {
        let hands = Arc::clone(&self.clock);
        let moved = Arc::clone(&self.clock);
        // It is moved while nobody looks.
        let server = self.server.restart_with(move |options| {
            moved.0.send_replace(time_ms);
            options.schedule.clock = hands;
        });
        Self { server: server.await, clock: self.clock, begun: self.begun }
    }

    /// Creates a workflow that ends at once, or waits for somebody to answer; when it was created.
    async fn workflow(&self, name: &str, tasks: &Value, schedule: Value, spec: Value) -> i64 {
        let mut definition = document(name, tasks);
        definition["schedule"] = schedule;
        let mut object = json!({"metadata": {"name": name}, "spec": spec});
        object["spec"]["definition"] = definition;
        let created = self.server.create::<Workflow>(object).await.unwrap();
        created.metadata().unwrap().creation_timestamp.unwrap().as_millis()
    }

    async fn patch(&self, name: &str, patch: Value) {
        self.server.app().patch::<Workflow>("", name, patch, REAL).await.unwrap();
    }

    /// The executions of a workflow's schedule.
    async fn executions(&self, workflow: &str) -> Vec<WorkflowExecution> {
        let label_selector = format!("baton.dev/scheduled-by={workflow}");
        let request = ListRequest { label_selector, limit: 500, ..ListRequest::default() };
        self.server.app().list::<WorkflowExecution>(&request).await.unwrap().1
    }

    async fn names(&self, workflow: &str) -> BTreeSet<String> {
        self.executions(workflow).await.iter().map(|it| it.metadata().unwrap().name.clone()).collect()
    }

    /// Waits until a workflow's schedule has started so many; all that are there then.
    async fn started(&self, workflow: &str, count: usize) -> Vec<WorkflowExecution> {
        until(async || Some(self.executions(workflow).await).filter(|found| found.len() >= count)).await
    }

    async fn phase(&self, name: &str, phase: &str) {
        until(async || {
            let found = self.server.app().get::<WorkflowExecution>("", name).await.unwrap();
            (found.status?.phase == phase).then_some(())
        })
        .await;
    }

    /// Waits until a workflow's status is as it should be.
    async fn shows(&self, workflow: &str, as_it_should: impl Fn(&WorkflowStatus) -> bool) -> WorkflowStatus {
        until(async || {
            let found = self.server.app().get::<Workflow>("", workflow).await.unwrap();
            found.status.filter(|status| as_it_should(status))
        })
        .await
    }

    async fn publish(&self, events: &[Value]) {
        for some in events.chunks(100) {
            let events = some.iter().map(Json::from_value).collect();
            let request = PublishEventsRequest { namespace: String::new(), events };
            self.server.app().publish_events(&request).await.unwrap();
        }
    }
}

/// Looks until there is something.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, looking).await.expect("it comes")
}

/// Ends at once.
fn trivial() -> Value {
    json!([{"say": {"set": {"got": "${ $workflow.input }"}}}])
}

/// Waits for somebody to answer.
fn waiting() -> Value {
    json!([{"ask": {"call": "baton.dev/echo", "with": {"token": "${ $task.callbackToken }"}, "metadata": {"await": "callback"}}}])
}

fn name(workflow: &str, time_ms: i64) -> String {
    format!("{workflow}-{}", time_ms / 1000)
}

fn input(execution: &WorkflowExecution) -> Value {
    let input = execution.spec.as_ref().and_then(|spec| spec.input.clone());
    input.map(|input| input.to_value().unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn cron_starts_an_execution_at_its_minute() {
    let kept = Kept::start().await;
    let spec = json!({"input": {"why": "nightly"}, "env": {"A": "1"}, "ttlSecondsAfterFinished": 600});
    kept.workflow("hourly", &trivial(), json!({"cron": "0 * * * *"}), spec).await;
    let due = (kept.begun / HOUR + 1) * HOUR;
    let status = kept.shows("hourly", |status| status.next_schedule_time.is_some()).await;
    assert_eq!(status.next_schedule_time.unwrap().as_millis(), due);
    assert_eq!(status.last_schedule_time, None);
    kept.set(due);
    let started = kept.started("hourly", 1).await;
    let (meta, spec) = (started[0].metadata().unwrap(), started[0].spec.clone().unwrap());
    assert_eq!(meta.name, format!("hourly-{}", due / MINUTE));
    assert_eq!(meta.owner_references[0].name, "hourly");
    let time = meta.annotations["baton.dev/scheduled-time"].parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time.as_millisecond(), due);
    assert_eq!((input(&started[0]), spec.ttl_seconds_after_finished), (json!({"why": "nightly"}), Some(600)));
    assert_eq!(spec.env["A"], "1");
    let status = kept.shows("hourly", |status| status.last_successful_time.is_some()).await;
    assert_eq!(status.last_schedule_time.unwrap().as_millis(), due);
    assert_eq!(status.next_schedule_time.unwrap().as_millis(), due + HOUR);
    assert_eq!(status.active, []);
    let condition = status.conditions.iter().find(|it| it.r#type == "Scheduled").unwrap();
    assert_eq!((condition.status.as_str(), condition.message.as_str()), ("True", "cron 0 * * * *"));
    kept.set(due + HOUR);
    kept.started("hourly", 2).await;
    kept.server.stop().await;
}

#[tokio::test]
async fn one_that_runs_is_waited_for_replaced_or_joined() {
    let kept = Kept::start().await;
    let mut created = Vec::new();
    for policy in ["Allow", "Forbid", "Replace"] {
        let spec = json!({"concurrencyPolicy": policy});
        let name = policy.to_lowercase();
        created.push(kept.workflow(&name, &waiting(), json!({"every": {"minutes": 1}}), spec).await);
    }
    let latest = created.iter().max().unwrap();
    for round in 1..=3 {
        kept.set(latest + round * MINUTE);
        kept.started("allow", usize::try_from(round).unwrap()).await;
        let due = name("replace", created[2] + round * MINUTE);
        until(async || kept.names("replace").await.contains(&due).then_some(())).await;
    }
    let first = name("forbid", created[1] + MINUTE);
    assert_eq!(kept.names("forbid").await, [first.clone()].into());
    for round in 1..3 {
        kept.phase(&name("replace", created[2] + round * MINUTE), "Cancelled").await;
    }
    let last = name("replace", created[2] + 3 * MINUTE);
    kept.shows("replace", |status| status.active.len() == 1 && status.active[0].name == last).await;
    kept.shows("allow", |status| status.active.len() == 3).await;
    // Once it has ended, the next time starts another one.
    kept.server.app().cancel::<WorkflowExecution>("", &first, "enough").await.unwrap();
    kept.shows("forbid", |status| status.active.is_empty()).await;
    kept.set(latest + 4 * MINUTE);
    kept.started("forbid", 2).await;
    kept.server.stop().await;
}

#[tokio::test]
async fn after_begins_at_once_and_then_follows_the_end_of_the_one_before() {
    let kept = Kept::start().await;
    kept.set(kept.begun + MINUTE);
    kept.workflow("again", &waiting(), json!({"after": {"hours": 1}}), json!({})).await;
    let first = kept.started("again", 1).await[0].metadata().unwrap().name.clone();
    kept.set(kept.begun + 10 * HOUR);
    kept.workflow("other", &trivial(), json!({"after": {"hours": 1}}), json!({})).await;
    kept.started("other", 1).await;
    assert_eq!(kept.executions("again").await.len(), 1, "it still runs");
    kept.server.app().cancel::<WorkflowExecution>("", &first, "enough").await.unwrap();
    // It ended by the machine's clock, hours ago by the other one.
    let second = kept.started("again", 2).await;
    let ended = kept.server.app().get::<WorkflowExecution>("", &first).await.unwrap().status.unwrap();
    let due = ended.completion_time.unwrap().as_millis() + HOUR;
    assert!(second.iter().any(|it| it.metadata().unwrap().name == name("again", due)));
    kept.server.stop().await;
}

#[tokio::test]
async fn times_that_passed_while_nobody_looked_are_made_up_for_as_the_policy_says() {
    let kept = Kept::start().await;
    let mut created = Vec::new();
    for policy in ["Skip", "One", "All"] {
        let spec = json!({"missedRuns": policy});
        created.push(kept.workflow(&policy.to_lowercase(), &trivial(), json!({"every": "PT1M"}), spec).await);
    }
    let late = created[2] + 5 * MINUTE + 30_000;
    let kept = kept.restart_at(late).await;
    kept.started("all", 5).await;
    kept.started("one", 1).await;
    // The next time is started by all of them, and nothing else by one that leaves out what it missed.
    kept.set(created[2] + 6 * MINUTE);
    for (workflow, created, first) in [("skip", created[0], 6), ("one", created[1], 5), ("all", created[2], 1)] {
        let expected: BTreeSet<String> = (first..=6).map(|round| name(workflow, created + round * MINUTE)).collect();
        until(async || (kept.names(workflow).await == expected).then_some(())).await;
    }
    kept.server.stop().await;
}

#[tokio::test]
async fn nothing_starts_while_it_is_suspended_and_nothing_is_made_up_for_then() {
    let kept = Kept::start().await;
    let every = || json!({"every": "PT1M"});
    let created = kept.workflow("held", &trivial(), every(), json!({"missedRuns": "All", "suspend": true})).await;
    let witness = kept.workflow("witness", &trivial(), every(), json!({})).await;
    let status = kept.shows("held", |status| status.conditions.iter().any(|it| it.r#type == "Scheduled")).await;
    assert_eq!(status.next_schedule_time, None);
    assert!(status.conditions.iter().any(|it| it.r#type == "Scheduled" && it.reason == "Suspended"));
    kept.set(witness + 3 * MINUTE);
    kept.started("witness", 1).await;
    let kept = kept.restart_at(witness + 4 * MINUTE).await;
    kept.patch("held", json!({"spec": {"suspend": false}})).await;
    kept.shows("held", |status| status.next_schedule_time.is_some()).await;
    assert_eq!(kept.names("held").await, BTreeSet::new());
    kept.set(witness + 5 * MINUTE);
    let started = kept.started("held", 1).await;
    assert_eq!(started.len(), 1);
    assert!(started[0].metadata().unwrap().name > name("held", created + 4 * MINUTE - 1000));
    kept.server.stop().await;
}

#[tokio::test]
async fn an_execution_that_was_created_before_a_crash_is_not_created_again() {
    let kept = Kept::start().await;
    let created = kept.workflow("once", &trivial(), json!({"every": "PT1M"}), json!({})).await;
    let uid = kept.server.app().get::<Workflow>("", "once").await.unwrap().metadata.unwrap().uid;
    let due = created + MINUTE;
    // As a server leaves it that stops right after the creation: the execution is there, and no note of it.
    let left = json!({
        "metadata": {"name": name("once", due), "labels": {"baton.dev/scheduled-by": "once"}},
        "spec": {"workflow": "once", "requestId": format!("schedule/{uid}/{}", due / 1000)},
    });
    kept.server.create::<WorkflowExecution>(left).await.unwrap();
    kept.phase(&name("once", due), "Completed").await;
    let kept = kept.restart_at(due).await;
    let status = kept.shows("once", |status| status.last_schedule_time.is_some()).await;
    assert_eq!(status.last_schedule_time.unwrap().as_millis(), due);
    assert_eq!(kept.names("once").await, [name("once", due)].into());
    // What somebody else has under that name is not taken for it.
    let theirs = json!({"metadata": {"name": name("once", due + MINUTE)}, "spec": {"workflow": "once"}});
    kept.server.create::<WorkflowExecution>(theirs).await.unwrap();
    kept.set(due + MINUTE);
    kept.shows("once", |status| status.conditions.iter().any(|it| it.reason == "StartRefused")).await;
    kept.set(due + 2 * MINUTE);
    kept.started("once", 2).await;
    kept.server.stop().await;
}

#[tokio::test]
async fn a_workflow_that_is_changed_or_deleted_is_another_one() {
    let kept = Kept::start().await;
    let created = kept.workflow("w", &trivial(), json!({"every": "PT1M"}), json!({})).await;
    kept.patch("w", json!({"spec": {"definition": {"schedule": {"every": "PT1H"}}}})).await;
    let witness = kept.workflow("witness", &trivial(), json!({"every": "PT1M"}), json!({})).await;
    kept.set(witness + MINUTE);
    kept.started("witness", 1).await;
    assert_eq!(kept.names("w").await, BTreeSet::new());
    kept.set(created + HOUR);
    kept.started("w", 1).await;
    kept.patch("w", json!({"spec": {"definition": {"schedule": null}}})).await;
    let clear = |status: &WorkflowStatus| status.last_schedule_time.is_none() && status.next_schedule_time.is_none();
    kept.shows("w", clear).await;
    let request = DeleteRequest { name: "witness".into(), ..DeleteRequest::default() };
    kept.server.app().delete::<Workflow>(&request).await.unwrap();
    let other = kept.workflow("other", &trivial(), json!({"every": "PT1M"}), json!({})).await;
    let before = kept.names("witness").await;
    kept.set(other + 3 * HOUR);
    kept.started("other", 1).await;
    assert_eq!((kept.names("w").await.len(), kept.names("witness").await), (1, before));
    kept.server.stop().await;
}

#[tokio::test]
async fn ended_executions_are_kept_up_to_the_limits() {
    let kept = Kept::start().await;
    let spec = json!({"successfulHistoryLimit": 2, "failedHistoryLimit": 0});
    let created = kept.workflow("w", &trivial(), json!({"every": "PT1M"}), spec.clone()).await;
    let raise = json!([{"no": {"raise": {"error": {"type": "https://example.com/no", "status": 400}}}}]);
    kept.workflow("failing", &raise, json!({"every": "PT1M"}), spec).await;
    for round in 1..=4 {
        kept.set(created + round * MINUTE);
        let newest = name("w", created + round * MINUTE);
        until(async || kept.names("w").await.contains(&newest).then_some(())).await;
        kept.phase(&newest, "Completed").await;
    }
    let left: BTreeSet<String> = [3, 4].map(|round| name("w", created + round * MINUTE)).into();
    until(async || (kept.names("w").await == left).then_some(())).await;
    kept.shows("failing", |status| status.last_schedule_time.is_some() && status.active.is_empty()).await;
    until(async || kept.names("failing").await.is_empty().then_some(())).await;
    kept.server.stop().await;
}

#[tokio::test]
async fn an_event_starts_an_execution_once() {
    let kept = Kept::start().await;
    kept.publish(&[event("before", "order", &json!(0))]).await;
    let on = json!({"on": {"one": {"with": {"type": "order", "data": "${ .n > 1 }"}}}, "read": "data"});
    kept.workflow("w", &trivial(), on, json!({})).await;
    let events = [1, 2, 3].map(|n| event(&n.to_string(), "order", &json!({"n": n})));
    kept.publish(&events).await;
    kept.publish(&events).await;
    let started = kept.started("w", 2).await;
    let inputs: Vec<Value> = started.iter().map(input).collect();
    assert!(inputs.contains(&json!([{"n": 2}])) && inputs.contains(&json!([{"n": 3}])), "{inputs:?}");
    kept.shows("w", |status| status.last_schedule_time.is_some()).await;
    // Events that nobody waited for start nothing later.
    kept.patch("w", json!({"spec": {"suspend": true}})).await;
    kept.publish(&[event("4", "order", &json!({"n": 4}))]).await;
    let kept = kept.restart_at(kept_now()).await;
    kept.patch("w", json!({"spec": {"suspend": false}})).await;
    kept.publish(&[event("5", "order", &json!({"n": 5}))]).await;
    let started = kept.started("w", 3).await;
    assert_eq!(started.iter().filter(|it| input(it) == json!([{"n": 5}])).count(), 1);
    assert_eq!(started.len(), 3);
    kept.server.stop().await;
}

fn kept_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[tokio::test]
async fn what_was_gathered_before_a_restart_counts_after_it() {
    let kept = Kept::start().await;
    let filter = |kind: &str| json!({"with": {"type": kind}, "correlate": {"order": {"from": ".data.order"}}});
    let on = json!({"on": {"all": [filter("ordered"), filter("paid")]}});
    kept.workflow("w", &trivial(), on, json!({})).await;
    kept.workflow("witness", &trivial(), json!({"on": {"one": {"with": {"type": "ordered"}}}}), json!({})).await;
    kept.publish(&[event("1", "ordered", &json!({"order": 7}))]).await;
    kept.started("witness", 1).await;
    let kept = kept.restart_at(kept_now()).await;
    kept.publish(&[event("2", "paid", &json!({"order": 8})), event("3", "paid", &json!({"order": 7}))]).await;
    let started = kept.started("w", 1).await;
    let ids: Vec<Value> = input(&started[0]).as_array().unwrap().iter().map(|event| event["id"].clone()).collect();
    assert_eq!(ids, ["1", "3"]);
    kept.server.stop().await;
}

#[tokio::test]
async fn a_flood_of_events_starts_so_many_in_a_second() {
    let kept = Kept::start().await;
    kept.workflow("w", &trivial(), json!({"on": {"any": [{"with": {"type": "drop"}}]}}), json!({})).await;
    kept.workflow("witness", &trivial(), json!({"on": {"one": {"with": {"type": "last"}}}}), json!({})).await;
    let drops: Vec<Value> = (0..150).map(|n: i32| event(&n.to_string(), "drop", &json!(n))).collect();
    kept.publish(&drops).await;
    kept.publish(&[event("last", "last", &Value::Null)]).await;
    kept.started("witness", 1).await;
    assert_eq!(kept.started("w", 100).await.len(), 100);
    kept.set(kept.begun + 2000);
    assert_eq!(kept.started("w", 150).await.len(), 150);
    kept.server.stop().await;
}

#[tokio::test]
async fn many_schedules_are_due_at_the_same_time() {
    const MANY: usize = 200;
    let kept = Kept::start().await;
    let names: Vec<String> = (0..MANY).map(|number| format!("w-{number}")).collect();
    for name in &names {
        kept.workflow(name, &trivial(), json!({"cron": "0 * * * *"}), json!({})).await;
    }
    kept.set((kept.begun / HOUR + 1) * HOUR);
    for name in &names {
        kept.started(name, 1).await;
    }
    kept.server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_told_at_once() {
    let kept = Kept::start().await;
    let mut definition = document("w", &trivial());
    definition["schedule"] = json!({"on": {"one": {"with": {"type": "a"}}}});
    let spec = json!({
        "definition": definition, "concurrencyPolicy": "Never", "missedRuns": "Two", "startingDeadline": "0s", "timeZone": "Mars/Base",
        "successfulHistoryLimit": 101, "failedHistoryLimit": -1, "ttlSecondsAfterFinished": -1, "env": {"": "x"}, "input": 1,
    });
    let object = json!({"metadata": {"name": "w".repeat(64)}, "spec": spec});
    let refused = kept.server.create::<Workflow>(object).await.unwrap_err();
    assert_eq!(
        fields(&refused),
        [
            "metadata.name",
            "spec.concurrencyPolicy",
            "spec.env.",
            "spec.failedHistoryLimit",
            "spec.input",
            "spec.missedRuns",
            "spec.startingDeadline",
            "spec.successfulHistoryLimit",
            "spec.timeZone",
            "spec.ttlSecondsAfterFinished",
        ]
    );
    let mut definition = document("w", &trivial());
    definition["schedule"] = json!({"every": "PT0.1S"});
    let object = json!({"metadata": {"name": "w"}, "spec": {"definition": definition}});
    let refused = kept.server.create::<Workflow>(object).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec.definition.schedule.every"]);
    kept.server.stop().await;
}
