//! Skills: a folder with a `SKILL.md` as the manifest of a `Skill`.
//!
//! `SKILL.md` begins with a front matter in YAML between two lines `---`: `name`, `description`, and if wanted `license`,
//! `compatibility`, `metadata` and `allowed-tools`; what else it has is kept in `metadata`. The rest of it are the instructions.
//!
//! # Invariants
//! - Every file below the folder is part of the skill, but for hidden ones. A link is refused: it could lead anywhere.

use std::{fs, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_proto::{API_VERSION, kind as kinds};
use serde_json::{Map, Value, json};

use super::{read::read_bytes, text};
use crate::{failure::Failure, yaml::Source};

const FILE: &str = "SKILL.md";
/// Files of one skill, and levels of folders below it.
const FILES_MAX: usize = 128;
const LEVELS_MAX: usize = 8;
/// What the front matter may have; anything else is kept in `metadata`.
const KNOWN: [&str; 6] = ["name", "description", "license", "compatibility", "metadata", "allowed-tools"];
/// Media types of text by the ending of a file's name, and of what is no text.
const MEDIA_TYPES: [(&str, &str); 16] = [
    ("md", "text/markdown"),
    ("txt", "text/plain"),
    ("csv", "text/csv"),
    ("html", "text/html"),
    ("css", "text/css"),
    ("xml", "application/xml"),
    ("json", "application/json"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("py", "text/x-python"),
    ("sh", "text/x-shellscript"),
    ("js", "text/javascript"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("svg", "image/svg+xml"),
    ("pdf", "application/pdf"),
];

/// Whether a path is the folder of a skill.
pub(super) fn is_one(path: &Path) -> bool {
    path.join(FILE).is_file()
}

/// Reads the folder of a skill: its `SKILL.md`, and the manifest.
pub(super) fn read(folder: &Path) -> Result<(Arc<Source>, Value), Failure> {
    let main = folder.join(FILE);
    let shown = main.display().to_string();
    let source = text::decode(&shown, &read_bytes(&main)?)?;
    let (front, instructions) =
        front_matter(source.text()).map_err(|why| Failure::refused(format!("{shown}: {why}")))?;
    let documents = text::parse_yaml(&shown, front.as_bytes())?;
    let [Value::Object(front)] = documents.as_slice() else {
        return Err(Failure::refused(format!("{shown}: the front matter must be an object with name and description")));
    };
    let mut spec = json!({"instructions": instructions.trim()});
    for name in ["description", "license", "compatibility"] {
        if let Some(value) = front.get(name) {
            spec[name] = value.clone();
        }
    }
    let metadata = metadata(front);
    if !metadata.is_empty() {
        spec["metadata"] = Value::Object(metadata);
    }
    if let Some(tools) = front.get("allowed-tools") {
        spec["allowedTools"] = match tools.as_str() {
            Some(text) => text.split([' ', ',']).filter(|name| !name.is_empty()).collect(),
            None => tools.clone(),
        };
    }
    let files = files(folder)?;
    if !files.is_empty() {
        spec["files"] = Value::Array(files);
    }
    let name = front.get("name").cloned().unwrap_or_default();
    Ok((source, json!({"apiVersion": API_VERSION, "kind": kinds::SKILL, "metadata": {"name": name}, "spec": spec})))
}

/// What stands between the first two lines `---`, and what is behind them.
fn front_matter(text: &str) -> Result<(&str, &str), &'static str> {
    let missing = "must begin with a front matter: a line '---', name and description in YAML, and another line '---'";
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.split_inclusive('\n').next().filter(|line| line.trim_end() == "---").ok_or(missing)?;
    let rest = &text[first.len()..];
    let mut length = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Ok((&rest[..length], &rest[length + line.len()..]));
        }
        length += line.len();
    }
    Err(missing)
}

/// `metadata` of the front matter and what it has beside the known fields, as texts.
fn metadata(front: &Map<String, Value>) -> Map<String, Value> {
    let own = front.get("metadata").and_then(Value::as_object).into_iter().flatten();
    let others = front.iter().filter(|(name, _)| !KNOWN.contains(&name.as_str()));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    others.chain(own).map(|(name, value)| (name.clone(), text(value).into())).collect()
}

