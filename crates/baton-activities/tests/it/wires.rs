//! What no mock says: answers of servers that are odd, old, hostile or cut off, for each protocol.

use axum::response::{IntoResponse as _, Response};
use baton_activities::{ActivitiesOptions, ModelsOptions};
use baton_agent::{FinishReason, Message, ModelRequest, ModelResponse, ModelSpec, Provider, RetrySpec};
use baton_execution::{Fault, fault_type};
use serde_json::{Value, json};

use crate::support::{Server, run, unframed};

/// Frames as server-sent events.
fn events(frames: &[Value]) -> String {
    let text = |frame: &Value| {
        let kind = frame["type"].as_str().unwrap_or("message");
        format!("event: {kind}\ndata: {frame}\n\n")
    };
    frames.iter().map(text).collect::<Vec<_>>().concat()
}

fn stream(body: String) -> Response {
    ([("content-type", "text/event-stream; charset=utf-8")], body).into_response()
}

fn request(server: &Server, provider: Provider) -> ModelRequest {
    ModelRequest {
        model: ModelSpec {
            name: "test-model".into(),
            provider,
            base_url: Some(server.url("")),
            retry: Some(RetrySpec { maximum_attempts: Some(2), initial_interval_ms: Some(1), ..RetrySpec::default() }),
            ..ModelSpec::default()
        },
        instructions: "Be brief.".into(),
        messages: vec![Message::user("Hi")],
        tools: Vec::new(),
        output_schema: None,
        earlier: None,
        recalled: 0,
    }
}

async fn ask(request: &ModelRequest) -> Result<ModelResponse, Fault> {
    let models = ModelsOptions { retry_initial_ms: 1, ..ModelsOptions::default() };
    let options = ActivitiesOptions { models, response_bytes_max: 100_000, ..ActivitiesOptions::default() };
    run(options, "model", serde_json::to_value(request).unwrap()).await.map(|it| serde_json::from_value(it).unwrap())
}

async fn answer(provider: Provider, body: String) -> (Result<ModelResponse, Fault>, usize) {
    let server = Server::answering(move |_, _| stream(body.clone())).await;
    let answer = ask(&request(&server, provider)).await;
    (answer, server.seen().len())
}

fn chat(delta: Value, reason: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
}

#[tokio::test]
async fn calls_of_a_chat_are_told_apart_by_index_or_id_and_never_made_up() {
    let call = |fields: Value| chat(json!({"tool_calls": [fields]}), Value::Null);
    let end = chat(json!({}), json!("tool_calls"));
    for (frames, expected) in [
        // Counted from one, or from anywhere: there is one call, and nothing is made room for.
        (
            vec![
                call(json!({"index": 1, "id": "a", "function": {"name": "f", "arguments": "{\"x\":"}})),
                call(json!({"index": 1, "function": {"arguments": "1}"}})),
            ],
            vec![("a", json!({"x": 1}))],
        ),
        (
            vec![call(json!({"index": 4_000_000_000_u64, "id": "a", "function": {"name": "f", "arguments": "{}"}}))],
            vec![("a", json!({}))],
        ),
        // All with the same index, or without one.
        (
            vec![
                call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}})),
                call(json!({"index": 0, "id": "b", "function": {"name": "f", "arguments": "{\"x\":2}"}})),
            ],
            vec![("a", json!({})), ("b", json!({"x": 2}))],
        ),
        (
            vec![
                call(json!({"id": "a", "function": {"name": "f", "arguments": "{}"}})),
                call(json!({"id": "b", "function": {"name": "f", "arguments": "{}"}})),
            ],
            vec![("a", json!({})), ("b", json!({}))],
        ),
        // The parts of two, in turn.
        (
            vec![
                call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}})),
                call(json!({"index": 1, "id": "b", "function": {"name": "f", "arguments": ""}})),
                call(json!({"index": 0, "function": {"arguments": "{\"x\":1}"}})),
                call(json!({"index": 1, "function": {"arguments": "{\"x\":2}"}})),
            ],
            vec![("a", json!({"x": 1})), ("b", json!({"x": 2}))],
        ),
    ] {
        let (response, _) =
            answer(Provider::OpenAi, events(&frames) + &events(std::slice::from_ref(&end)) + "data: [DONE]\n\n").await;
        let calls = response.unwrap().tool_calls;
        let found: Vec<(&str, Value)> = calls.iter().map(|call| (call.id.as_str(), call.arguments.clone())).collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_stream_without_its_end_is_no_answer_and_is_asked_for_again() {
    let half = [
        (Provider::OpenAi, events(&[chat(json!({"content": "half"}), Value::Null)]) + "data: [DONE]\n\n"),
        (Provider::OpenAiResponses, events(&[json!({"type": "response.output_text.delta", "delta": "half"})])),
        (
            Provider::Anthropic,
            events(&[
                json!({"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "half"}}),
                json!({"type": "message_stop"}),
            ]),
        ),
        (Provider::Gemini, events(&[json!({"candidates": [{"content": {"parts": [{"text": "half"}]}}]})])),
        (Provider::OpenAi, String::new()),
    ];
    for (provider, body) in half {
        let (answer, asked) = answer(provider, body).await;
        let fault = answer.unwrap_err();
        assert_eq!((fault.kind.as_str(), asked), (fault_type::COMMUNICATION, 2), "{provider:?}");
        assert!(fault.detail.unwrap().contains("it was cut off"), "{provider:?}");
    }
}

#[tokio::test]
async fn a_part_that_is_not_json_fails_the_answer_whatever_follows() {
    let rest = events(&[
        json!({"type": "response.completed", "response": {"status": "completed", "output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}]}}),
    ]);
    let (answer, asked) =
        answer(Provider::OpenAiResponses, format!("data: {{\"type\": \"response.out\n\n{rest}")).await;
    let fault = answer.unwrap_err();
    assert_eq!((fault.kind.as_str(), asked), (fault_type::COMMUNICATION, 1));
    assert!(fault.detail.unwrap().contains("not JSON"));
}

#[tokio::test]
async fn errors_within_a_stream_are_repeated_only_if_they_may_pass() {
    for (provider, frame, asked_expected) in [
        (Provider::Anthropic, json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}), 2),
        (Provider::Anthropic, json!({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}), 1),
        (Provider::OpenAi, json!({"error": {"type": "server_error", "message": "busy"}}), 2),
        (
            Provider::OpenAiResponses,
            json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "busy"}}}),
            2,
        ),
        (Provider::OpenAiResponses, json!({"type": "error", "code": "invalid_prompt", "message": "no"}), 1),
        (Provider::Gemini, json!({"error": {"code": 503, "status": "UNAVAILABLE", "message": "busy"}}), 2),
    ] {
        let (answer, asked) = answer(provider, events(std::slice::from_ref(&frame))).await;
        let fault = answer.unwrap_err();
        assert_eq!((fault.kind.as_str(), asked), (fault_type::COMMUNICATION, asked_expected), "{frame}");
        assert!(fault.detail.unwrap().contains("answered with an error"), "{frame}");
    }
}

