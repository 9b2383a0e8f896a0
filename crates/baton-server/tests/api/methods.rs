//! Every gRPC method answers: the list is taken from the descriptors, and one without a case fails.

use std::collections::BTreeMap;

use baton_proto::{DESCRIPTORS, v1};
use prost_reflect::DescriptorPool;
use reqwest::Version;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::harness::{Server, client};

/// What an empty request gets. `Ok` stands for an answer or the beginning of a stream.
const RESOURCE_CASES: [(&str, &str, Code); 7] = [
    ("Create", "", Code::InvalidArgument),
    ("Get", "", Code::NotFound),
    ("List", "s", Code::Ok),
    ("Update", "", Code::InvalidArgument),
    ("Patch", "", Code::InvalidArgument),
    ("Delete", "", Code::NotFound),
    ("Watch", "s", Code::Ok),
];

const EXECUTION_CASES: [(&str, &str, Code); 10] = [
    ("Cancel", "", Code::NotFound),
    ("Terminate", "", Code::NotFound),
    ("Suspend", "", Code::NotFound),
    ("Resume", "", Code::NotFound),
    ("Get", "History", Code::NotFound),
    ("Watch", "History", Code::NotFound),
    ("Stream", "", Code::NotFound),
    ("List", "Callbacks", Code::NotFound),
    ("Attach", "Callback", Code::InvalidArgument),
    ("Retry", "Callback", Code::NotFound),
];

const APPROVAL_CASES: [(&str, Code); 6] = [
    ("GetApproval", Code::NotFound),
    ("ListApprovals", Code::Ok),
    ("WatchApprovals", Code::Ok),
    ("Approve", Code::NotFound),
    ("Deny", Code::NotFound),
    ("Decide", Code::InvalidArgument),
];

const CALLBACK_CASES: [(&str, Code); 6] = [
    ("CreateCallback", Code::Ok),
    ("AwaitCallback", Code::InvalidArgument),
    ("CompleteCallback", Code::InvalidArgument),
    ("FailCallback", Code::InvalidArgument),
    ("CancelCallback", Code::InvalidArgument),
    ("HeartbeatCallback", Code::InvalidArgument),
];

fn cases() -> BTreeMap<String, Code> {
    let mut cases =
        BTreeMap::from(CALLBACK_CASES.map(|(method, code)| (format!("baton.v1.CallbackService/{method}"), code)));
    cases.extend(APPROVAL_CASES.map(|(method, code)| (format!("baton.v1.ApprovalService/{method}"), code)));
    cases.insert("baton.v1.ArtifactService/GetArtifactContent".to_owned(), Code::NotFound);
    cases.insert("baton.v1.AgentExecutionService/GetAgentExecutionArtifact".to_owned(), Code::NotFound);
    cases.insert("baton.v1.EventService/PublishEvents".to_owned(), Code::InvalidArgument);
    cases.insert("baton.v1.SessionService/ExportSession".to_owned(), Code::NotFound);
    let kinds = [
        "Workflow",
        "Agent",
        "Secret",
        "Session",
        "McpServer",
        "Skill",
        "Artifact",
        "WorkflowExecution",
        "AgentExecution",
    ];
    for kind in kinds {
        let more = EXECUTION_CASES.iter().filter(|_| kind.ends_with("Execution"));
        for (before, after, code) in RESOURCE_CASES.iter().chain(more) {
            cases.insert(format!("baton.v1.{kind}Service/{before}{kind}{after}"), *code);
        }
    }
    cases
}

