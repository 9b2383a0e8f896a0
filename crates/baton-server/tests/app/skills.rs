//! Skills: written, named by agents, pinned by executions, read by models.

use baton_proto::v1::{Agent, AgentExecution, ListRequest, Skill};
use baton_types::ErrorKind;
use serde_json::{Value, json};

use crate::support::{DRY, REAL, Server, fields, read};

fn skill(text: &str) -> Value {
    let files = json!([{"path": "limits.md", "mediaType": "text/markdown", "text": "At most 100."}, {"path": "a.png", "data": "aGk="}]);
    json!({
        "metadata": {"name": "refunds"},
        "spec": {"description": "Refunds", "instructions": text, "files": files, "metadata": {"author": "me"}},
    })
}

/// An agent that loads its skill, reads a file of it, and answers.
fn agent() -> Value {
    let turns = json!([
        {"toolCalls": [{"name": "load_skill", "arguments": {"name": "refunds"}}]},
        {"toolCalls": [{"name": "read_skill_file", "arguments": {"name": "refunds", "path": "limits.md"}}]},
        {"text": "done"}
    ]);
    json!({
        "metadata": {"name": "triage"},
        "spec": {
            "instructions": "Triage.", "skills": ["refunds"],
            "model": {"name": "m", "provider": "playback", "playback": {"conversations": [{"turns": turns}]}},
        },
    })
}

/// What the model was told by tools, in order.
async fn told(server: &Server, execution: &str) -> Vec<String> {
    let request = baton_proto::v1::HistoryRequest { name: execution.to_owned(), ..Default::default() };
    let page = server.app().history::<AgentExecution>(&request).await.unwrap();
    let events = page.events.iter().map(baton_proto::to_json_value);
    let notes =
        events.filter_map(|event| event.pointer("/note/message").cloned()).filter(|message| message["role"] == "tool");
    notes.map(|message| message["content"].to_string()).collect()
}

#[tokio::test]
async fn an_execution_goes_on_with_the_skill_that_it_began_with() {
    let server = Server::start().await;
    let created: Skill = server.create(skill("The first text.")).await.unwrap();
    let digest = created.status.as_ref().unwrap().digest.clone();
    assert!(digest.starts_with("sha256:"));
    assert_eq!(created.spec.as_ref().unwrap().files[0].path, "a.png", "files are in order of their paths");
    server.create::<Agent>(agent()).await.unwrap();
    let execution = |name: &str, suspend: bool| json!({"metadata": {"name": name}, "spec": {"agent": "triage", "message": "Hi", "suspend": suspend}});
    server.create::<AgentExecution>(execution("held", true)).await.unwrap();

    let patch = json!({"spec": {"instructions": "The second text."}});
    let changed = server.app().patch::<Skill>("", "refunds", patch.clone(), REAL).await.unwrap().object;
    assert_ne!(changed.status.as_ref().unwrap().digest, digest);
    assert_eq!(changed.metadata.as_ref().unwrap().generation, 2);
    let same = server.app().patch::<Skill>("", "refunds", patch, REAL).await.unwrap().object;
    assert_eq!(same, changed, "a write that changes nothing is none");
    server.create::<AgentExecution>(execution("fresh", false)).await.unwrap();
    let fresh = server.ended::<AgentExecution>("fresh").await.status.unwrap();
    assert_eq!(fresh.phase, "Completed", "{:?}", fresh.error);

    server
        .app()
        .delete::<Skill>(&baton_proto::v1::DeleteRequest { name: "refunds".into(), ..Default::default() })
        .await
        .unwrap();
    let server = server.restart().await;
    server.app().patch::<AgentExecution>("", "held", json!({"spec": {"suspend": false}}), REAL).await.unwrap();
    let held = server.ended::<AgentExecution>("held").await.status.unwrap();
    assert_eq!(held.phase, "Completed", "{:?}", held.error);
    let (of_held, of_fresh) = (told(&server, "held").await, told(&server, "fresh").await);
    assert!(
        of_held[0].contains("The first text.") && of_fresh[0].contains("The second text."),
        "{of_held:?} {of_fresh:?}"
    );
    assert!(of_held[0].contains("limits.md (12 bytes)") && of_held[0].contains("a.png"), "{of_held:?}");
    assert!(of_held[1].contains("At most 100."), "{of_held:?}");
    assert_ne!(held.template.unwrap().digest, fresh.template.unwrap().digest);
    server.stop().await;
}

#[tokio::test]
async fn a_skill_that_is_not_there_is_told_early() {
    let server = Server::start().await;
    let written = server.app().create(read::<Agent>(agent()), REAL).await.unwrap();
    assert!(written.warnings[0].contains("no skill 'refunds' in namespace 'default' yet"), "{:?}", written.warnings);
    let named = json!({"metadata": {"name": "a"}, "spec": {"agent": "triage", "message": "Hi"}});
    let refused = server.create::<AgentExecution>(named).await.unwrap_err();
    assert_eq!((refused.kind, fields(&refused)), (ErrorKind::InvalidArgument, vec!["spec.agent".to_owned()]));
    assert!(refused.to_string().contains("agent 'triage': no skill 'refunds' in namespace 'default'"), "{refused}");
    let inline = json!({"metadata": {"name": "b"}, "spec": {"definition": agent()["spec"], "message": "Hi"}});
    let refused = server.create::<AgentExecution>(inline).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec.definition.skills[0]"]);
    server.stop().await;
}

#[tokio::test]
async fn all_that_is_wrong_with_a_skill_is_told() {
    let server = Server::start().await;
    let wrong = json!({"metadata": {"name": "A b"}, "spec": {"instructions": "x", "files": [{"path": "../x"}]}});
    let refused = server.app().create(read::<Skill>(wrong), REAL).await.unwrap_err();
    assert_eq!(fields(&refused), ["metadata.name", "spec.description", "spec.files[0].path"]);
    let refused = server.app().create(read::<Skill>(json!({"metadata": {"name": "a"}})), REAL).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec"]);
    let large = "x".repeat(190_000);
    let files: Vec<Value> = (0..6).map(|index| json!({"path": format!("{index}.txt"), "text": large})).collect();
    let spec = json!({"description": "d", "instructions": "i", "files": files});
    let refused =
        server.app().create(read::<Skill>(json!({"metadata": {"name": "a"}, "spec": spec})), REAL).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::TooLarge, "{refused}");
    server.app().create(read::<Skill>(skill("x")), DRY).await.unwrap();
    let (_, listed) = server.app().list::<Skill>(&ListRequest::default()).await.unwrap();
    assert_eq!(listed, []);
    server.stop().await;
}
