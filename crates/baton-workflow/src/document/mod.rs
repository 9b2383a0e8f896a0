//! Documents: from JSON as somebody wrote it to a [`Definition`] that can run.
//!
//! [`check`] reads the whole document and returns every [`Violation`] with its path. Field names, types, names that
//! are referred to, flow targets, durations, schemas and expressions are all checked here, so that nothing of
//! that can go wrong later.
//!
//! # Invariants
//! - A [`Definition`] is immutable, `Send` and `Sync`; any number of executions share one.
//! - Tasks are numbered in the order in which they stand; a task knows its own place as a JSON pointer.
//!
//! # Deliberately absent
//! What other resources say: whether an agent or a workflow that is referred to exists, the caller checks with
//! [`Definition::agents`] and [`Definition::workflows`].
//!
//! # Failure
//! Violations only. Parts of the language that this version does not run are violations that say so.

mod builder;
mod characters;
mod extensions;
mod links;
mod on;
mod reader;
mod reusable;
mod schedule;

use baton_execution::secret_placeholder;
use baton_types::{JSON_DEPTH_MAX, Violation};
use serde_json::{Map, Value};

pub(crate) use builder::{
    Builder, OF_INPUT, OF_OUTPUT, OF_RAW_INPUT, OF_TASK_OUTPUT, VARIABLES, duration_ms, enclosed,
};
pub(crate) use extensions::Extension;
pub use links::{CATALOG_DEFAULT, External, ExternalKind, NOT_THERE, RESOURCES, catalog_uri};
pub use on::{GATHERED_BYTES_MAX, GATHERED_EVENTS_MAX, Gathered, Offered, On};
pub(crate) use reader::{Fields, quoted, shown};
pub use schedule::{Cron, INTERVAL_MS_MIN, Schedule, schedule};

use crate::task::{Block, BlockId, DataFlow, Task, TaskId, Timeout};

/// A checked document: what executions run.
#[derive(Debug)]
pub struct Definition {
    document: Value,
    about: About,
    tasks: Vec<Task>,
    blocks: Vec<Block>,
    pub(crate) root: BlockId,
    pub(crate) input: DataFlow,
    pub(crate) output: DataFlow,
    pub(crate) timeout: Option<Timeout>,
    pub(crate) extensions: Vec<Extension>,
    schedule: Option<Schedule>,
    agents: Vec<Reference>,
    workflows: Vec<Reference>,
    resources: Vec<String>,
    warnings: Vec<Violation>,
    secrets: Vec<String>,
    /// `$secrets`: placeholders by secret and key.
    pub(crate) secret_values: Value,
}

/// What `document` says.
#[derive(Debug, Default)]
struct About {
    dsl: String,
    namespace: String,
    name: String,
    version: String,
    title: Option<String>,
    summary: Option<String>,
}

/// A place at which a document refers to another resource by a fixed name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Name of the `Agent` or `Workflow`.
    pub name: String,
    /// For a workflow: the version that is asked for; `None` takes any.
    pub version: Option<String>,
    /// Path of the name in the document, such as `do[2].ask.with.agent`.
    pub field: String,
}

impl Definition {
    /// `document.dsl`: the version of the language, such as `1.0.3`.
    pub fn dsl(&self) -> &str {
        &self.about.dsl
    }

    /// `document.namespace`.
    pub fn namespace(&self) -> &str {
        &self.about.namespace
    }

    /// `document.name`.
    pub fn name(&self) -> &str {
        &self.about.name
    }

    /// `document.version`.
    pub fn version(&self) -> &str {
        &self.about.version
    }

    /// `document.title`.
    pub fn title(&self) -> Option<&str> {
        self.about.title.as_deref()
    }

    /// `document.summary`, in Markdown.
    pub fn summary(&self) -> Option<&str> {
        self.about.summary.as_deref()
    }

    /// The document as it was given.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// When executions start by themselves, if they do.
    pub fn schedule(&self) -> Option<&Schedule> {
        self.schedule.as_ref()
    }

    /// Agents that tasks call by a fixed name.
    pub fn agents(&self) -> &[Reference] {
        &self.agents
    }

    /// Workflows that tasks run.
    pub fn workflows(&self) -> &[Reference] {
        &self.workflows
    }

    /// Names of the secrets that it may use (`use.secrets`), in order.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// URIs of what it uses of [`RESOURCES`], in order.
    pub fn resources(&self) -> &[String] {
        &self.resources
    }

    /// What is odd in the document and stops nothing, such as tasks that are never reached.
    pub fn warnings(&self) -> &[Violation] {
        &self.warnings
    }

    /// The JSON Schema of the workflow's input (`input.schema`), if it has one.
    pub fn input_schema(&self) -> Option<&Value> {
        let schema = self.document.pointer("/input/schema")?;
        schema.get("document").or_else(|| {
            let endpoint = schema.get("resource")?.get("endpoint")?;
            let uri = endpoint.get("uri").unwrap_or(endpoint).as_str()?;
            self.document.get(RESOURCES)?.get(links::raw_uri(uri))
        })
    }

    /// The workflow's own `timeout` in milliseconds, if it is a fixed one.
    ///
    /// The Program applies it by its own timer, and ends as timed out when it passes.
    pub fn timeout_ms(&self) -> Option<u64> {
        self.timeout.as_ref().and_then(Timeout::fixed_ms)
    }

    /// How many tasks the document has, at all levels.
    pub fn tasks_count(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(id)
    }

    pub(crate) fn block(&self, id: BlockId) -> Option<&Block> {
        self.blocks.get(id)
    }
}