fn files(folder: &Path) -> Result<Vec<Value>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((inside, level)) = folders.pop() {
        let wrong =
            |error: &std::io::Error| Failure::refused(format!("read the folder '{}'", inside.display())).because(error);
        for entry in fs::read_dir(&inside).map_err(|error| wrong(&error))? {
            let entry = entry.map_err(|error| wrong(&error))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| wrong(&error))?;
            let hidden = entry.file_name().to_str().is_none_or(|name| name.starts_with('.'));
            if hidden || path == folder.join(FILE) {
                continue;
            }
            if kind.is_symlink() {
                let refused = format!("'{}' is a link; a skill holds its files themselves", path.display());
                return Err(Failure::refused(refused));
            }
            if kind.is_dir() && level < LEVELS_MAX {
                folders.push((path, level + 1));
            } else if kind.is_dir() {
                let refused = format!("'{}' is more than {LEVELS_MAX} folders deep in the skill", path.display());
                return Err(Failure::refused(refused));
            } else {
                found.push(path);
            }
        }
        if found.len() > FILES_MAX {
            let refused = format!("the skill '{}' has more than {FILES_MAX} files", folder.display());
            return Err(Failure::refused(refused));
        }
    }
    found.sort();
    found.iter().map(|path| file(folder, path)).collect()
}

fn file(folder: &Path, path: &Path) -> Result<Value, Failure> {
    let content = read_bytes(path)?;
    let within = path.strip_prefix(folder).unwrap_or(path).display().to_string();
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    let known = MEDIA_TYPES.iter().find(|(known, _)| *known == ending).map(|(_, media_type)| *media_type);
    Ok(match String::from_utf8(content) {
        Ok(text) if !text.contains('\0') => {
            json!({"path": within, "mediaType": known.unwrap_or("text/plain"), "text": text})
        }
        Ok(text) => no_text(&within, known, text.as_bytes()),
        Err(error) => no_text(&within, known, error.as_bytes()),
    })
}

fn no_text(path: &str, media_type: Option<&str>, content: &[u8]) -> Value {
    json!({"path": path, "mediaType": media_type.unwrap_or("application/octet-stream"), "data": STANDARD.encode(content)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_becomes_a_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, content: &[u8]| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        put(
            FILE,
            b"---\nname: refunds\ndescription: Refunds\nlicense: MIT\nversion: 1.5\nmetadata: {author: me}\nallowed-tools: get_order refund\n---\n# Do\n\n---\nmore\n",
        );
        put("references/limits.md", b"At most 100.");
        put("logo.png", &[0x89, b'P', 0xff]);
        put(".git/config", b"hidden");
        assert!(is_one(folder.path()));
        let (_, manifest) = read(folder.path()).unwrap();
        assert_eq!((&manifest["kind"], &manifest["metadata"]), (&json!("Skill"), &json!({"name": "refunds"})));
        assert_eq!(
            manifest["spec"],
            json!({
                "description": "Refunds", "instructions": "# Do\n\n---\nmore", "license": "MIT",
                "metadata": {"author": "me", "version": "1.5"}, "allowedTools": ["get_order", "refund"],
                "files": [
                    {"path": "logo.png", "mediaType": "image/png", "data": "iVD/"},
                    {"path": "references/limits.md", "mediaType": "text/markdown", "text": "At most 100."},
                ],
            })
        );
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("stolen")).unwrap();
        assert!(read(folder.path()).unwrap_err().plain().contains("is a link"));
    }

    #[test]
    fn a_front_matter_must_be_there_and_whole() {
        for text in ["", "# No", "---\nname: a\n", "--- \n"] {
            assert!(front_matter(text).is_err(), "{text:?}");
        }
        assert_eq!(front_matter("---\r\nname: a\r\n---\r\nb"), Ok(("name: a\r\n", "b")));
    }
}
