//! Functions, catalogs, schemas that are kept elsewhere, and extensions, as documents have them.

#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::too_many_lines,
    reason = "a test that cannot go on may stop; lists are long"
)]

mod support;

use baton_workflow::{CATALOG_DEFAULT, ExternalKind, RESOURCES, check, externals};
use serde_json::{Value, json};

fn violations(document: &Value) -> Vec<String> {
    check(document).map(|_| ()).unwrap_err().iter().map(ToString::to_string).collect()
}

#[track_caller]
fn refused(rest: &str, expected: &[&str]) {
    assert_eq!(violations(&support::definition(rest)), expected, "{rest}");
}

/// What is missing: where it is referred to, and its URI.
fn missing(document: &Value) -> Vec<(String, String)> {
    externals(document).into_iter().map(|external| (external.field, external.uri)).collect()
}

#[test]
fn functions_are_checked_whole_and_called_by_name() {
    refused(
        r"
        use:
          functions:
            good: {set: {x: '${ .a }'}}
            bad: {set: {x: '${ $item }'}, then: other}
            none: 7
        do:
          - a: {call: godo}
          - b: {call: good, with: [1]}
          - c: {call: good, with: {a: '${ | }'}}
          - d: {for: {in: .}, do: [{e: {call: good, with: {a: '${ $item }'}}}]}
        ",
        &[
            "use.functions.bad.then: no task named 'other' in this scope; tasks here are none",
            "use.functions.bad.set.x: no variable '$item' here",
            "use.functions.none: must be an object, found a number",
            "do[0].a.call: no function named 'godo' in use.functions; functions there are 'good', 'bad' and 'none'; others are called by URL or as 'name:version@catalog'",
            "do[1].b.with: must be an object, found an array",
            "do[2].c.with.a: ' | ' is not a jq expression: expected term, found '|'",
        ],
    );
}

#[test]
fn circles_of_calls_are_named() {
    refused(
        r"
        use:
          functions:
            self: {call: self}
            a: {do: [{one: {set: {x: 1}}}, {two: {call: b}}]}
            b: {try: [{three: {call: c}}], catch: {}}
            c: {call: a}
            fine: {do: [{x: {call: leaf}}, {y: {call: leaf}}]}
            leaf: {set: {x: 1}}
        do: [{t: {call: fine}}]
        ",
        &[
            "use.functions.self.call: functions must not call themselves: self -> self",
            "use.functions.c.call: functions must not call themselves: a -> b -> c -> a",
        ],
    );
    let mut document = support::definition("do: [{t: {call: f0}}]");
    let chain = |length: usize| -> Value {
        let link = |number: usize| {
            let task = if number + 1 < length {
                json!({"call": format!("f{}", number + 1)})
            } else {
                json!({"set": {"x": 1}})
            };
            (format!("f{number}"), task)
        };
        (0..length).map(link).collect::<serde_json::Map<_, _>>().into()
    };
    document["use"] = json!({"functions": chain(32)});
    check(&document).unwrap();
    document["use"] = json!({"functions": chain(20_000)});
    assert_eq!(violations(&document), ["use.functions.f19967: calls functions within functions deeper than 32 levels"]);
}

