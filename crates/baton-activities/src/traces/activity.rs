//! The span of an activity: a call of a model, of a tool, or any other.

use std::time::SystemTime;

use baton_agent::{FinishReason, ModelRequest, ModelResponse, Provider};
use baton_execution::{ActivityTask, Fault, ProgramKind};
use reqwest::header::HeaderValue;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::{Attribute, Span, SpanId, Tracer, messages, traceparent};

/// Activities that ask another service.
const CLIENTS: [&str; 8] = ["a2a", "asyncapi", "grpc", "http", "mcp", "model", "openapi", "subscribe"];

/// An activity that runs, for its span. One that is stopped, as its execution is cancelled or its time is over, is told of when
/// this is dropped.
pub(crate) struct Watched {
    tracer: Tracer,
    span: Option<Span>,
}

impl Watched {
    /// Begins to watch; `None` for work that belongs to no execution.
    pub(crate) fn begin(tracer: &Tracer, task: &ActivityTask) -> Option<Self> {
        let origin = &task.origin;
        let kind = origin.kind?;
        let is_model = task.activity == "model";
        let tool = origin.labels.get("tool").and_then(Value::as_str);
        let place = task.id.position.rsplit('/').next().unwrap_or_default();
        let now = SystemTime::now();
        let mut span = Span {
            root: origin.root.unwrap_or(task.execution),
            id: SpanId::of_operation(task.execution, &task.id.position, task.id.attempt),
            parent: Some(SpanId::of_execution(task.execution)),
            name: match tool {
                Some(tool) => format!("execute_tool {tool}"),
                None => format!("{} {place}", task.activity),
            },
            is_client: CLIENTS.contains(&task.activity.as_str()) && tool.is_none(),
            start: now,
            end: now,
            attributes: vec![
                ("baton.namespace", task.namespace.as_str().into()),
                ("baton.execution.kind", kind.execution_kind().into()),
                ("baton.execution.name", task.name.as_str().into()),
                ("baton.execution.uid", task.execution.to_string().as_str().into()),
                ("baton.position", task.id.position.as_str().into()),
                ("baton.attempt", u64::from(task.id.attempt).into()),
                ("baton.activity", task.activity.as_str().into()),
            ],
            error: None,
        };
        if kind == ProgramKind::Agent {
            let named = [("gen_ai.agent.name", &origin.template), ("gen_ai.conversation.id", &origin.session)];
            let named = named.into_iter().filter(|(_, text)| !text.is_empty());
            span.attributes.extend(named.map(|(name, text)| (name, text.as_str().into())));
        }
        if is_model && let Ok(request) = ModelRequest::deserialize(&task.input) {
            asked(&mut span, &request, tracer.wants_content());
        }
        if tool.is_some() {
            called(&mut span, &origin.labels, tracer.wants_content());
        }
        Some(Self { tracer: tracer.clone(), span: Some(span) })
    }

    /// The header by which whoever is called joins the trace.
    pub(crate) fn traceparent(&self) -> Option<HeaderValue> {
        let span = self.span.as_ref()?;
        traceparent(span.root, span.id)
    }

    /// It has ended.
    pub(crate) fn end(mut self, result: &Result<Value, Fault>) {
        let Some(mut span) = self.span.take() else { return };
        span.end = SystemTime::now();
        let content = self.tracer.wants_content();
        match result {
            Ok(output) if is(&span, "chat") => {
                if let Ok(response) = ModelResponse::deserialize(output) {
                    answered(&mut span, &response, content);
                }
            }
            Ok(output) if is(&span, "execute_tool") && content => {
                span.attributes.push(("gen_ai.tool.call.result", Attribute::Content(output.to_string())));
            }
            Ok(_) => {}
            Err(fault) => span.error = Some(error(fault, content)),
        }
        self.tracer.emit(span);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.end = SystemTime::now();
            span.error = Some(("stopped".to_owned(), "it was stopped before it had ended".to_owned()));
            self.tracer.emit(span);
        }
    }
}

/// Whether it is a span of this operation of the conventions.
fn is(span: &Span, operation: &str) -> bool {
    let found = span.attributes.iter().find(|(name, _)| *name == "gen_ai.operation.name");
    found.is_some_and(|(_, value)| *value == operation.into())
}

