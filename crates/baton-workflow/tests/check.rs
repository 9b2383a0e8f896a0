//! What is wrong with a document is said all at once, with paths, in words that help.

#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::too_many_lines,
    reason = "a test that cannot go on may stop; lists of cases are long"
)]

mod support;

use baton_workflow::{Definition, check};
use serde_json::{Value, json};

fn violations(document: &Value) -> Vec<String> {
    check(document).map(|_| ()).unwrap_err().iter().map(ToString::to_string).collect()
}

/// The violations of a document with these tasks (and whatever else stands before them), one a line.
#[track_caller]
fn refused(rest: &str, expected: &[&str]) {
    assert_eq!(violations(&support::definition(rest)), expected, "{rest}");
}

fn accepted(rest: &str) -> Definition {
    check(&support::definition(rest)).unwrap_or_else(|violations| panic!("{rest}: {violations:#?}"))
}

#[test]
fn a_document_says_what_it_is() {
    let head = |head: Value| violations(&json!({"document": head, "do": [{"a": {"set": {"x": 1}}}]}));
    assert_eq!(violations(&json!(7)), ["must be an object, found a number"]);
    assert_eq!(violations(&json!({})), ["document: is required", "do: is required"]);
    assert_eq!(
        head(json!({"dsl": "0.9.0", "namespace": "a b", "name": 7, "version": "1", "tag": 1})),
        [
            "document.name: must be a string, found a number",
            "document.dsl: is '0.9.0', allowed are the versions 1.0.0 and later of 1.0",
            "document.version: '1' is not a semantic version such as '1.0.0'",
            "document.namespace: 'a b' is not a valid name; allowed are 1 to 63 letters, digits and '-', beginning and ending with a letter or digit",
            "document.tag: unknown field; fields here are 'dsl', 'namespace', 'name', 'version', 'title', 'summary', 'tags' and 'metadata'",
        ]
    );
    let definition = accepted("do: [{a: {set: {x: 1}}}]");
    assert_eq!(
        (definition.dsl(), definition.namespace(), definition.name(), definition.version(), definition.title()),
        ("1.0.3", "default", "test", "1.0.0", None)
    );
    assert_eq!((definition.tasks_count(), definition.timeout_ms(), definition.input_schema()), (1, None, None));
}

#[test]
fn every_violation_is_told_at_once() {
    refused(
        r"
        do:
          - fetch: {set: {x: 1}, then: notify}
          - store: {set: {x: '${ .a | }'}, sett: 1}
          - store: {wait: soon}
          - both: {do: [], then: 7}
        output: {as: 5}
        other: 1
        ",
        &[
            "output.as: must be an expression or an object, found a number",
            "do[2].store: is the second task named 'store' in this scope; names must differ",
            "do[0].fetch.then: no task named 'notify' in this scope; tasks here are 'both', 'fetch' and 'store'",
            "do[1].store.set.x: ' .a | ' is not a jq expression: expected term, found the end",
            "do[1].store.sett: unknown field; fields here are 'if', 'input', 'output', 'export', 'timeout', 'then', 'metadata' and 'set'",
            "do[2].store.wait: 'soon' is not a duration; allowed are forms such as '30s', '10m', '1h30m', '2d' and 'PT10M'",
            "do[3].both.then: must be a string, found a number",
            "do[3].both.do: must have at least one task",
            "other: unknown field; fields here are 'document', 'evaluate', 'use', 'schedule', 'input', 'output', 'timeout' and 'do'",
        ],
    );
}

#[test]
fn kinds_that_are_none_are_named() {
    let found = violations(&support::definition(
        "do: [{a: {call: baton.dev/nothing}}, {b: {nothing: 1}}, {c: 7}, 8, {d: {set: {x: 1}}, e: {set: {x: 1}}}]",
    ));
    assert!(
        found[0].starts_with("do[3]: must be an object with one field, the name of the task; found a number"),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("do[4]: must be an object with one field, the name of the task; found 2 fields"),
        "{found:?}"
    );
    assert!(found[2].starts_with("do[0].a.call: no kind of task is 'call baton.dev/nothing'; kinds are"), "{found:?}");
    assert!(found[3].starts_with("do[1].b: is not a task of a known kind; kinds are"), "{found:?}");
    assert!(found[4].starts_with("do[2].c: must be an object, found a number"), "{found:?}");
}

