//! `baton run`: a workflow or an agent from its files to its output.
//!
//! Without a server named on the command line or in the environment, a server is started in this process, on a port of
//! the loopback interface and a data directory of its own, and is talked to as any other server is. With `--data-dir`,
//! what is needed to go on after an interruption stands in [`Mark`] beside the data: the same ports, so that addresses
//! that the execution was given still hold.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use baton_proto::{ExecutionResource, v1};
use baton_types::Phase;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Context, apply_all, place};
use crate::{
    args::{Format, RunArgs},
    client::Client,
    failure::Failure,
    kind::{Kind, Object},
    local::LocalServer,
    manifest, output,
    progress::ExecutionKey,
    run::{Following, Plan, ServicePorts, Services, Signals, Wishes, follow, plan},
    settings::Source,
};

/// Lines of services that may wait to be shown.
const LOG_LINES_MAX: usize = 256;
/// Name of the file in the data directory that tells of a run that has not been seen to its end.
const MARK_FILE: &str = "run.json";

/// A run that has not been seen to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Mark {
    digest: String,
    kind: String,
    namespace: String,
    name: String,
    /// Port that the server listened on.
    port: u16,
    services: ServicePorts,
}

pub(crate) async fn run(context: &Context, args: RunArgs) -> Result<(), Failure> {
    let on_server = context.settings.names_server();
    if args.detach && !on_server {
        return Err(Failure::usage("--detach needs a server that goes on")
            .hint("name it with --server URL, or start one with baton server"));
    }
    if args.data_dir.is_some() && on_server {
        return Err(Failure::usage(
            "--data-dir is for a run in this process, and a server is named (--server or BATON_SERVER)",
        ));
    }
    let paths: Vec<PathBuf> = args.file.iter().chain(&args.files).cloned().collect();
    let manifests = manifest::load(&paths)?;
    let wishes = Wishes {
        workflow: args.workflow,
        agent: args.agent,
        input: args.input.map(|input| input.value("--input")).transpose()?,
        message: args.message,
        env: args.env.into_iter().collect(),
        timeout: args.timeout,
        name: args.name,
        server_may_have: on_server || args.data_dir.is_some(),
    };
    let plan = plan(&manifests, wishes)?;
    let context = &in_namespace_of(context, &plan);
    if on_server {
        return Box::pin(run_on_server(context, plan, args.detach)).await;
    }
    if let Some(data_dir) = args.data_dir {
        return Box::pin(run_here(context, plan, &data_dir, true)).await;
    }
    let folder = tempfile::Builder::new().prefix("baton-run-").tempdir();
    let folder = folder.map_err(|error| Failure::environment("make a folder for the data").because(&error))?;
    Box::pin(run_here(context, plan, folder.path(), false)).await
}

/// Unless one is asked for, the namespace is that of the manifests.
fn in_namespace_of(context: &Context, plan: &Plan) -> Context {
    let mut context = context.clone();
    let objects = plan.templates.iter().map(|(_, object)| object).chain([&plan.execution]);
    let named = objects.map(|object| object.metadata().namespace.as_str()).find(|namespace| !namespace.is_empty());
    if let (Source::Default, Some(namespace)) = (&context.settings.namespace.source, named) {
        namespace.clone_into(&mut context.settings.namespace.value);
    }
    context
}

async fn run_on_server(context: &Context, mut plan: Plan, detach: bool) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let client = context.client().await?;
    if detach && !plan.services.is_empty() {
        return Err(Failure::usage("--detach cannot be used with services: they are stopped when this command ends"));
    }
    let (sender, mut logs) = mpsc::channel(LOG_LINES_MAX);
    let services = signals.or(Services::start(&plan.services, client.address(), &ServicePorts::new(), &sender)).await?;
    drop(sender);
    let result = async {
        let key = create(context, &client, &mut plan, &services).await?;
        if detach {
            return context.printer.data(&reference(&key)).map(|()| None);
        }
        let following = Following {
            client: &client,
            printer: context.printer,
            namespace: context.namespace(),
            key,
            logs: &mut logs,
            signals: &mut signals,
        };
        follow(following).await.map(Some)
    }
    .await;
    services.stop().await;
    match result? {
        Some(execution) => report(context, &execution),
        None => Ok(()),
    }
}

