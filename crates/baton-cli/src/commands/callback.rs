//! `baton callback`: making, answering and looking after callback tokens.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_proto::v1::{self, Problem};
use baton_types::{format_duration, parse_duration};

use super::Context;
use crate::{
    args::{CallbackCommand, Format, TokenArgs},
    failure::Failure,
    kind::{Kind, KindArg},
    manifest::{self, InputArg},
    output,
    settings::{Environment as _, ProcessEnvironment, env_vars},
};

/// The longest that the server waits in one call is 60 s.
const WAIT_PIECE: Duration = Duration::from_secs(30);

pub(crate) async fn callback(context: &Context, command: CallbackCommand) -> Result<(), Failure> {
    match command {
        CallbackCommand::Create { expires_after } => create(context, expires_after).await,
        CallbackCommand::Await { token, timeout } => wait(context, &token, timeout.as_deref()).await,
        CallbackCommand::Complete { token, result } => complete(context, &token, result.as_ref()).await,
        CallbackCommand::Fail { token, detail, error_type, title, status, non_retryable } => {
            let error = Problem { r#type: error_type, title, status, detail, non_retryable, ..Problem::default() };
            let request = v1::FailCallbackRequest { callback_token: read_token(&token)?, error: Some(error) };
            let answer = context.client().await?.callback_service().fail_callback(request).await?.into_inner();
            answered(context, &answer, "failed")
        }
        CallbackCommand::Cancel { token, reason } => {
            let request = v1::CancelCallbackRequest { callback_token: read_token(&token)?, reason };
            let answer = context.client().await?.callback_service().cancel_callback(request).await?.into_inner();
            answered(context, &answer, "cancelled")
        }
        CallbackCommand::Heartbeat { token } => heartbeat(context, &token).await,
        CallbackCommand::List { kind, name } => {
            let (kind, name) = kind.execution(name)?;
            let request = v1::ListCallbacksRequest { namespace: context.namespace().to_owned(), name };
            let list = context.client().await?.callbacks(kind, request).await?;
            show_list(context, &list)
        }
        CallbackCommand::Retry { kind, name, fingerprint } => {
            let (kind, name) = kind.execution(name)?;
            let request = v1::RetryCallbackRequest { namespace: context.namespace().to_owned(), name, fingerprint };
            let list = context.client().await?.retry_callback(kind, request).await?;
            show_list(context, &list)
        }
        CallbackCommand::Attach { execution, token } => attach(context, execution, &token).await,
    }
}

async fn create(context: &Context, expires_after: String) -> Result<(), Failure> {
    let request = v1::CreateCallbackRequest { namespace: context.namespace().to_owned(), expires_after };
    let answer = context.client().await?.callback_service().create_callback(request).await?.into_inner();
    let expires = answer.expires.map(|time| time.to_string()).unwrap_or_default();
    context.printer.message(&format!("callback {} is accepted until {expires}", answer.fingerprint));
    context.printer.hint("whoever can read the token can answer it; collect the answer with baton callback await");
    let token = shown_token(&answer.callback_token);
    // As REST answers: the token in base64, as JSON has bytes, and in plain if it is plain.
    let mut json = baton_proto::to_json_value(&answer);
    if token.as_bytes() == answer.callback_token.as_slice() {
        json["token"] = token.as_str().into();
    }
    context.printer.data(&output::value(context.settings.output.value, &json, || token.clone()))
}

async fn wait(context: &Context, token: &TokenArgs, timeout: Option<&str>) -> Result<(), Failure> {
    let callback_token = read_token(token)?;
    let limit = timeout.map(parse_duration).transpose().map_err(|says| Failure::usage(format!("--timeout: {says}")))?;
    let mut service = context.client().await?.callback_service();
    let began = Instant::now();
    loop {
        let left = limit.map(|limit| limit.saturating_sub(began.elapsed()));
        let piece = left.map_or(WAIT_PIECE, |left| left.min(WAIT_PIECE));
        let request =
            v1::AwaitCallbackRequest { callback_token: callback_token.clone(), timeout: format_duration(piece) };
        let answer = service.await_callback(request).await?.into_inner();
        match answer.state.as_str() {
            "Waiting" if left.is_some_and(|left| left.is_zero()) => {
                let limit = limit.map(format_duration).unwrap_or_default();
                return Err(Failure::refused(format!("no answer within {limit}"))
                    .hint("await it again: the answer is kept until the token expires"));
            }
            "Waiting" => {}
            "Completed" => {
                let value = answer.output.as_ref().map_or(Ok(serde_json::Value::Null), v1::Json::to_value);
                let value = value.map_err(|error| Failure::environment("read the output").because(&error))?;
                return context
                    .printer
                    .data(&output::value(context.settings.output.value, &value, || output::pretty(&value)));
            }
            _ => {
                if let Some(problem) = &answer.error {
                    context.printer.say(&output::pretty(&baton_proto::to_json_value(problem)));
                }
                return Err(Failure::refused(format!("the answer is {}", answer.state)));
            }
        }
    }
}

async fn complete(context: &Context, token: &TokenArgs, result: Option<&InputArg>) -> Result<(), Failure> {
    let value = result.map(|result| result.value("--result")).transpose()?;
    let request = v1::CompleteCallbackRequest {
        callback_token: read_token(token)?,
        output: value.as_ref().map(v1::Json::from_value),
    };
    let answer = context.client().await?.callback_service().complete_callback(request).await?.into_inner();
    answered(context, &answer, "completed")
}

async fn heartbeat(context: &Context, token: &TokenArgs) -> Result<(), Failure> {
    let request = v1::HeartbeatCallbackRequest { callback_token: read_token(token)? };
    let answer = context.client().await?.callback_service().heartbeat_callback(request).await?.into_inner();
    let json = baton_proto::to_json_value(&answer);
    let words = if answer.cancel_requested { "cancel requested" } else { "still wanted" };
    context.printer.data(&output::value(context.settings.output.value, &json, || words.to_owned()))
}

async fn attach(context: &Context, execution: KindArg, token: &TokenArgs) -> Result<(), Failure> {
    let (kind, name): (Kind, String) = execution.execution(None)?;
    let request = v1::AttachCallbackRequest {
        namespace: context.namespace().to_owned(),
        name,
        callback_token: read_token(token)?,
    };
    let list = context.client().await?.attach_callback(kind, request).await?;
    show_list(context, &list)
}

fn answered(context: &Context, answer: &v1::AnswerResponse, how: &str) -> Result<(), Failure> {
    context.printer.message(&format!("callback {} {how}", answer.fingerprint));
    match context.settings.output.value {
        Format::Table => Ok(()),
        Format::Name => context.printer.data(&answer.fingerprint),
        format => context.printer.data(&output::value(format, &baton_proto::to_json_value(answer), String::new)),
    }
}

fn show_list(context: &Context, list: &v1::CallbackList) -> Result<(), Failure> {
    let json = baton_proto::to_json_value(list);
    context
        .printer
        .data(&output::value(context.settings.output.value, &json, || output::callbacks_table(list, output::now_ms())))
}

/// The bytes of a token, from the command line, stdin, a file or the environment.
fn read_token(args: &TokenArgs) -> Result<Vec<u8>, Failure> {
    let given = match &args.token {
        Some(token) => manifest::read_text("the token", token)?,
        None => ProcessEnvironment.read(env_vars::CALLBACK_TOKEN).ok_or_else(|| {
            Failure::usage("the token is missing")
                .hint(format!("give it as an argument, as - on stdin, or in {}", env_vars::CALLBACK_TOKEN))
        })?,
    };
    let text = given.trim();
    if text.is_empty() {
        return Err(Failure::usage("the token is empty"));
    }
    if args.base64 {
        return STANDARD.decode(text).map_err(|error| Failure::usage("the token is not base64").because(&error));
    }
    Ok(text.as_bytes().to_vec())
}

/// A token as text; one that is not text as base64.
fn shown_token(token: &[u8]) -> String {
    match std::str::from_utf8(token) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => text.to_owned(),
        _ => STANDARD.encode(token),
    }
}
