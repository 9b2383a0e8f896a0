//! The activity `model`: providers, what is sent, what is made of the answer, and repetition.

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use std::{collections::BTreeMap, sync::Arc};

use baton_activities::{
    ActivitiesError, ActivitiesOptions, Homeless, ModelsOptions, ProviderOptions, Secret, WorldActivities,
};
use baton_agent::{FinishReason, Message, ModelRequest, ModelResponse, ModelSpec, Provider, ToolCall, ToolDescription};
use baton_execution::{Activities as _, Fault, fault_type};
use serde_json::{Value, json};

use crate::support::{Server, raw_server, run, stream_endlessly, task, told, unframed, world};

fn request() -> ModelRequest {
    ModelRequest {
        model: ModelSpec {
            name: "gpt-x".into(),
            provider: Provider::OpenAi,
            temperature: Some(0.5),
            max_output_tokens: Some(100),
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

fn playing(request: ModelRequest, script: Value) -> ModelRequest {
    ModelRequest {
        model: ModelSpec { playback: Some(serde_json::from_value(script).unwrap()), ..request.model.clone() },
        ..request
    }
}

fn options(server: &Server) -> ActivitiesOptions {
    asking(Some(server.url("/v1/")), Some("sk-hunter2"))
}

/// Options with `openai` at this place.
fn asking(base_url: Option<String>, key: Option<&str>) -> ActivitiesOptions {
    let openai = ProviderOptions { base_url, api_key: key.map(Secret::new) };
    let models = ModelsOptions {
        providers: BTreeMap::from([(Provider::OpenAi, openai)]),
        retry_initial_ms: 1,
        ..ModelsOptions::default()
    };
    ActivitiesOptions { models, ..ActivitiesOptions::default() }
}

async fn ask(options: ActivitiesOptions, request: &ModelRequest) -> Result<ModelResponse, Fault> {
    run(options, "model", serde_json::to_value(request).unwrap())
        .await
        .map(|output| serde_json::from_value(output).unwrap())
}

fn completion(message: Value, finish_reason: Value) -> Response {
    let body = json!({"id": "x", "model": "gpt-x-2026", "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}});
    ([("content-type", "application/json")], body.to_string()).into_response()
}

fn hello() -> Response {
    completion(json!({"role": "assistant", "content": "Hello."}), json!("stop"))
}

#[tokio::test]
async fn a_question_goes_out_as_a_chat_completion() {
    let server = Server::answering(|_, _| hello()).await;
    let call = ToolCall { id: "c1".into(), name: "get".into(), arguments: json!({"id": 1}) };
    let broken = ToolCall { id: "c2".into(), name: String::new(), arguments: json!("{broken") };
    let mut request = request();
    request.messages.extend([
        Message::Assistant { content: Some("Looking.".into()), tool_calls: vec![call, broken], provider_data: None },
        Message::Tool { call_id: "c1".into(), name: "get".into(), content: "found".into(), failed: false },
    ]);
    request.tools =
        vec![ToolDescription { name: "get".into(), description: "Gets".into(), parameters: json!({"type": "object"}) }];
    request.output_schema = Some(json!({"type": "object"}));
    let response = ask(options(&server), &request).await.unwrap();
    assert_eq!(
        (
            response.text.as_deref(),
            response.finish_reason,
            response.input_tokens,
            response.output_tokens,
            response.usage_estimated
        ),
        (Some("Hello."), FinishReason::Stop, 12, 3, false)
    );
    assert_eq!((response.provider.as_str(), response.model.as_str()), ("openai", "gpt-x-2026"));

    let seen = &server.seen()[0];
    assert_eq!(
        (seen.uri.path(), seen.header("authorization"), seen.header("idempotency-key")),
        ("/v1/chat/completions", "Bearer sk-hunter2", "uid/do/0/pr%C3%BCfen/1")
    );
    let mut asked = seen.json();
    asked["messages"][3]["content"] = unframed(&asked["messages"][3]["content"]).into();
    assert_eq!(
        asked,
        json!({
            "model": "gpt-x", "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.5, "max_tokens": 100,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Looking.", "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "get", "arguments": "{\"id\":1}"}},
                    {"id": "c2", "type": "function", "function": {"name": "unknown", "arguments": "{broken"}}
                ]},
                {"role": "tool", "tool_call_id": "c1", "content": "found"}
            ],
            "tools": [{"type": "function", "function": {"name": "get", "description": "Gets", "parameters": {"type": "object"}}}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
        })
    );
}

#[tokio::test]
async fn calls_are_read_however_the_server_writes_them() {
    let server = Server::answering(|_, _| {
        let calls = json!([
            {"id": "c1", "type": "function", "function": {"name": "get", "arguments": "{\"id\": 1}"}},
            {"id": "c2", "function": {"name": "get", "arguments": {"id": 2}}},
            {"function": {"name": "get", "arguments": ""}},
            {"id": "c4", "function": {"arguments": "{broken"}},
            {"id": "c5"}
        ]);
        completion(json!({"role": "assistant", "content": null, "tool_calls": calls}), json!("tool_calls"))
    })
    .await;
    let response = ask(options(&server), &request()).await.unwrap();
    let calls: Vec<_> =
        response.tool_calls.iter().map(|call| (call.id.as_str(), call.name.as_str(), call.arguments.clone())).collect();
    assert_eq!(
        calls,
        [
            ("c1", "get", json!({"id": 1})),
            ("c2", "get", json!({"id": 2})),
            ("", "get", json!({})),
            ("c4", "", json!("{broken")),
            ("c5", "", json!({}))
        ]
    );
    assert_eq!((response.text, response.finish_reason), (None, FinishReason::ToolCalls));
}

#[tokio::test]
async fn reasons_parts_and_refusals_are_understood() {
    for (message, reason, text, expected) in [
        (
            json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
            "stop",
            Some("ab"),
            FinishReason::Stop,
        ),
        (json!({"content": "cut"}), "length", Some("cut"), FinishReason::Length),
        (json!({"content": null}), "content_filter", None, FinishReason::ContentFilter),
        (json!({"content": null, "refusal": "No."}), "stop", Some("No."), FinishReason::ContentFilter),
        (json!({"content": "x"}), "new_reason", Some("x"), FinishReason::Other),
    ] {
        let server = Server::answering(move |_, _| completion(message.clone(), json!(reason))).await;
        let response = ask(options(&server), &request()).await.unwrap();
        assert_eq!((response.text.as_deref(), response.finish_reason), (text, expected));
    }
}

#[tokio::test]
async fn usage_that_is_not_reported_is_estimated_never_zero() {
    let server = Server::answering(|_, _| {
        (
            [("content-type", "application/json")],
            r#"{"choices":[{"message":{"content":"Hello."},"finish_reason":"stop"}]}"#,
        )
            .into_response()
    })
    .await;
    let response = ask(options(&server), &request()).await.unwrap();
    assert!(response.usage_estimated && response.input_tokens > 10 && response.output_tokens > 0, "{response:?}");
}

#[tokio::test]
async fn nonsense_and_cut_answers_are_failures_and_not_repeated() {
    for (body, says) in [
        ("<html>sk-hunter2</html>", "not JSON"),
        ("{\"choices\": [{\"message\": {\"content\": \"half", "not JSON"),
        ("{}", "without a finish reason"),
        ("[]", "not a chat completion"),
        (r#"{"choices":[{"message":{"content":"half"},"finish_reason":null}]}"#, "without a finish reason"),
        (r#"{"error":{"message":"bad key sk-hunter2"}}"#, "answered with an error"),
    ] {
        let server = Server::answering(move |_, _| body.into_response()).await;
        let fault = ask(options(&server), &request()).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), server.seen().len()), (fault_type::COMMUNICATION, 1), "{fault}");
        assert!(fault.detail.as_deref().unwrap().contains(says) && !told(&fault).contains("hunter2"), "{fault}");
    }
}

#[tokio::test]
async fn what_may_pass_is_repeated_and_retry_after_is_honoured() {
    for (status, retry_after) in [(429, "0"), (503, "Wed, 21 Oct 2015 07:28:00 GMT"), (500, "nonsense")] {
        let server = Server::answering(move |number, _| match number {
            0 | 1 => (StatusCode::from_u16(status).unwrap(), [("retry-after", retry_after)], "busy").into_response(),
            _ => hello(),
        })
        .await;
        assert_eq!(ask(options(&server), &request()).await.unwrap().text.as_deref(), Some("Hello."));
        let seen = server.seen();
        assert_eq!(seen.len(), 3);
        let first = &seen[0];
        assert!(!first.header("idempotency-key").is_empty());
        assert!(seen.iter().all(
            |again| again.header("idempotency-key") == first.header("idempotency-key") && again.body == first.body
        ));
    }
}

#[tokio::test]
async fn repetition_ends_after_four_attempts_and_never_outlasts_the_task() {
    let server = Server::answering(|_, _| (StatusCode::INTERNAL_SERVER_ERROR, "always").into_response()).await;
    let fault = ask(options(&server), &request()).await.unwrap_err();
    assert_eq!((fault.status, server.seen().len()), (500, 4));

    let server =
        Server::answering(|_, _| (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3600")], "later").into_response())
            .await;
    let fault = ask(options(&server), &request()).await.unwrap_err();
    assert_eq!(
        (fault.status, fault.non_retryable, server.seen().len()),
        (429, false, 1),
        "waiting an hour would outlast the task"
    );
}

#[tokio::test]
async fn other_errors_of_the_caller_are_not_repeated_and_do_not_show_the_key() {
    for status in [400, 401, 403, 404] {
        let server = Server::answering(move |_, seen| {
            (StatusCode::from_u16(status).unwrap(), format!("bad: {}", seen.header("authorization"))).into_response()
        })
        .await;
        let fault = ask(options(&server), &request()).await.unwrap_err();
        assert_eq!(
            (fault.kind.as_str(), fault.status, fault.non_retryable, server.seen().len()),
            (fault_type::COMMUNICATION, status, true, 1)
        );
        assert!(told(&fault).contains("***") && !told(&fault).contains("hunter2"), "{fault}");
    }
}

#[tokio::test]
async fn the_key_goes_to_the_servers_own_model_url_only() {
    let (own, other) = (
        Server::answering(|_, _| hello()).await,
        Server::answering(|_, _| StatusCode::UNAUTHORIZED.into_response()).await,
    );
    let mut request = request();
    request.model.base_url = Some(other.url("/v1"));
    let fault = ask(options(&own), &request).await.unwrap_err();
    assert!(fault.detail.as_deref().unwrap().contains("only sent to the origin"), "{fault}");
    assert_eq!((own.seen().len(), other.seen()[0].header("authorization")), (0, ""));
    request.model.base_url = Some(own.url("/v2"));
    ask(options(&own), &request).await.unwrap();
    assert_eq!(
        (own.seen()[0].header("authorization"), own.seen()[0].uri.path()),
        ("Bearer sk-hunter2", "/v2/chat/completions")
    );
}

#[tokio::test]
async fn hanging_breaking_and_endless_models_are_faults() {
    let at = |address: std::net::SocketAddr| ActivitiesOptions {
        response_bytes_max: 100_000,
        ..asking(Some(format!("http://{address}")), None)
    };
    let input = serde_json::to_value(request()).unwrap();
    let hanging = raw_server(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let fault = world(at(hanging)).run(task("model", input, 50)).await.unwrap_err();
    assert_eq!(fault.kind, fault_type::TIMEOUT);
    let closing = raw_server(|stream| async move { drop(stream) }).await;
    assert_eq!(ask(at(closing), &request()).await.unwrap_err().kind, fault_type::COMMUNICATION);
    let endless = raw_server(|stream| stream_endlessly(stream, "200 OK")).await;
    assert_eq!(ask(at(endless), &request()).await.unwrap_err().kind, fault_type::TOO_LARGE);
}

#[tokio::test]
async fn playback_plays_the_turn_of_the_conversation_that_matches() {
    let script = json!({"conversations": [
        {"match": "order", "turns": [{"toolCalls": [{"name": "get", "arguments": {"id": 1}}], "inputTokens": 7, "outputTokens": 2}, {"json": {"total": 5}}]},
        {"match": "Hi", "turns": [{"text": "Hello."}]}
    ]});
    let mut request = playing(request(), script);
    request.model.provider = Provider::Playback;
    let response = ask(ActivitiesOptions::default(), &request).await.unwrap();
    assert_eq!(
        (response.text.as_deref(), response.provider.as_str(), response.model.as_str()),
        (Some("Hello."), "playback", "gpt-x")
    );

    request.messages = vec![Message::user("my order")];
    let response = ask(ActivitiesOptions::default(), &request).await.unwrap();
    assert_eq!(
        response.tool_calls,
        [ToolCall { id: "call_1_0".into(), name: "get".into(), arguments: json!({"id": 1}) }]
    );
    assert_eq!(
        (response.finish_reason, response.input_tokens, response.output_tokens),
        (FinishReason::ToolCalls, 7, 2)
    );
    request.messages.push(Message::Assistant { content: None, tool_calls: response.tool_calls, provider_data: None });
    request.messages.push(Message::Tool {
        call_id: "call_1_0".into(),
        name: "get".into(),
        content: "x".into(),
        failed: false,
    });
    assert_eq!(ask(ActivitiesOptions::default(), &request).await.unwrap().text.as_deref(), Some("{\"total\":5}"));

    request.messages.push(Message::Assistant {
        content: Some("y".into()),
        tool_calls: Vec::new(),
        provider_data: None,
    });
    let fault = ask(ActivitiesOptions::default(), &request).await.unwrap_err();
    assert_eq!(
        (fault.non_retryable, fault.detail.as_deref()),
        (true, Some("playback.conversations[0] has 2 turns, turn 3 was asked for"))
    );
    request.messages = vec![Message::user("weather")];
    let fault = ask(ActivitiesOptions::default(), &request).await.unwrap_err();
    assert_eq!(
        (fault.non_retryable, fault.detail.as_deref()),
        (true, Some("no conversation of the playback matches the message 'weather'; they match 'order', 'Hi'"))
    );
}

#[tokio::test]
async fn a_script_stands_in_only_where_no_url_is_configured() {
    let server = Server::answering(|_, _| hello()).await;
    let request = playing(request(), json!({"conversations": [{"turns": [{"text": "scripted"}]}]}));
    assert_eq!(ask(ActivitiesOptions::default(), &request).await.unwrap().provider, "playback");
    assert_eq!(ask(options(&server), &request).await.unwrap().provider, "openai");
    let fault = ask(
        ActivitiesOptions::default(),
        &ModelRequest { model: ModelSpec { playback: None, ..request.model.clone() }, ..request },
    )
    .await
    .unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::CONFIGURATION, true));
    assert!(fault.detail.unwrap().contains("set BATON_MODEL_BASE_URL"));
}

#[tokio::test]
async fn unusable_input_and_options_are_named_without_secrets() {
    let fault = run(ActivitiesOptions::default(), "model", json!({"model": 5})).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::CONFIGURATION, true));
    let refused = |options: ActivitiesOptions| WorldActivities::new(options, Arc::new(Homeless)).err().unwrap();
    let base = |url: &str| asking(Some(url.to_owned()), None);
    assert!(matches!(refused(base("not a url")), ActivitiesError::ModelBaseUrl { .. }));
    let error = refused(base("https://user:hunter2@models.test/v1")).to_string();
    assert!(error.contains("must not hold a user name") && !error.contains("hunter2"), "{error}");
    let key = asking(None, Some("hunter2\n"));
    assert!(!format!("{key:?}").contains("hunter2") && matches!(refused(key), ActivitiesError::ModelApiKey));
}

#[tokio::test]
async fn arguments_that_could_not_be_read_again_are_left_out() {
    let deep = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({"a": inner}));
    let script = json!({"conversations": [{"turns": [{"toolCalls": [{"name": "get", "arguments": deep(100)}, {"name": "get", "arguments": deep(101)}]}]}]});
    let mut request = playing(request(), script);
    request.model.provider = Provider::Playback;
    let calls = ask(ActivitiesOptions::default(), &request).await.unwrap().tool_calls;
    assert_eq!(calls[0].arguments, deep(100));
    assert_eq!(calls[1].arguments, json!("(left out: they are nested deeper than 100 levels)"));
}