#[test]
fn calls_of_tools_and_agents_are_checked() {
    for (with, expected) in [
        ("mcp, with: {}", &["method: is required", "transport: is required"][..]),
        (
            "mcp, with: {method: tools/guess, transport: {}, protocolVersion: latest, parameters: [1], timeout: soon}",
            &[
                "protocolVersion: 'latest' is not a version of the protocol, such as '2025-06-18'",
                "method: is 'tools/guess', allowed are 'tools/list', 'tools/call', 'prompts/list', 'prompts/get', 'resources/list', 'resources/read' and 'resources/templates/list'",
                "parameters: must be a string, found an array",
                "timeout: 'soon' is not a duration; allowed are forms such as '30s', '10m', '1h30m', '2d' and 'PT10M'",
                "transport: must have one of 'http' and 'stdio'; found neither",
            ],
        ),
        (
            "mcp, with: {method: tools/list, client: {name: a, v: 1}, transport: {stdio: {arguments: [1], environment: 7}, options: {a: b}}}",
            &[
                "client.version: is required",
                "client.v: unknown field; fields here are 'name', 'version' and 'description'",
                "transport.options: is not supported: the language names no option; leave it out",
                "transport.stdio.command: is required",
                "transport.stdio.arguments[0]: must be a string, found a number",
                "transport.stdio.environment: must be an object or an expression in '${ }', found a number",
            ],
        ),
        (
            "mcp, with: {method: tools/list, transport: {stdio: {command: a}, http: {endpoint: here, heads: 1}}}",
            &["transport: must have one of 'http' and 'stdio'; found both"],
        ),
        (
            "mcp, with: {method: tools/list, transport: {http: {endpoint: here, heads: 1}}}",
            &[
                "transport.http.endpoint: 'here' is not supported yet; a URI must be an absolute one of http or https",
                "transport.http.heads: unknown field; fields here are 'endpoint' and 'headers'",
            ],
        ),
        ("a2a, with: {}", &["method: is required", ": must have one of 'agentCard' and 'server'"]),
        (
            "a2a, with: {method: message/send, server: {uri: 'https://a/', path: b}}",
            &[
                "parameters: is required by the method: it holds the 'message'",
                "server.path: unknown field; fields here are 'uri' and 'authentication'",
            ],
        ),
        (
            "a2a, with: {method: tasks/guess, agentCard: {name: 7}, more: 1}",
            &[
                "method: is 'tasks/guess', allowed are 'message/send', 'message/stream', 'tasks/get', 'tasks/list', 'tasks/cancel', 'tasks/resubscribe', 'tasks/pushNotificationConfig/set', 'tasks/pushNotificationConfig/get', 'tasks/pushNotificationConfig/list', 'tasks/pushNotificationConfig/delete' and 'agent/getAuthenticatedExtendedCard'",
                "agentCard.name: must be a string, found a number",
                "agentCard.endpoint: is required",
                "more: unknown field; fields here are 'method', 'parameters', 'server' and 'agentCard'",
            ],
        ),
    ] {
        let expected: Vec<String> = expected
            .iter()
            .map(|it| if it.starts_with(':') { format!("do[0].a.with{it}") } else { format!("do[0].a.with.{it}") })
            .collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        refused(&format!("do: [{{a: {{call: {with}}}}}]"), &expected);
    }
    accepted(
        "do: [{a: {call: a2a, with: {method: tasks/list, server: 'https://a/', agentCard: {endpoint: 'https://b/'}}}}]",
    );
}

