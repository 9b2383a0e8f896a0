//! What a document joins by name: functions, catalogs, and whatever is kept elsewhere.
//!
//! A function is read once and becomes a block of one task that every call of it enters. What is kept elsewhere (functions
//! by URL or from a catalog, schemas with `resource`) stands in the document under [`RESOURCES`]; what does not is noted
//! as missing, for whoever can fetch it.
//!
//! # Invariants
//! - Reading is not recursive over calls: a call only notes the function, which is read later. So functions that call
//!   each other in a circle end here, as a violation.
//! - Nothing is fetched here; the same document and the same resources give the same definition.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::{
    data::kind_of,
    document::{Builder, Fields, enclosed, quoted, reusable::named, shown},
    task::{self, Block, BlockId},
};

/// The key of a document under which stands what it refers to and is kept elsewhere: contents by URI.
pub const RESOURCES: &str = "baton.dev/resources";

/// What stands for the endpoint of the default catalog in the URIs of its functions: only the server knows the endpoint.
pub const CATALOG_DEFAULT: &str = "catalog:default";

/// What violations say of something that has not been fetched.
pub const NOT_THERE: &str = "is kept elsewhere and is not among the resources";

/// Resources of one document.
const RESOURCES_MAX: usize = 64;

/// Functions that may be under way within each other.
const CALLS_DEPTH_MAX: usize = 32;

/// Something that a document refers to and that is kept elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct External {
    /// Where it is, and the key of its content in [`RESOURCES`].
    pub uri: String,
    /// What it must be.
    pub kind: ExternalKind,
    /// Path of the first place that refers to it, such as `do[0].log.call`.
    pub field: String,
    /// How to say who asks: an authentication policy of the document without expressions, such as `{"basic": {…}}`.
    pub authentication: Option<Value>,
}

/// What is kept elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalKind {
    /// The definition of a task.
    Function,
    /// A JSON Schema.
    Schema,
    /// A file beside the document (`file://…`) that describes a service: a proto file, OpenAPI, AsyncAPI. Its content is a text.
    File,
}

impl ExternalKind {
    /// For messages.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Schema => "schema",
            Self::File => "file",
        }
    }
}

/// What was joined so far.
#[derive(Default)]
pub(crate) struct Links {
    resources: Map<String, Value>,
    used: BTreeSet<String>,
    missing: Vec<External>,
    catalogs: BTreeMap<String, Option<Endpoint>>,
    /// As they are written, by name.
    authentications: BTreeMap<String, Value>,
    functions: Vec<Function>,
    by_name: BTreeMap<String, usize>,
    /// How many of the functions were read.
    read: usize,
    /// The function that is being read.
    caller: Option<usize>,
}

struct Function {
    name: String,
    block: BlockId,
    definition: Option<Value>,
    path: String,
    pointer: String,
    /// Where it was fetched from.
    base: Option<String>,
    /// Functions that it calls, each with the path of the call.
    calls: Vec<(usize, String)>,
}

/// A literal address, and how to say who asks.
#[derive(Clone)]
struct Endpoint {
    uri: String,
    authentication: Option<Value>,
}

/// What was found under [`RESOURCES`].
pub(crate) struct Fetched {
    pub(crate) content: Value,
    /// Where it stands, for violations.
    pub(crate) path: String,
}

impl Links {
    pub(crate) fn into_missing(self) -> Vec<External> {
        self.missing
    }

    pub(crate) fn used(&self) -> Vec<String> {
        self.used.iter().cloned().collect()
    }

    pub(crate) fn note_authentication(&mut self, name: &str, value: &Value) {
        self.authentications.insert(name.to_owned(), value.clone());
    }
}

/// Reads the top-level key of what was fetched.
pub(super) fn read_resources(document: &mut Fields<'_>, builder: &mut Builder) {
    let Some(value) = document.hidden(RESOURCES) else { return };
    match value {
        Value::Object(resources) if resources.len() <= RESOURCES_MAX => {
            builder.links.resources.clone_from(resources);
        }
        Value::Object(resources) => {
            builder.violate(RESOURCES, format!("has {} resources, allowed are up to {RESOURCES_MAX}", resources.len()));
        }
        other => builder.violate(RESOURCES, format!("must be an object of contents by URI, found {}", kind_of(other))),
    }
}

/// Reads `use.catalogs`.
pub(super) fn read_catalogs(parent: &mut Fields<'_>, builder: &mut Builder) {
    for (name, value, path) in named(parent, "catalogs", builder) {
        let endpoint = Fields::open(value, path, builder).and_then(|mut fields| {
            let endpoint = fields.need("endpoint", builder);
            let endpoint = endpoint.and_then(|value| builder.literal_endpoint(value, &fields.at("endpoint")));
            fields.close(builder);
            endpoint
        });
        builder.links.catalogs.insert(name, endpoint);
    }
}

