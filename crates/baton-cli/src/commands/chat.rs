//! `baton chat`: a conversation on a terminal, or from a pipe.
//!
//! Each line is a turn: an execution in the session, followed to its end like any other. A turn that does not end well is
//! told, and the conversation goes on; the exit code is that of the last turn.

use std::io::IsTerminal as _;

use baton_proto::{ExecutionResource, v1};
use baton_types::Phase;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::mpsc,
};

use super::Context;
use crate::{
    args::{ChatArgs, Format},
    client::Client,
    failure::Failure,
    kind::{Kind, Object},
    output,
    progress::ExecutionKey,
    run::{Following, Signals, follow},
};

/// Longest line, in bytes: what is longer is no message that somebody types.
const LINE_BYTES_MAX: usize = 256 * 1024;

pub(crate) async fn chat(context: &Context, args: ChatArgs) -> Result<(), Failure> {
    let client = context.client().await?;
    let session = session_of(context, &client, &args).await?;
    let mut signals = Signals::new()?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut last = Ok(());
    loop {
        if std::io::stdin().is_terminal() && context.printer.is_interactive() {
            context.printer.raw("> ");
        }
        let line = tokio::select! {
            line = lines.next_line() => line.map_err(|error| Failure::environment("read the next line").because(&error))?,
            () = signals.next() => return last,
        };
        let Some(line) = line else { return last };
        if line.trim().is_empty() {
            continue;
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(Failure::usage(format!("a line has {} bytes, allowed are up to {LINE_BYTES_MAX}", line.len())));
        }
        last = turn(context, &client, &args, &session, line, &mut signals).await;
        if let Err(failure) = &last {
            context.printer.failure(failure);
            last = Err(Failure::told());
        }
    }
}

/// The session to talk in, which is made if none is named.
async fn session_of(context: &Context, client: &Client, args: &ChatArgs) -> Result<String, Failure> {
    if let Some(session) = &args.session {
        return Ok(session.strip_prefix("session/").unwrap_or(session).to_owned());
    }
    let agent = args.agent.clone().unwrap_or_default();
    let metadata = v1::ObjectMeta {
        generate_name: format!("{agent}-"),
        namespace: context.namespace().to_owned(),
        ..v1::ObjectMeta::default()
    };
    let spec = v1::SessionSpec { agent: agent.clone(), ..v1::SessionSpec::default() };
    let session = v1::Session { metadata: Some(metadata), spec: Some(spec), ..v1::Session::default() };
    let made = client.create(Object::from(session), false).await?.object.name().to_owned();
    context.printer.message(&format!("session {made}; go on with it by baton chat {agent} --session {made}"));
    Ok(made)
}

/// One message and its answer.
async fn turn(
    context: &Context,
    client: &Client,
    args: &ChatArgs,
    session: &str,
    message: String,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let metadata = v1::ObjectMeta {
        generate_name: format!("{session}-"),
        namespace: context.namespace().to_owned(),
        ..v1::ObjectMeta::default()
    };
    let spec = v1::AgentExecutionSpec {
        agent: args.agent.clone().unwrap_or_default(),
        session: session.to_owned(),
        message: message.clone(),
        timeout: args.timeout.clone(),
        ..v1::AgentExecutionSpec::default()
    };
    let execution = v1::AgentExecution { metadata: Some(metadata), spec: Some(spec), ..v1::AgentExecution::default() };
    let created = client.create(Object::from(execution), false).await?.object;
    let (_, mut logs) = mpsc::channel(1);
    let ended = follow(Following {
        client,
        printer: context.printer,
        namespace: context.namespace(),
        key: ExecutionKey { kind: Kind::AgentExecution, name: created.name().to_owned() },
        logs: &mut logs,
        signals,
    })
    .await?;
    answer(context, &message, &ended)
}

fn answer(context: &Context, message: &str, ended: &ExecutionResource) -> Result<(), Failure> {
    let name = &ended.metadata().name;
    if ended.phase() != Phase::Completed {
        let why = ended.error().and_then(Option::as_ref).map(|problem| problem.detail.clone()).unwrap_or_default();
        let why = if why.is_empty() { why } else { format!(": {why}") };
        return Err(Failure::refused(format!("'{name}' ended as {}{why}", ended.phase())));
    }
    let output = ended.output().and_then(Option::as_ref).map_or(Ok(Value::Null), v1::Json::to_value);
    let output = output.map_err(|error| Failure::environment("read the answer").because(&error))?;
    let whole = || json!({"message": message, "answer": output, "execution": name});
    match context.settings.output.value {
        Format::Table => context.printer.data(output.as_str().unwrap_or(&output::pretty(&output))),
        Format::Json => context.printer.data(&output::pretty(&whole())),
        Format::Jsonl => context.printer.data(&whole().to_string()),
        Format::Yaml => context.printer.data(&format!("---\n{}", output::yaml(&whole()))),
        Format::Name => context.printer.data(&format!("agentexecution/{name}")),
    }
}
