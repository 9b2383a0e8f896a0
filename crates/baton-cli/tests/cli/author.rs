//! What authors of workflows use, without a server: validate, fmt, graph, test.

use std::fs;

use expect_test::expect;
use serde_json::json;

use crate::support::{Baton, Served};

const FLOW: &str = "document: {dsl: 1.0.3, namespace: default, name: flow, version: 1.0.0}\ndo:\n  - ask:\n      call: http\n      with: {method: get, endpoint: 'https://example.com'}\n  - rest: {if: .tired, wait: PT1H}\n";

#[test]
fn a_violation_is_shown_where_it_stands() {
    let baton = Baton::new();
    let flow = baton.file(
        "flow.yaml",
        "document: {dsl: 1.0.3, namespace: default, name: flow, version: 1.0.0}\ndo:\n  # é\n  - one:\n      set: {a: '${ .x + }'}\n      then: nowhere\n  - two: {call: http, with: {methode: get, endpoint: 'https://example.com'}}\n",
    );
    let broken = baton.file("broken.yaml", "a: [1\n");
    let said = baton.run(&["validate", &flow, &broken]).refused(1);
    let folder = format!("{}/", baton.folder().display());
    expect![[r"
        error: unclosed bracket '['
         --> broken.yaml:1:4
          |
        1 | a: [1
          |    ^
        error: do[0].one.set.a: ' .x + ' is not a jq expression: expected term, found the end
         --> flow.yaml:5:16
          |
        5 |       set: {a: '${ .x + }'}
          |                ^^^^^^^^^^^
        error: do[0].one.then: no task named 'nowhere' in this scope; tasks here are 'one' and 'two'
         --> flow.yaml:6:13
          |
        6 |       then: nowhere
          |             ^^^^^^^
        error: do[1].two.with.method: is required
         --> flow.yaml:7:23
          |
        7 |   - two: {call: http, with: {methode: get, endpoint: 'https://example.com'}}
          |                       ^^^^
        error: do[1].two.with.methode: unknown field; fields here are 'method', 'endpoint', 'headers', 'query', 'body', 'output' and 'redirect'
         --> flow.yaml:7:30
          |
        7 |   - two: {call: http, with: {methode: get, endpoint: 'https://example.com'}}
          |                              ^^^^^^^
        error: 5 things are wrong
    "]].assert_eq(&said.replace(&folder, ""));

    let output = baton.run(&["validate", &flow, "-o", "json"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, ""));
    let found: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        found["violations"][1],
        json!({
            "path": "do[0].one.then", "file": flow, "document": 1,
            "message": "no task named 'nowhere' in this scope; tasks here are 'one' and 'two'",
            "line": 6, "column": 13, "endLine": 6, "endColumn": 20,
        })
    );
    let output = baton.run_with(&["validate", "-", "-o", "json"], FLOW);
    assert_eq!(output.json(), json!({"valid": true, "documents": 1, "violations": [], "warnings": []}));
}

#[test]
fn what_the_server_refuses_is_shown_where_it_stands() {
    let baton = Baton::new();
    let text = FLOW.replace("wait: PT1H", "then: gone, wait: PT1H");
    let said = baton.run_with(&["run", "-"], &text).refused(1);
    assert!(said.contains(" --> stdin:6:30\n") && said.contains("^^^^"), "{said}");
}

#[test]
fn a_graph_is_drawn_in_three_ways() {
    let baton = Baton::new();
    let flow = baton.file("flow.yaml", FLOW);
    expect![[r"
        flow 1.0.0
        ├─ ask   call http  GET https://example.com
        └─ rest  wait  1h  if .tired
    "]]
    .assert_eq(&baton.run(&["graph", &flow]).ok());
    assert!(baton.run(&["graph", &flow, "--format", "mermaid"]).ok().starts_with("flowchart TD\n"));
    let picture = baton.folder().join("flow.svg").display().to_string();
    assert_eq!(baton.run(&["graph", &flow, "-f", "svg", "--to", &picture]).ok(), "");
    assert!(fs::read_to_string(&picture).unwrap().contains("data-pointer=\"/do/0/ask\""));
    let said = baton.run(&["graph", "examples/incident-triage", "-f", "svg"]).refused(1);
    assert!(
        said.contains("there are 'incident-triage', 'escalate', 'runbook'\nhint: choose with --workflow"),
        "{said}"
    );
    let said = baton.run(&["graph", &flow, "--workflow", "other"]).refused(1);
    assert!(said.contains("no workflow 'other' in these files; there are 'flow'"), "{said}");
}

#[test]
fn the_tests_of_the_examples_pass_and_run_every_task() {
    let folders = ["examples/hello", "examples/incident-triage", "examples/temporal-python"];
    let report = Baton::new().run(&[&["test", "-o", "json"], &folders[..]].concat()).json();
    assert_eq!(report["failed"], 0, "{report}");
    for coverage in report["coverage"].as_array().unwrap() {
        assert_eq!(coverage["percent"], 100, "{coverage}");
    }
    assert_eq!(report["coverage"].as_array().unwrap().len(), 7);
}

#[test]
fn a_case_that_fails_says_why() {
    let baton = Baton::new();
    baton.file("flow.yaml", FLOW);
    let tests = baton.file(
        "flow.test.yaml",
        "workflow: flow.yaml
cases:
  - name: goes well
    calls: [{task: ask, returns: {tired: false}}]
    expect: {output: {tired: false}, never: [rest], tasks: [ask, rest: skipped]}
  - name: nobody answers
  - name: other things
    calls:
      - {task: ask, returns: {tired: true}, after: 10s}
      - {task: gone, returns: null}
    expect: {output: {tired: false}, never: [rest], tasks: [rest, ask], calls: [other], elapsed: 1s}
  - name: ends otherwise
    calls: [{task: ask, fails: {type: communication, status: 503, detail: busy}}]
",
    );
    let junit = baton.folder().join("junit.xml").display().to_string();
    let output = baton.run(&["test", &tests, "--coverage", "--junit", &junit]);
    assert_eq!((output.code, output.stderr.as_str()), (1, ""));
    let folder = format!("{}/", baton.folder().display());
    expect![[r#"
        flow.test.yaml
          ok   goes well (1 call, 0s of simulated time)
          FAIL nobody answers (1 call, 0s of simulated time)
               no answer for the call 'http' of task 'ask' (/do/0/ask); put one into 'calls', such as
                   - task: ask
                     match:
                       method: GET
                       endpoint: https://example.com
                       output: content
                       redirect: false
                     returns: null
          FAIL other things (1 call, 1h10s of simulated time)
               expect.output differs
               expected: {"tired":false}
               found: {"tired":true}
               calls[1]: nothing called it
               expect.tasks[1]: 'ask' did not run there; what ran: ask, rest
               expect.never: 'rest' ran
               expect.calls[0]: there was no such call; calls were
                 ask (http): {"method":"GET","endpoint":"https://example.com","output":"content","redirect":false}
               expect.elapsed: 1h10s have passed, not 1s
          FAIL ends otherwise (1 call, 0s of simulated time)
               expect.ended: it ended as Failed, not as Completed, with the fault
                   type: https://serverlessworkflow.io/spec/1.0.0/errors/communication
                   status: 503
                   detail: busy
                   instance: /do/0/ask
        coverage
          flow (flow.yaml): 100 %, 2 of 2 tasks
        1 passed, 3 failed
    "#]]
    .assert_eq(&output.stdout.replace(&folder, ""));
    let junit = fs::read_to_string(junit).unwrap().replace(&folder, "");
    assert!(junit.contains("<testsuite name=\"flow.test.yaml\" tests=\"4\" failures=\"3\">"), "{junit}");
    assert!(junit.contains("<testcase classname=\"flow\" name=\"goes well\" time=\"0.000\"/>"), "{junit}");
    assert_eq!(baton.run(&["test", &tests, "--filter", "goes"]).code, 0);
    let said = baton.run(&["test", &tests, "--filter", "nothing"]).refused(1);
    assert!(said.contains("no cases whose name has 'nothing' in these files"), "{said}");
}

const CLERK: &str = "apiVersion: baton.dev/v1
kind: Agent
metadata: {name: clerk}
spec:
  instructions: You answer customers of a web shop.
  model: {name: gpt-5-mini}
  tools:
    - name: refund
      description: Pays an order back
      parameters: {type: object, properties: {order: {type: string}, amount: {type: integer}}, required: [order, amount]}
      workflow: {name: refund}
  policy:
    rules:
      - {tool: refund, arguments: {properties: {amount: {maximum: 50}}}, action: allow}
";

#[test]
fn agents_are_tested_with_the_turns_of_their_model_and_what_people_decide() {
    let baton = Baton::new();
    baton.file("clerk.yaml", CLERK);
    let tests = baton.file(
        "clerk.test.yaml",
        "agent: clerk.yaml
cases:
  - name: little is paid at once
    message: 17 never came
    turns:
      - toolCalls: [{name: refund, arguments: {order: \"17\", amount: 20}}]
      - text: Paid.
    calls: [{task: refund, returns: {}}]
    expect: {output: Paid.}
  - name: much is asked for
    turns:
      - toolCalls: [{name: refund, arguments: {order: \"17\", amount: 80}}]
      - text: Paid.
    approvals: [{tool: refund, match: {amount: 80}, choice: approve, arguments: {order: \"17\", amount: 60}, after: 2d}]
    calls: [{task: refund, match: {input: {amount: 60}}, returns: {}}]
    expect: {output: Paid., calls: [model, approval, refund, model], elapsed: 2d}
  - name: a person says no
    turns:
      - toolCalls: [{name: refund, arguments: {order: \"17\", amount: 80}}]
      - text: Sorry.
    approvals: [{choice: deny, reason: too much}]
    expect: {output: Sorry., tasks: [{refund: faulted}]}
  - name: nobody says anything
    turns:
      - toolCalls: [{name: refund, arguments: {order: \"17\", amount: 80}}]
      - text: Sorry.
    approvals: [{silent: true}]
    expect: {output: Sorry., elapsed: 7d}
  - name: nobody was thought of
    turns:
      - toolCalls: [{name: refund, arguments: {order: \"17\", amount: 80}}]
      - text: Sorry.
",
    );
    let output = baton.run(&["test", &tests, "--coverage"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, ""));
    expect![[r#"
        clerk.test.yaml
          ok   little is paid at once (3 calls, 0s of simulated time)
          ok   much is asked for (4 calls, 2d of simulated time)
          ok   a person says no (3 calls, 0s of simulated time)
          ok   nobody says anything (3 calls, 7d of simulated time)
          FAIL nobody was thought of (2 calls, 0s of simulated time)
               nobody decides on the call of "refund"; put a decision into 'approvals', such as
                   - tool: refund
                     match:
                       order: '17'
                       amount: 80
                     choice: approve
        coverage
          clerk (clerk.yaml): 100 %, 1 of 1 tools
        4 passed, 1 failed
    "#]]
    .assert_eq(&output.stdout.replace(&format!("{}/", baton.folder().display()), ""));

    let without = baton.file("without.test.yaml", "agent: clerk.yaml\ncases: [{name: a}, {name: b, turns: [{}]}]\n");
    let said = baton.run(&["test", &without]).refused(1);
    assert!(said.contains("must be given: what the model says, as the agent has no playback of its own"), "{said}");
    assert!(said.contains("cases[1].turns[0].text"), "{said}");
}

#[test]
fn tools_of_servers_are_mocked_by_their_names_and_the_server_may_be_elsewhere() {
    let page = include_str!("../../../../docs/agents/mcp.md");
    let examples: Vec<&str> = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let (example, test) = (examples[0], *examples.last().unwrap());
    let baton = Baton::new();
    let both = baton.file("librarian.yaml", example);
    assert_eq!(baton.run(&["validate", &both]).stderr, "2 documents are valid\n");
    let tests = baton.file("librarian.test.yaml", test);
    let output = baton.run(&["test", &tests]).ok();
    assert!(output.contains("ok   it reads what it found (6 calls"), "{output}");

    let agent = baton.file("alone.yaml", example.split("---\n").nth(1).unwrap());
    let said = baton.run(&["validate", &agent]);
    assert!(said.stderr.contains("the MCP server 'files' is not in these manifests"), "{said:?}");
    let listed = "\nagent: alone.yaml\ncases:\n  - name: a server without it\n    message: Hi\n    calls: [{task: files, returns: {tools: []}}]\n    expect: {tasks: [{files__read_text_file: faulted}], output: It is about tea.}\n";
    let tests = baton.file("alone.test.yaml", listed);
    baton.run(&["test", &tests]).ok();
}

#[test]
fn what_is_wrong_with_a_test_file_is_told_at_once() {
    let baton = Baton::new();
    baton.file("flow.yaml", FLOW);
    baton.file("wrong.yaml", &FLOW.replace("wait: PT1H", "wait: soon"));
    let one = baton.file(
        "one.test.yaml",
        "workflow: flow.yaml\ncases:\n  - name: a\n    calls:\n      - {task: ask, returns: 1, fails: timeout}\n      - {task: ask, after: soon, returns: 1, times: 0}\n    expect: {ended: Well}\n",
    );
    let two = baton.file("two.test.yaml", "workflow: wrong.yaml\ncases: []\n---\nworkflow: flow.yaml\nname: x\ncases: []\n---\nworkflow: none.yaml\ncases: []\n");
    let said = baton.run(&["test", &one, &two]).refused(1);
    let folder = format!("{}/", baton.folder().display());
    expect![[r"
        error: cases[0].calls[0]: has several of 'returns', 'fails', 'cancelled' and 'silent'; it must have one
         --> one.test.yaml:5:10
          |
        5 |       - {task: ask, returns: 1, fails: timeout}
          |          ^^^^
        error: cases[0].calls[1].after: 'soon' is not a duration; allowed are forms such as '30s', '10m', '1h30m', '2d' and 'PT10M'
         --> one.test.yaml:6:28
          |
        6 |       - {task: ask, after: soon, returns: 1, times: 0}
          |                            ^^^^
        error: cases[0].calls[1].times: must be a number of 1 or more, or 'any'
         --> one.test.yaml:6:53
          |
        6 |       - {task: ask, after: soon, returns: 1, times: 0}
          |                                                     ^
        error: cases[0].expect.ended: is 'Well', allowed are 'Completed', 'Failed', 'Cancelled' and 'TimedOut'
         --> one.test.yaml:7:21
          |
        7 |     expect: {ended: Well}
          |                     ^^^^
        error: name: no workflow 'x' in 'flow.yaml'; workflows there are 'flow'
         --> two.test.yaml:5:7
          |
        5 | name: x
          |       ^
        error: workflow: read 'none.yaml': No such file or directory (os error 2)
         --> two.test.yaml:8:11
          |
        8 | workflow: none.yaml
          |           ^^^^^^^^^
        error: do[1].rest.wait: 'soon' is not a duration; allowed are forms such as '30s', '10m', '1h30m', '2d' and 'PT10M'
         --> wrong.yaml:6:30
          |
        6 |   - rest: {if: .tired, wait: soon}
          |                              ^^^^
        error: 7 things are wrong
    "]].assert_eq(&said.replace(&folder, ""));
}

#[test]
fn files_are_formatted_in_place_and_those_that_cannot_be_are_left() {
    let baton = Baton::new();
    let wild =
        "do:\n- ask: {wait:   PT1S} # soon\ndocument: {version: '1.0.0', dsl: '1.0.3', namespace: default, name: x}\n";
    let tidy =
        "document: {dsl: 1.0.3, namespace: default, name: x, version: 1.0.0}\ndo:\n  - ask: {wait: PT1S} # soon\n";
    let flow = baton.file("flow.yaml", wild);
    let anchors = baton.file("anchors.yaml", "a: &x 1\nb: *x\n");
    let output = baton.run(&["fmt", "--check", &flow]);
    assert_eq!((output.code, output.stdout.as_str()), (1, format!("{flow}\n").as_str()));
    assert_eq!(fs::read_to_string(&flow).unwrap(), wild, "a check changes nothing");
    let said = baton.run(&["fmt", &baton.folder().display().to_string()]).refused(1);
    assert_eq!(
        said,
        format!("error: {anchors}: is left as it is; it has anchors, aliases or tags\n{flow}: formatted\n")
    );
    assert_eq!(fs::read_to_string(&flow).unwrap(), tidy);
    assert_eq!(baton.run(&["fmt", "--check", &flow]).ok(), "");
    assert_eq!(baton.run_with(&["fmt", "-"], wild).ok(), tidy);
}

#[test]
fn the_examples_are_in_the_usual_form() {
    for folder in
        ["examples/hello", "examples/incident-triage", "examples/incident-triage/playback", "examples/temporal-python"]
    {
        assert_eq!(Baton::new().run(&["fmt", "--check", folder]).ok(), "", "{folder}");
    }
}

#[test]
fn what_is_kept_elsewhere_is_told_and_can_be_given_to_a_test() {
    let baton = Baton::new();
    let flow = baton.file(
        "flow.yaml",
        "document: {dsl: 1.0.3, namespace: default, name: flow, version: 1.0.0}\ndo: [{twice: {call: 'https://example.com/twice.yaml', with: {n: 2}}}]\n",
    );
    let said = baton.run(&["validate", &flow]);
    let says = "the function is kept elsewhere and not checked here: https://example.com/twice.yaml";
    assert!(said.code == 0 && said.stderr.contains(says), "{said:?}");
    assert!(baton.run(&["graph", &flow]).ok().contains("twice  call function  https://example.com/twice.yaml"));
    baton.file("twice.yaml", "set: {n: '${ .n * 2 }'}\n");
    let cases = "cases: [{name: a, expect: {output: {n: 4}}}]\n";
    let tests = baton.file("flow.test.yaml", &format!("workflow: flow.yaml\n{cases}"));
    let said = baton.run(&["test", &tests]).refused(1);
    assert!(said.contains("is not among the resources"), "{said}");
    let resources = "resources: {'https://example.com/twice.yaml': twice.yaml}\n";
    let tests = baton.file("flow.test.yaml", &format!("workflow: flow.yaml\n{resources}{cases}"));
    assert_eq!(baton.run(&["test", &tests]).code, 0);
}

#[test]
fn an_execution_on_a_server_becomes_a_test() {
    let served = Served::new();
    served.baton.file(
        "flow.yaml",
        "document: {dsl: 1.0.3, namespace: default, name: flow, version: 1.0.0}\ndo:\n  - ask: {run: {workflow: {namespace: default, name: callee, version: latest, input: {n: '${ .n }'}}}}\n  - say: {call: baton.dev/echo, with: {got: '${ . }'}}\n",
    );
    served.baton.file(
        "callee.yaml",
        "document: {dsl: 1.0.3, namespace: default, name: callee, version: 1.0.0}\ndo: [{add: {set: {n: '${ .n + 1 }'}}}]\n",
    );
    let (flow, callee) = (format!("{}/flow.yaml", served.baton.folder().display()), "callee.yaml");
    let callee = format!("{}/{callee}", served.baton.folder().display());
    served.run(&["apply", "-f", &flow, "-f", &callee]).ok();
    let server = served.baton.variable("BATON_SERVER");
    let run = ["run", "--workflow", "flow", "--name", "one", "--input", "{\"n\": 1}", "--server", &server];
    assert_eq!(served.run(&run).json(), json!({"got": {"n": 2}}));
    let recorded = served.run(&["test", &flow, "--record", "wfx/one"]).ok();
    let mut document: serde_json::Value = serde_yaml_ng::from_str(&recorded).unwrap();
    assert!(document["cases"][0]["env"].take().is_object(), "{recorded}");
    assert_eq!(
        document,
        json!({"workflow": flow, "name": "flow", "cases": [{
            "name": "as one went", "input": {"n": 1}, "env": null, "calls": [{"task": "ask", "returns": {"n": 2}}],
            "expect": {"output": {"got": {"n": 2}}},
        }]})
    );
    let tests = served.baton.file("flow.test.yaml", &recorded);
    assert_eq!(served.run(&["test", &tests]).ok().lines().last(), Some("1 passed, 0 failed"));
}
