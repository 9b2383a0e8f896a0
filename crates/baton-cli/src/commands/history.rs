//! `baton history`: what happened in an execution.

use baton_proto::{
    history_v1::{HistoryEvent, history_event::Attributes},
    v1,
};
use serde_json::json;

use super::{Context, describe::PAGE_EVENTS};
use crate::{
    args::{Format, HistoryArgs},
    client::Client,
    failure::{Blame, Failure},
    kind::Kind,
    output::{self, HistoryRow},
};

pub(crate) async fn history(context: &Context, args: HistoryArgs) -> Result<(), Failure> {
    let (kind, name) = args.kind.execution(args.name)?;
    let client = context.client().await?;
    if args.follow {
        return follow(context, &client, kind, &name, args.after).await;
    }
    let (mut after, mut all) = (args.after, Vec::new());
    let format = context.settings.output.value;
    let mut is_first = true;
    loop {
        let request = v1::HistoryRequest {
            namespace: context.namespace().to_owned(),
            name: name.clone(),
            after,
            limit: PAGE_EVENTS,
        };
        let page = client.history(kind, request).await?;
        for event in page.events {
            if matches!(format, Format::Json | Format::Yaml) {
                all.push(baton_proto::to_json_value(&event));
            } else {
                show(context, &event, is_first)?;
                is_first = false;
            }
        }
        if page.next_after == 0 {
            break;
        }
        after = page.next_after;
    }
    let whole = json!({"events": all});
    match format {
        Format::Json => context.printer.data(&output::pretty(&whole)),
        Format::Yaml => context.printer.data(&output::yaml(&whole)),
        Format::Table | Format::Jsonl | Format::Name => Ok(()),
    }
}

/// Events as they are recorded; a broken stream is opened again after the last number.
async fn follow(context: &Context, client: &Client, kind: Kind, name: &str, mut after: i32) -> Result<(), Failure> {
    let (mut is_first, mut tries) = (true, 0);
    loop {
        let request =
            v1::HistoryRequest { namespace: context.namespace().to_owned(), name: name.to_owned(), after, limit: 0 };
        let mut stream = client.watch_history(kind, request).await?;
        let failure = loop {
            match stream.message().await {
                Ok(Some(event)) => {
                    show(context, &event, is_first)?;
                    (after, is_first, tries) = (event.number, false, 0);
                    if matches!(event.attributes, Some(Attributes::Ended(_))) {
                        return Ok(());
                    }
                }
                // It had ended before the number that was asked for.
                Ok(None) => return Ok(()),
                Err(status) => break Failure::from(status),
            }
        };
        tries += 1;
        if failure.blame() != Blame::Environment || tries > 3 {
            return Err(failure);
        }
    }
}

fn show(context: &Context, event: &HistoryEvent, with_header: bool) -> Result<(), Failure> {
    let json = || baton_proto::to_json_value(event);
    match context.settings.output.value {
        Format::Table | Format::Name => {
            let line = HistoryRow::of(event).line();
            context.printer.data(&if with_header { format!("{}\n{line}", output::history_header()) } else { line })
        }
        Format::Json => context.printer.data(&output::pretty(&json())),
        Format::Jsonl => context.printer.data(&json().to_string()),
        Format::Yaml => context.printer.data(&format!("---\n{}", output::yaml(&json()))),
    }
}
