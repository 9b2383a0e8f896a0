//! Commands of agents: programs without a shell, and never without a sandbox.

use baton_activities::{ActivitiesOptions, Commands, RunOptions, WorldActivities};
use baton_execution::{Activities as _, Fault, fault_type, secret_placeholder};
use serde_json::{Value, json};

use crate::support::{TestHome, run, task};

async fn command(input: Value) -> Result<Value, Fault> {
    run(ActivitiesOptions::default(), "command", input).await
}

fn within(run: RunOptions) -> ActivitiesOptions {
    ActivitiesOptions { run, ..ActivitiesOptions::default() }
}

#[tokio::test]
async fn words_reach_the_program_as_they_are() {
    let code =
        "import sys, os, json; print(json.dumps([sys.argv[1:], sys.stdin.read(), sorted(os.environ)])); sys.exit(3)";
    let nasty = "$(id) `id` ; && \"' * ~ \n x";
    let input = json!({
        "program": "python3", "arguments": ["-I", "-c", code, nasty, ""], "environment": {"MODE": "fast"}, "stdin": "{\"a\":1}",
    });
    let output = command(input).await.unwrap();
    assert_eq!((&output["exitCode"], &output["stderr"]), (&json!(3), &json!("")));
    let seen: Value = serde_json::from_str(output["stdout"].as_str().unwrap()).unwrap();
    assert_eq!(seen[0], json!([nasty, ""]));
    assert_eq!(seen[1], "{\"a\":1}");
    let names: Vec<&str> = seen[2].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let expected = ["HOME", "LANG", "MODE", "PATH", "TMPDIR"];
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
    assert!(
        names.iter().all(|name| expected.contains(name) || ["LC_CTYPE", "PWD", "SHLVL", "_"].contains(name)),
        "{names:?}"
    );
}

#[tokio::test]
async fn json_is_given_as_json_where_it_is_that() {
    let said = |text: &str, output: &str, code: u8| {
        let script = format!("cat; exit {code}");
        command(json!({"program": "sh", "arguments": ["-c", script], "stdin": text, "output": output}))
    };
    assert_eq!(
        said("{\"n\": 12345678901234567890}", "json", 0).await.unwrap()["stdout"],
        json!({"n": 12_345_678_901_234_567_890_u64})
    );
    assert_eq!(said("{\"n\": 1}", "text", 0).await.unwrap()["stdout"], "{\"n\": 1}");
    assert_eq!(said("{\"n\": 1}", "json", 1).await.unwrap()["stdout"], "{\"n\": 1}");
    assert_eq!(said("no", "json", 0).await.unwrap()["stdout"], "no");
    let deep = format!("{}{}", "[".repeat(110), "]".repeat(110));
    assert_eq!(said(&deep, "json", 0).await.unwrap()["stdout"], deep);
}

#[tokio::test]
async fn what_is_too_long_is_left_out_and_counted() {
    let script = "head -c 1000 /dev/zero | tr '\\0' a; printf bcd >&2";
    let input = json!({"program": "sh", "arguments": ["-c", script], "limits": {"outputBytes": 2}});
    let output = command(input).await.unwrap();
    assert_eq!(
        output,
        json!({"exitCode": 0, "stdout": "aa", "stdoutBytesLeftOut": 998, "stderr": "bc", "stderrBytesLeftOut": 1})
    );
    let options = within(RunOptions { output_bytes_max: 3, ..RunOptions::default() });
    let input = json!({"program": "echo", "arguments": ["hello"], "limits": {"outputBytes": 100}});
    assert_eq!(run(options, "command", input).await.unwrap()["stdout"], "hel", "never more than the server allows");
}

#[tokio::test]
async fn limits_hold() {
    let hungry = "x = bytearray(200 * 1024 * 1024); print('survived')";
    let input = json!({"program": "python3", "arguments": ["-I", "-c", hungry], "limits": {"memoryBytes": 64 << 20}});
    let survived = command(input).await.is_ok_and(|output| output["stdout"].as_str().unwrap().contains("survived"));
    assert!(!survived);
    let endless = json!({"program": "sh", "arguments": ["-c", "while :; do :; done"], "limits": {"cpuSeconds": 1}});
    assert_ne!(command(endless).await.unwrap()["exitCode"], 0);
}

#[tokio::test]
async fn the_network_is_there_only_where_both_want_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let call = format!("import socket; socket.create_connection(('127.0.0.1', {port})); print('through')");
    let input = |network: bool| json!({"program": "python3", "arguments": ["-I", "-c", call], "network": network});
    let allowed = || within(RunOptions { network: true, ..RunOptions::default() });
    assert_eq!(run(allowed(), "command", input(true)).await.unwrap()["stdout"], "through\n");
    assert_ne!(run(allowed(), "command", input(false)).await.unwrap()["exitCode"], 0);
    let fault = command(input(true)).await.unwrap_err();
    assert!(fault.detail.unwrap().contains("'run.network' gives to none"));
}

#[tokio::test]
async fn nothing_runs_without_a_sandbox() {
    let marker = tempfile::tempdir().unwrap();
    let file = marker.path().join("ran");
    let input = || json!({"program": "touch", "arguments": [file.to_str().unwrap()]});
    for (commands, says) in
        [(Commands::Unconfined, "run in a sandbox only"), (Commands::Off, "'run.commands' is 'off'")]
    {
        let fault =
            run(within(RunOptions { commands, ..RunOptions::default() }), "command", input()).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::CONFIGURATION, true));
        assert!(fault.detail.as_deref().unwrap().contains(says), "{fault}");
    }
    assert_ne!(command(input()).await.unwrap()["exitCode"], 0, "the file lies where commands cannot write");
    assert!(!file.exists());
}

#[tokio::test]
async fn secrets_go_in_and_do_not_come_out() {
    let home = TestHome::with(&[("git", &[("token", "t0ps3cret-value")])]);
    let world = WorldActivities::new(ActivitiesOptions::default(), home).unwrap();
    let input = json!({
        "program": "sh", "arguments": ["-c", "test \"$TOKEN\" = t0ps3cret-value && echo \"it is $TOKEN\""],
        "environment": {"TOKEN": secret_placeholder("git", "token")},
    });
    let output = world.run(task("command", input, 30_000)).await.unwrap();
    assert_eq!(output["stdout"], "it is ***\n");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_fault() {
    let fault = command(json!({"program": "no-such-program"})).await.unwrap_err();
    assert!(fault.detail.unwrap().contains("no program 'no-such-program'"));
}
