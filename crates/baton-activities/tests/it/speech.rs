//! What a model says is emitted while it says it: whole, in order, begun anew where it is asked again, and without secrets.

use std::sync::{Arc, Mutex};

use axum::response::{IntoResponse as _, Response};
use baton_activities::{ActivitiesOptions, ModelsOptions, WorldActivities};
use baton_agent::{
    Message, ModelDelta, ModelRequest, ModelResponse, ModelSpec, Provider, RetrySpec, SecretKey, ToolDescription,
};
use baton_execution::{Activities as _, Emit, Emitter, secret_placeholder};
use serde_json::{Value, json};

use crate::{
    programs::Program,
    support::{Server, TestHome, task},
};

const KEY: &str = "sk-planted-0123456789";

/// What was heard; `None` where the answer began anew.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<Option<Value>>>>);

impl Emit for Ear {
    fn emit(&self, value: Value) {
        self.0.lock().unwrap().push(Some(value));
    }

    fn reset(&self) {
        let mut heard = self.0.lock().unwrap();
        if !heard.is_empty() {
            heard.push(None);
        }
    }
}

/// An answer put together from its parts.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    text: String,
    reasoning: String,
    calls: Vec<(String, String)>,
    parts: usize,
    resets: usize,
}

impl Ear {
    /// All that was emitted, since the answer began for the last time.
    fn heard(&self) -> Heard {
        let mut heard = Heard::default();
        for value in self.0.lock().unwrap().iter() {
            let Some(value) = value else {
                heard = Heard { resets: heard.resets + 1, ..Heard::default() };
                continue;
            };
            heard.parts += 1;
            match serde_json::from_value(value.clone()).unwrap() {
                ModelDelta::Text(more) => heard.text += &more,
                ModelDelta::Reasoning(more) => heard.reasoning += &more,
                ModelDelta::ToolCall(more) => {
                    let index = usize::try_from(more.index).unwrap();
                    heard.calls.resize(heard.calls.len().max(index + 1), (String::new(), String::new()));
                    heard.calls[index].0 += &more.name;
                    heard.calls[index].1 += &more.arguments;
                }
            }
        }
        heard
    }

    fn all(&self) -> String {
        format!("{:?}", self.0.lock().unwrap())
    }
}