#[test]
fn events_are_checked() {
    refused(
        r"
        do:
          - say:
              emit:
                event:
                  with: {Type: x, source: '', time: noon, data_base64: AA==, priority: [1], specversion: '0.3', id: 7}
          - hear:
              listen:
                to: {one: {with: {type: '(', Sub: 1}}, any: []}
          - one:
              listen:
                to: {one: {with: {}, correlate: {a: {from: '.a | '}, b: {expect: 1}}}, until: 'true'}
          - all:
              listen: {to: {all: []}, read: all}
          - nested:
              listen: {to: {any: [7], until: {one: {with: {type: '('}}, until: 'true'}}}
          - each:
              listen: {to: {any: [], until: 7}}
              foreach: {item: x, at: x, do: [], more: 1}
        ",
        &[
            "do[0].say.emit.event.with.type: is required",
            "do[0].say.emit.event.with.Type: 'Type' is not a name of an attribute; allowed are lower-case letters and digits",
            "do[0].say.emit.event.with.source: must not be empty",
            "do[0].say.emit.event.with.time: 'noon' is not a time such as '2026-01-31T12:00:00Z'",
            "do[0].say.emit.event.with.data_base64: 'data_base64' is not a name of an attribute; allowed are lower-case letters and digits",
            "do[0].say.emit.event.with.priority: must be a string, number or boolean, found an array",
            "do[0].say.emit.event.with.specversion: must be '1.0'",
            "do[0].say.emit.event.with.id: must be a string, found a number",
            "do[1].hear.listen.to: must have exactly one of 'one', 'any' and 'all'",
            "do[2].one.listen.to.one.with: must have at least one attribute",
            "do[2].one.listen.to.one.correlate.a.from: '.a | ' is not a jq expression: expected term, found the end",
            "do[2].one.listen.to.one.correlate.b.from: is required",
            "do[2].one.listen.to.until: applies to 'any' only",
            "do[3].all.listen.to.all: must have at least one filter",
            "do[3].all.listen.read: is 'all', allowed are 'data', 'envelope' and 'raw'",
            "do[4].nested.listen.to.any[0]: must be an object, found a number",
            "do[4].nested.listen.to.until.one.with.type: '(' is not a regular expression",
            "do[4].nested.listen.to.until.until: is not allowed in an 'until'",
            "do[5].each.listen.to.until: must be an expression or a strategy, found a number",
            "do[5].each.foreach.at: 'item' and 'at' are both 'x'; they must differ",
            "do[5].each.foreach.do: must have at least one task",
            "do[5].each.foreach.more: unknown field; fields here are 'item', 'at', 'do', 'output' and 'export'",
        ],
    );
}

#[test]
fn names_that_are_referred_to_must_be_defined() {
    refused(
        r"
        use:
          timeouts: {short: {after: PT1S}}
          errors: {broken: {type: 'https://example.com/x', status: 500}}
          retries: {often: {delay: PT1S}}
          authentications: {me: {basic: {username: a, password: b}}}
        do:
          - a: {set: {x: 1}, timeout: long}
          - b: {raise: {error: lost}}
          - c: {try: [{x: {set: {x: 1}}}], catch: {retry: never}}
          - d: {call: http, with: {method: get, endpoint: {uri: 'https://example.com', authentication: {use: you}}}}
        ",
        &[
            "do[0].a.timeout: no timeout named 'long' in use.timeouts; timeouts there are 'short'",
            "do[1].b.raise.error: no error named 'lost' in use.errors; errors there are 'broken'",
            "do[2].c.catch.retry: no retry policy named 'never' in use.retries; policies there are 'often'",
            "do[3].d.with.endpoint.authentication.use: no authentication named 'you' in use.authentications; those there are 'me'",
        ],
    );
}

#[test]
fn what_is_not_supported_yet_is_not_ignored() {
    refused(
        r"
        input: {schema: {format: avro, resource: {endpoint: 'https://example.com'}}}
        do:
          - a: {set: {x: 1}}
        ",
        &[
            "input.schema.format: is 'avro', allowed is 'json'",
            "input.schema.resource.endpoint: refers to a schema that is kept elsewhere and is not among the resources: https://example.com",
        ],
    );
}

