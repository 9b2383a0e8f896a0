//! Asked to stop, a server answers what it was asked, ends with 0, and leaves executions that go on at the next start.

use std::sync::{Mutex, mpsc};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    PATIENCE,
    flows::{RUNS, answer, call, call_and_wait, create, ended, mailbox, run, workflow},
    http::Api,
    process::{Home, Server},
    stub::{Reply, Stub},
};

/// A world that hangs at the first request of `/slow`, and tells of every request by its path.
struct World {
    stub: Stub,
    slow: mpsc::Receiver<Value>,
    wait: mpsc::Receiver<Value>,
}

fn world() -> World {
    let ((tell_slow, slow), (tell_wait, wait)) = (mpsc::channel(), mpsc::channel());
    let shared = Mutex::new((tell_slow, tell_wait, false));
    let stub = Stub::start(move |request| {
        let mut shared = shared.lock().unwrap();
        let tell = if request.path == "/slow" { &shared.0 } else { &shared.1 };
        drop(tell.send(request.json()));
        let first = request.path == "/slow" && !std::mem::replace(&mut shared.2, true);
        if first { Reply::Hang } else { Reply::Json(json!("done")) }
    });
    World { stub, slow, wait }
}

fn create_all(api: Api, url: &str) {
    create(api, &workflow("slow", &json!([{"ask": call(&format!("{url}/slow"), &json!({}))}])));
    create(
        api,
        &workflow(
            "waits",
            &json!([{"wait": call_and_wait(&format!("{url}/wait"), &json!({"token": "${ $task.callbackToken }"}))}]),
        ),
    );
    create(api, &workflow("sleeps", &json!([{"sleep": {"wait": {"milliseconds": 1500}}}])));
}

#[test]
fn a_stop_drains_and_the_next_start_goes_on() {
    let (home, world) = (Home::new(), world());
    let server = home.serve();
    let api = server.api;
    create_all(api, &world.stub.url());
    let token = mailbox(api);
    for name in ["slow", "waits", "sleeps"] {
        let mut object = run(name, name);
        if name == "slow" {
            object["spec"]["callbackToken"] = json!(token);
        }
        api.post(RUNS, &object).expect(201);
    }
    world.slow.recv_timeout(PATIENCE).unwrap();
    let wait = world.wait.recv_timeout(PATIENCE).unwrap()["token"].clone();
    // Streams and a long wait are being served when the signal comes.
    let streams = [format!("{RUNS}/slow/history?follow=true"), format!("{RUNS}?watch=true")]
        .map(|path| api.follow(&path).unwrap());
    let body = json!({"token": token, "timeout": "60s"}).to_string();
    let mut waiting = api.begin_post("callbacks:await", body.len()).unwrap();
    waiting.write(body.as_bytes()).unwrap();
    let output = server.stop();
    assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{output:?}");
    assert!(output.stderr.contains("stopping") && output.stderr.contains("server stopped"), "{}", output.stderr);
    for stream in streams {
        let answer = stream.finish().unwrap();
        assert!(answer.status == 200 && !answer.lines().is_empty(), "{answer:?}");
    }
    let unanswered = waiting.finish().unwrap();
    assert_eq!((unanswered.status, unanswered.reason().as_str()), (503, "SHUTTING_DOWN"), "{}", unanswered.text);

    let server = home.serve();
    let api = server.api;
    let completed = |name: &str| assert_eq!(ended(api, RUNS, name)["status"]["phase"], "Completed", "{name}");
    completed("slow");
    completed("sleeps");
    assert_eq!(answer(api, &token)["output"], json!("done"));
    api.post("callbacks:complete", &json!({"token": wait, "output": 7})).expect(200);
    completed("waits");
    assert_eq!(server.stop().code, 0);
}

#[test]
fn every_signal_that_asks_to_end_does_and_a_second_one_at_once() {
    let home = Home::new();
    for signal in [Signal::INT, Signal::TERM] {
        let server = home.serve();
        server.signal(signal);
        assert_eq!(server.end().code, 0, "{signal:?}");
    }
    let server = home.serve();
    // A request that does not come to its end holds the server, for a while.
    let half = server.api.begin_post(RUNS, 9).unwrap();
    server.signal(Signal::TERM);
    assert!(server.says("stopping").is_some());
    server.signal(Signal::TERM);
    let output = server.end();
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("error: stopped at once; the next start recovers"), "{}", output.stderr);
    drop(half);
    assert_eq!(home.serve().stop().code, 0);
}

#[test]
fn commands_that_follow_outlive_the_server_or_say_that_it_is_gone() {
    for signal in [Signal::TERM, Signal::KILL] {
        let home = Home::new();
        let server = home.serve();
        create(server.api, &workflow("sleeps", &json!([{"sleep": {"wait": {"hours": 1}}}])));
        server.api.post(RUNS, &run("first", "sleeps")).expect(201);
        let follow = home.start(&server, &["history", "wfx", "first", "--follow", "-o", "jsonl"]);
        let watch = home.start(&server, &["watch", "wfx", "-o", "name"]);
        assert!(follow.prints("TimerStarted").is_some() && watch.prints("workflowexecution/first").is_some());
        let address = server.api.0.to_string();
        server.signal(signal);
        server.end();
        let output = follow.end();
        assert_eq!(output.code, 3, "{signal:?}: {output:?}");
        assert!(output.stderr.contains("error: "), "{signal:?}: {output:?}");
        // A watch asks again for a while, and goes on where it was.
        let server = Server::start(home.server_command_at(&address));
        server.api.post(RUNS, &run("second", "sleeps")).expect(201);
        assert!(watch.prints("workflowexecution/second").is_some());
        watch.signal(Signal::INT);
        watch.end();
        assert_eq!(server.stop().code, 0);
    }
}
