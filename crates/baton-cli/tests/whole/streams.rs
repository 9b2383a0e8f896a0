//! Whoever looks on at an execution misses nothing that was recorded, though the server is killed in the middle of a word.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::{
    flows::{TALKS, agent, create, ended, talk},
    process::Home,
    stub::{Reply, Stub},
};

/// Frames of a chat completion.
fn frames(deltas: &[(&str, Value)]) -> String {
    let frame = |(text, reason): &(&str, Value)| json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]});
    deltas.iter().map(|delta| format!("data: {}\n\n", frame(delta))).collect::<Vec<_>>().concat()
}

/// The data of each message of a stream, with its id.
fn messages(text: &str) -> Vec<(String, Value)> {
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let message = |block: &str| {
        let data = serde_json::from_str(&field(block, "data:")?).ok()?;
        Some((field(block, "id:").unwrap_or_default(), data))
    };
    text.split("\n\n").filter_map(message).collect()
}

#[test]
fn a_stream_goes_on_where_it_was_after_a_kill() {
    let asked = AtomicUsize::new(0);
    let model = Stub::start(move |_| {
        if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            return Reply::Begin(frames(&[("Good ", Value::Null), ("mor", Value::Null)]));
        }
        let head = "content-type: text/event-stream\r\n".to_owned();
        Reply::Raw(200, head, frames(&[("Good ", Value::Null), ("day.", json!("stop"))]).into_bytes())
    });
    let home = Home::new();
    let server = home.serve();
    create(server.api, &agent("talker", &json!({"name": "m", "baseUrl": format!("{}/v1", model.url())})));
    server.api.post(TALKS, &talk("run", "talker")).expect(201);
    let path = format!("{TALKS}/run/stream");
    let mut open = server.api.open("GET", &path, &[("accept", "text/event-stream")], 0).unwrap();
    open.until(br#""text":"mor"}}"#).unwrap();
    let follower = home.start(&server, &["history", "agx/run", "--follow", "--deltas", "-o", "jsonl"]);
    let line = follower.prints(r#"{"delta""#).expect("deltas are printed");
    assert!(line.contains(r#""text":"Good ""#), "{line}");
    server.kill();
    drop(follower.end());

    let before = messages(&open.text());
    let last = &before.iter().rfind(|(id, _)| !id.is_empty()).unwrap().0;
    assert!(last.contains('.'), "the last that was seen is a delta: {before:?}");
    let server = home.serve();
    let rest = server.api.send("GET", &path, &[("last-event-id", last)], b"").unwrap();
    assert_eq!(rest.status, 200, "{rest:?}");
    let after = messages(&rest.text);
    let number = |(_, data): &(String, Value)| data["event"]["number"].as_u64();
    let numbers: Vec<u64> = before.iter().chain(&after).filter_map(number).collect();
    let history = server.api.get(&format!("{TALKS}/run/history?limit=1000")).expect(200);
    let recorded: Vec<u64> =
        history["events"].as_array().unwrap().iter().filter_map(|event| event["number"].as_u64()).collect();
    assert_eq!(numbers, recorded, "each event was told once");
    let mut said = String::new();
    for (_, data) in before.iter().chain(&after) {
        let delta = &data["delta"];
        if delta["index"] == 1 {
            said.clear();
        }
        said += delta["text"].as_str().unwrap_or_default();
    }
    // The new words take the place of those before; or the whole answer was recorded before anybody looked on.
    assert!(said == "Good day." || after.iter().all(|(_, data)| data["delta"].is_null()), "{said}: {after:?}");
    assert_eq!(ended(server.api, TALKS, "run")["status"]["output"], "Good day.");
    let done = server.api.send("GET", &path, &[("last-event-id", &recorded.len().to_string())], b"").unwrap();
    assert_eq!((done.status, done.text.as_str()), (204, ""));
    let shown = home.run(&server, &["history", "agx/run", "--follow"]);
    assert!(shown.code == 0 && shown.stdout.contains("ActivityCompleted"), "{shown:?}");
    server.stop();
}
