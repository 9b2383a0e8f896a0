//! The activity `model` against a server that plays the providers, written by others: every protocol, what goes wrong, and how
//! often was really asked.

use baton_activities::{ActivitiesOptions, ModelsOptions, ProviderOptions, Secret, WorldActivities};
use baton_agent::{
    Attachment, FinishReason, Message, ModelRequest, ModelResponse, ModelSpec, Price, Provider, ReasoningEffort,
    RetrySpec, SecretKey, ToolDescription,
};
use baton_execution::{Activities as _, Fault, fault_type};
use serde_json::{Value, json};

use crate::{
    programs::Program,
    support::{TestHome, run, task, told, world},
};

const ALL: [Provider; 5] =
    [Provider::OpenAi, Provider::OpenAiResponses, Provider::Anthropic, Provider::Gemini, Provider::Ollama];
const KEY: &str = "sk-planted-0123456789";

fn base(mock: &Program, provider: Provider) -> String {
    match provider {
        Provider::OpenAi | Provider::OpenAiResponses => mock.url("/v1"),
        Provider::Anthropic | Provider::Gemini | Provider::Ollama | Provider::Playback => mock.url(""),
    }
}

fn path(provider: Provider) -> &'static str {
    match provider {
        Provider::OpenAi | Provider::Playback => "/v1/chat/completions",
        Provider::OpenAiResponses => "/v1/responses",
        Provider::Anthropic => "/v1/messages",
        Provider::Gemini => "/v1beta/models/test-model:streamGenerateContent",
        Provider::Ollama => "/api/chat",
    }
}

fn asking(mock: &Program, provider: Provider, message: &str) -> ModelRequest {
    ModelRequest {
        model: ModelSpec {
            name: "test-model".into(),
            provider,
            base_url: Some(base(mock, provider)),
            api_key: Some(SecretKey { secret: "models".into(), key: "key".into() }),
            retry: Some(RetrySpec { initial_interval_ms: Some(1), ..RetrySpec::default() }),
            ..ModelSpec::default()
        },
        instructions: "Be brief.".into(),
        messages: vec![Message::user(message)],
        tools: Vec::new(),
        output_schema: None,
        earlier: None,
        recalled: 0,
    }
}

fn with_tools(request: ModelRequest) -> ModelRequest {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let tool = ToolDescription { name: "get_weather".into(), description: "Tells the weather".into(), parameters };
    ModelRequest { tools: vec![tool], ..request }
}

async fn ask_for(request: &ModelRequest, start_to_close_ms: u64) -> Result<ModelResponse, Fault> {
    let models = ModelsOptions { retry_initial_ms: 1, ..ModelsOptions::default() };
    let home = TestHome::with(&[("models", &[("key", KEY)])]);
    let world = WorldActivities::new(ActivitiesOptions { models, ..ActivitiesOptions::default() }, home).unwrap();
    let output = world.run(task("model", serde_json::to_value(request).unwrap(), start_to_close_ms)).await?;
    assert!(!output.to_string().contains(KEY), "{output}");
    Ok(serde_json::from_value(output).unwrap())
}

async fn ask(request: &ModelRequest) -> Result<ModelResponse, Fault> {
    ask_for(request, 30_000).await
}

/// What the server was asked, in order.
async fn journal(mock: &Program) -> Vec<Value> {
    let input = json!({"method": "GET", "endpoint": mock.url("/__aimock/journal")});
    let entries = run(ActivitiesOptions::default(), "http", input).await.unwrap();
    entries.as_array().unwrap().iter().filter(|entry| entry["method"] == "POST").cloned().collect()
}

/// The conversation after its calls were answered.
fn answered(mut request: ModelRequest, response: ModelResponse) -> ModelRequest {
    let results = response.tool_calls.iter().enumerate().map(|(index, call)| Message::Tool {
        call_id: if call.id.is_empty() { format!("call_1_{index}") } else { call.id.clone() },
        name: call.name.clone(),
        content: "sunny".into(),
        failed: false,
    });
    let results: Vec<Message> = results.collect();
    let (content, tool_calls, provider_data) = (response.text, response.tool_calls, response.provider_data);
    request.messages.push(Message::Assistant { content, tool_calls, provider_data });
    request.messages.extend(results);
    request
}