#[test]
fn what_is_kept_elsewhere_is_listed_and_then_taken_from_the_resources() {
    let mut document = support::definition(
        r"
        use:
          authentications: {me: {basic: {username: a, password: b}}}
          catalogs:
            mine: {endpoint: {uri: 'https://example.com/catalog', authentication: {use: me}}}
            repository: {endpoint: 'https://github.com/acme/catalog/tree/main'}
        input: {schema: {resource: {name: order, endpoint: 'https://example.com/order.json'}}}
        do:
          - a: {call: 'log:1.0.0@mine', with: {x: 1}}
          - b: {call: 'log:1.0.0@mine'}
          - c: {call: 'greet:0.2.0-beta@repository'}
          - d: {call: 'tell:1.0.0@default'}
          - e: {call: 'https://example.com/f/function.yaml'}
        ",
    );
    let found = externals(&document);
    let told: Vec<(&str, &str, ExternalKind)> =
        found.iter().map(|it| (it.field.as_str(), it.uri.as_str(), it.kind)).collect();
    let default = format!("{CATALOG_DEFAULT}/functions/tell/1.0.0/function.yaml");
    assert_eq!(
        told,
        [
            ("input.schema.resource.endpoint", "https://example.com/order.json", ExternalKind::Schema),
            ("do[0].a.call", "https://example.com/catalog/functions/log/1.0.0/function.yaml", ExternalKind::Function),
            (
                "do[2].c.call",
                "https://raw.githubusercontent.com/acme/catalog/refs/heads/main/functions/greet/0.2.0-beta/function.yaml",
                ExternalKind::Function
            ),
            ("do[3].d.call", default.as_str(), ExternalKind::Function),
            ("do[4].e.call", "https://example.com/f/function.yaml", ExternalKind::Function),
        ]
    );
    assert_eq!(found[1].authentication, Some(json!({"basic": {"username": "a", "password": "b"}})));
    let resources = json!({
        "https://example.com/order.json": {"type": "object"},
        found[1].uri.as_str(): {"set": {"x": "${ .x }"}},
        found[2].uri.as_str(): {"set": {"x": 1}},
        default.as_str(): {"set": {"x": 1}},
        // What was fetched refers to more: relative to itself, and by URL.
        "https://example.com/f/function.yaml": {
            "input": {"schema": {"resource": {"endpoint": "schemas/input.json"}}},
            "do": [{"x": {"call": "https://example.com/g.yaml"}}],
        },
        "https://example.com/unused": 1,
    });
    document[RESOURCES] = resources;
    assert_eq!(
        missing(&document),
        [
            (
                format!("{RESOURCES}.https://example.com/f/function.yaml.input.schema.resource.endpoint"),
                "https://example.com/f/schemas/input.json".to_owned()
            ),
            (
                format!("{RESOURCES}.https://example.com/f/function.yaml.do[0].x.call"),
                "https://example.com/g.yaml".to_owned()
            ),
        ]
    );
    document[RESOURCES]["https://example.com/f/schemas/input.json"] = json!({"type": "nonsense"});
    document[RESOURCES]["https://example.com/g.yaml"] = json!({"set": {}});
    assert_eq!(
        violations(&document),
        [
            "baton.dev/resources.https://example.com/f/schemas/input.json: is not a JSON Schema that can be used: \"nonsense\" is not valid under any of the schemas listed in the 'anyOf' keyword",
            "baton.dev/resources.https://example.com/g.yaml.set: must have at least one field",
        ]
    );
    document[RESOURCES]["https://example.com/f/schemas/input.json"] = json!({"type": "object"});
    document[RESOURCES]["https://example.com/g.yaml"] = json!({"set": {"x": 1}});
    let definition = check(&document).unwrap();
    assert_eq!(definition.resources().len(), 7);
    assert!(!definition.resources().contains(&"https://example.com/unused".to_owned()));
    assert_eq!(definition.input_schema(), Some(&json!({"type": "object"})));
    assert_eq!(externals(&document), []);
}

#[test]
fn references_to_what_is_kept_elsewhere_are_fixed_and_whole() {
    refused(
        r"
        use:
          authentications: {me: {bearer: {token: '${ .token }'}}}
          catalogs:
            dynamic: {endpoint: '${ .catalog }'}
            relative: {endpoint: {uri: /catalog}}
            secret: {endpoint: {uri: 'https://example.com', authentication: {use: me}}}
            unknown: {endpoint: {uri: 'https://example.com', authentication: {use: you}}}
        input: {schema: {document: {}, resource: {endpoint: 'https://example.com'}}}
        output: {schema: {format: json}}
        do:
          - a: {call: 'log@nowhere'}
          - b: {call: 'log:1.0.0@nowhere'}
          - c: {call: 'log:../../etc@secret'}
          - d: {call: 'https://example.com/{x}'}
          - e: {call: 'ftp://example.com/x'}
          - f: {call: 'log:1.0.0@dynamic'}
          - g: {set: {x: 1}, input: {schema: {format: 'xml', document: {}}}}
        ",
        &[
            "use.catalogs.dynamic.endpoint: must be a fixed URI: it is fetched before there is an execution",
            "use.catalogs.relative.endpoint.uri: '/catalog' is not an absolute http or https URI",
            "use.catalogs.secret.endpoint.authentication: must have no expressions: it is used before there is an execution",
            "use.catalogs.unknown.endpoint.authentication.use: no authentication named 'you' in use.authentications; those there are 'me'",
            "input.schema.resource.endpoint: refers to a schema that is kept elsewhere and is not among the resources: https://example.com",
            "input.schema: must have one of 'document' and 'resource'; it has both",
            "output.schema.document: is required, unless there is a 'resource'",
            "do[0].a.call: 'log@nowhere' does not name a function of a catalog; the form is 'name:version@catalog'",
            "do[1].b.call: no catalog named 'nowhere' in use.catalogs; catalogs there are 'dynamic', 'relative', 'secret' and 'unknown'; 'default' is the server's own",
            "do[2].c.call: 'log:../../etc@secret' does not name a function of a catalog; the form is 'name:version@catalog'",
            "do[3].d.call: must be a fixed URI: it is fetched before there is an execution",
            "do[4].e.call: no function named 'ftp://example.com/x' in use.functions; functions there are none; others are called by URL or as 'name:version@catalog'",
            "do[6].g.input.schema.format: is 'xml', allowed is 'json'",
        ],
    );
    let mut document = support::definition("do: [{a: {call: 'https://example.com/f'}}]");
    document[RESOURCES] = json!([]);
    assert_eq!(violations(&document)[0], "baton.dev/resources: must be an object of contents by URI, found an array");
    document[RESOURCES] =
        (0..65).map(|number| (number.to_string(), json!(1))).collect::<serde_json::Map<_, _>>().into();
    assert_eq!(violations(&document)[0], "baton.dev/resources: has 65 resources, allowed are up to 64");
    let tasks: Vec<Value> = (0..70)
        .map(|number| json!({format!("t{number}"): {"call": format!("https://example.com/{number}")}}))
        .collect();
    document[RESOURCES] = json!({});
    document["do"] = json!(tasks);
    assert_eq!(externals(&document).len(), 64);
    assert!(
        violations(&document)
            .contains(&"do[64].t64.call: is one resource too many; a document may refer to 64".to_owned())
    );
}

