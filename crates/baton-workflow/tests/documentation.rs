//! Every workflow in the documentation is one that can be created.
//!
//! A block that begins with ```` ```yaml ```` is a whole document, one with ```` ```yaml fragment ```` a part of one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::{fs, path::Path};

use serde_json::Value;

fn pages(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            into.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn workflows_in_the_documentation_are_accepted() {
    let mut found = Vec::new();
    pages(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/workflows"), &mut found);
    let (mut whole, mut wrong) = (0, Vec::new());
    for (page, text) in &found {
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(kind) = line.trim().strip_prefix("```yaml") else { continue };
            let block: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim().starts_with("```")).collect();
            let document: Value = serde_yaml_ng::from_str(&block.join("\n"))
                .unwrap_or_else(|error| panic!("{page}:{}: {error}", number + 1));
            if kind.trim().is_empty() {
                whole += 1;
                wrong.extend(
                    baton_workflow::check(&document).err().map(|says| format!("{page}:{}: {says:#?}", number + 1)),
                );
            }
        }
    }
    assert!(whole > 0, "no page has a workflow");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
