//! What goes by itself: objects past their time, dependents of objects that are gone.

use std::time::Duration;

use baton_proto::v1::{DeleteRequest, ListRequest, WatchRequest, Workflow, WorkflowExecution};
use baton_server::{
    ServerOptions,
    app::{App, WatchKind},
};
use futures::{StreamExt as _, future::join_all};
use serde_json::{Value, json};

use crate::support::{REAL, Server, calling, run, trivial, version};

/// More than upkeep looks at in one step.
const MANY: usize = 230;
/// Longer than anything here takes, shorter than the period after which things are found anyway.
const LIMIT: Duration = Duration::from_secs(40);
const FINALIZER: &str = "example.com/hold";

fn one_round(options: &mut ServerOptions) {
    options.upkeep.period = Duration::from_hours(1);
    options.upkeep.scan_period = Duration::from_hours(1);
}

/// An execution, perhaps held after its deletion.
fn object(name: &str, workflow: &str, held: bool) -> Value {
    let mut object = run(name, workflow);
    if held {
        object["metadata"]["finalizers"] = json!([FINALIZER]);
    }
    object
}

async fn delete(app: &App, name: &str) {
    let request = DeleteRequest { name: name.into(), ..DeleteRequest::default() };
    app.delete::<WorkflowExecution>(&request).await.unwrap();
}

/// Follows the executions of a workflow after a version until `count` are deleted.
async fn deleted(app: &App, from: &str, workflow: &str, count: usize) {
    let request = WatchRequest {
        resource_version: from.into(),
        field_selector: format!("spec.workflow={workflow}"),
        ..WatchRequest::default()
    };
    let mut events = Box::pin(app.watch::<WorkflowExecution>(&request, false).await.unwrap());
    let follow = async {
        let mut left = count;
        while left > 0 {
            left -= usize::from(events.next().await.unwrap().unwrap().kind == WatchKind::Deleted);
        }
    };
    let what = format!("{count} of '{workflow}' go long before they would be found by chance");
    tokio::time::timeout(LIMIT, follow).await.expect(&what);
}

#[tokio::test]
async fn one_round_removes_all_that_are_past_their_time_whatever_holds_others() {
    let server = Server::start_with(one_round).await;
    server.create::<Workflow>(trivial("w")).await.unwrap();
    let create = |name: String, held: bool| {
        let (server, mut object) = (&server, object(&name, "w", held));
        async move {
            object["spec"]["ttlSecondsAfterFinished"] = json!(0);
            server.create::<WorkflowExecution>(object).await.unwrap();
            server.ended::<WorkflowExecution>(&name).await
        }
    };
    join_all((0..MANY).map(|index| create(format!("held-{index}"), true))).await;
    for index in 0..MANY {
        delete(server.app(), &format!("held-{index}")).await;
    }
    let ended = join_all((0..MANY).map(|index| create(format!("free-{index}"), false))).await;
    let server = server.restart_with(one_round).await;
    deleted(server.app(), &version(&ended[0]), "w", MANY).await;
    let (_, left) = server.app().list::<WorkflowExecution>(&ListRequest::default()).await.unwrap();
    assert_eq!(left.len(), MANY, "what is held stays");
    server.stop().await;
}

#[tokio::test]
async fn dependents_go_when_nothing_holds_their_owner_any_more() {
    for restarted in [false, true] {
        let mut server = Server::start_with(one_round).await;
        for (name, leaf, held) in [("slow", "of-slow", true), ("quick", "of-quick", false)] {
            server.create::<Workflow>(trivial(leaf)).await.unwrap();
            server.create::<Workflow>(calling(name, leaf)).await.unwrap();
            server.create::<WorkflowExecution>(object(name, name, held)).await.unwrap();
            server.ended::<WorkflowExecution>(name).await;
        }
        let from = version(&server.app().get::<WorkflowExecution>("", "quick").await.unwrap());
        delete(server.app(), "slow").await;
        delete(server.app(), "quick").await;
        // Owners are looked at in the order of their deletion, so the first one was looked at while it was held.
        deleted(server.app(), &from, "of-quick", 1).await;
        if restarted {
            server = server.restart_with(one_round).await;
        }
        let free = json!({"metadata": {"finalizers": null}});
        server.app().patch::<WorkflowExecution>("", "slow", free, REAL).await.unwrap();
        deleted(server.app(), &from, "of-slow", 1).await;
        server.stop().await;
    }
}
