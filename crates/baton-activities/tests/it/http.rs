//! The activity `http`.

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use baton_activities::{ActivitiesOptions, EgressPolicy};
use baton_execution::{Activities as _, Fault, fault_type};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::support::{Server, raw_server, run, stream_endlessly, task, told, world};

async fn http(input: Value) -> Result<Value, Fault> {
    run(ActivitiesOptions::default(), "http", input).await
}

async fn refusal(input: Value) -> Fault {
    http(input).await.expect_err("the call fails")
}

fn typed(content_type: &'static str, body: &'static str) -> Response {
    ([("content-type", content_type)], body).into_response()
}

#[tokio::test]
async fn sends_what_it_is_told_and_an_idempotency_key() {
    let server = Server::answering(|_, _| typed("application/json", r#"{"big": 9007199254740993, "ok": true}"#)).await;
    let output = http(json!({
        "method": "post", "endpoint": server.url("/a?x=1"), "headers": {"X-A": "b", "X-N": 5}, "query": {"q": "a b", "n": 2, "l": [1, "z"], "none": null},
        "body": {"a": 1}, "output": "content", "redirect": false, "authentication": null
    }));
    assert_eq!(output.await.unwrap(), json!({"big": 9_007_199_254_740_993_i64, "ok": true}));
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.uri.to_string().as_str()), ("POST", "/a?x=1&q=a+b&n=2&l=1&l=z"));
    assert_eq!((seen.header("x-a"), seen.header("x-n"), seen.header("content-type")), ("b", "5", "application/json"));
    assert_eq!((seen.header("idempotency-key"), seen.json()), ("uid/do/0/pr%C3%BCfen/1", json!({"a": 1})));
}

#[tokio::test]
async fn authenticates_and_a_text_body_keeps_its_type() {
    let server = Server::answering(|_, _| typed("text/plain", "ok")).await;
    let call = |authentication: Value| json!({"method": "PUT", "endpoint": server.url("/"), "headers": {"content-type": "text/csv"}, "body": "a,b", "authentication": authentication});
    http(call(json!({"basic": {"username": "u", "password": "p:w"}}))).await.unwrap();
    http(call(json!({"bearer": {"token": "abc"}}))).await.unwrap();
    let seen = server.seen();
    assert_eq!(
        (seen[0].header("authorization"), seen[0].header("content-type"), seen[0].body.as_ref()),
        ("Basic dTpwOnc=", "text/csv", b"a,b".as_slice())
    );
    assert_eq!(seen[1].header("authorization"), "Bearer abc");
    let fault = refusal(call(json!({"basic": "hunter2hunter2"}))).await;
    assert!(fault.kind == fault_type::CONFIGURATION && !told(&fault).contains("hunter2"), "{fault}");
}

#[tokio::test]
async fn content_is_json_where_it_is_json() {
    for (content_type, body, expected) in [
        ("application/json", "5", json!(5)),
        ("application/problem+json; charset=utf-8", "{\"a\":1}", json!({"a": 1})),
        ("text/plain; charset=utf-8", "{\"a\":1}", json!({"a": 1})),
        ("text/plain", "5", json!("5")),
        ("text/html", "<p>", json!("<p>")),
        ("application/json", "{broken", json!("{broken")),
        ("application/json", " \n", Value::Null),
    ] {
        let server = Server::answering(move |_, _| typed(content_type, body)).await;
        assert_eq!(
            http(json!({"method": "GET", "endpoint": server.url("/")})).await.unwrap(),
            expected,
            "{content_type}: {body}"
        );
    }
}

#[tokio::test]
async fn raw_is_base64_and_response_has_all_but_what_may_be_secret() {
    let server = Server::answering(|_, _| (StatusCode::CREATED, [("x-b", "c")], [0xff_u8, 0]).into_response()).await;
    assert_eq!(
        http(json!({"method": "GET", "endpoint": server.url("/"), "output": "raw"})).await.unwrap(),
        json!("/wA=")
    );
    let input = json!({"method": "GET", "endpoint": server.url("/p?token=secret-secret-secret"), "headers": {"X-Token": "secret-in-header"}, "output": "response"});
    let output = http(input).await.unwrap();
    assert_eq!(
        (&output["statusCode"], &output["headers"]["x-b"], &output["request"]["method"]),
        (&json!(201), &json!("c"), &json!("GET"))
    );
    assert_eq!(output["request"]["uri"], server.url("/p"));
    assert!(!output.to_string().contains("secret"), "{output}");
}

