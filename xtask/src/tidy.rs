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
    ("baton-engine-temporal", &["baton-types", "baton-execution", "baton-proto", "baton-engine"]),
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
            "baton-engine-temporal",
        ],
    ),
    ("baton-cli", &["baton-types", "baton-proto", "baton-server"]),
];

/// Crates that nothing of the product depends on and that may use anything.
const FREE: &[&str] = &["baton-tests", "baton-temporal-testing", "xtask"];

/// Temporal's SDK, by the beginning of its crates' names, and the one crate of ours that it is in: heavy, and not for others.
const TEMPORAL_SDK: (&str, &str) = ("temporalio", "baton-engine-temporal");

/// Most lines of a file of source. Tests that stand in files of their own may be longer.
const FILE_LINES_MAX: usize = 800;

/// Words in capitals that are no reasons, in crates that give reasons: types of watch events.
const NOT_REASONS: &[&str] = &["ADDED", "BOOKMARK", "DELETED", "ERROR", "MODIFIED"];

/// Folders of code whose words in capitals are another protocol's. No reason is given there: it has no `ApiError::new`.
const WORDS_OF_OTHERS: &[&str] = &["a2a_server"];

/// What names in the environment begin with; no reason does.
const VARIABLES: &[&str] =
    &["ANTHROPIC_", "APPDATA", "BATON_", "CARGO_PKG_", "GEMINI_", "OPENAI_", "OTEL_", "TEMPORAL_", "XDG_"];

pub(crate) fn run() -> anyhow::Result<()> {
    let mut found = Vec::new();
    check_edges(&mut found)?;
    let mut sources = Vec::new();
    for path in paths(&root().join("crates"))? {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        check_size(&path, &text, &mut found);
        sources.push((path, text));
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
            let (sdk, its_crate) = TEMPORAL_SDK;
            if on.starts_with(sdk) && name != its_crate {
                found.push(format!("{name} depends on {on}, which is for {its_crate} alone"));
            }
        }
    }
    Ok(())
}

fn check_size(path: &Path, text: &str, found: &mut Vec<String>) {
    let lines = text.lines().count();
    if !is_test(path) && lines > FILE_LINES_MAX {
        found.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", path.display()));
    }
}

/// A crate that names `ApiError` gives reasons: there, every word in capitals that stands as a string is one, or is in
/// [`NOT_REASONS`]. So a reason cannot be given in a form that this does not see. A person who meets it looks it up.
fn check_reasons(sources: &[(PathBuf, String)], found: &mut Vec<String>) -> anyhow::Result<()> {
    let code = || sources.iter().filter(|(path, _)| !is_test(path)).map(|(path, text)| (path, without_tests(text)));
    let crates: BTreeSet<&Path> =
        code().filter(|(_, text)| text.contains("ApiError")).filter_map(|(path, _)| crate_of(path)).collect();
    let mut words = BTreeSet::new();
    let is_of_others = |path: &Path| {
        path.components().any(|it| it.as_os_str().to_str().is_some_and(|it| WORDS_OF_OTHERS.contains(&it)))
    };
    for (path, text) in code().filter(|(path, _)| crate_of(path).is_some_and(|it| crates.contains(it))) {
        if is_of_others(path) {
            if text.contains("ApiError::new") {
                found.push(format!("{}: gives a reason, where words are another protocol's", path.display()));
            }
            continue;
        }
        words.extend(text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(capitals));
    }
    for word in NOT_REASONS.iter().filter(|word| !words.contains(**word)) {
        found.push(format!("xtask/src/tidy.rs: NOT_REASONS has '{word}', which no code has any more"));
    }
    let is_reason =
        |word: &&str| !NOT_REASONS.contains(word) && !VARIABLES.iter().any(|variable| word.starts_with(variable));
    let reasons: BTreeSet<&str> = words.into_iter().filter(is_reason).collect();
    let folder = root().join("docs/errors");
    let index = fs::read_to_string(folder.join("README.md")).context("read docs/errors/README.md")?;
    for reason in &reasons {
        if !folder.join(format!("{reason}.md")).is_file() {
            found.push(format!("docs/errors/{reason}.md: missing, the reason is used in the code"));
        }
        if !index.contains(&format!("| [{reason}]({reason}.md) |")) {
            found.push(format!("docs/errors/README.md: has no row for {reason}, which is used in the code"));
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

/// The folder of a crate, of a file in its sources.
fn crate_of(path: &Path) -> Option<&Path> {
    path.ancestors().find(|folder| folder.ends_with("src")).and_then(Path::parent)
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// The text before the tests that stand at its end.
fn without_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod ").map_or(text, |(code, _)| code)
}

/// Strings in a line that are one word of at least five capitals, which `_` may join.
fn capitals(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices('"').filter_map(|(at, _)| {
        let word = line[at + 1..].split('"').next()?;
        let closed = line[at + 1 + word.len()..].starts_with('"');
        let plain = word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        (closed && plain && word.len() >= 5 && !word.starts_with('_') && !word.ends_with('_')).then_some(word)
    })
}

/// Every file of Rust below a folder, in order.
fn paths(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(paths(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found of a crate with one file.
    fn found(text: &str) -> String {
        let mut found = Vec::new();
        let file = |name: &str, text: &str| (PathBuf::from(format!("crates/a/src/{name}.rs")), text.to_owned());
        let sources = [
            file("lib", "use baton_types::ApiError;"),
            file("a", text),
            (PathBuf::from("crates/b/src/lib.rs"), "heading(\"SETTING\")".to_owned()),
        ];
        check_reasons(&sources, &mut found).unwrap();
        found.retain(|it| !it.ends_with("any more"));
        found.join("\n")
    }

    #[test]
    fn a_reason_is_seen_in_whatever_form_it_is_given() {
        for text in [
            "ApiError::new(ErrorKind::Conflict, \"NEW_REASON\", message)",
            "Refusal::bad_request(\n    \"NEW_REASON\",\n    says)",
            "ApiError { reason: \"NEW_REASON\", ..error }",
            "Bad => \"NEW_REASON\",",
            "const REASON: &str = \"NEW_REASON\";",
        ] {
            let found = found(text);
            assert!(found.starts_with("docs/errors/NEW_REASON.md: missing") && found.contains("no row for"), "{found}");
        }
    }

    #[test]
    fn other_words_are_none() {
        for text in [
            "// such as \"NEW_REASON\"",
            "\"NEW_REASON is a word of this\"",
            "(\"NotFound\", \"POST\", \"not_a_reason\", \"x\", NEW_REASON, \"CONFLICT\")",
            "read(\"BATON_NEW_SETTING\")",
            "#[cfg(test)]\nmod tests { \"NEW_REASON\" }",
        ] {
            assert_eq!(found(text), "");
        }
    }
}
