//! `baton event`: publishing events for workflows that listen.

use std::path::Path;

use baton_proto::{to_json_value, v1};
use serde_json::{Map, Value};

use super::Context;
use crate::{
    args::{EventCommand, Format, SendArgs},
    failure::Failure,
    manifest, output,
};

/// The specification of CloudEvents that events are written by.
const SPECVERSION: &str = "1.0";

pub(crate) async fn event(context: &Context, command: EventCommand) -> Result<(), Failure> {
    let EventCommand::Send(args) = command;
    let events = match &args.filename {
        Some(path) => of_file(path)?,
        None => vec![of_flags(&args)?],
    };
    let request = v1::PublishEventsRequest {
        namespace: context.namespace().to_owned(),
        events: events.iter().map(v1::Json::from_value).collect(),
    };
    let answer = context.client().await?.event_service().publish_events(request).await?.into_inner();
    let known = match answer.duplicates {
        0 => String::new(),
        count => format!(", {count} known already"),
    };
    context.printer.message(&format!("{} of {} events accepted{known}", answer.accepted, events.len()));
    match context.settings.output.value {
        Format::Table => Ok(()),
        Format::Name => events
            .iter()
            .try_for_each(|event| context.printer.data(&format!("event/{}", event["id"].as_str().unwrap_or_default()))),
        format => context.printer.data(&output::value(format, &to_json_value(&answer), String::new)),
    }
}

/// The events of a file: each document is one, or a list of some.
fn of_file(path: &Path) -> Result<Vec<Value>, Failure> {
    let mut events = Vec::new();
    for document in manifest::read_documents(path)? {
        match document {
            Value::Array(list) => events.extend(list),
            other => events.push(other),
        }
    }
    if events.is_empty() {
        return Err(Failure::refused(format!("{} holds no events", path.display())));
    }
    Ok(events)
}

fn of_flags(args: &SendArgs) -> Result<Value, Failure> {
    let mut event = Map::new();
    let id = args.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let given = [
        ("specversion", Some(SPECVERSION.to_owned())),
        ("id", Some(id)),
        ("source", Some(args.source.clone())),
        ("type", args.event_type.clone()),
        ("subject", args.subject.clone()),
    ];
    for (name, value) in given {
        event.extend(value.map(|value| (name.to_owned(), Value::String(value))));
    }
    for extension in &args.extension {
        let Some((name, value)) = extension.split_once('=') else {
            return Err(Failure::usage(format!("--extension '{extension}': must be NAME=VALUE")));
        };
        if event.insert(name.to_owned(), value.into()).is_some() {
            return Err(Failure::usage(format!("--extension '{name}' is set already")));
        }
    }
    if let Some(data) = &args.data {
        event.insert("data".to_owned(), data.value("--data")?);
    }
    Ok(Value::Object(event))
}
