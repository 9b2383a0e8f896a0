//! A server that is killed between an event and those who hear of it: what was accepted is heard, and heard once.

use serde_json::{Value, json};

use crate::{
    eventually,
    flows::{RUNS, create, ended, run, workflow},
    http::Api,
    process::Home,
};

const LISTENERS: usize = 60;
/// How many have heard of the event when the server is killed, at least.
const TOLD: [usize; 3] = [0, 1, 20];

/// Sends an event and gives how many were new.
fn send(api: Api, id: &str) -> i64 {
    let event = json!({"specversion": "1.0", "id": id, "source": "/test", "type": "go", "data": id});
    let structured = [("content-type", "application/cloudevents+json")];
    let answer = api.send("POST", "/events", &structured, event.to_string().as_bytes()).unwrap().expect(202);
    answer["accepted"].as_i64().unwrap_or_default()
}

/// How often an execution has begun to listen.
fn rounds(api: Api, name: &str) -> usize {
    let page = api.get(&format!("{RUNS}/{name}/history")).expect(200);
    let done = |event: &&Value| event["type"] == "ActivityCompleted";
    page["events"].as_array().unwrap().iter().filter(done).count()
}

#[test]
fn what_was_accepted_is_heard_once_whenever_the_server_is_killed() {
    let home = Home::new();
    let mut server = home.serve();
    let to = json!({"any": [{"with": {"type": "go"}}], "until": "length == 2"});
    create(server.api, &workflow("hear", &json!([{"hear": {"listen": {"to": to}}}])));
    for told in TOLD {
        let names: Vec<String> = (0..LISTENERS).map(|number| format!("after-{told}-{number}")).collect();
        for name in &names {
            server.api.post(RUNS, &run(name, "hear")).expect(201);
        }
        eventually("all of them listen", || names.iter().all(|name| rounds(server.api, name) == 1).then_some(()));
        let (first, second) = (format!("first-{told}"), format!("second-{told}"));
        assert_eq!(send(server.api, &first), 1);
        eventually("some have heard it", || {
            (names.iter().take(told).filter(|name| rounds(server.api, name) > 1).count() == told).then_some(())
        });
        let said = server.kill();
        assert!(!said.contains("panicked"), "{said}");
        server = home.serve();
        // Sent again by somebody who did not hear that it was taken.
        assert_eq!(send(server.api, &first), 0);
        assert_eq!(send(server.api, &second), 1);
        for name in &names {
            let status = ended(server.api, RUNS, name)["status"].take();
            assert_eq!(
                (&status["phase"], &status["output"]),
                (&json!("Completed"), &json!([first, second])),
                "{name}: {status}"
            );
        }
    }
    server.stop();
}
