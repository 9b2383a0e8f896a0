//! `baton watch`: changes as they happen, until it is interrupted.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::json;

use super::{Context, get::selection};
use crate::{
    args::{Format, WatchArgs},
    client::Change,
    failure::{Blame, Failure},
    output::{self, Columns},
};

/// Pause before a broken stream is opened again; doubled each time.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Streams opened in vain, one after the other, before it is given up.
const TRIES_MAX: u32 = 10;

pub(crate) async fn watch(context: &Context, args: WatchArgs) -> Result<(), Failure> {
    let (kind, name) = args.kind.with_name(args.name)?;
    let mut selection = selection(context, &args.selector);
    if let Some(name) = name {
        let fields = if selection.fields.is_empty() { String::new() } else { format!("{},", selection.fields) };
        selection.fields = format!("{fields}metadata.name={name}");
    }
    let columns = if args.selector.all_namespaces { Columns::WithNamespace } else { Columns::Narrow };
    let client = context.client().await?;
    let (mut version, mut tries, mut pause) = (String::new(), 0, PAUSE);
    let mut is_first = true;
    loop {
        let failure = match client.watch(kind, &selection, &version).await {
            Err(failure) => failure,
            Ok(mut changes) => loop {
                match changes.next().await {
                    Some(Ok(change)) => {
                        (tries, pause) = (0, PAUSE);
                        version.clone_from(&change.object.metadata().resource_version);
                        if change.what != "BOOKMARK" {
                            show(context, &change, columns, is_first)?;
                            is_first = false;
                        }
                    }
                    Some(Err(failure)) => break failure,
                    None => break Failure::environment("the stream of changes broke off"),
                }
            },
        };
        tries += 1;
        match failure.blame() {
            // What was seen last is no longer kept: begin anew, with the present state.
            _ if failure.code() == Some(tonic::Code::OutOfRange) && !version.is_empty() => version.clear(),
            Blame::Environment if tries <= TRIES_MAX => {}
            Blame::Environment | Blame::Refused | Blame::Usage | Blame::ReaderGone => return Err(failure),
        }
        tracing::debug!(%failure, "watch again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn show(context: &Context, change: &Change, columns: Columns, with_header: bool) -> Result<(), Failure> {
    let event = || json!({"type": change.what, "object": change.object.to_json()});
    let text = match context.settings.output.value {
        Format::Table => output::change_rows(&change.what, &change.object, columns, with_header),
        Format::Json => output::pretty(&event()),
        Format::Jsonl => event().to_string(),
        Format::Yaml => format!("---\n{}", output::yaml(&event())),
        Format::Name => change.object.reference(),
    };
    context.printer.data(&text)
}