#[test]
fn extensions_are_checked_whole() {
    refused(
        r#"
        use:
          extensions:
            - good: {extend: all, when: '$task.call == "http"', before: [{x: {set: {a: 1}}}]}
            - two: {extend: extension, after: [{x: {set: {a: 1}}}]}
            - three: {before: [], also: 1, when: '${ | }'}
            - {a: {extend: all}, b: {extend: all}}
            - scope: {extend: for, before: [{x: {set: {a: '${ $item }'}}}]}
        do: [{a: {set: {x: 1}}}]
        "#,
        &[
            "use.extensions[1].two.extend: is 'extension', allowed are 'all', 'call', 'composite', 'emit', 'for', 'listen', 'raise', 'run', 'set', 'switch', 'try' and 'wait'",
            "use.extensions[2].three.extend: is required",
            "use.extensions[2].three.when: ' | ' is not a jq expression: expected term, found '|'",
            "use.extensions[2].three.before: must have at least one task",
            "use.extensions[2].three.also: unknown field; fields here are 'extend', 'when', 'before' and 'after'",
            "use.extensions[3]: must be an object with one field, the name of the extension; found 2 fields",
            "use.extensions[4].scope.before[0].x.set.a: no variable '$item' here",
        ],
    );
    refused(
        "use: {extensions: {}}\ndo: [{a: {set: {x: 1}}}]",
        &["use.extensions: must be a list of extensions, found an object"],
    );
}

#[test]
fn tasks_that_are_never_reached_are_warned_of() {
    for (tasks, expected) in [
        ("[{a: {set: {x: 1}, then: c}}, {b: {set: {x: 1}}}, {c: {set: {x: 1}}}]", vec!["do[1].b"]),
        (
            "[{a: {set: {x: 1}, then: end}}, {b: {set: {x: 1}, then: c}}, {c: {set: {x: 1}}}]",
            vec!["do[1].b", "do[2].c"],
        ),
        ("[{a: {set: {x: 1}, if: .y, then: end}}, {b: {set: {x: 1}}}]", vec![]),
        ("[{a: {raise: {error: {type: x, status: 500}}}}, {b: {set: {x: 1}}}]", vec!["do[1].b"]),
        ("[{a: {switch: [{x: {when: .a, then: c}}]}}, {b: {set: {x: 1}}}, {c: {set: {x: 1}}}]", vec![]),
        (
            "[{a: {switch: [{x: {when: .a, then: c}}, {y: {then: end}}]}}, {b: {set: {x: 1}}}, {c: {set: {x: 1}}}]",
            vec!["do[1].b"],
        ),
        ("[{a: {set: {x: 1}, then: c}}, {b: {set: {x: 1}, then: exit}}, {c: {set: {x: 1}, then: b}}]", vec![]),
        (
            "[{a: {try: [{x: {set: {x: 1}}}], catch: {then: c}, then: end}}, {b: {set: {x: 1}}}, {c: {set: {x: 1}}}]",
            vec!["do[1].b"],
        ),
        ("[{a: {fork: {branches: [{x: {set: {x: 1}, then: exit}}, {y: {set: {x: 1}}}]}}}]", vec![]),
        ("[{a: {do: [{x: {set: {x: 1}, then: exit}}, {y: {set: {x: 1}}}]}}]", vec!["do[0].a.do[1].y"]),
    ] {
        let definition = check(&support::definition(&format!("do: {tasks}"))).unwrap();
        let found: Vec<&str> = definition.warnings().iter().map(|warning| warning.field.as_str()).collect();
        assert_eq!(found, expected, "{tasks}");
    }
}
