//! Several servers over one store in PostgreSQL: whichever is asked answers, one leads, and when that one goes another goes
//! on where it was.

mod cluster;

use std::thread;

use baton_temporal_testing::TemporalServer;
use rustix::process::Signal;
use serde_json::{Value, json};

use self::cluster::{Cluster, LEADS, PASSWORD};
use crate::{
    eventually,
    flows::{RUNS, WORKFLOWS, answer, create, ended, mailbox, run, workflow},
    http::Api,
    process::{Process, Server},
    temporal::site::{Desk, named, templates},
};

/// Executions under way when the leader goes.
const RUNS_COUNT: usize = 50;
/// Who asks at the same time.
const CLERKS: usize = 4;

#[test]
fn whichever_is_asked_answers() {
    let cluster = Cluster::new();
    let (_first, leader, second, standby) = cluster.pair();
    let (there, here) = (leader.api, standby.api);
    for (api, leads) in [(there, 1), (here, 0)] {
        assert_eq!((api.get("/healthz").text, api.get("/readyz/").text), ("ok".to_owned(), "ok".to_owned()));
        assert!(api.get("/metrics").text.contains(&format!("\nbaton_leading {leads}\n")));
    }
    let (desk, url) = Desk::start();
    for object in templates(&url) {
        create(here, &object);
    }
    // Created, followed and answered through the one that stands by.
    let token = mailbox(here);
    let mut execution = named("handshake-1", "handshake");
    execution["spec"]["callbackToken"] = json!(token);
    here.post(RUNS, &execution).expect(201);
    let watch = format!("{RUNS}?watch=true&resourceVersion=0&timeoutSeconds=30");
    let watching = here.follow(&watch).unwrap();
    let follower = second.start(&standby, &["history", "wfx", "handshake-1", "--follow"]);
    let waiting = desk.token("handshake-1");
    here.post("callbacks:complete", &json!({"token": waiting, "output": {"to": "handshake-1"}})).expect(200);
    assert_eq!(ended(here, RUNS, "handshake-1")["status"]["output"]["answer"], json!({"to": "handshake-1"}));
    assert_eq!(answer(here, &token)["output"]["run"], "handshake-1");
    let followed = follower.end();
    assert_eq!(followed.code, 0, "{followed:?}");
    assert!(followed.stdout.contains("Ended               Completed"), "{followed:?}");
    let cancelled = here.open("GET", &watch, &[], 0).unwrap();
    drop(cancelled);
    // The same answer, byte for byte, refusals among them.
    for path in [
        "/version",
        "/apis",
        "/",
        "/openapi/v3",
        WORKFLOWS,
        &format!("{RUNS}/handshake-1"),
        &format!("{RUNS}/nobody"),
        &format!("{RUNS}?limit=abc"),
        "/nowhere",
        &format!("{RUNS}/handshake-1/history"),
    ] {
        let (one, other) = (there.get(path), here.get(path));
        assert_eq!((one.status, one.text), (other.status, other.text), "{path}");
    }
    for (headers, body) in [
        (&[("content-type", "application/grpc")][..], &b"{}"[..]),
        (&[("content-type", "application/json"), ("host", "page.example")], b"{}"),
        (&[("content-type", "application/json"), ("origin", "http://page.example")], b"{}"),
        (&[("content-type", "application/json"), ("connection", "x-hop"), ("x-hop", "1")], b"{"),
        (&[("content-type", "application/json")], &vec![b'['; 3 << 20]),
    ] {
        let [one, other] = [there, here].map(|api| api.send("POST", RUNS, headers, body).unwrap());
        assert!(one.status >= 400, "{}", one.text);
        assert_eq!((one.status, one.reason()), (other.status, other.reason()), "{headers:?}");
    }
    // Never a second hop.
    let forwarded = here.send("GET", "/version", &[("baton-forwarded", "HTTP/1.1")], b"").unwrap();
    assert_eq!((forwarded.status, forwarded.reason().as_str()), (503, "NOT_LEADING"));
    assert!(forwarded.head.to_ascii_lowercase().contains("\r\nretry-after: "), "{}", forwarded.head);
    // A stream goes on until the leader ends it.
    let said = leader.stop();
    let seen = watching.finish().unwrap();
    assert!(seen.lines().iter().any(|event| event["object"]["status"]["phase"] == "Completed"), "{}", seen.text);
    // The leader went as its operator wished; the other one leads, and answers as before.
    assert_eq!(said.code, 0, "{said:?}");
    here.post(RUNS, &named("handshake-2", "handshake")).expect(201);
    standby.says(LEADS).unwrap();
    assert!(here.get("/metrics").text.contains("\nbaton_leading 1\n"));
    let config = second.run(&standby, &["config", "show"]);
    assert!(config.stdout.contains("postgresql://baton:***@"), "{}", config.stdout);
    let stopped = standby.stop();
    assert_eq!(stopped.code, 0, "{stopped:?}");
    for text in [&said.stderr, &stopped.stderr, &config.stdout] {
        assert!(!text.contains(PASSWORD) && !text.contains("panicked"), "{text}");
    }
}

