//! Authentication of calls: secrets, digest, tokens.

use std::collections::BTreeMap;

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use baton_activities::{ActivitiesOptions, WorldActivities};
use baton_execution::{Activities as _, Fault, fault_type};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Seen, Server, TestHome, task, told};

fn world() -> WorldActivities {
    let secrets = [
        ("password", [("username", "me"), ("password", "hunter2-hunter2")].as_slice()),
        ("token", [("token", "token-of-the-secret")].as_slice()),
        ("half", [("username", "me")].as_slice()),
    ];
    WorldActivities::new(ActivitiesOptions::default(), TestHome::with(&secrets)).unwrap()
}

async fn call(world: &WorldActivities, url: String, authentication: Value) -> Result<Value, Fault> {
    let input = json!({"method": "GET", "endpoint": url, "authentication": authentication});
    world.run(task("http", input, 30_000)).await
}

fn json_of(value: &Value) -> Response {
    ([("content-type", "application/json")], value.to_string()).into_response()
}

fn form(seen: &Seen) -> BTreeMap<String, String> {
    let text = std::str::from_utf8(&seen.body).unwrap();
    let pairs = reqwest::Url::parse(&format!("http://x/?{text}")).unwrap();
    pairs.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

#[tokio::test]
async fn secrets_are_resolved_and_never_come_back() {
    // It echoes what it is sent, as text and in JSON.
    let server = Server::answering(|_, seen| json_of(&json!({"echo": seen.header("authorization")}))).await;
    let world = world();
    let output = call(&world, server.url("/"), json!({"basic": {"use": "password"}})).await.unwrap();
    assert_eq!(server.seen()[0].header("authorization"), "Basic bWU6aHVudGVyMi1odW50ZXIy");
    assert_eq!(output, json!({"echo": "Basic ***"}));
    let output = call(&world, server.url("/"), json!({"bearer": {"use": "token"}})).await.unwrap();
    assert_eq!(server.seen()[1].header("authorization"), "Bearer token-of-the-secret");
    assert_eq!(output, json!({"echo": "Bearer ***"}));
    // What stands in the document is no secret.
    let output = call(&world, server.url("/"), json!({"bearer": {"token": "in-the-open"}})).await.unwrap();
    assert_eq!(output, json!({"echo": "Bearer in-the-open"}));
}

#[tokio::test]
async fn secrets_that_cannot_be_used_are_named() {
    let server = Server::answering(|_, _| StatusCode::OK.into_response()).await;
    let world = world();
    for (authentication, kind, says) in [
        (json!({"basic": {"use": "lost"}}), fault_type::AUTHORIZATION, "no secret 'lost' in namespace 'default'"),
        (
            json!({"basic": {"use": "half"}}),
            fault_type::CONFIGURATION,
            "the secret 'half', used for the authentication 'basic', has no 'password' that is a text",
        ),
        (
            json!({"basic": {"username": "a:b", "password": "c"}}),
            fault_type::CONFIGURATION,
            "the authentication 'basic' has a user name with ':' in it",
        ),
        (json!({"oauth2": {"use": "half"}}), fault_type::CONFIGURATION, "has no 'authority' that is a text"),
        (json!({"magic": {}}), fault_type::CONFIGURATION, "the authentication 'magic' is not known"),
        (json!("magic"), fault_type::CONFIGURATION, "must be an object with one field"),
    ] {
        let fault = call(&world, server.url("/"), authentication).await.unwrap_err();
        assert!(fault.kind == kind && fault.non_retryable && told(&fault).contains(says), "{fault}");
    }
    assert!(server.seen().is_empty(), "nobody is called without the credentials");
}

fn sha(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

/// The parameters of a digest answer.
fn parameters(header: &str) -> BTreeMap<String, String> {
    let parts = header.strip_prefix("Digest ").unwrap_or_default().split(", ");
    parts
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

#[tokio::test]
async fn digest_answers_the_strongest_challenge() {
    let server = Server::answering(|_, seen| {
        let answer = parameters(seen.header("authorization"));
        let part = |name: &str| answer.get(name).cloned().unwrap_or_default();
        let (ha1, ha2) = (sha("me:zoo:pass word"), sha(&format!("{}:{}", seen.method, seen.uri)));
        let expected = sha(&format!("{ha1}:dcd98b7102dd:{}:{}:auth:{ha2}", part("nc"), part("cnonce")));
        if part("response") == expected {
            return json_of(&json!({"algorithm": part("algorithm"), "body": seen.body.len()}));
        }
        let challenges = [
            (
                "www-authenticate",
                "Basic realm=\"zoo\", Digest realm=\"zoo\", qop=\"auth\", algorithm=MD5, nonce=\"dcd98b7102dd\"",
            ),
            (
                "www-authenticate",
                "Digest realm=\"zoo\", qop=\"auth, auth-int\", algorithm=SHA-256, nonce=\"dcd98b7102dd\", opaque=\"x\"",
            ),
        ];
        (StatusCode::UNAUTHORIZED, axum::response::AppendHeaders(challenges)).into_response()
    })
    .await;
    let world = world();
    let digest = |password: &str| json!({"digest": {"username": "me", "password": password}});
    let input = json!({"method": "PUT", "endpoint": server.url("/a/b?c=d%20e"), "body": {"x": 1}, "authentication": digest("pass word")});
    let output = world.run(task("http", input, 30_000)).await.unwrap();
    assert_eq!(output, json!({"algorithm": "SHA-256", "body": 7}));
    assert_eq!(server.seen().len(), 2);
    // A wrong password is tried once.
    let fault = call(&world, server.url("/"), digest("wrong")).await.unwrap_err();
    assert_eq!((fault.status, server.seen().len()), (401, 4));
}

#[tokio::test]
async fn digest_refuses_what_is_no_digest_challenge_and_other_origins() {
    let server = Server::answering(|_, _| {
        (StatusCode::UNAUTHORIZED, [("www-authenticate", "Digest realm=\"\u{fc}, nonce")]).into_response()
    })
    .await;
    let target = server.url("/");
    let redirecting =
        Server::answering(move |_, _| (StatusCode::TEMPORARY_REDIRECT, [("location", target.clone())]).into_response())
            .await;
    let world = world();
    let digest = json!({"digest": {"username": "me", "password": "hunter2-hunter2"}});
    let fault = call(&world, server.url("/"), digest.clone()).await.unwrap_err();
    assert!(
        fault.kind == fault_type::AUTHENTICATION && told(&fault).contains("not by a digest that is known"),
        "{fault}"
    );
    let input = json!({"method": "GET", "endpoint": redirecting.url("/"), "redirect": true, "authentication": digest});
    let fault = world.run(task("http", input, 30_000)).await.unwrap_err();
    assert_eq!((fault.status, server.seen().len()), (401, 2), "the challenge of another origin is not answered");
}

/// An authority at `/oauth2/token` that numbers its tokens, and a service that takes those which `good` says.
async fn authority(good: fn(&str) -> bool, answer: fn(usize) -> Value) -> Server {
    let issued = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    Server::answering(move |_, seen| {
        if seen.uri.path() == "/oauth2/token" {
            return json_of(&answer(issued.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1));
        }
        if good(seen.header("authorization")) {
            json_of(&json!("in"))
        } else {
            StatusCode::UNAUTHORIZED.into_response()
        }
    })
    .await
}

fn oauth2(server: &Server, more: Value) -> Value {
    let mut policy = json!({"authority": server.url(""), "grant": "client_credentials", "client": {"id": "me", "secret": "client-secret"}});
    for (name, value) in more.as_object().unwrap() {
        policy[name] = value.clone();
    }
    json!({"oauth2": policy})
}

#[tokio::test]
async fn a_token_is_got_once_and_used_until_it_is_refused() {
    let server = authority(
        |header| header == "Bearer token-number-1" || header == "Bearer token-number-3",
        |number| json!({"access_token": format!("token-number-{number}"), "token_type": "bearer", "expires_in": "3600"}),
    )
    .await;
    let world = world();
    let policy = |scope: &str| oauth2(&server, json!({"scopes": [scope, "b"], "audiences": ["x", "y"]}));
    for _ in 0..3 {
        assert_eq!(call(&world, server.url("/in"), policy("a")).await.unwrap(), json!("in"));
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 4, "one token for three calls");
    assert_eq!(
        std::str::from_utf8(&seen[0].body).unwrap(),
        "grant%5Ftype=client%5Fcredentials&scope=a%20b&audience=x&audience=y&client%5Fid=me&client%5Fsecret=client%2Dsecret"
            .replace("%5Ftype", "_type").replace("client%5Fid", "client_id").replace("client%5Fsecret", "client_secret")
    );
    // Another scope is another token; this one is refused although it is fresh, and not asked for again.
    let fault = call(&world, server.url("/in"), policy("c")).await.unwrap_err();
    assert_eq!((fault.status, server.seen().len()), (401, 6));
    // From the cache it is refused, too: once more with a fresh one.
    assert_eq!(call(&world, server.url("/in"), policy("c")).await.unwrap(), json!("in"));
    assert_eq!(server.seen().len(), 9);
}

#[tokio::test]
async fn calls_at_the_same_time_share_one_request_for_a_token() {
    let server = authority(|_| true, |_| json!({"access_token": "shared-token"})).await;
    let world = world();
    let calls = (0..20).map(|_| call(&world, server.url("/in"), oauth2(&server, json!({}))));
    for output in futures::future::join_all(calls).await {
        output.unwrap();
    }
    assert_eq!(server.seen().iter().filter(|seen| seen.uri.path() == "/oauth2/token").count(), 1);
}

#[tokio::test]
async fn grants_and_client_authentication_are_sent_as_they_are_specified() {
    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    for (more, expected, authorization) in [
        (
            json!({"grant": "password", "username": "u", "password": "p&w", "client": {"id": "me", "authentication": "none"}}),
            json!({"grant_type": "password", "username": "u", "password": "p&w", "client_id": "me"}),
            "",
        ),
        (
            json!({"grant": "refresh_token", "subject": {"token": "r", "type": "urn:ietf:params:oauth:token-type:refresh_token"}, "client": {"id": "m:e", "secret": "ü", "authentication": "client_secret_basic"}}),
            json!({"grant_type": "refresh_token", "refresh_token": "r"}),
            "Basic bSUzQWU6JUMzJUJD",
        ),
        (
            json!({"grant": exchange, "subject": {"token": "s", "type": "t"}, "actor": {"token": "a", "type": "u"}, "client": {"id": "me", "assertion": "jwt", "authentication": "private_key_jwt"}}),
            json!({"grant_type": exchange, "subject_token": "s", "subject_token_type": "t", "actor_token": "a", "actor_token_type": "u",
                "client_id": "me", "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion": "jwt"}),
            "",
        ),
    ] {
        let server = authority(|_| true, |_| json!({"access_token": "some-token", "expires_in": 60})).await;
        call(&world(), server.url("/in"), oauth2(&server, more.clone())).await.unwrap();
        let seen = &server.seen()[0];
        assert_eq!(serde_json::to_value(form(seen)).unwrap(), expected, "{more}");
        assert_eq!(
            (seen.header("authorization"), seen.header("content-type")),
            (authorization, "application/x-www-form-urlencoded")
        );

        let mut more = more;
        more["request"] = json!({"encoding": "application/json"});
        call(&world(), server.url("/in"), oauth2(&server, more)).await.unwrap();
        assert_eq!((server.seen()[2].json(), server.seen()[2].header("content-type")), (expected, "application/json"));
    }
}

#[tokio::test]
async fn client_secret_jwt_signs_an_assertion_for_the_endpoint() {
    let server = authority(|_| true, |_| json!({"access_token": "some-token"})).await;
    let client = json!({"client": {"id": "me", "secret": "client-secret", "authentication": "client_secret_jwt"}});
    call(&world(), server.url("/in"), oauth2(&server, client)).await.unwrap();
    let assertion = form(&server.seen()[0])["client_assertion"].clone();
    let parts: Vec<&str> = assertion.split('.').collect();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"client-secret");
    let tag = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    ring::hmac::verify(&key, format!("{}.{}", parts[0], parts[1]).as_bytes(), &tag).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    assert_eq!(
        (&claims["iss"], &claims["sub"], &claims["aud"]),
        (&json!("me"), &json!("me"), &json!(server.url("/oauth2/token")))
    );
    assert!(claims["exp"].as_i64() > claims["iat"].as_i64() && claims["jti"].is_string());
}

#[tokio::test]
async fn oidc_discovers_the_endpoint_and_issuers_are_compared() {
    let jwt = |issuer: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(json!({"iss": issuer}).to_string()));
    let token = jwt("https://issuer.example.com/");
    let server = Server::answering(move |_, seen| match seen.uri.path() {
        "/realm/.well-known/openid-configuration" => {
            json_of(&json!({"token_endpoint": format!("http://{}/realm/token", seen.header("host"))}))
        }
        "/realm/token" => json_of(&json!({"access_token": token, "token_type": "Bearer"})),
        "/empty/.well-known/openid-configuration" => json_of(&json!({})),
        _ => json_of(&json!(seen.header("authorization"))),
    })
    .await;
    let policy = |authority: &str, issuers: Value| json!({"oidc": {"authority": server.url(authority), "grant": "client_credentials", "client": {"id": "a"}, "issuers": issuers}});
    let world = world();
    for authority in ["/realm", "/realm/.well-known/openid-configuration"] {
        let output = call(&world, server.url("/in"), policy(authority, json!(["https://issuer.example.com"]))).await;
        assert_eq!(output.unwrap(), json!("Bearer ***"), "{authority}");
    }
    for (authority, issuers, kind, says) in [
        (
            "/realm",
            json!(["https://other"]),
            fault_type::AUTHENTICATION,
            "issued by 'https://issuer.example.com/', which is none of 'issuers'",
        ),
        ("/empty", json!([]), fault_type::CONFIGURATION, "there is no 'token_endpoint' in it"),
    ] {
        let fault = call(&world, server.url("/in"), policy(authority, issuers)).await.unwrap_err();
        assert!(fault.kind == kind && fault.non_retryable && told(&fault).contains(says), "{fault}");
    }
}

#[tokio::test]
async fn a_refresh_token_is_used_first_and_the_grant_when_it_is_refused() {
    let server = Server::answering(|_, seen| match (seen.uri.path(), form_kind(seen)) {
        ("/oauth2/token", "refresh") => {
            (StatusCode::BAD_REQUEST, json_of(&json!({"error": "invalid_grant"}))).into_response()
        }
        ("/oauth2/token", _) => {
            json_of(&json!({"access_token": "short-lived", "expires_in": 0, "refresh_token": "next-one"}))
        }
        _ => json_of(&json!("in")),
    })
    .await;
    let world = world();
    let policy = oauth2(&server, json!({"grant": "password", "username": "u", "password": "pw"}));
    call(&world, server.url("/in"), policy.clone()).await.unwrap();
    call(&world, server.url("/in"), policy).await.unwrap();
    let kinds: Vec<String> = server
        .seen()
        .iter()
        .filter(|seen| seen.uri.path() != "/in")
        .map(|seen| form(seen)["grant_type"].clone())
        .collect();
    assert_eq!(kinds, ["password", "refresh_token", "password"]);
    assert_eq!(form(&server.seen()[2])["refresh_token"], "next-one");
}

fn form_kind(seen: &Seen) -> &'static str {
    if std::str::from_utf8(&seen.body).unwrap().contains("grant_type=refresh") { "refresh" } else { "other" }
}

#[tokio::test]
async fn an_authority_that_refuses_is_a_fault_without_credentials() {
    for (status, body, kind, non_retryable) in [
        (
            401,
            json!({"error": "invalid_client", "error_description": "no client-secret"}),
            fault_type::AUTHENTICATION,
            true,
        ),
        (400, json!("client-secret"), fault_type::AUTHENTICATION, true),
        (503, json!({}), fault_type::COMMUNICATION, false),
        (302, json!({}), fault_type::AUTHENTICATION, true),
        (200, json!({"token": "client-secret"}), fault_type::AUTHENTICATION, true),
        (200, json!({"access_token": "t-t-t", "token_type": "mac"}), fault_type::AUTHENTICATION, true),
        (200, json!({"access_token": "bad\u{7f}token"}), fault_type::CONFIGURATION, true),
    ] {
        let text = body.to_string();
        let server =
            Server::answering(move |_, _| (StatusCode::from_u16(status).unwrap(), text.clone()).into_response()).await;
        let fault = call(&world(), server.url("/in"), oauth2(&server, json!({}))).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.non_retryable), (kind, non_retryable), "{body}: {fault}");
        assert!(!told(&fault).contains("client-secret"), "{fault}");
    }
}
