//! Files that a workflow names by `file://`: read here and given along in `spec.resources`, as no server reads its own.
//!
//! # Invariants
//! - A file is found from the manifest's folder and is below it, links followed: somebody else's workflow cannot have a file
//!   from elsewhere sent to a server.

use std::path::{Path, PathBuf};

use baton_server::{ExternalKind, externals};
use baton_types::Violation;
use serde_json::{Map, Value};

use super::read::read_bytes;
use crate::offline::with_resources;

const SCHEME: &str = "file://";

/// Puts the texts of the files that a document names into the document.
pub(super) fn give_along(document: &mut Value, folder: &Path) -> Result<(), Vec<Violation>> {
    let given = contents(document, folder)?;
    *document = with_resources(document, given);
    Ok(())
}

/// The same for a resource with a definition: they go into `spec.resources`.
pub(super) fn give_along_in_spec(resource: &mut Value, folder: &Path) -> Result<(), Vec<Violation>> {
    let Some(spec) = resource.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    let own = spec.get("resources").and_then(Value::as_object).cloned().unwrap_or_default();
    let Some(definition) = spec.get("definition") else { return Ok(()) };
    let under = |violation: Violation| violation.under("spec.definition");
    let given = contents(&with_resources(definition, own), folder)
        .map_err(|violations| violations.into_iter().map(under).collect::<Vec<_>>())?;
    if !given.is_empty()
        && let Some(resources) = spec.entry("resources").or_insert_with(|| Map::new().into()).as_object_mut()
    {
        resources.extend(given);
    }
    Ok(())
}

fn contents(document: &Value, folder: &Path) -> Result<Map<String, Value>, Vec<Violation>> {
    let (mut given, mut violations) = (Map::new(), Vec::new());
    for file in externals(document).into_iter().filter(|it| it.kind == ExternalKind::File) {
        match content(&file.uri, folder) {
            Ok(text) => _ = given.insert(file.uri, text.into()),
            Err(why) => violations.push(Violation::new(&file.field, format!("'{}' {why}", file.uri))),
        }
    }
    if violations.is_empty() { Ok(given) } else { Err(violations) }
}

fn content(uri: &str, folder: &Path) -> Result<String, String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let real = |path: PathBuf| path.canonicalize().map_err(|error| format!("cannot be read: {error}"));
    let path = real(folder.join(uri.trim_start_matches(SCHEME)))?;
    if !path.starts_with(real(folder.to_owned())?) {
        return Err(format!("is not below '{}', the folder of the workflow", folder.display()));
    }
    let bytes = read_bytes(&path).map_err(|failure| format!("cannot be read: {}", failure.plain()))?;
    String::from_utf8(bytes).map_err(|_| "is not a text in UTF-8".to_owned())
}
