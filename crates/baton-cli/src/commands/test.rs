//! `baton test`: workflows and agents against scripted answers, in simulated time, without a server; with `--record`, a test file
//! from an execution on one.

use std::{fs, path::PathBuf};

use baton_proto::v1;

use super::{Context, describe::PAGE_EVENTS};
use crate::{
    args::{Format, TestArgs},
    failure::Failure,
    kind::{KindArg, Object},
    output, style,
    suite::{self, FileResult},
};

pub(crate) async fn test(context: &Context, args: TestArgs) -> Result<(), Failure> {
    if let Some(execution) = args.record {
        return record(context, &args.files, execution).await;
    }
    let wanted = |name: &str| args.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let mut results = Vec::new();
    for suite in suite::load(&args.files)? {
        let cases = suite.cases.iter().filter(|case| wanted(&case.name));
        let cases = cases.map(|case| suite::play(&suite.subject, case)).collect();
        let suite::Suite { file, subject_file, subject, .. } = suite;
        results.push(FileResult { file, subject_file, subject, cases });
    }
    results.retain(|file| !file.cases.is_empty());
    if results.is_empty() {
        let which = args.filter.as_ref().map(|filter| format!(" whose name has '{filter}'")).unwrap_or_default();
        return Err(Failure::refused(format!("no cases{which} in these files")));
    }
    if let Some(path) = &args.junit {
        let written = fs::write(path, suite::as_junit(&results));
        written.map_err(|error| Failure::refused(format!("write '{}'", path.display())).because(&error))?;
    }
    let format = context.settings.output.value;
    context.printer.data(&match format {
        Format::Table | Format::Name => suite::as_text(&results, args.coverage),
        Format::Json | Format::Jsonl | Format::Yaml => output::value(format, &suite::as_json(&results), String::new),
    })?;
    let has_failed = results.iter().flat_map(|file| &file.cases).any(|case| !case.failures.is_empty());
    if has_failed { Err(Failure::told()) } else { Ok(()) }
}

/// Prints a test file made from an execution on a server.
async fn record(context: &Context, files: &[PathBuf], execution: KindArg) -> Result<(), Failure> {
    let [workflow] = files else {
        return Err(Failure::usage("--record takes one file, that of the workflow"));
    };
    let (kind, name) = execution.execution(None)?;
    let client = context.client().await?;
    let object = client.get(kind, context.namespace(), &name).await?;
    let Object::WorkflowExecution(resource) = &object else {
        return Err(Failure::usage("--record takes a workflow execution: agents have playback for that"));
    };
    let (mut events, mut after) = (Vec::new(), 0);
    loop {
        let namespace = context.namespace().to_owned();
        let request = v1::HistoryRequest { namespace, name: name.clone(), after, limit: PAGE_EVENTS };
        let page = client.history(kind, request).await?;
        events.extend(page.events);
        if page.next_after == 0 {
            break;
        }
        after = page.next_after;
    }
    let file = workflow.display().to_string();
    let recording = suite::record(&events, &file, suite::workflow_name(resource));
    for missing in &recording.missing {
        context.printer.warning(&format!("not recorded: {missing}"));
    }
    let text = output::yaml(&recording.document);
    context.printer.data(&style::format(&name, &text).unwrap_or(text))
}