#[test]
fn schedules_are_checked() {
    let do_nothing = "do: [{a: {set: {x: 1}}}]";
    for (schedule, expected) in [
        ("{}", "schedule: must have exactly one of 'every', 'cron', 'after' and 'on'; it has none"),
        (
            "{every: PT1H, cron: '0 0 * * *'}",
            "schedule: must have exactly one of 'every', 'cron', 'after' and 'on'; it has 'every' and 'cron'",
        ),
        ("{every: {milliseconds: 999}}", "schedule.every: is 999ms, it must be 1s or more"),
        ("{after: PT0S}", "schedule.after: is 0s, it must be 1s or more"),
        (
            "{every: '${ .x }'}",
            "schedule.every: must be a fixed duration: before an execution starts there is nothing to evaluate",
        ),
        (
            "{cron: daily}",
            "schedule.cron: 'daily' has 1 fields, allowed are five fields for minute, hour, day of the month, month and day of the week",
        ),
        ("{every: PT1H, read: raw}", "schedule.read: belongs to 'on'; there is none"),
        ("{on: {one: {with: {}}}}", "schedule.on.one.with: must have at least one attribute"),
        (
            "{on: {one: {with: {type: a}}}, read: all}",
            "schedule.read: is 'all', allowed are 'data', 'envelope' and 'raw'",
        ),
        ("{on: {any: [], until: '${ false }'}}", "schedule.on.until: never holds, so no execution would ever start"),
        (
            "{on: {one: {with: {data: '${ .x == $context.x }'}}}}",
            "schedule.on.one.with.data: no variable '$context' here; those here are '$runtime'",
        ),
        (
            "{at: noon, every: PT1H}",
            "schedule.at: unknown field; fields here are 'every', 'cron', 'on', 'read' and 'after'",
        ),
    ] {
        refused(&format!("schedule: {schedule}\n{do_nothing}"), &[expected]);
    }
}

