//! Proto files: fetched with all that they import, and compiled in memory.
//!
//! An import is looked for below the folder of the file that the task names, then below each folder above it: files
//! import each other by paths from a root that only their project knows. What was found once shows where the root is.
//!
//! # Invariants
//! - Imports are of the same origin: a path is joined, never a URL.
//! - Files, their sizes and the folders that are tried are limited.

use std::collections::BTreeMap;

use baton_execution::{ActivityTask, Fault, fault_type};
use prost_reflect::DescriptorPool;
use protox::{
    Compiler,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver},
};
use reqwest::Url;

use crate::{
    auth::Authenticator,
    documents::{Resource, fetch},
    outgoing::shown,
};

/// Files of one service; with all of them fetched one after the other.
const FILES_MAX: usize = 64;
/// Folders above the file that are tried for imports.
const ROOTS_MAX: usize = 8;
/// What imports of the language's own library begin with; the compiler brings them.
const WELL_KNOWN: &str = "google/protobuf/";

/// Bytes of all files of one service: schemas of whole companies are smaller.
const FILES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Levels of brackets within each other. The values of options are read by a parser that goes one call deeper with each, and a
/// thread whose stack is full ends the process.
const NESTING_MAX: usize = 64;

/// Fetches and compiles; says also how many bytes the files have.
pub(super) async fn load(
    authenticator: &Authenticator,
    proto: &Resource,
    task: &ActivityTask,
) -> Result<(DescriptorPool, usize), Fault> {
    let url = proto.url("the proto file")?;
    let root = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default().to_owned();
    if root.is_empty() {
        return Err(wrong(format!("{} names a folder, not a proto file", shown(&url))));
    }
    let source = proto.text(authenticator, "the proto file", task).await?;
    let mut files = Files { found: BTreeMap::new(), bytes: 0 };
    let mut wanted = files.add(&root, &source.bytes, &url)?;
    let mut roots = roots(&url);
    while let Some(name) = wanted.pop() {
        if files.found.contains_key(&name) || name.starts_with(WELL_KNOWN) {
            continue;
        }
        if proto.content.is_some() {
            let import = short(&name);
            return Err(wrong(format!(
                "the import \"{import}\" of a file that is given along cannot be had: keep the files at a URL, or make them one"
            )));
        }
        let (source, place) = import(authenticator, proto, &name, &mut roots, task).await?;
        wanted.extend(files.add(&name, &source, &place)?);
    }
    // Parsing and linking take time in proportion to the sources, which are limited.
    let (shown, bytes) = (shown(&url), files.bytes);
    let compiled = tokio::task::spawn_blocking(move || compile(files, &root, &shown)).await;
    let pool = compiled.map_err(|_| wrong("the proto file cannot be compiled".to_owned()))??;
    Ok((pool, bytes))
}

/// The folders below which imports may be, the nearest first.
fn roots(url: &Url) -> Vec<Url> {
    let mut roots = Vec::new();
    let mut folder = url.clone();
    folder.set_query(None);
    folder.set_fragment(None);
    for _ in 0..ROOTS_MAX {
        let Ok(mut segments) = folder.path_segments_mut() else { break };
        segments.pop();
        drop(segments);
        roots.push(folder.clone());
        if folder.path() == "/" {
            break;
        }
    }
    roots
}

async fn import(
    authenticator: &Authenticator,
    proto: &Resource,
    name: &str,
    roots: &mut Vec<Url>,
    task: &ActivityTask,
) -> Result<(Vec<u8>, Url), Fault> {
    let plain = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !plain || name.contains(['\\', '?', '#', ':']) {
        return Err(wrong(format!("the import \"{}\" is not a path within the proto file's project", short(name))));
    }
    let mut missing = None;
    for root in roots.clone() {
        let mut place = root.clone();
        if let Ok(mut segments) = place.path_segments_mut() {
            segments.pop_if_empty().extend(name.split('/'));
        }
        match fetch(authenticator, &place, &proto.authentication, task).await? {
            Ok(source) => {
                // All that one project imports stands below the same root.
                *roots = vec![root];
                return Ok((source.bytes, place));
            }
            Err(fault) => missing = missing.or(Some(fault)),
        }
    }
    let tried = missing.and_then(|fault| fault.detail).unwrap_or_default();
    Err(wrong(format!(
        "the import \"{}\" is not below the folder of the proto file, nor above it: {tried}",
        short(name)
    )))
}