/// What a fault says; in its own words, which may be those of who was called, only with content.
fn error(fault: &Fault, content: bool) -> (String, String) {
    let kind = fault.kind.rsplit('/').next().unwrap_or_default().to_owned();
    let title = fault.title.clone().unwrap_or_else(|| kind.clone());
    let words = fault.detail.clone().filter(|_| content).unwrap_or(title);
    (kind, words)
}

fn asked(span: &mut Span, request: &ModelRequest, content: bool) {
    let model = &request.model;
    span.name = format!("chat {}", model.name);
    let mut add = |name, value: Attribute| span.attributes.push((name, value));
    add("gen_ai.operation.name", "chat".into());
    add("gen_ai.provider.name", provider(model.provider.as_str()).into());
    add("gen_ai.request.model", model.name.as_str().into());
    let numbers = [("gen_ai.request.temperature", model.temperature), ("gen_ai.request.top_p", model.top_p)];
    for (name, number) in numbers {
        if let Some(number) = number {
            add(name, Attribute::Number(number));
        }
    }
    if let Some(tokens) = model.max_output_tokens {
        add("gen_ai.request.max_tokens", u64::from(tokens).into());
    }
    if let Some(seed) = model.seed {
        add("gen_ai.request.seed", u64::from(seed).into());
    }
    if !model.stop.is_empty() {
        add("gen_ai.request.stop_sequences", Attribute::Texts(model.stop.clone()));
    }
    add("gen_ai.output.type", if request.output_schema.is_some() { "json" } else { "text" }.into());
    if content {
        add("gen_ai.system_instructions", Attribute::Content(messages::instructions(request)));
        add("gen_ai.input.messages", Attribute::Content(messages::input(request)));
    }
}

fn answered(span: &mut Span, response: &ModelResponse, content: bool) {
    let mut add = |name, value: Attribute| span.attributes.push((name, value));
    // Who has answered may be a fallback.
    add("baton.response.provider", response.provider.as_str().into());
    add("gen_ai.response.model", response.model.as_str().into());
    add("gen_ai.response.finish_reasons", Attribute::Texts(vec![finish_reason(response).to_owned()]));
    add("gen_ai.usage.input_tokens", response.input_tokens.into());
    add("gen_ai.usage.output_tokens", response.output_tokens.into());
    if response.cached_input_tokens > 0 {
        add("gen_ai.usage.cache_read.input_tokens", response.cached_input_tokens.into());
    }
    if let Some(cost) = response.cost_micros {
        add("baton.usage.cost_microdollars", cost.into());
    }
    if content {
        add("gen_ai.output.messages", Attribute::Content(messages::output(response, finish_reason(response))));
    }
}

fn called(span: &mut Span, labels: &Map<String, Value>, content: bool) {
    let text = |name: &str| labels.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut add = |name, value: Attribute| span.attributes.push((name, value));
    add("gen_ai.operation.name", "execute_tool".into());
    add("gen_ai.tool.name", text("tool").into());
    add("gen_ai.tool.type", "function".into());
    if !text("callId").is_empty() {
        add("gen_ai.tool.call.id", text("callId").into());
    }
    if let Some(arguments) = labels.get("arguments").filter(|_| content) {
        add("gen_ai.tool.call.arguments", Attribute::Content(arguments.to_string()));
    }
}

/// A provider in the words of the conventions, where they have one.
fn provider(name: &str) -> &str {
    let known = [Provider::OpenAi, Provider::OpenAiResponses, Provider::Gemini];
    match known.into_iter().find(|it| it.as_str() == name) {
        Some(Provider::OpenAi | Provider::OpenAiResponses) => "openai",
        Some(Provider::Gemini) => "gcp.gemini",
        Some(Provider::Anthropic | Provider::Ollama | Provider::Playback) | None => name,
    }
}

const fn finish_reason(response: &ModelResponse) -> &'static str {
    match response.finish_reason {
        FinishReason::Stop => "stop",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Length => "length",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Other => "other",
    }
}
