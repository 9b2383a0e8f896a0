//! Containers, by a stand-in for the command line of an engine that writes down how it was called.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use baton_activities::{ActivitiesOptions, Commands, RunOptions};
use baton_execution::{Activities as _, Fault, fault_type};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{run, task, world};

/// The stand-in: keeps each call's arguments in a line of `calls`, and does what an engine would do with a container that
/// copies its input and ends with the code in `code`.
const ENGINE: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$1" in
  ps) cat "$here/found" 2>/dev/null || : ;;
  create) echo "pulling"; cat > "$here/variables"; env > "$here/env"; echo c0ffee ;;
  start)
    case "$2" in
      --attach) cat; test -e "$here/moves" && echo exited > "$here/state"; echo oh >&2; cat "$here/slow" 2>/dev/null; exit 1 ;;
    esac ;;
  logs) echo logged; echo complaint >&2 ;;
  inspect) case "$3" in *Labels*) cat "$here/labels" ;; *) cat "$here/state" ;; esac ;;
  wait) cat "$here/code" ;;
esac
"#;

struct Engine(TempDir);

impl Engine {
    fn new(code: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("engine");
        fs::write(&program, ENGINE).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let engine = Self(directory);
        engine.put("code", code);
        engine.put("state", "exited\n");
        engine
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.0.path().join(name), content).unwrap();
    }

    fn get(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap_or_default()
    }

    /// Its calls; in place of times, what they are.
    fn calls(&self) -> Vec<String> {
        let call = |line: &str| match line.split_once("baton.dev/deadline-ms=") {
            None => line.to_owned(),
            Some((before, after)) => {
                let (time, rest) = after.split_once(' ').unwrap();
                assert!(time.parse::<u64>().unwrap() > 1_700_000_000_000, "{line}");
                format!("{before}baton.dev/deadline-ms=LATER {rest}")
            }
        };
        self.get("calls").lines().map(call).collect()
    }

    fn options(&self, change: impl FnOnce(&mut RunOptions)) -> ActivitiesOptions {
        let mut run = RunOptions { container_engine: Some(self.0.path().join("engine")), ..RunOptions::default() };
        change(&mut run);
        ActivitiesOptions { run, ..ActivitiesOptions::default() }
    }

    async fn run(&self, input: Value) -> Result<Value, Fault> {
        run(self.options(|_| {}), "container", input).await
    }
}

/// Waits until a call was made that a background task makes.
async fn called(engine: &Engine, call: &str) {
    let seen = async {
        while !engine.calls().iter().any(|it| it == call) {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(30);
    assert!(tokio::time::timeout(limit, seen).await.is_ok(), "{call} is not in {:?}", engine.calls());
}

const NAME: &str = "a-07070707-0707-0707-0707-070707070707.default-pr-fen-";

#[tokio::test]
async fn a_container_is_made_started_and_left() {
    let engine = Engine::new("0");
    let output = engine.run(json!({"image": "hello-world", "return": "all", "stdin": "in"})).await.unwrap();
    assert_eq!(output, json!({"code": 0, "stdout": "in", "stderr": "oh\n"}));
    let calls = engine.calls();
    let digest = calls[0].rsplit('=').next().unwrap().to_owned();
    assert_eq!(digest.len(), 64);
    let create = format!(
        "create --name {NAME}{} --label baton.dev/task={digest} --label baton.dev/deadline-ms=LATER --pull missing --memory 536870912b --pids-limit 64 --security-opt no-new-privileges --network none --interactive hello-world",
        &digest[..12]
    );
    let expected = [
        format!("ps --all --no-trunc --quiet --filter label=baton.dev/task={digest}"),
        create,
        "start --attach --interactive c0ffee".to_owned(),
        "inspect --format {{.State.Status}} c0ffee".to_owned(),
        "wait c0ffee".to_owned(),
    ];
    assert_eq!(calls, expected);
}

#[tokio::test]
async fn everything_that_a_task_says_is_said_to_the_engine() {
    let engine = Engine::new("0");
    let shared = tempfile::tempdir().unwrap();
    let input = json!({
        "image": "docker.io/library/alpine:3", "name": "box", "command": "echo \"$1\"", "arguments": ["a b", 7],
        "environment": {"SECRET": "s3cret = '#\t$HOME ", "HOME": "/evil", "DOCKER_HOST": "tcp://x", "NONE": null}, "ports": {"8080": 80},
        "volumes": {"baton.other.data": "/data", "cache": "/cache", (shared.path().to_str().unwrap()): "/shared:ro"},
        "pullPolicy": "always", "cleanup": "always",
    });
    let options = engine.options(|run| {
        run.network = true;
        run.container_volumes = vec![shared.path().to_owned(), PathBuf::from("cache")];
    });
    run(options, "container", input).await.unwrap();
    let calls = engine.calls();
    let create = calls.iter().find(|call| call.starts_with("create")).unwrap();
    let create = create.replace(shared.path().to_str().unwrap(), "SHARED");
    let (before, after) = create.split_once(" --pull ").unwrap();
    assert!(before.starts_with("create --name box --label baton.dev/task="), "{before}");
    assert_eq!(
        after,
        "always --memory 536870912b --pids-limit 64 --security-opt no-new-privileges --publish 8080:80 --volume baton.default.baton.other.data:/data --volume cache:/cache --volume SHARED:/shared:ro --env-file /dev/stdin docker.io/library/alpine:3 /bin/sh -c echo \"$1\" sh a b 7"
    );
    // They are the container's alone: the engine's own program looks into its home and its environment.
    assert_eq!(engine.get("variables"), "DOCKER_HOST=tcp://x\nHOME=/evil\nSECRET=s3cret = '#\t$HOME \n");
    assert!(!engine.get("env").contains("/evil") && !engine.get("env").contains("tcp://x"));
    assert!(before.ends_with("LATER --label baton.dev/remove-after-ms=0"), "{before}");
    assert_eq!(calls.last().unwrap(), "rm --force c0ffee");
}

#[tokio::test]
async fn an_exit_code_is_a_fault_or_the_output() {
    let engine = Engine::new("7");
    let fault = engine.run(json!({"image": "a"})).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.data), (fault_type::RUNTIME, Some(json!({"code": 7, "stderr": "oh\n"}))));
    assert_eq!(engine.run(json!({"image": "a", "return": "code"})).await.unwrap(), 7);
}

