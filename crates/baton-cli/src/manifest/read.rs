//! Files, folders and stdin as text, within a limit of size.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde_json::Value;

use super::text::{self, FILE_BYTES_MAX};
use crate::failure::Failure;

/// Manifests that a folder may hold.
const FOLDER_MANIFESTS_MAX: usize = 1000;
/// Serialized executions that a folder may hold; only their names are in memory at once.
const FOLDER_EXECUTIONS_MAX: usize = 100_000;

/// What of a folder is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// All that ends in .yaml, .yml or .json, but for tests.
    Manifests,
    /// What ends in .test.yaml or .test.yml.
    Tests,
    /// All that ends in .yaml or .yml.
    Formatted,
}

/// The text of one file.
pub(crate) struct File {
    /// Its path, or `stdin`.
    pub(crate) origin: String,
    pub(crate) folder: PathBuf,
    pub(crate) text: Vec<u8>,
}

/// Reads all that is named: files, the manifests in folders, and stdin.
pub(crate) fn files(paths: &[PathBuf], which: Which) -> Result<Vec<File>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            files.push(File { origin: "stdin".to_owned(), folder: PathBuf::from("."), text: read_stdin()? });
        } else if path.is_dir() {
            let inside = files_in(path, |path| which.has(path), FOLDER_MANIFESTS_MAX, which.word())?;
            if inside.is_empty() {
                return Err(Failure::refused(format!(
                    "no {} in the folder '{}'; they end in {}",
                    which.word(),
                    path.display(),
                    which.endings()
                )));
            }
            for path in inside {
                files.push(one(&path)?);
            }
        } else {
            files.push(one(path)?);
        }
    }
    Ok(files)
}

fn one(path: &Path) -> Result<File, Failure> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(File { origin: path.display().to_string(), folder: folder.to_owned(), text: read_bytes(path)? })
}

impl Which {
    fn word(self) -> &'static str {
        match self {
            Self::Manifests | Self::Formatted => "manifests",
            Self::Tests => "tests",
        }
    }

    fn endings(self) -> &'static str {
        match self {
            Self::Manifests => ".yaml, .yml or .json",
            Self::Tests => ".test.yaml or .test.yml",
            Self::Formatted => ".yaml or .yml",
        }
    }

    fn has(self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
        let is_test = [".test.yaml", ".test.yml"].iter().any(|ending| name.ends_with(ending));
        match self {
            Self::Manifests => !is_test && [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending)),
            Self::Tests => is_test,
            Self::Formatted => [".yaml", ".yml"].iter().any(|ending| name.ends_with(ending)),
        }
    }
}

/// Paths of serialized executions: those that are named, and every file in folders that are.
pub(crate) fn legacy_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let inside = files_in(path, |_| true, FOLDER_EXECUTIONS_MAX, "files")?;
        if inside.is_empty() {
            return Err(Failure::refused(format!("no files in the folder '{}'", path.display())));
        }
        files.extend(inside);
    }
    Ok(files)
}

/// Files in a folder that are not hidden, in the order of their names.
fn files_in(
    folder: &Path,
    wanted: impl Fn(&Path) -> bool,
    files_max: usize,
    what: &str,
) -> Result<Vec<PathBuf>, Failure> {
    let wrong = |error: &io::Error| Failure::refused(format!("read the folder '{}'", folder.display())).because(error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| wrong(&error))? {
        let path = entry.map_err(|error| wrong(&error))?.path();
        let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
        if !hidden && wanted(&path) && path.is_file() {
            found.push(path);
        }
        if found.len() > files_max {
            return Err(Failure::refused(format!(
                "the folder '{}' holds more than {files_max} {what}",
                folder.display()
            )));
        }
    }
    found.sort();
    Ok(found)
}

/// The content of a file of at most [`FILE_BYTES_MAX`].
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let file = fs::File::open(path).map_err(|error| Failure::refused(format!("read '{shown}'")).because(&error))?;
    limited(file, &format!("'{shown}'"))
}

/// The content of a file, or of stdin (`-`).
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    if path.as_os_str() == "-" { read_stdin() } else { read_bytes(path) }
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    limited(io::stdin().lock(), "stdin")
}

fn limited(from: impl io::Read, what: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    from.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::refused(format!("read {what}")).because(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::refused(format!("{what} is larger than the limit of {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// The documents of a file, or of stdin (`-`): YAML or JSON.
pub(crate) fn read_documents(path: &Path) -> Result<Vec<Value>, Failure> {
    let bytes = read_file(path)?;
    text::parse_yaml(&path.display().to_string(), &bytes)
}

/// Text from stdin (`-`), from a file (`@file`), or as it stands.
pub(crate) fn read_text(what: &str, given: &str) -> Result<String, Failure> {
    let bytes = match given.strip_prefix('@') {
        Some(path) => read_bytes(Path::new(path)).map_err(|failure| failure.while_doing(what))?,
        None if given == "-" => read_stdin()?,
        None => return Ok(given.to_owned()),
    };
    String::from_utf8(bytes).map_err(|_| Failure::refused(format!("{what} is not UTF-8")))
}

/// JSON on the command line: as it stands, `@file` (YAML too), or `-` for stdin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputArg(String);

impl FromStr for InputArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl InputArg {
    /// The value; `what` names the flag.
    pub(crate) fn value(&self, what: &str) -> Result<Value, Failure> {
        let text = read_text(what, &self.0)?;
        if self.0.starts_with('@') || self.0 == "-" {
            let origin = if self.0 == "-" { "stdin" } else { self.0.trim_start_matches('@') };
            let mut documents = text::parse_yaml(origin, text.as_bytes())?;
            return match documents.len() {
                0 => Ok(Value::Null),
                1 => Ok(documents.remove(0)),
                count => Err(Failure::refused(format!("{what}: {origin} holds {count} documents, allowed is one"))),
            };
        }
        text::parse_json(what, &text)
    }
}