async fn run_here(context: &Context, mut plan: Plan, data_dir: &Path, keep: bool) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mark = if keep { read_mark(data_dir)?.filter(|mark| is_same(context, mark, &plan)) } else { None };
    let (sender, mut logs) = mpsc::channel(LOG_LINES_MAX);
    let port = mark.as_ref().map_or(0, |mark| mark.port);
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // An execution that is taken up goes on as soon as the server starts: what it calls must be there by then.
    let early = match &mark {
        Some(mark) => Some(
            signals.or(Services::start(&plan.services, &format!("http://{listen}"), &mark.services, &sender)).await?,
        ),
        None => None,
    };
    let server = match LocalServer::start(&context.settings, data_dir, listen, keep).await {
        Ok(server) => server,
        Err(failure) => {
            stop(early).await;
            return Err(failure);
        }
    };
    let services = match early {
        Some(services) => Ok(services),
        None => signals.or(Services::start(&plan.services, server.url(), &ServicePorts::new(), &sender)).await,
    };
    drop(sender);
    let services = match services {
        Ok(services) => services,
        Err(failure) => {
            server.shutdown().await;
            return Err(failure);
        }
    };
    say_who_plays_back(context, &plan, server.has_model());
    let work = async {
        let client = Client::connect(server.url()).await?;
        let key = match taken_up(context, &client, mark.as_ref()).await? {
            Some(key) => key,
            None => create(context, &client, &mut plan, &services).await?,
        };
        if keep {
            write_mark(data_dir, context, &plan, &key, server.address().port(), services.ports())?;
        }
        let following = Following {
            client: &client,
            printer: context.printer,
            namespace: context.namespace(),
            key,
            logs: &mut logs,
            signals: &mut signals,
        };
        follow(following).await
    };
    let result = tokio::select! {
        result = work => result,
        failure = server.failed() => Err(failure),
    };
    server.shutdown().await;
    services.stop().await;
    let execution = result?;
    if keep {
        remove_mark(data_dir)?;
    }
    report(context, &execution)
}

/// Nobody is to take a script for a model.
fn say_who_plays_back(context: &Context, plan: &Plan, has_model: bool) {
    let plays = |spec: Option<&v1::AgentSpec>| {
        let model = spec.and_then(|spec| spec.model.as_ref());
        model.is_some_and(|model| {
            model.playback.is_some() && (model.provider == "playback" || (model.base_url.is_empty() && !has_model))
        })
    };
    let objects = plan.templates.iter().map(|(_, object)| object).chain([&plan.execution]);
    let names: Vec<&str> = objects
        .filter_map(|object| match object {
            Object::Agent(it) if plays(it.spec.as_ref()) => it.metadata.as_ref().map(|metadata| metadata.name.as_str()),
            Object::AgentExecution(it) if plays(it.spec.as_ref().and_then(|spec| spec.definition.as_ref())) => {
                Some("of this run")
            }
            Object::Agent(_)
            | Object::AgentExecution(_)
            | Object::Workflow(_)
            | Object::WorkflowExecution(_)
            | Object::Secret(_)
            | Object::Approval(_)
            | Object::McpServer(_)
            | Object::Session(_)
            | Object::Skill(_)
            | Object::Artifact(_) => None,
        })
        .collect();
    if !names.is_empty() {
        let why = if has_model { "" } else { "; BATON_MODEL_BASE_URL names a model" };
        context.printer.message(&format!(
            "playback: the answers of agent {} come from a script, not from a model{why}",
            names.join(", ")
        ));
    }
}

async fn stop(services: Option<Services>) {
    if let Some(services) = services {
        services.stop().await;
    }
}

/// Applies the templates and creates the execution.
async fn create(
    context: &Context,
    client: &Client,
    plan: &mut Plan,
    services: &Services,
) -> Result<ExecutionKey, Failure> {
    for (_, template) in &mut plan.templates {
        place(context, template)?;
    }
    let mut applied = apply_all(context, client, plan.templates.clone(), false).await?;
    if let Some(last) = applied.refused.pop() {
        applied.refused.iter().for_each(|failure| context.printer.failure(failure));
        return Err(last);
    }
    plan.add_env("BATON_URL", client.address());
    for (name, url) in services.env() {
        plan.add_env(&name, url);
    }
    let mut execution = plan.execution.clone();
    context.namespace().clone_into(&mut execution.metadata_mut().namespace);
    let created = client.create(execution, false).await;
    let written = created.map_err(|failure| match &plan.definition {
        Some(origin) => failure.within(origin),
        None => failure,
    })?;
    let created = written.object;
    context.warn(&created.reference(), &written.warnings);
    Ok(ExecutionKey { kind: created.kind(), name: created.name().to_owned() })
}

