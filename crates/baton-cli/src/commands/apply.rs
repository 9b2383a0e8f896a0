//! `baton apply`: what manifests say becomes so.
//!
//! An object that exists gets the manifest's spec whole, and its labels and annotations beside those it has. What is not
//! in the manifests is left alone: nothing is pruned.

use super::Context;
use crate::{
    args::{ApplyArgs, Format},
    client::{Client, Written},
    failure::Failure,
    kind::{Kind, Object, each},
    manifest, output,
    settings::Source,
    yaml::Origin,
};

/// Races with other writers that are tried again.
const TRIES_MAX: u32 = 5;

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Created,
    Configured,
    Unchanged,
}

impl Applied {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

pub(crate) async fn apply(context: &Context, args: ApplyArgs) -> Result<(), Failure> {
    let manifests = manifest::load(&args.files)?;
    let mut objects = Vec::new();
    for manifest in &manifests {
        match manifest.resource()? {
            Some(object) => objects.push((manifest.origin.clone(), object)),
            None => context.printer.message(&format!("{}: left out, a Run is for baton run", manifest.origin)),
        }
    }
    if objects.is_empty() {
        return Err(Failure::refused("no resources in the manifests"));
    }
    // Templates first, so that executions find them.
    objects.sort_by_key(|(_, object)| Kind::ALL.iter().position(|kind| *kind == object.kind()));
    for (origin, object) in &mut objects {
        place(context, object).map_err(|failure| failure.while_doing(origin.to_string()))?;
    }
    let client = context.client().await?;
    let all = apply_all(context, &client, objects, args.dry_run).await?;
    for (object, applied) in &all.applied {
        let dry = if args.dry_run { " (dry run)" } else { "" };
        context.printer.message(&format!("{} {}{dry}", object.reference(), applied.word()));
        if context.settings.output.value != Format::Table {
            context.printer.data(&output::object(context.settings.output.value, object))?;
        }
    }
    for failure in &all.refused {
        context.printer.failure(failure);
    }
    if all.refused.is_empty() { Ok(()) } else { Err(Failure::told()) }
}

/// What became of several objects.
pub(crate) struct AppliedAll {
    pub(crate) applied: Vec<(Object, Applied)>,
    pub(crate) refused: Vec<Failure>,
}

/// Applies objects in their order. One that is refused does not keep the others from being applied; a server that is gone
/// does. What the server warned of is told if it still holds when all are there: an agent may name a workflow that comes
/// after it.
pub(crate) async fn apply_all(
    context: &Context,
    client: &Client,
    objects: Vec<(Origin, Object)>,
    dry_run: bool,
) -> Result<AppliedAll, Failure> {
    let mut all = AppliedAll { applied: Vec::new(), refused: Vec::new() };
    let mut warned = Vec::new();
    for (origin, object) in objects {
        let doing = format!("{origin}: {}", object.reference());
        match apply_object(client, object.clone(), dry_run).await {
            Ok((written, applied)) => {
                if !written.warnings.is_empty() {
                    warned.push((doing, object, written.warnings));
                }
                all.applied.push((written.object, applied));
            }
            Err(failure) if failure.exit_code() == 1 => all.refused.push(failure.within(&origin).while_doing(doing)),
            Err(failure) => return Err(failure.while_doing(doing)),
        }
    }
    for (doing, object, warnings) in warned {
        let may_be_stale = !dry_run && !object.kind().is_execution() && all.applied.len() > 1;
        let warnings = if may_be_stale { apply_object(client, object, false).await?.0.warnings } else { warnings };
        context.warn(&doing, &warnings);
    }
    Ok(all)
}

/// Settles the namespace of a manifest's object.
pub(crate) fn place(context: &Context, object: &mut Object) -> Result<(), Failure> {
    let wanted = &context.settings.namespace;
    let metadata = object.metadata_mut();
    if metadata.namespace.is_empty() {
        metadata.namespace.clone_from(&wanted.value);
    } else if wanted.source == Source::Flag && metadata.namespace != wanted.value {
        return Err(Failure::refused(format!(
            "metadata.namespace: is '{}', the command line says '{}'",
            metadata.namespace, wanted.value
        )));
    }
    Ok(())
}

/// Creates or updates one object.
async fn apply_object(client: &Client, object: Object, dry_run: bool) -> Result<(Written, Applied), Failure> {
    if object.name().is_empty() {
        return Ok((client.create(object, dry_run).await?, Applied::Created));
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let attempt = apply_once(client, object.clone(), dry_run).await;
        let raced = attempt
            .as_ref()
            .err()
            .and_then(Failure::code)
            .is_some_and(|code| matches!(code, tonic::Code::Aborted | tonic::Code::AlreadyExists));
        // A version in the manifest is a condition that the caller set: then a race is the answer.
        if !raced || tries >= TRIES_MAX || !object.metadata().resource_version.is_empty() {
            return attempt;
        }
    }
}

async fn apply_once(client: &Client, object: Object, dry_run: bool) -> Result<(Written, Applied), Failure> {
    let Some(stored) = client.find(object.kind(), &object.metadata().namespace, object.name()).await? else {
        return Ok((client.create(object, dry_run).await?, Applied::Created));
    };
    let version = stored.metadata().resource_version.clone();
    let updated = client.update(merged(object, &stored), dry_run).await?;
    let unchanged = updated.object.metadata().resource_version == version && same_content(&updated.object, &stored);
    Ok((updated, if unchanged { Applied::Unchanged } else { Applied::Configured }))
}

/// The manifest's object with what only the stored one has.
fn merged(mut object: Object, stored: &Object) -> Object {
    let own = object.metadata().clone();
    let mut metadata = stored.metadata().clone();
    metadata.labels.extend(own.labels);
    metadata.annotations.extend(own.annotations);
    if !own.finalizers.is_empty() {
        metadata.finalizers = own.finalizers;
    }
    if !own.owner_references.is_empty() {
        metadata.owner_references = own.owner_references;
    }
    if !own.resource_version.is_empty() {
        metadata.resource_version = own.resource_version;
    }
    *object.metadata_mut() = metadata;
    object
}

fn same_content(one: &Object, other: &Object) -> bool {
    let of = |object: &Object| {
        let metadata = object.metadata();
        (metadata.generation, metadata.labels.clone(), metadata.annotations.clone())
    };
    let same_spec =
        each!(one, it => baton_proto::to_json_value(it.as_ref())).get("spec") == other.to_json().get("spec");
    same_spec && of(one) == of(other)
}
