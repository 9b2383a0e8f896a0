//! Every manifest in `docs/agents` is one that can be applied, and those that say how they end are run.
//!
//! A block that begins with ```` ```yaml ```` is a file of manifests, or a part of the spec of an agent, or of an execution if it
//! begins with `spec`; one with ```` ```yaml fragment ```` is part of something else. What is run stands in a comment before it:
//!
//! `<!-- run: {message: …, agent: …, ends: …, says: […], code: …} -->`
//!
//! `message` is what the agent is told, `agent` which of several, `ends` the output, `says` what is told on the way or at the end, and
//! `code` how the command ends if not with 0. Models are scripted: none of it needs a network.

use std::{fs, path::Path};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Baton, root};

/// How a file is run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    message: String,
    #[serde(default)]
    agent: Option<String>,
    #[serde(default)]
    ends: Option<Value>,
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    code: i32,
}

struct Block {
    place: String,
    /// What stands behind the name of the language.
    kind: String,
    text: String,
    run: Option<Run>,
}

fn blocks_of(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut lines, mut run) = (text.lines().enumerate(), None);
    while let Some((number, line)) = lines.next() {
        let place = format!("{page}:{}", number + 1);
        if let Some(said) = line.trim().strip_prefix("<!-- run:") {
            let said = said.trim_end().trim_end_matches("-->");
            run = Some(serde_yaml_ng::from_str(said).unwrap_or_else(|error| panic!("{place}: {error}")));
        }
        let Some(kind) = line.trim().strip_prefix("```yaml") else { continue };
        let block: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim().starts_with("```")).collect();
        blocks.push(Block { place, kind: kind.trim().to_owned(), text: block.join("\n"), run: run.take() });
    }
    assert!(run.is_none(), "{page}: nothing follows the last comment");
    blocks
}

fn blocks() -> Vec<Block> {
    pages().iter().flat_map(|(page, text)| blocks_of(page, text)).collect()
}

/// The pages, by name.
fn pages() -> Vec<(String, String)> {
    let folder = Path::new(&root()).join("docs/agents");
    let mut pages: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    pages.sort();
    pages
}

/// A file that `baton validate` judges; `None` for what is part of something else.
fn completed(block: &Block) -> Option<String> {
    if !block.kind.is_empty() {
        assert_eq!(block.kind, "fragment", "{}", block.place);
        return None;
    }
    let whole = |name: &str| block.text.lines().any(|line| line.starts_with(&format!("{name}:")));
    if whole("kind") || (whole("instructions") && whole("model")) {
        return Some(block.text.clone());
    }
    if whole("cases") {
        // A file for `baton test`, which stands beside the manifests that it is about.
        return None;
    }
    let mut part: Value =
        serde_yaml_ng::from_str(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place));
    let manifest = |kind: &str, spec: &Value| {
        json!({"apiVersion": "baton.dev/v1", "kind": kind, "metadata": {"name": "part"}, "spec": spec}).to_string()
    };
    if let Some(spec) = part.get_mut("spec") {
        if spec.get("agent").is_none() {
            spec["agent"] = "part".into();
        }
        return Some(manifest("AgentExecution", spec));
    }
    let mut spec = json!({"instructions": "Answer.", "model": {"name": "gpt-5-mini"}});
    spec.as_object_mut().unwrap().extend(part.as_object()?.clone());
    Some(manifest("Agent", &spec))
}

#[test]
fn manifests_on_the_pages_are_valid() {
    let baton = Baton::new();
    let (mut valid, mut wrong) = (0, Vec::new());
    for block in blocks() {
        let Some(text) = completed(&block) else { continue };
        let path = baton.file("page.yaml", &text);
        let output = baton.run(&["validate", &path]);
        if output.code == 0 {
            valid += 1;
        } else {
            wrong.push(format!("{}: {}", block.place, output.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(valid >= 20, "{valid} examples");
}

#[test]
fn examples_on_the_pages_end_as_they_say() {
    let mut runs = 0;
    for Block { place, text, run, .. } in blocks() {
        let Some(run) = run else { continue };
        runs += 1;
        let baton = Baton::new();
        let path = baton.file("example.yaml", &text);
        let mut args = vec!["run", "-f", &path, "--message", &run.message];
        if let Some(agent) = &run.agent {
            args.extend(["--agent", agent]);
        }
        let output = baton.run(&args);
        assert_eq!(output.code, run.code, "{place}: {output:?}");
        for says in &run.says {
            assert!(output.stderr.contains(says), "{place}: '{says}' is not in {}", output.stderr);
        }
        if let Some(expected) = &run.ends {
            let found: Value = serde_json::from_str(&output.stdout)
                .unwrap_or_else(|error| panic!("{place}: {error}: {}", output.stdout));
            assert_eq!(&found, expected, "{place}");
        }
    }
    assert!(runs >= 5, "{runs} examples are run");
}

/// Links to pages, tests and sources, with what stands before a `#`.
fn links(text: &str) -> Vec<&str> {
    let parts = text.split("](").skip(1);
    parts.filter_map(|part| part.split([')', '#']).next()).filter(|link| !link.is_empty()).collect()
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    let folder = Path::new(&root()).join("docs/agents");
    let mut dead = Vec::new();
    for (page, text) in pages() {
        let there = links(&text).into_iter().filter(|link| !link.contains("://"));
        dead.extend(there.filter(|link| !folder.join(link).exists()).map(|link| format!("{page}: {link}")));
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// Every function below the folders of tests and sources, but for what is generated.
fn functions(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn the_tests_that_the_chapter_on_safety_names_are_there() {
    let page = fs::read_to_string(Path::new(&root()).join("docs/agents/safety.md")).unwrap();
    let mut sources = String::new();
    functions(&Path::new(&root()).join("crates"), &mut sources);
    let named: Vec<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| {
            text.matches('_').count() >= 3
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect();
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<&&str> = named.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
