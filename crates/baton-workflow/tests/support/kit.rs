//! The specification's conformance kit and its examples, read as they are, and the kit's expectations.
//!
//! Whoever runs a scenario gives its [`Outcome`] to [`Scenario::verify`]: the Program alone does (`conformance.rs`), and so does
//! a server with either engine (`baton-tests/tests/language`).

use std::{fs, path::Path};

use serde_json::{Value, json};

/// Scenarios in the release's kit and in what the unreleased main branch has changed of it.
pub(crate) const SCENARIOS: usize = 24;

/// Scenarios that contradict the specification, and how: they must fail. None is known.
pub(crate) const DEFECTS: [(&str, &str); 0] = [];

/// A definition, its input, and what must come of it.
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) definition: Value,
    pub(crate) input: Value,
    expectations: Vec<(String, Option<Value>)>,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The output, or the fault as problem details.
    pub(crate) ending: Result<Value, Value>,
    /// Names of the tasks, in the order in which they began.
    pub(crate) order: Vec<String>,
}

/// The files of a folder of the specification, by name.
pub(crate) fn folder(name: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../baton-workflow/tests/conformance").join(name);
    let mut files: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .filter(|(file, _)| file != "README.md")
        .collect();
    files.sort();
    files
}

/// Every scenario, its text first changed by `change`.
pub(crate) fn scenarios(change: impl Fn(&str) -> String) -> Vec<Scenario> {
    let features = folder("ctk").into_iter().chain(folder("main/ctk"));
    let found: Vec<Scenario> = features.flat_map(|(_, feature)| read(&change(&feature))).collect();
    assert_eq!(found.len(), SCENARIOS);
    for scenario in &found {
        assert!(!scenario.expectations.is_empty(), "{}", scenario.name);
    }
    found
}

/// Reads the steps of a feature: a line, and perhaps a block of YAML behind it.
fn read(feature: &str) -> Vec<Scenario> {
    let mut found: Vec<Scenario> = Vec::new();
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

/// Gives every outcome to its scenario. Those of [`DEFECTS`] must fail, all others must not.
pub(crate) fn verify(outcomes: &[(Scenario, Outcome)]) {
    let mut wrong = Vec::new();
    for (scenario, outcome) in outcomes {
        let unmet = scenario.unmet(outcome);
        let defect = DEFECTS.iter().find(|(name, _)| *name == scenario.name);
        match (unmet.is_empty(), defect) {
            (true, None) | (false, Some(_)) => {}
            (true, Some((name, why))) => wrong.push(format!("'{name}' passes, and is excused as: {why}")),
            (false, None) => wrong.push(format!("'{}': {unmet:#?} of {outcome:#?}", scenario.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(outcomes.len(), SCENARIOS);
}

impl Scenario {
    /// The expectations that are not met.
    fn unmet(&self, outcome: &Outcome) -> Vec<&str> {
        let unmet = |(step, block): &&(String, Option<Value>)| !meets(outcome, step, block.as_ref());
        self.expectations.iter().filter(unmet).map(|(step, _)| step.as_str()).collect()
    }
}

fn meets(outcome: &Outcome, step: &str, block: Option<&Value>) -> bool {
    let output = outcome.ending.as_ref().ok();
    let found = |path: &str| output.and_then(|output| at(output, path));
    let quoted: Vec<&str> = step.split('\'').skip(1).step_by(2).collect();
    match (step, block) {
        ("the workflow should complete", None) => output.is_some(),
        ("the workflow should complete with output:", Some(expected)) => output == Some(expected),
        ("the workflow should fault", None) => output.is_none(),
        ("the workflow should fault with error:", Some(expected)) => outcome.ending.as_ref() == Err(expected),
        _ if step.starts_with("the workflow output should have properties") => {
            quoted.iter().all(|path| found(path).is_some())
        }
        _ if step.contains("property with value") => found(quoted[0]) == block,
        _ if step.ends_with("items") => {
            let count: usize = step.split(' ').rev().nth(1).unwrap().parse().unwrap();
            found(quoted[0]).and_then(Value::as_array).is_some_and(|items| items.len() == count)
        }
        _ => {
            let words: Vec<&str> = step.split(' ').collect();
            let place = |task: &str| outcome.order.iter().position(|name| name == task);
            match words.as_slice() {
                [task, "should", "run", "first"] => place(task) == Some(0),
                [task, "should", "run", "last"] => place(task).is_some_and(|it| it + 1 == outcome.order.len()),
                [task, "should", "run", "after", other] => place(other).is_some_and(|it| place(task) > Some(it)),
                _ => panic!("{}: the step '{step}' is not known", outcome.order.join(", ")),
            }
        }
    }
}

fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}
