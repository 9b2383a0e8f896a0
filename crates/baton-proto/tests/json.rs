//! The JSON mapping: Kubernetes-style, exact, and honest about what it cannot read.

use baton_proto::{JsonError, Timestamp, from_json, to_json, to_json_value, v1};
use serde_json::{Value, json};

fn execution(text: &str) -> Result<v1::WorkflowExecution, JsonError> {
    from_json(text.as_bytes())
}

#[test]
fn free_data_comes_back_as_it_was() {
    for text in [
        "5",
        "5.0",
        "9007199254740993",
        "18446744073709551615",
        "-1",
        "1e300",
        r#"{"b":1,"a":{"":null}}"#,
        r#"[[],{},""]"#,
        "null",
        "false",
    ] {
        let read = execution(&format!(r#"{{"spec":{{"input":{text}}}}}"#)).unwrap();
        let written: Value = serde_json::from_str(&to_json(&read)).unwrap();
        assert_eq!(
            written["spec"]["input"].to_string(),
            serde_json::from_str::<Value>(text).unwrap().to_string(),
            "{text}"
        );
    }
}

#[test]
fn names_are_camel_case_and_empty_fields_are_left_out() {
    let read = execution(r#"{"apiVersion":"baton.dev/v1","metadata":{"name":"a","creationTimestamp":"2026-01-31T12:00:00Z"},"spec":{"requestId":"r","callbackToken":"dG9r","suspend":false}}"#).unwrap();
    assert_eq!(read.spec.as_ref().unwrap().callback_token.as_deref(), Some(b"tok".as_slice()));
    assert_eq!(
        to_json_value(&read),
        json!({"apiVersion":"baton.dev/v1","metadata":{"name":"a","creationTimestamp":"2026-01-31T12:00:00Z"},"spec":{"requestId":"r","callbackToken":"dG9r"}})
    );
}

#[test]
fn every_unknown_field_is_named_at_once_with_its_path() {
    let Err(JsonError::Fields(violations)) = execution(
        r#"{"spec":{"workflw":"x","input":{"anything":1}},"metadata":{"nme":"y","ownerReferences":[{"uuid":"z"}]},"extra":1}"#,
    ) else {
        panic!("refused")
    };
    let mut paths: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["extra", "metadata.nme", "metadata.ownerReferences[0].uuid", "spec.workflw"]);
}

#[test]
fn a_wrong_type_is_named_with_its_path() {
    let Err(JsonError::Fields(violations)) = execution(r#"{"spec":{"suspend":"yes"}}"#) else { panic!("refused") };
    assert_eq!(violations[0].field, "spec.suspend");
    assert!(violations[0].message.contains("bool"), "{violations:?}");
}

#[test]
fn what_is_not_json_says_why() {
    let deep = "[".repeat(10_000);
    for (text, says) in [("{", "EOF"), (deep.as_str(), "nested deeper than 128"), ("{\"a\":1}x", "trailing")] {
        let Err(JsonError::Syntax(why)) = execution(text) else { panic!("refused") };
        assert!(why.contains(says), "{why}");
    }
    let invalid = from_json::<v1::WorkflowExecution>(b"{\"kind\":\"\xff\"}").unwrap_err().to_string();
    assert!(invalid.contains("UTF-8") || invalid.contains("unicode"), "{invalid}");
}

#[test]
fn times_are_rfc_3339() {
    assert_eq!(to_json(&Timestamp::from_millis(1_769_860_800_250)), r#""2026-01-31T12:00:00.25Z""#);
    assert_eq!(to_json(&Timestamp::from_millis(-1)), r#""1969-12-31T23:59:59.999Z""#);
    assert!(from_json::<Timestamp>(b"\"yesterday\"").unwrap_err().to_string().contains("RFC 3339"));
}