#[tokio::test]
async fn error_statuses_are_faults_of_that_status() {
    for (status, non_retryable) in
        [(400, true), (401, true), (404, true), (408, false), (425, false), (429, false), (500, false), (503, false)]
    {
        let server = Server::answering(move |_, _| {
            (StatusCode::from_u16(status).unwrap(), [("content-type", "application/json")], r#"{"why":"because"}"#)
                .into_response()
        })
        .await;
        let fault = refusal(json!({"method": "GET", "endpoint": server.url("/x?y=z")})).await;
        assert_eq!(
            (fault.kind.as_str(), fault.status, fault.non_retryable),
            (fault_type::COMMUNICATION, status, non_retryable)
        );
        assert_eq!(fault.data, Some(json!({"statusCode": status, "content": {"why": "because"}})));
        let detail = fault.detail.unwrap();
        assert!(
            detail.contains(&format!("GET {} answered {status}", server.url("/x")))
                && detail.ends_with(r#"{"why":"because"}"#),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn errors_do_not_echo_credentials_or_tokens() {
    let echo = |_: usize, seen: &crate::support::Seen| {
        (StatusCode::BAD_REQUEST, format!("{} {} {}", seen.uri, seen.header("authorization"), seen.header("x")))
            .into_response()
    };
    let server = Server::answering(echo).await;
    for authentication in
        [json!({"basic": {"username": "user", "password": "hunter2"}}), json!({"bearer": {"token": "tok-hunter2"}})]
    {
        let fault = refusal(
            json!({"method": "GET", "endpoint": server.url("/"), "query": {"token": "hunter2-and-much-longer"}, "authentication": authentication}),
        )
        .await;
        assert!(
            !told(&fault).contains("hunter2")
                && !told(&fault).contains("dXNlcjpodW50ZXIy")
                && told(&fault).contains("***"),
            "{}",
            told(&fault)
        );
    }
    let fault =
        refusal(json!({"method": "GET", "endpoint": server.url("/"), "headers": {"Authorization": "Bearer hunter2"}}))
            .await;
    assert!(!told(&fault).contains("hunter2"), "{}", told(&fault));
}

#[tokio::test]
async fn redirects_are_errors_unless_they_are_asked_for() {
    let server = Server::answering(|number, _| {
        if number % 2 == 0 {
            (StatusCode::FOUND, [("location", "/next")]).into_response()
        } else {
            typed("text/plain", "there")
        }
    })
    .await;
    let call =
        |redirect: bool| json!({"method": "POST", "endpoint": server.url("/"), "body": {"a": 1}, "redirect": redirect});
    assert_eq!(http(call(true)).await.unwrap(), json!("there"));
    let seen = server.seen();
    assert_eq!((seen[1].method.as_str(), seen[1].uri.path(), seen[1].body.len()), ("GET", "/next", 0));
    let fault = refusal(call(false)).await;
    assert_eq!((fault.status, fault.non_retryable), (302, true));

    let unchanged = Server::answering(|_, _| StatusCode::NOT_MODIFIED.into_response()).await;
    assert_eq!(
        http(json!({"method": "GET", "endpoint": unchanged.url("/"), "redirect": true})).await.unwrap(),
        Value::Null
    );
}

#[tokio::test]
async fn a_redirect_to_another_origin_loses_credentials_and_forbidden_ones_are_refused() {
    let other = Server::answering(|_, _| typed("text/plain", "other")).await;
    let target = other.url("/");
    let server = Server::answering(move |_, seen| {
        let location = match seen.uri.path() {
            "/file" => "file:///etc/passwd",
            "/metadata" => "http://169.254.169.254/latest",
            "/loop" => "/loop",
            _ => target.as_str(),
        };
        (StatusCode::TEMPORARY_REDIRECT, [("location", location.to_owned())]).into_response()
    })
    .await;
    let call = |path: &str| json!({"method": "POST", "endpoint": server.url(path), "headers": {"X-Token": "t"}, "body": {"a": 1}, "redirect": true, "authentication": {"bearer": {"token": "tok"}}});
    assert_eq!(http(call("/")).await.unwrap(), json!("other"));
    let seen = &other.seen()[0];
    assert_eq!(
        (seen.header("authorization"), seen.header("x-token"), seen.method.as_str(), seen.json()),
        ("", "", "POST", json!({"a": 1}))
    );
    for (path, says) in [
        ("/file", "only 'http' and 'https' are allowed"),
        ("/metadata", "'169.254.169.254' must not be called"),
        ("/loop", "redirects more than 10 times"),
    ] {
        let fault = refusal(call(path)).await;
        assert!(fault.non_retryable && fault.detail.as_deref().unwrap().contains(says), "{fault}");
    }
}

#[tokio::test]
async fn the_egress_policy_judges_names_and_addresses() {
    let server = Server::answering(|_, _| typed("text/plain", "inside")).await;
    let closed = || ActivitiesOptions {
        egress: EgressPolicy { allow_private: false, ..EgressPolicy::default() },
        ..ActivitiesOptions::default()
    };
    for host in ["127.0.0.1", "localhost"] {
        let endpoint = format!("http://{host}:{}/", server.address.port());
        assert_eq!(http(json!({"method": "GET", "endpoint": endpoint})).await.unwrap(), json!("inside"));
        let fault = run(closed(), "http", json!({"method": "GET", "endpoint": endpoint})).await.unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::AUTHORIZATION, true), "{fault}");
        assert!(fault.detail.unwrap().contains("private and loopback addresses are not allowed"));
    }
    let fault = refusal(json!({"method": "GET", "endpoint": "http://169.254.169.254/latest/meta-data"})).await;
    assert_eq!(fault.kind, fault_type::AUTHORIZATION);
    assert_eq!(server.seen().len(), 2, "a refused call never arrives");
}

#[tokio::test]
async fn the_api_of_the_installation_is_not_called_by_any_name() {
    let api = Server::answering(|_, _| typed("text/plain", "inside")).await;
    let other = Server::answering(move |_, _| {
        (StatusCode::FOUND, [("location", format!("http://localhost:{}/", api.address.port()))]).into_response()
    })
    .await;
    let egress = EgressPolicy { own: vec![api.address], ..EgressPolicy::default() };
    let options = || ActivitiesOptions { egress: egress.clone(), ..ActivitiesOptions::default() };
    for endpoint in [
        format!("http://127.0.0.1:{}/", api.address.port()),
        format!("http://localhost:{}/", api.address.port()),
        other.url("/"),
    ] {
        let input = json!({"method": "GET", "endpoint": endpoint, "redirect": true});
        let fault = run(options(), "http", input).await.unwrap_err();
        // Of `localhost` another address may be left, where nobody listens.
        assert!(fault.kind == fault_type::AUTHORIZATION || endpoint.contains("localhost"), "{endpoint}: {fault}");
    }
    assert_eq!((api.seen().len(), other.seen().len()), (0, 1));
}

#[tokio::test]
async fn a_hang_ends_with_the_time_of_the_task() {
    let address = raw_server(|stream| async move {
        // Keeps the connection open and says nothing.
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let input = json!({"method": "GET", "endpoint": format!("http://{address}/slow?token=abc")});
    let fault = world(ActivitiesOptions::default()).run(task("http", input, 50)).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status, fault.non_retryable), (fault_type::TIMEOUT, 408, false));
    assert_eq!(fault.detail.unwrap(), format!("http://{address}/slow did not answer within 50 ms"));
}

#[tokio::test]
async fn refused_reset_and_broken_connections_are_faults_that_name_the_url() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let closing = raw_server(|stream| async move { drop(stream) }).await;
    let cutting = raw_server(|mut stream| async move {
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    })
    .await;
    let babbling =
        raw_server(|mut stream| async move { _ = stream.write_all(b"this is not HTTP\r\n\r\n").await }).await;
    for (endpoint, says) in [
        (format!("http://{nobody}/?t=hunter2"), "connect to"),
        (format!("http://{closing}/?t=hunter2"), "broke off"),
        (format!("http://{cutting}/?t=hunter2"), "broke off"),
        (format!("http://{babbling}/?t=hunter2"), "broke off"),
        (format!("https://{babbling}/?t=hunter2"), "connect to"),
        // A label of 64 characters is refused by the resolver itself: nobody is asked.
        (format!("http://{}.test/?t=hunter2", "a".repeat(64)), "resolve the host of"),
    ] {
        let fault = refusal(json!({"method": "GET", "endpoint": endpoint})).await;
        let shown = endpoint.split('?').next().unwrap();
        assert_eq!(
            (fault.kind.as_str(), fault.non_retryable),
            (fault_type::COMMUNICATION, false),
            "{endpoint}: {fault}"
        );
        let detail = fault.detail.as_deref().unwrap();
        assert!(detail.contains(says) && detail.contains(shown) && !detail.contains("hunter2"), "{endpoint}: {detail}");
    }
}

#[tokio::test]
async fn a_body_is_never_read_beyond_the_limit() {
    let small = || ActivitiesOptions { response_bytes_max: 100_000, ..ActivitiesOptions::default() };
    let endless = raw_server(|stream| stream_endlessly(stream, "200 OK")).await;
    let fault =
        run(small(), "http", json!({"method": "GET", "endpoint": format!("http://{endless}/")})).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status, fault.non_retryable), (fault_type::TOO_LARGE, 413, true));

    let announced = raw_server(|mut stream| async move {
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n").await;
    })
    .await;
    let fault =
        run(small(), "http", json!({"method": "GET", "endpoint": format!("http://{announced}/")})).await.unwrap_err();
    assert!(fault.detail.unwrap().contains("10000000000 bytes; allowed are 0 to 100000"));

    let failing = raw_server(|stream| stream_endlessly(stream, "500 Oh")).await;
    let fault =
        run(small(), "http", json!({"method": "GET", "endpoint": format!("http://{failing}/")})).await.unwrap_err();
    assert_eq!(
        (fault.status, fault.data.unwrap()["content"].as_str().unwrap().len()),
        (500, 64 * 1024),
        "the beginning of an error is kept"
    );
    assert!(fault.detail.unwrap().len() < 1000);

    let headers = raw_server(|mut stream| async move {
        let header = format!("X-A: {}\r\n", "x".repeat(8000));
        if stream.write_all(b"HTTP/1.1 200 OK\r\n").await.is_ok() {
            while stream.write_all(header.as_bytes()).await.is_ok() {}
        }
    })
    .await;
    let fault =
        run(small(), "http", json!({"method": "GET", "endpoint": format!("http://{headers}/")})).await.unwrap_err();
    assert_eq!(fault.kind, fault_type::COMMUNICATION, "{fault}");
}

