//! Against jq 1.7.1 itself: the same expressions with the same inputs, result by result.
//!
//! The library of jq comes from `cargo xtask tools`. What differs on purpose stands in `tests/jq/differences.txt`, with
//! its reason, and in the documentation; a difference that is none any more fails the test, too.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::*;

/// Some expressions with some inputs.
struct Case {
    /// What it is about: the last heading before it.
    section: String,
    text: String,
    inputs: Vec<String>,
}

/// A file of cases: headings (`== name: reason`), expressions, and below each its inputs, indented.
fn cases(text: &str) -> Vec<Case> {
    let (mut section, mut cases) = (String::new(), Vec::<Case>::new());
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("# ")) {
        if let Some(heading) = line.strip_prefix("== ") {
            heading.clone_into(&mut section);
        } else if let Some(input) = line.strip_prefix("    ") {
            cases.last_mut().expect("an input follows an expression").inputs.push(input.to_owned());
        } else {
            cases.push(Case { section: section.clone(), text: line.to_owned(), inputs: Vec::new() });
        }
    }
    cases
}

/// The expression, with its results and its error as texts of JSON: an error does not hide what came before it.
fn wrapped(text: &str) -> String {
    format!("try (({text}\n) | {{ok: .}}) catch {{error: .}} | tojson")
}

/// What one of the two made of an expression: `None` if it does not compile.
pub(super) type Results = Option<Vec<Value>>;

pub(super) fn ours(text: &str, input: &str) -> (Results, String) {
    let input = serde_json::from_str(input).unwrap_or_else(|error| panic!("{input}: {error}"));
    let expression = match Expression::compile(&wrapped(text), &[]) {
        Ok(expression) => expression,
        Err(refusal) => return (None, refusal),
    };
    match expression.run(&input, &Given(json!({}))) {
        Ok(results) => {
            let read = |text: &Value| {
                serde_json::from_str(text.as_str().unwrap()).unwrap_or_else(|_| json!({"no JSON": text}))
            };
            (Some(results.iter().map(read).collect()), String::new())
        }
        Err(fault) => (Some(vec![json!({"limit": true})]), fault.detail.unwrap()),
    }
}

/// What jq says of an expression.
pub(super) enum Answer {
    Results(Results),
    /// It ended in the middle of it. It does at times.
    Crash,
}

/// What jq makes of expressions, each with its input.
pub(super) fn theirs(questions: &[(String, String)]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while answers.len() < questions.len() {
        answers.extend(ask(&questions[answers.len()..]).into_iter().map(Answer::Results));
        if answers.len() < questions.len() {
            answers.push(Answer::Crash);
        }
    }
    answers
}

/// Answers of one process, as far as it comes.
fn ask(questions: &[(String, String)]) -> Vec<Results> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = folder.join("../../target/tools/venv/bin/python");
    let python = std::env::var_os("BATON_TEST_PYTHON").map_or(made, PathBuf::from);
    let mut jq = Command::new(&python)
        .arg(folder.join("tests/jq/reference.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; cargo xtask tools makes it", python.display()));
    let asked: Vec<String> = questions
        .iter()
        .map(|(text, input)| json!({"text": wrapped(text), "input": input}).to_string() + "\n")
        .collect();
    let mut stdin = jq.stdin.take().unwrap();
    // What is not read any more is not written: the process has ended.
    let writer = std::thread::spawn(move || drop(asked.iter().try_for_each(|line| stdin.write_all(line.as_bytes()))));
    let answers: Vec<Results> = BufReader::new(jq.stdout.take().unwrap())
        .lines()
        .map(|line| {
            let texts: Option<Vec<String>> = serde_json::from_str(&line.unwrap()).unwrap();
            let read = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| json!({"no JSON": text}));
            texts.map(|texts| texts.iter().map(read).collect())
        })
        .collect();
    let mut says = String::new();
    jq.stderr.take().unwrap().read_to_string(&mut says).unwrap();
    let status = jq.wait().unwrap();
    writer.join().unwrap();
    // An error of the script is no crash of jq.
    assert!(status.code().is_none_or(|code| code == 0), "{}: {status}: {says}", python.display());
    answers
}

/// Whether both mean the same: results are equal, and so are errors that are not texts. A sentence is each one's own.
pub(super) fn alike(ours: &Results, theirs: &Results) -> bool {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return ours.is_none() && theirs.is_none() };
    ours.len() == theirs.len()
        && ours
            .iter()
            .zip(theirs)
            .all(|(left, right)| (left["error"].is_string() && right["error"].is_string()) || same_value(left, right))
}

/// Equality; of numbers, up to the last digits, in which libraries of mathematics differ.
fn same_value(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let (a, b) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            match (left.is_f64(), right.is_f64()) {
                (false, false) => left == right,
                // Whole numbers that are too large for a double have two ways of being written.
                (is_float, is_other_float) => {
                    (is_float == is_other_float || a.abs() > 9e15) && (a - b).abs() <= 4.0 * f64::EPSILON * a.abs()
                }
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same_value(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| same_value(value, other)))
        }
        _ => left == right,
    }
}

pub(super) fn shown_results(results: &Results) -> String {
    results.as_ref().map_or_else(
        || "(does not compile)".to_owned(),
        |results| results.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    )
}

/// Cases in which the two differ, with a line for each, and how many were looked at.
fn differing(cases: &[Case]) -> Vec<(usize, String)> {
    let null = ["null".to_owned()];
    let questions: Vec<(usize, String, String)> = cases
        .iter()
        .enumerate()
        .flat_map(|(index, case)| {
            let inputs = if case.inputs.is_empty() { &null[..] } else { &case.inputs };
            inputs.iter().map(move |input| (index, case.text.clone(), input.clone()))
        })
        .collect();
    let asked: Vec<(String, String)> = questions.iter().map(|(_, text, input)| (text.clone(), input.clone())).collect();
    let answers = theirs(&asked);
    let mut differing = Vec::new();
    for ((index, text, input), theirs) in questions.into_iter().zip(answers) {
        let Answer::Results(theirs) = theirs else { panic!("jq itself crashes: {text}") };
        let (ours, detail) = ours(&text, &input);
        if !alike(&ours, &theirs) {
            let mut line = format!("{text}\n    {input}\n  ours: {} {detail}\n", shown_results(&ours));
            writeln!(line, "  jq's: {}", shown_results(&theirs)).unwrap();
            differing.push((index, line));
        }
    }
    differing
}

#[test]
fn expressions_give_what_jq_gives() {
    let table = cases(include_str!("../../../tests/jq/expressions.txt"));
    assert!(table.len() >= 400, "{} expressions", table.len());
    let differing = differing(&table);
    let lines: String = differing.iter().map(|(_, line)| line.as_str()).collect();
    assert!(differing.is_empty(), "{} of {} differ:\n{lines}", differing.len(), table.len());
}

#[test]
fn differences_are_those_that_are_listed() {
    let table = cases(include_str!("../../../tests/jq/differences.txt"));
    let differing = differing(&table);
    let alike: Vec<&str> = table
        .iter()
        .enumerate()
        .filter(|(index, _)| !differing.iter().any(|(other, _)| other == index))
        .map(|(_, case)| case.text.as_str())
        .collect();
    assert!(alike.is_empty(), "no differences any more: {alike:#?}");
    let documentation = include_str!("../../../../../docs/workflows/reference/expressions.md");
    for case in &table {
        let (name, reason) = case.section.split_once(": ").expect("a name and a reason");
        assert!(documentation.contains(&format!("| {name} |")), "'{name}: {reason}' is not in the documentation");
    }
}
