//! Scripts, as workflows run them.

use axum::response::IntoResponse as _;
use baton_activities::{ActivitiesOptions, Commands, RunOptions};
use baton_execution::{Activities as _, Fault, fault_type};
use serde_json::{Value, json};

use crate::support::{Server, run, task, world};

fn limited(memory_bytes_max: u64, output_bytes_max: usize) -> ActivitiesOptions {
    // A script in JavaScript is no command.
    let run = RunOptions { commands: Commands::Off, memory_bytes_max, output_bytes_max, ..RunOptions::default() };
    ActivitiesOptions { run, ..ActivitiesOptions::default() }
}

async fn js(code: &str) -> Result<Value, Fault> {
    let input = json!({"language": "js", "code": code, "return": "all"});
    run(limited(64 << 20, 10_000), "script", input).await
}

#[tokio::test]
async fn javascript_is_given_what_the_task_says() {
    // The specification's own example.
    let code = "
        import { readFileSync } from 'node:fs';
        const stdin = readFileSync(process.stdin.fd, 'utf8');
        console.log('stdin > ', stdin)
        const [_, __, arg] = process.argv;
        console.log('arg > ', arg)
        const [foo] = [process.env.foo];
        console.log('env > ', foo)";
    let input = json!({
        "language": "js", "code": code, "stdin": "Hello Workflow", "arguments": ["hello"],
        "environment": {"foo": "bar"},
    });
    let said = run(ActivitiesOptions::default(), "script", input).await.unwrap();
    assert_eq!(said, "stdin >  Hello Workflow\narg >  hello\nenv >  bar\n");
}

#[tokio::test]
async fn javascript_writes_and_ends_as_in_node() {
    for (code, exit, stdout, stderr) in [
        ("console.log('a', 1, null, {b: [2]}, () => 1)", 0, "a 1 null {\"b\":[2]} [Function: ]\n", ""),
        ("process.stdout.write('x'); console.error('y')", 0, "x", "y\n"),
        ("console.log(await Promise.resolve(7))", 0, "7\n", ""),
        ("console.log('\\ud800')", 0, "\u{fffd}\n", ""),
        ("const fs = require('fs'); console.log(typeof fs.readFileSync)", 0, "function\n", ""),
        ("import p from 'process'; p.exitCode = 4", 4, "", ""),
        ("try { process.exit(3) } finally { console.log('no'); for (;;); }", 3, "no\n", ""),
        ("try { process.exit() } catch {} for (;;);", 0, "", ""),
        ("await new Promise(() => {})", 13, "", "the script waits for a promise that nothing settles\n"),
        ("console.log(1); throw 'up'", 1, "1\n", "Uncaught up\n"),
    ] {
        assert_eq!(js(code).await.unwrap(), json!({"code": exit, "stdout": stdout, "stderr": stderr}), "{code}");
    }
    for (code, complaint) in [
        ("throw new TypeError('no')", "Uncaught TypeError: no"),
        ("let x = ;", "Uncaught SyntaxError"),
        ("import fs from 'node:net'", "node:net"),
        ("require('net')", "no module 'net'; modules are 'node:fs' and 'node:process'"),
        ("require('fs').readFileSync('/etc/passwd')", "a script can read its standard input only"),
        ("(function f() { f() })()", "stack"),
        ("const all = []; for (;;) all.push(new Array(100000).fill(1))", "memory"),
    ] {
        let found = js(code).await.unwrap();
        let said = found["stderr"].as_str().unwrap();
        assert!(found["code"] == 1 && said.contains(complaint), "{code}: {found}");
    }
}

#[tokio::test]
async fn javascript_has_nothing_of_the_machine() {
    let names = "console.log(Object.getOwnPropertyNames(globalThis).filter((name) => /^(std|os|bjson|scriptArgs|fetch|Worker|Deno|Bun|setTimeout|print)$/.test(name)).length)";
    assert_eq!(js(names).await.unwrap()["stdout"], "0\n");
    assert_eq!(js("console.log(JSON.stringify(process.env))").await.unwrap()["stdout"], "{}\n");
}