#[tokio::test]
async fn endless_streams_end_at_the_limit() {
    for provider in [Provider::OpenAi, Provider::Ollama] {
        // One part that never ends, and many that do.
        for part in ["x".repeat(200_000), events(&[chat(json!({"content": "x"}), Value::Null)]).repeat(2000)] {
            let kind = if provider == Provider::Ollama { "application/x-ndjson" } else { "text/event-stream" };
            let body = if provider == Provider::Ollama { "x".repeat(200_000) } else { format!("data: {part}") };
            let server = Server::answering(move |_, _| ([("content-type", kind)], body.clone()).into_response()).await;
            let fault = ask(&request(&server, provider)).await.unwrap_err();
            assert!(matches!(fault.kind.as_str(), fault_type::TOO_LARGE | fault_type::COMMUNICATION), "{fault}");
            assert_eq!(server.seen().len(), 1, "{fault}");
        }
    }
}

#[tokio::test]
async fn answers_that_were_not_streamed_are_read_alike() {
    for (provider, body) in [
        (
            Provider::OpenAiResponses,
            json!({"object": "response", "status": "completed", "model": "m", "output": [{"type": "message", "content": [{"type": "output_text", "text": "Whole."}]}], "usage": {"input_tokens": 3, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}}}),
        ),
        (
            Provider::Anthropic,
            json!({"type": "message", "model": "m", "content": [{"type": "text", "text": "Whole."}], "stop_reason": "end_turn", "usage": {"input_tokens": 2, "cache_read_input_tokens": 1, "output_tokens": 2}}),
        ),
        (
            Provider::Gemini,
            json!({"candidates": [{"content": {"parts": [{"text": "Whole."}]}, "finishReason": "STOP"}], "modelVersion": "m", "usageMetadata": {"promptTokenCount": 3, "cachedContentTokenCount": 1, "candidatesTokenCount": 1, "thoughtsTokenCount": 1}}),
        ),
    ] {
        let text = body.to_string();
        let server =
            Server::answering(move |_, _| ([("content-type", "application/json")], text.clone()).into_response()).await;
        let response = ask(&request(&server, provider)).await.unwrap();
        assert_eq!(
            (response.text.as_deref(), response.finish_reason, response.model.as_str()),
            (Some("Whole."), FinishReason::Stop, "m")
        );
        assert_eq!(
            (response.input_tokens, response.cached_input_tokens, response.output_tokens),
            (3, 1, 2),
            "{provider:?}"
        );
        assert_eq!(response.cost_micros, None, "the price of 'test-model' is not known");
    }
}