#[tokio::test]
async fn input_that_cannot_be_used_is_named() {
    for (input, says) in [
        (json!({}), "missing field `method`"),
        (json!({"method": "GET", "endpoint": "/relative"}), "not an absolute URL"),
        (json!({"method": "G T", "endpoint": "http://a/"}), "'G T' is not an HTTP method"),
        (json!({"method": "GET", "endpoint": "http://a/", "output": "all"}), "unknown variant `all`"),
        (json!({"method": "GET", "endpoint": "ftp://a/"}), "only 'http' and 'https'"),
        (json!({"method": "GET", "endpoint": "http://u:p@a/"}), "must not hold a user name or password"),
        (json!({"method": "GET", "endpoint": "http://a/", "headers": {"a b": "c"}}), "'a b' is not a header name"),
        (json!({"method": "GET", "endpoint": "http://a/", "headers": {"a": "c\nd"}}), "the value of the header 'a'"),
    ] {
        let fault = refusal(input).await;
        assert!(fault.non_retryable && fault.detail.as_deref().unwrap().contains(says), "{fault}");
    }
}

#[tokio::test]
async fn activities_are_found_by_name() {
    assert_eq!(run(ActivitiesOptions::default(), "echo", json!({"a": 1})).await.unwrap(), json!({"a": 1}));
    let fault = run(ActivitiesOptions::default(), "fax", Value::Null).await.unwrap_err();
    let detail = fault.detail.unwrap();
    assert!(detail.starts_with("no activity named 'fax'; activities are ") && detail.contains("'http'"), "{detail}");
}

