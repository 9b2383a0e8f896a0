//! The examples of the specification, run as they stand.
//!
//! `examples.yaml` says of every one what it is given and what comes of it, or why it is not run here.

use std::collections::BTreeMap;

use futures::future::join_all;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{
    kit::folder,
    site::{Engine, Site},
};

/// What is done with an example.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    /// Why it is not run.
    #[serde(default)]
    left: String,
    /// Why it ends in a fault.
    #[serde(default, rename = "why")]
    _why: String,
    #[serde(default)]
    input: Value,
    /// Events by the subscription after which they are sent.
    #[serde(default)]
    events: Vec<Vec<Value>>,
    /// It does not end by itself: it is left after its last event, when so much was asked.
    #[serde(default)]
    endless: bool,
    /// Its output, of which objects may have more fields.
    #[serde(default, deserialize_with = "given")]
    output: Option<Value>,
    /// Its fault, likewise.
    fault: Option<Value>,
    /// What it asks of the world, sorted, if that is certain.
    asks: Option<Vec<String>>,
}

/// A field that is there, even if it is null.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// Secrets and workflows that examples refer to.
#[derive(Deserialize)]
struct Plans {
    secrets: BTreeMap<String, Value>,
    workflows: BTreeMap<String, Value>,
    examples: BTreeMap<String, Plan>,
}

pub(crate) async fn examples_run(engine: Engine) {
    let site = Site::start(engine).await;
    let plans: Plans = serde_yaml_ng::from_str(&site.world.near(include_str!("examples.yaml"))).unwrap();
    let files: BTreeMap<String, String> = ["examples", "main/examples"]
        .into_iter()
        .flat_map(|part| folder(part).into_iter().map(move |(file, text)| (part.replace("examples", "") + &file, text)))
        .collect();
    assert_eq!(plans.examples.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
    let runs = plans.examples.iter().filter(|(_, plan)| plan.left.is_empty());
    let runs = runs.map(|(file, plan)| run(&site, &plans, file, plan, &files[file]));
    let wrong: Vec<String> = join_all(runs).await.concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    site.stop().await;
}

/// Runs an example in a namespace of its own, and tells what is not as it should be.
async fn run(site: &Site, plans: &Plans, file: &str, plan: &Plan, text: &str) -> Vec<String> {
    let name = file.trim_end_matches(".yaml").replace(['/', ' '], "-").to_lowercase();
    let place = site.namespace(&name);
    for (name, data) in &plans.secrets {
        place.secret(name, data).await;
    }
    for (name, definition) in &plans.workflows {
        place.workflow(name, definition).await;
    }
    let definition = serde_yaml_ng::from_str(&site.world.near(text)).unwrap();
    place.run(&name, &definition, &plan.input).await;
    for (number, events) in plan.events.iter().enumerate() {
        assert!(place.subscribed(&name, number + 1).await, "{file} listens");
        place.publish(events).await;
    }
    let mut wrong = Vec::new();
    if plan.endless {
        assert!(place.subscribed(&name, plan.events.len() + 1).await, "{file} listens on");
    } else {
        let ending = place.outcome(&name).await.ending;
        let as_said = match (&ending, &plan.output, &plan.fault) {
            (Ok(found), Some(expected), None) | (Err(found), None, Some(expected)) => holds(found, expected),
            _ => false,
        };
        if !as_said {
            wrong.push(format!("{file}: {ending:?}"));
        }
    }
    let mut asked = site.world.asked_by(&place.get(&name).await.metadata.unwrap().uid);
    asked.sort();
    if plan.asks.as_ref().is_some_and(|asks| *asks != asked) {
        wrong.push(format!("{file}: asked {asked:#?}"));
    }
    wrong
}

/// Whether everything that is expected is there.
fn holds(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(key, expected)| found.get(key).is_some_and(|found| holds(found, expected)))
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| holds(found, expected))
        }
        _ => found == expected,
    }
}
