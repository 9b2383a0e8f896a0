//! The examples of the documentation of agents: each is applied, and each execution in it runs to its end.

use baton_proto::v1::{Agent, AgentExecution, Artifact, Skill};
use serde::Deserialize as _;
use serde_json::Value;

use crate::support::{REAL, Server, read};

const PAGES: [(&str, &str); 3] = [
    ("tools.md", include_str!("../../../../docs/agents/tools.md")),
    ("skills.md", include_str!("../../../../docs/agents/skills.md")),
    ("artifacts.md", include_str!("../../../../docs/agents/artifacts.md")),
];

/// The resources in the blocks of YAML of a page, in order.
fn resources(page: &str) -> Vec<Value> {
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let documents = blocks.flat_map(serde_yaml_ng::Deserializer::from_str);
    documents.map(|document| Value::deserialize(document).unwrap()).collect()
}

#[tokio::test]
async fn the_examples_do_what_they_say() {
    for (name, page) in PAGES {
        let server = Server::start().await;
        let mut ran = 0;
        for resource in resources(page) {
            let app = server.app();
            match resource["kind"].as_str().unwrap() {
                "Agent" => _ = app.create(read::<Agent>(resource), REAL).await.unwrap(),
                "Skill" => _ = app.create(read::<Skill>(resource), REAL).await.unwrap(),
                "Artifact" => _ = app.create(read::<Artifact>(resource), REAL).await.unwrap(),
                "AgentExecution" => {
                    let created = app.create(read::<AgentExecution>(resource), REAL).await.unwrap().object;
                    let ended = server.ended::<AgentExecution>(&created.metadata.unwrap().name).await.status.unwrap();
                    assert_eq!(ended.phase, "Completed", "{name}: {:?}", ended.error);
                    ran += 1;
                }
                other => panic!("{name}: no example is a {other}"),
            }
        }
        assert!(ran > 0, "{name} has an example that runs");
        server.stop().await;
    }
}

/// What the tool of the example of a command told the model.
#[tokio::test]
async fn the_command_of_the_example_counts_and_runs_nothing_else() {
    let server = Server::start().await;
    for resource in resources(PAGES[0].1).into_iter().filter(|it| it["metadata"]["name"] == "counter") {
        server.create::<Agent>(resource).await.unwrap();
    }
    let execution = resources(PAGES[0].1).into_iter().find(|it| it["kind"] == "AgentExecution").unwrap();
    server.create::<AgentExecution>(execution).await.unwrap();
    server.ended::<AgentExecution>("count").await;
    let request = baton_proto::v1::HistoryRequest { name: "count".into(), ..Default::default() };
    let page = server.app().history::<AgentExecution>(&request).await.unwrap();
    let told = page.events.iter().map(baton_proto::to_json_value).find_map(|event| {
        let message = event.pointer("/note/message")?;
        (message["role"] == "tool").then(|| message["content"].to_string())
    });
    assert!(told.as_deref().is_some_and(|told| told.contains("words") && told.contains('6')), "{told:?}");
    server.stop().await;
}
