//! The graph of a workflow, and its drawings.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

mod support;

use std::{collections::BTreeSet, fs, path::Path};

use baton_workflow::{
    Definition, check,
    graph::{Edge, Graph, Point, Reason, Role, Target},
};

const ORDER: &str = r"
do:
  - check:
      switch:
        - paid: {when: .paid, then: ship}
        - other: {when: '${ .total > 1000 }', then: ask}
  - ask:
      if: .desk
      call: http
      metadata: {await: callback}
      with: {method: post, endpoint: 'https://desk.example.com/{id}'}
      then: ask
  - ship:
      try:
        - each:
            for: {in: .items}
            do:
              - one: {call: baton.dev/agent, with: {agent: packer, message: hi}, then: exit}
              - two: {run: {workflow: {namespace: default, name: label, version: latest}}, then: end}
      catch:
        errors: {with: {status: 503}}
        do:
          - stop: {raise: {error: {type: 'https://example.com/x', status: 400}}}
";

fn graph(tasks: &str) -> Graph {
    check(&support::definition(tasks)).unwrap().graph()
}

fn ways(edges: &[Edge]) -> Vec<(Point, Point, Option<&str>, Reason)> {
    edges.iter().map(|edge| (edge.from, edge.to, edge.label.as_deref(), edge.reason)).collect()
}

#[test]
fn ways_are_those_that_the_flow_takes() {
    use Point::{End, Exit, Start, Task};
    let graph = graph(ORDER);
    assert_eq!(
        ways(&graph.root.edges),
        [
            (Start, Task(0), None, Reason::Next),
            (Task(0), Task(2), Some(".paid"), Reason::Case),
            (Task(0), Task(1), Some(".total > 1000"), Reason::Case),
            (Task(0), Task(1), Some("else"), Reason::Next),
            (Task(1), Task(2), Some("skipped"), Reason::Next),
            (Task(1), Task(1), None, Reason::Then),
            (Task(2), Exit, None, Reason::Next),
        ]
    );
    let ship = &graph.root.tasks[2];
    assert_eq!(ship.blocks.iter().map(|block| block.role).collect::<Vec<_>>(), [Role::Try, Role::Catch]);
    assert_eq!(ship.blocks[1].label.as_deref(), Some("503"));
    assert_eq!(ways(&ship.blocks[1].edges), [(Start, Task(0), None, Reason::Next)], "nothing comes after a fault");
    let each = &ship.blocks[0].tasks[0];
    assert_eq!((each.blocks[0].role, each.detail.as_deref()), (Role::Loop, Some("each item in .items")));
    assert_eq!(
        ways(&each.blocks[0].edges)[1..],
        [(Task(0), Exit, None, Reason::Then), (Task(1), End, None, Reason::Then)]
    );
    let [one, two] = each.blocks[0].tasks.as_slice() else { panic!("two tasks") };
    assert_eq!(one.target, Some(Target::Agent("packer".to_owned())));
    assert_eq!(two.target, Some(Target::Workflow("label".to_owned())));
    assert!(graph.root.tasks[1].awaits_callback);
}

#[test]
fn a_position_of_the_timeline_finds_its_task() {
    let graph = graph(ORDER);
    for (position, pointer) in [
        ("/do/1/ask", Some("/do/1/ask")),
        ("/do/2/ship/try/0/each/for/12/do/1/two", Some("/do/2/ship/try/0/each/do/1/two")),
        ("/do/2/ship/catch/do/0/stop", Some("/do/2/ship/catch/do/0/stop")),
        ("/do/2/ship/try/0/each/for/0/do/7/gone", Some("/do/2/ship/try/0/each")),
        ("/do/1/asking", None),
        ("/do/9/x", None),
        ("", None),
    ] {
        assert_eq!(graph.task_at(position).map(|task| task.pointer.as_str()), pointer, "{position}");
    }
}

#[test]
fn a_terminal_shows_the_tree_and_the_jumps() {
    let expected = "\
test 1.0.0
├─ check         switch
│  → .paid: ship
│  → .total > 1000: ask
├─ ask           call http  POST https://desk.example.com/{id}  ⧗ callback  if .desk
│  ↺ then ask
└─ ship          try
   ├┄ try
   ┆  └─ each    for  each item in .items
   ┆     ├─ one  call baton.dev/agent  agent packer
   ┆     │  → then exit
   ┆     └─ two  run workflow  label latest
   ┆        → then end
   └┄ catch 503
      └─ stop    raise  x 400
";
    assert_eq!(graph(ORDER).text(), expected);
}

#[test]
fn text_of_the_author_is_never_markup() {
    let tasks = "do: [{'<b>&\"]': {if: '.a < \"x\"', set: {a: 1}}}]";
    let graph = graph(tasks);
    let svg = graph.svg();
    assert!(svg.contains("&lt;b&gt;&amp;&quot;]") && !svg.contains("<b>&"), "{svg}");
    let mermaid = graph.mermaid();
    assert!(mermaid.contains("#60;b#62;#38;#34;#93;"), "{mermaid}");
}

/// Every example of the specification that is accepted, and one with everything.
fn definitions() -> Vec<Definition> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/examples");
    let texts = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let examples = texts.filter_map(|text| serde_yaml_ng::from_str(&text).ok());
    examples.chain([support::definition(ORDER)]).filter_map(|document| check(&document).ok()).collect()
}

#[test]
fn every_drawing_has_every_task_and_nothing_lies_upon_another() {
    let definitions = definitions();
    assert!(definitions.len() > 20, "{}", definitions.len());
    for definition in definitions {
        let graph = definition.graph();
        let (svg, name) = (graph.svg(), definition.name());
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count(), "{name}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
        for task in graph.tasks() {
            assert_eq!(svg.matches(&format!("data-pointer=\"{}\"", task.pointer)).count(), 1, "{}", task.pointer);
            assert!(graph.text().contains(&task.name) && graph.mermaid().contains(&task.name), "{}", task.name);
        }
        let frames: Vec<(String, [f64; 4])> = frames(&svg);
        assert_eq!(frames.len(), graph.tasks().len(), "{name}");
        let pointers: BTreeSet<&String> = frames.iter().map(|(pointer, _)| pointer).collect();
        for (one, a) in &frames {
            for (other, b) in frames.iter().filter(|(other, _)| other > one) {
                let is_inside = other.starts_with(&format!("{one}/"));
                let apart = a[0] + a[2] <= b[0] || b[0] + b[2] <= a[0] || a[1] + a[3] <= b[1] || b[1] + b[3] <= a[1];
                let within = a[0] <= b[0] && a[1] <= b[1] && a[0] + a[2] >= b[0] + b[2] && a[1] + a[3] >= b[1] + b[3];
                assert!(if is_inside { within } else { apart }, "{name}: {one} {a:?} and {other} {b:?}");
            }
        }
        assert_eq!(pointers.len(), frames.len());
    }
}

/// The frame of each task: pointer, then x, y, width and height.
fn frames(svg: &str) -> Vec<(String, [f64; 4])> {
    svg.split("data-pointer=\"")
        .skip(1)
        .map(|part| {
            let (pointer, rest) = part.split_once('"').unwrap();
            let number = |name: &str| {
                let text = rest.split_once(&format!(" {name}=\"")).unwrap().1;
                text.split_once('"').unwrap().0.parse::<f64>().unwrap()
            };
            (pointer.to_owned(), ["x", "y", "width", "height"].map(number))
        })
        .collect()
}
