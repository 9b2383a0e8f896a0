//! `baton worker`, and a server whose executions run in Temporal.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use baton_temporal_testing::{TemporalServer, eventually};
use rustix::process::Signal;

use crate::support::{Baton, Started};

const EXECUTION: &str = "\
apiVersion: baton.dev/v1
kind: WorkflowExecution
metadata: {name: NAME}
spec:
  definition:
    document: {dsl: 1.0.3, namespace: default, name: a, version: 1.0.0}
    do:
      - say: {call: baton.dev/echo, with: {said: hello, long: \"${ [range(20000)] }\"}}
";

/// An address that nobody listens on.
fn nowhere() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A server of the engine that the flags say, and its URL.
fn server(baton: &Baton, flags: &[&str]) -> (Started, String) {
    server_at("127.0.0.1:0", baton, flags)
}

fn server_at(listen: &str, baton: &Baton, flags: &[&str]) -> (Started, String) {
    let data_dir = baton.folder().join("data").display().to_string();
    let mut started = baton.start(&[&["server", "--listen", listen, "--data-dir", &data_dir], flags].concat());
    let url = started.says("listening on http://").trim_start_matches("listening on ").to_owned();
    (started, url)
}

fn end(started: Started) {
    started.signal(Signal::TERM);
    assert_eq!(started.end().code, 0);
}

#[test]
fn without_a_key_it_says_how_to_give_one() {
    let baton = Baton::new();
    let said = baton.run(&["worker"]).refused(2);
    let expected = "error: the worker key is missing\nhint: give --worker-key-file and the file worker.key in the server's data directory\n";
    assert_eq!(said, expected);
    let said = Baton::new().with("BATON_WORKER_KEY", "sesame").run(&["worker"]).refused(2);
    assert!(said.starts_with("error: the worker key has 6 characters") && !said.contains("sesame"), "{said}");
    let said = baton.run(&["worker", "--worker-key-file", "/nowhere/worker.key"]).refused(3);
    assert!(said.contains("use the worker key file /nowhere/worker.key: No such file"), "{said}");
    let baton = Baton::new().with("BATON_WORKER_KEY", &"a".repeat(64));
    let said = baton.run(&["worker", "--server", "https://127.0.0.1:1"]).refused(2);
    assert!(
        said.contains("--server 'https://127.0.0.1:1' is not a URL of a server; allowed is http://HOST:PORT"),
        "{said}"
    );
    let said = baton.run(&["worker", "--temporal-address", "ftp://a"]).refused(3);
    assert!(said.contains("Temporal's address 'ftp://a' has an unknown scheme"), "{said}");
    let said = baton.run(&["worker", "--temporal-profile", "gone"]).refused(3);
    assert!(said.contains("no profile 'gone'"), "{said}");
}

#[test]
fn a_server_starts_and_stops_while_temporal_is_away_and_lets_in_only_its_workers() {
    let baton = Baton::new();
    let (server, url) = server(&baton, &["--engine", "temporal", "--temporal-address", &nowhere()]);
    let key_file = baton.folder().join("data/worker.key");
    assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let key_file = key_file.display().to_string();
    let away = nowhere();
    let worker = |key: &str| {
        ["worker", "--server", &url, "--temporal-address", &away, "--worker-key-file", key].map(str::to_owned)
    };
    let other = baton.file("other.key", &"7".repeat(64));
    let args = worker(&other);
    let said = baton.run(&args.each_ref().map(String::as_str)).refused(1);
    assert!(
        said.contains("the server does not let the worker in: the worker key is not the one of this server\nhint: start the worker with --worker-key-file"),
        "{said}"
    );
    let args = worker(&key_file);
    let mut started = baton.start(&args.each_ref().map(String::as_str));
    started.says("Temporal is not there");
    end(started);
    end(server);
}

#[test]
fn a_server_of_the_embedded_engine_has_no_work_for_it() {
    let baton = Baton::new().with("BATON_WORKER_KEY", &"a".repeat(64));
    let (server, url) = server(&baton, &[]);
    assert!(!baton.folder().join("data/worker.key").exists());
    let said = baton.run(&["worker", "--server", &url]).refused(1);
    assert!(said.contains("it runs the embedded engine"), "{said}");
    end(server);
}

#[test]
fn it_runs_what_the_server_starts_in_temporal() {
    let temporal = TemporalServer::shared();
    let baton = Baton::new();
    let address = temporal.address();
    let flags = ["--engine", "temporal", "--temporal-address", &address, "--no-worker"];
    let (server, url) = server(&baton, &flags);
    let baton = baton.with("BATON_SERVER", &url).with("TEMPORAL_ADDRESS", &address);
    let apply = |name: &str| {
        let said = baton.run_with(&["apply", "-f", "-"], &EXECUTION.replace("NAME", name));
        assert_eq!(said.stderr, format!("workflowexecution/{name} created\n"));
    };
    apply("here");
    let get = || baton.run(&["get", "wfx", "here", "-o", "json"]).json();
    let id = eventually("it is in Temporal", || get()["status"]["temporalWorkflowId"].as_str().map(str::to_owned));
    assert!(id.starts_with("baton/default/here/"), "{id}");
    assert_ne!(get()["status"]["phase"], "Completed", "nobody runs it yet");
    let key_file = baton.folder().join("data/worker.key").display().to_string();
    let mut worker = baton.start(&["worker", "--worker-key-file", &key_file]);
    let polls = worker.says("polling task queue");
    assert_eq!(polls, format!("polling task queue 'baton' of namespace 'default' in Temporal at {address}, for {url}"));
    eventually("it has ended", || (get()["status"]["phase"] == "Completed").then_some(()));
    let output = get()["status"]["output"].clone();
    assert_eq!(output["said"], "hello", "{output}");
    assert_eq!(
        output["long"].as_array().map(Vec::len),
        Some(20_000),
        "what is long goes by the server, not by Temporal"
    );
    // The key comes back with the server; to another one at the same address the worker is unknown: it is told, and goes.
    end(server);
    let key = fs::read_to_string(&key_file).unwrap();
    fs::remove_file(&key_file).unwrap();
    let (server, _) = server_at(url.trim_start_matches("http://"), &baton, &flags);
    assert_eq!(fs::read_to_string(&key_file).unwrap(), key);
    end(server);
    fs::remove_dir_all(baton.folder().join("data")).unwrap();
    let (server, _) = server_at(url.trim_start_matches("http://"), &baton, &flags);
    apply("there");
    let said = worker.end();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("does not let the worker in any more: the worker key is not"), "{}", said.stderr);
    end(server);
}
