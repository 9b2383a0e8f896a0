//! The commands against a server.

use baton_proto::{
    temporal::workflowservice::v1::{
        GetSystemInfoRequest, GetSystemInfoResponse, workflow_service_client::WorkflowServiceClient,
    },
    v1::{Json, ObjectMeta, WorkflowExecution, WorkflowExecutionSpec, WorkflowExecutionStatus},
};
use expect_test::expect;
use prost::Message as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::support::{Baton, Served};

const TEMPLATES: &str = "\
apiVersion: baton.dev/v1
kind: Workflow
metadata: {name: waits, labels: {team: ops}}
spec:
  definition:
    document: {dsl: 1.0.3, namespace: default, name: waits, version: 1.2.3}
    do: [{pause: {wait: {hours: 1}}}]
---
apiVersion: baton.dev/v1
kind: Workflow
metadata: {name: parent}
spec:
  definition:
    document: {dsl: 1.0.3, namespace: default, name: parent, version: 1.0.0}
    do: [{child: {run: {workflow: {namespace: default, name: waits, version: latest}}}}]
---
apiVersion: baton.dev/v1
kind: Agent
metadata: {name: helper}
spec: {instructions: help, model: {name: scripted, provider: playback, playback: {conversations: [{turns: [{text: hi}]}]}}}
";

const ONCE: &str = "\
apiVersion: baton.dev/v1
kind: WorkflowExecution
metadata: {name: once}
spec: {workflow: waits, requestId: a}
";

fn served() -> (Served, String) {
    let served = Served::new();
    let path = served.baton.file("templates.yaml", TEMPLATES);
    let said = served.run(&["apply", "-f", &path]);
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (0, "", "agent/helper created\nworkflow/waits created\nworkflow/parent created\n")
    );
    (served, path)
}

#[test]
fn resources_are_applied_shown_and_deleted() {
    let (served, path) = served();
    assert_eq!(
        served.run(&["apply", "-f", &path]).stderr,
        "agent/helper unchanged\nworkflow/waits unchanged\nworkflow/parent unchanged\n"
    );
    let changed =
        served.baton.file("changed.yaml", &TEMPLATES.replace("1.2.3", "1.2.4").replace("{team: ops}", "{tier: one}"));
    assert_eq!(
        served.run(&["apply", "-f", &changed, "--dry-run"]).stderr.lines().nth(1),
        Some("workflow/waits configured (dry run)")
    );
    assert_eq!(served.run(&["apply", "-f", &changed]).stderr.lines().nth(1), Some("workflow/waits configured"));
    let object = served.run(&["get", "wf", "waits", "-o", "json"]).json();
    assert_eq!(object["metadata"]["labels"], json!({"team": "ops", "tier": "one"}));
    assert_eq!(
        (&object["metadata"]["generation"], &object["spec"]["definition"]["document"]["version"]),
        (&json!(2), &json!("1.2.4"))
    );
    assert_eq!(served.run(&["get", "workflows", "-o", "name"]).ok(), "workflow/parent\nworkflow/waits\n");
    assert_eq!(served.run(&["list", "wf", "-l", "team=ops", "-o", "name"]).ok(), "workflow/waits\n");
    assert_eq!(served.run(&["get", "wf", "-o", "json"]).json()["kind"], "WorkflowList");
    let lines = served.run(&["get", "wf", "-A", "-o", "jsonl"]).ok();
    assert_eq!(
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect::<Vec<_>>(),
        ["Workflow", "Workflow"]
    );
    let table = served.run(&["get", "ag"]).ok();
    assert!(table.starts_with("NAME    MODEL     TOOLS"), "{table}");
    // What get writes, apply reads.
    let yaml = served.run(&["get", "wf", "-o", "yaml"]).ok();
    assert_eq!(
        served.baton.run_with(&["apply", "-f", "-"], &yaml).stderr,
        "workflow/parent unchanged\nworkflow/waits unchanged\n"
    );
    assert!(served.run(&["describe", "wf/waits"]).ok().contains("version: 1.2.4"));
    assert_eq!(
        served.run(&["delete", "-f", &path, "--yes"]).stderr,
        "workflow/waits deleted\nworkflow/parent deleted\nagent/helper deleted\n"
    );
    let said = served.run(&["delete", "wf", "waits"]).refused(1);
    assert!(said.starts_with("error: no workflow 'waits' in namespace 'default'\n"), "{said}");
    assert_eq!(served.run(&["delete", "wf", "waits", "--ignore-not-found"]).code, 0);
    assert_eq!(served.run(&["get", "wf"]).stderr, "no workflows in namespace 'default'\n");
}