#[tokio::test]
async fn javascript_has_limits_of_time_and_output() {
    for code in ["for (;;);", "/(a*)*b/.test('a'.repeat(40))", "async function f() { await 0; return f() } await f()"] {
        let input = json!({"language": "js", "code": code});
        let fault = world(limited(64 << 20, 10_000)).run(task("script", input, 200)).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.status), (fault_type::TIMEOUT, 408), "{code}: {fault}");
    }
    let fault = js("for (;;) try { console.log('much') } catch {}").await.unwrap_err();
    assert_eq!(fault.detail.as_deref(), Some("the command wrote more than 10000 bytes to standard output"));
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::TOO_LARGE, true));
}

#[test]
fn javascript_leaves_the_threads_of_everything_else_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let input = json!({"language": "js", "code": "for (;;);", "await": false});
        assert_eq!(run(ActivitiesOptions::default(), "script", input).await.unwrap(), Value::Null);
        let reading = tokio::task::spawn_blocking(|| "read");
        assert_eq!(tokio::time::timeout(std::time::Duration::from_secs(10), reading).await.unwrap().unwrap(), "read");
    });
}

#[tokio::test]
async fn so_many_scripts_run_at_a_time_and_no_longer_than_their_processor_time() {
    let run = RunOptions { scripts_max: 1, cpu_seconds_max: 1, ..RunOptions::default() };
    let world = world(ActivitiesOptions { run, ..ActivitiesOptions::default() });
    let ended = std::sync::Mutex::new(Vec::new());
    let script = async |name: &'static str, code: &str| {
        let result = world.run(task("script", json!({"language": "js", "code": code}), 30_000)).await;
        ended.lock().unwrap().push(name);
        result
    };
    let (long, short) = tokio::join!(script("long", "for (;;);"), script("short", "console.log(1)"));
    let fault = long.unwrap_err();
    assert_eq!(fault.kind, fault_type::TIMEOUT);
    assert_eq!(fault.detail.unwrap(), "the script did not end within 1000 ms, the setting 'run.cpu-time'");
    assert_eq!(short.unwrap(), "1\n");
    assert_eq!(*ended.lock().unwrap(), ["long", "short"]);
}

#[tokio::test]
async fn python_is_given_what_the_task_says() {
    let code = "import os, sys\nprint(sys.stdin.read(), sys.argv[1:], os.environ['A'])\nprint('oh', file=sys.stderr)\nsys.exit(int(sys.argv[1]))";
    let input = |exit: &str| json!({"language": "python", "code": code, "stdin": "in", "arguments": [exit], "environment": {"A": "b"}, "return": "all"});
    let found = run(ActivitiesOptions::default(), "script", input("3")).await.unwrap();
    assert_eq!(found, json!({"code": 3, "stdout": "in ['3'] b\n", "stderr": "oh\n"}));
    let options = ActivitiesOptions {
        run: RunOptions { commands: Commands::Off, ..RunOptions::default() },
        ..ActivitiesOptions::default()
    };
    let fault = run(options, "script", input("0")).await.unwrap_err();
    assert!(fault.detail.unwrap().contains("'run.commands' is 'off'"));
}

#[tokio::test]
async fn a_script_is_fetched_from_elsewhere() {
    let server = Server::answering(|_, seen| match seen.header("authorization") {
        "Bearer t" => "console.log('fetched')".into_response(),
        _ => axum::http::StatusCode::UNAUTHORIZED.into_response(),
    })
    .await;
    let with = |authentication: Value| {
        let source = json!({"endpoint": server.url("/tool.js"), "authentication": authentication});
        run(ActivitiesOptions::default(), "script", json!({"language": "js", "source": source}))
    };
    assert_eq!(with(json!({"bearer": {"token": "t"}})).await.unwrap(), "fetched\n");
    let fault = with(Value::Null).await.unwrap_err();
    assert!(fault.detail.unwrap().contains("/tool.js answered 401"));
}
