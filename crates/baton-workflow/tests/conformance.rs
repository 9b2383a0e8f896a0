//! The conformance kit and the examples of the specification.
//!
//! The kit's features are read as they are. Calls of public servers are answered by the test. What this version does
//! not run is listed by name; the lists may only shrink.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

mod support;

use std::{collections::BTreeMap, fs, path::Path};

use baton_execution::{Command, Ending, Note};
use serde_json::{Value, json};
use support::{Give, Session};

/// Scenarios that need kinds of tasks that this version does not run.
const NOT_RUN: [&str; 0] = [];

/// Examples that this version accepts; all others must be refused for what is not supported yet, and nothing else.
const ACCEPTED: [&str; 64] = [
    "accumulate-room-readings.yaml",
    "authentication-bearer-uri-format.yaml",
    "authentication-bearer.yaml",
    "authentication-oauth2-secret.yaml",
    "authentication-oauth2.yaml",
    "authentication-oidc-secret.yaml",
    "authentication-oidc.yaml",
    "authentication-reusable.yaml",
    "call-asyncapi-publish.yaml",
    "call-asyncapi-subscribe-consume-forever-foreach.yaml",
    "call-asyncapi-subscribe-consume-until.yaml",
    "call-asyncapi-subscribe-consume-while.yaml",
    "call-custom-function-cataloged.yaml",
    "call-custom-function-inline.yaml",
    "call-http-endpoint-interpolation-shorthand.yaml",
    "call-http-endpoint-interpolation.yaml",
    "call-http-query-headers-expressions.yaml",
    "call-http-query-parameters.yaml",
    "call-http-redirect.yaml",
    "call-mcp.yaml",
    "call-openapi-redirect.yaml",
    "call-openapi.yaml",
    "conditional-task.yaml",
    "do-multiple.yaml",
    "do-single.yaml",
    "emit.yaml",
    "for.yaml",
    "fork.yaml",
    "listen-to-all read-envelope.yaml",
    "listen-to-all.yaml",
    "listen-to-any-filter.yaml",
    "listen-to-any-forever-foreach.yaml",
    "listen-to-any-until-condition.yaml",
    "listen-to-any-until-consumed.yaml",
    "listen-to-any.yaml",
    "listen-to-one.yaml",
    "mock-service-extension.yaml",
    "raise-inline.yaml",
    "raise-reusable.yaml",
    "run-container-cleanup-always.yaml",
    "run-container-cleanup-eventually.yaml",
    "run-container-stdin-and-arguments.yaml",
    "run-container-with-name.yaml",
    "run-container-with-pull-policy.yaml",
    "run-container.yaml",
    "run-return-all.yaml",
    "run-return-code.yaml",
    "run-return-none.yaml",
    "run-return-stderr.yaml",
    "run-script-with-stdin-and-arguments.yaml",
    "run-shell-stdin-and-arguments.yaml",
    "run-subflow.yaml",
    "schedule-cron.yaml",
    "schedule-event-driven.yaml",
    "set-expression.yaml",
    "set.yaml",
    "star-wars-homeworld.yaml",
    "switch-then-string.yaml",
    "try-catch-retry-inline.yaml",
    "try-catch-retry-reusable.yaml",
    "try-catch-then.yaml",
    "try-catch.yaml",
    "wait-duration-inline.yaml",
    "wait-duration-iso8601.yaml",
];

struct Scenario {
    name: String,
    definition: Value,
    input: Value,
    expectations: Vec<(String, Option<Value>)>,
}

fn folder(name: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name);
    let mut files: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Reads the steps of a feature: a line, and perhaps a block of YAML behind it.
fn scenarios(feature: &str) -> Vec<Scenario> {
    let mut found = Vec::new();
    let mut lines = feature.lines().peekable();
    while let Some(line) = lines.next() {
        let step = line.trim();
        if let Some(name) = step.strip_prefix("Scenario:") {
            found.push(Scenario {
                name: name.trim().to_owned(),
                definition: Value::Null,
                input: json!({}),
                expectations: Vec::new(),
            });
            continue;
        }
        let keyword = ["Given ", "And ", "Then ", "When "].into_iter().find_map(|keyword| step.strip_prefix(keyword));
        let (Some(step), Some(scenario)) = (keyword, found.last_mut()) else { continue };
        let mut block = None;
        if lines.peek().is_some_and(|next| next.trim() == "\"\"\"yaml") {
            lines.next();
            let text: Vec<&str> = lines.by_ref().take_while(|line| !line.trim().starts_with("\"\"\"")).collect();
            block = Some(serde_yaml_ng::from_str(&text.join("\n")).unwrap());
        }
        match (step, block) {
            ("a workflow with definition:", Some(block)) => scenario.definition = block,
            ("given the workflow input is:", Some(block)) => scenario.input = block,
            ("the workflow is executed", _) => {}
            (step, block) => scenario.expectations.push((step.to_owned(), block)),
        }
    }
    found
}

