//! Shell commands, as workflows run them.

use baton_activities::{ActivitiesOptions, Commands, RunOptions};
use baton_execution::fault_type;
use serde_json::{Value, json};

use crate::support::{run, task, world};

async fn shell(input: Value) -> Result<Value, baton_execution::Fault> {
    run(ActivitiesOptions::default(), "shell", input).await
}

#[tokio::test]
async fn a_shell_command_is_given_what_the_task_says() {
    let input = json!({
        "command": "input=$(cat)\necho \"STDIN was: $input\"\necho \"ARGS are $1 $2\"; echo \"$A $B ${C-none}\" >&2",
        "stdin": {"a": 1}, "arguments": ["Foo", 7], "environment": {"A": "x y", "B": true, "C": null}, "return": "all",
    });
    let expected = json!({"code": 0, "stdout": "STDIN was: {\"a\":1}\nARGS are Foo 7\n", "stderr": "x y true none\n"});
    assert_eq!(shell(input).await.unwrap(), expected);
}

#[tokio::test]
async fn what_is_returned_is_chosen() {
    let with = |returned: &str, code: u8| {
        shell(json!({"command": format!("echo out; echo oh >&2; exit {code}"), "return": returned}))
    };
    assert_eq!(with("stdout", 0).await.unwrap(), "out\n");
    assert_eq!(with("stderr", 0).await.unwrap(), "oh\n");
    assert_eq!(with("none", 0).await.unwrap(), Value::Null);
    assert_eq!(with("code", 3).await.unwrap(), 3);
    assert_eq!(with("all", 3).await.unwrap(), json!({"code": 3, "stdout": "out\n", "stderr": "oh\n"}));
    for returned in ["stdout", "stderr", "none"] {
        let fault = with(returned, 3).await.unwrap_err();
        assert_eq!(fault.kind, fault_type::RUNTIME);
        assert_eq!(fault.detail.as_deref(), Some("the process ended with the exit code 3: oh"));
        assert_eq!(fault.data, Some(json!({"code": 3, "stderr": "oh\n"})));
        assert!(!fault.non_retryable);
    }
}

#[tokio::test]
async fn a_process_that_nobody_waits_for_goes_on() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options =
        || ActivitiesOptions { run: RunOptions { network: true, ..RunOptions::default() }, ..Default::default() };
    let call = format!(
        "exec /usr/bin/python3 -I -c 'import socket; socket.create_connection((\"127.0.0.1\", {port})).recv(1)'"
    );
    let output = run(options(), "shell", json!({"command": call, "await": false})).await.unwrap();
    assert_eq!(output, Value::Null);
    listener.accept().await.unwrap();
    let fault = run(options(), "shell", json!({"command": "a\u{0}b", "await": false})).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::CONFIGURATION, true));
}

#[tokio::test]
async fn commands_can_be_switched_off() {
    let run_options = RunOptions { commands: Commands::Off, ..RunOptions::default() };
    let options = ActivitiesOptions { run: run_options, ..ActivitiesOptions::default() };
    let fault = run(options, "shell", json!({"command": "true"})).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::CONFIGURATION, true));
    assert!(fault.detail.unwrap().contains("'run.commands' is 'off'"));
}

#[tokio::test]
async fn an_input_that_is_none_is_refused() {
    let world = world(ActivitiesOptions::default());
    for input in [json!({}), json!({"command": "true", "return": "much"}), json!({"command": "true", "arguments": 1})] {
        let fault = baton_execution::Activities::run(&world, task("shell", input, 1000)).await.unwrap_err();
        assert!(fault.detail.unwrap().starts_with("the input of the activity 'shell' cannot be used"));
    }
}
