use expect_test::{Expect, expect};

use super::*;

const NOW_MS: i64 = 1_767_225_600_000;

fn execution() -> Object {
    crate::manifest::decode(json!({
        "apiVersion": API_VERSION, "kind": "WorkflowExecution",
        "metadata": {"name": "incident-x2k9d", "namespace": "default", "uid": "u", "generation": 1, "resourceVersion": "7", "creationTimestamp": "2025-12-31T23:00:00Z", "labels": {"a": "b\u{1b}[31m"}},
        "spec": {"workflow": "incident", "input": {"n": 9_007_199_254_740_993_i64}},
        "status": {
            "phase": "Running", "progress": {"tasksStarted": 3, "tasksEnded": 2, "recent": [{"position": "/do/0/a", "name": "a", "kind": "set", "state": "Completed"}]},
            "waitingFor": [{"operation": "/do/2/page#1", "reason": "Callback", "fingerprint": "3fa2c81b90de"}],
            "callbacks": [{"fingerprint": "aaaaaaaaaaaa", "state": "Waiting", "receiver": "baton"}],
            "conditions": [{"type": "Accepted", "status": "True", "reason": "Admitted"}],
        },
    }))
    .unwrap()
}

fn check(text: &str, expected: &Expect) {
    expected.assert_eq(text);
}

#[test]
fn a_table_has_a_row_for_each() {
    check(
        &objects_table(Kind::WorkflowExecution, &[execution()], Columns::WithNamespace, NOW_MS),
        &expect![[r"
            NAMESPACE  NAME            WORKFLOW  PHASE    TASKS  WAITING-FOR            AGE
            default    incident-x2k9d  incident  Running  2/3    callback 3fa2c81b90de  60m
        "]],
    );
}

#[test]
fn other_forms_are_the_json_of_the_api() {
    let object = execution();
    assert_eq!(super::object(Format::Name, &object), "workflowexecution/incident-x2k9d");
    let line = super::object(Format::Jsonl, &object);
    assert!(line.contains("\"input\":{\"n\":9007199254740993}") && !line.contains('\n'), "{line}");
    let list = list(
        Format::Yaml,
        Kind::WorkflowExecution,
        &v1::ListMeta { resource_version: "9".to_owned(), ..v1::ListMeta::default() },
        &[object],
        Columns::Narrow,
    );
    assert!(list.starts_with("apiVersion: baton.dev/v1\nkind: WorkflowExecutionList\nmetadata:\n  resourceVersion: '9'\nitems:\n- apiVersion:"), "{list}");
    let back = crate::manifest::text::parse_yaml("list", list.as_bytes()).unwrap();
    assert_eq!(back[0]["items"][0]["spec"]["input"]["n"], 9_007_199_254_740_993_i64);
}

#[test]
fn a_description_shows_control_characters_and_does_not_send_them() {
    check(
        &describe(&execution(), &[], NOW_MS),
        &expect![[r#"
            Name:             incident-x2k9d
            Namespace:        default
            Kind:             WorkflowExecution
            UID:              u
            Generation:       1
            Resource version: 7
            Created:          2025-12-31T23:00:00Z (60m ago)
            Labels:           a=b�[31m
            Runs:             incident
            Phase:            Running
            Waits for:        callback 3fa2c81b90de at /do/2/page#1, for -
            Answers to:       aaaaaaaaaaaa (baton): Waiting, 0 attempts
            Input:
              {
                "n": 9007199254740993
              }
            Last tasks (3 started, 2 ended):
              TASK  KIND  STATE      WHERE
              a     set   Completed  /do/0/a
            Conditions:
              TYPE      STATUS  REASON    SINCE  MESSAGE
              Accepted  True    Admitted  -
        "#]],
    );
}
