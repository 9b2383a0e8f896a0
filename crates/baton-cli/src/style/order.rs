//! In which order fields stand: that of the DSL reference's tables; of resources, that of Kubernetes.

use crate::yaml::tree::{Body, Node};

/// What an object is, as far as its place in a document tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A document: a resource, a list of them, or bare.
    Document,
    Metadata,
    /// The spec of a resource that has a definition.
    Spec,
    Workflow,
    About,
    Use,
    /// An object of named things of a form.
    Named(&'static Form),
    /// A list of things of a form.
    List(&'static Form),
    /// An object with one field, the name of a task.
    TaskItem,
    Task,
    For,
    Fork,
    Catch,
    Retry,
    Listen,
    Foreach,
    Run,
    Process,
    CallHttp,
    CallOpenApi,
    CallGrpc,
    CallAsyncApi,
    CallA2a,
    CallMcp,
    CallAgent,
    Endpoint,
    CaseItem,
    Case,
    Error,
    DataFlow,
    Schema,
    Extension,
    Schedule,
    /// The author's own, or not known: the order is kept.
    Free,
}

const NOTHING: &[&str] = &[];

impl Form {
    /// Its fields in order; others follow as they stand.
    pub(super) fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Document => &["apiVersion", "kind", "metadata", "items", "spec", "status"],
            Self::Metadata => &["name", "generateName", "namespace", "labels", "annotations"],
            Self::Workflow => &["document", "input", "use", "do", "timeout", "output", "schedule", "evaluate"],
            Self::About => &["dsl", "namespace", "name", "version", "title", "summary", "tags", "metadata"],
            Self::Use => {
                &["authentications", "catalogs", "errors", "extensions", "functions", "retries", "secrets", "timeouts"]
            }
            Self::Task => &[
                "if", "input", "call", "with", "emit", "for", "while", "fork", "listen", "foreach", "raise", "run",
                "set", "switch", "try", "catch", "wait", "do", "output", "export", "timeout", "then", "metadata",
            ],
            Self::For => &["each", "in", "at"],
            Self::Fork => &["branches", "compete"],
            Self::Catch => &["errors", "as", "when", "exceptWhen", "retry", "do", "then"],
            Self::Retry => &["when", "exceptWhen", "delay", "limit", "backoff", "jitter"],
            Self::Listen => &["to", "read"],
            Self::Foreach => &["item", "at", "do", "output", "export"],
            Self::Run => &["container", "script", "shell", "workflow", "await", "return"],
            Self::Process => &[
                "image",
                "language",
                "namespace",
                "name",
                "version",
                "command",
                "code",
                "source",
                "ports",
                "volumes",
                "environment",
                "stdin",
                "arguments",
                "input",
                "lifetime",
                "pullPolicy",
            ],
            Self::CallHttp => &["method", "endpoint", "headers", "body", "query", "output", "redirect"],
            Self::CallOpenApi => &["document", "operationId", "parameters", "authentication", "output", "redirect"],
            Self::CallGrpc => &["proto", "service", "method", "arguments"],
            Self::CallAsyncApi => {
                &["document", "channel", "operation", "server", "protocol", "message", "subscription", "authentication"]
            }
            Self::CallA2a => &["method", "agentCard", "server", "parameters"],
            Self::CallMcp => &["protocolVersion", "method", "parameters", "timeout", "transport", "client"],
            Self::CallAgent => &["agent", "message", "input", "session", "env", "timeout", "limits", "await"],
            Self::Endpoint => &["uri", "authentication"],
            Self::Case => &["when", "then"],
            Self::Error => &["type", "status", "instance", "title", "detail"],
            Self::DataFlow => &["schema", "from", "as"],
            Self::Schema => &["format", "document", "resource"],
            Self::Extension => &["extend", "when", "before", "after"],
            Self::Schedule => &["every", "cron", "after", "on", "read"],
            Self::Spec | Self::Named(_) | Self::List(_) | Self::TaskItem | Self::CaseItem | Self::Free => NOTHING,
        }
    }

    /// What the value of a field is.
    pub(super) fn field(self, key: &str, object: &Node) -> Self {
        match (self, key) {
            (Self::Document, "metadata") => Self::Metadata,
            (Self::Document, "spec") => Self::Spec,
            (Self::Document, "items") => Self::List(&Self::Document),
            // A bare workflow stands for its definition.
            (Self::Document, _) if is_workflow(object) => Self::Workflow.field(key, object),
            (Self::Spec, "definition") => match object.get(key) {
                Some(definition) if is_workflow(definition) => Self::Workflow,
                _ => Self::Free,
            },
            (Self::Workflow, "document") => Self::About,
            (Self::Workflow, "use") => Self::Use,
            (Self::Workflow, "schedule") => Self::Schedule,
            (Self::Workflow | Self::Task | Self::Foreach | Self::Catch, "do")
            | (Self::Task, "try")
            | (Self::Fork, "branches")
            | (Self::Extension, "before" | "after") => Self::List(&Self::TaskItem),
            (Self::Workflow | Self::Task | Self::Foreach, "input" | "output" | "export") => Self::DataFlow,
            (Self::DataFlow, "schema") => Self::Schema,
            (Self::Use, "errors") | (Self::Task, "raise") => Self::Named(&Self::Error),
            (Self::Use, "retries") => Self::Named(&Self::Retry),
            (Self::Use, "functions") => Self::Named(&Self::Task),
            (Self::Use, "extensions") => Self::List(&Self::Named(&Self::Extension)),
            (Self::Named(form), _) => *form,
            (Self::TaskItem, _) => Self::Task,
            (Self::CaseItem, _) => Self::Case,
            (Self::Task, "with") => called(object),
            (Self::Task, "for") => Self::For,
            (Self::Task, "fork") => Self::Fork,
            (Self::Task, "catch") => Self::Catch,
            (Self::Task, "listen") => Self::Listen,
            (Self::Task, "foreach") => Self::Foreach,
            (Self::Task, "run") => Self::Run,
            (Self::Task, "switch") => Self::List(&Self::CaseItem),
            (Self::Catch, "retry") => Self::Retry,
            (Self::Run, _) => Self::Process,
            (Self::CallHttp, "endpoint") => Self::Endpoint,
            _ => Self::Free,
        }
    }

    /// What an item of a list is.
    pub(super) fn item(self) -> Self {
        match self {
            Self::List(form) => *form,
            _ => Self::Free,
        }
    }

    /// The form of a document that may be bare.
    pub(super) fn of_document(root: &Node) -> Self {
        if root.get("kind").is_none() && is_workflow(root) { Self::Workflow } else { Self::Document }
    }
}

/// What `with` holds of a call.
fn called(task: &Node) -> Form {
    match task.get("call").and_then(Node::scalar) {
        Some("http") => Form::CallHttp,
        Some("openapi") => Form::CallOpenApi,
        Some("grpc") => Form::CallGrpc,
        Some("asyncapi") => Form::CallAsyncApi,
        Some("a2a") => Form::CallA2a,
        Some("mcp") => Form::CallMcp,
        Some("baton.dev/agent") => Form::CallAgent,
        _ => Form::Free,
    }
}

fn is_workflow(node: &Node) -> bool {
    matches!(node.get("document").map(|about| &about.body), Some(Body::Mapping { .. })) && node.get("do").is_some()
}
