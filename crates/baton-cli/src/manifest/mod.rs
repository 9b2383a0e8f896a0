//! Manifests: files, folders and stdin as resources, before anything is sent.
//!
//! A document is a resource (`apiVersion`, `kind`), a list of resources, a `Run` (for `baton run` only), or bare: a
//! workflow document (it has `document`), or the spec of an agent (it has `instructions`).
//!
//! # Invariants
//! - All that is wrong with all documents is told at once, each with file and field.
//! - A folder is read in the order of its file names, not into its subfolders; one with a `SKILL.md` is a skill, with all that is
//!   below it ([`skill`]).
//! - Files that a workflow names by `file://` are given along ([`files()`]).
//! - `playback: {file: …}` in an agent's model is replaced by what the file holds, found from the manifest's folder.

mod files;
mod read;
mod run;
mod skill;
pub(crate) mod text;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use baton_proto::{API_VERSION, JsonError, from_json_value, kind as kinds};
use baton_types::Violation;
use serde_json::{Value, json};

pub(crate) use read::{InputArg, Which, files, legacy_files, read_bytes, read_documents, read_file, read_text};
pub(crate) use run::{RunSpec, ServiceSpec};

use crate::{
    failure::{Failure, Finding},
    kind::{Kind, Object, with_kind},
    offline,
    yaml::Origin,
};

/// `kind` of the document that only `baton run` reads.
pub(crate) const RUN_KIND: &str = "Run";

/// One document.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// File and number of the document, such as `agents.yaml#2`.
    pub(crate) origin: Origin,
    /// Where relative paths in it are found from.
    pub(crate) folder: PathBuf,
    pub(crate) content: Content,
}

/// What a document holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Resource(Object),
    Run(Box<RunSpec>),
    /// A workflow document as it stands, with the files that it names under `baton.dev/resources`.
    BareWorkflow(Value),
    /// The spec of an agent as it stands.
    BareAgent(Value),
}

impl Manifest {
    /// The resource; what is bare becomes one, named by `document.name` or by its file.
    pub(crate) fn resource(&self) -> Result<Option<Object>, Failure> {
        let (kind, name, spec) = match &self.content {
            Content::Resource(object) => return Ok(Some(object.clone())),
            Content::Run(_) => return Ok(None),
            Content::BareWorkflow(document) => {
                let name = document.pointer("/document/name").and_then(Value::as_str).unwrap_or_default();
                (kinds::WORKFLOW, name.to_owned(), offline::spec_of(document))
            }
            Content::BareAgent(spec) => (kinds::AGENT, self.stem(), spec.clone()),
        };
        let value = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
        decode(value).map(Some).map_err(|violations| Failure::violations(violations).within(&self.origin))
    }

    /// Name of the file without its ending, as a resource may be named.
    pub(crate) fn stem(&self) -> String {
        let stem =
            Path::new(self.origin.source().name()).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let plain: String = stem
            .to_ascii_lowercase()
            .chars()
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
            .collect();
        let plain = plain.trim_matches('-');
        if plain.is_empty() { "stdin".to_owned() } else { plain.to_owned() }
    }
}

/// Reads the documents of files, folders and stdin (`-`), in the order given.
pub(crate) fn load(paths: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let (manifests, findings) = load_what_can_be_read(paths)?;
    if findings.is_empty() { Ok(manifests) } else { Err(Failure::findings(findings)) }
}

/// The same with what is wrong beside it, so that what can be read is checked further.
pub(crate) fn load_what_can_be_read(paths: &[PathBuf]) -> Result<(Vec<Manifest>, Vec<Finding>), Failure> {
    let (documents, mut findings) = documents(paths, Which::Manifests)?;
    let mut manifests = Vec::new();
    for Document { origin, folder, value } in documents {
        for (part, item) in items(value) {
            let origin = part.map_or_else(|| origin.clone(), |index| origin.item(index));
            match read_document(item, &origin, &folder) {
                Ok(content) => {
                    let origin = match &content {
                        Content::BareWorkflow(_) => origin.bare("spec.definition"),
                        Content::BareAgent(_) => origin.bare("spec"),
                        Content::Resource(_) | Content::Run(_) => origin,
                    };
                    manifests.push(Manifest { origin, folder: folder.clone(), content });
                }
                Err(found) => findings.extend(found.into_iter().map(|it| Finding::within(it, &origin))),
            }
        }
    }
    Ok((manifests, findings))
}

/// A document of a file, whatever it holds.
pub(crate) struct Document {
    pub(crate) origin: Origin,
    /// Where relative paths in it are found from.
    pub(crate) folder: PathBuf,
    pub(crate) value: Value,
}