/// Parsed files (errors are written by `Debug`, which has line and column) by the names under which they are imported.
struct Files {
    found: BTreeMap<String, File>,
    bytes: usize,
}

impl Files {
    /// Adds a file, and says what it imports.
    fn add(&mut self, name: &str, source: &[u8], place: &Url) -> Result<Vec<String>, Fault> {
        self.bytes += source.len();
        if self.found.len() >= FILES_MAX || self.bytes > FILES_BYTES_MAX {
            let detail = format!(
                "the proto file imports more than {FILES_MAX} files or {FILES_BYTES_MAX} bytes, which is the limit"
            );
            return Err(Fault::new(fault_type::TOO_LARGE, 413, detail).non_retryable());
        }
        let source = std::str::from_utf8(source).map_err(|_| wrong(format!("{} is not text", shown(place))))?;
        let file = File::from_source(name, source).map_err(|error| wrong(format!("{}: {error:?}", shown(place))))?;
        if nesting(source) > NESTING_MAX {
            return Err(wrong(format!(
                "{} is nested deeper than {NESTING_MAX} levels, which is the limit",
                shown(place)
            )));
        }
        let imports = file.file_descriptor_proto().dependency.clone();
        self.found.insert(name.to_owned(), file);
        Ok(imports)
    }
}

/// How deep brackets of all kinds are within each other, in a source that was parsed: so its texts and comments have ends. Each
/// kind is counted by itself, as a closing bracket of one kind ends none of another.
fn nesting(source: &str) -> usize {
    let (mut open, mut deepest) = ([0_usize; 3], 0);
    let mut rest = source.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' | b'\'' => after_text(after, *byte),
            b'/' if after.starts_with(b"/") => after_line(after),
            // Elsewhere than in the value of an option the parser has refused it.
            b'#' => after_line(after),
            b'/' if after.starts_with(b"*") => {
                let end = after.windows(2).skip(1).position(|two| two == b"*/");
                end.map_or(&[][..], |end| &after[end + 3..])
            }
            _ => {
                if let Some(kind) = b"{<[".iter().position(|kind| kind == byte) {
                    open[kind] += 1;
                    deepest = deepest.max(open.iter().sum());
                } else if let Some(kind) = b"}>]".iter().position(|kind| kind == byte) {
                    open[kind] = open[kind].saturating_sub(1);
                }
                after
            }
        };
    }
    deepest
}

fn after_text(mut rest: &[u8], quote: u8) -> &[u8] {
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'\\' {
            rest = rest.get(1..).unwrap_or_default();
        } else if *byte == quote {
            break;
        }
    }
    rest
}

fn after_line(rest: &[u8]) -> &[u8] {
    let end = rest.iter().position(|byte| *byte == b'\n');
    end.map_or(&[][..], |end| &rest[end..])
}

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        self.found.get(name).cloned().ok_or_else(|| protox::Error::file_not_found(name))
    }
}

fn compile(files: Files, root: &str, shown: &str) -> Result<DescriptorPool, Fault> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(files);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler.open_file(root).map_err(|error| wrong(format!("{shown}: {error:?}")))?;
    Ok(compiler.descriptor_pool())
}

fn wrong(detail: String) -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_counts_what_the_parser_of_options_goes_into() {
        for (source, levels) in [
            ("", 0),
            ("message M { map<string, int32> a = 1 [(o) = {b: [1, 2]}]; }", 4),
            ("// {{{\nmessage M {} /* {{{ */ /**/ service S {}", 1),
            (r#"option (o) = {a: "{{{\"{{" b: '}"{' c {}}; // {"#, 2),
            // A bracket that closes another kind hides nothing.
            ("option (o) = {a < b { > c { > d {", 4),
            ("option (o) = { # }\n a { # }\n b {", 3),
        ] {
            assert_eq!(nesting(source), levels, "{source}");
        }
    }
}
