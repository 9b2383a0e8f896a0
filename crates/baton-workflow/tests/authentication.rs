//! Authentication policies in documents: what is refused, and what activities are given.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a test that cannot go on may stop")]

mod support;

use std::collections::BTreeMap;

use baton_execution::Command;
use serde_json::{Value, json};
use support::{Give, Session, definition};

/// A document whose one task calls with the policy, after `use`.
fn document(uses: &str, policy: &str) -> Value {
    definition(&format!(
        "
        use: {uses}
        do:
          - a: {{call: http, with: {{method: get, endpoint: {{uri: 'https://example.com', authentication: {policy}}}}}}}
        "
    ))
}

fn violations(uses: &str, policy: &str) -> Vec<String> {
    let violations = baton_workflow::check(&document(uses, policy)).expect_err("the policy is refused");
    let place = "do[0].a.with.endpoint.authentication";
    violations.iter().map(|violation| violation.to_string().replace(place, "@")).collect()
}

/// What the activity gets.
fn evaluated(policy: &str, input: Value) -> Result<Value, String> {
    let mut session = Session::new(&document("{secrets: [s]}", policy), &BTreeMap::new());
    for command in session.commands(&Give::Start(input)) {
        match command {
            Command::ScheduleActivity(activity) => return Ok(activity.input["authentication"].clone()),
            Command::End(ending) => return Err(format!("{ending:?}")),
            _ => {}
        }
    }
    panic!("the task neither calls nor faults");
}

#[test]
fn each_scheme_is_checked_for_what_it_needs() {
    for (policy, expected) in [
        ("{}", "@: must have exactly one of 'basic', 'bearer', 'digest', 'oauth2' and 'oidc'; found 0"),
        (
            "{bearer: {token: a}, basic: {username: a, password: b}}",
            "@: must have exactly one of 'basic', 'bearer', 'digest', 'oauth2' and 'oidc'; found 2",
        ),
        ("{certificate: {}}", "@: must have exactly one of 'basic', 'bearer', 'digest', 'oauth2' and 'oidc'; found 0"),
        ("{basic: {username: a}}", "@.basic.password: is required"),
        ("{digest: {username: a, password: [b]}}", "@.digest.password: must be a string, found an array"),
        ("{bearer: {token: a, tokn: b}}", "@.bearer.tokn: unknown field; fields here are 'use' and 'token'"),
        ("{bearer: {use: lost}}", "@.bearer.use: no secret named 'lost' in use.secrets; those there are 's'"),
        ("{bearer: {use: s, token: a}}", "@.bearer.token: unknown field; fields here are 'use'"),
        ("{oauth2: {authority: 'https://a.b'}}", "@.oauth2.grant: is required"),
        (
            "{oauth2: {authority: 'https://a.b', grant: magic}}",
            "@.oauth2.grant: is 'magic', allowed are 'client_credentials', 'password', 'refresh_token', 'urn:ietf:params:oauth:grant-type:token-exchange' and 'authorization_code'",
        ),
        (
            "{oauth2: {authority: 'https://a.b', grant: authorization_code}}",
            "@.oauth2.grant: 'authorization_code' needs a person at a browser; use 'refresh_token' with a token that was given to one",
        ),
        (
            "{oauth2: {authority: 'https://a.b', grant: password, username: a}}",
            "@.oauth2.password: is required by the grant 'password'",
        ),
        (
            "{oidc: {authority: 'https://a.b', grant: refresh_token}}",
            "@.oidc.subject: is required by the grant 'refresh_token'",
        ),
        (
            "{oidc: {authority: 'https://a.b', grant: client_credentials, client: {id: a, authentication: private_key_jwt}}}",
            "@.oidc.client.assertion: is required by the client authentication 'private_key_jwt'",
        ),
        (
            "{oidc: {authority: 'https://a.b', grant: client_credentials, client: {secret: a}}}",
            "@.oidc.client.id: is required by the client authentication 'client_secret_post'",
        ),
        (
            "{oidc: {authority: 'https://a.b', grant: client_credentials, endpoints: {token: /t}}}",
            "@.oidc.endpoints: unknown field; fields here are 'use', 'authority', 'grant', 'client', 'request', 'issuers', 'scopes', 'audiences', 'username', 'password', 'subject' and 'actor'",
        ),
        (
            "{oauth2: {authority: 'https://a.b', grant: client_credentials, scopes: api}}",
            "@.oauth2.scopes: must be an array of strings, found a string",
        ),
        (
            "{oauth2: {authority: 'https://a.b', grant: client_credentials, subject: {token: t}}}",
            "@.oauth2.subject.type: is required",
        ),
        (
            "{oauth2: {authority: a.b, grant: client_credentials}}",
            "@.oauth2.authority: 'a.b' is not supported yet; a URI must be an absolute one of http or https",
        ),
    ] {
        let found = violations("{secrets: [s]}", policy);
        assert!(found.iter().any(|found| found == expected), "{policy}: {found:#?}");
    }
}

