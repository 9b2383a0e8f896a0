//! `baton describe`.

use std::collections::VecDeque;

use baton_proto::{history_v1::HistoryEvent, v1};

use super::Context;
use crate::{args::DescribeArgs, client::Client, failure::Failure, kind::Kind, output};

/// Events at the end of the history that are shown.
const EVENTS_SHOWN: usize = 15;
/// Events asked for at once; the most that the server gives.
pub(super) const PAGE_EVENTS: i32 = 1000;

pub(crate) async fn describe(context: &Context, args: DescribeArgs) -> Result<(), Failure> {
    let (kind, name) = args.kind.named(args.name)?;
    let client = context.client().await?;
    let object = client.get(kind, context.namespace(), &name).await?;
    let events =
        if kind.is_execution() { last_events(&client, kind, context.namespace(), &name).await? } else { Vec::new() };
    context.printer.data(&output::describe(&object, &events, output::now_ms()))
}

async fn last_events(client: &Client, kind: Kind, namespace: &str, name: &str) -> Result<Vec<HistoryEvent>, Failure> {
    let (mut last, mut after) = (VecDeque::new(), 0);
    loop {
        let request =
            v1::HistoryRequest { namespace: namespace.to_owned(), name: name.to_owned(), after, limit: PAGE_EVENTS };
        let page = client.history(kind, request).await?;
        last.extend(page.events);
        while last.len() > EVENTS_SHOWN {
            last.pop_front();
        }
        if page.next_after == 0 {
            return Ok(last.into());
        }
        after = page.next_after;
    }
}