#[test]
fn each_kind_checks_its_own() {
    for (task, expected) in [
        ("set: {}", "set: must have at least one field"),
        ("set: text", "set: must be an object, or an expression in '${ }'"),
        ("switch: []", "switch: must have at least one case"),
        (
            "switch: [{d: {then: end}}, {x: {when: .a, then: end}}]",
            "switch[0].d: has no 'when', so that the cases after it are never reached; put it last",
        ),
        ("switch: [{d: {when: .a}}]", "switch[0].d.then: is required"),
        ("for: {in: 7}, do: [{x: {set: {x: 1}}}]", "for.in: must be an expression or an array, found a number"),
        (
            "for: {in: ., each: input}, do: [{x: {set: {x: 1}}}]",
            "for.each: 'input' is a variable of the language; choose another name",
        ),
        (
            "for: {in: ., each: a-b}, do: [{x: {set: {x: 1}}}]",
            "for.each: 'a-b' is not a name of a variable; allowed are letters, digits and '_', not beginning with a digit",
        ),
        (
            "for: {in: ., each: x, at: x}, do: [{x: {set: {x: 1}}}]",
            "for.at: 'each' and 'at' are both 'x'; they must differ",
        ),
        ("for: {in: .}, do: [{x: {set: {x: '${ $nothing }'}}}]", "do[0].x.set.x: no variable '$nothing' here"),
        ("set: {x: '${ $item }'}", "set.x: no variable '$item' here"),
        (
            "set: {x: '${ now }'}",
            "set.x: 'now' is not available: expressions must give the same result on every replay; use '$task.startedAt' or '$workflow.startedAt'",
        ),
        (
            "fork: {branches: [{x: {set: {x: 1}, then: y}}, {y: {set: {x: 1}}}]}",
            "fork.branches[0].x.then: goes to 'y', but branches run side by side; allowed are 'continue', 'exit' and 'end'",
        ),
        (
            "raise: {error: {status: 500, type: x, instance: here}}",
            "raise.error.instance: 'here' is not a JSON pointer such as '/do/0/fetch'",
        ),
        (
            "set: {x: '${ $output }'}",
            "set.x: no variable '$output' here; those here are '$context', '$input', '$secrets', '$authorization', '$task', '$workflow', '$runtime' and '$env'",
        ),
        (
            "set: {x: 1}, if: $authorization.scheme",
            "if: no variable '$authorization' here; those here are '$context', '$input', '$secrets', '$task', '$workflow', '$runtime' and '$env'",
        ),
        ("raise: {error: {status: 99, type: x}}", "raise.error.status: is 99, allowed are 100 to 599"),
        ("wait: {seconds: -1}", "wait: has a 'seconds' that is -1; it must be an integer of 0 or more"),
        (
            "wait: {weeks: 1}",
            "wait: has an unknown field 'weeks'; fields here are 'days', 'hours', 'minutes', 'seconds' and 'milliseconds'",
        ),
        ("wait: {}", "wait: must have at least one of 'days', 'hours', 'minutes', 'seconds' and 'milliseconds'"),
        ("wait: {days: 90000}", "wait: is longer than the limit of ten years"),
        (
            "try: [{x: {set: {x: 1}}}], catch: {retry: {backoff: {linear: {}, constant: {}}}}",
            "catch.retry.backoff: must have exactly one of 'constant', 'linear' and 'exponential'",
        ),
        (
            "try: [{x: {set: {x: 1}}}], catch: {errors: {with: {code: 1}}}",
            "catch.errors.with.code: unknown field; fields here are 'type', 'instance', 'title', 'detail', 'details' and 'status'",
        ),
        ("try: [{x: {set: {x: 1}}}]", "catch: is required"),
        ("call: http, with: {method: 'GET /', endpoint: 'https://x.y'}", "with.method: 'GET /' is not an HTTP method"),
        (
            "call: http, with: {method: get, endpoint: 'ftp://x.y'}",
            "with.endpoint: 'ftp://x.y' is not supported yet; a URI must be an absolute one of http or https",
        ),
        (
            "call: http, with: {method: get, endpoint: 'https://x.y/{+a}'}",
            "with.endpoint: '{+a}' is not supported in a URI template; allowed are names of fields of the input, such as '{petId}'",
        ),
        ("call: openapi, with: {operationId: a}", "with.document: is required"),
        ("call: openapi, with: {document: {endpoint: 'https://x.y'}}", "with.operationId: is required"),
        (
            "call: openapi, with: {document: 'https://x.y', operationId: a}",
            "with.document: must be an object, found a string",
        ),
        (
            "call: openapi, with: {document: {endpoint: 'file:///etc/x'}, operationId: a}",
            "with.document.endpoint: refers to a file that is kept elsewhere and is not among the resources: file:///etc/x",
        ),
        (
            "call: openapi, with: {document: {endpoint: 'https://x.y'}, operationId: a, parameters: [1]}",
            "with.parameters: must be an object or an expression in '${ }', found an array",
        ),
        (
            "call: openapi, with: {document: {endpoint: 'https://x.y'}, operationId: a, authentication: {use: b}}",
            "with.authentication.use: no authentication named 'b' in use.authentications; those there are none",
        ),
        (
            "call: http, with: {method: get, endpoint: 'https://x.y/{a'}",
            "with.endpoint: 'https://x.y/{a' has a '{' without a '}'",
        ),
        (
            "call: http, with: {method: get, endpoint: 'https://x.y', output: all}",
            "with.output: is 'all', allowed are 'content', 'raw' and 'response'",
        ),
        (
            "call: http, with: {method: get, endpoint: 'https://x.y', headers: {A: [1]}}",
            "with.headers.A: must be a string, found an array",
        ),
        (
            "call: grpc, with: {proto: {endpoint: 'file://a.proto'}, service: {name: a.B, host: x}, method: M}",
            "with.proto.endpoint: refers to a file that is kept elsewhere and is not among the resources: file://a.proto",
        ),
        (
            "call: grpc, with: {proto: {endpoint: 'https://x.y/a.proto'}, service: {name: a.B, host: 'a b'}, method: M}",
            "with.service.host: 'a b' is not the name of a host; allowed are letters, digits, '-' and '.', beginning and ending with a letter or digit",
        ),
        (
            "call: grpc, with: {proto: {endpoint: 'https://x.y/a.proto'}, service: {name: a.B, host: x, port: 70000}, method: M}",
            "with.service.port: is 70000, allowed are 0 to 65535",
        ),
        (
            "call: grpc, with: {proto: {endpoint: 'https://x.y/a.proto'}, service: {name: a.B, host: x}, method: M, arguments: text}",
            "with.arguments: must be an object, an array of objects or an expression in '${ }', found a string",
        ),
        (
            "call: asyncapi, with: {document: {endpoint: 'https://x.y/'}, operation: a, protocol: ws, message: {}}",
            "with.protocol: the protocol 'ws' is not supported yet; supported are 'http', 'mqtt' and 'mqtt5'",
        ),
        (
            "call: asyncapi, with: {document: {endpoint: 'https://x.y/'}, operation: a, channel: b, message: {}}",
            "with: must have exactly one of 'operation' and 'channel'",
        ),
        (
            "call: asyncapi, with: {document: {endpoint: 'https://x.y/'}, operation: a}",
            "with: must have exactly one of 'message' and 'subscription'",
        ),
        (
            "call: asyncapi, with: {document: {endpoint: 'https://x.y/'}, operation: a, subscription: {consume: {amount: 1, until: 'true'}}}",
            "with.subscription.consume: must have exactly one of 'amount', 'while' and 'until'",
        ),
        (
            "call: asyncapi, with: {document: {endpoint: 'https://x.y/'}, operation: a, subscription: {consume: {amount: 0}}}",
            "with.subscription.consume.amount: is 0, allowed are 1 to 100000",
        ),
        (
            "call: asyncapi, with: {document: {endpoint: 'https://x.y/'}, operation: a, subscription: {consume: {amount: 1}}}, metadata: {await: callback}",
            "metadata.await: a subscription hands out no token",
        ),
        (
            "call: baton.dev/agent, with: {agent: 7, message: x}",
            "with.agent: must be the name of an agent or the spec of one, found a number",
        ),
        ("call: baton.dev/agent, with: {agent: a}", "with.message: is required, unless there is an 'input'"),
        (
            "run: {workflow: {namespace: other, name: a, version: latest}}",
            "run.workflow.namespace: is 'other', allowed is the workflow's own namespace 'default'",
        ),
        (
            "run: {workflow: {namespace: default, name: a, version: one}}",
            "run.workflow.version: 'one' is neither 'latest' nor a semantic version such as '1.0.0'",
        ),
        (
            "run: {workflow: {namespace: default, name: a, version: latest}, return: all}",
            "run.return: applies to processes only; a workflow returns its output",
        ),
        ("run: {shell: {}}", "run.shell.command: is required"),
        ("run: {shell: {command: [ls]}}", "run.shell.command: must be a string, found an array"),
        (
            "run: {shell: {command: ls, arguments: {a: b}}}",
            "run.shell.arguments: must be a list of strings, found an object",
        ),
        ("run: {shell: {command: ls, arguments: [[a]]}}", "run.shell.arguments[0]: must be a string, found an array"),
        ("run: {shell: {command: ls, environment: [a]}}", "run.shell.environment: must be an object, found an array"),
        (
            "run: {shell: {command: ls, environment: {A: [1]}}}",
            "run.shell.environment.A: must be a string, found an array",
        ),
        ("run: {shell: {command: ls, stdin: 7}}", "run.shell.stdin: must be a string, found a number"),
        (
            "run: {shell: {command: ls, cwd: /}}",
            "run.shell.cwd: unknown field; fields here are 'command', 'arguments', 'environment' and 'stdin'",
        ),
        (
            "run: {shell: {command: ls}, return: output}",
            "run.return: is 'output', allowed are 'stdout', 'stderr', 'code', 'all' and 'none'",
        ),
        (
            "run: {shell: {command: ls}}, metadata: {baton.dev/repeatable: often}",
            "metadata.baton.dev/repeatable: must be a boolean, found a string",
        ),
        (
            "run: {script: {language: ruby, code: x}}",
            "run.script.language: is 'ruby', allowed are 'js', 'javascript' and 'python'",
        ),
        ("run: {script: {language: js}}", "run.script: must have one of 'code' and 'source'"),
        (
            "run: {script: {language: js, code: x, source: {endpoint: 'https://x.y'}}}",
            "run.script.source: stands beside 'code'; a script has one of the two",
        ),
        (
            "run: {script: {language: js, source: {endpoint: 'file:///x'}}}",
            "run.script.source.endpoint: 'file:///x' is not supported yet; a URI must be an absolute one of http or https",
        ),
        ("run: {container: {command: ls}}", "run.container.image: is required"),
        (
            "run: {container: {image: a, pullPolicy: often}}",
            "run.container.pullPolicy: is 'often', allowed are 'ifNotPresent', 'always' and 'never'",
        ),
        (
            "run: {container: {image: a, lifetime: {cleanup: eventually}}}",
            "run.container.lifetime.after: is required with 'cleanup: eventually'",
        ),
        (
            "run: {container: {image: a, lifetime: {cleanup: always, after: PT1S}}}",
            "run.container.lifetime.after: applies to 'cleanup: eventually' only",
        ),
        ("run: {}", "run: must have one of 'container', 'script', 'shell' and 'workflow'"),
        (
            "set: {x: 1}, metadata: {await: callback}",
            "metadata.await: a task of the kind 'set' hands out no token; allowed are all calls but those of agents and functions, and 'run container', 'run script' and 'run shell'",
        ),
        ("call: baton.dev/echo, metadata: {await: answer}", "metadata.await: is 'answer', allowed are 'callback'"),
        (
            "call: baton.dev/echo, metadata: {heartbeat: PT1S}",
            "metadata.heartbeat: applies to tasks with 'await: callback' only",
        ),
        (
            "set: {x: 1}, input: {schema: {document: {type: nonsense}}}",
            "input.schema.document: is not a JSON Schema that can be used: \"nonsense\" is not valid under any of the schemas listed in the 'anyOf' keyword",
        ),
        (
            "set: {x: 1}, timeout: {after: '${ .a | }'}",
            "timeout.after: ' .a | ' is not a jq expression: expected term, found the end",
        ),
    ] {
        refused(&format!("do: [{{a: {{{task}}}}}]"), &[&format!("do[0].a.{expected}")]);
    }
}