#[test]
fn policies_and_secrets_have_names_in_use() {
    for (uses, policy, expected) in [
        ("{secrets: s}", "{bearer: {token: a}}", "use.secrets: must be an array of names, found a string"),
        ("{secrets: [7, '']}", "{bearer: {token: a}}", "use.secrets[1]: must not be empty"),
        (
            "{authentications: {a: {bearer: {token: b}}, b: {use: a}}}",
            "{use: a}",
            "use.authentications.b: must have exactly one of 'basic', 'bearer', 'digest', 'oauth2' and 'oidc'; found 0",
        ),
        (
            "{authentications: {a: {bearer: {use: x}}}}",
            "{use: a}",
            "use.authentications.a.bearer.use: no secret named 'x' in use.secrets; those there are none",
        ),
        ("{}", "{use: x}", "@.use: no authentication named 'x' in use.authentications; those there are none"),
        (
            "{authentications: {a: {bearer: {token: b}}}}",
            "{use: a, bearer: {token: c}}",
            "@.bearer: unknown field; fields here are 'use'",
        ),
    ] {
        let found = violations(uses, policy);
        assert!(found.iter().any(|found| found == expected), "{policy}: {found:#?}");
    }
}

#[test]
fn activities_get_everything_evaluated_but_secrets() {
    for (policy, expected) in [
        ("{basic: {use: s}}", json!({"basic": {"use": "s"}})),
        ("{oidc: {use: s}}", json!({"oidc": {"use": "s"}})),
        (
            "{digest: {username: '${ .u }', password: '${ .n }'}}",
            json!({"digest": {"username": "me", "password": "7"}}),
        ),
        (
            "{oauth2: {authority: 'https://id.example.com/{u}', grant: client_credentials, endpoints: {token: /t}, client: {id: '${ .u }', secret: x}, scopes: ['${ .u }', b], audiences: '${ [.u] }', issuers: ['https://i'], request: {encoding: application/json}}}",
            json!({"oauth2": {
                "authority": "https://id.example.com/me", "grant": "client_credentials", "endpoints": {"token": "/t"},
                "client": {"id": "me", "secret": "x"}, "request": {"encoding": "application/json"},
                "issuers": ["https://i"], "scopes": ["me", "b"], "audiences": ["me"],
            }}),
        ),
    ] {
        assert_eq!(evaluated(policy, json!({"u": "me", "n": 7})), Ok(expected), "{policy}");
    }
}

#[test]
fn a_credential_that_is_not_there_is_a_fault_and_no_call() {
    for (policy, says) in [
        ("{bearer: {token: '${ .token }'}}", "'token' must be a string, found null"),
        (
            "{oauth2: {authority: 'https://a.b', grant: client_credentials, scopes: '${ .scopes }'}}",
            "'scopes' must be an array of strings, found null",
        ),
        (
            "{oauth2: {authority: 'https://a.b/{realm}', grant: client_credentials}}",
            "the endpoint needs 'realm' of the task's input as a string, number or boolean; found no such field",
        ),
    ] {
        let fault = evaluated(policy, json!({})).unwrap_err();
        assert!(fault.contains(says), "{policy}: {fault}");
    }
}
