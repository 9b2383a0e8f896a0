//! The dev server is what tests rely on.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpStream,
    process::{Command, Stdio},
};

use baton_temporal_testing::{TemporalServer, eventually, python};

fn start_workflow(server: &TemporalServer, id: &str) {
    server.cli(&["workflow", "start", "--type", "nobody", "--task-queue", "nobody", "--workflow-id", id]);
}

#[test]
fn what_it_took_is_there_after_it_was_killed() {
    let mut server = TemporalServer::start();
    let address = server.address();
    start_workflow(&server, "kept");
    server.kill();
    assert_eq!(server.pid(), None);
    assert!(server.try_cli(&["workflow", "list"]).is_err());
    server.restart();
    assert_eq!(server.address(), address);
    assert!(server.describe_workflow("kept").is_some_and(|text| text.contains("WORKFLOW_EXECUTION_STATUS_RUNNING")));
    server.terminate_workflow("kept", "enough");
    assert!(server.describe_workflow("kept").is_some_and(|text| text.contains("WORKFLOW_EXECUTION_STATUS_TERMINATED")));
    assert!(server.workflow_history("kept").contains("EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED"));
    server.delete_workflow("kept");
    eventually("the history is gone", || server.describe_workflow("kept").is_none().then_some(()));
}

#[test]
fn a_folder_that_was_given_stays() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("below");
    let server = TemporalServer::start_in(&database);
    start_workflow(&server, "kept");
    drop(server);
    let server = TemporalServer::start_in(&database);
    assert!(server.describe_workflow("kept").is_some());
}

#[test]
fn namespaces_can_be_used_at_once() {
    let server = TemporalServer::shared();
    server.create_namespace("other");
    let id = ["--workflow-id", "first", "--namespace", "other"];
    server.cli(&[["workflow", "start", "--type", "nobody", "--task-queue", "nobody"].as_slice(), &id].concat());
    assert_eq!(server.describe_workflow("first"), None);
}

#[test]
fn a_frozen_server_is_there_again() {
    let server = TemporalServer::start();
    server.freeze();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", server.pid().unwrap())).unwrap();
    eventually("the process is stopped", || state().contains(") T ").then_some(()));
    server.go_on();
    start_workflow(&server, "later");
}

/// Runs itself as the process that is ended without a word.
#[test]
#[expect(clippy::print_stderr, reason = "that is what the other process reads")]
fn it_does_not_outlive_its_process() {
    const ENDS: &str = "BATON_TEST_ENDS_AT_ONCE";
    if std::env::var_os(ENDS).is_some() {
        let server = TemporalServer::shared();
        eprintln!("started {}", server.address());
        std::process::abort();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "it_does_not_outlive_its_process", "--nocapture"])
        .env(ENDS, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.into_iter().find_map(|line| line.strip_prefix("started ").map(str::to_owned)).unwrap();
    assert!(!child.wait().unwrap().success());
    eventually("the server is gone", || TcpStream::connect(&address).is_err().then_some(()));
}

#[test]
fn the_sdk_is_there() {
    let imported = Command::new(python()).args(["-c", "import temporalio"]).status().unwrap();
    assert!(imported.success());
}
