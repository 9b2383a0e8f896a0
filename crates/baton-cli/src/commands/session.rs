//! `baton session`: conversations.

use std::fmt::Write as _;

use baton_proto::{to_json_value, v1};
use serde_json::json;

use super::Context;
use crate::{
    args::{ExportArgs, Format, SessionCommand},
    failure::Failure,
    output,
};

pub(crate) async fn session(context: &Context, command: SessionCommand) -> Result<(), Failure> {
    match command {
        SessionCommand::Export(args) => export(context, args).await,
    }
}

async fn export(context: &Context, args: ExportArgs) -> Result<(), Failure> {
    let name = args.name.strip_prefix("session/").unwrap_or(&args.name).to_owned();
    let request =
        v1::ExportSessionRequest { namespace: context.namespace().to_owned(), name: name.clone(), after: args.after };
    let client = context.client().await?;
    let mut turns = client.export_session(request).await?;
    let format = context.settings.output.value;
    let mut all = Vec::new();
    if format == Format::Table {
        context.printer.data(&format!("# Session {name}"))?;
    }
    while let Some(turn) = turns.message().await? {
        match format {
            Format::Table => context.printer.data(&markdown(&turn))?,
            Format::Name => context.printer.data(&format!("agentexecution/{}", turn.execution))?,
            Format::Jsonl => context.printer.data(&to_json_value(&turn).to_string())?,
            Format::Json | Format::Yaml => all.push(to_json_value(&turn)),
        }
    }
    let whole = json!({"turns": all});
    match format {
        Format::Json => context.printer.data(&output::pretty(&whole)),
        Format::Yaml => context.printer.data(&output::yaml(&whole)),
        Format::Table | Format::Jsonl | Format::Name => Ok(()),
    }
}

/// A turn for people: who said what.
fn markdown(turn: &v1::ExportedTurn) -> String {
    let when = turn.started.map(|time| time.to_string()).unwrap_or_default();
    let mut text = format!("\n## Turn {}: {} ({}, {when})\n", turn.turn, turn.execution, turn.phase);
    if !turn.summary.is_empty() {
        said(&mut text, "summary of the turns before", &turn.summary);
    }
    for message in turn.messages.iter().filter_map(|message| message.to_value().ok()) {
        let word = |field: &str| message[field].as_str().unwrap_or_default();
        match word("role") {
            "tool" => {
                let failed = if message["failed"].as_bool().unwrap_or(false) { " failed" } else { "" };
                said(&mut text, &format!("tool {}{failed}", word("name")), word("content"));
            }
            role => {
                if !word("content").is_empty() {
                    said(&mut text, role, word("content"));
                }
                for call in message["toolCalls"].as_array().into_iter().flatten() {
                    let name = call["name"].as_str().unwrap_or_default();
                    said(&mut text, &format!("{role} calls {name}"), &call["arguments"].to_string());
                }
                for file in message["attachments"].as_array().into_iter().flatten() {
                    said(&mut text, &format!("{role} attaches"), file["name"].as_str().unwrap_or("a file"));
                }
            }
        }
    }
    text
}

/// What somebody said, quoted: headings and the like in it are text.
fn said(text: &mut String, who: &str, what: &str) {
    let _ = write!(text, "\n**{who}**\n\n");
    for line in what.lines() {
        let _ = writeln!(text, "{}", format!("> {line}").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_turn_reads_like_a_conversation() {
        let message = |value: Value| v1::Json { text: value.to_string() };
        let turn = v1::ExportedTurn {
            turn: 2,
            execution: "clerk-x".into(),
            phase: "Completed".into(),
            messages: vec![
                message(json!({"role": "user", "content": "Where is\n# my order?"})),
                message(
                    json!({"role": "assistant", "toolCalls": [{"id": "1", "name": "look", "arguments": {"id": "17"}}]}),
                ),
                message(json!({"role": "tool", "callId": "1", "name": "look", "content": "{}", "failed": true})),
                message(json!({"role": "assistant", "content": "No idea."})),
            ],
            ..v1::ExportedTurn::default()
        };
        let expected = "\n## Turn 2: clerk-x (Completed, )\n\n**user**\n\n> Where is\n> # my order?\n\n**assistant calls look**\n\n> {\"id\":\"17\"}\n\n**tool look failed**\n\n> {}\n\n**assistant**\n\n> No idea.\n";
        assert_eq!(markdown(&turn), expected);
    }
}