#[tokio::test]
async fn each_protocol_gives_text_tokens_and_the_name_of_who_answered() {
    let mock = Program::models().await;
    for provider in ALL {
        let mut request = asking(&mock, provider, "hello");
        request.model.price = Price::from_dollars(1.0, 10.0, None);
        let response = ask(&request).await.unwrap();
        assert_eq!(
            (response.text.as_deref(), response.finish_reason, response.provider.as_str()),
            (Some("Hello from far away."), FinishReason::Stop, provider.as_str())
        );
        // The mock of Ollama has neither figures nor a name of its own.
        if provider != Provider::Ollama {
            assert_eq!((response.input_tokens, response.output_tokens, response.usage_estimated), (21, 6, false));
            assert_eq!(response.cost_micros, Some(21 + 60));
        }
        assert!(!response.model.is_empty() && response.tool_calls.is_empty(), "{response:?}");
    }
    let journal = journal(&mock).await;
    let paths: Vec<&str> =
        journal.iter().map(|entry| entry["path"].as_str().unwrap().split('?').next().unwrap()).collect();
    assert_eq!(paths, ALL.map(path), "each was asked once");
    for (entry, provider) in journal.iter().zip(ALL) {
        assert_eq!(entry["headers"]["idempotency-key"], json!("uid/do/0/pr%C3%BCfen/1"));
        assert!(is_keyed(entry, provider), "{entry}");
    }
}

/// Whether a key came in the provider's own header; the journal does not show it.
fn is_keyed(entry: &Value, provider: Provider) -> bool {
    entry["headers"][match provider {
        Provider::Anthropic => "x-api-key",
        Provider::Gemini => "x-goog-api-key",
        Provider::OpenAi | Provider::OpenAiResponses | Provider::Ollama | Provider::Playback => "authorization",
    }]
    .is_string()
}

#[tokio::test]
async fn a_key_of_the_server_goes_to_the_place_that_is_configured_with_it() {
    let (own, other) = (Program::models().await, Program::models().await);
    let configured = |provider| {
        (provider, ProviderOptions { base_url: Some(base(&own, provider)), api_key: Some(Secret::new(KEY)) })
    };
    let models = ModelsOptions { providers: ALL.into_iter().map(configured).collect(), ..ModelsOptions::default() };
    let world = world(ActivitiesOptions { models, ..ActivitiesOptions::default() });
    for provider in ALL {
        for base_url in [None, Some(base(&own, provider)), Some(base(&other, provider))] {
            let mut request = asking(&own, provider, "hello");
            request.model = ModelSpec { base_url, api_key: None, ..request.model };
            world.run(task("model", serde_json::to_value(request).unwrap(), 30_000)).await.unwrap();
        }
    }
    let (own, other) = (journal(&own).await, journal(&other).await);
    assert_eq!((own.len(), other.len()), (2 * ALL.len(), ALL.len()));
    assert!(own.iter().zip(ALL.into_iter().flat_map(|it| [it, it])).all(|(entry, provider)| is_keyed(entry, provider)));
    assert!(other.iter().zip(ALL).all(|(entry, provider)| !is_keyed(entry, provider)), "{other:?}");
}

#[tokio::test]
async fn parallel_calls_come_whole_and_their_results_go_back() {
    let mock = Program::models().await;
    for provider in ALL {
        let request = with_tools(asking(&mock, provider, "weather"));
        let response = ask(&request).await.unwrap();
        let called: Vec<(&str, &Value)> =
            response.tool_calls.iter().map(|call| (call.name.as_str(), &call.arguments)).collect();
        assert_eq!(
            called,
            [("get_weather", &json!({"city": "Kyiv"})), ("get_weather", &json!({"city": "Lviv"}))],
            "{provider:?}"
        );
        let again = answered(request, response);
        assert_eq!(ask(&again).await.unwrap().text.as_deref(), Some("Sunny in both."), "{provider:?}");
    }
    assert_eq!(journal(&mock).await.len(), 2 * ALL.len());
}

