//! Secrets in documents: what may be named, and that no expression makes a placeholder of what comes from outside.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

mod support;

use std::collections::BTreeMap;

use baton_execution::{Command, secret_placeholder, secrets_named};
use serde_json::{Value, json};
use support::{Give, Session, definition};

fn document(uses: &str, expression: &str) -> Value {
    let mut document = definition(&format!("use: {uses}\ndo:\n- a: {{call: baton.dev/echo, with: {{}}}}"));
    document["do"][0]["a"]["with"]["value"] = expression.into();
    document
}

fn violations(uses: &str, expression: &str) -> Vec<String> {
    let violations = baton_workflow::check(&document(uses, expression)).expect_err("it is refused");
    violations.iter().map(ToString::to_string).collect()
}

/// What the activity gets.
fn evaluated(expression: &str, input: Value) -> Value {
    let mut session = Session::new(&document("{secrets: [db]}", expression), &BTreeMap::new());
    for command in session.commands(&Give::Start(input)) {
        if let Command::ScheduleActivity(activity) = command {
            return activity.input;
        }
    }
    panic!("'{expression}' gives nothing");
}

#[test]
fn a_secret_must_be_in_use() {
    for (uses, expression, expected) in [
        (
            "{}",
            "${ $secrets.db.user }",
            "do[0].a.with.value: no secret named 'db' in use.secrets; those there are none",
        ),
        (
            "{secrets: [db]}",
            "${ [.x, ($secrets.dc[\"user\"] | length)] }",
            "do[0].a.with.value: no secret named 'dc' in use.secrets; those there are 'db'",
        ),
        (
            "{secrets: [db]}",
            "${ $secrets.db as $d | $d.user }",
            "do[0].a.with.value: the name and the key of a secret must stand together",
        ),
        (
            "{secrets: [db]}",
            "${ $secrets.db | keys }",
            "do[0].a.with.value: the name and the key of a secret must stand together",
        ),
        (
            "{secrets: [db]}",
            "${ $secrets.db[.key] }",
            "do[0].a.with.value: the name and the key of a secret must stand together",
        ),
        ("{secrets: [a b]}", "x", "use.secrets[0]: 'a b' is not a valid name"),
    ] {
        let found = violations(uses, expression);
        assert!(matches!(found.as_slice(), [only] if only.starts_with(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn the_names_of_secrets_are_known() {
    let definition = baton_workflow::check(&document("{secrets: [zeta, mySecret]}", "x")).unwrap();
    assert_eq!(definition.secrets(), ["mySecret", "zeta"]);
}

#[test]
fn a_secret_and_a_key_stand_for_its_value() {
    let user = secret_placeholder("db", "user");
    for expression in [
        "${ $secrets.db.user }",
        "${ $secrets[\"db\"][\"user\"] }",
        "${ $secrets.db | .user }",
        "${ $secrets | .db | .user }",
        "${ {db: {user: $secrets.db.user}} | .db.user }",
    ] {
        assert_eq!(evaluated(expression, Value::Null)["value"], user.as_str(), "{expression}");
    }
    let input = evaluated("${ $secrets.db.user | tojson | fromjson }", Value::Null);
    assert_eq!(input["value"], user.as_str(), "what was one stays one");
}

#[test]
fn no_expression_decodes_a_placeholder() {
    let placeholder = secret_placeholder("db", "user");
    let escaped = format!("\"{}\"", placeholder.replace('\u{fdd0}', "\\uFdD0").replace('\u{fdd1}', "\\ufdd1"));
    let percent = placeholder.replace('\u{fdd0}', "%EF%b7%90").replace('\u{fdd1}', "%ef%B7%91");
    let codes: Vec<u32> = placeholder.chars().map(u32::from).collect();
    for (expression, input) in [
        ("${ .x | fromjson }", json!(escaped)),
        ("${ .x | [fromjson] | tojson | fromjson }", json!(escaped)),
        ("${ .x | @urid }", json!(percent)),
        ("${ .x | @base64d }", json!(BASE64)),
        ("${ .x | implode }", json!(codes)),
        ("${ [.x[] | [.] | implode] | add }", json!(codes)),
    ] {
        let found = evaluated(expression, json!({"x": input}));
        assert!(found.to_string().contains("secret~db~user"), "{expression}: {found}");
        assert!(secrets_named(&found).unwrap().is_empty(), "{expression}: {found}");
    }
}

/// A placeholder in Base64.
const BASE64: &str = "77eQc2VjcmV0fmRifnVzZXLvt5E=";

#[test]
fn no_document_and_no_function_brings_a_placeholder() {
    let forged = secret_placeholder("orders-db", "password");
    let mut document = definition("do:\n- a: {call: 'https://x/f.yaml', with: {}}");
    let function =
        json!({"call": "http", "with": {"method": "get", "endpoint": "https://y/", "headers": {"a": forged}}});
    document["baton.dev/resources"] = json!({"https://x/f.yaml": function});
    let found = baton_workflow::check(&document).expect_err("it is refused");
    assert!(found.iter().any(|it| it.to_string().contains("U+FDD0")), "{found:?}");
    document["baton.dev/resources"]["https://x/f.yaml"]["with"]["headers"] = json!({forged.clone(): "a"});
    let found = baton_workflow::check(&document).expect_err("it is refused");
    assert!(found.iter().any(|it| it.to_string().contains("U+FDD0")), "{found:?}");
}

#[test]
fn a_placeholder_that_an_expression_puts_together_names_only_what_is_in_use() {
    // The escapes of jq, and parts of a placeholder that is there, spell what the document itself may not hold.
    for expression in [
        "${ \"\\ufdd0secret~orders~password\\ufdd1\" }",
        "${ $secrets.db.user | .[0:1] + \"secret~orders~password\" + .[-1:] }",
    ] {
        let mut session = Session::new(&document("{secrets: [db]}", expression), &BTreeMap::new());
        let commands = session.commands(&Give::Start(Value::Null));
        let told = format!("{commands:?}");
        assert!(!commands.iter().any(|command| matches!(command, Command::ScheduleActivity(_))), "{told}");
        assert!(told.contains("the secret 'orders' is not in use.secrets"), "{told}");
    }
}

#[test]
fn decoding_is_otherwise_as_ever() {
    for (expression, input, output) in [
        ("${ .x | @urid }", json!("a%20b+%C3%A9%zz%4"), json!("a b+é%zz%4")),
        ("${ .x | @base64d }", json!("aMOp"), json!("hé")),
        ("${ .x | implode }", json!([104, 233]), json!("hé")),
        ("${ .x | fromjson }", json!("{\"a\": \"\\ufdcf\"}"), json!({"a": "\u{fdcf}"})),
    ] {
        assert_eq!(evaluated(expression, json!({"x": input}))["value"], output, "{expression}");
    }
}