/// Notes a function of `use.functions`, to be read when all names are known.
pub(super) fn define(builder: &mut Builder, name: &str, value: &Value, path: String) {
    let pointer = format!("/use/functions/{}", task::escape(name));
    builder.add_function(name, Some(value.clone()), path, pointer, None);
}

/// Reads the functions that were noted and not read yet, and those that they call.
pub(super) fn read_functions(builder: &mut Builder) {
    while let Some(function) = builder.links.functions.get_mut(builder.links.read) {
        let number = builder.links.read;
        builder.links.read += 1;
        let (name, path, pointer) = (function.name.clone(), function.path.clone(), function.pointer.clone());
        let Some(definition) = function.definition.take() else { continue };
        builder.links.caller = Some(number);
        let task = builder.apart(|builder| task::read_function(builder, &name, &definition, &path, &pointer));
        builder.links.caller = None;
        let block = builder.links.functions[number].block;
        if let (Some(task), Some(block)) = (task, builder.blocks.get_mut(block)) {
            block.tasks.push(task);
        }
    }
}

/// Notes functions that call themselves, and calls that go too deep.
pub(super) fn check_calls(builder: &mut Builder) {
    // How deep the calls below a function go, once all of them are known.
    let mut depths: Vec<Option<usize>> = vec![None; builder.links.functions.len()];
    let mut under_way = vec![false; depths.len()];
    let mut found = Vec::new();
    for first in 0..depths.len() {
        // The functions under way, each with how many of its calls were followed.
        let mut way: Vec<(usize, usize)> = if depths[first].is_none() { vec![(first, 0)] } else { Vec::new() };
        while let Some(&mut (function, ref mut followed)) = way.last_mut() {
            under_way[function] = true;
            let calls = &builder.links.functions[function].calls;
            let Some((callee, path)) = calls.get(*followed) else {
                let below = calls.iter().filter_map(|(callee, _)| depths[*callee]).max().unwrap_or(0);
                depths[function] = Some(below + 1);
                under_way[function] = false;
                way.pop();
                continue;
            };
            *followed += 1;
            if under_way[*callee] {
                let circle = way.iter().skip_while(|(known, _)| known != callee);
                let names = circle.map(|(function, _)| *function).chain([*callee]);
                let circle: Vec<String> =
                    names.map(|function| shown(&builder.links.functions[function].name)).collect();
                found.push((path.clone(), format!("functions must not call themselves: {}", circle.join(" -> "))));
            } else if depths[*callee].is_none() {
                way.push((*callee, 0));
            }
        }
    }
    for (function, depth) in builder.links.functions.iter().zip(depths) {
        // The outermost of a chain that is too long is told, not each of its links.
        if depth == Some(CALLS_DEPTH_MAX + 1) {
            let message = format!("calls functions within functions deeper than {CALLS_DEPTH_MAX} levels");
            found.push((function.path.clone(), message));
        }
    }
    for (path, message) in found {
        builder.violate(&path, message);
    }
}

impl Builder {
    /// The block of the function that a task calls: by its name in `use.functions`, by a URL, or from a catalog.
    pub(crate) fn function(&mut self, name: &str, path: &str) -> Option<BlockId> {
        let known = self.links.by_name.get(name).copied();
        let number = match known {
            Some(number) => number,
            None => self.fetched_function(name, path)?,
        };
        if let Some(caller) = self.links.caller {
            self.links.functions[caller].calls.push((number, path.to_owned()));
        }
        Some(self.links.functions[number].block)
    }

    fn fetched_function(&mut self, name: &str, path: &str) -> Option<usize> {
        let endpoint = if is_http(name) {
            self.literal_uri(name, path)?;
            Endpoint { uri: raw_uri(name), authentication: None }
        } else if let Some((function, catalog)) = name.rsplit_once('@') {
            self.cataloged(function, catalog, path)?
        } else {
            let known = self.links.functions.iter().filter(|function| function.base.is_none());
            let message = format!(
                "no function named '{}' in use.functions; functions there are {}; others are called by URL or as 'name:version@catalog'",
                shown(name),
                quoted(known.map(|function| function.name.as_str()))
            );
            self.violate(path, message);
            return None;
        };
        let pointer = format!("/{}/{}", task::escape(RESOURCES), task::escape(&endpoint.uri));
        let base = endpoint.uri.clone();
        let found = self.fetched(endpoint, ExternalKind::Function, path);
        let (content, at) = found.map_or((None, String::new()), |found| (Some(found.content), found.path));
        Some(self.add_function(name, content, at, pointer, Some(base)))
    }