/// Checks a document, such as `spec.definition` of a `Workflow`.
///
/// # Errors
/// Every violation, with paths from the top of the document (`do[2].notify.then`); the caller puts
/// `spec.definition` before them.
pub fn check(document: &Value) -> Result<Definition, Vec<Violation>> {
    if deeper_than(document, JSON_DEPTH_MAX) {
        return Err(vec![Violation::new("", format!("is nested deeper than {JSON_DEPTH_MAX} levels"))]);
    }
    let mut builder = Builder::default();
    characters::refuse_reserved(document, &mut builder);
    let definition = read(document, &mut builder);
    match definition {
        Some(definition) if builder.violations.is_empty() => Ok(definition),
        _ => Err(builder.violations),
    }
}

/// What a document refers to that is kept elsewhere and is not in it under [`RESOURCES`] yet, each once.
///
/// What is fetched may refer to more: whoever fetches asks again, until there is nothing left.
pub fn externals(document: &Value) -> Vec<External> {
    if deeper_than(document, JSON_DEPTH_MAX) {
        return Vec::new();
    }
    let mut builder = Builder::default();
    read(document, &mut builder);
    builder.links.into_missing()
}

fn read(document: &Value, builder: &mut Builder) -> Option<Definition> {
    let mut fields = Fields::open(document, "", builder)?;
    let about = read_about(&mut fields, builder);
    read_evaluate(&mut fields, builder);
    builder.namespace.clone_from(&about.namespace);
    links::read_resources(&mut fields, builder);
    reusable::read_use(&mut fields, builder);
    let schedule = schedule::read(&mut fields, builder);
    let input = builder.with_arguments(OF_INPUT, |builder| builder.data_flow(&mut fields, "input", "from"));
    let output = builder.with_arguments(OF_OUTPUT, |builder| builder.data_flow(&mut fields, "output", "as"));
    let timeout = builder.with_arguments(OF_INPUT, |builder| builder.timeout(&mut fields));
    let root = fields.need("do", builder).map(|tasks| builder.block(tasks, "do", "/do", false));
    fields.close(builder);
    links::read_functions(builder);
    links::check_calls(builder);
    Some(Definition {
        document: document.clone(),
        about,
        root: root?,
        input,
        output,
        timeout,
        schedule,
        tasks: std::mem::take(&mut builder.tasks),
        blocks: std::mem::take(&mut builder.blocks),
        extensions: std::mem::take(&mut builder.extensions),
        agents: std::mem::take(&mut builder.agents),
        workflows: std::mem::take(&mut builder.workflows),
        resources: builder.links.used(),
        warnings: std::mem::take(&mut builder.warnings),
        secrets: builder.reusable.secrets.iter().cloned().collect(),
        secret_values: secret_values(builder),
    })
}

/// What expressions see as `$secrets`: of each secret of `use.secrets` the keys that some expression names.
fn secret_values(builder: &Builder) -> Value {
    let values = |name: &str| -> Map<String, Value> {
        let keys = builder.secret_keys.get(name).into_iter().flatten();
        keys.map(|key| (key.clone(), secret_placeholder(name, key).into())).collect()
    };
    builder.reusable.secrets.iter().map(|name| (name.clone(), Value::Object(values(name)))).collect()
}

fn read_about(fields: &mut Fields<'_>, builder: &mut Builder) -> About {
    let Some(mut fields) = fields.need_object("document", builder) else { return About::default() };
    let mut text =
        |fields: &mut Fields<'_>, name| fields.need_text(name, builder).map(str::to_owned).unwrap_or_default();
    let mut about = About {
        dsl: text(&mut fields, "dsl"),
        namespace: text(&mut fields, "namespace"),
        name: text(&mut fields, "name"),
        version: text(&mut fields, "version"),
        title: None,
        summary: None,
    };
    about.title = fields.text("title", builder).map(str::to_owned);
    about.summary = fields.text("summary", builder).map(str::to_owned);
    for name in ["tags", "metadata"] {
        fields.object(name, builder);
    }
    let known = is_version(&about.dsl) && about.dsl.starts_with("1.0.");
    if !about.dsl.is_empty() && !known {
        builder.violate(
            &fields.at("dsl"),
            format!("is '{}', allowed are the versions 1.0.0 and later of 1.0", shown(&about.dsl)),
        );
    }
    if !about.version.is_empty() && !is_version(&about.version) {
        builder.violate(
            &fields.at("version"),
            format!("'{}' is not a semantic version such as '1.0.0'", shown(&about.version)),
        );
    }
    for (name, value) in [("namespace", &about.namespace), ("name", &about.name)] {
        if !value.is_empty() && !is_label(value) {
            builder.violate(&fields.at(name), format!("'{}' is not a valid name; allowed are 1 to 63 letters, digits and '-', beginning and ending with a letter or digit", shown(value)));
        }
    }
    fields.close(builder);
    about
}

fn read_evaluate(fields: &mut Fields<'_>, builder: &mut Builder) {
    let Some(mut fields) = fields.object("evaluate", builder) else { return };
    fields.word("language", &["jq"], builder);
    builder.loose = fields.word("mode", &["strict", "loose"], builder) == Some("loose");
    fields.close(builder);
}

/// A name as the language has it: an RFC 1123 label, capitals allowed.
fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    (1..=63).contains(&text.len())
        && text.starts_with(plain)
        && text.ends_with(plain)
        && text.chars().all(|c| plain(c) || c == '-')
}

/// A semantic version: three numbers without leading zeros, then perhaps `-pre` and `+build`.
pub(crate) fn is_version(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let number = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
    };
    let words = |text: &str| {
        text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    core.split('.').count() == 3 && core.split('.').all(number) && pre.is_none_or(words) && build.is_none_or(words)
}

fn deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| deeper_than(item, levels - 1)),
        Value::Object(fields) => levels == 0 || fields.values().any(|item| deeper_than(item, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