#[tokio::test]
async fn json_is_taken_as_deep_as_it_can_be_read_again() {
    fn deep(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }
    for (levels, taken) in [(100, true), (101, false), (127, false), (10_000, false)] {
        for output in ["content", "response"] {
            let server = Server::answering(move |_, _| deep(levels).into_response()).await;
            let result = http(json!({"method": "GET", "endpoint": server.url("/x?y=z"), "output": output})).await;
            if taken {
                let written = result.unwrap().to_string();
                serde_json::from_str::<Value>(&written).expect("it can be read again");
                continue;
            }
            let fault = result.unwrap_err();
            assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::LIMIT, true));
            let detail = fault.detail.unwrap();
            let says = format!("the JSON in the response of {} is nested deeper than 100 levels", server.url("/x"));
            assert!(detail.starts_with(&says), "{detail}");
        }
        let server = Server::answering(move |_, _| (StatusCode::BAD_GATEWAY, deep(levels)).into_response()).await;
        let fault = refusal(json!({"method": "GET", "endpoint": server.url("/")})).await;
        assert_eq!((fault.kind.as_str(), fault.status), (fault_type::COMMUNICATION, 502));
        assert_eq!(fault.data.unwrap()["content"].is_string(), !taken, "the body of an error stays a text");
        let server = Server::answering(move |_, _| deep(levels).into_response()).await;
        assert!(
            http(json!({"method": "GET", "endpoint": server.url("/"), "output": "raw"})).await.unwrap().is_string()
        );
    }
}

