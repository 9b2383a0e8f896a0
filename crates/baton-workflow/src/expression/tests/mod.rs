#![allow(clippy::too_many_lines, clippy::needless_pass_by_value, reason = "long lists of cases, written as values")]

use serde_json::{Value, json};

use super::*;

mod generated;
mod reference;

struct Given(Value);

impl Variables for Given {
    fn variable(&self, name: &str) -> Option<Cow<'_, Value>> {
        self.0.get(name).map(Cow::Borrowed)
    }
}

fn evaluate_with(text: &str, dot: &Value, variables: Value) -> Result<Value, String> {
    let names: Vec<&str> = variables.as_object().unwrap().keys().map(String::as_str).collect();
    let expression = Expression::compile(text, &names)?;
    expression.evaluate(dot, &Given(variables.clone())).map_err(|fault| fault.detail.unwrap())
}

fn evaluate(text: &str, dot: &Value) -> Result<Value, String> {
    evaluate_with(text, dot, json!({}))
}

#[track_caller]
fn check(text: &str, dot: Value, expected: Value) {
    assert_eq!(evaluate(text, &dot), Ok(expected), "{text}");
}

#[track_caller]
fn refused(text: &str, dot: Value, says: &str) {
    let refusal = evaluate(text, &dot).expect_err(text);
    assert!(refusal.contains(says), "{text}: {refusal}");
}

#[test]
fn results_are_null_one_or_an_array() {
    check("empty", json!(1), json!(null));
    check(".", json!({"a": 1}), json!({"a": 1}));
    check(".[]", json!([1, 2]), json!([1, 2]));
    check(".a, .b", json!({"a": 1}), json!([1, null]));
}

#[test]
fn a_condition_has_at_most_one_result() {
    let test =
        |text: &str| Expression::compile(text, &[]).unwrap().test(&json!({"a": 0, "b": false}), &Given(json!({})));
    assert_eq!(
        [
            test(".a").unwrap(),
            test(".b").unwrap(),
            test(".c").unwrap(),
            test("empty").unwrap(),
            test(".a == 0").unwrap()
        ],
        [true, false, false, false, true]
    );
    assert!(test(".[]").unwrap_err().detail.unwrap().contains("a condition must have one result, this has 2"));
}

#[test]
fn paths_of_fixed_keys_give_what_the_interpreter_gives() {
    let dot = json!({"a": {"b": [1, {"c": 5.0}], "": 7}, "n": null});
    for text in
        [".", ".a", ".a.b", ".a.b[1].c", ".a.b[0]", ".a.b[9]", ".n.x.y", ".missing.x", "$v", "$v.x", "$v.x.y", "$v[0]"]
    {
        let direct = Expression::compile(text, &["v"]).unwrap();
        assert!(direct.direct.is_some(), "{text}");
        let by_path = direct.evaluate(&dot, &Given(json!({"v": {"x": {"y": 3}}})));
        let interpreted = evaluate_with(&format!("({text}) | select(true)"), &dot, json!({"v": {"x": {"y": 3}}}));
        assert_eq!(
            by_path.map_err(|fault| fault.detail.unwrap().split(": ").skip(1).collect::<String>()),
            interpreted.map_err(|detail| detail.split(": ").skip(1).collect::<String>()),
            "{text}"
        );
    }
}

#[test]
fn numbers_stay_exact() {
    check(".a + 0", json!({"a": 9_007_199_254_740_993_i64}), json!(9_007_199_254_740_993_i64));
    check("[.]", json!(u64::MAX), json!([u64::MAX]));
    check("[.]", json!(5.0), json!([5.0]));
    check("6 / 2", json!(null), json!(3));
    check("7 / 2", json!(null), json!(3.5));
    check(". + 1", json!(i64::MAX), json!(9_223_372_036_854_775_808_u64));
    check(". * .", json!(1e200), json!(f64::MAX));
    check("5 % 3, -5 % 3, 5.9 % 3", json!(null), json!([2, -2, 2]));
    check("[1, 1.0] | unique", json!(null), json!([1]));
    check("0.1 + 0.2", json!(null), json!(0.1 + 0.2));
    check("[nan, infinite] | tojson", json!(null), json!("[null,1.7976931348623157e+308]"));
    refused("1 / 0", json!(null), "cannot divide 1 by zero");
}

