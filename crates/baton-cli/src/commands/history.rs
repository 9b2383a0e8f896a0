//! `baton history`: what happened in an execution.

use baton_proto::{
    history_v1::{HistoryEvent, history_event::Attributes},
    v1::{self, stream_item::Item},
};
use serde_json::json;

use super::{Context, describe::PAGE_EVENTS};
use crate::{
    args::{Format, HistoryArgs},
    client::Client,
    failure::{Blame, Failure},
    kind::Kind,
    output::{self, HistoryRow, Speech},
};

pub(crate) async fn history(context: &Context, args: HistoryArgs) -> Result<(), Failure> {
    let (kind, name) = args.kind.execution(args.name)?;
    let client = context.client().await?;
    if args.follow {
        let with_deltas = args.deltas || context.printer.data_is_interactive();
        return follow(context, &client, kind, &name, Followed { after: args.after, with_deltas }).await;
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

/// What of an execution is followed.
struct Followed {
    /// Events after this number.
    after: i32,
    /// Also what is being made.
    with_deltas: bool,
}

/// Events as they are recorded; a broken stream is opened again after the last number.
async fn follow(context: &Context, client: &Client, kind: Kind, name: &str, what: Followed) -> Result<(), Failure> {
    let Followed { mut after, with_deltas } = what;
    let (mut is_first, mut tries) = (true, 0);
    let mut speech = Speech::default();
    loop {
        let request = v1::StreamRequest { namespace: context.namespace().to_owned(), name: name.to_owned(), after };
        let mut stream = client.stream(kind, request).await?;
        let failure = loop {
            match stream.message().await {
                Ok(Some(v1::StreamItem { item: Some(Item::Event(event)), .. })) => {
                    context.printer.piece(speech.end())?;
                    show(context, &event, is_first)?;
                    (after, is_first, tries) = (event.number, false, 0);
                    if matches!(event.attributes, Some(Attributes::Ended(_))) {
                        return Ok(());
                    }
                }
                Ok(Some(v1::StreamItem { item: Some(Item::Delta(delta)), .. })) if with_deltas => {
                    show_delta(context, &delta, &mut speech)?;
                }
                Ok(Some(_)) => {}
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

/// For people the words as they come; for programs each part as a document of its own.
fn show_delta(context: &Context, delta: &v1::Delta, speech: &mut Speech) -> Result<(), Failure> {
    let json = || json!({"delta": baton_proto::to_json_value(delta)});
    match context.settings.output.value {
        Format::Table | Format::Name => context.printer.piece(&speech.words(delta)),
        Format::Json | Format::Jsonl => context.printer.data(&json().to_string()),
        Format::Yaml => context.printer.data(&format!("---\n{}", output::yaml(&json()))),
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
