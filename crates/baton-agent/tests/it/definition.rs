//! Specs: what is accepted, and what is said of what is not.

use baton_agent::{AgentDefinition, Provider, Reference, check, parse};
use serde_json::{Value, json};

use crate::support::{spec, spec_with};

fn violations(spec: &Value) -> Vec<String> {
    check(spec).expect_err("the spec is refused").iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_spec_tells_what_it_refers_to() {
    let definition: AgentDefinition = check(&spec_with(json!({"timeout": "10m", "limits": {"maxTurns": 5}}))).unwrap();
    assert_eq!(definition.agents(), [Reference { field: "tools[2].agent.name".into(), name: "legal".into() }]);
    assert_eq!(definition.workflows(), [Reference { field: "tools[3].workflow.name".into(), name: "shipping".into() }]);
    assert_eq!(
        (definition.timeout_ms(), definition.limits().max_turns, definition.model().provider),
        (Some(600_000), Some(5), Provider::OpenAi)
    );
    assert!(definition.output_schema().is_none());
    assert_eq!(definition.tools()[2].parameters["required"], json!(["message"]));
}

#[test]
fn absent_fields_may_be_written_as_protobuf_writes_them() {
    let model =
        json!({"name": "m", "provider": "", "baseUrl": "", "timeout": "", "temperature": null, "playback": null});
    check(
        &json!({"instructions": "i", "model": model, "tools": [], "limits": {}, "outputSchema": null, "timeout": ""}),
    )
    .unwrap();
}

#[test]
fn a_playback_script_is_read_whole() {
    let turns = json!([{"toolCalls": [{"name": "get_order", "arguments": {"id": "1"}}], "inputTokens": 7}, {"json": {"a": 1}}, {"text": "bye", "outputTokens": 2}]);
    let spec = spec_with(
        json!({"model": {"name": "m", "provider": "playback", "playback": {"conversations": [{"match": "order", "turns": turns}, {"turns": [{"text": "?"}]}]}}}),
    );
    let definition = check(&spec).unwrap();
    let script = definition.model().playback.clone().unwrap();
    assert_eq!(
        (
            script.conversations.len(),
            script.conversations[0].pattern.as_deref(),
            script.conversations[1].pattern.as_deref()
        ),
        (2, Some("order"), None)
    );
    assert_eq!(
        (script.conversations[0].turns[0].input_tokens, script.conversations[0].turns[1].json.clone()),
        (7, Some(json!({"a": 1})))
    );
}

#[test]
fn every_violation_is_named_with_its_path() {
    let spec = json!({
        "instructions": "", "modle": {}, "timeout": "soon", "outputSchema": {"type": "strin"}, "limits": {"maxTurns": -1},
        "model": {"provider": "magic", "temperature": 3, "maxOutputTokens": 0, "baseUrl": "ftp://x", "playback": {"conversations": []}},
        "tools": [
            5,
            {"name": "a b", "description": "d", "agent": {"name": "UPPER"}},
            {"name": "t", "description": "d"},
            {"name": "u", "description": "d", "agent": {"name": "a"}, "workflow": {"name": "w"}},
            {"name": "v", "description": "d", "parameters": {"type": "string"}, "workflow": {"name": "w", "version": "1"}},
            {"name": "w", "description": "d", "http": {"method": "BREW", "url": "http://{host}/", "headers": {"a b": 1}}},
            {"name": "x", "description": "d", "workflow": {"name": "w"}},
            {"name": "x", "description": "d", "workflow": {"name": "w"}}
        ]
    });
    let found: Vec<String> = check(&spec).unwrap_err().into_iter().map(|violation| violation.field).collect();
    for expected in [
        "instructions",
        "modle",
        "timeout",
        "outputSchema",
        "limits.maxTurns",
        "model.name",
        "model.provider",
        "model.temperature",
        "model.maxOutputTokens",
        "model.baseUrl",
        "model.playback.conversations",
        "tools[0]",
        "tools[1].name",
        "tools[1].agent.name",
        "tools[2]",
        "tools[3]",
        "tools[4].parameters",
        "tools[4].workflow.version",
        "tools[5].http.method",
        "tools[5].http.url",
        "tools[5].http.headers.a b",
        "tools[7].name",
    ] {
        assert!(found.iter().any(|field| field == expected), "{expected} is missing in {found:?}");
    }
}

#[test]
fn violations_say_what_was_found_and_what_is_allowed() {
    for (change, says) in [
        (
            json!({"model": {"name": "m", "provider": "magic"}}),
            "model.provider: 'magic' is not a provider; allowed are 'openai', 'openai-responses', 'anthropic', 'gemini', 'ollama', 'playback'",
        ),
        (
            json!({"model": {"name": "m", "provider": "playback"}}),
            "model.playback: must be given for the provider 'playback'",
        ),
        (json!({"model": {"name": 5}}), "model.name: must be a string, found a number"),
        (
            json!({"limits": {"maxTurns": 1.5}}),
            "limits.maxTurns: must be a whole number from 0 to 2147483647, found 1.5",
        ),
        (
            json!({"tools": [{"name": "t", "description": "d"}]}),
            "tools[0]: exactly one of 'http', 'openapi', 'shell', 'agent', 'workflow' must be given, found 0",
        ),
        (
            json!({"extra": 1}),
            "extra: unknown field; allowed are 'instructions', 'model', 'toolServers', 'skills', 'artifacts', 'tools', 'limits', 'policy', 'outputSchema', 'timeout'",
        ),
    ] {
        let violations = violations(&spec_with(change));
        assert_eq!(violations, [says]);
    }
    assert_eq!(violations(&json!("text")), ["must be an object, found a string"]);
    assert!(violations(&json!({})).contains(&"model: must be given".to_owned()));
}

#[test]
fn what_was_admitted_is_read_again_from_its_bytes() {
    parse(spec().to_string().as_bytes()).unwrap();
    for bytes in [b"{".as_slice(), b"{}", b"\xff"] {
        assert!(parse(bytes).unwrap_err().detail.unwrap().starts_with("the agent cannot be loaded"));
    }
}
