//! `baton delete`.

use super::{Context, place};
use crate::{args::DeleteArgs, failure::Failure, kind::Kind, manifest};

pub(crate) async fn delete(context: &Context, args: DeleteArgs) -> Result<(), Failure> {
    let mut targets: Vec<(Kind, String, String)> = Vec::new();
    if let Some(kind) = args.kind {
        let (kind, name) = kind.named(args.name)?;
        targets.push((kind, context.namespace().to_owned(), name));
    }
    for manifest in manifest::load(&args.files)? {
        let Some(mut object) = manifest.resource()? else { continue };
        place(context, &mut object).map_err(|failure| failure.while_doing(manifest.origin.to_string()))?;
        if !object.name().is_empty() {
            targets.push((object.kind(), object.metadata().namespace.clone(), object.name().to_owned()));
        }
    }
    if targets.is_empty() {
        return Err(Failure::refused("no named resources in the manifests"));
    }
    let question = match targets.as_slice() {
        [(kind, namespace, name)] => format!("Delete {} '{name}' in namespace '{namespace}'?", kind.title()),
        several => format!("Delete {} resources?", several.len()),
    };
    context.printer.confirm(&question, args.yes)?;
    let client = context.client().await?;
    let mut refused = 0;
    for (kind, namespace, name) in targets {
        let reference = format!("{}/{name}", kind.word());
        match client.delete(kind, &namespace, &name).await {
            Ok(answer) if answer.gone => context.printer.message(&format!("{reference} deleted")),
            Ok(_) => context
                .printer
                .message(&format!("{reference}: deletion asked; it goes when whoever waits for it has been told")),
            Err(failure) if args.ignore_not_found && failure.code() == Some(tonic::Code::NotFound) => {
                context.printer.message(&format!("{reference} does not exist"));
            }
            Err(failure) if failure.exit_code() == 1 => {
                context.printer.failure(&failure);
                refused += 1;
            }
            Err(failure) => return Err(failure),
        }
    }
    if refused > 0 { Err(Failure::told()) } else { Ok(()) }
}