#[tokio::test]
async fn every_method_answers_an_empty_request() {
    let server = Server::start().await;
    let client = client().http2_prior_knowledge().build().unwrap();
    let cases = cases();
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let methods: Vec<String> =
        pool.services().flat_map(|it| it.methods().map(|it| it.full_name().to_owned()).collect::<Vec<_>>()).collect();
    assert!(methods.len() >= 65, "{methods:?}");
    let mut wrong = Vec::new();
    for method in methods {
        let (service, name) = method.rsplit_once('.').unwrap();
        let path = format!("{service}/{name}");
        let Some(expected) = cases.get(&path) else {
            wrong.push(format!("{path} has no case"));
            continue;
        };
        // One message of no bytes, which every request is when it says nothing.
        let request = client
            .post(format!("{}/{path}", server.url))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(vec![0; 5]);
        let response = request.send().await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        let code = response.headers().get("grpc-status").map_or(Code::Ok, |it| Code::from_bytes(it.as_bytes()));
        if code != *expected {
            wrong.push(format!(
                "{path}: {code:?} rather than {expected:?}, {:?}",
                response.headers().get("grpc-message")
            ));
        }
        if code != Code::Ok {
            assert!(response.headers().contains_key("baton-reason"), "{path}: {:?}", response.headers());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn refusals_carry_reason_hint_and_violations() {
    let server = Server::start().await;
    let mut executions =
        v1::workflow_execution_service_client::WorkflowExecutionServiceClient::new(server.channel().await);
    let spec = v1::WorkflowExecutionSpec {
        timeout: "soon".to_owned(),
        parent_close_policy: "Maybe".to_owned(),
        ..Default::default()
    };
    let object = v1::WorkflowExecution { spec: Some(spec), ..Default::default() };
    let request = v1::CreateWorkflowExecutionRequest { workflow_execution: Some(object), options: None };
    let status = executions.create_workflow_execution(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.metadata().get("baton-reason").unwrap(), "FIELD_INVALID");
    let violations = status.metadata().get_bin("baton-violations-bin").unwrap().to_bytes().unwrap();
    let violations: Vec<BTreeMap<String, String>> = serde_json::from_slice(&violations).unwrap();
    let fields: Vec<&str> = violations.iter().map(|it| it["field"].as_str()).collect();
    for field in ["spec.timeout", "spec.parentClosePolicy"] {
        assert!(fields.contains(&field), "{fields:?}");
    }

    let options = Some(v1::CreateOptions { dry_run: "Some".to_owned() });
    let status = executions
        .create_workflow_execution(v1::CreateWorkflowExecutionRequest { workflow_execution: None, options })
        .await
        .unwrap_err();
    assert!(
        status.message().contains("options.dry_run") && status.message().contains("workflow_execution: must be set"),
        "{status}"
    );
}

#[tokio::test]
async fn messages_have_a_limit() {
    let server = Server::start().await;
    let mut agents = v1::agent_service_client::AgentServiceClient::new(server.channel().await);
    let spec = v1::AgentSpec { instructions: "x".repeat(3 << 20), ..Default::default() };
    let request =
        v1::CreateAgentRequest { agent: Some(v1::Agent { spec: Some(spec), ..Default::default() }), options: None };
    let status = agents.create_agent(request).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(status.message().contains("2097152"), "names the limit: {status}");
}

#[tokio::test]
async fn unknown_services_and_methods_are_unimplemented() {
    let server = Server::start().await;
    let client = client().http2_prior_knowledge().build().unwrap();
    for path in ["baton.v1.WorkflowService/Nothing", "nothing.v1.Service/Nothing"] {
        let request = client
            .post(format!("{}/{path}", server.url))
            .header("content-type", "application/grpc+proto")
            .body(vec![0; 5]);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "12", "{path}");
    }
}

#[tokio::test]
async fn health_is_told_for_each_service() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "baton.v1.WorkflowService", "baton.v1.CallbackService"] {
        let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let status = health.check(HealthCheckRequest { service: "nothing".to_owned() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let mut changes = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(changes.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    use tonic_reflection::pb::v1alpha;
    let server = Server::start().await;
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("not a list")
    };
    let names: Vec<_> = list.service.into_iter().map(|it| it.name).collect();
    for name in ["baton.v1.WorkflowExecutionService", "baton.v1.CallbackService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|it| it == name), "{names:?}");
    }
    // Older clients know the version before.
    let mut older = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers = older.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let listed = matches!(
        answer,
        Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) if list.service.len() == names.len()
    );
    assert!(listed, "the same services");
}