#[tokio::test]
async fn a_container_that_cannot_be_started_is_a_fault() {
    let engine = Engine::new("0");
    engine.put("state", "created\n");
    let fault = engine.run(json!({"image": "a", "return": "code"})).await.unwrap_err();
    assert_eq!(fault.detail.unwrap(), "the container engine 'engine' fails at 'start': oh");
    assert_eq!(engine.calls().last().unwrap(), "rm --force c0ffee");
}

#[tokio::test]
async fn a_repeat_waits_for_the_container_that_is_there() {
    let engine = Engine::new("0");
    engine.put("found", "beef\n");
    engine.put("state", "running\n");
    let output = engine.run(json!({"image": "a", "return": "all"})).await.unwrap();
    assert_eq!(output, json!({"code": 0, "stdout": "logged\n", "stderr": "complaint\n"}));
    assert!(!engine.calls().iter().any(|call| call.starts_with("create") || call.starts_with("start")));
    let fault = engine.run(json!({"image": "a", "stdin": "half"})).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::IN_DOUBT, true));
    engine.put("state", "created\n");
    engine.put("moves", "");
    assert_eq!(engine.run(json!({"image": "a", "stdin": "whole"})).await.unwrap(), "whole");
    assert!(engine.calls().contains(&"start --attach --interactive beef".to_owned()));
}

#[tokio::test]
async fn a_container_that_nobody_waits_for_is_started_and_seen_to_its_end() {
    let engine = Engine::new("0");
    let output = engine.run(json!({"image": "a", "await": false, "cleanup": "always"})).await.unwrap();
    assert_eq!(output, Value::Null);
    assert!(engine.calls().contains(&"start c0ffee".to_owned()));
    called(&engine, "rm --force c0ffee").await;
}

#[tokio::test]
async fn a_container_is_ended_with_its_task() {
    for (cleanup, call) in [("never", "kill c0ffee"), ("always", "rm --force c0ffee")] {
        let engine = Engine::new("0");
        let slow = engine.0.path().join("slow");
        let made = std::process::Command::new("mkfifo").arg(&slow).status().unwrap();
        assert!(made.success());
        let world = world(engine.options(|_| {}));
        let work = world.run(task("container", json!({"image": "a", "cleanup": cleanup}), 30_000));
        tokio::select! {
            found = work => panic!("{found:?}"),
            () = called(&engine, "start --attach c0ffee") => {}
        }
        called(&engine, call).await;
    }
}