struct Outcome {
    ending: Ending,
    order: Vec<String>,
}

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
                Command::End(ending) => return Outcome { ending, order },
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

fn verify(name: &str, outcome: &Outcome, step: &str, block: Option<&Value>) {
    let output = match &outcome.ending {
        Ending::Completed { output } => Some(output),
        _ => None,
    };
    let words: Vec<&str> = step.split('\'').collect();
    match (step, block) {
        ("the workflow should complete", None) => assert!(output.is_some(), "{name}: {:?}", outcome.ending),
        ("the workflow should complete with output:", Some(expected)) => assert_eq!(output, Some(expected), "{name}"),
        ("the workflow should fault", None) => assert!(matches!(outcome.ending, Ending::Failed { .. }), "{name}"),
        ("the workflow should fault with error:", Some(expected)) => {
            let Ending::Failed { fault, .. } = &outcome.ending else { panic!("{name}: {:?}", outcome.ending) };
            assert_eq!(&serde_json::to_value(fault).unwrap(), expected, "{name}");
        }
        _ if step.starts_with("the workflow output should have properties") => {
            for property in words.iter().skip(1).step_by(2) {
                assert!(at(output.unwrap(), property).is_some(), "{name}: {property} in {output:?}");
            }
        }
        _ if step.contains("property with value") => assert_eq!(at(output.unwrap(), words[1]), block, "{name}"),
        _ if step.ends_with("items") => {
            let count: usize = step.split(' ').rev().nth(1).unwrap().parse().unwrap();
            assert_eq!(at(output.unwrap(), words[1]).unwrap().as_array().unwrap().len(), count, "{name}");
        }
        _ => {
            let words: Vec<&str> = step.split(' ').collect();
            let place = |task: &str| outcome.order.iter().position(|name| name == task).unwrap();
            match words.as_slice() {
                [task, "should", "run", "first"] => assert_eq!(place(task), 0, "{name}"),
                [task, "should", "run", "last"] => assert_eq!(place(task), outcome.order.len() - 1, "{name}"),
                [task, "should", "run", "after", other] => assert!(place(task) > place(other), "{name}"),
                _ => panic!("{name}: the step '{step}' is not known"),
            }
        }
    }
}

fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

#[test]
fn the_conformance_kit_passes() {
    let (mut passed, mut not_run) = (0, Vec::new());
    for (file, feature) in folder("ctk").iter().chain(&folder("main/ctk")).filter(|(file, _)| file != "README.md") {
        for scenario in scenarios(feature) {
            assert!(!scenario.expectations.is_empty(), "{file}: {}", scenario.name);
            if NOT_RUN.contains(&scenario.name.as_str()) {
                let violations = baton_workflow::check(&scenario.definition).unwrap_err();
                assert!(
                    violations.iter().all(|violation| violation.message.contains("not supported yet")),
                    "{file}: {violations:?}"
                );
                not_run.push(scenario.name);
                continue;
            }
            let outcome = execute(&scenario);
            for (step, block) in &scenario.expectations {
                verify(&scenario.name, &outcome, step, block.as_ref());
            }
            passed += 1;
        }
    }
    not_run.sort();
    assert_eq!((passed, not_run.as_slice()), (24, NOT_RUN.map(str::to_owned).as_slice()));
}

#[test]
fn examples_are_accepted_or_refused_for_what_is_not_supported() {
    let mut accepted = Vec::new();
    let examples = folder("examples");
    for (file, text) in examples.iter().filter(|(file, _)| file != "README.md") {
        let mut document: Value = serde_yaml_ng::from_str(text).unwrap();
        for external in baton_workflow::externals(&document) {
            document[baton_workflow::RESOURCES][external.uri] = json!({"set": {"x": 1}});
        }
        match baton_workflow::check(&document) {
            Ok(_) => accepted.push(file.as_str()),
            Err(violations) => {
                let unexpected: Vec<String> = violations
                    .iter()
                    .filter(|violation| !violation.message.contains("not supported"))
                    .map(ToString::to_string)
                    .collect();
                assert!(unexpected.is_empty(), "{file}: {unexpected:#?}");
            }
        }
    }
    assert_eq!(accepted, ACCEPTED);
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