#[test]
fn does_what_jq_does() {
    for (text, dot, expected) in [
        (".colors + [\"red\"]", json!({}), json!(["red"])),
        ("{ids: [.id, .x]}", json!({"id": 1}), json!({"ids": [1, null]})),
        ("map(select(. > 1)) | add", json!([1, 2, 3]), json!(5)),
        ("to_entries", json!({"a": 1}), json!([{"key": "a", "value": 1}])),
        ("with_entries(.value += 1)", json!({"a": 1}), json!({"a": 2})),
        ("group_by(.k) | map(length)", json!([{"k": 1}, {"k": 2}, {"k": 1}]), json!([2, 1])),
        ("sort_by(.a) | map(.a)", json!([{"a": 2}, {"a": 1}]), json!([1, 2])),
        ("reduce .[] as $x (0; . + $x)", json!([1, 2, 3]), json!(6)),
        ("[foreach .[] as $x (0; . + $x; [$x, .])]", json!([1, 2]), json!([[1, 1], [2, 3]])),
        ("[limit(3; repeat(1))]", json!(null), json!([1, 1, 1])),
        ("[.[] | until(. > 100; . * 2)]", json!([1, 3]), json!([128, 192])),
        ("def f($n): if $n < 2 then 1 else $n * f($n - 1) end; f(10)", json!(null), json!(3_628_800)),
        ("def f(g): [.[] | g]; f(. + 1)", json!([1]), json!([2])),
        ("[recurse(if . < 3 then . + 1 else empty end)]", json!(0), json!([0, 1, 2, 3])),
        (".a.b = 1", json!(null), json!({"a": {"b": 1}})),
        (".[3] = 1", json!([0]), json!([0, null, null, 1])),
        (".[1:] = [9]", json!([1, 2, 3]), json!([1, 9])),
        ("del(.a, .b[0])", json!({"a": 1, "b": [1, 2]}), json!({"b": [2]})),
        (".[] += 1", json!([1, 2]), json!([2, 3])),
        (".a //= 3", json!({}), json!({"a": 3})),
        ("walk(if type == \"number\" then . + 1 else . end)", json!([1, [2]]), json!([2, [3]])),
        ("[paths]", json!({"a": [1]}), json!([["a"], ["a", 0]])),
        ("getpath([\"a\", 0, \"b\"])", json!(null), json!(null)),
        ("setpath([\"a\", 0]; 1)", json!(null), json!({"a": [1]})),
        ("try error(\"x\") catch .", json!(null), json!("x")),
        (".a? // \"none\"", json!([1]), json!("none")),
        ("label $out | 1, break $out, 2", json!(null), json!(1)),
        ("\"\\(.a)-\\(.b)\"", json!({"a": 1, "b": [2]}), json!("1-[2]")),
        ("@base64, (@base64 | @base64d)", json!("hé"), json!(["aMOp", "hé"])),
        ("@uri, @html, @json, @text", json!("a b<"), json!(["a%20b%3C", "a b&lt;", "\"a b<\"", "a b<"])),
        ("@csv", json!([1, "a\"b", null]), json!("1,\"a\"\"b\",")),
        (
            "[match(\"(?<l>[a-z])(\\\\d)\"; \"g\") | .string, .offset, .captures[0].name]",
            json!("é a1 b2"),
            json!(["a1", 2, "l", "b2", 5, "l"]),
        ),
        (
            "test(\"A\"; \"i\"), [scan(\"\\\\d\")], sub(\"b\"; \"x\"), gsub(\"(?<d>\\\\d)\"; \"<\\(.d)>\")",
            json!("ab12"),
            json!([true, ["1", "2"], "ax12", "ab<1><2>"]),
        ),
        (
            "split(\", *\"; null), ascii_downcase, ltrimstr(\"A\"), length",
            json!("A, B"),
            json!([["A", "B"], "a, b", ", B", 4]),
        ),
        ("tojson, (tojson | fromjson)", json!({"a": [1.5]}), json!(["{\"a\":[1.5]}", {"a": [1.5]}])),
        ("tostring, tonumber", json!("12"), json!(["12", 12])),
        ("contains(\"b\"), inside(\"xabcx\"), index(\"b\"), indices(\"b\")", json!("abc"), json!([true, true, 1, [1]])),
        (
            "has(0), index(2), contains([1]), (. - [1]), flatten, min, max, any, all, unique, reverse",
            json!([1, 2]),
            json!([true, 1, true, [2], [1, 2], 1, 2, true, true, [1, 2], [2, 1]]),
        ),
        ("transpose", json!([[1], [2, 3]]), json!([[1, 2], [null, 3]])),
        (
            "\"2015-03-05T23:51:47Z\" | fromdate, (fromdate | todate), (strptime(\"%Y-%m-%dT%H:%M:%SZ\") | mktime)",
            json!(null),
            json!([1_425_599_507, "2015-03-05T23:51:47Z", 1_425_599_507]),
        ),
        (". as [$a, {b: $c}] | [$a, $c]", json!([1, {"b": 2}]), json!([1, 2])),
        ("[range(0; 10; 3)], [range(3; 0; -1)]", json!(null), json!([[0, 3, 6, 9], [3, 2, 1]])),
        ("[.[] as $x | $x * 2]", json!([1, 2]), json!([2, 4])),
        ("\"x\" * 3, \"x\" * 0, (\"a,b\" / \",\")", json!(null), json!(["xxx", "", ["a", "b"]])),
        ("{a: 1} * {a: {b: 2}} * {a: {c: 3}}", json!(null), json!({"a": {"b": 2, "c": 3}})),
        ("keys, length, map_values(. + 1)", json!({"b": 1, "a": 2}), json!([["a", "b"], 2, {"b": 2, "a": 3}])),
        ("splits(\"a\")", json!("xay"), json!(["x", "y"])),
        ("ascii, implode?", json!(65), json!("A")),
        ("[.[] | numbers, strings]", json!([1, "a", null]), json!([1, "a"])),
        (".[\"a\"], .[\"a\", \"b\"]", json!({"a": 1, "b": 2}), json!([1, 1, 2])),
        (".[-1], .[1:], .[:-1], .[1.7]", json!([1, 2, 3]), json!([3, [2, 3], [1, 2], 2])),
        ("1 as $x | 2 as $y | [$x, $y, $x + $y]", json!(null), json!([1, 2, 3])),
        ("[splits(\", \")] | join(\"-\")", json!("a, b"), json!("a-b")),
        ("input_line_number? // 1", json!(null), json!(1)),
    ] {
        if text.starts_with("input_line_number") {
            refused(text, dot, "not available");
        } else {
            check(text, dot, expected);
        }
    }
}