fn request(provider: Provider, base_url: String, message: &str) -> ModelRequest {
    ModelRequest {
        model: ModelSpec {
            name: "test-model".into(),
            provider,
            base_url: Some(base_url),
            api_key: Some(SecretKey { secret: "models".into(), key: "key".into() }),
            retry: Some(RetrySpec { maximum_attempts: Some(2), initial_interval_ms: Some(1), ..RetrySpec::default() }),
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

/// Asks with somebody listening.
async fn ask(request: &ModelRequest) -> (ModelResponse, Ear) {
    let models = ModelsOptions { retry_initial_ms: 1, ..ModelsOptions::default() };
    let home = TestHome::with(&[("models", &[("key", KEY)]), ("other", &[("key", "correct horse battery staple")])]);
    let world = WorldActivities::new(ActivitiesOptions { models, ..ActivitiesOptions::default() }, home).unwrap();
    let ear = Ear::default();
    let mut task = task("model", serde_json::to_value(request).unwrap(), 30_000);
    task.emitter = Emitter::new(ear.clone());
    let response = serde_json::from_value(world.run(task).await.unwrap()).unwrap();
    (response, ear)
}

#[tokio::test]
async fn each_protocol_is_heard_as_it_is_recorded() {
    let mock = Program::models().await;
    for (provider, base) in [
        (Provider::OpenAi, "/v1"),
        (Provider::OpenAiResponses, "/v1"),
        (Provider::Anthropic, ""),
        (Provider::Gemini, ""),
        (Provider::Ollama, ""),
    ] {
        let (response, ear) = ask(&request(provider, mock.url(base), "hello")).await;
        let heard = ear.heard();
        assert_eq!(Some(heard.text.as_str()), response.text.as_deref(), "{provider:?}");
        assert!(heard.parts > 0 && heard.calls.is_empty() && heard.resets == 0, "{provider:?}: {heard:?}");

        let mut asked = request(provider, mock.url(base), "weather");
        let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        asked.tools = vec![ToolDescription { name: "get_weather".into(), description: "Tells".into(), parameters }];
        let (response, ear) = ask(&asked).await;
        let heard: Vec<(String, Value)> = ear
            .heard()
            .calls
            .into_iter()
            .map(|(name, arguments)| (name, serde_json::from_str(&arguments).unwrap()))
            .collect();
        let recorded: Vec<(String, Value)> =
            response.tool_calls.into_iter().map(|call| (call.name, call.arguments)).collect();
        assert_eq!(heard, recorded, "{provider:?}");
        assert_eq!(heard.len(), 2);
    }
}

fn stream(frames: &[Value]) -> Response {
    let said = frames.iter().map(Value::to_string).chain(["[DONE]".to_owned()]);
    let body = said.map(|frame| format!("data: {frame}\n\n")).collect::<Vec<_>>().concat();
    ([("content-type", "text/event-stream")], body).into_response()
}

fn chat(delta: Value, reason: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
}

#[tokio::test]
async fn an_answer_that_breaks_off_begins_anew() {
    let server = Server::answering(|number, _| match number {
        0 => stream(&[chat(json!({"content": "Hel"}), Value::Null)]),
        _ => stream(&[
            chat(json!({"reasoning_content": "Hm."}), Value::Null),
            chat(json!({"content": "Good "}), Value::Null),
            chat(json!({"content": "day."}), json!("stop")),
        ]),
    })
    .await;
    let (response, ear) = ask(&request(Provider::OpenAi, server.url("/v1"), "hello")).await;
    assert_eq!(response.text.as_deref(), Some("Good day."));
    let heard = Heard { text: "Good day.".into(), reasoning: "Hm.".into(), parts: 3, resets: 1, calls: Vec::new() };
    assert_eq!(ear.heard(), heard);
    assert!(ear.all().contains("Hel"), "what broke off was heard: {}", ear.all());
}

#[tokio::test]
async fn no_secret_is_heard_however_it_is_cut_into_pieces() {
    let told = format!("The key is {KEY}, and the other one correct horse battery staple. Keep \"them\".");
    for size in [1, 2, 3, 7, 20] {
        let told = told.clone();
        let server = Server::answering(move |_, _| {
            let characters: Vec<char> = told.chars().collect();
            let pieces = |text: &[char]| -> Vec<String> { text.chunks(size).map(|it| it.iter().collect()).collect() };
            let arguments: Vec<char> =
                json!({"key": told, "percent": "correct%20horse%20battery%20staple"}).to_string().chars().collect();
            let mut frames: Vec<Value> = Vec::new();
            for piece in pieces(&characters) {
                frames.push(chat(json!({"content": piece}), Value::Null));
                frames.push(chat(json!({"reasoning_content": piece}), Value::Null));
            }
            for piece in pieces(&arguments) {
                let call = json!({"index": 0, "id": "c1", "function": {"name": "f", "arguments": piece}});
                frames.push(chat(json!({"tool_calls": [call]}), Value::Null));
            }
            frames.push(chat(json!({}), json!("tool_calls")));
            stream(&frames)
        })
        .await;
        let mut asked = request(Provider::OpenAi, server.url("/v1"), "tell");
        asked.instructions = format!("The word is {}.", secret_placeholder("other", "key"));
        let (response, ear) = ask(&asked).await;
        let heard = ear.heard();
        assert_eq!(heard.text, "The key is ***, and the other one ***. Keep \"them\".", "in pieces of {size}");
        assert_eq!((Some(&heard.text), &heard.text), (response.text.as_ref(), &heard.reasoning));
        assert_eq!(serde_json::from_str::<Value>(&heard.calls[0].1).unwrap(), response.tool_calls[0].arguments);
        assert!(heard.parts > 10 / size, "{heard:?}");
        for part in [KEY, "correct horse", "correct%20horse", "battery", "planted", "staple"] {
            assert!(!ear.all().contains(part), "{part} in pieces of {size}: {}", ear.all());
        }
    }
}

#[tokio::test]
async fn a_script_is_heard_word_by_word() {
    let mut asked = request(Provider::Playback, String::new(), "hi");
    let turns = json!([{"text": "one two three", "toolCalls": [{"name": "look", "arguments": {"at": "it"}}]}]);
    asked.model = ModelSpec {
        playback: Some(serde_json::from_value(json!({"conversations": [{"turns": turns}]})).unwrap()),
        name: "script".into(),
        provider: Provider::Playback,
        ..ModelSpec::default()
    };
    let (_, ear) = ask(&asked).await;
    let calls = vec![("look".to_owned(), r#"{"at":"it"}"#.to_owned())];
    assert_eq!(
        ear.heard(),
        Heard { text: "one two three".into(), reasoning: String::new(), calls, parts: 5, resets: 0 }
    );
}
