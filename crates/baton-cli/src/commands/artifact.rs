//! `baton artifact`: files that go into executions and come out of them.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
};

use baton_proto::v1;

use super::{Context, get};
use crate::{
    args::{ArtifactCommand, ArtifactGetArgs, ArtifactListArgs, ArtifactPutArgs, Format, GetArgs, SelectorArgs},
    failure::Failure,
    kind::{Kind, KindArg, Object},
    manifest::read_file,
    output,
};

pub(crate) async fn artifact(context: &Context, command: ArtifactCommand) -> Result<(), Failure> {
    match command {
        ArtifactCommand::Put(args) => put(context, args).await,
        ArtifactCommand::Get(args) => fetch(context, args).await,
        ArtifactCommand::List(args) => list(context, args).await,
    }
}

async fn put(context: &Context, args: ArtifactPutArgs) -> Result<(), Failure> {
    let data = read_file(&args.file)?;
    let spec = v1::ArtifactSpec { media_type: args.media_type, data, ttl_seconds: args.ttl };
    let metadata = v1::ObjectMeta { namespace: context.namespace().to_owned(), ..v1::ObjectMeta::default() };
    let artifact = v1::Artifact { metadata: Some(metadata), spec: Some(spec), ..v1::Artifact::default() };
    let written = context.client().await?.create(Object::from(artifact), false).await?;
    context.warn("artifact", &written.warnings);
    match (context.settings.output.value, &written.object) {
        (Format::Table, Object::Artifact(it)) => {
            context.printer.data(&it.status.as_ref().map(|status| status.digest.clone()).unwrap_or_default())
        }
        (format, object) => context.printer.data(&output::object(format, object)),
    }
}

async fn fetch(context: &Context, args: ArtifactGetArgs) -> Result<(), Failure> {
    let client = context.client().await?;
    let namespace = context.namespace();
    let content = match args.execution {
        Some(execution) => {
            let name = execution.rsplit('/').next().unwrap_or_default().to_owned();
            let request =
                v1::GetExecutionArtifactRequest { namespace: namespace.to_owned(), name, artifact: args.artifact };
            client.execution_artifact(request).await?
        }
        None => client.artifact_content(namespace, &args.artifact.replace(':', "-")).await?,
    };
    match args.to {
        Some(path) => {
            save(&path, &content.data)?;
            let (shown, bytes) = (path.display(), content.data.len());
            context.printer.message(&format!("{shown}: {bytes} bytes, {}", content.media_type));
            Ok(())
        }
        None => context.printer.bytes(&content.data),
    }
}

fn save(path: &Path, data: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::refused(format!("write '{}'", path.display())).because(&error);
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(data).map_err(failed)
}

async fn list(context: &Context, args: ArtifactListArgs) -> Result<(), Failure> {
    let Some(execution) = args.execution else {
        let kind = KindArg { kind: Kind::Artifact, name: None };
        let selector = SelectorArgs { selector: None, field_selector: None, all_namespaces: false };
        return get(context, GetArgs { kind, name: None, selector, limit: None }).await;
    };
    let name = execution.rsplit('/').next().unwrap_or_default();
    let object = context.client().await?.get(Kind::AgentExecution, context.namespace(), name).await?;
    let Object::AgentExecution(it) = &object else {
        return Err(Failure::environment(format!("a {} was read", object.kind().title())));
    };
    let made = it.status.as_ref().map(|status| status.artifacts.as_slice()).unwrap_or_default();
    let table = || output::artifacts_table(made);
    let text = output::value(context.settings.output.value, &baton_proto::to_json_value(&made), table);
    context.printer.data(&text)
}