#[test]
fn what_is_not_deterministic_is_not_there() {
    for (text, says) in [
        ("now", "'now' is not available: expressions must give the same result on every replay"),
        ("env.HOME", "use '$env'"),
        ("$ENV.HOME", "use '$env'"),
        ("input", "one input"),
        ("[inputs]", "one input"),
        ("debug", "write nothing"),
        ("stderr", "write nothing"),
        ("halt", "use 'error'"),
        ("\"x\" | halt_error(1)", "use 'error'"),
        ("localtime", "use 'gmtime'"),
        ("include \"x\"; .", "not a jq expression"),
        ("import \"x\" as x; .", "not a jq expression"),
        ("$nope", "no variable '$nope' here"),
        ("nope(1)", "no filter 'nope' with 1 arguments"),
        ("map", "there is one with 1 arguments"),
        (". +", "expected term, found the end"),
        ("def (1): 2; 3", "expected identifier, found '(1)'"),
        (". as (1) | 2", "expected pattern, found '(1)'"),
        ("1 == 1 == 1", "cannot be chained"),
        (".a = .b = 1", "cannot be chained"),
        (".a | ]", "']'"),
    ] {
        refused(text, json!(null), says);
    }
    refused("\"x\" | strptime(\"%Q\")", json!(null), "time zone");
}

/// Steps that hostile expressions get in tests: the limit is the same, only sooner.
const FEW_STEPS: u64 = 30_000;

/// What stops an expression that must be stopped.
#[track_caller]
fn stop(text: &str, steps_max: u64) -> String {
    let mut expression = Expression::compile(text, &[]).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
    expression.steps_max = steps_max;
    let fault = expression.evaluate(&json!(null), &Given(json!({}))).expect_err(text);
    assert_eq!(fault.kind, fault_type::EXPRESSION);
    let detail = fault.detail.unwrap();
    let of_a_limit = ["it was stopped", "the result is", "it has more than", "invalid path", "before the beginning"]
        .iter()
        .any(|words| detail.contains(words));
    assert!(of_a_limit, "{text}: {detail}");
    detail
}