#[tokio::test]
async fn what_a_server_left_that_was_killed_is_ended_and_removed() {
    let later = "99999999999999";
    for (said, done) in [
        ("running 1000 0\n", Some("rm --force old")),
        ("exited 1000 5\n", Some("rm --force old")),
        ("running 1000 \n", Some("kill old")),
        ("paused 1000 99999999999999\n", Some("kill old")),
        ("exited 1000 99999999999999\n", None),
        ("exited 1000 \n", None),
        (&format!("running {later} 0\n"), None),
        ("running <no value> 0\n", None),
    ] {
        let engine = Engine::new("0");
        engine.put("found", "old\n");
        engine.put("labels", said);
        world(engine.options(|_| {})).sweep().await;
        let calls = engine.calls();
        assert!(calls[0] == "ps --no-trunc --quiet --filter label=baton.dev/deadline-ms", "{calls:?}");
        assert!(calls[1] == "ps --all --no-trunc --quiet --filter label=baton.dev/remove-after-ms", "{calls:?}");
        assert_eq!(calls.get(3).map(String::as_str), done, "{said}");
    }
}

#[tokio::test]
async fn what_somebody_waits_for_goes_on() {
    let engine = Engine::new("0");
    let made = std::process::Command::new("mkfifo").arg(engine.0.path().join("slow")).status().unwrap();
    assert!(made.success());
    engine.put("labels", "running 1000 0\n");
    let world = world(engine.options(|_| {}));
    let work = world.run(task("container", json!({"image": "a", "cleanup": "always"}), 30_000));
    let sweeping = async {
        called(&engine, "start --attach c0ffee").await;
        engine.put("found", "c0ffee\n");
        world.sweep().await;
    };
    tokio::select! {
        found = work => panic!("{found:?}"),
        () = sweeping => {}
    }
    assert!(engine.calls().iter().any(|call| call.starts_with("inspect --format {{.State.Status}} ")));
    // It is ended by whoever waited for it.
    called(&engine, "rm --force c0ffee").await;
    assert_eq!(engine.calls().iter().filter(|call| call.starts_with("rm")).count(), 1);
}

#[tokio::test]
async fn what_cannot_be_run_is_refused() {
    let engine = Engine::new("0");
    for (input, says) in [
        (json!({"image": "--privileged"}), "'--privileged' is not the name of an image"),
        (json!({"image": "a", "name": "-x"}), "'-x' is not the name of a container"),
        (json!({"image": "a", "ports": {"80": 80}}), "the setting 'run.network' must be true"),
        (json!({"image": "a", "ports": {"0": 80}}), "'0: 80' does not map ports"),
        (json!({"image": "a", "volumes": {"/etc": "/etc"}}), "'/etc' cannot be mounted"),
        (json!({"image": "a", "volumes": {"/tmp/../etc": "/etc"}}), "'/tmp/../etc' cannot be mounted"),
        (json!({"image": "a", "volumes": {"data": "data"}}), "'data' is no place for a volume"),
        (json!({"image": "a", "environment": {"A=B": "c"}}), "'A=B' is not the name of a variable"),
        (json!({"image": "a", "environment": {"#A": "c"}}), "'#A' is not the name of a variable"),
        (json!({"image": "a", "environment": {"A": "b\nHOME=c"}}), "the value of the variable 'A' holds a line break"),
        (json!({"image": "a", "environment": {"A": "x".repeat(70_000)}}), "have 70003 bytes; allowed are 1 to 61440"),
        (json!({"image": "a", "arguments": ["\u{0}"]}), "cannot hold the character U+0000"),
    ] {
        let fault = engine.run(input).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::CONFIGURATION, true));
        assert!(fault.detail.as_ref().unwrap().contains(says), "{fault}");
    }
    assert!(!engine.calls().iter().any(|call| call.starts_with("create")));
}

#[tokio::test]
async fn without_an_engine_it_is_refused() {
    let nowhere = |run: &mut RunOptions| run.container_engine = Some(PathBuf::from("/nowhere/docker"));
    let engine = Engine::new("0");
    let fault = run(engine.options(nowhere), "container", json!({"image": "a"})).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::CONFIGURATION, true));
    assert_eq!(fault.detail.unwrap(), "the setting 'run.container-engine' is '/nowhere/docker', which is no program");
    let off = |run: &mut RunOptions| run.commands = Commands::Off;
    let fault = run(engine.options(off), "container", json!({"image": "a"})).await.unwrap_err();
    assert!(fault.detail.unwrap().contains("'run.commands' is 'off'"));
    fs::write(engine.0.path().join("engine"), "#!/bin/sh\necho 'no daemon' >&2; exit 1\n").unwrap();
    let fault = engine.run(json!({"image": "a"})).await.unwrap_err();
    assert_eq!(fault.detail.unwrap(), "the container engine 'engine' fails at 'ps': no daemon");
    assert!(!fault.non_retryable);
}
