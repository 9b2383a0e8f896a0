//! Expressions that nobody wrote, against jq itself, and texts that are hardly expressions, against the limits.

use std::fmt::Write as _;

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::{
    reference::{Answer, alike, ours, shown_results, theirs},
    *,
};

/// Expressions that one process of jq is asked.
const BATCH: usize = 1500;

const INPUTS: [&str; 8] = [
    "null",
    "2",
    r#""ab""#,
    "[1,[2,null]]",
    r#"{"a":{"b":1},"b":[1,"x",null]}"#,
    r#"[{"a":1,"b":2},{"a":null},{"a":1,"b":[]}]"#,
    r#"{"a":[3,1,2],"b":"a"}"#,
    r#"{"a":true,"b":{"a":"ab","b":0.5}}"#,
];

/// Terms that hold no others.
const LEAVES: [&str; 48] = [
    ".",
    ".a",
    ".b",
    ".a.b",
    ".[0]",
    ".[]",
    ".[]?",
    ".a?",
    ".a[]?",
    ".[1:]",
    ".[:1]?",
    "..",
    "$x",
    "0",
    "1",
    "2",
    "1.5",
    "\"a\"",
    "\"ab\"",
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "empty",
    "not",
    "length",
    "keys?",
    "add?",
    "type",
    "tojson",
    "tostring",
    "to_entries?",
    "flatten?",
    "sort?",
    "unique?",
    "reverse?",
    "min?",
    "max?",
    "tostream",
    "[paths]",
    "first?",
    "last?",
    "ascii_downcase?",
    "explode?",
    "@json",
    "error(\"e\")",
    "tonumber?",
];

/// Terms around others: `A` is any, `P` a path, `C` has no results that grow.
const FRAMES: [&str; 72] = [
    "A, A",
    "A | A",
    "A + A",
    "A - A",
    "A * C",
    "A / A",
    "A % A",
    "A == A",
    "A < A",
    "A >= A",
    "A and A",
    "A or A",
    "A // A",
    "(A) + (A)",
    "(A, A) - (A, A)",
    "(A) < (A, A)",
    "(A) // (A)",
    "A + A * A",
    "A // A | A",
    "A, A == A",
    "A < A and A != A",
    "[A]",
    "{a: (A)}",
    "{a: (A), b: (A)}",
    "{(A | tostring): (A)}",
    "{\"k\\(A)\": 1, $x}",
    "\"\\(A)-\\(A)\"",
    "@html \"<\\(A)>\"",
    "if A then A else A end",
    "if A then A end",
    "if A then A elif A then A else A end",
    "try (A) catch 7",
    "(A)?",
    "reduce (A) as $y (C; . + $y)",
    "reduce (A) as $y (C; A, $y)",
    "foreach (A) as $y (C; . + $y; [., $y])",
    "foreach (A) as $y (C; [A])",
    "(A) as $y | A | [., $y]",
    "(A) as [$y, $z] | [$y, $z, A]",
    "[(A) as {a: $y} ?// [$y] ?// $y | [$y, (A)]]",
    "label $f | (A | ., break $f, 3)",
    "first(A)",
    "last(A)",
    "limit(2; A)",
    "nth(1; A)",
    "isempty(A)",
    "any(A; A)",
    "all(A; A)",
    "[.[]? | A]",
    "map(A)",
    "select(A)",
    "sort_by(A)",
    "group_by(A)",
    "unique_by(A)",
    "min_by(A)",
    "with_entries(.value |= (A))",
    "[path(P)]",
    "[paths(A)]",
    "del(P)",
    "P |= (A)",
    "P = (A)",
    "P += (A)",
    "P //= (A)",
    "P -= A",
    "(P) |= C",
    "to_entries | A",
    "walk(A)",
    "def f(g): g, (A); f(A)",
    "def f($y): [$y, (A)]; f(A)",
    "contains(A)",
    "getpath([A])",
    "setpath([A]; A)",
];

const PATHS: [&str; 24] = [
    ".",
    ".a",
    ".b",
    ".[0]",
    ".[]",
    ".[]?",
    ".a.b",
    ".a[]?",
    ".[1:]",
    ".[-1]",
    "..",
    "empty",
    "first(.[])",
    "(.a, .b)",
    "(.a | .b)",
    "(.a // .b)",
    "(.[]? | select(A))",
    "(if A then .a else .b end)",
    "getpath([\"a\", \"b\"])",
    "(.. | select(A))",
    "(.a?, .[0]?)",
    "limit(1; .[]?)",
    ".[\"a\", \"b\"]?",
    "(label $g | .a, break $g)",
];