/// The execution of an interrupted run, if it is still there.
async fn taken_up(context: &Context, client: &Client, mark: Option<&Mark>) -> Result<Option<ExecutionKey>, Failure> {
    let Some(mark) = mark else { return Ok(None) };
    let Some(kind) = Kind::from_name(&mark.kind) else { return Ok(None) };
    let found = client.find(kind, &mark.namespace, &mark.name).await?;
    Ok(found.map(|object| {
        context.printer.message(&format!("taking up {}, which was interrupted", object.reference()));
        ExecutionKey { kind, name: mark.name.clone() }
    }))
}

fn is_same(context: &Context, mark: &Mark, plan: &Plan) -> bool {
    let same = mark.digest == plan.digest && mark.namespace == context.namespace();
    if !same {
        context.printer.warning(&format!(
            "the data directory holds '{}', an interrupted run of other content; it goes on beside this one",
            mark.name
        ));
    }
    same
}

fn read_mark(data_dir: &Path) -> Result<Option<Mark>, Failure> {
    let path = data_dir.join(MARK_FILE);
    match std::fs::read(&path) {
        Ok(bytes) => {
            let wrong =
                |error: serde_json::Error| Failure::environment(format!("read '{}'", path.display())).because(&error);
            serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| wrong(error).hint("remove the file to begin a new run"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::environment(format!("read '{}'", path.display())).because(&error)),
    }
}

fn write_mark(
    data_dir: &Path,
    context: &Context,
    plan: &Plan,
    key: &ExecutionKey,
    port: u16,
    services: ServicePorts,
) -> Result<(), Failure> {
    let mark = Mark {
        digest: plan.digest.clone(),
        kind: key.kind.name().to_owned(),
        namespace: context.namespace().to_owned(),
        name: key.name.clone(),
        port,
        services,
    };
    let path = data_dir.join(MARK_FILE);
    let written =
        serde_json::to_vec_pretty(&mark).map_err(std::io::Error::from).and_then(|bytes| std::fs::write(&path, bytes));
    written.map_err(|error| Failure::environment(format!("write '{}'", path.display())).because(&error))
}

fn remove_mark(data_dir: &Path) -> Result<(), Failure> {
    let path = data_dir.join(MARK_FILE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::environment(format!("remove '{}'", path.display())).because(&error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn reference(key: &ExecutionKey) -> String {
    format!("{}/{}", key.kind.word(), key.name)
}

/// The output on stdout, or the fault on stderr.
fn report(context: &Context, execution: &ExecutionResource) -> Result<(), Failure> {
    let name = &execution.metadata().name;
    if execution.phase() == Phase::Completed {
        let output =
            execution.output().and_then(Option::as_ref).map_or(Ok(serde_json::Value::Null), v1::Json::to_value);
        let output = output.map_err(|error| Failure::environment("read the output").because(&error))?;
        return match context.settings.output.value {
            Format::Name => context.printer.data(&object_of(execution).reference()),
            format => context.printer.data(&output::value(format, &output, || output::pretty(&output))),
        };
    }
    if let Some(problem) = execution.error().and_then(Option::as_ref) {
        context.printer.say(&output::pretty(&baton_proto::to_json_value(problem)));
        return Err(Failure::told());
    }
    let why = execution
        .conditions()
        .and_then(|conditions| conditions.iter().find(|it| it.r#type == "Failed" && !it.message.is_empty()));
    let why = why.map(|condition| format!(": {}", condition.message)).unwrap_or_default();
    Err(Failure::refused(format!("'{name}' ended as {}{why}", execution.phase())))
}

fn object_of(execution: &ExecutionResource) -> Object {
    match execution {
        ExecutionResource::Workflow(it) => Object::WorkflowExecution(it.clone()),
        ExecutionResource::Agent(it) => Object::AgentExecution(it.clone()),
    }
}