#[test]
fn the_limits_are_those_that_the_documentation_states() {
    for (text, says) in [
        ("last(range(1e18))", "it was stopped after 1000000 steps"),
        ("reduce range(1e9) as $i ([1]; [., .])", "it was stopped at a value of more than 33554432 bytes"),
        ("reduce range(1e9) as $i (1; [.])", "it was stopped at a value nested deeper than 256 levels"),
        ("def f: 1 + f; f", "it was stopped at 1000 calls within each other"),
        ("[range(100)] | map([range(40000)]) | length", "it was stopped"),
        ("range(20000)", "it has more than 10000 results"),
        ("\"x\" * 5000000", "the result is larger than 4194304 bytes"),
        ("reduce range(130) as $i (1; [.])", "the result is nested deeper than 120 levels"),
    ] {
        let detail = stop(text, meter::STEPS_MAX);
        assert!(detail.contains(says), "{text}: {detail}");
    }
}

/// Everything here would, without limits, take the process's memory, its stack, or forever.
#[test]
fn hostile_expressions_are_stopped() {
    let stopped = [
        "def f: f; f",
        "def f: 1 + f; f",
        "def f: f | f; f",
        "def f: f, f; f",
        "def f: (f, 1); f",
        "def f: [f]; f",
        "def f: {a: f}; f",
        "def f: try f catch f; f",
        "def f: try error(1) catch f; f",
        "def f: try (try f catch f) catch f; f",
        "def f: (try f catch .), f; [f]",
        "def f(g): f(g | g); f(.)",
        "def f(g): f(g); f(.)",
        "def f(g): f(g | . + 1); 0 | f(.)",
        "def f(g): if . > 1000000 then g else . + 1 | f(g | . + 1) end; 0 | f(.)",
        "def f($x): f($x + 1); f(0)",
        "def f: def g: f; g; f",
        "def f: label $l | f; f",
        "def f: if f then 1 else 2 end; f",
        "def f: . as [$x] | f | f; f",
        "def f: .[f]; f",
        "def f: reduce f as $x (0; f); f",
        "def f: first(f); f",
        "def f: path(f); f",
        "def f: .a |= f; f",
        "def f: . |= f; f",
        "def f: -f; f",
        "def f: \"\\(f)\"; f",
        "def f: f as $x | f; f",
        "def f: f // f; f",
        "def f: f and f; f",
        "def f: f < f; f",
        "[range(1e18)]",
        "last(range(1e18))",
        "last(range(1e18) < 0)",
        "(range(1e18) < 0) // 1",
        "first(range(1e18) | select(. < 0))",
        "first(range(1e18) | empty)",
        "isempty(range(1e18) | empty)",
        "skip(1e18; range(1e18))",
        "nth(1e18; range(1e18))",
        "any(range(1e18); false)",
        "range(1e18) | {}[]",
        "[range(1e9) | [range(1e9)]]",
        "reduce range(1e9) as $i (\"x\"; . + .)",
        "reduce range(1e9) as $i ([1]; . + .)",
        "reduce range(1e9) as $i ([1]; [., .])",
        "reduce range(1e9) as $i ({}; {a: ., b: .})",
        "reduce range(1e9) as $i (1; [.])",
        "reduce range(1e9) as $i (1; {a: .})",
        "reduce range(1e9) as $i (\"x\"; \"\\(.)\\(.)\")",
        "reduce range(1e9) as $i (null; .[$i | tostring] = $i)",
        "reduce range(1e9) as $i (2; . * .)",
        "reduce range(1e9) as $i (.; .)",
        "(reduce range(1e6) as $i (.; .)) |= 1",
        "(foreach range(1e6) as $i (.; .)) |= 1",
        "foreach range(1e18) as $i (0; .; empty)",
        "limit(1e18; foreach range(1e18) as $i (0; .; empty))",
        "\"x\" * 1e12",
        "[limit(1e9; repeat(1))]",
        "repeat(empty)",
        "last(repeat(1))",
        "until(false; .)",
        "while(true; .)",
        "[while(true; .)]",
        "recurse([.])",
        "recurse(.; true)",
        "[recurse(., .)]",
        "path(recurse(.[0]))",
        "last(path(repeat(.[0])))",
        "path(last(repeat(.[0])))",
        "def f: .[0] | f; path(f)",
        "[range(5000)] | combinations(3)",
        "[range(300)] as $x | [$x, $x, $x, $x] | combinations",
        "[range(100000)] | map([range(100000)])",
        "[range(200)] | [.[] as $a | .[] as $b | .[] as $c | .[] as $d | 1]",
        "[range(3000)] | (.[] , .[]) |= [range(3000)]",
        "[range(1000)] | .[0:][0:] |= [.[], .[], .[]] | .[0:] |= [.[] | [range(1000)]] | tojson | . * 100000",
        "[range(50000)] as $x | [$x[] | $x - [1]]",
        "[range(20000)] as $x | $x | index([range(10000)])",
        "[range(3000)] as $x | [$x[] | [$x, .] | inside([[$x, 0]])]",
        "(\"a\" * 1000000) | [range(1000)] as $r | [$r[] as $i | gsub(\"a\"; \"bbbbbbbbbb\")]",
        "\"a\" * 1000000 | gsub(\"\"; \"b\" * 1000)",
        "\"ab\" * 500000 | [match(\"(a|b)*?\"; \"g\")]",
        "\"x\" * 30000 | gsub(\"x*y|\"; \"\")",
        "\"x\" * 30000 | [match(\"x*y|x\"; \"g\")] | length",
        "setpath([range(100000) | 0]; 1)",
        "[range(100000) | \"a\"] as $p | getpath($p) = 1",
        "[range(60000)] | map({key: tostring, value: 1}) | from_entries | del(.[])",
        "[range(60000)] | del(.[])",
        "[range(60000)] | .[] |= empty",
        "reduce range(1e9) as $i (1; ., .)",
        "foreach range(1e9) as $i (1; [., .], .)",
        "[range(1e9)] as [$a] ?// $a | $a",
        "def f: . as [$a] ?// $a | f; f",
        "{a: range(1e9), b: range(1e9)} | empty",
        "\"\\(range(1e9))\\(range(1e9))\" | empty",
        "[range(1e9)] | tostream | empty",
        "[range(30)] | map([., .]) | combinations | empty",
        "range(1e9) | jn(10000; 1e9)",
        "\"a\" * 1000000 | explode | map([., .]) | tojson | explode | implode * 100",
        "\"[\" * 100000 + \"]\" * 100000 | until(false; fromjson? // .)",
        "(1, 1 | (1, 1 | (1, 1 | (1, 1 | (1, 1))))) | [range(1e6)]",
        ".[1e9] = 1",
        ".[1e18] = 1",
        ".[-1e9 : 1e9] = [range(1e9)]",
        "limit(1e9; def f: 1, f; f) | empty",
        "\"ab\" | [splits(\"\")] | until(false; . + .)",
        "def f: [range(1000)] | map(f); f",
        "\"x\" | until(false; ascii_upcase)",
        "\"x\" | until(false; @base64)",
        "\"&\" | until(false; @html)",
        "\" \" | until(false; @uri)",
        "[.] | until(false; tojson)",
        "{} | until(false; to_entries | from_entries)",
        "[[1]] | until(false; transpose)",
        "[1] | until(false; flatten)",
        "[3, 1] | until(false; sort_by(-.))",
        "try (def f: 1 + f; f) catch until(false; .)",
        "label $out | range(1e18) | if . < 0 then break $out else empty end",
        "[.[]?, range(1e18)] | length",
        "def ack($m; $n): if $m == 0 then $n + 1 elif $n == 0 then ack($m - 1; 1) else ack($m - 1; ack($m; $n - 1)) end; ack(4; 4)",
        "def fib: if . < 2 then . else (. - 1 | fib) + (. - 2 | fib) end; 40 | fib",
        "def hanoi($n): if $n > 0 then hanoi($n - 1), hanoi($n - 1) else 1 end; [hanoi(40)]",
    ];
    for text in stopped {
        stop(text, FEW_STEPS);
    }
}

