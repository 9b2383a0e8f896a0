use std::fs;

use expect_test::{Expect, expect};

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn check(files: &[(&str, &str)], expected: &Expect) {
    let folder = folder(files);
    let shown = match load(&[folder.path().to_owned()]) {
        Err(failure) => failure.to_string(),
        Ok(manifests) => manifests
            .iter()
            .map(|it| match &it.content {
                Content::Resource(object) => format!("{} {}", it.origin, object.reference()),
                Content::Run(run) => format!("{} {run:?}", it.origin),
                Content::BareWorkflow(_) => {
                    format!("{} bare workflow, {}", it.origin, it.resource().unwrap().unwrap().reference())
                }
                Content::BareAgent(spec) => {
                    format!("{} bare agent, {} {spec}", it.origin, it.resource().unwrap().unwrap().reference())
                }
            })
            .collect::<Vec<_>>()
            .join("\n"),
    };
    expected.assert_eq(&shown.replace(&folder.path().display().to_string(), "DIR"));
}

#[test]
fn a_folder_is_read_in_the_order_of_names() {
    check(
        &[
            (
                "b.yaml",
                "apiVersion: baton.dev/v1\nkind: Workflow\nmetadata: {name: two}\nspec: {definition: {}}\n---\ndocument: {name: bare}\n",
            ),
            (
                "a.yml",
                "apiVersion: baton.dev/v1\nkind: AgentList\nitems: [{apiVersion: baton.dev/v1, kind: Agent, metadata: {name: one}}]\n",
            ),
            ("My Agent.json", "{\"instructions\": \"be kind\", \"model\": {\"playback\": {\"file\": \"script.txt\"}}}"),
            ("script.txt", "conversations: [{turns: [{text: hi}]}]"),
            ("notes.md", "# no manifest"),
        ],
        &expect![[r#"
            DIR/My Agent.json bare agent, agent/my-agent {"instructions":"be kind","model":{"playback":{"conversations":[{"turns":[{"text":"hi"}]}]}}}
            DIR/a.yml agent/one
            DIR/b.yaml#1 workflow/two
            DIR/b.yaml#2 bare workflow, workflow/bare"#]],
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    check(
        &[
            ("a.yaml", "apiVersion: v1\nkind: Pod\n"),
            (
                "b.yaml",
                "apiVersion: baton.dev/v1\nkind: WorkflowExecution\nspec: {workflow: a, inputs: 1}\nstatus: {callbackToken: YQ==}\n",
            ),
            (
                "c.yaml",
                "apiVersion: baton.dev/v1\nkind: Agent\nspec: {model: {playback: {file: gone.yaml}}, limit: 1, tool: 2}\n",
            ),
            ("d.yaml", "- 1\n"),
            ("e.yaml", "apiVersion: baton.dev/v1\nkind: Agent\nspec: {instruction: x, modle: y}\n"),
        ],
        &expect![[r"
            error: apiVersion: 'v1' is not served; allowed is 'baton.dev/v1'
             --> DIR/a.yaml:1:13
              |
            1 | apiVersion: v1
              |             ^^
            error: kind: 'Pod' is not a kind of this API; allowed are Secret, McpServer, Skill, Artifact, Agent, Workflow, Session, AgentExecution, WorkflowExecution, Approval
             --> DIR/a.yaml:2:7
              |
            2 | kind: Pod
              |       ^^^
            error: status.callbackToken: the callback token is input: it belongs in spec.callbackToken
             --> DIR/b.yaml:4:25
              |
            4 | status: {callbackToken: YQ==}
              |                         ^^^^
            error: spec.model.playback.file: read 'DIR/gone.yaml': No such file or directory (os error 2)
             --> DIR/c.yaml:3:33
              |
            3 | spec: {model: {playback: {file: gone.yaml}}, limit: 1, tool: 2}
              |                                 ^^^^^^^^^
            error: must be an object with apiVersion and kind, a workflow document, or an agent's spec
             --> DIR/d.yaml:1:3
              |
            1 | - 1
              |   ^
            error: spec.instruction: no such field
             --> DIR/e.yaml:3:8
              |
            3 | spec: {instruction: x, modle: y}
              |        ^^^^^^^^^^^
            error: spec.modle: no such field
             --> DIR/e.yaml:3:24
              |
            3 | spec: {instruction: x, modle: y}
              |                        ^^^^^
            error: 7 things are wrong"]],
    );
}

#[test]
fn a_run_is_checked() {
    check(
        &[(
            "run.yaml",
            "apiVersion: baton.dev/v1\nkind: Run\nspec: {workflow: a, agent: b, message: c, timeout: soon, services: [{name: A, command: []}, {name: b-c, command: [x]}, {name: b.c, command: [x]}]}\n",
        )],
        &expect![[r"
            error: spec: has both workflow and agent; allowed is one of them
             --> DIR/run.yaml:3:1
              |
            3 | spec: {workflow: a, agent: b, message: c, timeout: soon, services: [{name: A, command: []}, {name: b-c, command: ...
              | ^^^^
            error: spec.message: is for agents; a workflow takes spec.input
             --> DIR/run.yaml:3:40
              |
            3 | spec: {workflow: a, agent: b, message: c, timeout: soon, services: [{name: A, command: []}, {name: b-c, command: ...
              |                                        ^
            error: spec.timeout: 'soon' is not a duration; allowed are forms such as '30s', '10m', '1h30m', '2d' and 'PT10M'
             --> DIR/run.yaml:3:52
              |
            3 | spec: {workflow: a, agent: b, message: c, timeout: soon, services: [{name: A, command: []}, {name: b-c, command: ...
              |                                                    ^^^^
            error: spec.services[0].name: 'A' is not a valid name; allowed are lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit
             --> DIR/run.yaml:3:76
              |
            3 | spec: {workflow: a, agent: b, message: c, timeout: soon, services: [{name: A, command: []}, {name: b-c, command: ...
              |                                                                            ^
            error: spec.services[0].command: must be a list with the program first
             --> DIR/run.yaml:3:79
              |
            3 | spec: {workflow: a, agent: b, message: c, timeout: soon, services: [{name: A, command: []}, {name: b-c, command: ...
              |                                                                               ^^^^^^^
            error: spec.services[2].name: 'b.c' is there twice
             --> DIR/run.yaml:3:127
              |
            3 | ...: A, command: []}, {name: b-c, command: [x]}, {name: b.c, command: [x]}]}
              |                                                         ^^^
            error: 6 things are wrong"]],
    );
    check(
        &[("run.yaml", "apiVersion: baton.dev/v1\nkind: Run\nspec: {workflow: a, inputs: 1}\n")],
        &expect![[r"
            error: spec.inputs: no such field
             --> DIR/run.yaml:3:21
              |
            3 | spec: {workflow: a, inputs: 1}
              |                     ^^^^^^"]],
    );
}

#[test]
fn sizes_are_limited() {
    let folder = folder(&[]);
    let path = folder.path().join("big.yaml");
    fs::File::create(&path).unwrap().set_len(text::FILE_BYTES_MAX + 1).unwrap();
    let refusal = load(&[path]).unwrap_err().to_string();
    assert!(refusal.contains("is larger than the limit of 33554432 bytes"), "{refusal}");
    let refusal = load(&[folder.path().join("none.yaml")]).unwrap_err().to_string();
    assert!(refusal.contains("none.yaml': No such file"), "{refusal}");
    let empty = tempfile::tempdir().unwrap();
    let refusal = load(&[empty.path().to_owned()]).unwrap_err().to_string();
    assert!(refusal.contains("no manifests in the folder"), "{refusal}");
}

#[test]
fn input_is_json_or_a_file() {
    let folder = folder(&[("in.yaml", "n: 1")]);
    let value = |text: &str| text.parse::<InputArg>().unwrap().value("--input").map_err(|it| it.to_string());
    assert_eq!(value("{\"n\":1}"), Ok(json!({"n": 1})));
    assert_eq!(value(&format!("@{}", folder.path().join("in.yaml").display())), Ok(json!({"n": 1})));
    assert!(value("hello").unwrap_err().starts_with("error: --input is not JSON: "));
}

#[test]
fn files_that_workflows_name_are_given_along_from_below_their_folder() {
    let calls = |endpoint: &str| {
        format!(
            "document: {{dsl: 1.0.3, namespace: a, name: calls, version: 1.0.0}}\ndo:\n- call:\n    call: grpc\n    with: \
             {{proto: {{endpoint: '{endpoint}'}}, service: {{name: a.B, host: localhost}}, method: C}}\n"
        )
    };
    let outer = folder(&[("secret.proto", "no")]);
    let inner = outer.path().join("flows");
    fs::create_dir_all(inner.join("app")).unwrap();
    fs::write(inner.join("app/greet.proto"), "syntax = \"proto3\";").unwrap();
    std::os::unix::fs::symlink(outer.path().join("secret.proto"), inner.join("link.proto")).unwrap();
    let flow = inner.join("flow.yaml");
    let read = |text: &str| {
        fs::write(&flow, text).unwrap();
        load(std::slice::from_ref(&flow)).map(|manifests| manifests[0].resource().unwrap().unwrap().to_json())
    };
    let bare = read(&calls("file://app/greet.proto")).unwrap();
    assert_eq!(bare["spec"]["resources"], json!({"file://app/greet.proto": "syntax = \"proto3\";"}));
    assert!(bare["spec"]["definition"].get("baton.dev/resources").is_none(), "{bare}");
    let indented = calls("file://app/greet.proto").replace('\n', "\n    ");
    let kind = format!(
        "apiVersion: baton.dev/v1\nkind: Workflow\nmetadata: {{name: calls}}\nspec:\n  definition:\n    {indented}"
    );
    assert_eq!(read(&kind).unwrap()["spec"]["resources"], bare["spec"]["resources"]);
    let below = format!("is not below '{}', the folder of the workflow", inner.display());
    for (endpoint, says) in [
        ("file://../secret.proto", below.as_str()),
        ("file://link.proto", &below),
        ("file:///etc/passwd", &below),
        ("file://gone.proto", "cannot be read: No such file"),
    ] {
        let said = read(&calls(endpoint)).unwrap_err().to_string();
        assert!(said.contains(says) && said.contains("with.proto.endpoint"), "{endpoint}: {said}");
    }
}
