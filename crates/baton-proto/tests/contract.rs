//! The wire contract, byte for byte, and what an old writer left behind.
#![expect(clippy::unwrap_used, reason = "a test")]

use baton_proto::{DESCRIPTORS, legacy, v1};
use prost::Message as _;
use prost_reflect::DescriptorPool;

const TOKEN_A: &[u8] = b"\x0a\x24default-activity-task-token-A";

#[test]
fn the_token_of_an_agent_execution_is_spec_field_6() {
    let spec = v1::AgentExecutionSpec { callback_token: b"tok".to_vec(), ..Default::default() };
    assert_eq!(spec.encode_to_vec(), [6 << 3 | 2, 3, b't', b'o', b'k']);
}

#[test]
fn the_token_of_a_workflow_execution_is_spec_field_7_and_optional() {
    let spec = v1::WorkflowExecutionSpec { callback_token: Some(b"tok".to_vec()), ..Default::default() };
    assert_eq!(spec.encode_to_vec(), [7 << 3 | 2, 3, b't', b'o', b'k']);
    let empty = v1::WorkflowExecutionSpec { callback_token: Some(Vec::new()), ..Default::default() };
    assert_eq!(empty.encode_to_vec(), [7 << 3 | 2, 0], "present and empty is not absent");
}

#[test]
fn the_temporal_workflow_id_is_a_string_in_both_statuses() {
    let workflow = v1::WorkflowExecutionStatus { temporal_workflow_id: "wf".into(), ..Default::default() };
    let agent = v1::AgentExecutionStatus { temporal_workflow_id: "wf".into(), ..Default::default() };
    assert_eq!(workflow.encode_to_vec(), [8 << 3 | 2, 2, b'w', b'f']);
    assert_eq!(agent.encode_to_vec(), workflow.encode_to_vec());
}

#[test]
fn status_field_11_and_its_name_are_reserved() {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let status = pool.get_message_by_name("baton.v1.WorkflowExecutionStatus").unwrap();
    assert!(status.reserved_ranges().any(|range| range.contains(&11)));
    assert!(status.reserved_names().any(|name| name == "callback_token"));
    assert!(status.get_field(11).is_none());
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../fixtures/legacy/workflow-execution-{name}.binpb", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
}

#[test]
fn a_token_in_the_old_place_is_lifted_into_spec() {
    for (name, token) in
        [("old-only", Some(TOKEN_A)), ("new-only", Some(TOKEN_A)), ("both-equal", Some(TOKEN_A)), ("neither", None)]
    {
        let execution = legacy::decode_workflow_execution(&fixture(name)).unwrap();
        let spec = execution.spec.as_ref().unwrap();
        assert_eq!(spec.callback_token.as_deref(), token, "{name}");
        assert_eq!(
            (spec.workflow.as_str(), spec.input.as_ref().unwrap().text.as_str()),
            ("report", r#"{"day":"2025-11-03"}"#),
            "{name}"
        );
        let again = execution.encode_to_vec();
        assert_eq!(
            v1::WorkflowExecution::decode(again.as_slice()).unwrap(),
            execution,
            "{name}: written back, the token is in spec alone"
        );
    }
}

#[test]
fn two_different_tokens_are_refused_without_showing_either() {
    let refusal = legacy::decode_workflow_execution(&fixture("both-different")).unwrap_err().to_string();
    assert!(refusal.contains("field 11") && refusal.contains("field 7"), "{refusal}");
    assert!(refusal.contains(&baton_types::fingerprint(TOKEN_A)) && !refusal.contains("task-token"), "{refusal}");
}

#[test]
fn cut_off_bytes_are_refused() {
    let whole = fixture("old-only");
    for length in 1..whole.len() {
        // A cut between fields is a shorter message; any other is an error. Neither may panic.
        let _read = legacy::decode_workflow_execution(&whole[..length]);
    }
    assert!(legacy::decode_workflow_execution(&whole[..whole.len() - 1]).is_err());
}