#[test]
fn references_to_other_resources_are_told_with_their_paths() {
    let definition = accepted(
        r"
        do:
          - a: {call: baton.dev/agent, with: {agent: triage, message: hi}}
          - b: {do: [{c: {run: {workflow: {namespace: default, name: sub, version: '1.2.0'}}}}]}
          - d: {call: baton.dev/agent, with: {agent: '${ .who }', message: hi}}
          - e: {call: baton.dev/agent, with: {agent: {instructions: x}, message: hi}}
          - f: {run: {workflow: {namespace: default, name: any, version: latest}}}
        ",
    );
    let told = |references: &[baton_workflow::Reference]| -> Vec<String> {
        references
            .iter()
            .map(|it| format!("{} {} {}", it.field, it.name, it.version.as_deref().unwrap_or("-")))
            .collect()
    };
    assert_eq!(told(definition.agents()), ["do[0].a.with.agent triage -"]);
    assert_eq!(
        told(definition.workflows()),
        ["do[1].b.do[0].c.run.workflow.name sub 1.2.0", "do[4].f.run.workflow.name any -"]
    );
}

#[test]
fn large_documents_are_checked_in_reasonable_time() {
    let tasks: Vec<Value> =
        (0..20_000).map(|number| json!({format!("task{number}"): {"wait": "PT1S", "then": "task0"}})).collect();
    let document =
        json!({"document": {"dsl": "1.0.3", "namespace": "default", "name": "a", "version": "1.0.0"}, "do": tasks});
    assert_eq!(check(&document).unwrap().tasks_count(), 20_000);
    let expressions: Vec<Value> = (0..2_001).map(|number| json!(format!("${{ .a{number} }}"))).collect();
    let mut document = support::definition("do: [{a: {set: {x: 1}}}]");
    document["do"][0]["a"]["set"]["x"] = Value::Array(expressions);
    let found = violations(&document);
    assert_eq!(found, ["do[0].a.set.x[2000]: is one expression too many; a document may have 2000"]);
    let deep = (0..200).fold(json!({"set": {"x": 1}}), |task, _| json!({"do": [{"a": task}]}));
    let document = json!({"document": {"dsl": "1.0.3", "namespace": "default", "name": "a", "version": "1.0.0"}, "do": [{"a": deep}]});
    assert_eq!(violations(&document), ["is nested deeper than 128 levels"]);
}
