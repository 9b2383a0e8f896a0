//! Models in specs, in requests, and what their calls cost.

use baton_agent::{
    Attachment, Message, ModelResponse, Price, Provider, ProviderData, ReasoningEffort, SecretKey, check,
    check_attachments,
};
use baton_execution::fault_type;
use serde_json::{Value, json};

use crate::support::{Run, calls, model_id, says, spec, spec_with, tool_id};

fn violations(model: Value) -> Vec<String> {
    check(&spec_with(json!({"model": model}))).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn every_setting_is_read() {
    let spec = spec_with(json!({"model": {
        "name": "claude-sonnet-4-5", "provider": "anthropic", "baseUrl": "https://models.test", "apiKey": {"secret": "models", "key": "anthropic"},
        "temperature": 0.5, "topP": 0.9, "maxOutputTokens": 100, "stop": ["END"], "reasoningEffort": "low", "timeout": "10s",
        "retry": {"maximumAttempts": 2, "initialInterval": "1s", "maximumInterval": "5s", "backoffCoefficient": 1.5},
        "price": {"inputPerMillion": 3, "outputPerMillion": "15".parse::<f64>().unwrap(), "cachedInputPerMillion": 0.3, "currency": "USD"},
        "fallbacks": [{"name": "gpt-5", "provider": "openai-responses"}, {"name": "x", "provider": "ollama", "seed": 7}]
    }}));
    let definition = check(&spec).unwrap();
    let model = definition.model();
    assert_eq!((model.provider, model.reasoning_effort), (Provider::Anthropic, Some(ReasoningEffort::Low)));
    assert_eq!(model.api_key, Some(SecretKey { secret: "models".into(), key: "anthropic".into() }));
    let retry = model.retry.unwrap();
    assert_eq!(
        (retry.maximum_attempts, retry.initial_interval_ms, retry.maximum_interval_ms),
        (Some(2), Some(1000), Some(5000))
    );
    assert_eq!(model.price, Price::from_dollars(3.0, 15.0, Some(0.3)));
    assert_eq!(
        model.fallbacks.iter().map(|it| (it.provider, it.seed)).collect::<Vec<_>>(),
        [(Provider::OpenAiResponses, None), (Provider::Ollama, Some(7))]
    );
}

#[test]
fn what_cannot_be_is_named_with_its_path() {
    for (model, expected) in [
        (
            json!({"name": "x", "provider": "anthropic", "seed": 1}),
            vec!["model.seed: is not known to the provider 'anthropic'"],
        ),
        (
            json!({"name": "x", "provider": "openai-responses", "stop": ["a"]}),
            vec!["model.stop: is not known to the provider 'openai-responses'"],
        ),
        (
            json!({"name": "x", "reasoningEffort": "extreme"}),
            vec![
                "model.reasoningEffort: 'extreme' is not an effort; allowed are 'none', 'minimal', 'low', 'medium', 'high'",
            ],
        ),
        (json!({"name": "x", "topP": 2}), vec!["model.topP: must be a number from 0 to 1, found 2"]),
        (
            json!({"name": "x", "stop": ["", 5]}),
            vec!["model.stop[0]: has 0 bytes, allowed are 1 to 256", "model.stop[1]: must be a string, found a number"],
        ),
        (
            json!({"name": "x", "apiKey": {"secret": "Not A Name"}}),
            vec!["model.apiKey.secret: ", "model.apiKey.key: must be given and must not be empty"],
        ),
        (
            json!({"name": "x", "retry": {"maximumAttempts": 0}}),
            vec!["model.retry.maximumAttempts: must be a whole number from 1 to 10, found 0"],
        ),
        (
            json!({"name": "x", "price": {"inputPerMillion": 1, "currency": "EUR"}}),
            vec!["model.price.outputPerMillion: must be given", "model.price.currency: must be 'USD'"],
        ),
        (
            json!({"name": "x", "price": {"inputPerMillion": -1, "outputPerMillion": 1}}),
            vec!["model.price.inputPerMillion: must be a number from 0 to 1000000, found -1"],
        ),
        (
            json!({"name": "x", "fallbacks": [{"name": "y", "fallbacks": []}, {}]}),
            vec!["model.fallbacks[0].fallbacks: unknown field", "model.fallbacks[1].name: must be given"],
        ),
    ] {
        let found = violations(model.clone());
        assert_eq!(found.len(), expected.len(), "{model}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }
}

#[test]
fn a_call_may_take_as_long_as_all_models_together() {
    let fallback = json!({"name": "y", "timeout": "20s"});
    let spec = spec_with(json!({"model": {"name": "x", "timeout": "10s", "fallbacks": [fallback, {"name": "z"}]}}));
    let run = Run::started(&spec, "Hi", Value::Null);
    assert_eq!(run.activities()[0].start_to_close_ms, 10_000 + 20_000 + 300_000);
    assert_eq!(run.request(1).model.fallbacks.len(), 2);
}

#[test]
fn costs_add_up_and_unknown_ones_are_counted() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    let paid = |micros: Option<u64>, response: ModelResponse| ModelResponse {
        cost_micros: micros,
        cached_input_tokens: 4,
        ..response
    };
    run.model(1, paid(Some(1_250_000), calls(&[("get_order", json!({"id": "1"}))])));
    run.completes(&tool_id(1, 0, "get_order"), json!("x"));
    run.model(2, paid(None, calls(&[("get_order", json!({"id": "2"}))])));
    run.completes(&tool_id(2, 0, "get_order"), json!("x"));
    run.model(3, paid(Some(40), says("Done.")));
    let usage = run.program().progress().usage;
    assert_eq!((usage.cost_micros, usage.cost_unknown_calls, usage.cached_input_tokens), (1_250_040, 1, 12));
    assert_eq!(usage.cost().as_deref(), Some("1.25004"));
}

#[test]
fn a_cost_that_is_not_known_is_not_shown_as_nothing() {
    let cost = |cost_micros: Option<u64>| {
        let mut run = Run::started(&spec(), "Hi", Value::Null);
        run.model(1, ModelResponse { cost_micros, ..says("Done.") });
        run.program().progress().usage.cost()
    };
    assert_eq!((cost(None), cost(Some(0)).as_deref(), cost(Some(1)).as_deref()), (None, Some("0"), Some("0.000001")));
}

#[test]
fn an_answer_recorded_before_costs_were_is_read() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    let recorded = json!({"text": "Done.", "finishReason": "stop", "inputTokens": 10, "outputTokens": 5, "provider": "openai", "model": "m"});
    run.completes(&model_id(1), recorded);
    let usage = run.program().progress().usage;
    assert_eq!((usage.input_tokens, usage.cost_unknown_calls, usage.cost()), (10, 1, None));
}

#[test]
fn what_a_provider_wants_to_see_again_stays_with_its_answer() {
    let mut run = Run::started(&spec(), "Hi", Value::Null);
    let data = ProviderData { provider: "anthropic".into(), model: "m".into(), data: json!({"thinking": [1]}) };
    run.model(1, ModelResponse { provider_data: Some(data.clone()), ..calls(&[("get_order", json!({"id": "1"}))]) });
    run.completes(&tool_id(1, 0, "get_order"), json!("x"));
    let request = run.request(2);
    let said = request.messages.iter().find_map(|message| match message {
        Message::Assistant { provider_data, .. } => provider_data.as_ref(),
        Message::User { .. } | Message::Tool { .. } => None,
    });
    assert_eq!(said, Some(&data));
}

#[test]
fn attachments_belong_to_the_first_message() {
    let image = json!({"name": "a.png", "mediaType": "image/png", "data": "aGk="});
    let input = json!({"message": "Look", "input": null, "attachments": [image]});
    let run = Run::started_with(&spec(), input, Value::Null);
    let attachments = vec![Attachment {
        name: "a.png".into(),
        media_type: "image/png".into(),
        data: Some("aGk=".into()),
        url: None,
        digest: None,
    }];
    assert_eq!(run.request(1).messages, [Message::User { content: "Look".into(), attachments }]);

    // Data that happens to have a field of that name is data.
    let run = Run::started_with(&spec(), json!({"a": 1, "attachments": 5}), Value::Null);
    assert_eq!(run.request(1).messages, [Message::user("{\"a\":1,\"attachments\":5}")]);

    let run = Run::started_with(&spec(), json!({"message": "Look", "attachments": [{}]}), Value::Null);
    let (fault, _) = run.fault();
    assert_eq!(fault.kind, fault_type::CONFIGURATION);
    assert!(fault.detail.as_deref().unwrap().contains("[0].name"));
}

#[test]
fn the_examples_of_the_documentation_are_good() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/agents/models.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut checked = 0;
    for block in text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let example: Value = serde_yaml_ng::from_str(block).unwrap();
        let violations = match example.get("model") {
            Some(model) => check(&spec_with(json!({"model": model}))).err(),
            None => check_attachments(&example["spec"]["attachments"]).err(),
        };
        assert_eq!(violations, None, "{block}");
        checked += 1;
    }
    assert!(checked >= 9, "an example of each provider, found {checked}");
}