/// Products of many outputs need no loop: each operand doubles them.
#[test]
fn hostile_products_are_stopped() {
    let nest = |op: &str| (0..80).fold("(1, 2)".to_owned(), |text, _| format!("({text} {op} (1, 2))"));
    let conditions =
        (0..60).fold("(true, true)".to_owned(), |text, _| format!("(if {text} then (true, true) else 1 end)"));
    let fields: Vec<String> = (0..60).map(|index| format!("a{index}: (1, 2)")).collect();
    for text in [
        nest("<"),
        nest("and"),
        nest("+"),
        nest("=="),
        conditions,
        format!("reduce range(20) as $i (1; [., .]) | {}", ".[(0, 1)]?".repeat(60)),
        vec!["(1, 1)"; 60].join(" | (., .) | "),
        format!("\"{}\"", "\\(1, 2)".repeat(60)),
        format!("{{{}}}", fields.join(", ")),
    ] {
        stop(&format!("last({text})"), FEW_STEPS);
        stop(&format!("({text} | false) // 1"), FEW_STEPS);
    }
}

#[test]
fn hostile_texts_are_refused_and_hostile_values_survived() {
    for text in [
        "(".repeat(16_384),
        "\"\\(".repeat(5_400),
        "(- ".repeat(5_400),
        "[".repeat(10_000),
        format!("{}1{}", "[".repeat(8_000), "]".repeat(8_000)),
        "{a:".repeat(5_000),
        "-".repeat(10_000) + "1",
        "try ".repeat(4_000) + "1",
        ". | ".repeat(4_000) + "1",
        "1 as $x | ".repeat(1_600) + "1",
        "if 1 then ".repeat(1_600),
        "def f: ".repeat(2_300),
        "1 + ".repeat(4_000) + "1",
        "1, ".repeat(5_000) + "1",
        "reduce ".repeat(2_300),
        "\"\\(".repeat(5_000),
        ".a".repeat(20_000),
        "not ".repeat(4_000),
        "@base64 \"".repeat(1_800),
        "label $x | ".repeat(1_400) + "1",
        ". as [$a, ".repeat(1_400),
    ] {
        let Err(refusal) = Expression::compile(&text, &[]) else { panic!("{} compiles", shown(&text)) };
        assert!(refusal.len() < 400, "{refusal}");
    }
    let deep = (0..59).fold(json!(1), |value, _| json!({"a": [value]}));
    for text in [
        ".. | numbers",
        "walk(.)",
        "tojson | length",
        ". == .",
        "[., .] | unique | length",
        "[paths] | length",
        "del(..)",
        "flatten? // 1",
        "[.[]] | sort | length",
        "map_values(.) | length",
        "contains({})",
        "[leaf_paths] | length",
        "to_entries | length",
        "pick(.a) | length",
        "[getpath(paths)] | length",
        "tojson | fromjson? // 1 | length",
    ] {
        evaluate(text, &deep).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
        let deeper = format!("reduce range(120) as $i (1; {{a: [.]}}) | {text} | 1");
        evaluate(&deeper, &json!(null)).unwrap_or_else(|refusal| panic!("{deeper}: {refusal}"));
    }
    refused("[.]", (0..121).fold(json!(1), |value, _| json!([value])), "nested deeper than");
}

#[test]
fn hostile_regular_expressions_are_refused() {
    for (pattern, says) in [
        ("a{1000}{1000}", "not a regular expression"),
        ("(a{100}){100}{100}", "not a regular expression"),
        ("(", "not a regular expression"),
        ("(?=a)", "not a regular expression"),
    ] {
        refused(&format!("test({})", json!(pattern)), json!("aaaa"), says);
    }
    refused(&format!("test({})", json!("(".repeat(5000))), json!("a"), "not a regular expression");
    check("[test(\"^(a+)+$\"), test(\"(x+x+)+y\")]", json!("a".repeat(5000) + "!"), json!([false, false]));
    refused("test(\"a\"; \"q\")", json!("a"), "'q' is not a flag");
}

#[test]
fn panics_of_the_interpreter_are_faults() {
    // A month of 127 overflows in the library's conversion of dates, where overflow is checked.
    let result = evaluate("[1970, 127, 1, 0, 0, 0, 0, 0] | mktime", &json!(null));
    assert!(result.is_err(), "{result:?}");
}