fn name(number: usize) -> String {
    format!("handshake-{number}")
}

/// Asks until an answer comes that is not about the server: while one takes over from another, some may be lost or put off.
fn insist(apis: &[Api], path: &str, body: &Value) -> (u16, Value) {
    let mut turn = 0;
    eventually("a server answers", || {
        turn += 1;
        let answer = apis[turn % apis.len()].try_post(path, body).ok()?;
        (answer.status < 500).then(|| (answer.status, answer.json()))
    })
}

fn at_once(numbers: std::ops::Range<usize>, work: impl Fn(usize) + Sync) {
    let numbers: Vec<usize> = numbers.collect();
    thread::scope(|scope| {
        for some in numbers.chunks(numbers.len().div_ceil(CLERKS)) {
            scope.spawn(|| some.iter().for_each(|number| work(*number)));
        }
    });
}

/// Handshakes of callers outside, who ask any of `apis`, before and after the leader goes by `lose`.
fn fail_over(apis: &[Api], leader: Server, standby: &Server, lose: impl FnOnce(Server)) {
    let here = standby.api;
    let (desk, url) = Desk::start();
    for object in templates(&url) {
        create(here, &object);
    }
    let tokens: Vec<String> = (0..RUNS_COUNT).map(|_| mailbox(here)).collect();
    let begin = |number: usize| {
        let mut execution = named(&name(number), "handshake");
        execution["spec"]["callbackToken"] = json!(tokens[number]);
        execution["spec"]["requestId"] = json!(name(number));
        let (status, created) = insist(apis, RUNS, &execution);
        assert!(matches!(status, 200 | 201), "{created}");
    };
    let reply = |number: usize| {
        let token = desk.token(&name(number));
        let (status, said) =
            insist(apis, "callbacks:complete", &json!({"token": token, "output": {"to": name(number)}}));
        // The answer to an earlier try was lost.
        assert!(status == 200 || said["batonReason"] == "CALLBACK_ALREADY_COMPLETED", "{said}");
    };
    at_once(0..RUNS_COUNT / 2, begin);
    thread::scope(|scope| {
        // Under way: created, called, and answered while the leader goes.
        let busy = scope.spawn(|| at_once(RUNS_COUNT / 2..RUNS_COUNT, begin));
        let answering = scope.spawn(|| at_once(0..RUNS_COUNT / 2, reply));
        eventually("some wait", || (desk.waiting() >= RUNS_COUNT / 3).then_some(()));
        lose(leader);
        standby.says(LEADS).unwrap();
        busy.join().unwrap();
        answering.join().unwrap();
    });
    at_once(RUNS_COUNT / 2..RUNS_COUNT, reply);
    for (number, token) in tokens.iter().enumerate() {
        let told = answer(here, token);
        let output = &told["output"];
        assert_eq!((&told["state"], &output["run"]), (&json!("Completed"), &json!(name(number))), "{told}");
        assert_eq!(output["answer"], json!({"to": name(number)}), "{told}");
        // The result that is recorded is that of the last call: what was recorded was not asked for again.
        let step = &output["step"];
        assert_eq!(step["call"].as_u64().unwrap(), desk.calls(step["key"].as_str().unwrap()), "{told}");
        let list = eventually("the answer is settled", || {
            let list = here.get(&format!("{RUNS}/{}/callbacks", name(number))).expect(200);
            (list["items"][0]["state"] != "Pending").then_some(list)
        });
        let states: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["state"]).collect();
        assert_eq!(states, ["Delivered"], "{list}");
    }
    let all = here.get(&format!("{RUNS}?limit=500")).expect(200);
    let ours = |it: &&Value| it["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("handshake-"));
    assert_eq!(all["items"].as_array().unwrap().iter().filter(ours).count(), RUNS_COUNT, "nothing runs twice");
}

