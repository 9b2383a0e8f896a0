//! Start and stop.

use std::net::SocketAddr;

use crate::support::{REAL, Server, document, options, read, run, trivial, waiting};
use baton_proto::v1::{Workflow, WorkflowExecution};
use baton_server::{ServerOptions, StartError, start};
use serde_json::json;

#[tokio::test]
async fn it_refuses_to_listen_where_others_could_call() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let address: SocketAddr = address.parse().unwrap();
        let refused = start(ServerOptions { listen: address, ..options(folder.path()) }).await.unwrap_err();
        assert!(
            matches!(refused, StartError::NotLoopback { .. }) && refused.hint().unwrap().contains("127.0.0.1"),
            "{refused}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the data was not touched");
}

#[tokio::test]
async fn a_second_server_on_the_same_port_or_the_same_data_is_refused() {
    let server = Server::start().await;
    let other = tempfile::tempdir().unwrap();
    let refused = start(ServerOptions { listen: server.running.address, ..options(other.path()) }).await.unwrap_err();
    assert!(matches!(refused, StartError::Listen { .. }) && refused.hint().unwrap().contains("--listen"), "{refused}");
    let refused = start(options(server.folder.path())).await.unwrap_err();
    assert!(matches!(refused, StartError::Store(_)) && refused.hint().is_some(), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_goes_on() {
    let server = Server::start().await;
    server.create::<Workflow>(trivial("quick")).await.unwrap();
    server.create::<Workflow>(waiting("slow")).await.unwrap();
    server.create::<WorkflowExecution>(run("done", "quick")).await.unwrap();
    let done = server.ended::<WorkflowExecution>("done").await;
    server.create::<WorkflowExecution>(run("open", "slow")).await.unwrap();
    let mailbox = server.app().create_callback(&baton_proto::v1::CreateCallbackRequest::default()).await.unwrap();
    let server = server.restart().await;
    assert_eq!(server.app().get::<WorkflowExecution>("", "done").await.unwrap(), done);
    let mut next: WorkflowExecution = read(run("next", "quick"));
    next.spec.as_mut().unwrap().callback_token = Some(mailbox.callback_token.clone());
    server.app().create(next, REAL).await.unwrap();
    let request =
        baton_proto::v1::AwaitCallbackRequest { callback_token: mailbox.callback_token, timeout: "60s".into() };
    assert_eq!(
        server.app().await_callback(&request).await.unwrap().state,
        "Completed",
        "a token of before the restart"
    );
    server.app().cancel::<WorkflowExecution>("", "open", "enough").await.unwrap();
    assert_eq!(server.ended::<WorkflowExecution>("open").await.status.unwrap().phase, "Cancelled");
    server.stop().await;
}

#[tokio::test]
async fn it_is_ready_while_it_runs() {
    let server = Server::start().await;
    server.app().ready().unwrap();
    let app = server.app().clone();
    server.stop().await;
    assert!(app.get::<Workflow>("", "w").await.is_err());
}

#[tokio::test]
async fn its_own_api_is_not_called_for_executions_unless_it_says_so() {
    for allowed in [false, true] {
        let server = Server::start_with(|options| options.allow_own_api = allowed).await;
        let api = format!("http://{}", server.running.address);
        let call = json!([{"ask": {"call": "http", "with": {"method": "get", "endpoint": format!("{api}/healthz"), "output": "raw"}}}]);
        let template =
            |name: &str, tasks| json!({"metadata": {"name": name}, "spec": {"definition": document(name, tasks)}});
        server.create::<Workflow>(template("calls", &call)).await.unwrap();
        server.create::<WorkflowExecution>(run("r", "calls")).await.unwrap();
        let status = server.ended::<WorkflowExecution>("r").await.status.unwrap();
        assert_eq!(status.phase, if allowed { "Completed" } else { "Failed" });
        let error = format!("{:?}", status.error);
        assert_eq!(error.contains("it is the API of this installation"), !allowed, "{error}");
        // Nor does admission fetch from there what a definition refers to.
        let function = json!([{"a": {"call": format!("{api}/apis/baton.dev/v1/workflows"), "with": {}}}]);
        let refused = server.create::<Workflow>(template("fetches", &function)).await.unwrap_err();
        assert_eq!(format!("{refused:?}").contains("it is the API of this installation"), !allowed, "{refused:?}");
        server.stop().await;
    }
}