/// Reads the documents of files, folders and stdin, in the order given, and says which files cannot be read as YAML.
pub(crate) fn documents(paths: &[PathBuf], which: Which) -> Result<(Vec<Document>, Vec<Finding>), Failure> {
    let (mut documents, mut findings) = (Vec::new(), Vec::new());
    for path in paths.iter().filter(|path| which == Which::Manifests && skill::is_one(path)) {
        let (source, value) = skill::read(path)?;
        documents.push(Document { origin: Origin::new(source, 0, false), folder: path.clone(), value });
    }
    let others: Vec<PathBuf> =
        paths.iter().filter(|path| which != Which::Manifests || !skill::is_one(path)).cloned().collect();
    for file in read::files(&others, which)? {
        let source = text::decode(&file.origin, &file.text)?;
        match text::parse_source(&source).map_err(Failure::into_findings) {
            Ok(values) => {
                let several = values.len() > 1;
                documents.extend(values.into_iter().enumerate().map(|(index, value)| Document {
                    origin: Origin::new(Arc::clone(&source), index, several),
                    folder: file.folder.clone(),
                    value,
                }));
            }
            Err(Ok(found)) => findings.extend(found),
            Err(Err(failure)) => return Err(failure),
        }
    }
    Ok((documents, findings))
}

/// The items of a list such as `baton get … -o yaml` writes, by number, or the document itself.
fn items(document: Value) -> Vec<(Option<usize>, Value)> {
    let is_list = document.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Object(mut fields) if is_list && matches!(fields.get("items"), Some(Value::Array(_))) => {
            match fields.remove("items") {
                Some(Value::Array(items)) => {
                    items.into_iter().enumerate().map(|(index, item)| (Some(index), item)).collect()
                }
                _ => Vec::new(),
            }
        }
        other => vec![(None, other)],
    }
}

fn read_document(mut document: Value, origin: &Origin, folder: &Path) -> Result<Content, Vec<Violation>> {
    let Value::Object(fields) = &document else {
        return Err(vec![Violation::new(
            "",
            "must be an object with apiVersion and kind, a workflow document, or an agent's spec",
        )]);
    };
    let kind = fields.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "" if fields.contains_key("document") => {
            files::give_along(&mut document, folder)?;
            return Ok(Content::BareWorkflow(document));
        }
        "" if fields.contains_key("instructions") => {
            inline_playback(&mut document, &["model"], folder).map_err(|it| vec![it])?;
            return Ok(Content::BareAgent(document));
        }
        kinds::WORKFLOW | kinds::WORKFLOW_EXECUTION => files::give_along_in_spec(&mut document, folder)?,
        RUN_KIND => return run::read(document).map(|run| Content::Run(Box::new(run))),
        kinds::AGENT => inline_playback(&mut document, &["spec", "model"], folder).map_err(|it| vec![it])?,
        kinds::AGENT_EXECUTION => {
            inline_playback(&mut document, &["spec", "definition", "model"], folder).map_err(|it| vec![it])?;
        }
        _ => {}
    }
    tracing::debug!(%origin, kind, "read a manifest");
    decode(document).map(Content::Resource)
}

/// Reads a resource of whatever kind it says it is.
pub(crate) fn decode(document: Value) -> Result<Object, Vec<Violation>> {
    let word = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (version, kind) = (word("apiVersion"), word("kind"));
    let known = Kind::from_name(&kind);
    let mut violations = Vec::new();
    if known.is_none() {
        let allowed: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let found =
            if kind.is_empty() { "is missing".to_owned() } else { format!("'{kind}' is not a kind of this API") };
        violations.push(Violation::new("kind", format!("{found}; allowed are {}", allowed.join(", "))));
    }
    if version != API_VERSION {
        let found = if version.is_empty() { "is missing".to_owned() } else { format!("'{version}' is not served") };
        violations.push(Violation::new("apiVersion", format!("{found}; allowed is '{API_VERSION}'")));
    }
    if document.pointer("/status/callbackToken").is_some() {
        violations.push(Violation::new(
            "status.callbackToken",
            "the callback token is input: it belongs in spec.callbackToken",
        ));
    }
    let Some(kind) = known.filter(|_| violations.is_empty()) else { return Err(violations) };
    let read = with_kind!(kind, K => from_json_value::<K>(document).map(Object::from));
    read.map_err(|error| match error {
        JsonError::Fields(violations) => violations,
        JsonError::Syntax(what) => vec![Violation::new("", what)],
    })
}

/// Puts the content of `playback.file` in place of it.
fn inline_playback(document: &mut Value, path: &[&str], folder: &Path) -> Result<(), Violation> {
    let Some(playback) = path
        .iter()
        .try_fold(document, |value, field| value.get_mut(*field))
        .and_then(|model| model.get_mut("playback"))
    else {
        return Ok(());
    };
    let Some(file) = playback.get("file") else { return Ok(()) };
    let field = format!("{}.playback.file", path.join("."));
    let wrong = |message: String| Violation::new(field.clone(), message);
    let Some(file) = file.as_str() else { return Err(wrong("must be the path of a file".to_owned())) };
    if playback.as_object().is_some_and(|fields| fields.len() > 1) {
        return Err(wrong("stands for all of playback; leave out what is beside it".to_owned()));
    }
    let path = folder.join(file);
    let shown = path.display().to_string();
    let text = read_bytes(&path).map_err(|failure| wrong(failure.plain()))?;
    let mut documents = text::parse_yaml(&shown, &text).map_err(|failure| wrong(failure.plain()))?;
    match documents.len() {
        1 => *playback = documents.remove(0),
        count => return Err(wrong(format!("'{shown}' holds {count} documents; a playback script is one"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