#[test]
fn the_leader_is_killed() {
    let cluster = Cluster::new();
    let (_first, leader, second, standby) = cluster.pair();
    let (here, mut streams) = (standby.api, None);
    fail_over(&[leader.api, here], leader, &standby, |leader| {
        here.post(RUNS, &run("late", "sleeps")).expect(201);
        let follower = second.start(&standby, &["history", "wfx", "late", "--follow"]);
        follower.prints("TimerStarted").unwrap();
        streams = Some((follower, here.follow(&format!("{RUNS}?watch=true&resourceVersion=0")).unwrap()));
        drop(leader.kill());
    });
    let (follower, watching) = streams.unwrap();
    // Over REST a stream breaks off, so that nobody takes it for whole; over gRPC it ends with a status, and is opened again.
    assert!(watching.finish().is_err());
    here.post(&format!("{RUNS}/late/cancel"), &json!({})).expect(200);
    let said = follower.end();
    assert!(said.code == 0 && said.stdout.contains("Ended               Cancelled"), "{said:?}");
    assert_eq!(said.stdout.matches("TimerStarted").count(), 1, "it went on after what had come: {said:?}");
    assert_eq!(standby.stop().code, 0);
}

#[test]
fn the_leader_is_killed_with_executions_on_temporal() {
    let temporal = TemporalServer::start();
    let address = temporal.address();
    let cluster =
        Cluster::with(&format!("[engine]\nkind = \"temporal\"\n[temporal]\naddress = \"{address}\"\nworker = false\n"));
    let (first, leader, second, standby) = cluster.pair();
    let key = |home: &crate::process::Home| std::fs::read_to_string(home.data_dir().join("worker.key")).unwrap();
    assert_eq!(key(&first), key(&second), "any server lets in the same workers");
    let servers = format!("http://{},http://{}", leader.api.0, standby.api.0);
    let key_file = second.data_dir().join("worker.key").display().to_string();
    let worker = Process::start(second.command(&[
        "worker",
        "--server",
        &servers,
        "--worker-key-file",
        &key_file,
        "--temporal-address",
        &address,
    ]));
    worker.says("polling").unwrap();
    fail_over(&[leader.api, standby.api], leader, &standby, |leader| drop(leader.kill()));
    worker.signal(Signal::TERM);
    let said = worker.end();
    assert!(said.code == 0 && !said.stderr.contains("panicked"), "{said:?}");
    assert_eq!(standby.stop().code, 0);
}

#[test]
fn the_leader_is_cut_off_from_the_database() {
    let cluster = Cluster::new();
    let (_first, leader, _second, standby) = cluster.pair();
    fail_over(&[leader.api, standby.api], leader, &standby, |leader| {
        cluster.cut_off("first");
        let said = leader.end();
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.stderr.contains("error: this server leads no more: "), "{said:?}");
        assert!(said.stderr.contains("hint: start it again"), "{said:?}");
    });
    assert_eq!(standby.stop().code, 0);
}

#[test]
fn the_leader_stands_still_and_goes_on_later() {
    let cluster = Cluster::new();
    let (_first, leader, _second, standby) = cluster.pair();
    let mut slept = None;
    // Whoever asks it itself gets no answer for as long as it stands still.
    fail_over(&[standby.api], leader, &standby, |leader| {
        leader.signal(Signal::STOP);
        cluster.cut_off("first");
        slept = Some(leader);
    });
    // What it remembers is of another time: whatever it still tries changes nothing.
    let before = standby.api.get(&format!("{RUNS}?limit=500")).expect(200);
    let leader = slept.unwrap();
    leader.signal(Signal::CONT);
    let said = leader.end();
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.stderr.contains("error: this server leads no more: "), "{said:?}");
    cluster.is_gone("first");
    let after = standby.api.get(&format!("{RUNS}?limit=500")).expect(200);
    assert_eq!(before["items"], after["items"]);
    assert_eq!(standby.stop().code, 0);
}

#[test]
fn one_that_ended_stands_by_when_it_is_started_again() {
    let cluster = Cluster::new();
    let (first, leader, _second, standby) = cluster.pair();
    let address = leader.api.0.to_string();
    create(leader.api, &workflow("quick", &json!([{"say": {"set": {"said": true}}}])));
    leader.kill();
    standby.says(LEADS).unwrap();
    // At the same address: what the store said of it before does not count any more.
    let again = Server::start(first.server_command_at(&address));
    eventually("it finds the leader", || (again.api.get("/readyz").status == 200).then_some(()));
    again.api.post(RUNS, &run("first", "quick")).expect(201);
    assert_eq!(ended(again.api, RUNS, "first")["status"]["output"], json!({"said": true}));
    assert!(again.api.get("/metrics").text.contains("\nbaton_leading 0\n"));
    // And back.
    standby.kill();
    again.says(LEADS).unwrap();
    assert_eq!(again.api.get(&format!("{RUNS}/first")).expect(200)["status"]["phase"], "Completed");
    assert_eq!(again.stop().code, 0);
}