    fn cataloged(&mut self, function: &str, catalog: &str, path: &str) -> Option<Endpoint> {
        let plain = |text: &str| {
            !text.is_empty()
                && text != "."
                && text != ".."
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
        };
        let Some((name, version)) = function.split_once(':').filter(|(name, version)| plain(name) && plain(version))
        else {
            let message = format!(
                "'{}@{}' does not name a function of a catalog; the form is 'name:version@catalog'",
                shown(function),
                shown(catalog)
            );
            self.violate(path, message);
            return None;
        };
        let file = format!("functions/{name}/{version}/function.yaml");
        match self.links.catalogs.get(catalog).cloned() {
            Some(Some(Endpoint { uri, authentication })) => {
                Some(Endpoint { uri: catalog_uri(&uri, &file), authentication })
            }
            // What is wrong with the catalog was told where it stands.
            Some(None) => None,
            None if catalog == "default" => {
                Some(Endpoint { uri: format!("{CATALOG_DEFAULT}/{file}"), authentication: None })
            }
            None => {
                let known = quoted(self.links.catalogs.keys().map(String::as_str));
                let message = format!(
                    "no catalog named '{}' in use.catalogs; catalogs there are {known}; 'default' is the server's own",
                    shown(catalog)
                );
                self.violate(path, message);
                None
            }
        }
    }

    fn add_function(
        &mut self,
        name: &str,
        definition: Option<Value>,
        path: String,
        pointer: String,
        base: Option<String>,
    ) -> usize {
        self.blocks.push(Block { tasks: Vec::new(), parallel: false });
        let block = self.blocks.len() - 1;
        let number = self.links.functions.len();
        let function = Function { name: name.to_owned(), block, definition, path, pointer, base, calls: Vec::new() };
        self.links.functions.push(function);
        self.links.by_name.insert(name.to_owned(), number);
        number
    }

    /// Reads an external resource that is a schema; `None` after a violation.
    pub(crate) fn schema_resource(&mut self, mut fields: Fields<'_>) -> Option<Fetched> {
        fields.text("name", self);
        let endpoint = fields.need("endpoint", self);
        let path = fields.at("endpoint");
        let endpoint = endpoint.and_then(|value| self.literal_endpoint(value, &path));
        fields.close(self);
        let endpoint = endpoint?;
        self.fetched(Endpoint { uri: raw_uri(&endpoint.uri), ..endpoint }, ExternalKind::Schema, &path)
    }

    /// The text of a file (`file://…`) that was given along with the document; `None` after a violation.
    pub(crate) fn file(&mut self, uri: &str, path: &str) -> Option<Value> {
        let endpoint = Endpoint { uri: uri.to_owned(), authentication: None };
        let Fetched { content, path } = self.fetched(endpoint, ExternalKind::File, path)?;
        if content.is_string() {
            return Some(content);
        }
        self.violate(&path, format!("must be the text of a file, found {}", kind_of(&content)));
        None
    }

    /// What is kept at an address; if it is not there, that is noted.
    fn fetched(&mut self, endpoint: Endpoint, kind: ExternalKind, field: &str) -> Option<Fetched> {
        let Endpoint { uri, authentication } = endpoint;
        if let Some(content) = self.links.resources.get(&uri) {
            let path = format!("{RESOURCES}.{}", shown(&uri));
            let content = content.clone();
            self.links.used.insert(uri);
            return Some(Fetched { content, path });
        }
        let message =
            format!("refers to a {} that {NOT_THERE}: {}", kind.title(), uri.chars().take(256).collect::<String>());
        self.violate(field, message);
        if self.links.missing.len() == RESOURCES_MAX {
            self.violate(field, format!("is one resource too many; a document may refer to {RESOURCES_MAX}"));
        } else if !self.links.missing.iter().any(|known| known.uri == uri) {
            self.links.missing.push(External { uri, kind, field: field.to_owned(), authentication });
        }
        None
    }

    /// Reads the endpoint of something that is fetched before anything runs.
    fn literal_endpoint(&mut self, value: &Value, path: &str) -> Option<Endpoint> {
        if let Value::String(text) = value {
            let uri = self.literal_uri(text, path)?;
            return Some(Endpoint { uri, authentication: None });
        }
        let mut fields = Fields::open(value, path, self)?;
        let uri = fields.need_text("uri", self).and_then(|text| self.literal_uri(text, &fields.at("uri")));
        task::authentication::read_field(self, &mut fields);
        let policy = fields.get("authentication");
        let at = fields.at("authentication");
        let authentication = policy.and_then(|policy| self.literal_authentication(policy, &at));
        fields.close(self);
        Some(Endpoint { uri: uri?, authentication })
    }

