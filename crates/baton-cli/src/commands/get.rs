//! `baton get` and `baton list`.

use baton_proto::v1;

use super::Context;
use crate::{
    args::{GetArgs, ListArgs, SelectorArgs},
    client::Selection,
    failure::Failure,
    kind::Kind,
    output::{self, Columns},
};

pub(crate) async fn get(context: &Context, args: GetArgs) -> Result<(), Failure> {
    match args.kind.with_name(args.name)? {
        (kind, None) => list_kind(context, kind, &args.selector, args.limit).await,
        (_, Some(_))
            if args.selector.selector.is_some()
                || args.selector.field_selector.is_some()
                || args.selector.all_namespaces =>
        {
            Err(Failure::usage("a name and a selection were given; allowed is one of them"))
        }
        (kind, Some(name)) => {
            let client = context.client().await?;
            let object = client.get(kind, context.namespace(), &name).await?;
            context.printer.data(&output::object(context.settings.output.value, &object))
        }
    }
}

pub(crate) async fn list(context: &Context, args: ListArgs) -> Result<(), Failure> {
    match args.kind.with_name(None)? {
        (kind, None) => list_kind(context, kind, &args.selector, args.limit).await,
        (kind, Some(name)) => {
            Err(Failure::usage("list takes no name").hint(format!("show one with baton get {} {name}", kind.word())))
        }
    }
}

async fn list_kind(context: &Context, kind: Kind, selector: &SelectorArgs, limit: Option<i32>) -> Result<(), Failure> {
    let client = context.client().await?;
    let (metadata, objects) = client.list(kind, &selection(context, selector), limit).await?;
    if objects.is_empty() {
        let place = if selector.all_namespaces {
            "any namespace".to_owned()
        } else {
            format!("namespace '{}'", context.namespace())
        };
        context.printer.message(&format!("no {}s in {place}", kind.title()));
        if context.settings.output.value == crate::args::Format::Table {
            return Ok(());
        }
    }
    let columns = if selector.all_namespaces { Columns::WithNamespace } else { Columns::Narrow };
    let metadata = v1::ListMeta { resource_version: metadata.resource_version, r#continue: metadata.r#continue };
    let text = output::list(context.settings.output.value, kind, &metadata, &objects, columns);
    if text.is_empty() { Ok(()) } else { context.printer.data(&text) }
}

/// What flags select.
pub(super) fn selection(context: &Context, selector: &SelectorArgs) -> Selection {
    Selection {
        namespace: if selector.all_namespaces { String::new() } else { context.namespace().to_owned() },
        labels: selector.selector.clone().unwrap_or_default(),
        fields: selector.field_selector.clone().unwrap_or_default(),
    }
}