#[test]
fn what_the_server_refuses_is_told_field_by_field() {
    let (served, _) = served();
    let wrong = served.baton.file(
        "wrong.yaml",
        "apiVersion: baton.dev/v1\nkind: WorkflowExecution\nmetadata: {name: wrong}\nspec: {workflow: gone, timeout: soon, parentClosePolicy: Perhaps}\n",
    );
    let said = served.run(&["apply", "-f", &wrong]).refused(1);
    for field in ["spec.workflow: ", "spec.timeout: 'soon' is not a duration", "spec.parentClosePolicy: "] {
        assert!(said.lines().any(|line| line.starts_with(&format!("error: {field}"))), "{field}: {said}");
    }
}

#[test]
fn an_execution_is_held_asked_and_ended() {
    let (served, _) = served();
    let once = served.baton.file("once.yaml", ONCE);
    assert_eq!(served.run(&["apply", "-f", &once]).stderr, "workflowexecution/once created\n");
    assert_eq!(served.run(&["apply", "-f", &once]).stderr, "workflowexecution/once unchanged\n");
    let row = served.run(&["get", "wfx"]).ok();
    assert!(row.lines().nth(1).unwrap().starts_with("once  waits     Running"), "{row}");
    assert!(served.run(&["suspend", "wfx", "once"]).stderr.starts_with("workflowexecution/once: suspended"));
    assert_eq!(
        served.run(&["get", "wfx", "--field-selector", "status.phase=Suspended", "-o", "name"]).ok(),
        "workflowexecution/once\n"
    );
    assert!(served.run(&["resume", "wfx/once"]).stderr.starts_with("workflowexecution/once: resumed"));
    let mut follow = served.baton.start(&["history", "wfx", "once", "--follow", "-o", "jsonl"]);
    assert_eq!(served.run(&["cancel", "wfx", "once", "--reason", "enough"]).code, 0);
    assert_eq!(serde_json::from_str::<Value>(&follow.first_data()).unwrap()["type"], "Started");
    let history = served.run(&["history", "wfx", "once", "-o", "json"]).json();
    let types: Vec<_> =
        history["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!((types.first(), types.last()), (Some(&"Started"), Some(&"Ended")), "{types:?}");
    let text = served.run(&["describe", "wfx", "once"]).ok();
    assert!(text.contains("Phase:            Cancelled") && text.contains("Last events:"), "{text}");
    let said = served.run(&["terminate", "wfx", "once"]).refused(1);
    assert!(said.starts_with("error: "), "{said}");
}

#[test]
fn a_tree_shows_who_waits_for_whom() {
    let (served, _) = served();
    let once = served.baton.file("once.yaml", &ONCE.replace("workflow: waits", "workflow: parent"));
    served.run(&["apply", "-f", &once]).ok();
    let mut watch = served.baton.start(&["watch", "wfx", "--field-selector", "spec.workflow=waits", "-o", "jsonl"]);
    let change: Value = serde_json::from_str(&watch.first_data()).unwrap();
    assert_eq!(change["type"], "ADDED");
    let child = change["object"]["metadata"]["name"].as_str().unwrap();
    let tree = served.run(&["tree", "wfx", child, "-o", "json"]).json();
    assert_eq!((tree["name"].as_str(), tree["children"][0]["name"].as_str()), (Some("once"), Some(child)));
    assert_eq!(tree["waitingFor"][0]["reason"], "Child");
    let text = served.run(&["tree", "wfx", "once"]).ok();
    assert!(text.starts_with("workflowexecution/once  Running  <\n│  waits for "), "{text}");
    assert!(text.contains(&format!("\n└─ workflowexecution/{child}  Running  at ")), "{text}");
    assert_eq!(served.run(&["terminate", "wfx", "once", "--yes"]).code, 0);
}

#[test]
fn a_caller_outside_gets_its_answer() {
    let (served, _) = served();
    let token = served.run(&["callback", "create"]).ok().trim().to_owned();
    assert!(token.starts_with("baton1."), "{token}");
    let said = served.run(&["callback", "await", &token, "--timeout", "0s"]).refused(1);
    assert!(said.starts_with("error: no answer within 0s\n"), "{said}");
    let done = served.baton.run_with(&["callback", "complete", "-", "--result", "{\"n\": 9007199254740993}"], &token);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{done:?}");
    assert!(done.stderr.ends_with(" completed\n") && !done.stderr.contains(&token), "{done:?}");
    assert_eq!(served.run(&["callback", "await", &token, "-o", "jsonl"]).ok(), "{\"n\":9007199254740993}\n");
    let again = served.run(&["callback", "complete", &token]);
    let reason = "\nreason: CALLBACK_ALREADY_COMPLETED (docs/errors/CALLBACK_ALREADY_COMPLETED.md)\n";
    assert!(again.stderr.ends_with(reason), "{again:?}");
    assert_eq!((again.code, again.stderr.contains(&token)), (1, false), "{again:?}");
    let token = served.run(&["callback", "create", "-q"]).ok().trim().to_owned();
    served.run(&["callback", "fail", &token, "--detail", "no luck", "--status", "418"]).ok();
    let said = served.run(&["callback", "await", &token]).refused(1);
    assert!(said.contains("\"detail\": \"no luck\"") && said.contains("error: the answer is Failed"), "{said}");
}

#[test]
fn a_token_is_made_in_the_form_that_rest_has() {
    let (served, _) = served();
    let made = served.run(&["callback", "create", "-o", "json"]).json();
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("baton1."), "{made}");
    let fields: Vec<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["callbackToken", "fingerprint", "expires", "token"]);
    let encoded = made["callbackToken"].as_str().unwrap();
    served.run(&["callback", "complete", encoded, "--base64", "--result", "1"]).ok();
    assert_eq!(served.run(&["callback", "await", token]).ok(), "1\n");
}

