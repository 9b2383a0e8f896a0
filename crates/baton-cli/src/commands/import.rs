//! `baton import --legacy`: taking over WorkflowExecutions that an older version serialized.
//!
//! Such an execution may carry its callback token in status, where it stood once. What is done with it the server decides:
//! one that has not ended runs here as a new one with its spec and return address, one that has ended is kept as it is.
//!
//! Each file is taken over by itself and reported: one that is refused does not keep the others out. To do it again is
//! harmless for what is here already and unchanged.

use baton_proto::legacy;

use super::Context;
use crate::{
    args::{Format, ImportArgs},
    client::Client,
    failure::{Blame, Failure},
    kind::Object,
    manifest, output,
    settings::Source,
};

pub(crate) async fn import(context: &Context, args: ImportArgs) -> Result<(), Failure> {
    let files = manifest::legacy_files(&args.legacy)?;
    let client = context.client().await?;
    let mut refused = Vec::new();
    for (index, path) in files.iter().enumerate() {
        match one(context, &client, path).await.map_err(|failure| failure.while_doing(path.display().to_string())) {
            Ok(imported) => {
                context.printer.message(&format!("{} imported", imported.reference()));
                if context.settings.output.value != Format::Table {
                    context.printer.data(&output::object(context.settings.output.value, &imported))?;
                }
            }
            // Not the file's fault: the others would meet the same.
            Err(failure) if failure.blame() == Blame::Environment => {
                if files.len() > 1 {
                    let imported = index - refused.len();
                    let left = files.len() - index;
                    context.printer.say(&format!(
                        "{imported} imported, {} refused, {left} left of {} files",
                        refused.len(),
                        files.len()
                    ));
                }
                return Err(failure);
            }
            Err(failure) if files.len() == 1 => return Err(failure),
            Err(failure) => {
                context.printer.failure(&failure);
                refused.push(path);
            }
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    let count = files.len() - refused.len();
    context.printer.say(&format!("{count} imported, {} refused of {} files", refused.len(), files.len()));
    Err(Failure::told())
}

async fn one(context: &Context, client: &Client, path: &std::path::Path) -> Result<Object, Failure> {
    let bytes = manifest::read_bytes(path)?;
    client.import(&namespace(context, &bytes), bytes).await
}

/// Where it goes: as the flag says, or where it was, or where commands go. Bytes that cannot be read are the server's to
/// refuse.
fn namespace(context: &Context, bytes: &[u8]) -> String {
    let setting = &context.settings.namespace;
    let was = legacy::decode_workflow_execution(bytes)
        .ok()
        .and_then(|execution| execution.metadata)
        .map(|metadata| metadata.namespace)
        .filter(|namespace| !namespace.is_empty());
    match was {
        Some(namespace) if setting.source != Source::Flag => namespace,
        Some(_) | None => setting.value.clone(),
    }
}
