//! `baton import --legacy`: taking over a WorkflowExecution that an older version serialized.
//!
//! Such an execution may carry its callback token in status, where it stood once; it is lifted into spec. Tokens in both
//! places that differ are refused. It runs here as a new execution with the same name, labels, spec and return address;
//! one that has ended is refused, as it would run again.

use baton_proto::legacy;
use baton_types::Phase;

use super::Context;
use crate::{
    args::{Format, ImportArgs},
    failure::Failure,
    kind::Object,
    manifest, output,
    settings::Source,
};

pub(crate) async fn import(context: &Context, args: ImportArgs) -> Result<(), Failure> {
    let bytes = manifest::read_bytes(&args.legacy)?;
    let object = read(&bytes, context).map_err(|failure| failure.while_doing(args.legacy.display().to_string()))?;
    let written = context.client().await?.create(object, false).await?;
    let imported = written.object;
    context.warn(&imported.reference(), &written.warnings);
    context.printer.message(&format!("{} imported", imported.reference()));
    if context.settings.output.value != Format::Table {
        context.printer.data(&output::object(context.settings.output.value, &imported))?;
    }
    Ok(())
}

fn read(bytes: &[u8], context: &Context) -> Result<Object, Failure> {
    let mut execution = legacy::decode_workflow_execution(bytes)
        .map_err(|error| Failure::refused("it cannot be imported").because(&error))?;
    let status = execution.status.take().unwrap_or_default();
    if let Some(phase) = status.phase.parse::<Phase>().ok().filter(|phase| phase.is_terminal()) {
        return Err(Failure::refused(format!(
            "status.phase: is '{phase}': the execution has ended where it ran, so there is nothing to take over"
        )));
    }
    let mut object = Object::from(execution);
    let metadata = object.metadata_mut();
    // What the other system set is not carried over.
    metadata.uid.clear();
    metadata.resource_version.clear();
    metadata.owner_references.clear();
    metadata.finalizers.clear();
    let wanted = &context.settings.namespace;
    if metadata.namespace.is_empty() || wanted.source == Source::Flag {
        metadata.namespace.clone_from(&wanted.value);
    }
    Ok(object)
}