#[test]
fn a_return_address_can_be_attached_to_what_runs() {
    let (served, _) = served();
    let once = served.baton.file("once.yaml", ONCE);
    served.run(&["apply", "-f", &once]).ok();
    let token = served.run(&["callback", "create", "-q"]).ok().trim().to_owned();
    let list = served.run(&["callback", "attach", "wfx/once", &token, "-o", "json"]).json();
    assert_eq!(list["items"][0]["state"], "Waiting");
    served.run(&["cancel", "wfx", "once"]).ok();
    let said = served.run(&["callback", "await", &token]).refused(1);
    assert!(said.contains("error: the answer is Cancelled"), "{said}");
    let table = served.run(&["callback", "list", "wfx", "once"]).ok();
    assert!(table.starts_with("FINGERPRINT   STATE"), "{table}");
}

#[test]
fn run_uses_a_server_that_is_named() {
    let (served, _) = served();
    let output = served.run(&["run", "examples/hello/hello.yaml", "--input", "{\"n\": 1}", "--name", "greets"]);
    assert_eq!(output.json(), json!({"greeting": "hello, 2", "n": 2}));
    assert_eq!(served.run(&["get", "wfx", "-o", "name"]).ok(), "workflowexecution/greets\n");
    let path = served.baton.file("waits.yaml", TEMPLATES);
    let name = served.run(&["run", "-f", &path, "--workflow", "waits", "--detach"]).ok();
    assert!(name.starts_with("workflowexecution/waits-"), "{name}");
    assert_eq!(served.run(&["terminate", name.trim()]).code, 0);
}

#[test]
fn an_old_execution_is_imported_with_its_return_address() {
    let (served, _) = served();
    let token = served.run(&["callback", "create", "-q"]).ok().trim().to_owned();
    let old = old_execution("old", token.as_bytes());
    let path = served.baton.folder().join("old.bin");
    std::fs::write(&path, &old).unwrap();
    let path = path.display().to_string();
    assert_eq!(served.run(&["import", "--legacy", &path]).stderr, "workflowexecution/old imported\n");
    let list = served.run(&["callback", "list", "wfx", "old", "-o", "json"]).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    served.run(&["terminate", "wfx", "old"]).ok();
    let said = served.run(&["callback", "await", &token]).refused(1);
    assert!(said.contains("error: the answer is Cancelled"), "{said}");
    let said = served.run(&["import", "--legacy", "examples/hello/hello.yaml"]).refused(1);
    assert!(said.contains("the bytes are not a serialized WorkflowExecution"), "{said}");
    assert!(said.ends_with("\nreason: LEGACY_MALFORMED (docs/errors/LEGACY_MALFORMED.md)\n"), "{said}");
}