#[tokio::test]
async fn structured_output_and_a_cut_answer_are_told_apart() {
    let mock = Program::models().await;
    for provider in ALL {
        let mut request = asking(&mock, provider, "sum");
        request.output_schema =
            Some(json!({"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}));
        let response = ask(&request).await.unwrap();
        let text = response.text.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"total": 5}), "{provider:?}");
        if provider != Provider::Ollama {
            let response = ask(&asking(&mock, provider, "long")).await.unwrap();
            assert_eq!(response.finish_reason, FinishReason::Length, "{provider:?}");
        }
    }
}

#[tokio::test]
async fn what_may_pass_is_repeated_and_counted_by_the_server() {
    let mock = Program::models().await;
    for (asked, provider) in ALL.into_iter().enumerate() {
        let response = ask(&asking(&mock, provider, "busy")).await.unwrap();
        assert_eq!(response.text.as_deref(), Some("Now."), "{provider:?}");
        // The first of all was refused once, and waited for the second that the server demanded.
        assert_eq!(journal(&mock).await.len(), asked + 2);
    }
    let first_two = journal(&mock).await;
    assert_eq!(first_two[0]["headers"]["idempotency-key"], first_two[1]["headers"]["idempotency-key"]);
    let mut seen = journal(&mock).await.len();
    for provider in ALL {
        for (message, status, calls) in [("down", 500, 4), ("wrong", 400, 1), ("closed", 429, 1)] {
            let fault = ask(&asking(&mock, provider, message)).await.unwrap_err();
            assert_eq!((fault.kind.as_str(), fault.status), (fault_type::COMMUNICATION, status), "{fault}");
            assert_eq!(fault.non_retryable, status == 400);
            assert!(!told(&fault).contains(KEY), "{fault}");
            let now = journal(&mock).await.len();
            assert_eq!(now - seen, calls, "{provider:?} {message}");
            seen = now;
        }
    }
}

#[tokio::test]
async fn the_policy_of_the_agent_says_how_often() {
    let mock = Program::models().await;
    let mut request = asking(&mock, Provider::Anthropic, "down");
    request.model.retry = Some(RetrySpec {
        maximum_attempts: Some(2),
        initial_interval_ms: Some(1),
        maximum_interval_ms: Some(2),
        backoff_coefficient: Some(1.5),
    });
    assert_eq!(ask(&request).await.unwrap_err().status, 500);
    assert_eq!(journal(&mock).await.len(), 2);
}

#[tokio::test]
async fn streams_that_break_off_or_are_garbled_are_failures() {
    let mock = Program::models().await;
    let mut seen = 0;
    for provider in ALL {
        for (message, calls) in [("cut", 4), ("garbled", 1), ("gone", 4)] {
            let fault = ask(&asking(&mock, provider, message)).await.unwrap_err();
            assert_eq!(fault.kind, fault_type::COMMUNICATION, "{provider:?} {message}: {fault}");
            let now = journal(&mock).await.len();
            assert_eq!(now - seen, calls, "{provider:?} {message}: {fault}");
            seen = now;
        }
    }
}

#[tokio::test]
async fn reasoning_goes_back_to_the_model_that_did_it_and_to_no_other() {
    let mock = Program::models().await;
    for (provider, name) in [(Provider::Anthropic, "claude-sonnet-4-5"), (Provider::OpenAiResponses, "gpt-5")] {
        let mut request = with_tools(asking(&mock, provider, "think"));
        request.model.name = name.into();
        request.model.reasoning_effort = Some(ReasoningEffort::Low);
        let response = ask(&request).await.unwrap();
        let data = response.provider_data.clone().expect("the provider wants to see something again");
        assert_eq!((data.provider.as_str(), data.model.as_str()), (provider.as_str(), name));
        assert_eq!(response.text, None, "reasoning is no answer: {response:?}");

        let again = answered(request, response);
        assert_eq!(ask(&again).await.unwrap().text.as_deref(), Some("Thought through."), "{provider:?}");
        let last = journal(&mock).await.pop().unwrap();
        assert!(last["body"].to_string().contains("call_t"), "the call went back: {last}");
        let mut other = again;
        other.model.name = format!("{name}-other");
        assert_eq!(ask(&other).await.unwrap().text.as_deref(), Some("Thought through."), "it begins without thinking");
    }
}