#[test]
fn one_that_stands_by_stops_by_itself() {
    let cluster = Cluster::new();
    let (_first, leader, second, standby) = cluster.pair();
    create(leader.api, &workflow("sleeps", &json!([{"sleep": {"wait": {"hours": 1}}}])));
    standby.api.post(RUNS, &run("first", "sleeps")).expect(201);
    let watching = standby.api.follow(&format!("{RUNS}?watch=true&resourceVersion=0")).unwrap();
    let follower = second.start(&standby, &["history", "wfx", "first", "--follow"]);
    follower.prints("TimerStarted").unwrap();
    let refused = second.run(&standby, &["get", "wfx", "nobody"]);
    assert!(refused.code == 1 && refused.stderr.contains("reason: NOT_FOUND"), "{refused:?}");
    let said = standby.stop();
    assert!(said.code == 0 && !said.stderr.contains("cut off"), "{said:?}");
    // Its streams have ended as those of any server that stops.
    assert_eq!(watching.finish().unwrap().status, 200);
    assert_eq!(follower.end().code, 3, "nobody is there any more");
    assert_eq!(leader.api.get(&format!("{RUNS}/first")).expect(200)["status"]["phase"], "Running");
    assert_eq!(leader.stop().code, 0);
    // And with nobody else there, the data is as it was left.
    let again = second.serve();
    again.says(LEADS).unwrap();
    assert_eq!(again.api.get(&format!("{RUNS}/first")).expect(200)["status"]["phase"], "Running");
    assert_eq!(again.stop().code, 0);
}

#[test]
fn another_key_is_refused() {
    let cluster = Cluster::new();
    let home = cluster.home("first");
    let leader = home.serve();
    leader.says(LEADS).unwrap();
    let other = cluster.home("other");
    let key = cluster::other_key(&other);
    let start = |key: &std::path::Path| {
        let mut command = other.server_command();
        command.arg("--key-file").arg(key);
        Process::start(command).end()
    };
    let said = start(&key);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.stderr.contains("is not that of this store: its fingerprint is "), "{said:?}");
    assert!(said.stderr.contains("hint: copy baton.key from a server that uses this store"), "{said:?}");
    let missing = other.folder().join("missing.key");
    let said = start(&missing);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.stderr.contains("missing.key is missing") && said.stderr.contains("another server of the same store"),
        "{said:?}"
    );
    assert!(!missing.exists(), "no key is made where there is data");
    assert!(!said.stderr.contains(PASSWORD), "{said:?}");
    assert_eq!(start(&cluster.key_file().with_extension("nothing")).code, 3);
    assert_eq!(leader.api.get("/readyz").text, "ok");
    assert_eq!(leader.stop().code, 0);
}

#[test]
fn what_needs_an_embedded_store_says_so() {
    let cluster = Cluster::new();
    let home = cluster.home("first");
    let server = home.serve();
    let said = home.run(&server, &["backup", "copy"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.stderr.contains("the store of this configuration is in PostgreSQL, at postgresql://baton:***@"),
        "{said:?}"
    );
    assert!(said.stderr.contains("hint: back it up with PostgreSQL's own tools"), "{said:?}");
    let said = home.run(&server, &["restore", "copy", "--data-dir", "elsewhere"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("hint: restore PostgreSQL with its own tools"), "{said:?}");
    // A run of its own is of its own store.
    let hello =
        "document: {dsl: 1.0.3, namespace: default, name: a, version: 1.0.0}\ndo: [{say: {set: {said: hello}}}]\n";
    std::fs::write(home.folder().join("hello.yaml"), hello).unwrap();
    let said = Process::start(home.command(&["run", "hello.yaml", "-o", "json"])).end();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("hello"), "{said:?}");
    assert_eq!(server.api.get(RUNS).expect(200)["items"], json!([]));
    let data: Vec<_> = std::fs::read_dir(home.data_dir()).unwrap().collect();
    assert!(data.is_empty(), "with a key elsewhere it holds nothing: {data:?}");
    assert_eq!(server.stop().code, 0);
}
