//! The conformance kit and the examples of the specification, by the Program alone.
//!
//! The kit's features are read as they are. Calls of public servers are answered by the test. The same kit runs on a server with
//! either engine in `baton-tests/tests/language`, and there the examples run, too.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

#[path = "support/kit.rs"]
mod kit;
mod support;

use std::collections::BTreeMap;

use baton_execution::{Command, Ending, Note};
use kit::{Outcome, Scenario, folder};
use serde_json::{Value, json};
use support::{Give, Session, with_externals};

/// Examples that are refused, and the words in which that is said. All others are accepted, as they are.
const REFUSED: [(&str, &str); 1] = [("call-asyncapi-subscribe-consume-amount.yaml", "'ws'")];

fn execute(scenario: &Scenario) -> Outcome {
    let mut session = Session::new(&scenario.definition, &BTreeMap::new());
    let mut commands = session.commands(&Give::Start(scenario.input.clone()));
    let mut order = Vec::new();
    loop {
        let mut next = None;
        for command in commands {
            match command {
                Command::Note(Note::TaskStarted { name, .. }) => order.push(name),
                Command::ScheduleActivity(activity) => next = Some(answer(&activity.id.to_string(), &activity.input)),
                Command::End(Ending::Completed { output }) => return Outcome { ending: Ok(output), order },
                Command::End(Ending::Failed { fault, .. }) => {
                    return Outcome { ending: Err(serde_json::to_value(fault).unwrap()), order };
                }
                Command::End(other) => panic!("{}: {other:?}", scenario.name),
                _ => {}
            }
        }
        commands = session.commands(&next.unwrap_or_else(|| panic!("{}: waits for nothing", scenario.name)));
    }
}

/// What the public servers that the kit calls would answer.
fn answer(at: &str, request: &Value) -> Give {
    if let Some(event) = request.get("event") {
        let mut event = event.clone();
        event["id"] = "1".into();
        return Give::Completed { at: at.to_owned(), output: event };
    }
    if request["document"]["uri"] == "https://petstore.swagger.io/v2/swagger.json" {
        // As the operations of that document are.
        let endpoint = match (request["operationId"].as_str().unwrap(), &request["parameters"]) {
            ("findPetsByStatus", parameters) => {
                format!("/pet/findByStatus?status={}", parameters["status"].as_str().unwrap())
            }
            (_, parameters) => format!("/pet/{}", parameters["petId"]),
        };
        let endpoint = format!("https://petstore.swagger.io/v2{endpoint}");
        return answer(at, &json!({"method": "GET", "endpoint": endpoint, "output": request["output"]}));
    }
    let endpoint = request["endpoint"].as_str().unwrap();
    let pet = |id: &str| json!({"id": id.parse::<u64>().unwrap(), "name": "Milou", "status": "available"});
    let content = if endpoint.contains("getPetByName") {
        let fault = json!({"type": "https://serverlessworkflow.io/spec/1.0.0/errors/communication", "status": 404, "title": "communication"});
        return Give::Failed { at: at.to_owned(), fault };
    } else if let Some(rest) = endpoint.strip_prefix("https://petstore.swagger.io/v2/pet/findByStatus?status=") {
        assert_eq!(rest, "available");
        json!([pet("1")])
    } else if let Some(id) = endpoint.strip_prefix("https://petstore.swagger.io/v2/pet/") {
        pet(id)
    } else {
        assert_eq!(endpoint, "https://httpbin.org/basic-auth/serverless-workflow/conformance-test");
        assert_eq!(
            request["authentication"],
            json!({"basic": {"username": "serverless-workflow", "password": "conformance-test"}})
        );
        json!({"authenticated": true})
    };
    let output = match request["output"].as_str() {
        Some("response") => {
            json!({"request": {"method": request["method"], "uri": endpoint, "headers": {}}, "statusCode": 200, "headers": {}, "content": content})
        }
        _ => content,
    };
    Give::Completed { at: at.to_owned(), output }
}

#[test]
fn the_conformance_kit_passes() {
    let run = |scenario: Scenario| {
        let outcome = execute(&scenario);
        (scenario, outcome)
    };
    let outcomes: Vec<_> = kit::scenarios(str::to_owned).into_iter().map(run).collect();
    kit::verify(&outcomes);
}

#[test]
fn examples_are_accepted_or_refused_by_name() {
    let mut refused = Vec::new();
    for (file, text) in folder("examples").into_iter().chain(folder("main/examples")) {
        let document = with_externals(&serde_yaml_ng::from_str(&text).unwrap());
        if let Err(violations) = baton_workflow::check(&document) {
            let known = REFUSED.iter().find(|(name, _)| *name == file);
            let expected = known.is_some_and(|(_, says)| violations.iter().all(|it| it.to_string().contains(says)));
            assert!(expected, "{file}: {violations:#?}");
            refused.push(file);
        }
    }
    let mut known = REFUSED.map(|(file, _)| file);
    known.sort_unstable();
    refused.sort();
    assert_eq!(refused, known);
}

#[test]
fn invalid_documents_are_refused() {
    for (file, text) in folder("invalid") {
        // One of them repeats a key, which the reader of YAML refuses already.
        if let Ok(document) = serde_yaml_ng::from_str::<Value>(&text) {
            assert!(baton_workflow::check(&document).is_err(), "{file}");
        }
    }
}