#[tokio::test]
async fn a_fallback_answers_and_says_so() {
    let mock = Program::models().await;
    let mut request = asking(&mock, Provider::OpenAi, "hello");
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let down = |provider| ModelSpec { base_url: Some(format!("http://{nobody}")), ..asking(&mock, provider, "").model };
    let up = asking(&mock, Provider::Anthropic, "").model;
    request.model = ModelSpec { fallbacks: vec![down(Provider::Gemini), up], ..down(Provider::OpenAi) };
    let response = ask(&request).await.unwrap();
    assert_eq!((response.provider.as_str(), response.text.as_deref()), ("anthropic", Some("Hello from far away.")));

    request.model.fallbacks.pop();
    let fault = ask(&request).await.unwrap_err();
    let detail = fault.detail.as_deref().unwrap();
    assert!(
        detail.contains("'test-model' of 'openai': ") && detail.contains("; then 'test-model' of 'gemini': "),
        "{fault}"
    );

    // A model that does not answer in its own time does not take that of the next one.
    let hanging = crate::support::raw_server(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let slow = ModelSpec {
        base_url: Some(format!("http://{hanging}")),
        timeout_ms: Some(50),
        fallbacks: vec![asking(&mock, Provider::Ollama, "").model],
        ..down(Provider::OpenAi)
    };
    let response = ask(&ModelRequest { model: slow, ..request }).await.unwrap();
    assert_eq!(response.provider, "ollama");
}

#[tokio::test]
async fn images_and_files_are_taken_where_the_provider_takes_them() {
    let mock = Program::models().await;
    let attachment = |name: &str, media_type: &str, data: Option<&str>, url: Option<&str>| Attachment {
        name: name.into(),
        media_type: media_type.into(),
        data: data.map(str::to_owned),
        url: url.map(str::to_owned),
        digest: None,
    };
    let image = attachment("a.png", "image/png", Some("aGk="), None);
    let notes = attachment("notes.txt", "text/plain", Some("bm90ZXM="), None);
    let pdf = attachment("a.pdf", "application/pdf", None, Some("https://example.com/a.pdf"));
    let sound = attachment("a.ogg", "audio/ogg", Some("aGk="), None);
    for provider in ALL {
        let mut request = asking(&mock, provider, "look");
        let with = |attachments: Vec<Attachment>| vec![Message::User { content: "look".into(), attachments }];
        request.messages = with(vec![image.clone(), notes.clone()]);
        assert_eq!(ask(&request).await.unwrap().text.as_deref(), Some("I see it."), "{provider:?}");
        let takes_pdf = !matches!(provider, Provider::OpenAi | Provider::Ollama);
        for (given, taken) in [(&pdf, takes_pdf), (&sound, provider == Provider::Gemini)] {
            request.messages = with(vec![given.clone()]);
            match ask(&request).await {
                Ok(response) => assert!(taken && response.text.is_some(), "{provider:?} {}", given.name),
                Err(fault) => {
                    assert!(!taken && fault.non_retryable, "{provider:?}: {fault}");
                    assert!(fault.detail.unwrap().contains(&given.name));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_missing_secret_is_named_and_nothing_is_asked() {
    let mock = Program::models().await;
    for (secret, key, kind, says) in [
        ("nobody", "key", fault_type::AUTHORIZATION, "no secret 'nobody'"),
        ("models", "nothing", fault_type::CONFIGURATION, "has no key 'nothing'; keys are 'key'"),
    ] {
        let mut request = asking(&mock, Provider::Gemini, "hello");
        request.model.api_key = Some(SecretKey { secret: secret.into(), key: key.into() });
        let fault = ask(&request).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.non_retryable), (kind, true));
        assert!(fault.detail.unwrap().contains(says));
    }
    assert_eq!(journal(&mock).await.len(), 0);
}
