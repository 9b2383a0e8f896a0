//! The structure that newcomers rely on: arrows between crates point down, files stay readable, every reason that an
//! error can have is explained in `docs/errors`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::ci::root;

/// Which of our crates each may depend on. A new edge needs a reason; a new crate needs a better one.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("baton-types", &[]),
    ("baton-execution", &["baton-types"]),
    ("baton-workflow", &["baton-types", "baton-execution"]),
    ("baton-agent", &["baton-types", "baton-execution"]),
    ("baton-proto", &["baton-types", "baton-execution"]),
    ("baton-store", &["baton-types"]),
    ("baton-engine", &["baton-types", "baton-execution", "baton-proto", "baton-store"]),
    ("baton-activities", &["baton-types", "baton-execution", "baton-agent"]),
    (
        "baton-server",
        &[
            "baton-types",
            "baton-execution",
            "baton-proto",
            "baton-workflow",
            "baton-agent",
            "baton-activities",
            "baton-store",
            "baton-engine",
        ],
    ),
    ("baton-cli", &["baton-types", "baton-proto", "baton-server"]),
];

/// Crates that nothing of the product depends on and that may use anything.
const FREE: &[&str] = &["baton-tests", "xtask"];

/// Most lines of a file of source. Tests that stand in files of their own may be longer.
const FILE_LINES_MAX: usize = 800;

pub(crate) fn run() -> anyhow::Result<()> {
    let mut found = Vec::new();
    check_edges(&mut found)?;
    let sources = sources(&root().join("crates"))?;
    for path in &sources {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        check_size(path, &text, &mut found);
    }
    check_reasons(&sources, &mut found)?;
    if found.is_empty() {
        println!("tidy: {} files, nothing to mend", sources.len());
        return Ok(());
    }
    bail!("tidy found:\n  {}", found.join("\n  "));
}

fn check_edges(found: &mut Vec<String>) -> anyhow::Result<()> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .context("run cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let allowed: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.iter().copied().collect();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        if FREE.contains(&name) {
            continue;
        }
        let Some(allowed) = allowed.get(name) else {
            found.push(format!("{name}: a crate that the table of dependencies does not know"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let ours = on.starts_with("baton-") || on == "xtask";
            let for_tests = dependency["kind"] == "dev";
            if ours && !for_tests && !allowed.contains(&on) {
                found.push(format!("{name} depends on {on}, which the table of dependencies does not allow"));
            }
        }
    }
    Ok(())
}

fn check_size(path: &Path, text: &str, found: &mut Vec<String>) {
    let test_file = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    let lines = text.lines().count();
    if !test_file && lines > FILE_LINES_MAX {
        found.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", path.display()));
    }
}

/// A stable reason is an upper-case word in quotes beside `ApiError`; a person who meets it looks it up.
fn check_reasons(sources: &[PathBuf], found: &mut Vec<String>) -> anyhow::Result<()> {
    let mut reasons = BTreeSet::new();
    for path in sources.iter().filter(|path| !path.components().any(|part| part.as_os_str() == "tests")) {
        let text = fs::read_to_string(path)?;
        for (start, _) in text.match_indices("ErrorKind::") {
            let after: String = text[start..].chars().take(160).collect();
            reasons.extend(first_reason(&after));
        }
    }
    let folder = root().join("docs/errors");
    for reason in &reasons {
        if !folder.join(format!("{reason}.md")).is_file() {
            found.push(format!("docs/errors/{reason}.md: missing, the reason is used in the code"));
        }
    }
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let reason = name.trim_end_matches(".md");
        if reason != "README" && !reasons.contains(reason) {
            found.push(format!("docs/errors/{name}: no code gives this reason any more"));
        }
    }
    Ok(())
}

fn first_reason(text: &str) -> Option<String> {
    let quoted = text.split('"').nth(1)?;
    let upper = !quoted.is_empty() && quoted.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
    let near = text.split('"').next()?.trim_start_matches("ErrorKind::");
    let between = near.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric()).trim();
    (upper && between == ",").then(|| quoted.to_owned())
}

fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