    /// An absolute URI; within a function that was fetched, one that is relative to it.
    fn literal_uri(&mut self, text: &str, path: &str) -> Option<String> {
        let base = self.links.caller.and_then(|caller| self.links.functions[caller].base.as_deref());
        let message = if enclosed(text).is_some() || text.contains(['{', '}']) {
            "must be a fixed URI: it is fetched before there is an execution".to_owned()
        } else if is_http(text) && url::Url::parse(text).is_ok() {
            return Some(text.to_owned());
        } else if let Some(uri) = base.and_then(|base| url::Url::parse(base).ok()?.join(text).ok())
            && is_http(uri.as_str())
        {
            return Some(uri.into());
        } else {
            format!("'{}' is not an absolute http or https URI", shown(text))
        };
        self.violate(path, message);
        None
    }

    /// A policy as it is written, a named one looked up.
    fn literal_authentication(&mut self, policy: &Value, path: &str) -> Option<Value> {
        let policy = match policy.get("use").and_then(Value::as_str) {
            Some(name) => self.links.authentications.get(name)?,
            None => policy,
        };
        if has_expression(policy) {
            self.violate(path, "must have no expressions: it is used before there is an execution");
            return None;
        }
        Some(policy.clone())
    }
}

fn has_expression(value: &Value) -> bool {
    match value {
        Value::String(text) => enclosed(text).is_some(),
        Value::Array(items) => items.iter().any(has_expression),
        Value::Object(fields) => fields.values().any(has_expression),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_http(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// The URI of a file of a catalog, as a machine can read it.
///
/// A repository at GitHub stands for its files on the branch that the endpoint names, else on the repository's default one.
pub fn catalog_uri(endpoint: &str, file: &str) -> String {
    let uri = format!("{}/{file}", endpoint.trim_end_matches('/'));
    let raw = raw_uri(&uri);
    let repository = raw.strip_prefix("https://github.com/").and_then(|rest| {
        let (owner, rest) = rest.split_once('/')?;
        let (name, file) = rest.split_once('/')?;
        Some(format!("https://raw.githubusercontent.com/{owner}/{}/HEAD/{file}", name.trim_end_matches(".git")))
    });
    repository.unwrap_or(raw)
}

/// The page that shows a file of a repository at GitHub or GitLab stands for the file itself.
pub(super) fn raw_uri(uri: &str) -> String {
    let github = || {
        let mut parts = uri.strip_prefix("https://github.com/")?.splitn(5, '/');
        let (owner, name, view) = (parts.next()?, parts.next()?, parts.next()?);
        let (branch, file) = (parts.next()?, parts.next()?);
        matches!(view, "tree" | "blob")
            .then(|| format!("https://raw.githubusercontent.com/{owner}/{name}/refs/heads/{branch}/{file}"))
    };
    let gitlab = || {
        let rest = uri.strip_prefix("https://gitlab.com/")?;
        let (project, file) = rest.split_once("/-/tree/").or_else(|| rest.split_once("/-/blob/"))?;
        Some(format!("https://gitlab.com/{project}/-/raw/{file}"))
    };
    github().or_else(gitlab).unwrap_or_else(|| uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_stand_for_their_files() {
        let file = "functions/log/1.0.0/function.yaml";
        for (endpoint, expected) in [
            ("https://example.com/catalog/", "https://example.com/catalog/functions/log/1.0.0/function.yaml"),
            (
                "https://github.com/serverlessworkflow/catalog",
                "https://raw.githubusercontent.com/serverlessworkflow/catalog/HEAD/functions/log/1.0.0/function.yaml",
            ),
            (
                "https://github.com/serverlessworkflow/catalog/tree/main",
                "https://raw.githubusercontent.com/serverlessworkflow/catalog/refs/heads/main/functions/log/1.0.0/function.yaml",
            ),
            (
                "https://gitlab.com/group/sub/catalog/-/tree/main",
                "https://gitlab.com/group/sub/catalog/-/raw/main/functions/log/1.0.0/function.yaml",
            ),
        ] {
            assert_eq!(catalog_uri(endpoint, file), expected);
        }
        let page = "https://github.com/a/b/blob/main/f/function.yaml";
        assert_eq!(raw_uri(page), "https://raw.githubusercontent.com/a/b/refs/heads/main/f/function.yaml");
    }
}
