//! `baton graph`: a workflow as a picture.

use std::fs;

use baton_server::WorkflowDefinition;

use super::Context;
use crate::{
    args::{GraphArgs, GraphFormat},
    failure::{Failure, Finding},
    manifest, offline, suite,
};

pub(crate) fn graph(context: &Context, args: &GraphArgs) -> Result<(), Failure> {
    let (mut definitions, mut names, mut findings): (Vec<WorkflowDefinition>, Vec<String>, Vec<Finding>) =
        Default::default();
    for manifest in manifest::load(&args.files)? {
        let Some((name, spec)) = suite::workflow_of(&manifest) else { continue };
        names.push(format!("'{name}'"));
        if args.workflow.as_ref().is_some_and(|wanted| *wanted != name) {
            continue;
        }
        match offline::check(&spec["definition"], spec.get("resources")).definition {
            Ok(definition) => definitions.push(definition),
            Err(violations) => findings.extend(
                violations.into_iter().map(|it| Finding::within(it.under("spec.definition"), &manifest.origin)),
            ),
        }
    }
    if !findings.is_empty() {
        return Err(Failure::findings(findings));
    }
    let there = if names.is_empty() { "there is none".to_owned() } else { format!("there are {}", names.join(", ")) };
    if definitions.is_empty() {
        let which = args.workflow.as_ref().map(|name| format!(" '{name}'")).unwrap_or_default();
        return Err(Failure::refused(format!("no workflow{which} in these files; {there}")));
    }
    if args.format != GraphFormat::Text && definitions.len() > 1 {
        return Err(Failure::refused(format!("a picture is of one workflow, {there}")).hint("choose with --workflow"));
    }
    let drawn: Vec<String> = definitions
        .iter()
        .map(|definition| {
            let graph = definition.graph();
            match args.format {
                GraphFormat::Text => graph.text(),
                GraphFormat::Mermaid => graph.mermaid(),
                GraphFormat::Svg => graph.svg(),
            }
        })
        .collect();
    let drawn = drawn.join("\n");
    match &args.to {
        Some(path) => fs::write(path, drawn)
            .map_err(|error| Failure::refused(format!("write '{}'", path.display())).because(&error)),
        None => context.printer.data(&drawn),
    }
}
