//! Limits over the tree, through the whole server: what is granted to children, what comes back, what status says.

use baton_proto::{
    history_v1::history_event::Attributes,
    v1::{Agent, AgentExecution, HistoryRequest, UsageStatus, Workflow, WorkflowExecution},
};
use serde_json::{Value, json};

use crate::support::{Server, document, fields};

fn agent(name: &str, limits: &Value, turns: &Value, tools: &Value) -> Value {
    let playback = json!({"conversations": [{"turns": turns}]});
    let spec = json!({
        "instructions": "i", "model": {"name": "m", "provider": "playback", "playback": playback},
        "limits": limits, "tools": tools, "policy": {"default": "allow"},
    });
    json!({"metadata": {"name": name}, "spec": spec})
}

/// An agent that runs a workflow, that calls an agent.
async fn tree(server: &Server, limits: &Value) {
    let tasks = json!([{"ask": {"call": "baton.dev/agent", "with": {"agent": "leaf", "message": "m"}}}]);
    let says = json!([{"text": "done", "inputTokens": 20, "outputTokens": 5}]);
    server.create::<Agent>(agent("leaf", &json!({}), &says, &json!([]))).await.unwrap();
    server
        .create::<Workflow>(
            json!({"metadata": {"name": "between"}, "spec": {"definition": document("between", &tasks)}}),
        )
        .await
        .unwrap();
    let turns = json!([
        {"text": "Asking.", "toolCalls": [{"name": "between", "arguments": {}}], "inputTokens": 100, "outputTokens": 10},
        {"text": "all done", "inputTokens": 150, "outputTokens": 10},
    ]);
    let tools = json!([{"name": "between", "description": "d", "workflow": {"name": "between"}}]);
    server.create::<Agent>(agent("root", limits, &turns, &tools)).await.unwrap();
    server
        .create::<AgentExecution>(json!({"metadata": {"name": "run"}, "spec": {"agent": "root", "message": "Go"}}))
        .await
        .unwrap();
}

fn figures(usage: &UsageStatus) -> [i32; 5] {
    [usage.model_calls, usage.tool_calls, usage.input_tokens, usage.output_tokens, usage.children]
}

#[tokio::test]
async fn a_grant_passes_through_a_workflow_and_what_is_used_comes_back() {
    let server = Server::start().await;
    let limits = json!({"modelCalls": 5, "tokens": 40_000, "children": 2, "depth": 2, "wallTime": "1h", "cost": "1.5"});
    tree(&server, &limits).await;
    let status = server.ended::<AgentExecution>("run").await.status.unwrap();
    assert_eq!((status.phase.as_str(), status.output.unwrap().text.as_str()), ("Completed", "\"all done\""));
    let usage = status.usage.unwrap();
    assert_eq!(figures(&usage), [2, 1, 250, 20, 1]);
    assert_eq!(figures(&usage.tree.unwrap()), [3, 1, 270, 25, 2]);
    let left = usage.left.unwrap();
    assert_eq!((left.model_calls, left.tokens, left.children, left.depth), (Some(2), Some(39_705), Some(0), Some(2)));
    assert_eq!((left.cost.as_str(), left.tool_calls), ("1.5", None));

    let list = baton_proto::v1::ListRequest::default();
    let between = server.app().list::<WorkflowExecution>(&list).await.unwrap().1.remove(0);
    let usage = between.status.unwrap().usage.unwrap();
    assert_eq!(figures(&usage), [0, 0, 0, 0, 1]);
    assert_eq!(figures(&usage.tree.unwrap()), [1, 0, 20, 5, 1]);

    // What the leaf was given: of 5 calls one was made and one is kept to read the answer.
    let agents = server.app().list::<AgentExecution>(&list).await.unwrap().1;
    let leaf = agents.into_iter().filter_map(|it| it.metadata).find(|it| it.name != "run").unwrap().name;
    let request = HistoryRequest { name: leaf, ..HistoryRequest::default() };
    let history = server.app().history::<AgentExecution>(&request).await.unwrap();
    let Some(Attributes::Started(started)) = history.events[0].attributes.clone() else { panic!("it begins") };
    let grant = started.grant.unwrap();
    assert_eq!(
        (grant.model_calls, grant.tokens, grant.children, grant.depth),
        (Some(3), Some(39_890), Some(0), Some(0))
    );
    assert!(grant.deadline.is_some());
    let chain: Vec<&str> = grant.ancestors.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(chain, ["root", "between", "leaf"]);
    server.stop().await;
}

#[tokio::test]
async fn a_limit_of_the_root_holds_below_a_workflow() {
    for (limits, name) in
        [(json!({"children": 1}), "children"), (json!({"depth": 1}), "depth"), (json!({"modelCalls": 2}), "modelCalls")]
    {
        let server = Server::start().await;
        tree(&server, &limits).await;
        server.ended::<AgentExecution>("run").await;
        let list = baton_proto::v1::ListRequest::default();
        let between = server.app().list::<WorkflowExecution>(&list).await.unwrap().1.remove(0);
        let error = between.status.unwrap().error.unwrap();
        assert_eq!(error.r#type, "https://baton.dev/errors/limit", "{error:?}");
        assert_eq!(error.data.unwrap().to_value().unwrap()["limit"], name);
        server.stop().await;
    }
}

#[tokio::test]
async fn an_agent_that_calls_itself_with_the_same_words_ends_by_name() {
    let server = Server::start().await;
    let turns = json!([{"toolCalls": [{"name": "again", "arguments": {"message": "m"}}]}, {"text": "done"}]);
    let tools = json!([{"name": "again", "description": "d", "agent": {"name": "echo"}}]);
    server.create::<Agent>(agent("echo", &json!({}), &turns, &tools)).await.unwrap();
    server
        .create::<AgentExecution>(json!({"metadata": {"name": "run"}, "spec": {"agent": "echo", "message": "Go"}}))
        .await
        .unwrap();
    let status = server.ended::<AgentExecution>("run").await.status.unwrap();
    assert_eq!(status.usage.unwrap().tree.unwrap().children, 3);
    let list = baton_proto::v1::ListRequest::default();
    let agents = server.app().list::<AgentExecution>(&list).await.unwrap().1;
    let ended: Vec<Value> = agents
        .into_iter()
        .filter_map(|it| it.status.unwrap().error)
        .map(|error| error.data.unwrap().to_value().unwrap()["limit"].clone())
        .collect();
    assert_eq!(ended, [json!("recursion")]);
    server.stop().await;
}

#[tokio::test]
async fn limits_are_checked_when_they_are_given() {
    let server = Server::start().await;
    let limits = json!({"modelCalls": -1, "cost": "much", "softMark": 2, "onSoftMark": "shout", "wallTime": "soon"});
    let refused = server.create::<Agent>(agent("a", &limits, &json!([{"text": "x"}]), &json!([]))).await.unwrap_err();
    let names = ["modelCalls", "cost", "softMark", "onSoftMark", "wallTime"];
    let mut expected = names.map(|name| format!("spec.limits.{name}")).to_vec();
    expected.sort();
    assert_eq!(fields(&refused), expected);
    let definition = agent("a", &json!({}), &json!([{"text": "x"}]), &json!([]))["spec"].clone();
    let run = json!({"metadata": {"name": "r"}, "spec": {"definition": definition, "message": "m", "limits": limits}});
    assert_eq!(fields(&server.create::<AgentExecution>(run).await.unwrap_err()), expected);
    server.stop().await;
}