#[tokio::test]
async fn signatures_of_thoughts_stay_with_what_they_came_with() {
    let part = |part: Value| json!({"candidates": [{"content": {"parts": [part]}}]});
    let frames = [
        part(json!({"text": "thinking aloud", "thought": true})),
        part(json!({"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "S1"})),
        part(json!({"functionCall": {"name": "g"}})),
        json!({"candidates": [{"finishReason": "STOP"}]}),
    ];
    let server = Server::answering(move |_, _| stream(events(&frames))).await;
    let mut request = request(&server, Provider::Gemini);
    let response = ask(&request).await.unwrap();
    assert_eq!((response.text, response.tool_calls.len()), (None, 2));
    let (tool_calls, provider_data) = (response.tool_calls, response.provider_data);
    request.messages.push(Message::Assistant { content: None, tool_calls, provider_data });
    for (name, content, failed) in [("f", "{\"ok\":true}", false), ("g", "no", true)] {
        request.messages.push(Message::Tool {
            call_id: String::new(),
            name: name.into(),
            content: content.into(),
            failed,
        });
    }
    ask(&request).await.unwrap();
    let mut asked = server.seen()[1].json()["contents"].take();
    for (index, key) in ["result", "error"].into_iter().enumerate() {
        let shown = &mut asked[2]["parts"][index]["functionResponse"]["response"][key];
        *shown = unframed(shown).into();
    }
    assert_eq!(
        asked,
        json!([
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [
                {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "S1"},
                {"functionCall": {"name": "g", "args": {}}}
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "f", "response": {"result": "{\"ok\":true}"}}},
                {"functionResponse": {"name": "g", "response": {"error": "no"}}}
            ]}
        ])
    );
}

#[tokio::test]
async fn reasoning_of_chats_and_responses_goes_back_as_it_came() {
    let frames = [
        chat(json!({"reasoning_content": "Let me "}), Value::Null),
        chat(json!({"reasoning_content": "see."}), Value::Null),
        chat(
            json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"google": {"thought_signature": "S"}}}]}),
            json!("tool_calls"),
        ),
    ];
    let server = Server::answering(move |_, _| stream(events(&frames))).await;
    let mut asked = request(&server, Provider::OpenAi);
    let response = ask(&asked).await.unwrap();
    let (tool_calls, provider_data) = (response.tool_calls, response.provider_data);
    asked.messages.push(Message::Assistant { content: None, tool_calls, provider_data });
    ask(&asked).await.unwrap();
    let sent = &server.seen()[1].json()["messages"][2];
    assert_eq!(sent["reasoning_content"], json!("Let me see."));
    assert_eq!(sent["tool_calls"][0]["extra_content"], json!({"google": {"thought_signature": "S"}}));

    let item =
        json!({"type": "reasoning", "id": "rs_1", "status": "completed", "summary": [], "encrypted_content": "E"});
    let frames = [
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}}),
        json!({"type": "response.incomplete", "response": {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []}}),
    ];
    let server = Server::answering(move |_, _| stream(events(&frames))).await;
    let mut asked = request(&server, Provider::OpenAiResponses);
    let response = ask(&asked).await.unwrap();
    assert_eq!(response.finish_reason, FinishReason::ContentFilter);
    let (tool_calls, provider_data) = (response.tool_calls, response.provider_data);
    asked.messages.push(Message::Assistant { content: None, tool_calls, provider_data });
    ask(&asked).await.unwrap();
    let sent = &server.seen()[1].json()["input"];
    assert_eq!(sent[1], json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "E"}));
    assert_eq!(sent[2]["call_id"], json!("a"));
}

#[tokio::test]
async fn settings_go_out_in_the_words_of_each_provider() {
    let settings: Value = json!({
        "name": "claude-sonnet-4-5", "temperature": 0.5, "topP": 0.9, "maxOutputTokens": 100, "stop": ["END"],
        "reasoningEffort": "low", "provider": "anthropic"
    });
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    for (provider, expected) in [
        (
            Provider::OpenAi,
            json!({"temperature": 0.5, "top_p": 0.9, "max_tokens": 100, "stop": ["END"], "reasoning_effort": "low", "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}),
        ),
        (
            Provider::OpenAiResponses,
            json!({"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 100, "reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"], "store": false, "text": {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": false}}}),
        ),
        (
            Provider::Anthropic,
            json!({"temperature": 0.5, "top_p": 0.9, "max_tokens": 4196, "stop_sequences": ["END"], "thinking": {"type": "enabled", "budget_tokens": 4096}, "output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false}}}}),
        ),
        (
            Provider::Gemini,
            json!({"generationConfig": {"temperature": 0.5, "topP": 0.9, "maxOutputTokens": 100, "stopSequences": ["END"], "thinkingConfig": {"thinkingLevel": "low"}, "responseMimeType": "application/json", "responseJsonSchema": schema}}),
        ),
        (
            Provider::Ollama,
            json!({"options": {"temperature": 0.5, "top_p": 0.9, "num_predict": 100, "stop": ["END"]}, "think": true, "format": schema}),
        ),
    ] {
        let server = Server::answering(|_, _| stream(String::new())).await;
        let mut request = request(&server, provider);
        let model: ModelSpec = serde_json::from_value(settings.clone()).unwrap();
        request.model = ModelSpec { provider, base_url: request.model.base_url, ..model };
        request.output_schema = Some(schema.clone());
        ask(&request).await.unwrap_err();
        let sent = server.seen()[0].json();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&sent[name], value, "{provider:?} {name}: {sent}");
        }
    }
}
