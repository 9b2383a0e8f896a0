//! `baton event` against a server.

use serde_json::json;

use crate::support::Served;

const EVENTS: &str = "\
- {specversion: '1.0', id: a, source: /file, type: t, data: {n: 1}}
- {specversion: '1.0', id: b, source: /file, type: t}
";

#[test]
fn events_are_sent_from_flags_and_files() {
    let served = Served::new();
    let flags = ["event", "send", "--type", "t", "--source", "/s", "--id", "1", "--data", "{\"n\": 1}"];
    let said = served.run(&flags);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", "1 of 1 events accepted\n"));
    assert_eq!(served.run(&flags).stderr, "0 of 1 events accepted, 1 known already\n");
    let named = served.run(&["event", "send", "--type", "t", "--extension", "room=7", "-n", "other", "-o", "json"]);
    assert_eq!(named.json(), json!({"accepted": 1}));
    let path = served.baton.file("events.yaml", EVENTS);
    assert_eq!(served.run(&["event", "send", "-f", &path]).stderr, "2 of 2 events accepted\n");
    assert_eq!(served.run(&["event", "send", "-f", &path, "-o", "name", "-q"]).ok(), "event/a\nevent/b\n");
}

#[test]
fn what_is_no_event_is_told_with_its_place() {
    let served = Served::new();
    let path = served.baton.file("wrong.yaml", "- {specversion: '1.0', id: a, source: /file}\n- 7\n");
    let said = served.run(&["event", "send", "-f", &path]).refused(1);
    for part in ["events[0].type: is required", "events[1]: must be an object"] {
        assert!(said.contains(part), "{said}");
    }
    let said = served.run(&["event", "send", "--type", "t", "--extension", "Room=7"]).refused(1);
    assert!(said.contains("events[0].Room: is not a name of an attribute"), "{said}");
    assert!(served.run(&["event", "send", "--type", "t", "--extension", "room"]).refused(2).contains("NAME=VALUE"));
    assert!(served.run(&["event", "send"]).refused(2).contains("--type"));
    let empty = served.baton.file("empty.yaml", "");
    assert!(served.run(&["event", "send", "-f", &empty]).refused(1).contains("holds no events"));
}