#[test]
fn several_old_executions_are_imported_each_by_itself() {
    let (served, _) = served();
    let token = served.run(&["callback", "create", "-q"]).ok().trim().to_owned();
    let folder = served.baton.folder().join("old");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("1"), ended_execution("ended", token.as_bytes())).unwrap();
    std::fs::write(folder.join("2"), "nothing of the kind").unwrap();
    std::fs::write(folder.join("3"), old_execution("runs", b"")).unwrap();
    let elsewhere = served.baton.folder().join("elsewhere");
    std::fs::write(&elsewhere, old_execution("runs-too", b"")).unwrap();
    let (folder, elsewhere) = (folder.display().to_string(), elsewhere.display().to_string());
    let said = served.run(&["import", "--legacy", &folder, &elsewhere]).refused(1);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "workflowexecution/ended imported");
    assert!(lines[1].starts_with(&format!("error: {folder}/2: the bytes are not ")), "{said}");
    assert_eq!(
        lines[lines.len() - 3..],
        ["workflowexecution/runs imported", "workflowexecution/runs-too imported", "3 imported, 1 refused of 4 files",],
        "{said}"
    );
    let ended = served.run(&["get", "wfx", "ended", "-o", "json"]).json();
    assert_eq!((&ended["status"]["phase"], &ended["status"]["output"]), (&json!("Completed"), &json!({"n": 1})));
    assert_eq!(served.run(&["callback", "await", &token, "-o", "jsonl"]).ok(), "{\"n\":1}\n");
    // What was refused is taken out, and the rest is done again: all of it is there.
    std::fs::remove_file(format!("{folder}/2")).unwrap();
    served.run(&["import", "--legacy", &folder]).ok();
    let names = "workflowexecution/ended\nworkflowexecution/runs\nworkflowexecution/runs-too\n";
    assert_eq!(served.run(&["get", "wfx", "-o", "name"]).ok(), names);
    // It goes where it was, or where the flag says.
    std::fs::write(&elsewhere, in_namespace("archive", "moved")).unwrap();
    served.run(&["import", "--legacy", &elsewhere]).ok();
    served.run(&["import", "--legacy", &elsewhere, "-n", "other"]).ok();
    for namespace in ["archive", "other"] {
        let names = served.run(&["get", "wfx", "-o", "name", "-n", namespace]).ok();
        assert_eq!(names, "workflowexecution/moved\n");
    }
    std::fs::write(&elsewhere, in_namespace("../x", "moved")).unwrap();
    let said = served.run(&["import", "--legacy", &elsewhere]).refused(1);
    assert!(said.contains("metadata.namespace: "), "{said}");
}

/// As it was written when the token still stood in status, field 11.
fn old_execution(name: &str, token: &[u8]) -> Vec<u8> {
    with_old_status(&old_resource("", name), &WorkflowExecutionStatus::default(), token)
}

/// One that had ended by then.
fn ended_execution(name: &str, token: &[u8]) -> Vec<u8> {
    let output = Some(Json { text: "{\"n\":1}".to_owned() });
    let status =
        WorkflowExecutionStatus { phase: "Completed".to_owned(), output, ..WorkflowExecutionStatus::default() };
    with_old_status(&old_resource("", name), &status, token)
}

/// One that had ended, in a namespace.
fn in_namespace(namespace: &str, name: &str) -> Vec<u8> {
    let status = WorkflowExecutionStatus { phase: "Failed".to_owned(), ..WorkflowExecutionStatus::default() };
    with_old_status(&old_resource(namespace, name), &status, b"")
}

fn old_resource(namespace: &str, name: &str) -> WorkflowExecution {
    let metadata = ObjectMeta { name: name.to_owned(), namespace: namespace.to_owned(), ..ObjectMeta::default() };
    WorkflowExecution {
        metadata: Some(metadata),
        spec: Some(WorkflowExecutionSpec { workflow: "waits".to_owned(), ..WorkflowExecutionSpec::default() }),
        ..WorkflowExecution::default()
    }
}

fn with_old_status(execution: &WorkflowExecution, status: &WorkflowExecutionStatus, token: &[u8]) -> Vec<u8> {
    let mut bytes = execution.encode_to_vec();
    let mut status = status.encode_to_vec();
    prost::encoding::bytes::encode(11, &token.to_vec(), &mut status);
    prost::encoding::bytes::encode(5, &status, &mut bytes);
    bytes
}