/// Fills a frame: choices are taken one after the other, so that shrinking them makes the expression simpler.
fn fill(frame: &str, depth: usize, choices: &mut impl Iterator<Item = usize>) -> String {
    let mut text = String::new();
    let mut word = false;
    for character in frame.chars() {
        let is_word = character.is_alphanumeric() || matches!(character, '_' | '$' | '.');
        match character {
            'A' if !word => text.push_str(&term(depth, choices)),
            'C' if !word => text.push_str(LEAVES[12 + choices.next().unwrap_or(0) % 7]),
            'P' if !word => {
                let path = PATHS[choices.next().unwrap_or(0) % PATHS.len()];
                text.push_str(&fill(path, depth, choices));
            }
            other => text.push(other),
        }
        word = is_word;
    }
    text
}

fn term(depth: usize, choices: &mut impl Iterator<Item = usize>) -> String {
    let choice = choices.next().unwrap_or(0);
    if depth == 0 || choice.is_multiple_of(3) {
        return LEAVES[choice / 3 % LEAVES.len()].to_owned();
    }
    fill(FRAMES[choice / 3 % FRAMES.len()], depth - 1, choices)
}

fn expression() -> impl Strategy<Value = (String, &'static str)> {
    let choices = proptest::collection::vec(0..10_000_usize, 30);
    (choices, 0..INPUTS.len()).prop_map(|(choices, input)| {
        let text = fill(FRAMES[choices[0] % FRAMES.len()], 2, &mut choices[1..].iter().copied());
        (format!(". as $x | {text}"), INPUTS[input])
    })
}

/// What is known to differ, whatever the expression is: there is no -0, small numbers are written otherwise, and what
/// has no paths is an error even where it has no results.
fn is_excused(answer: &str, ours: &str) -> bool {
    ["-0", "e-0", "E+"].iter().any(|digits| answer.contains(digits))
        || ["\"limit\":true", "invalid path expression"].iter().any(|words| ours.contains(words))
}

#[test]
fn made_up_expressions_give_what_jq_gives() {
    let mut runner = TestRunner::deterministic();
    let mut compared = 0;
    let mut batch = Vec::new();
    while batch.len() < BATCH {
        let (text, input) = expression().new_tree(&mut runner).unwrap().current();
        batch.push((text, input.to_owned()));
    }
    let mut differing = String::new();
    for ((text, input), answer) in batch.iter().zip(theirs(&batch)) {
        let Answer::Results(theirs) = answer else { continue };
        let (ours, detail) = ours(text, input);
        if alike(&ours, &theirs) {
            compared += usize::from(ours.is_some());
        } else if !is_excused(&shown_results(&theirs), &shown_results(&ours)) {
            let (ours, theirs) = (shown_results(&ours), shown_results(&theirs));
            writeln!(differing, "{text}\n    {input}\n  ours: {ours} {detail}\n  jq's: {theirs}").unwrap();
        }
    }
    assert!(differing.is_empty(), "{differing}");
    assert!(compared > BATCH / 2, "too few of the expressions compile");
}

/// Words of which texts are made that are nearly expressions.
const WORDS: [&str; 60] = [
    ".",
    "..",
    "|",
    ",",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    ";",
    "?",
    "//",
    "?//",
    "=",
    "|=",
    "+=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "==",
    "<",
    "and",
    "or",
    "not",
    "if",
    "then",
    "elif",
    "else",
    "end",
    "try",
    "catch",
    "reduce",
    "foreach",
    "as",
    "$x",
    "$y",
    "def",
    "f",
    "g",
    "label",
    "break",
    "1",
    "1e18",
    "\"a\"",
    "\"\\(",
    ")\"",
    "@json",
    ".a",
    ".[",
    "range(9)",
    "repeat(.)",
    "map(",
    "path(",
    "limit(2;",
    "$__loc__",
    "#\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands there is refused or gives a result or a fault, within the limits.
    #[test]
    fn any_text_is_survived(words in proptest::collection::vec(0..WORDS.len(), 1..40), noise in ".{0,40}") {
        let text: Vec<&str> = words.iter().map(|word| WORDS[*word]).collect();
        for text in [text.join(" "), text.concat(), noise] {
            if let Ok(mut expression) = Expression::compile(&text, &["x", "y"]) {
                expression.steps_max = 20_000;
                let _either = expression.evaluate(&json!({"a": [1, {"b": null}]}), &Given(json!({"x": 1, "y": [2]})));
            }
        }
    }

    #[test]
    fn any_made_up_expression_ends((text, input) in expression()) {
        let Ok(mut expression) = Expression::compile(&format!("[limit(1000; repeat({text}))]"), &[]) else { return Ok(()) };
        expression.steps_max = 20_000;
        let _either = expression.evaluate(&serde_json::from_str(input).unwrap(), &Given(json!({})));
    }
}
