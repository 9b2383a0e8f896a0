//! One long run of an agent: how its history grows with the calls of its model. Each call asks with the whole conversation so
//! far; the history is to hold what was said once, not once for each call.

use std::path::Path;

use anyhow::{anyhow, bail};
use baton_proto::{
    from_json_value,
    history_v1::history_event::Attributes,
    v1::{AgentExecution, HistoryRequest},
};
use baton_server::app::WriteOptions;
use futures::StreamExt as _;
use prost::Message as _;
use serde_json::{Value, json};

use crate::{
    site::{Site, serve_no_op},
    table::Table,
};

pub(crate) const NAME: &str = "agent: history of one run";
/// Calls of the model after which the history is measured.
const CALLS: [usize; 3] = [10, 50, 100];
/// Length of what the model says each time, in bytes.
const SAID_BYTES: usize = 1024;

/// An agent whose model calls a tool each turn, until its last one.
fn run(url: &str, calls: usize) -> Value {
    let turn =
        |n: usize| json!({"text": "x".repeat(SAID_BYTES), "toolCalls": [{"name": "look", "arguments": {"n": n}}]});
    let mut turns: Vec<Value> = (1..calls).map(turn).collect();
    turns.push(json!({"text": "done"}));
    let definition = json!({
        "instructions": "Look.",
        "model": {"name": "scripted", "provider": "playback", "playback": {"conversations": [{"turns": turns}]}},
        "tools": [{
            "name": "look", "description": "Looks", "readOnly": true,
            "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
            "http": {"method": "GET", "url": url},
        }],
        "limits": {"maxTurns": calls},
    });
    json!({"metadata": {"name": "long"}, "spec": {"definition": definition, "message": "Go on."}})
}

/// Bytes of history after so many calls of the model, and for each of them.
pub(crate) async fn measure(folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(folder)?;
    let site = Site::open(directory.path(), None).await?;
    let url = serve_no_op().await?;
    let most = CALLS.into_iter().max().unwrap_or_default();
    let execution: AgentExecution = from_json_value(run(&url, most))?;
    site.app().create(execution, WriteOptions::default()).await.map_err(|error| anyhow!("{error}"))?;
    let request = HistoryRequest { name: "long".to_owned(), ..HistoryRequest::default() };
    let watched = site.app().watch_history::<AgentExecution>(&request).await.map_err(|error| anyhow!("{error}"))?;
    let mut events = std::pin::pin!(watched);
    let (mut calls, mut bytes, mut measured) = (0_usize, 0_usize, Vec::new());
    while let Some(event) = events.next().await {
        let event = event.map_err(|error| anyhow!("{error}"))?;
        let is_call = matches!(&event.attributes, Some(Attributes::ActivityScheduled(it)) if it.activity == "model");
        if is_call && CALLS.contains(&calls) {
            measured.push((calls, bytes));
        }
        calls += usize::from(is_call);
        bytes += event.encoded_len();
    }
    measured.push((calls, bytes));
    if measured.iter().map(|(calls, _)| *calls).ne(CALLS) {
        bail!("{NAME}: it was measured after {measured:?}");
    }
    for (calls, bytes) in measured {
        table.figure(&format!("{NAME}: after so many calls of the model"), calls, bytes.to_string(), "B");
        table.figure(&format!("{NAME}: for each call"), calls, format!("{:.0}", bytes as f64 / calls as f64), "B");
    }
    site.server.shutdown().await;
    Ok(())
}