#[test]
fn data_is_backed_up_while_it_is_written_and_restored() {
    let (served, _) = served();
    let data = served.data_dir.display().to_string();
    let to = served.baton.folder().join("backup").display().to_string();
    let enough = std::sync::atomic::AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (baton, enough) = (&served.baton, &enough);
        scope.spawn(move || {
            let mut number = 0;
            while !enough.load(std::sync::atomic::Ordering::Relaxed) {
                let name = format!("run-{number}");
                let path = baton.file(&format!("{name}.yaml"), &ONCE.replace("once", &name));
                baton.run(&["apply", "-q", "-f", &path]).ok();
                let _ = sender.send(name);
                number += 1;
            }
        });
        let acknowledged: Vec<String> = receiver.iter().take(5).collect();
        let report = served.run(&["backup", &to, "--data-dir", &data]);
        // It goes on after the backup: one that is not acknowledged yet, and one more.
        let later = receiver.try_iter().count() + receiver.iter().take(2).count();
        enough.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(report.ok().contains("revision") && later >= 2);
        acknowledged
    });
    let said = served.run(&["backup", &to, "--data-dir", &data]).refused(3);
    assert!(said.starts_with(&format!("error: make the folder '{to}': ")), "{said}");
    let mut served = served;
    let stopped = served.stop();
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let cold = served.baton.folder().join("cold").display().to_string();
    served.run(&["backup", &cold, "--data-dir", &data]).ok();
    let other = served.baton.folder().join("other").display().to_string();
    served.run(&["restore", &to, "--data-dir", &other]).ok();
    let said = served.run(&["restore", &to, "--data-dir", &other]).refused(3);
    assert!(said.contains("hint: add --replace to set it aside"), "{said}");
    served.run(&["restore", &to, "--data-dir", &other, "--replace", "--yes"]).ok();
    let mut again = served.baton.start(&["server", "--listen", "127.0.0.1:0", "--data-dir", &other]);
    let url = again.says("listening on ").replace("listening on ", "");
    assert_eq!(served.run(&["get", "wf", "-o", "name", "--server", &url]).ok(), "workflow/parent\nworkflow/waits\n");
    let restored = served.run(&["get", "wfx", "-o", "name", "--server", &url]).ok();
    for name in acknowledged {
        assert!(restored.lines().any(|line| line == format!("workflowexecution/{name}")), "{name}: {restored}");
    }
    again.signal(Signal::INT);
    assert_eq!(again.end().code, 0);
}

#[test]
fn a_server_listens_on_loopback_only() {
    let served = Served::new();
    let other = served.baton.folder().join("public").display().to_string();
    let said = served.run(&["server", "--listen", "0.0.0.0:0", "--data-dir", &other]).refused(3);
    expect![[r"
        error: the server did not start: listen on 0.0.0.0:0: this version has no authentication, so it listens on loopback addresses only
        hint: use --listen 127.0.0.1:8377, and a proxy that authenticates in front of it for callers elsewhere
    "]]
    .assert_eq(&said);
}

#[test]
fn a_server_answers_as_temporal_does_if_it_is_told_to() {
    let variable = ("BATON_TEMPORAL_COMPATIBLE", "true");
    for (told, flag) in [(Some(variable), None), (None, Some("--temporal-compatible")), (None, None)] {
        let baton = Baton::new();
        let baton = told.into_iter().fold(baton, |baton, (name, value)| baton.with(name, value));
        let data = baton.folder().join("data").display().to_string();
        let args = ["server", "--listen", "127.0.0.1:0", "--data-dir", &data];
        let mut server = baton.start(&args.into_iter().chain(flag).collect::<Vec<_>>());
        let url = server.says("listening on ").replace("listening on ", "");
        let version = system_info(&url).map(|info| info.server_version).map_err(|status| status.code());
        let asked_for = told.is_some() || flag.is_some();
        assert_eq!(
            version,
            if asked_for { Ok(env!("CARGO_PKG_VERSION").to_owned()) } else { Err(Code::Unimplemented) }
        );
    }
}

#[tokio::main(flavor = "current_thread")]
async fn system_info(url: &str) -> Result<GetSystemInfoResponse, Status> {
    let mut client = WorkflowServiceClient::connect(url.to_owned()).await.unwrap();
    client.get_system_info(GetSystemInfoRequest {}).await.map(tonic::Response::into_inner)
}