#[tokio::test]
async fn objects_are_forms_where_the_type_is_that_of_a_form() {
    let server = Server::answering(|_, _| StatusCode::OK.into_response()).await;
    let call = |kind: &str| json!({"method": "POST", "endpoint": server.url("/"), "headers": {"Content-Type": kind}, "body": {"a": "x&y", "b": [1, null, true], "c": {"d": 2}}});
    http(call("application/x-www-form-urlencoded; charset=utf-8")).await.unwrap();
    http(call("multipart/form-data")).await.unwrap();
    http(call("multipart/form-data")).await.unwrap();
    http(call("application/vnd.a+json")).await.unwrap();
    let seen = server.seen();
    let body = |number: usize| std::str::from_utf8(&seen[number].body).unwrap();
    assert_eq!(body(0), "a=x%26y&b=1&b=true&c=%7B%22d%22%3A2%7D");
    assert_eq!(seen[0].header("content-type"), "application/x-www-form-urlencoded; charset=utf-8");
    let boundary = seen[1].header("content-type").strip_prefix("multipart/form-data; boundary=").unwrap();
    let parts: Vec<&str> = body(1).split(&format!("--{boundary}")).collect();
    assert_eq!(parts[1], "\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx&y\r\n");
    assert_eq!(
        parts[4],
        "\r\nContent-Disposition: form-data; name=\"c\"\r\nContent-Type: application/json\r\n\r\n{\"d\":2}\r\n"
    );
    assert_eq!((parts[5], parts.len()), ("--\r\n", 6));
    assert_eq!(
        (body(1), seen[1].header("content-type")),
        (body(2), seen[2].header("content-type")),
        "a repeat is the same"
    );
    assert_eq!(body(3), r#"{"a":"x&y","b":[1,null,true],"c":{"d":2}}"#);
}

#[tokio::test]
async fn what_stands_for_the_credentials_is_replaced_when_the_request_is_made() {
    let server = Server::answering(|_, _| StatusCode::OK.into_response()).await;
    let stands = baton_execution::AUTHORIZATION_PLACEHOLDER;
    let input = json!({"method": "POST", "endpoint": server.url("/"), "headers": {"X-Copy": format!("Token {stands}")}, "query": {"t": stands}, "body": {"t": [stands]}, "authentication": {"bearer": {"token": "abc"}}});
    http(input).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(
        (seen.header("x-copy"), seen.uri.query(), seen.json()),
        ("Token abc", Some("t=abc"), json!({"t": ["abc"]}))
    );
}
